/**
 * The layout of the whole core's state as plain data, for live update: XenstoreCore.captureState() gives it, restoreState()
 * takes it. JSON can carry it as it is: numbers, strings (latin1, one character a byte), booleans, arrays. What belongs to
 * transports (file descriptors, ring indices, bytes of unfinished requests, requests held back) is theirs to save, under the same
 * connection ids. Restoring a newer version than CORE_STATE_VERSION is refused.
 */
import type { Quotas } from './limits.ts';
import type { StoredPerm } from './perms.ts';

export const CORE_STATE_VERSION = 1;

export interface CoreState {
  readonly version: number;
  readonly quotas: Quotas;
  readonly policy: 'eagain' | 'merge';
  readonly accessLog: boolean;
  /** The last generation given out; nodes' and rights' generations are at most this. */
  readonly generation: number;
  readonly nextConnectionId: number;
  /** Lists of rights, named by their index from nodes, transactions and special watches. */
  readonly perms: readonly PermsState[];
  /** All nodes, parents before children, siblings in their order. The first is `/`. */
  readonly nodes: readonly NodeRecord[];
  readonly special: readonly (readonly [name: string, perms: number])[];
  readonly domains: readonly DomainState[];
  /** Thousandths of writes that the write rate limit has in reserve. */
  readonly writeReserve: number;
  readonly connections: readonly ConnectionState[];
  /** Domains (-1: gone since) with requests whose events wait: the index is `cause` in OutputState. */
  readonly causes: readonly number[];
}

export interface PermsState {
  readonly entries: readonly StoredPerm[];
  /** When they were set: rights of a domain that is younger do not count. */
  readonly stamp: number;
}

/** Depth (0 for `/`), last piece of the path, value, index into `perms`, generation. */
export type NodeRecord = readonly [depth: number, name: string, value: string, perms: number, generation: number];

export interface DomainState {
  readonly domid: number;
  /** Generation at which this domain was first heard of. */
  readonly birth: number;
  /** Absent for a domain that is only named in rights. */
  readonly introduced?: {
    readonly mfn: string;
    readonly port: number;
    readonly shutdown: boolean;
    /** Id in `connections`. */
    readonly connection: number;
    /** Thousandths of writes, of the write rate limit. */
    readonly writeCredit: number;
  };
}

export interface ConnectionState {
  /** StoreConnection.id, kept over the update. */
  readonly id: number;
  readonly domid: number;
  readonly isRing: boolean;
  /** Domain whose rights it has besides its own. */
  readonly target: number | undefined;
  /** Broke the ring protocol: gets nothing until introduced again. */
  readonly ignored: boolean;
  readonly nextTransactionId: number;
  readonly watches: readonly WatchState[];
  readonly transactions: readonly TransactionState[];
  readonly output: readonly OutputState[];
}

export interface WatchState {
  readonly path: string;
  readonly token: string;
  readonly relative: boolean;
  /** Order of registration over all connections. */
  readonly sequence: number;
}

/** One packet that waits to be sent. */
export interface OutputState {
  /** Bytes of the packet, header included, that have not been taken yet (latin1). */
  readonly bytes: string;
  /** Bytes of it that have been taken: only the first packet of a queue can have any. */
  readonly taken: number;
  readonly kind: 'reply' | 'event';
  /** An equal event that follows is queued too (special watches). */
  readonly repeatable: boolean;
  /**
   * The guest's request that this replies to, or that caused this event: equal numbers are the same request. It counts as
   * outstanding until its reply and all its events have been taken.
   */
  readonly cause: number | undefined;
  /** Monotonic milliseconds after which an event may be dropped, counted from the capture. */
  readonly expiresInMs: number | undefined;
}

export interface TransactionState {
  readonly id: number;
  readonly failed: boolean;
  readonly created: boolean;
  /** Generation when it started. */
  readonly generation: number;
  /** In order of first touch. */
  readonly touched: readonly TouchedState[];
  /** Under the policy `merge`: requests and what they were answered; without `requests` there were too many. */
  readonly log:
    { readonly requests: readonly (readonly [op: number, payload: string, reply: string])[] | undefined } | undefined;
  /** Change in the number of nodes, by domain. */
  readonly nodes: readonly (readonly [domid: number, delta: number])[];
}

/** A node that a transaction has read or written; members are those of TouchedNode in transaction.ts. */
export interface TouchedState {
  readonly path: string;
  readonly baseGeneration: number;
  readonly oldPerms: number | undefined;
  readonly exists: boolean;
  readonly value: string;
  readonly perms: number;
  readonly generation: number;
  readonly childBytes: number;
  readonly baseGone: boolean;
  readonly valueSet: boolean;
  readonly permsSet: boolean;
  readonly modified: boolean;
  readonly fire: 'no' | 'subtree' | 'exact';
  readonly createdAt: number;
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly baseNames: readonly string[] | undefined;
}
