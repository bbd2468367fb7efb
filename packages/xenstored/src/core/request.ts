/** What a handler gets and gives back, and the payload forms that operations share. */
import type { XsPacket } from '@xenhost/xs-wire';
import type { StoreConnection } from './connection.ts';
import type { XenstoreCore } from './core.ts';
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import { canonicalize, isValidPath, parentOf } from './paths.ts';
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

/** Reply payload (latin1), failure, or a reply that comes when the outside world has answered. */
export type Outcome = string | XsFailure | Later | Again | WithAfter;

export class Later {
  /** Undefined: the reply has been queued already. */
  readonly outcome: Promise<string | XsFailure | undefined>;
  constructor(outcome: Promise<string | XsFailure | undefined>) {
    this.outcome = outcome;
  }
}

/** Nothing has been done yet: the request is run again once the hypervisor has said which of the domains it names exist. */
export class Again {
  readonly domids: readonly number[];
  readonly ask: () => Promise<ReadonlySet<number>>;
  readonly run: (existing: ReadonlySet<number>) => void;

  constructor(
    domids: readonly number[],
    ask: () => Promise<ReadonlySet<number>>,
    run: (existing: ReadonlySet<number>) => void,
  ) {
    this.domids = domids;
    this.ask = ask;
    this.run = run;
  }
}

/** `after` runs once the reply is queued. */
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
  const end = payload.length - 1;
  return end >= 0 && payload.indexOf(0) === end ? payload.toString('latin1', 0, end) : undefined;
}

/** The payload's NUL-terminated strings; what follows the last NUL is passed over. */
export function strings(payload: Buffer): string[] {
  const found = payload.toString('latin1').split('\0');
  found.pop();
  return found;
}

const ATOI = /^[ \t\n\v\f\r]*([+-]?\d+)/;

/** The leading number of a string as C's atoi reads it, 32 bits; 0 without one. */
export function leadingInt(text: string): number {
  const digits = ATOI.exec(text)?.[1];
  if (digits === undefined) return 0;
  const value = Number(digits);
  if (Number.isSafeInteger(value)) return value | 0;
  const exact = BigInt.asIntN(64, BigInt(digits));
  // strtol stops at the ends of a long.
  if (exact !== BigInt(digits)) return digits.startsWith('-') ? 0 : -1;
  return Number(BigInt.asIntN(32, exact));
}

/** The path that a client names, EINVAL when no node can have it. */
export function nodePath(request: Request, given: string | undefined): string | XsFailure {
  if (given === undefined) return fail('EINVAL');
  const path = canonicalize(given, request.connection.implicitPath);
  return isValidPath(path, request.core.quotas.pathMax) ? path : fail('EINVAL');
}

/** The path that the whole payload names. A NUL inside makes it invalid like any other character. */
export function payloadPath(request: Request): string | XsFailure {
  const { payload } = request.packet;
  const end = payload.length - 1;
  if (end < 0 || payload[end] !== 0) return fail('EINVAL');
  return nodePath(request, payload.toString('latin1', 0, end));
}

/** The node at `path` if the client has all of `rights` to it; what it may not know of is EACCES. */
export function findNode(request: Request, path: string, rights: number): NodeState | XsFailure {
  const { store, connection, transaction } = request;
  const node = store.find(path);
  let failure: XsFailure;
  if (!isFailure(node)) {
    if ((rightsOf(connection, node.perms) & rights) === rights) return node;
    failure = fail('EACCES');
  } else if (node.code === 'ENOENT') {
    failure = node;
  } else {
    return node;
  }
  // What the parents are asked makes no difference but for what a transaction has read.
  if (!transaction && (connection.privileged || failure.code === 'EACCES')) return failure;
  for (let at = parentOf(path); ; at = parentOf(at)) {
    const ancestor = store.find(at);
    if (!isFailure(ancestor)) return rightsOf(connection, ancestor.perms) & rights ? failure : fail('EACCES');
    if (ancestor.code !== 'ENOENT') return ancestor;
    if (at === '/') throw new Error('there is no /');
  }
}

/** The node that the whole payload names, for reading. */
export function namedNode(request: Request, rights: number): NodeState | XsFailure {
  const path = payloadPath(request);
  return isFailure(path) ? path : findNode(request, path, rights);
}
