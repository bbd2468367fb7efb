/**
 * A way to xenstored that outlives a connection, when told to: after the daemon was restarted it connects anew and
 * registers all watches again, each of which gets its first event anew. Requests that were under way reject with ECONNRESET (the
 * daemon may have done them); later ones wait for the new connection.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { XsOp, joinStrings } from '@xenhost/xs-wire';
import { XenstoreConnection, canceled } from './connection.ts';
import type { Requester } from './connection.ts';
import { XenstoreError } from './errors.ts';

export interface ReconnectPolicy {
  /** Wait before the second attempt; doubled each time up to `maxDelayMs`. The first is made at once. */
  readonly delayMs?: number;
  readonly maxDelayMs?: number;
  /** After this long without a connection the client is closed for good, with the last error. */
  readonly giveUpMs?: number;
}

const DEFAULT_POLICY: Required<ReconnectPolicy> = { delayMs: 50, maxDelayMs: 1000, giveUpMs: 60_000 };

export interface LinkOptions {
  readonly path: string;
  readonly signal?: AbortSignal | undefined;
  /** Absent: the first lost connection ends the link. */
  readonly reconnect?: ReconnectPolicy | undefined;
}

/** The receiving end of a watch. */
export interface WatchSink {
  readonly path: string;
  readonly token: string;
  event(path: string): void;
  /** The watch is over; `error` is undefined after `close()`. */
  ended(error?: XenstoreError): void;
}

type State =
  | { readonly kind: 'open'; readonly connection: XenstoreConnection }
  /** `connected` resolves with a connection or rejects when none was to be had. */
  | { readonly kind: 'lost'; readonly connected: Promise<XenstoreConnection> }
  | { readonly kind: 'closed'; readonly error: XenstoreError | undefined };

export class XenstoreLink implements Requester {
  readonly #options: LinkOptions;
  readonly #sinks = new Map<string, WatchSink>();
  /** What became of each watch at the last reconnection. */
  readonly #registrations = new WeakMap<WatchSink, Promise<void>>();
  readonly #closeListeners = new Set<(error?: XenstoreError) => void>();
  readonly #reconnectListeners = new Set<() => void>();
  readonly #ending = new AbortController();
  #state: State;

  private constructor(options: LinkOptions, connection: XenstoreConnection) {
    this.#options = options;
    this.#state = { kind: 'open', connection };
    this.#adopt(connection);
  }

  /** Rejects with XenstoreError (ENOENT, ECONNREFUSED, ECANCELED when the signal aborts first). */
  static async open(options: LinkOptions): Promise<XenstoreLink> {
    return new XenstoreLink(options, await XenstoreConnection.open(options.path, options.signal));
  }

  get closed(): boolean {
    return this.#state.kind === 'closed';
  }

  request(
    op: number,
    txId: number,
    payload: Uint8Array | string,
    subject: string,
    signal?: AbortSignal,
  ): Promise<Buffer> {
    // Without a turn of the event loop while connected: requests leave in the order of the calls.
    if (this.#state.kind === 'open') return this.#state.connection.request(op, txId, payload, subject, signal);
    return this.connection(op, subject, signal).then((connection) =>
      connection.request(op, txId, payload, subject, signal),
    );
  }

  /** The connection of now, for what must stay on one (a transaction); waits for the next while there is none. */
  async connection(op: number, subject: string, signal?: AbortSignal): Promise<XenstoreConnection> {
    const state = this.#state;
    if (state.kind === 'open') return state.connection;
    if (state.kind === 'closed') throw new XenstoreError('ECONNRESET', 'connection', subject, { cause: state.error });
    if (!signal) return state.connected;
    if (signal.aborted) throw canceled(op, subject, signal);
    let onAbort: (() => void) | undefined;
    const aborted = new Promise<never>((_resolve, reject) => {
      onAbort = () => {
        reject(canceled(op, subject, signal));
      };
      signal.addEventListener('abort', onAbort, { once: true });
    });
    try {
      return await Promise.race([state.connected, aborted]);
    } finally {
      if (onAbort) signal.removeEventListener('abort', onAbort);
    }
  }

  /** Registers a watch here and with the server; resolves once the server has it, rejects when it refuses. */
  async addWatch(sink: WatchSink): Promise<void> {
    this.#sinks.set(sink.token, sink);
    const state = this.#state;
    // While there is no connection, the next one registers it with the others.
    if (state.kind === 'open') await this.#register(state.connection, sink);
    else {
      await this.connection(XsOp.WATCH, sink.path);
      await this.#registrations.get(sink);
    }
  }

  /** Forgets a watch here, and tells the server when it is there. */
  async removeWatch(sink: WatchSink): Promise<void> {
    if (this.#sinks.get(sink.token) !== sink) return;
    this.#sinks.delete(sink.token);
    if (this.#state.kind !== 'open') return;
    const { connection } = this.#state;
    connection.offWatchEvent(sink.token);
    // Whatever it answers, the watch is gone.
    await connection.request(XsOp.UNWATCH, 0, joinStrings([sink.path, sink.token]), sink.path).catch(() => undefined);
  }

  /** Called once, when there will be no further connection; at once when that is so already. */
  onClose(listener: (error?: XenstoreError) => void): () => void {
    if (this.#state.kind === 'closed') listener(this.#state.error);
    else this.#closeListeners.add(listener);
    return () => this.#closeListeners.delete(listener);
  }

  /** Called after each new connection, its watches sent. */
  onReconnect(listener: () => void): () => void {
    this.#reconnectListeners.add(listener);
    return () => this.#reconnectListeners.delete(listener);
  }

  async close(): Promise<void> {
    const state = this.#state;
    this.#close(undefined);
    if (state.kind === 'open') await state.connection.close();
  }

  #adopt(connection: XenstoreConnection): void {
    connection.onClose((error) => {
      if (this.#state.kind !== 'open' || this.#state.connection !== connection) return;
      const { reconnect } = this.#options;
      if (!error || !reconnect) {
        this.#close(error);
        return;
      }
      const connected = this.#connectAgain({ ...DEFAULT_POLICY, ...reconnect });
      this.#state = { kind: 'lost', connected };
      // Whoever waits for it hears of it; so does onClose.
      connected.catch((failure: unknown) => {
        this.#close(failure as XenstoreError);
      });
    });
  }

  async #connectAgain(policy: Required<ReconnectPolicy>): Promise<XenstoreConnection> {
    const { signal } = this.#ending;
    const end = performance.now() + policy.giveUpMs;
    let last: XenstoreError;
    for (let delayMs = policy.delayMs; ; delayMs = Math.min(2 * delayMs, policy.maxDelayMs)) {
      try {
        return this.#resume(await XenstoreConnection.open(this.#options.path, signal));
      } catch (error) {
        last = error as XenstoreError;
      }
      if (signal.aborted || performance.now() >= end) throw last;
      await delay(delayMs, undefined, { signal }).catch(() => undefined);
    }
  }

  #resume(connection: XenstoreConnection): XenstoreConnection {
    if (this.#state.kind === 'closed') {
      void connection.close();
      throw new XenstoreError('ECANCELED', 'connect', this.#options.path);
    }
    this.#state = { kind: 'open', connection };
    for (const sink of this.#sinks.values()) {
      const registered = this.#register(connection, sink);
      this.#registrations.set(sink, registered);
      registered.catch((error: unknown) => {
        // A connection that is lost again is no refusal: the next one tries.
        if (!connection.closed) this.#endWatch(sink, error as XenstoreError);
      });
    }
    this.#adopt(connection);
    for (const listener of this.#reconnectListeners) listener();
    return connection;
  }

  async #register(connection: XenstoreConnection, sink: WatchSink): Promise<void> {
    connection.onWatchEvent(sink.token, (path) => {
      sink.event(path);
    });
    await connection.request(XsOp.WATCH, 0, joinStrings([sink.path, sink.token]), sink.path);
  }

  #endWatch(sink: WatchSink, error: XenstoreError): void {
    this.#sinks.delete(sink.token);
    sink.ended(error);
  }

  #close(error: XenstoreError | undefined): void {
    if (this.#state.kind === 'closed') return;
    this.#state = { kind: 'closed', error };
    this.#ending.abort();
    for (const sink of this.#sinks.values()) sink.ended(error);
    this.#sinks.clear();
    for (const listener of this.#closeListeners) listener(error);
    this.#closeListeners.clear();
  }
}
