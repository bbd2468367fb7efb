/** Watch events: who hears of a change, and the queueing of what they hear (fire_watches() and send_event() of the C daemon). */
import type { Account } from './accounts.ts';
import type { StoreConnection } from './connection.ts';
import { XS_HEADER_SIZE } from '@xenhost/xs-wire';
import { EVENT_TIMEOUT_MS } from './limits.ts';
import { Cause } from './output.ts';
import { MAY_READ, rightsOf } from './perms.ts';
import type { PermList } from './perms.ts';
import type { CommittedChange } from './transaction.ts';
import type { Tree, TreeNode } from './tree.ts';
import { WatchIndex, eventPath } from './watches.ts';
import type { Watch } from './watches.ts';

export interface WatchEventsModules {
  readonly tree: Tree;
  readonly special: ReadonlyMap<string, PermList>;
  readonly refusesMemory: (account: Account, added: number) => boolean;
  readonly nowMs: () => number;
  /** An event has been queued. */
  readonly queued: (connection: StoreConnection, payload: string) => void;
}

export class WatchEvents {
  readonly index = new WatchIndex();
  readonly #modules: WatchEventsModules;
  /** The guest whose request is being run. */
  #requester: StoreConnection | undefined;
  #cause: Cause | undefined;
  #sent = 0;

  constructor(modules: WatchEventsModules) {
    this.#modules = modules;
  }

  /** Events queued so far. */
  get sent(): number {
    return this.#sent;
  }

  /** A request begins: what events it causes count as outstanding for it, when it is a guest's. */
  begin(requester: StoreConnection): void {
    this.#requester = requester.privileged ? undefined : requester;
    this.#cause = undefined;
  }

  /** The request is done: what holds its reply and its events together, if it caused any. */
  end(): Cause | undefined {
    const cause = this.#cause;
    this.#cause = undefined;
    this.#requester = undefined;
    return cause;
  }

  /** Tells watchers of `path` and of its ancestors who may read it or its parent, or could before. */
  changed(path: string, oldPerms: PermList | undefined): void {
    this.#fire(path, false, oldPerms);
  }

  committed(changes: readonly CommittedChange[]): void {
    for (const { path, exact, oldPerms } of changes) this.#fire(path, exact, oldPerms);
  }

  special(name: string): void {
    const perms = this.#modules.special.get(name);
    if (!perms) return;
    for (const watch of this.index.matching(name, true)) {
      if (rightsOf(watch.connection, perms) & MAY_READ) this.#notify(watch, name);
    }
  }

  /** A node is about to be removed from the tree: tells watchers of all nodes below it, then its own. */
  beforeRemoval(path: string, node: TreeNode): void {
    if (this.index.size === 0) return;
    for (const [at, below] of this.index.watchedBelow(node, path === '/' ? '' : path)) {
      for (const watch of this.index.matching(at, true)) {
        if (mayHear(watch.connection, below)) this.#notify(watch, at);
      }
    }
    this.#fire(path, false, undefined);
  }

  /** The event that a watch gets when it is registered: for the watched path itself, whether it exists or not. */
  first(watch: Watch): void {
    this.#send(watch, watch.path, undefined);
  }

  #fire(path: string, exact: boolean, oldPerms: PermList | undefined): void {
    if (this.index.size === 0) return;
    const watches = this.index.matching(path, exact);
    if (watches.length === 0) return;
    const node = this.#modules.tree.lookup(path);
    for (const watch of watches) {
      const { connection } = watch;
      if ((oldPerms && rightsOf(connection, oldPerms) & MAY_READ) || (node && mayHear(connection, node))) {
        this.#notify(watch, path);
      }
    }
  }

  #notify(watch: Watch, path: string): void {
    if (this.#requester) this.#cause ??= new Cause(this.#requester.account);
    this.#send(watch, path, this.#cause);
  }

  #send(watch: Watch, path: string, cause: Cause | undefined): void {
    const { connection, token } = watch;
    const { output, account } = connection;
    const payload = `${eventPath(watch, path)}\0${token}\0`;
    const { refusesMemory, nowMs, queued } = this.#modules;
    if (output.needless(payload) || refusesMemory(account, payload.length + XS_HEADER_SIZE)) return;
    output.event(payload, cause, connection.privileged ? Infinity : nowMs() + EVENT_TIMEOUT_MS);
    this.#sent++;
    queued(connection, payload);
    connection.wake();
  }
}

const mayHear = (connection: StoreConnection, node: TreeNode): boolean =>
  (rightsOf(connection, node.perms) & MAY_READ) !== 0 ||
  (rightsOf(connection, (node.parent ?? node).perms) & MAY_READ) !== 0;
