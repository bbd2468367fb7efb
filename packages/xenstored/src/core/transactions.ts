/** Opening, committing and ending transactions, and what becomes of those that conflict. */
import type { XsPacket } from '@xenhost/xs-wire';
import type { StoreConnection } from './connection.ts';
import type { XenstoreCore } from './core.ts';
import { fail } from './failure.ts';
import type { XsFailure } from './failure.ts';
import { MergeLog, replay } from './merge.ts';
import { operationOf } from './operations.ts';
import { ACK } from './request.ts';
import type { Outcome } from './request.ts';
import { Transaction } from './transaction.ts';

/** What happens to a transaction when something it has read has changed: always EAGAIN (C), or only when replies would differ (OCaml). */
export type ConflictPolicy = 'eagain' | 'merge';

export class Transactions {
  policy: ConflictPolicy;
  readonly #core: XenstoreCore;
  #open = 0;

  constructor(policy: ConflictPolicy, core: XenstoreCore) {
    this.policy = policy;
    this.#core = core;
  }

  /** Open ones of all clients. */
  get open(): number {
    return this.#open;
  }

  /** A new one, not yet its connection's. */
  make(connection: StoreConnection, id: number, generation?: number): Transaction {
    const core = this.#core;
    const options = { id, account: connection.account, nodesMax: () => core.quotas.transactionNodes };
    return new Transaction(options, core.tree, generation);
  }

  add(connection: StoreConnection, transaction: Transaction): void {
    if (this.policy === 'merge') transaction.log = new MergeLog(connection.account);
    connection.transactions.set(transaction.id, transaction);
    if (connection.isRing) connection.account.transactions++;
    this.#open++;
  }

  /** Takes a transaction off its connection and gives back what it cost. */
  end(connection: StoreConnection, transaction: Transaction): void {
    connection.transactions.delete(transaction.id);
    if (connection.isRing) connection.account.transactions--;
    this.#open--;
    transaction.dispose();
  }

  /** Makes a transaction's changes, or says why not. The caller ends it. */
  commit(connection: StoreConnection, transaction: Transaction): typeof ACK | XsFailure {
    const { metrics } = this.#core;
    const refused = this.#refuses(connection, transaction);
    if (refused) return refused;
    metrics.commits++;
    if (!transaction.conflicts()) return this.#apply(connection, transaction);
    metrics.conflicts++;
    const fresh = this.make(connection, transaction.id);
    try {
      const run = (client: StoreConnection, packet: XsPacket, store: Transaction): Outcome =>
        operationOf(packet.op)?.handler({ core: this.#core, connection: client, packet, transaction: store, store }) ??
        fail('ENOSYS');
      if (!replay(transaction, fresh, connection, run)) return fail('EAGAIN');
      metrics.merges++;
      return this.#refuses(connection, fresh) ?? this.#apply(connection, fresh);
    } finally {
      fresh.dispose();
    }
  }

  #refuses(connection: StoreConnection, transaction: Transaction): XsFailure | undefined {
    if (transaction.failed) return fail('ENOMEM');
    if (!transaction.created || connection.privileged) return undefined;
    const { accounts, quotas } = this.#core;
    for (const [domid, delta] of transaction.nodesDelta) {
      if (domid !== 0 && accounts.of(domid).nodes + delta >= quotas.nodes) return fail('ENOSPC');
    }
    return undefined;
  }

  #apply(connection: StoreConnection, transaction: Transaction): typeof ACK {
    this.#core.events.committed(transaction.commit());
    // Its own is still counted.
    if (this.#open > 1) this.#core.debit({ connection, transaction: undefined }, 1);
    return ACK;
  }
}
