/**
 * A transaction: a view over the tree that remembers what it touched. Each node is as it was when first touched. The commit succeeds
 * only when none of the touched nodes has changed since (xenstored_transaction.c); else see merge.ts.
 */
import type { Account } from './accounts.ts';
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import type { MergeLog } from './merge.ts';
import { baseName, childPath, parentOf } from './paths.ts';
import type { PermList } from './perms.ts';
import { recordBytes } from './tree.ts';
import type { ChildrenReader, NodeState, NodeStore, Tree, TreeNode } from './tree.ts';

type BaseState = Pick<TouchedNode, 'baseGeneration' | 'oldPerms'>;

const stateOf = (base: TreeNode | undefined): BaseState => ({
  baseGeneration: base?.generation ?? 0,
  oldPerms: base?.perms,
});

/** A node that the transaction has read or written, as it sees it. */
export class TouchedNode implements NodeState, ChildrenReader {
  readonly path: string;
  /** The tree's node when first touched. */
  readonly base: TreeNode | undefined;
  /** Its generation then; 0 when there was none. */
  readonly baseGeneration: number;
  /** Its rights then, for watchers of what this transaction removes. */
  readonly oldPerms: PermList | undefined;
  exists: boolean;
  value: string;
  perms: PermList;
  generation: number;
  childBytes: number;
  /** The tree's node is removed with all below it, and what is here is the transaction's own. */
  baseGone = false;
  valueSet = false;
  permsSet = false;
  modified = false;
  /** `exact`: only watches on this very path (a node removed with its parent). */
  fire: 'no' | 'subtree' | 'exact' = 'no';
  /** Place in the order of creations, when the transaction has made it. */
  createdAt = -1;
  /** Bytes charged for the transaction's copy. */
  bytes = 0;
  added: Set<string> | undefined = undefined;
  removed: Set<string> | undefined = undefined;
  #baseNames: readonly string[] | undefined = undefined;

  constructor(path: string, base: TreeNode | undefined, nothing: PermList, before: BaseState = stateOf(base)) {
    this.path = path;
    this.base = base;
    this.baseGeneration = before.baseGeneration;
    this.oldPerms = before.oldPerms;
    this.exists = base !== undefined;
    this.value = base?.value ?? '';
    this.perms = base?.perms ?? nothing;
    this.generation = this.baseGeneration;
    this.childBytes = base?.childBytes ?? 0;
  }

  *childNames(): Generator<string> {
    if (!this.baseGone) {
      for (const name of this.#baseNames ?? this.base?.childNames() ?? []) if (!this.removed?.has(name)) yield name;
    }
    if (this.added) yield* this.added;
  }

  /** The tree's list of children is about to change: keeps it as it was. */
  childrenChange(): void {
    this.#baseNames = [...(this.base?.childNames() ?? [])];
  }

  addName(name: string): void {
    (this.added ??= new Set()).add(name);
    this.childBytes += name.length + 1;
  }

  removeName(name: string): void {
    if (this.added?.delete(name) !== true) (this.removed ??= new Set()).add(name);
    this.childBytes -= name.length + 1;
  }

  gone(): void {
    this.exists = false;
    this.value = '';
    this.childBytes = 0;
    this.added = undefined;
    this.removed = undefined;
    if (this.base) this.baseGone = true;
  }

  /** Names of the tree's node as it was, when that is no more in the tree; for live update. */
  get keptNames(): readonly string[] | undefined {
    return this.#baseNames;
  }

  set keptNames(names: readonly string[] | undefined) {
    this.#baseNames = names;
  }
}

/** A change to tell watchers after the commit. */
export interface CommittedChange {
  readonly path: string;
  readonly exact: boolean;
  readonly oldPerms: PermList | undefined;
}

export interface TransactionOptions {
  readonly id: number;
  /** Charged for the view's copies until dispose(). */
  readonly account: Account;
  /** How many nodes may be touched. */
  readonly nodesMax: () => number;
}

export class Transaction implements NodeStore {
  readonly id: number;
  readonly account: Account;
  /** Generation at its start. */
  readonly generation: number;
  /** A change could not be carried out whole: the commit will answer ENOMEM. */
  failed = false;
  /** Some node was created: the commit checks the quota of nodes. */
  created = false;
  /** Requests to replay when it conflicts, under the policy `merge`. */
  log: MergeLog | undefined = undefined;
  readonly touched = new Map<string, TouchedNode>();
  /** Change in the number of nodes by domain. */
  readonly nodesDelta = new Map<number, number>();
  readonly #tree: Tree;
  readonly #nodesMax: () => number;
  readonly #keyPrefixBytes: number;
  /** By `createdAt`; after a live update without those that were made again later. */
  #creations: (TouchedNode | undefined)[] = [];

  constructor(options: TransactionOptions, tree: Tree, generation = tree.tick()) {
    this.id = options.id;
    this.account = options.account;
    this.#nodesMax = options.nodesMax;
    this.#tree = tree;
    this.generation = generation;
    this.#keyPrefixBytes = String(this.generation).length + 1;
  }

  find(path: string): NodeState | XsFailure {
    const node = this.#touch(path);
    return isFailure(node) || node.exists ? node : fail('ENOENT');
  }

  create(path: string, perms: PermList, value: string): void {
    const parent = this.#found(parentOf(path));
    const node = this.#found(path);
    if (node.exists) throw new Error(`node exists: ${path}`);
    node.exists = true;
    node.value = value;
    node.perms = perms;
    node.createdAt = this.#creations.push(node) - 1;
    parent.addName(baseName(path));
    this.#changed(parent);
    this.#changed(node);
    this.#countNode(perms.owner, 1);
    this.created = true;
  }

  setValue(path: string, _node: NodeState, value: string): void {
    const node = this.#found(path);
    node.value = value;
    node.valueSet = true;
    this.#changed(node);
  }

  setPerms(path: string, _node: NodeState, perms: PermList): void {
    const node = this.#found(path);
    this.#countNode(node.perms.owner, -1);
    node.perms = perms;
    node.permsSet = true;
    this.#countNode(perms.owner, 1);
    this.#changed(node);
  }

  /** Touches all below it, and watchers of each hear after the commit. ENOSPC: the transaction has failed. */
  remove(path: string): number | XsFailure {
    const parent = this.#found(parentOf(path));
    const order: TouchedNode[] = [];
    const left = [path];
    for (let at = left.pop(); at !== undefined; at = left.pop()) {
      const node = this.#touch(at);
      if (isFailure(node)) return node;
      order.push(node);
      for (const name of [...node.childNames()].reverse()) left.push(childPath(at, name));
    }
    for (const node of order) {
      this.#countNode(node.perms.owner, -1);
      node.gone();
      this.#changed(node);
      if (node.fire !== 'subtree') node.fire = node.path === path ? 'subtree' : 'exact';
    }
    parent.removeName(baseName(path));
    this.#changed(parent);
    return order.length;
  }

  accountFor(): Account {
    return this.account;
  }

  keyBytes(path: string): number {
    return this.#keyPrefixBytes + path.length;
  }

  /** Notes that watchers want to hear of this change after the commit. */
  queueWatch(path: string): void {
    this.#found(path).fire = 'subtree';
  }

  /** Whether something touched has changed since. */
  conflicts(): boolean {
    for (const { path, base, baseGeneration } of this.touched.values()) {
      if (base ? base.generation !== baseGeneration : baseGeneration !== 0 || this.#tree.lookup(path)) return true;
    }
    return false;
  }

  /** Applies the changes to the tree, which must not conflict; gives back what to tell watchers, in order. */
  commit(): CommittedChange[] {
    const tree = this.#tree;
    const touched = [...this.touched.values()];
    this.#unread();
    for (const { path, baseGone } of touched) {
      if (baseGone && this.touched.get(parentOf(path))?.baseGone !== true) tree.remove(path);
    }
    for (const [i, node] of this.#creations.entries()) {
      if (node?.exists && node.createdAt === i) tree.create(node.path, node.perms, node.value);
    }
    for (const { path, base, exists, baseGone, valueSet, permsSet, value, perms } of touched) {
      if (!base || !exists || baseGone) continue;
      if (valueSet) tree.setValue(path, base, value);
      if (permsSet) tree.setPerms(path, base, perms);
    }
    const changes: CommittedChange[] = [];
    for (const { path, fire, oldPerms } of touched) {
      if (fire !== 'no') changes.push({ path, exact: fire === 'exact', oldPerms });
    }
    return changes;
  }

  /** Gives back what the view cost its domain. */
  dispose(): void {
    this.#unread();
    for (const node of this.touched.values()) this.account.memory -= node.bytes;
    this.touched.clear();
    this.#creations = [];
    this.log?.dispose();
    this.log = undefined;
  }

  /** Puts back a node that was touched before a live update. */
  restoreNode(node: TouchedNode): void {
    this.touched.set(node.path, node);
    if (node.createdAt >= 0) this.#creations[node.createdAt] = node;
    if (node.base && node.keptNames === undefined) this.#tree.readChildren(node.base, node);
    this.#charge(node);
  }

  #unread(): void {
    for (const node of this.touched.values()) if (node.base) this.#tree.readNoChildren(node.base, node);
  }

  #touch(path: string): TouchedNode | XsFailure {
    const known = this.touched.get(path);
    if (known) return known;
    if (this.account.limited && this.touched.size >= this.#nodesMax()) {
      this.failed = true;
      return fail('ENOSPC');
    }
    const base = this.#tree.lookup(path);
    const node = new TouchedNode(path, base, this.#tree.root.perms);
    this.touched.set(path, node);
    if (base) this.#tree.readChildren(base, node);
    this.#charge(node);
    return node;
  }

  #found(path: string): TouchedNode {
    const node = this.#touch(path);
    if (isFailure(node)) throw new Error(`not found before: ${path}`);
    return node;
  }

  #changed(node: TouchedNode): void {
    node.modified = true;
    node.generation = this.#tree.tick();
    this.#charge(node);
  }

  #charge(node: TouchedNode): void {
    const bytes = node.exists
      ? this.keyBytes(node.path) + recordBytes(node.value.length, node.perms.length, node.childBytes)
      : 0;
    this.account.memory += bytes - node.bytes;
    node.bytes = bytes;
  }

  #countNode(domid: number, by: 1 | -1): void {
    this.nodesDelta.set(domid, (this.nodesDelta.get(domid) ?? 0) + by);
  }
}
