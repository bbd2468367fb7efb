/** Registered watches, found by path. */
import type { StoreConnection } from './connection.ts';
import { parentOf } from './paths.ts';

export interface Watch {
  readonly connection: StoreConnection;
  /** Absolute path or special name. */
  readonly path: string;
  readonly token: string;
  /** Characters to drop from a changed path: the client named its watch relative to its own directory. */
  readonly prefixLength: number;
  /** Order of registration. */
  readonly sequence: number;
}

export class WatchIndex {
  readonly #byPath = new Map<string, Set<Watch>>();
  #sequence = 0;

  add(connection: StoreConnection, path: string, token: string, prefixLength: number): Watch {
    const watch: Watch = { connection, path, token, prefixLength, sequence: this.#sequence++ };
    let set = this.#byPath.get(path);
    if (!set) this.#byPath.set(path, (set = new Set()));
    set.add(watch);
    connection.watches.add(watch);
    return watch;
  }

  remove(watch: Watch): void {
    const set = this.#byPath.get(watch.path);
    set?.delete(watch);
    if (set?.size === 0) this.#byPath.delete(watch.path);
    watch.connection.watches.delete(watch);
  }

  get empty(): boolean {
    return this.#byPath.size === 0;
  }

  /** Watches that a change of `path` concerns, in order of registration: those on it and, unless `exact`, on its ancestors. */
  matching(path: string, exact: boolean): Watch[] {
    const found: Watch[] = [...(this.#byPath.get(path) ?? [])];
    if (!exact && !path.startsWith('@')) {
      for (let at = path; at !== '/';) {
        at = parentOf(at);
        const set = this.#byPath.get(at);
        if (set) found.push(...set);
      }
    }
    return found.length > 1 ? found.sort((a, b) => a.sequence - b.sequence) : found;
  }
}

/** The event that a change of `path` sends for `watch`. */
export function notifyWatch(watch: Watch, path: string): void {
  watch.connection.output.event(path.slice(watch.prefixLength), watch.token);
  watch.connection.wake();
}
