/**
 * xenstored without its transports: requests in, replies and events out through each connection's queue. No I/O and no
 * time; what needs the hypervisor goes through `DomainGate`. Answers are those of the C daemon 4.17 (tools/xenstore).
 */
import { XsOp, xsOpName } from '@xenhost/xs-wire';
import type { XsPacket, XsPerm } from '@xenhost/xs-wire';
import { Accounts } from './accounts.ts';
import { StoreConnection } from './connection.ts';
import { fail, isFailure } from './failure.ts';
import { DEFAULT_QUOTAS } from './limits.ts';
import type { Quotas } from './limits.ts';
import { OPERATIONS } from './operations.ts';
import { subtree } from './ops-nodes.ts';
import { parentOf } from './paths.ts';
import { MAY_READ, rightsOf } from './perms.ts';
import { Later, WithAfter } from './request.ts';
import type { Outcome, Request } from './request.ts';
import type { Transaction } from './transaction.ts';
import { Tree } from './tree.ts';
import type { NodeStore } from './tree.ts';
import { WatchIndex, notifyWatch } from './watches.ts';
import type { Watch } from './watches.ts';

/** What the core asks of the world outside. */
export interface DomainGate {
  /**
   * Connects a domain's ring, empty; for a domain already connected, with a new event channel. Rejects with an error that carries
   * an errno name as `code`.
   */
  introduce(connection: StoreConnection, mfn: bigint, port: number): Promise<void>;
  /** The domain is gone: gives its ring up. */
  release(domid: number): void;
}

export interface IntroducedDomain {
  readonly domid: number;
  readonly connection: StoreConnection;
  /** Its shutdown has been told by @releaseDomain. */
  shutdown: boolean;
}

/** What the hypervisor says of a domain. */
export type DomainCondition = 'alive' | 'shutdown' | 'gone';

export interface CoreOptions {
  readonly quotas?: Partial<Quotas>;
}

export interface CoreModules {
  readonly gate: DomainGate;
  /** Where unexpected things and the access log go. */
  readonly log: (message: string, data: Readonly<Record<string, unknown>>) => void;
}

const INTRODUCE_DOMAIN = '@introduceDomain';
const RELEASE_DOMAIN = '@releaseDomain';
const DOM0_ONLY: readonly XsPerm[] = [{ domid: 0, access: 'none' }];
const FIRST_NODES = ['/tool', '/tool/xenstored'] as const;

export class XenstoreCore {
  quotas: Quotas;
  /** Whether each request is logged. */
  accessLog = false;
  readonly accounts = new Accounts();
  readonly tree: Tree;
  readonly domains = new Map<number, IntroducedDomain>();
  readonly log: CoreModules['log'];
  readonly #gate: DomainGate;
  readonly #watches = new WatchIndex();
  readonly #special = new Map<string, readonly XsPerm[]>([
    [INTRODUCE_DOMAIN, DOM0_ONLY],
    [RELEASE_DOMAIN, DOM0_ONLY],
  ]);

  constructor(options: CoreOptions, modules: CoreModules) {
    this.quotas = { ...DEFAULT_QUOTAS, ...options.quotas };
    this.log = modules.log;
    this.#gate = modules.gate;
    this.tree = new Tree(this.accounts);
    for (const path of FIRST_NODES) this.tree.create(path, DOM0_ONLY, Buffer.alloc(0));
  }

  /** A new client. Domain 0 stands for any tool on the socket. */
  connect(domid = 0): StoreConnection {
    return new StoreConnection(domid, this.accounts.of(domid));
  }

  /** The client is gone: its watches and transactions end, its output is dropped. */
  disconnect(connection: StoreConnection): void {
    this.resetConnection(connection);
    connection.output.clear();
  }

  /** Runs one request; the reply goes to the connection's queue. Never throws: our bug becomes EIO and a log line. */
  handle(connection: StoreConnection, packet: XsPacket): void {
    if (this.accessLog) this.log('request', { op: xsOpName(packet.op), domid: connection.domid, txId: packet.txId });
    try {
      this.#finish(connection, packet, this.#run(connection, packet));
    } catch (error) {
      this.log('request failed', { op: xsOpName(packet.op), domid: connection.domid, err: error });
      this.#finish(connection, packet, fail('EIO'));
    }
  }

  /** A node was written or created: tells watchers, after the commit when in a transaction. */
  changed(request: Request, path: string, oldPerms?: readonly XsPerm[]): void {
    if (request.transaction) request.transaction.queueWatch(path, false);
    else this.fire(path, false, oldPerms);
  }

  /** A node and all below it are about to be removed. */
  removed(request: Pick<Request, 'store' | 'transaction'>, path: string): void {
    if (!request.transaction && this.#watches.empty) return;
    for (const [at, node] of subtree(request.store, path)) {
      if (request.transaction) request.transaction.queueWatch(at, at !== path);
      else this.fire(at, at !== path, node.perms);
    }
  }

  /** Tells watchers of `path` (and of its ancestors unless `exact`) who may read it, its parent, or could before (`oldPerms`). */
  fire(path: string, exact: boolean, oldPerms?: readonly XsPerm[]): void {
    for (const watch of this.#watches.matching(path, exact)) {
      if (this.#mayHear(watch.connection, path, oldPerms)) notifyWatch(watch, path);
    }
  }

  addWatch(connection: StoreConnection, path: string, token: string, prefixLength: number): Watch {
    connection.account.watches++;
    connection.account.memory += path.length + token.length;
    return this.#watches.add(connection, path, token, prefixLength);
  }

  removeWatch(watch: Watch): void {
    const { account } = watch.connection;
    account.watches--;
    account.memory -= watch.path.length + watch.token.length;
    this.#watches.remove(watch);
  }

  /** Takes a transaction off its connection. The caller commits or not, then disposes of it. */
  endTransaction(connection: StoreConnection, transaction: Transaction): void {
    connection.transactions.delete(transaction.id);
    connection.account.transactions--;
  }

  /** Drops all watches and transactions. */
  resetConnection(connection: StoreConnection): void {
    for (const watch of [...connection.watches]) this.removeWatch(watch);
    for (const transaction of [...connection.transactions.values()]) {
      this.endTransaction(connection, transaction);
      transaction.dispose();
    }
  }

  specialPerms(name: string): readonly XsPerm[] | undefined {
    return this.#special.get(name);
  }

  /** False when there is no such special name. */
  setSpecialPerms(name: string, perms: readonly XsPerm[]): boolean {
    if (!this.#special.has(name)) return false;
    this.#special.set(name, perms);
    return true;
  }

  /** Connects a domain and tells @introduceDomain; a domain that is known gets its session and ring reset. Domain-0 has no ring. */
  async introduce(domid: number, mfn: string, port: number): Promise<void> {
    if (domid === 0) return;
    const known = this.domains.get(domid);
    const connection = known?.connection ?? this.connect(domid);
    await this.#gate.introduce(connection, /^\d+$/.test(mfn) ? BigInt(mfn) : 0n, port);
    this.resetConnection(connection);
    connection.output.clear();
    if (known) return;
    this.domains.set(domid, { domid, connection, shutdown: false });
    this.fire(INTRODUCE_DOMAIN, true);
  }

  /** Forgets a domain: session, ring, the nodes it owns; tells @releaseDomain. Nothing when it is not known. */
  domainGone(domid: number): void {
    const domain = this.domains.get(domid);
    if (!domain) return;
    this.domains.delete(domid);
    this.disconnect(domain.connection);
    this.#gate.release(domid);
    this.tree.purgeDomain(domid, (path) => {
      this.removed({ store: this.tree, transaction: undefined }, path);
    });
    for (const [name, perms] of this.#special) {
      const left = perms.filter((perm, i) => i === 0 || perm.domid !== domid);
      this.#special.set(name, left);
    }
    this.fire(RELEASE_DOMAIN, true);
  }

  /** After VIRQ_DOM_EXC: what has become of the introduced domains. */
  checkDomains(conditionOf: (domid: number) => DomainCondition): void {
    let told = false;
    let toTell = false;
    for (const domain of [...this.domains.values()]) {
      const condition = conditionOf(domain.domid);
      if (condition === 'gone') {
        this.domainGone(domain.domid);
        told = true;
      } else if (condition === 'shutdown' && !domain.shutdown) {
        domain.shutdown = true;
        toTell = true;
      }
    }
    if (toTell && !told) this.fire(RELEASE_DOMAIN, true);
  }

  /** Recounts what the accounts say of nodes and their memory; true when exact. */
  checkAccounts(): boolean {
    const nodes = new Map<number, number>();
    for (const [, node] of this.tree.walk()) nodes.set(node.owner, (nodes.get(node.owner) ?? 0) + 1);
    let exact = true;
    for (const [domid, account] of this.accounts.entries()) {
      const counted = nodes.get(domid) ?? 0;
      if (account.nodes !== counted) {
        exact = false;
        this.log('account is wrong', { domid, nodes: account.nodes, counted });
      }
    }
    return exact;
  }

  #run(connection: StoreConnection, packet: XsPacket): Outcome {
    const operation = OPERATIONS.get(packet.op);
    if (!operation) return fail('ENOSYS');
    if (operation.privileged && !connection.privileged) return fail('EACCES');
    let transaction: Transaction | undefined;
    if (packet.txId !== 0 && !operation.ignoresTransaction) {
      transaction = connection.transactions.get(packet.txId);
      if (!transaction) return fail('ENOENT');
    }
    const store: NodeStore = transaction ?? this.tree;
    return operation.handler({ core: this, connection, packet, transaction, store });
  }

  #finish(connection: StoreConnection, packet: XsPacket, outcome: Outcome): void {
    const { op, reqId, txId } = packet;
    if (outcome instanceof Later) {
      connection.busy = true;
      void outcome.outcome.then((settled) => {
        connection.busy = false;
        this.#finish(connection, packet, settled);
      });
      return;
    }
    if (isFailure(outcome)) connection.output.reply(XsOp.ERROR, reqId, txId, `${outcome.code}\0`);
    else connection.output.reply(op, reqId, txId, outcome instanceof WithAfter ? outcome.payload : outcome);
    if (outcome instanceof WithAfter) outcome.after();
    connection.wake();
  }

  #mayHear(connection: StoreConnection, path: string, oldPerms: readonly XsPerm[] | undefined): boolean {
    if (connection.privileged) return true;
    const readable = (perms: readonly XsPerm[] | undefined): boolean =>
      perms !== undefined && (rightsOf(connection, perms) & MAY_READ) !== 0;
    if (path.startsWith('@')) return readable(this.#special.get(path));
    if (readable(oldPerms)) return true;
    const node = this.tree.find(path);
    return node !== undefined && (readable(node.perms) || readable(this.tree.find(parentOf(path))?.perms));
  }
}
