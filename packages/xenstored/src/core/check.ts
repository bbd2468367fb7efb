/** `control check`: counts everything anew and compares it with what is kept, and looks through the tree's own structure. */
import type { XenstoreCore } from './core.ts';
import { recordBytes } from './tree.ts';

export type Fault = Readonly<Record<string, unknown>>;

interface Counted {
  nodes: number;
  watches: number;
  transactions: number;
  outstanding: number;
  memory: number;
}

/** What is wrong; nothing when all is exact. */
export function checkStore(core: XenstoreCore): Fault[] {
  const faults: Fault[] = [];
  const counted = new Map<number, Counted>();
  const of = (domid: number): Counted => {
    let count = counted.get(domid);
    if (!count) counted.set(domid, (count = { nodes: 0, watches: 0, transactions: 0, outstanding: 0, memory: 0 }));
    return count;
  };
  countNodes(core, of, faults);
  countConnections(core, of, faults);
  for (const [domid, account] of core.accounts.entries()) {
    const count = of(domid);
    for (const key of ['nodes', 'watches', 'transactions', 'outstanding', 'memory'] as const) {
      if (account[key] !== count[key])
        faults.push({ what: 'account', domid, key, kept: account[key], counted: count[key] });
    }
    const owned = account.ownedNodes().length;
    if (owned !== account.nodes)
      faults.push({ what: 'list of owned nodes', domid, kept: owned, counted: account.nodes });
    counted.delete(domid);
  }
  for (const [domid, count] of counted) {
    if (count.nodes + count.memory > 0) faults.push({ what: 'account missing', domid, ...count });
  }
  return faults;
}

function countNodes({ tree }: XenstoreCore, of: (domid: number) => Counted, faults: Fault[]): void {
  // No paths but of what is wrong: they would take most of the time.
  const left = [tree.root];
  for (let node = left.pop(); node; node = left.pop()) {
    const { perms, parent, name } = node;
    const owner = of(perms.owner);
    const pathBytes = parent ? (parent.parent ? parent.pathBytes : 0) + 1 + name.length : 1;
    let childBytes = 0;
    if (node.children) {
      for (const [childName, child] of node.children) {
        childBytes += childName.length + 1;
        if (child.parent !== node || child.name !== childName) {
          faults.push({ what: 'child of another', path: node.path, name: childName });
        }
        left.push(child);
      }
    }
    owner.nodes++;
    owner.memory += pathBytes + recordBytes(node.value.length, perms.length, childBytes);
    if (childBytes !== node.childBytes || pathBytes !== node.pathBytes || node.generation === 0) {
      faults.push({ what: 'node', path: node.path, childBytes, kept: node.childBytes, generation: node.generation });
    }
  }
}

function countConnections(core: XenstoreCore, of: (domid: number) => Counted, faults: Fault[]): void {
  let nrWatches = 0;
  let nrTransactions = 0;
  for (const connection of core.connections) {
    const count = of(connection.domid);
    const { isRing, watches, transactions, output } = connection;
    nrWatches += watches.size;
    nrTransactions += transactions.size;
    if (isRing) {
      count.watches += watches.size;
      count.transactions += transactions.size;
    }
    for (const watch of watches) {
      count.memory += watch.path.length + watch.token.length;
      if (!core.events.index.matching(watch.path, true).includes(watch))
        faults.push({ what: 'watch', path: watch.path });
    }
    for (const transaction of transactions.values()) {
      count.memory += transaction.log?.bytes ?? 0;
      for (const { path, exists, value, perms, childBytes } of transaction.touched.values()) {
        if (exists) count.memory += transaction.keyBytes(path) + recordBytes(value.length, perms.length, childBytes);
      }
    }
    for (const { packet } of output.waiting()) count.memory += packet.size;
  }
  countOutstanding(core, of);
  if (nrWatches !== core.events.index.size) faults.push({ what: 'number of watches', nrWatches });
  if (nrTransactions !== core.nrTransactions) faults.push({ what: 'number of transactions', nrTransactions });
}

/** A request is outstanding while its reply waits, or one of the events it caused. */
function countOutstanding(core: XenstoreCore, of: (domid: number) => Counted): void {
  const causes = new Set<object>();
  for (const { isRing, domid, output } of core.connections) {
    for (const { packet } of output.waiting()) {
      const { kind, cause } = packet;
      if (cause) {
        // Of a domain that is gone, nobody counts it any more.
        const alive = core.accounts.of(cause.account.domid) === cause.account;
        if (alive && !causes.has(cause)) of(cause.account.domid).outstanding++;
        causes.add(cause);
      } else if (kind === 'reply' && isRing) {
        of(domid).outstanding++;
      }
    }
  }
}
