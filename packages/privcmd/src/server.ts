/**
 * What the server half of privcmd asks of a hypervisor. The hypervisor's control plane implements `PrivcmdBackend`
 * synchronously; framing, connections, capabilities, limits and the ownership of event channel ports are the server's
 * (`serve.ts`). The fake hypervisor of the tests implements the same interface.
 */
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { MemoryOp, MemoryResult } from './port.ts';

/** Names one connection for the backend's own bookkeeping; never used again after `connectionClosed`. */
export type ConnectionId = number;

/**
 * The caller's memory during one hypercall: the arena of the request. Reads and writes outside of its segments fail as
 * a bad pointer of a C caller would. Assignable to the hypervisor's `CallerMemory`.
 */
export interface Arena {
  /** A copy of the bytes, or undefined when any of them lies outside (-EFAULT). May span adjoining segments. */
  read(address: bigint, length: number): Uint8Array | undefined;
  /** False when any byte lies outside (-EFAULT); nothing is written then. */
  write(address: bigint, bytes: Uint8Array): boolean;
}

/** Called by the backend when a port of Domain-0 was raised. Cheap, never throws; may be called inside of a backend method. */
export type EventSink = (port: EvtchnPort) => void;

/**
 * Methods are called on one thread, never nested, and do not block. Each answers a value: 0 or positive, or -errno. What
 * a method throws is taken for a bug: the caller gets -EIO, the error is logged and the connection goes on.
 */
export interface PrivcmdBackend {
  /**
   * Runs a hypercall as Domain-0, or a part of it. `continue`: to be run again with `args` as the backend left them,
   * over the same arena, after others had their turn. The result is what RAX would hold.
   */
  hypercall(connection: ConnectionId, op: number, args: bigint[], memory: Arena): bigint | number | 'continue';
  /**
   * Runs steps in order; answers one result for each. Offsets and lengths have been checked to lie within a page;
   * whether domain, frame or grant exist has not. `notify` steps name ports that this connection bound.
   */
  memory(connection: ConnectionId, ops: readonly MemoryOp[]): readonly MemoryResult[];
  /** A new port of Domain-0 that `remote` may bind (EVTCHNOP_alloc_unbound); the port or -errno. */
  bindUnbound(connection: ConnectionId, remote: Domid): number;
  bindInterdomain(connection: ConnectionId, remote: Domid, remotePort: EvtchnPort): number;
  bindVirq(connection: ConnectionId, virq: number): number;
  /** EVTCHNOP_send. */
  notify(connection: ConnectionId, port: EvtchnPort): number;
  /** EVTCHNOP_close. */
  unbind(connection: ConnectionId, port: EvtchnPort): number;
  /** The connection has ended; the server has unbound its ports before. */
  connectionClosed(connection: ConnectionId): void;
  /**
   * Where events of Domain-0's ports go; called once, before any other method. The backend clears and unmasks a port
   * before it tells the sink, so that no later send is lost.
   */
  setEventSink(sink: EventSink): void;
}

/** Limits of a server; every one is per connection but the first. See `DEFAULT_LIMITS` in limits.ts. */
export interface PrivcmdLimits {
  readonly maxConnections: number;
  /** Bytes of the protobuf header of a frame. */
  readonly maxHeaderBytes: number;
  /** Bytes of the payload of a frame. */
  readonly maxPayloadBytes: number;
  /** Requests that were read but not answered; no more are read then. */
  readonly maxRequestsInFlight: number;
  /** Bytes that wait to be sent; no further request is run then. */
  readonly maxSendBacklogBytes: number;
  readonly maxBoundPorts: number;
  /** Steps in one memory batch. */
  readonly maxMemoryOps: number;
  /** Segments in the arena of one hypercall. */
  readonly maxArenaSegments: number;
}

export interface ServePrivcmdOptions {
  /** Unix socket to listen on; a stale file is replaced. */
  readonly path: string;
  readonly limits?: Partial<PrivcmdLimits>;
  /** Told of bugs (backend exceptions) and of connections that were dropped; default: nobody. */
  readonly log?: (event: PrivcmdServerEvent) => void;
}

export type PrivcmdServerEvent =
  | {
      readonly kind: 'backendError';
      readonly connection: ConnectionId;
      readonly request: string;
      readonly error: unknown;
    }
  | { readonly kind: 'protocolError'; readonly connection: ConnectionId; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string };

export interface PrivcmdServer {
  readonly path: string;
  readonly connections: number;
  /** Stops listening and ends all connections (their ports are unbound). */
  close(): Promise<void>;
}
