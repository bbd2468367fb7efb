/** What each domain holds, for its quotas. Exact after any sequence of operations: every change of the tree goes through here. */

export interface Account {
  nodes: number;
  watches: number;
  transactions: number;
  /** Bytes. */
  memory: number;
}

export class Accounts {
  readonly #byDomid = new Map<number, Account>();

  of(domid: number): Account {
    let account = this.#byDomid.get(domid);
    if (!account) this.#byDomid.set(domid, (account = { nodes: 0, watches: 0, transactions: 0, memory: 0 }));
    return account;
  }

  entries(): IterableIterator<[number, Account]> {
    return this.#byDomid.entries();
  }
}
