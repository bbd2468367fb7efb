/** What a handler gets and gives back, and the payload forms that operations share. */
import type { XsPacket } from '@xenhost/xs-wire';
import type { StoreConnection } from './connection.ts';
import type { XenstoreCore } from './core.ts';
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import { canonicalize, parentOf } from './paths.ts';
import { rightsOf } from './perms.ts';
import type { Transaction } from './transaction.ts';
import type { NodeState, NodeStore } from './tree.ts';

export interface Request {
  readonly core: XenstoreCore;
  readonly connection: StoreConnection;
  readonly packet: XsPacket;
  /** The transaction named by the request. */
  readonly transaction: Transaction | undefined;
  /** Where nodes are read and written: the transaction, or the tree. */
  readonly store: NodeStore;
}

/** Reply payload, failure, or a reply that comes when the outside world has answered. `after` runs once the reply is queued. */
export type Outcome = string | Uint8Array | XsFailure | Later | WithAfter;

export class Later {
  readonly outcome: Promise<string | XsFailure>;
  constructor(outcome: Promise<string | XsFailure>) {
    this.outcome = outcome;
  }
}

export class WithAfter {
  readonly payload: string;
  readonly after: () => void;
  constructor(payload: string, after: () => void) {
    this.payload = payload;
    this.after = after;
  }
}

export type Handler = (request: Request) => Outcome;

export const ACK = 'OK\0';

/** The payload as exactly one NUL-terminated string; undefined when it is not. */
export function oneString(payload: Buffer): string | undefined {
  return payload.length > 0 && payload.indexOf(0) === payload.length - 1
    ? payload.toString('latin1', 0, payload.length - 1)
    : undefined;
}

/** The leading number of a string as C's atoi reads it; 0 without one. */
export function leadingInt(text: string): number {
  const match = /^\s*([+-]?\d+)/.exec(text);
  return match ? Number(match[1]) | 0 : 0;
}

export function canonicalPath(request: Request, given: string | undefined, allowSpecial = false): string | XsFailure {
  if (given === undefined) return fail('EINVAL');
  const { connection, core } = request;
  return canonicalize(given, connection.implicitPath, core.quotas.pathMax, allowSpecial);
}

export interface FoundNode {
  readonly path: string;
  readonly node: NodeState;
}

/** The node at `path` if the client has all of `rights` to it; what it may not know of is EACCES. */
export function findNode(request: Request, path: string, rights: number): NodeState | XsFailure {
  const { store, connection } = request;
  const node = store.find(path);
  if (node) return (rightsOf(connection, node.perms) & rights) === rights ? node : fail('EACCES');
  if (connection.privileged) return fail('ENOENT');
  for (let at = path; at !== '/';) {
    at = parentOf(at);
    const ancestor = store.find(at);
    if (ancestor) return rightsOf(connection, ancestor.perms) & rights ? fail('ENOENT') : fail('EACCES');
  }
  return fail('EACCES');
}

/** The node that the whole payload names. */
export function namedNode(request: Request, rights: number): FoundNode | XsFailure {
  const path = canonicalPath(request, oneString(request.packet.payload));
  if (isFailure(path)) return path;
  const node = findNode(request, path, rights);
  return isFailure(node) ? node : { path, node };
}
