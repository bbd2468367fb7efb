/**
 * The only door to the hypervisor: what /dev/xen/privcmd, /dev/xen/evtchn and /dev/xen/gntdev are on a real Domain-0,
 * as one interface. Implementations: `remote` (protobuf over a Unix socket), `local` (in process, for tests) and the
 * fake of testkit; one compliance suite runs on all.
 */
import type { Domid, EvtchnPort, GrantRef } from '@xenhost/base';

/**
 * A piece of the caller's "address space": hypercall structures point at each other by address, exactly as C ones do.
 * Addresses are chosen by the caller, never 0; segments do not overlap. The hypervisor reads and writes only in them.
 */
export interface ArenaSegment {
  readonly address: bigint;
  /** Contents before the call; for pure output, zeros of the size wanted. Overwritten with the contents after it. */
  readonly bytes: Uint8Array;
  /** Whether the contents have to travel back. */
  readonly output: boolean;
}

export interface HypercallRequest {
  /** Hypercall number (`xen.h`). */
  readonly op: number;
  /** Up to six arguments; pointers are arena addresses. */
  readonly args: readonly bigint[];
  readonly arena?: readonly ArenaSegment[];
}

/** Where bytes of another domain are: a frame by gfn (needs rights over the domain) or by a grant to Domain-0. */
export type RemotePage =
  | { readonly space: 'foreign'; readonly domid: Domid; readonly gfn: number }
  | { readonly space: 'grant'; readonly domid: Domid; readonly gref: GrantRef };

/** A place in a page. */
export interface PagePlace {
  readonly page: RemotePage;
  readonly offset: number;
}

/** Bytes of a page. */
export interface PageRange extends PagePlace {
  readonly length: number;
}

/**
 * The other end's event index (`rsp_event` or `req_event`, a u32 at a multiple of 4) and the move of our producer index that it is
 * compared with: an event is sent when it lies behind `from` and not behind `to` (RING_PUSH_*_AND_CHECK_NOTIFY of io/ring.h).
 */
export interface RingPush extends PagePlace {
  readonly from: number;
  readonly to: number;
}

/** One step of a batch. Steps run in order; a failed step fails alone and later ones still run, unless a `check` stands between. */
export type MemoryOp =
  | ({ readonly kind: 'read' } & PageRange)
  | ({ readonly kind: 'write'; readonly data: Uint8Array } & PagePlace)
  /** From page to page, maybe of two domains, without passing through the caller. */
  | { readonly kind: 'copy'; readonly from: PagePlace; readonly to: PagePlace; readonly length: number }
  /** Sends the local event channel port, with `push` only if the other end wants to hear of it; orders after all writes before it. */
  | { readonly kind: 'notify'; readonly port: EvtchnPort; readonly push?: RingPush }
  /**
   * If a step before it failed, it and all behind it fail with ECANCELED and are not done: an answer that must not go out without
   * its data. A batch with one has to fit into one frame, else E2BIG.
   */
  | { readonly kind: 'check' };

/** `status` 0 or -errno (grant failures give GNTST_* as -errno equivalents); `data` for reads that succeeded. */
export interface MemoryResult {
  readonly status: number;
  readonly data?: Uint8Array;
}

/** Gets the port and, when there are reads for it, their results in order. */
export type EventListener = (port: EvtchnPort, reads?: readonly MemoryResult[]) => void;

/** What a connection may do; narrowing is one-way (as xc's restrict calls). */
export type Restriction = { readonly kind: 'domain'; readonly domid: Domid } | { readonly kind: 'backend' };

export interface PrivcmdPort {
  /** Runs one hypercall as Domain-0. Resolves to the value in RAX (negative errno included); rejects when the link broke. */
  hypercall(request: HypercallRequest): Promise<bigint>;
  /** Runs a batch in one round trip. */
  memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]>;
  /** Allocates a port of Domain-0 that `remote` may bind; events on it come to this connection. */
  bindUnbound(remote: Domid): Promise<EvtchnPort>;
  /** Binds to a port that domain `remote` offers; rejects with XenError. */
  bindInterdomain(remote: Domid, remotePort: EvtchnPort): Promise<EvtchnPort>;
  /** Binds a global VIRQ of Domain-0 (VIRQ_DOM_EXC for the toolstack, VIRQ_CON_RING). */
  bindVirq(virq: number): Promise<EvtchnPort>;
  notify(port: EvtchnPort): Promise<void>;
  unbind(port: EvtchnPort): Promise<void>;
  /**
   * Events of ports bound by this connection. Edge-like and coalesced: one call may stand for many sends; ports are
   * unmasked by the implementation after delivery. `reads` when `readOnEvent` named some. Returns a function that removes the listener.
   */
  onEvent(listener: EventListener): () => void;
  /**
   * What is read whenever an event of a port bound here is delivered, and comes with it: a ring's page, so that its requests need no
   * round trip. Events and answers are delivered in one order: the reads are never older than what an earlier answer told. Replaces what was
   * named before; an empty list ends it. Rejects with EINVAL (no such bytes), E2BIG (more than
   * `MAX_EVENT_READ_BYTES`), EPERM (restricted), ENOTCONN (not bound here).
   */
  readOnEvent(port: EvtchnPort, reads: readonly PageRange[]): Promise<void>;
  /** Gives up rights for the rest of this connection. */
  restrict(restriction: Restriction): Promise<void>;
  /** Called once when the connection ends; `error` is undefined after `close`. */
  onClose(listener: (error?: Error) => void): () => void;
  close(): Promise<void>;
}
