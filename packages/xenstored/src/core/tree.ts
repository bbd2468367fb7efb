/**
 * The tree of nodes, and the interface that operations use on it and on a transaction's view of it alike.
 * No permissions are checked and no watches fire here.
 */
import type { XsPerm } from '@xenhost/xs-wire';
import type { Accounts } from './accounts.ts';
import { NODE_HEADER_BYTES, PERM_BYTES } from './limits.ts';
import { baseName, childPath, parentOf, segments } from './paths.ts';

/** A node as read. Values and permission lists are never changed in place. */
export interface NodeState {
  readonly value: Buffer;
  readonly perms: readonly XsPerm[];
  /** Changes whenever value, permissions or list of children change; unique over all nodes and time. */
  readonly generation: number;
  /** Bytes of the children's names with their NULs. */
  readonly childBytes: number;
  /** In order of creation. */
  childNames(): Iterable<string>;
}

export interface NodeStore {
  find(path: string): NodeState | undefined;
  /** The parent must exist, the node must not. */
  create(path: string, perms: readonly XsPerm[], value: Buffer): void;
  setValue(path: string, value: Buffer): void;
  setPerms(path: string, perms: readonly XsPerm[]): void;
  /** Removes an existing node with all below it; not `/`. */
  remove(path: string): void;
  /** Nodes that `domid` owns, as seen here. */
  nodesOwnedBy(domid: number): number;
}

/** Bytes of the record that the node-size quota counts. */
export const recordBytes = (valueBytes: number, nrPerms: number, childBytes: number): number =>
  NODE_HEADER_BYTES + PERM_BYTES * nrPerms + valueBytes + childBytes;

class TreeNode implements NodeState {
  value: Buffer;
  perms: readonly XsPerm[];
  generation: number;
  childBytes = 0;
  children: Map<string, TreeNode> | undefined;
  /** Bytes of the node's path, part of what it costs its owner. */
  readonly pathBytes: number;

  constructor(pathBytes: number, perms: readonly XsPerm[], value: Buffer, generation: number) {
    this.pathBytes = pathBytes;
    this.perms = perms;
    this.value = value;
    this.generation = generation;
  }

  childNames(): Iterable<string> {
    return this.children?.keys() ?? [];
  }

  get owner(): number {
    return this.perms[0]?.domid ?? 0;
  }

  get memory(): number {
    return this.pathBytes + recordBytes(this.value.length, this.perms.length, this.childBytes);
  }
}

export class Tree implements NodeStore {
  readonly #root: TreeNode;
  readonly #accounts: Accounts;
  #generation = 0;

  constructor(accounts: Accounts) {
    this.#accounts = accounts;
    this.#root = new TreeNode(1, [{ domid: 0, access: 'none' }], Buffer.alloc(0), this.#tick());
    this.#account(this.#root, 1);
  }

  find(path: string): TreeNode | undefined {
    let node: TreeNode | undefined = this.#root;
    for (const name of segments(path)) {
      node = node.children?.get(name);
      if (node === undefined) return undefined;
    }
    return node;
  }

  create(path: string, perms: readonly XsPerm[], value: Buffer): void {
    const parent = this.#existing(parentOf(path));
    const name = baseName(path);
    parent.children ??= new Map();
    if (parent.children.has(name)) throw new Error(`node exists: ${path}`);
    const node = new TreeNode(path.length, perms, value, this.#tick());
    parent.children.set(name, node);
    this.#account(node, 1);
    this.#resizeChildren(parent, name.length + 1);
    parent.generation = this.#tick();
  }

  setValue(path: string, value: Buffer): void {
    const node = this.#existing(path);
    this.#accounts.of(node.owner).memory += value.length - node.value.length;
    node.value = value;
    node.generation = this.#tick();
  }

  setPerms(path: string, perms: readonly XsPerm[]): void {
    const node = this.#existing(path);
    this.#account(node, -1);
    node.perms = perms;
    this.#account(node, 1);
    node.generation = this.#tick();
  }

  remove(path: string): void {
    const parent = this.#existing(parentOf(path));
    const name = baseName(path);
    const node = parent.children?.get(name);
    if (path === '/' || !node) throw new Error(`cannot remove ${path}`);
    parent.children?.delete(name);
    this.#forgetSubtree(node);
    this.#resizeChildren(parent, -(name.length + 1));
    parent.generation = this.#tick();
  }

  nodesOwnedBy(domid: number): number {
    return this.#accounts.of(domid).nodes;
  }

  /** Puts the children of a node in this order; names that are not there are passed over, others keep their place behind. */
  reorderChildren(path: string, order: Iterable<string>): void {
    const node = this.#existing(path);
    const old = node.children;
    if (!old) return;
    const sorted = new Map<string, TreeNode>();
    for (const name of order) {
      const child = old.get(name);
      if (child) sorted.set(name, child);
    }
    for (const [name, child] of old) sorted.set(name, child);
    node.children = sorted;
  }

  /**
   * What a dead domain leaves: nodes it owns go with all below them (`beforeRemove` first), and its entries in other
   * nodes' permissions are dropped, so that a later domain of the same number does not inherit them.
   */
  purgeDomain(domid: number, beforeRemove: (path: string) => void): void {
    if (this.#root.owner === domid) this.setPerms('/', [{ domid: 0, access: 'none' }, ...this.#root.perms.slice(1)]);
    this.#purge(this.#root, '/', domid, beforeRemove);
  }

  /** Walks from `path` down, parents first. */
  *walk(path = '/'): Generator<readonly [string, TreeNode]> {
    const node = this.find(path);
    if (!node) return;
    yield [path, node];
    for (const name of node.childNames()) yield* this.walk(childPath(path, name));
  }

  #purge(node: TreeNode, path: string, domid: number, beforeRemove: (path: string) => void): void {
    if (node.perms.some((perm, i) => i > 0 && perm.domid === domid)) {
      this.#account(node, -1);
      node.perms = node.perms.filter((perm, i) => i === 0 || perm.domid !== domid);
      this.#account(node, 1);
      node.generation = this.#tick();
    }
    for (const [name, child] of [...(node.children ?? [])]) {
      const at = childPath(path, name);
      if (child.owner === domid) {
        beforeRemove(at);
        this.remove(at);
      } else {
        this.#purge(child, at, domid, beforeRemove);
      }
    }
  }

  #existing(path: string): TreeNode {
    const node = this.find(path);
    if (!node) throw new Error(`no node ${path}`);
    return node;
  }

  #forgetSubtree(node: TreeNode): void {
    this.#account(node, -1);
    for (const child of node.children?.values() ?? []) this.#forgetSubtree(child);
  }

  #account(node: TreeNode, sign: 1 | -1): void {
    const account = this.#accounts.of(node.owner);
    account.nodes += sign;
    account.memory += sign * node.memory;
  }

  #resizeChildren(parent: TreeNode, bytes: number): void {
    parent.childBytes += bytes;
    this.#accounts.of(parent.owner).memory += bytes;
  }

  #tick(): number {
    return ++this.#generation;
  }
}
