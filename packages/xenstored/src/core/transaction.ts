/**
 * A transaction: a view over the tree that remembers what it touched. Each node is as it was when first touched; the
 * commit succeeds only when none of them has changed since (the C daemon's policy: else EAGAIN).
 */
import type { XsPerm } from '@xenhost/xs-wire';
import type { Account } from './accounts.ts';
import { baseName, childPath, parentOf, segments } from './paths.ts';
import { recordBytes } from './tree.ts';
import type { NodeState, NodeStore, Tree } from './tree.ts';

/** The view's own copy of a node that it has changed. */
class OwnNode implements NodeState {
  value: Buffer;
  perms: readonly XsPerm[];
  readonly generation: number;
  childBytes: number;
  names: Set<string> | undefined;
  readonly #base: NodeState | undefined;

  constructor(base: NodeState | undefined, perms: readonly XsPerm[], value: Buffer) {
    this.#base = base;
    this.perms = perms;
    this.value = value;
    this.generation = base?.generation ?? 0;
    this.childBytes = base?.childBytes ?? 0;
  }

  childNames(): Iterable<string> {
    return this.names ?? this.#base?.childNames() ?? [];
  }

  ownNames(): Set<string> {
    return (this.names ??= new Set(this.childNames()));
  }
}

interface Touched {
  readonly path: string;
  /** Generation when first touched; 0 for a node that was not there. */
  readonly generation: number;
  /** Permissions when first touched, for watchers of what this transaction removes. */
  readonly perms: readonly XsPerm[] | undefined;
  node: NodeState | undefined;
  modified: boolean;
  /** `exact`: only watches on this very path (a node removed with its parent). */
  fire: 'no' | 'subtree' | 'exact';
}

/** A change to tell watchers after the commit. */
export interface CommittedChange {
  readonly path: string;
  readonly exact: boolean;
  readonly oldPerms: readonly XsPerm[] | undefined;
}

export class Transaction implements NodeStore {
  readonly id: number;
  /** Set when a quota was hit: the commit will answer ENOMEM. */
  failed = false;
  readonly #tree: Tree;
  readonly #touched = new Map<string, Touched>();
  readonly #account: Account;
  readonly #nodesDelta = new Map<number, number>();
  #bytes = 0;

  /** `account` is charged for the view's copies until `dispose()`. */
  constructor(id: number, tree: Tree, account: Account) {
    this.id = id;
    this.#tree = tree;
    this.#account = account;
  }

  get nrTouched(): number {
    return this.#touched.size;
  }

  find(path: string): NodeState | undefined {
    return this.#touch(path).node;
  }

  create(path: string, perms: readonly XsPerm[], value: Buffer): void {
    const parent = this.#own(parentOf(path));
    const entry = this.#touch(path);
    if (entry.node) throw new Error(`node exists: ${path}`);
    entry.node = new OwnNode(undefined, perms, value);
    entry.modified = true;
    const name = baseName(path);
    parent.ownNames().add(name);
    parent.childBytes += name.length + 1;
    this.#charge(path.length + recordBytes(value.length, perms.length, 0) + name.length + 1);
    this.#countNode(perms[0]?.domid ?? 0, 1);
  }

  setValue(path: string, value: Buffer): void {
    const node = this.#own(path);
    this.#charge(value.length - node.value.length);
    node.value = value;
  }

  setPerms(path: string, perms: readonly XsPerm[]): void {
    const node = this.#own(path);
    this.#countNode(node.perms[0]?.domid ?? 0, -1);
    node.perms = perms;
    this.#countNode(perms[0]?.domid ?? 0, 1);
  }

  remove(path: string): void {
    const parent = this.#own(parentOf(path));
    const name = baseName(path);
    this.#removeSubtree(path);
    parent.ownNames().delete(name);
    parent.childBytes -= name.length + 1;
  }

  nodesOwnedBy(domid: number): number {
    return this.#tree.nodesOwnedBy(domid) + (this.#nodesDelta.get(domid) ?? 0);
  }

  /** How many more nodes than now `domid` would own after the commit. */
  nodesAddedFor(domid: number): number {
    return this.#nodesDelta.get(domid) ?? 0;
  }

  /** Notes that watchers want to hear of this path after the commit. A change of the node itself wins over `exact`. */
  queueWatch(path: string, exact: boolean): void {
    const entry = this.#touch(path);
    if (entry.fire !== 'subtree') entry.fire = exact ? 'exact' : 'subtree';
  }

  /** Whether something touched has changed since: the commit must answer EAGAIN. */
  conflicts(): boolean {
    for (const { path, generation } of this.#touched.values()) {
      if ((this.#tree.find(path)?.generation ?? 0) !== generation) return true;
    }
    return false;
  }

  /** Applies the changes to the tree, which must not conflict; gives back what to tell watchers, in order. */
  commit(): CommittedChange[] {
    const modified = [...this.#touched.values()].filter((entry) => entry.modified);
    const depth = new Map(modified.map((entry) => [entry, segments(entry.path).length]));
    const byDepth = [...modified].sort((a, b) => (depth.get(a) ?? 0) - (depth.get(b) ?? 0));
    for (const { path, node } of byDepth) {
      if (!node && this.#tree.find(path)) this.#tree.remove(path);
    }
    for (const { path, node } of byDepth) {
      if (!node) continue;
      const current = this.#tree.find(path);
      if (!current) {
        this.#tree.create(path, node.perms, node.value);
        continue;
      }
      if (current.value !== node.value) this.#tree.setValue(path, node.value);
      if (current.perms !== node.perms) this.#tree.setPerms(path, node.perms);
    }
    for (const { path, node } of byDepth) {
      if (node instanceof OwnNode && node.names) this.#tree.reorderChildren(path, node.names);
    }
    const changes: CommittedChange[] = [];
    for (const { path, fire, perms } of this.#touched.values()) {
      if (fire !== 'no') changes.push({ path, exact: fire === 'exact', oldPerms: perms });
    }
    return changes;
  }

  /** Gives back what the view cost its domain. */
  dispose(): void {
    this.#account.memory -= this.#bytes;
    this.#bytes = 0;
    this.#touched.clear();
  }

  #touch(path: string): Touched {
    let entry = this.#touched.get(path);
    if (!entry) {
      const base = this.#tree.find(path);
      entry = { path, generation: base?.generation ?? 0, perms: base?.perms, node: base, modified: false, fire: 'no' };
      this.#touched.set(path, entry);
      this.#charge(path.length);
    }
    return entry;
  }

  #own(path: string): OwnNode {
    const entry = this.#touch(path);
    entry.modified = true;
    if (entry.node instanceof OwnNode) return entry.node;
    if (!entry.node) throw new Error(`no node ${path}`);
    const own = new OwnNode(entry.node, entry.node.perms, entry.node.value);
    this.#charge(recordBytes(own.value.length, own.perms.length, own.childBytes));
    entry.node = own;
    return own;
  }

  #removeSubtree(path: string): void {
    const entry = this.#touch(path);
    const { node } = entry;
    if (!node) return;
    for (const name of [...node.childNames()]) this.#removeSubtree(childPath(path, name));
    this.#countNode(node.perms[0]?.domid ?? 0, -1);
    entry.node = undefined;
    entry.modified = true;
  }

  #charge(bytes: number): void {
    this.#bytes += bytes;
    this.#account.memory += bytes;
  }

  #countNode(domid: number, by: 1 | -1): void {
    this.#nodesDelta.set(domid, (this.#nodesDelta.get(domid) ?? 0) + by);
  }
}
