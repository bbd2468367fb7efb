/**
 * What each domain holds, for its quotas. Exact after any sequence of operations: every change of the tree, of watches, transactions and
 * queued messages goes through here, and `control check` recounts it (check.ts). Counts are those of `struct domain` in xenstored_domain.c.
 */

/** A node in its owner's list. */
export interface OwnedNode {
  ownerPrev: OwnedNode | undefined;
  ownerNext: OwnedNode | undefined;
}

export class Account {
  readonly domid: number;
  /** Whether quotas bind it. */
  readonly limited: boolean;
  nodes = 0;
  watches = 0;
  transactions = 0;
  /** Requests whose reply, or an event they caused, has not been taken yet. */
  outstanding = 0;
  /** Bytes: records and keys of nodes and of transactions' copies, watches, queued messages. */
  memory = 0;
  /** Last of the nodes owned, linked by `ownerPrev`. */
  owned: OwnedNode | undefined = undefined;
  /** The soft memory quota has been reported. */
  warned = false;

  constructor(domid: number) {
    this.domid = domid;
    this.limited = domid !== 0;
  }

  own(node: OwnedNode): void {
    this.nodes++;
    node.ownerPrev = this.owned;
    if (this.owned) this.owned.ownerNext = node;
    this.owned = node;
  }

  disown(node: OwnedNode): void {
    this.nodes--;
    if (node.ownerPrev) node.ownerPrev.ownerNext = node.ownerNext;
    if (node.ownerNext) node.ownerNext.ownerPrev = node.ownerPrev;
    else this.owned = node.ownerPrev;
    node.ownerPrev = undefined;
    node.ownerNext = undefined;
  }
}

export class Accounts {
  readonly #byDomid = new Map<number, Account>();
  readonly #dom0 = new Account(0);
  #last = this.#dom0;

  constructor() {
    this.#byDomid.set(0, this.#dom0);
  }

  of(domid: number): Account {
    if (this.#last.domid === domid) return this.#last;
    let account = this.#byDomid.get(domid);
    if (!account) this.#byDomid.set(domid, (account = new Account(domid)));
    this.#last = account;
    return account;
  }

  /** The domain is gone: a later one of its number starts from nothing. */
  forget(domid: number): void {
    if (domid === 0) return;
    this.#byDomid.delete(domid);
    this.#last = this.#dom0;
  }

  entries(): IterableIterator<[number, Account]> {
    return this.#byDomid.entries();
  }
}
