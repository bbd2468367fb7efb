/**
 * The tree of nodes, and the interface that operations use on it and on a transaction's view of it alike.
 * No permissions are checked, no quotas, and no watches fire here. No walk recurses: names of one byte make deep trees.
 */
import type { Account, Accounts, OwnedNode } from './accounts.ts';
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import type { StoreChange } from './journal.ts';
import { NODE_HEADER_BYTES, PERM_BYTES } from './limits.ts';
import { baseName, childPath, parentOf } from './paths.ts';
import { dom0Only } from './perms.ts';
import type { PermList, StoredPerm } from './perms.ts';

/** A node as seen through a store. Values are latin1 strings, one character a byte; lists of rights are never changed in place. */
export interface NodeState {
  readonly value: string;
  readonly perms: PermList;
  /** Changes whenever value, permissions or list of children change; unique over all nodes and time. 0 for a node that is gone. */
  readonly generation: number;
  /** Bytes of the children's names with their NULs. */
  readonly childBytes: number;
  /** In order of creation. */
  childNames(): Iterable<string>;
}

/** Nodes handed to its methods are its own, found just before. */
export interface NodeStore {
  /** ENOENT where there is none, ENOSPC when a transaction may touch no more. */
  find(path: string): NodeState | XsFailure;
  /** The parent must exist, the node must not. */
  create(path: string, perms: PermList, value: string): void;
  setValue(path: string, node: NodeState, value: string): void;
  setPerms(path: string, node: NodeState, perms: PermList): void;
  /** Removes an existing node with all below it; not `/`. How many; ENOSPC as for find(). */
  remove(path: string): number | XsFailure;
  /** Who pays for a node of these rights, and what a node of this path costs besides its record. */
  accountFor(perms: PermList): Account;
  keyBytes(path: string): number;
}

/** Bytes of the record that the node-size quota counts. */
export const recordBytes = (valueBytes: number, nrPerms: number, childBytes: number): number =>
  NODE_HEADER_BYTES + PERM_BYTES * nrPerms + valueBytes + childBytes;

export class TreeNode implements NodeState, OwnedNode {
  readonly name: string;
  readonly parent: TreeNode | undefined;
  value: string;
  perms: PermList;
  generation: number;
  childBytes = 0;
  /** Length of the node's path. */
  readonly pathBytes: number;
  children: Map<string, TreeNode> | undefined = undefined;

  constructor(parent: TreeNode | undefined, name: string, perms: PermList, value: string, generation: number) {
    this.parent = parent;
    this.name = name;
    this.perms = perms;
    this.value = value;
    this.generation = generation;
    this.pathBytes = parent === undefined ? 1 : (parent.parent === undefined ? 0 : parent.pathBytes) + 1 + name.length;
  }

  childNames(): Iterable<string> {
    return this.children?.keys() ?? [];
  }

  get memory(): number {
    return this.pathBytes + recordBytes(this.value.length, this.perms.length, this.childBytes);
  }

  get path(): string {
    return this.parent === undefined ? '/' : pathOf(this);
  }
}

function pathOf(leaf: TreeNode): string {
  let path = '';
  for (let node = leaf; node.parent !== undefined; node = node.parent) path = `/${node.name}${path}`;
  return path;
}

/** Who has to know before a node's list of children changes. */
export interface ChildrenReader {
  childrenChange(): void;
}

/** Paths looked up lately, for finding their nodes without walking. */
const PATH_CACHE_MAX = 8192;
/** Removing more nodes than this empties the cache, which would keep them alive. */
const PATH_CACHE_STALE_MAX = 64;
/** Names that nodes have in common are stored once; how many are remembered for that. */
const NAMES_MAX = 4096;

export class Tree implements NodeStore {
  readonly accounts: Accounts;
  /** Where changes are noted, when somebody wants them. */
  changes: StoreChange[] | undefined = undefined;
  /** How rights are noted: with those marked that count no more. */
  describe: (perms: PermList) => readonly StoredPerm[] = (perms) => perms.entries;
  #root: TreeNode;
  #generation = 0;
  readonly #cache = new Map<string, TreeNode>();
  readonly #names = new Map<string, string>();
  readonly #readers = new Map<TreeNode, Set<ChildrenReader>>();

  constructor(accounts: Accounts) {
    this.accounts = accounts;
    this.#root = new TreeNode(undefined, '', dom0Only(), '', this.tick());
    this.#account(this.#root);
  }

  get root(): TreeNode {
    return this.#root;
  }

  get generation(): number {
    return this.#generation;
  }

  tick(): number {
    return ++this.#generation;
  }

  find(path: string): TreeNode | XsFailure {
    const cached = this.#cache.get(path);
    if (cached !== undefined && cached.generation !== 0) return cached;
    return this.#walkTo(path) ?? fail('ENOENT');
  }

  lookup(path: string): TreeNode | undefined {
    const node = this.find(path);
    return isFailure(node) ? undefined : node;
  }

  create(path: string, perms: PermList, value: string): TreeNode {
    const parent = this.#existing(parentOf(path));
    const name = this.#shared(baseName(path));
    if (parent.children?.has(name)) throw new Error(`node exists: ${path}`);
    this.changes?.push({ op: 'create', path, value, perms: this.describe(perms) });
    return this.attach(parent, name, perms, value, this.tick());
  }

  /** Puts a node behind its siblings. */
  attach(parent: TreeNode, name: string, perms: PermList, value: string, generation: number): TreeNode {
    this.#childrenChange(parent);
    const node = new TreeNode(parent, name, perms, value, generation);
    (parent.children ??= new Map()).set(name, node);
    this.#account(node);
    this.#resizeChildren(parent, name.length + 1);
    return node;
  }

  setValue(path: string, node: TreeNode, value: string): void {
    this.changes?.push({ op: 'write', path, value });
    this.accounts.of(node.perms.owner).memory += value.length - node.value.length;
    node.value = value;
    node.generation = this.tick();
  }

  setPerms(path: string, node: TreeNode, perms: PermList): void {
    this.changes?.push({ op: 'perms', path, perms: this.describe(perms) });
    const before = this.accounts.of(node.perms.owner);
    const { memory } = node;
    node.perms = perms;
    before.memory -= memory;
    if (perms.owner === before.domid) {
      before.memory += node.memory;
    } else {
      this.#account(node);
      before.release(1, 0);
    }
    node.generation = this.tick();
  }

  remove(path: string): number {
    const node = this.#existing(path);
    const { parent } = node;
    if (!parent) throw new Error(`cannot remove ${path}`);
    this.changes?.push({ op: 'rm', path });
    this.#childrenChange(parent);
    parent.children?.delete(node.name);
    this.#resizeChildren(parent, -(node.name.length + 1));
    const count = this.#forgetSubtree(node);
    if (count > PATH_CACHE_STALE_MAX) this.#cache.clear();
    else this.#cache.delete(path);
    return count;
  }

  accountFor(perms: PermList): Account {
    return this.accounts.of(perms.owner);
  }

  keyBytes(path: string): number {
    return path.length;
  }

  /** Asks to be told before the children of a node change; once. */
  readChildren(node: TreeNode, reader: ChildrenReader): void {
    const readers = this.#readers.get(node);
    if (readers) readers.add(reader);
    else this.#readers.set(node, new Set([reader]));
  }

  readNoChildren(node: TreeNode, reader: ChildrenReader): void {
    const readers = this.#readers.get(node);
    readers?.delete(reader);
    if (readers?.size === 0) this.#readers.delete(node);
  }

  /** All nodes from `top` on, parents before children, siblings in order. The tree must not change meanwhile. */
  *walk(top: TreeNode = this.#root): Generator<readonly [path: string, node: TreeNode, depth: number]> {
    yield [top.path, top, 0];
    const levels: { readonly path: string; readonly nodes: Iterator<TreeNode> }[] = [];
    const enter = (path: string, node: TreeNode): void => {
      if (node.children?.size) levels.push({ path, nodes: node.children.values() });
    };
    enter(top.path, top);
    for (let level = levels.at(-1); level; level = levels.at(-1)) {
      const next = level.nodes.next();
      if (next.done === true) {
        levels.pop();
        continue;
      }
      const path = childPath(level.path, next.value.name);
      const depth = levels.length;
      yield [path, next.value, depth];
      enter(path, next.value);
    }
  }

  /** Counting goes on from here: nothing in the tree is younger. */
  continueFrom(generation: number): void {
    this.#generation = generation;
  }

  /** Empties the tree but for `/`. */
  reset(rootPerms = dom0Only(), value = ''): void {
    this.#cache.clear();
    this.#forgetSubtree(this.#root);
    this.#root = new TreeNode(undefined, '', rootPerms, value, this.tick());
    this.#account(this.#root);
  }

  #walkTo(path: string): TreeNode | undefined {
    let node: TreeNode | undefined = this.#root;
    if (path.length > 1) {
      for (let at = 1; at > 0;) {
        const slash = path.indexOf('/', at);
        node = node.children?.get(slash < 0 ? path.slice(at) : path.slice(at, slash));
        if (node === undefined) return undefined;
        at = slash + 1;
      }
    }
    if (this.#cache.size >= PATH_CACHE_MAX) this.#cache.clear();
    this.#cache.set(path, node);
    return node;
  }

  #existing(path: string): TreeNode {
    const node = this.find(path);
    if (isFailure(node)) throw new Error(`no node ${path}`);
    return node;
  }

  #shared(name: string): string {
    const known = this.#names.get(name);
    if (known !== undefined) return known;
    if (this.#names.size >= NAMES_MAX) this.#names.clear();
    this.#names.set(name, name);
    return name;
  }

  #childrenChange(node: TreeNode): void {
    node.generation = this.tick();
    if (this.#readers.size === 0) return;
    const readers = this.#readers.get(node);
    if (!readers) return;
    this.#readers.delete(node);
    for (const reader of readers) reader.childrenChange();
  }

  #forgetSubtree(top: TreeNode): number {
    const left = [top];
    let count = 0;
    // What goes is summed up as long as the owner is the same.
    let { owner } = top.perms;
    let nodes = 0;
    let memory = 0;
    for (let node = left.pop(); node; node = left.pop()) {
      const { perms, children } = node;
      if (perms.owner !== owner) {
        this.accounts.of(owner).release(nodes, memory);
        ({ owner } = perms);
        nodes = 0;
        memory = 0;
      }
      nodes++;
      memory += node.memory;
      node.generation = 0;
      count++;
      if (children) for (const child of children.values()) left.push(child);
    }
    this.accounts.of(owner).release(nodes, memory);
    return count;
  }

  #account(node: TreeNode): void {
    const account = this.accounts.of(node.perms.owner);
    account.own(node);
    account.memory += node.memory;
  }

  #resizeChildren(parent: TreeNode, bytes: number): void {
    parent.childBytes += bytes;
    this.accounts.of(parent.perms.owner).memory += bytes;
  }
}
