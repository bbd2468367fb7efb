/** Registered watches, found by path. */
import type { StoreConnection } from './connection.ts';
import { isSpecial } from './paths.ts';
import type { TreeNode } from './tree.ts';

export interface Watch {
  readonly connection: StoreConnection;
  /** Absolute path or special name. */
  readonly path: string;
  readonly token: string;
  /** The client named its watch relative to its own directory: so are its events. */
  readonly relative: boolean;
  /** Order of registration. */
  readonly sequence: number;
}

/** A piece of a watched path. Exists while there are watches at or below it. */
class Place {
  readonly parent: Place | undefined;
  readonly name: string;
  readonly watches = new Set<Watch>();
  readonly below = new Map<string, Place>();

  constructor(parent: Place | undefined, name: string) {
    this.parent = parent;
    this.name = name;
  }
}

export class WatchIndex {
  readonly #root = new Place(undefined, '');
  readonly #special = new Map<string, Set<Watch>>();
  #sequence = 0;
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(connection: StoreConnection, path: string, token: string, relative: boolean, sequence?: number): Watch {
    const watch: Watch = { connection, path, token, relative, sequence: sequence ?? this.#sequence };
    this.#sequence = Math.max(this.#sequence, watch.sequence) + 1;
    this.#setOf(path).add(watch);
    connection.watches.add(watch);
    this.#size++;
    return watch;
  }

  remove(watch: Watch): void {
    watch.connection.watches.delete(watch);
    this.#size--;
    if (isSpecial(watch.path)) {
      const set = this.#special.get(watch.path);
      set?.delete(watch);
      if (set?.size === 0) this.#special.delete(watch.path);
      return;
    }
    let place = this.#place(watch.path);
    place?.watches.delete(watch);
    while (place?.parent && place.watches.size === 0 && place.below.size === 0) {
      place.parent.below.delete(place.name);
      place = place.parent;
    }
  }

  /** The watch of a client on this very path with this token. */
  find(connection: StoreConnection, path: string, token: string): Watch | undefined {
    const there = isSpecial(path) ? this.#special.get(path) : this.#place(path)?.watches;
    if (!there) return undefined;
    // One client can have many watches, one path those of many clients.
    for (const watch of there.size < connection.watches.size ? there : connection.watches) {
      if (watch.connection === connection && watch.path === path && watch.token === token) return watch;
    }
    return undefined;
  }

  /** Watches that a change of `path` concerns, in order of registration: those on it and, unless `exact`, on its ancestors. */
  matching(path: string, exact: boolean): readonly Watch[] {
    if (isSpecial(path)) return [...(this.#special.get(path) ?? [])];
    if (exact) return [...(this.#place(path)?.watches ?? [])];
    const found: Watch[] = [];
    let place: Place | undefined = this.#root;
    for (let at = path.length > 1 ? 1 : 0; place;) {
      for (const watch of place.watches) found.push(watch);
      if (at <= 0) break;
      const slash = path.indexOf('/', at);
      place = place.below.get(slash < 0 ? path.slice(at) : path.slice(at, slash));
      at = slash + 1;
    }
    return found.length > 1 ? found.sort((a, b) => a.sequence - b.sequence) : found;
  }

  /** Nodes below `top` that have watches of their own, children before their parents, siblings in the tree's order. */
  *watchedBelow(top: TreeNode, path: string): Generator<readonly [path: string, node: TreeNode]> {
    const place = this.#size > 0 ? this.#place(path) : undefined;
    if (!place || place.below.size === 0) return;
    interface Level {
      readonly node: TreeNode;
      readonly path: string;
      readonly watched: boolean;
      readonly next: Iterator<readonly [TreeNode, Place]>;
    }
    const levels: Level[] = [{ node: top, path, watched: false, next: common(top, place).values() }];
    for (let level = levels.at(-1); level; level = levels.at(-1)) {
      const step = level.next.next();
      if (step.done === true) {
        levels.pop();
        if (level.watched) yield [level.path, level.node];
        continue;
      }
      const [node, at] = step.value;
      levels.push({
        node,
        path: `${level.path}/${node.name}`,
        watched: at.watches.size > 0,
        next: common(node, at).values(),
      });
    }
  }

  #setOf(path: string): Set<Watch> {
    if (isSpecial(path)) {
      let set = this.#special.get(path);
      if (!set) this.#special.set(path, (set = new Set()));
      return set;
    }
    let place = this.#root;
    for (const name of path === '/' ? [] : path.slice(1).split('/')) {
      let next = place.below.get(name);
      if (!next) place.below.set(name, (next = new Place(place, name)));
      place = next;
    }
    return place.watches;
  }

  #place(path: string): Place | undefined {
    let place: Place | undefined = this.#root;
    if (path === '/') return place;
    for (let at = 1; at > 0 && place;) {
      const slash = path.indexOf('/', at);
      place = place.below.get(slash < 0 ? path.slice(at) : path.slice(at, slash));
      at = slash + 1;
    }
    return place;
  }
}

/** Children of a node that have a place, in the node's order. */
function common(node: TreeNode, place: Place): (readonly [TreeNode, Place])[] {
  const { children } = node;
  if (!children) return [];
  const found: (readonly [TreeNode, Place])[] = [];
  if (place.below.size === 1) {
    for (const [name, below] of place.below) {
      const child = children.get(name);
      if (child) found.push([child, below]);
    }
    return found;
  }
  for (const [name, child] of children) {
    const below = place.below.get(name);
    if (below) found.push([child, below]);
  }
  return found;
}

/** The path in an event for `watch`. */
export const eventPath = (watch: Watch, path: string): string =>
  watch.relative ? path.slice(watch.connection.implicitPath.length + 1) : path;
