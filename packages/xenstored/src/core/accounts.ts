/**
 * What each domain holds, for its quotas. Exact after any sequence of operations: every change of the tree, of watches, transactions and
 * queued messages goes through here, and `control check` recounts it (check.ts). Counts are those of `struct domain` in xenstored_domain.c.
 */

/** A node as its owner's list knows it. */
export interface OwnedNode {
  /** 0 once it is gone. */
  readonly generation: number;
  readonly perms: { readonly owner: number };
}

/** Nodes that are no more the owner's stay in its list until there are this many beside those that are. */
const OUTDATED_MAX = 1024;

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
  /** The soft memory quota has been reported. */
  warned = false;
  /** When that, or its end, was last reported. */
  warnedMs = -Infinity;

  #owned: OwnedNode[] = [];

  constructor(domid: number) {
    this.domid = domid;
    this.limited = domid !== 0;
  }

  own(node: OwnedNode): void {
    this.nodes++;
    this.#owned.push(node);
  }

  /** Nodes are gone already, or another's, and what they took with them. */
  release(nodes: number, memory: number): void {
    this.nodes -= nodes;
    this.memory -= memory;
    if (this.#owned.length > 2 * this.nodes + OUTDATED_MAX) this.#owned = this.ownedNodes();
  }

  /** The nodes owned, each once, as they came. */
  ownedNodes(): OwnedNode[] {
    const live = this.#owned.filter((node) => node.generation !== 0 && node.perms.owner === this.domid);
    return live.length === this.nodes ? live : [...new Set(live)];
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
