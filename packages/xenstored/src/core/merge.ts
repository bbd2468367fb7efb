/**
 * The conflict policy `merge` of oxenstored (transaction_replay in process.ml): the requests of a transaction that conflicts are run again on
 * the tree as it is now; when every reply is the one that the client got, the result is committed as if they had been sent now.
 */
import { XsOp } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';
import type { Account } from './accounts.ts';
import type { StoreConnection } from './connection.ts';
import { isFailure } from './failure.ts';
import { MERGE_LOG_MAX_BYTES, MERGE_LOG_MAX_REQUESTS } from './limits.ts';
import type { Outcome } from './request.ts';
import { WithAfter } from './request.ts';
import type { Transaction } from './transaction.ts';

export interface LoggedRequest {
  readonly op: number;
  /** latin1. */
  readonly payload: string;
  readonly reply: string;
}

const LOGGED: ReadonlySet<number> = new Set([
  XsOp.DIRECTORY,
  XsOp.DIRECTORY_PART,
  XsOp.READ,
  XsOp.GET_PERMS,
  XsOp.WRITE,
  XsOp.MKDIR,
  XsOp.RM,
  XsOp.SET_PERMS,
]);

/** What a transaction has asked and been told. Its bytes count in the domain's memory. */
export class MergeLog {
  readonly #account: Account;
  #requests: LoggedRequest[] = [];
  #bytes = 0;
  #overflown = false;

  constructor(account: Account) {
    this.#account = account;
  }

  /** Undefined when it grew too long: the transaction cannot be merged. */
  get requests(): readonly LoggedRequest[] | undefined {
    return this.#overflown ? undefined : this.#requests;
  }

  get bytes(): number {
    return this.#bytes;
  }

  add(request: LoggedRequest): void {
    if (this.#overflown) return;
    const bytes = request.payload.length + request.reply.length;
    if (this.#requests.length >= MERGE_LOG_MAX_REQUESTS || this.#bytes + bytes > MERGE_LOG_MAX_BYTES) {
      this.dispose();
      this.#overflown = true;
      return;
    }
    this.#requests.push(request);
    this.#bytes += bytes;
    this.#account.memory += bytes;
  }

  /** A log that had grown too long, put back by a live update. */
  overflow(): void {
    this.dispose();
    this.#overflown = true;
  }

  dispose(): void {
    this.#account.memory -= this.#bytes;
    this.#bytes = 0;
    this.#requests = [];
  }
}

/** Notes a request of a transaction and its outcome. */
export function logRequest(transaction: Transaction, packet: XsPacket, outcome: Outcome): void {
  if (!transaction.log || !LOGGED.has(packet.op)) return;
  const reply = comparable(packet.op, outcome);
  if (reply !== undefined) transaction.log.add({ op: packet.op, payload: packet.payload.toString('latin1'), reply });
}

type Run = (connection: StoreConnection, packet: XsPacket, transaction: Transaction) => Outcome;

/** Whether `fresh` answers all that `conflicting` has been asked in the same way. It then holds the changes to commit. */
export function replay(conflicting: Transaction, fresh: Transaction, connection: StoreConnection, run: Run): boolean {
  const requests = conflicting.log?.requests;
  if (!requests) return false;
  for (const { op, payload, reply } of requests) {
    const packet: XsPacket = { op, reqId: 0, txId: fresh.id, payload: Buffer.from(payload, 'latin1') };
    if (comparable(op, run(connection, packet, fresh)) !== reply) return false;
  }
  return !fresh.failed;
}

/** A reply as text that is equal when replies mean the same; generation numbers do not count. */
function comparable(op: number, outcome: Outcome): string | undefined {
  if (isFailure(outcome)) return `!${outcome.code}`;
  const payload = outcome instanceof WithAfter ? outcome.payload : outcome;
  if (typeof payload !== 'string') return undefined;
  return `=${op === XsOp.DIRECTORY_PART ? payload.slice(payload.indexOf('\0')) : payload}`;
}
