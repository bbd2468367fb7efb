/** What the core asks of the world outside: interfaces that the server implements. */
import type { XsErrorName, XsPacket } from '@xenhost/xs-wire';
import type { StoreConnection } from './connection.ts';

/** The rings of domains. */
export interface DomainGate {
  /**
   * Connects a domain's ring, empty; for a domain already connected, with a new event channel. Rejects with an error that carries
   * an errno name as `code`.
   */
  introduce(connection: StoreConnection, mfn: bigint, port: number): Promise<void>;
  /** The domain is gone: gives its ring up. */
  release(domid: number): void;
}

/** Hears all that is asked and answered while the access log is on (`control log on`). In the middle of a request: must not call back. */
export interface TracePort {
  request(connection: StoreConnection, packet: XsPacket): void;
  /** `payload` (latin1) is empty with an error. */
  reply(connection: StoreConnection, packet: XsPacket, error: XsErrorName | undefined, payload: string): void;
  event(connection: StoreConnection, payload: string): void;
}

/** A live update that `xenstore-control live-update` has started. */
export interface LiveUpdateRequest {
  /** The new program, as named by the tool. */
  readonly file: string;
  /** Its command line; undefined: that of the running daemon. */
  readonly commandLine: string | undefined;
  /** How long to wait for a good moment. */
  readonly timeoutSec: number;
  /** Whether to go on without one. */
  readonly force: boolean;
  /** True once `live-update -a` has been asked. */
  readonly cancelled: () => boolean;
  /** Queues the answer OK, so that it is part of the state handed over. Call once, right before captureState(). */
  readonly accept: () => void;
}

/** What CONTROL asks of the daemon around the core. Without it such requests answer EINVAL, and `log` only switches the access log. */
export interface ControlPort {
  /** `log on|off`: whether each request and reply is written to the trace file. */
  setTrace?(on: boolean): void;
  /** `logfile FILE`: where the trace goes from now on. */
  setTraceFile?(path: string): void;
  /** `memreport [FILE]`: appends to the file, or to the trace file. False when it cannot be written or there is none. */
  appendReport?(path: string | undefined, text: string): boolean;
  /** Why a live update to this program cannot be; undefined when it can ("File not accessible.", "File not executable."). */
  checkProgram?(file: string): string | undefined;
  /** Resolves with the reason when it could not be done; else this process has ended. */
  liveUpdate?(request: LiveUpdateRequest): Promise<string>;
}
