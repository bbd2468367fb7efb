/**
 * xenstored without its transports: requests in, replies and events out through each connection's queue. No I/O; what needs the world
 * outside goes through the ports of ports.ts and journal.ts. Answers are those of the C daemon 4.17 (tools/xenstore).
 */
import { systemClock } from '@xenhost/base';
import type { Clock } from '@xenhost/base';
import { XS_HEADER_SIZE, XS_PAYLOAD_MAX, XsOp, xsOpName } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';
import { Accounts } from './accounts.ts';
import type { Account } from './accounts.ts';
import { captureState, restoreState } from './capture.ts';
import { checkStore } from './check.ts';
import { StoreConnection } from './connection.ts';
import { checkDomains, domainGone, introduceDomain } from './domain-life.ts';
import type { DomainCondition } from './domain-life.ts';
import { Domains } from './domains.ts';
import type { IntroducedDomain } from './domains.ts';
import { WatchEvents } from './events.ts';
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import type { JournalPort, StoreChange } from './journal.ts';
import { DEFAULT_QUOTAS, UNCHECKED_REPLY_BYTES } from './limits.ts';
import type { Quotas } from './limits.ts';
import { logRequest } from './merge.ts';
import { Metrics } from './metrics.ts';
import { operationOf } from './operations.ts';
import { Listings } from './ops-nodes.ts';
import type { Cause } from './output.ts';
import { parentOf } from './paths.ts';
import type { PermList } from './perms.ts';
import type { ControlPort, DomainGate, TracePort } from './ports.ts';
import { ACK, Again, Later, WithAfter } from './request.ts';
import type { Outcome, Request } from './request.ts';
import { applyChanges, snapshot } from './restore.ts';
import { Rights } from './rights.ts';
import type { CoreState } from './state.ts';
import type { Transaction } from './transaction.ts';
import { Transactions } from './transactions.ts';
import type { ConflictPolicy } from './transactions.ts';
import { Tree } from './tree.ts';
import type { Watch } from './watches.ts';
import { WriteLimit } from './write-limit.ts';

export type { DomainCondition } from './domain-life.ts';
export type { IntroducedDomain } from './domains.ts';
export type { ControlPort, DomainGate, TracePort } from './ports.ts';
export type { ConflictPolicy } from './transactions.ts';

export interface CoreOptions {
  readonly quotas?: Partial<Quotas>;
  /** Default: `eagain`. */
  readonly conflictPolicy?: ConflictPolicy;
}

export interface CoreModules {
  readonly gate: DomainGate;
  /** Where unexpected things and the access log go. */
  readonly log: (message: string, data: Readonly<Record<string, unknown>>) => void;
  readonly clock?: Clock;
  readonly journal?: JournalPort;
  readonly control?: ControlPort;
  /** The access log. Without it a request is a line of `log`. */
  readonly trace?: TracePort;
  /**
   * Which of these domains exist, as the hypervisor knows: asked when rights first name a domain. Rights of one that does not exist
   * are nobody's. Without it all are taken to exist.
   */
  readonly existing?: (domids: readonly number[]) => Promise<ReadonlySet<number>>;
}

const FIRST_NODES = ['/tool', '/tool/xenstored'] as const;
const NS_PER_MS = 1_000_000n;
/** A domain's memory is told of at most so often. */
const WARNING_INTERVAL_MS = 10_000;

export class XenstoreCore {
  quotas: Quotas;
  /** Whether each request is logged. */
  accessLog = false;
  readonly accounts = new Accounts();
  readonly tree = new Tree(this.accounts);
  readonly known = new Domains();
  readonly connections = new Set<StoreConnection>();
  readonly rights = new Rights({
    known: this.known,
    generation: () => this.tree.generation,
    newGeneration: () => this.tree.tick(),
    note: (change) => {
      this.note(change);
    },
  });
  readonly events: WatchEvents;
  readonly writeLimit = new WriteLimit();
  readonly listings = new Listings();
  readonly metrics = new Metrics();
  readonly transactions: Transactions;
  readonly log: CoreModules['log'];
  readonly control: ControlPort;
  readonly gate: DomainGate;
  /** Stands for Domain-0 where a domain's connection is asked for. */
  readonly domain0: StoreConnection;
  /** Has asked for the live update that is under way. */
  updating: StoreConnection | undefined = undefined;
  nextConnectionId = 1;
  readonly #journal: JournalPort | undefined;
  readonly #clock: Clock;
  readonly #existing: CoreModules['existing'];
  readonly #trace: TracePort | undefined;
  /** Introductions under way by domain: the next one of the same domain waits. */
  readonly #introducing = new Map<number, Promise<void>>();

  constructor(options: CoreOptions, modules: CoreModules) {
    this.quotas = { ...DEFAULT_QUOTAS, ...options.quotas };
    this.transactions = new Transactions(options.conflictPolicy ?? 'eagain', this);
    this.log = modules.log;
    this.control = modules.control ?? {};
    this.gate = modules.gate;
    this.#journal = modules.journal;
    this.#clock = modules.clock ?? systemClock;
    this.#existing = modules.existing;
    this.#trace = modules.trace;
    this.events = new WatchEvents({
      tree: this.tree,
      special: this.rights.special,
      refusesMemory: (account, added) => this.refusesMemory(account, added),
      nowMs: () => this.nowMs(),
      queued: (connection, payload) => {
        if (this.accessLog) this.#trace?.event(connection, payload);
      },
    });
    this.domain0 = new StoreConnection(0, this.accounts.of(0), false, 0);
    this.tree.describe = (perms) => this.rights.describe(perms);
    for (const path of FIRST_NODES) this.tree.create(path, this.tree.root.perms, '');
    if (this.#journal) this.tree.changes = [];
  }

  /** Introduced domains. */
  get domains(): ReadonlyMap<number, IntroducedDomain> {
    return this.known.introduced;
  }

  /** Open transactions of all clients. */
  get nrTransactions(): number {
    return this.transactions.open;
  }

  /** Nothing waits for the world outside: captureState() can be called. */
  get quiescent(): boolean {
    for (const connection of this.connections) if (connection.busy && connection !== this.updating) return false;
    return this.#introducing.size === 0;
  }

  nowMs(): number {
    return Number(this.#clock.monotonicNs() / NS_PER_MS);
  }

  /** A new client. Domain 0 stands for any tool on the socket; others are on a ring. */
  connect(domid = 0): StoreConnection {
    const birth = this.known.birth(domid, () => this.tree.tick());
    return this.addConnection(new StoreConnection(this.nextConnectionId, this.accounts.of(domid), domid !== 0, birth));
  }

  addConnection(connection: StoreConnection): StoreConnection {
    this.nextConnectionId = Math.max(this.nextConnectionId, connection.id) + 1;
    this.connections.add(connection);
    return connection;
  }

  /** The client is gone: its watches and transactions end, its output is dropped. */
  disconnect(connection: StoreConnection): void {
    if (connection.closed) return;
    connection.closed = true;
    this.connections.delete(connection);
    this.resetConnection(connection);
    connection.output.clear();
    this.setTarget(connection, undefined);
    for (const other of connection.targetedBy) this.setTarget(other, undefined);
  }

  /** A domain broke the protocol of its ring: it is neither heard nor told anything until it is introduced again. */
  ignore(connection: StoreConnection): void {
    connection.ignored = true;
    this.resetConnection(connection);
    connection.output.clear();
  }

  /** Whether the next request of this client may be run now; when not, ask again after a wake, and see readDelayMs(). */
  mayRead(connection: StoreConnection): boolean {
    if (connection.busy || connection.ignored || connection.closed) return false;
    if (connection.privileged) return true;
    const { account } = connection;
    if (account.outstanding >= this.quotas.outstanding || account.memory >= this.quotas.memory) return false;
    return this.readDelayMs(connection) === undefined;
  }

  /** Milliseconds after which to ask mayRead() again, when a guest has written too much lately. */
  readDelayMs(connection: StoreConnection): number | undefined {
    const credit = this.known.introduced.get(connection.domid)?.credit;
    if (!credit || credit.value >= 0) return undefined;
    return this.writeLimit.delayMs(credit, this.nowMs()) || undefined;
  }

  /** Drops events that a guest has not begun to take in time; milliseconds until there will be more to drop. */
  expireEvents(connection: StoreConnection): number | undefined {
    return connection.output.timed ? connection.output.expire(this.nowMs()) : undefined;
  }

  /** Runs one request; the reply goes to the connection's queue. Never throws: our bug becomes EIO and a log line. */
  handle(connection: StoreConnection, packet: XsPacket): void {
    if (this.accessLog) this.#traceRequest(connection, packet);
    this.events.begin(connection);
    let outcome: Outcome;
    try {
      outcome = this.#run(connection, packet);
    } catch (error) {
      this.log('request failed', { op: xsOpName(packet.op), domid: connection.domid, err: error });
      outcome = fail('EIO');
    }
    this.flushJournal();
    const cause = this.events.end();
    if (outcome instanceof Later) this.#finishLater(connection, packet, outcome);
    else if (outcome instanceof Again) this.#runAgain(connection, outcome);
    else this.#finish(connection, packet, outcome, cause);
  }

  /** Asks the hypervisor for domains that nobody has named yet; undefined where it cannot be asked. */
  lookFor({ connection, packet }: Request, domids: readonly number[]): Again | undefined {
    const existing = this.#existing;
    if (!existing) return undefined;
    // The payload is a view of bytes that the transport may reuse.
    const kept: XsPacket = { ...packet, payload: Buffer.from(packet.payload) };
    const run = (found: ReadonlySet<number>): void => {
      this.known.absent = new Set(domids.filter((domid) => !found.has(domid)));
      for (const domid of domids) if (found.has(domid)) this.known.birth(domid, () => this.tree.tick());
      this.handle(connection, kept);
      this.known.absent = new Set();
    };
    return new Again(domids, () => existing(domids), run);
  }

  /** Queues the reply to a request that has waited. */
  answer(connection: StoreConnection, packet: XsPacket, outcome: string | XsFailure): void {
    if (!connection.closed) this.#finish(connection, packet, outcome, undefined);
  }

  /** A node was written or created: tells watchers, after the commit when in a transaction. */
  changed(request: Request, path: string, oldPerms?: PermList): void {
    if (request.transaction) request.transaction.queueWatch(path);
    else this.events.changed(path, oldPerms);
  }

  /** Removes an existing node other than `/`, and tells watchers. */
  remove(request: Request, path: string): typeof ACK | XsFailure {
    const { transaction } = request;
    if (transaction) {
      const parent = transaction.find(parentOf(path));
      if (isFailure(parent)) return parent;
      if (!isFailure(transaction.remove(path))) return ACK;
      transaction.failed = true;
      return fail('EIO');
    }
    const node = this.tree.lookup(path);
    if (!node) throw new Error(`no node ${path}`);
    this.events.beforeRemoval(path, node);
    // Each node, and its name in its parent.
    this.debit(request, 2 * this.tree.remove(path));
    return ACK;
  }

  /** What writes cost a guest while transactions are open. */
  debit(request: Pick<Request, 'connection' | 'transaction'>, writes: number): void {
    if (this.transactions.open === 0 || request.transaction || request.connection.privileged) return;
    const credit = this.known.introduced.get(request.connection.domid)?.credit;
    if (credit) this.writeLimit.debit(credit, writes, this.nowMs());
  }

  /** Whether an account may not grow by so many bytes. Notes when it comes near. */
  refusesMemory(account: Account, added: number): boolean {
    if (!account.limited) return false;
    const memory = account.memory + added;
    if (memory >= this.quotas.memorySoft !== account.warned) this.#warn(account, memory);
    return memory >= this.quotas.memory;
  }

  addWatch(connection: StoreConnection, path: string, token: string, relative: boolean, sequence?: number): Watch {
    if (connection.isRing) connection.account.watches++;
    connection.account.memory += path.length + token.length;
    return this.events.index.add(connection, path, token, relative, sequence);
  }

  removeWatch(watch: Watch): void {
    const { account, isRing } = watch.connection;
    if (isRing) account.watches--;
    account.memory -= watch.path.length + watch.token.length;
    this.events.index.remove(watch);
  }

  /** Drops all watches and transactions. */
  resetConnection(connection: StoreConnection): void {
    for (const watch of [...connection.watches]) this.removeWatch(watch);
    for (const transaction of [...connection.transactions.values()]) this.transactions.end(connection, transaction);
  }

  setTarget(connection: StoreConnection, target: StoreConnection | undefined): void {
    connection.target?.targetedBy.delete(connection);
    connection.target = target;
    target?.targetedBy.add(connection);
  }

  /** Connects a domain and tells @introduceDomain; a domain that is known gets its session and ring reset. Domain-0 has no ring. */
  async introduce(domid: number, mfn: string, port: number): Promise<void> {
    if (domid === 0) return;
    const before = this.#introducing.get(domid);
    const turn = (before ?? Promise.resolve()).then(() => introduceDomain(this, domid, mfn, port));
    const settled = turn.catch(() => undefined);
    this.#introducing.set(domid, settled);
    try {
      await turn;
    } finally {
      if (this.#introducing.get(domid) === settled) this.#introducing.delete(domid);
    }
  }

  /** Forgets a domain: session, ring, the nodes it owns; tells @releaseDomain when it was introduced. Nothing when it is not known. */
  domainGone(domid: number): void {
    domainGone(this, domid);
  }

  /**
   * After VIRQ_DOM_EXC: what has become of the domains. True when more have died than are handled in one turn: call again.
   */
  checkDomains(conditionOf: (domid: number) => DomainCondition): boolean {
    return checkDomains(this, conditionOf);
  }

  /** Nodes of the daemon itself, made at its start: existing ones stay as they are. */
  setup(nodes: readonly (readonly [path: string, value: string])[]): void {
    for (const [path, value] of nodes) {
      if (!this.tree.lookup(path)) this.tree.create(path, this.tree.root.perms, value);
    }
    this.flushJournal();
  }

  /** Recounts all accounts and looks through the tree's own structure; true when all is exact. */
  checkAccounts(): boolean {
    const faults = checkStore(this);
    for (const fault of faults) this.log('store is wrong', fault);
    return faults.length === 0;
  }

  /** Changes that, applied to any core by restore(), give this one's store. The core must not change meanwhile. */
  snapshot(): Iterable<StoreChange> {
    return snapshot(this);
  }

  /** Applies changes noted before, by this daemon or the one before it. Before any client; nobody is told. */
  restore(changes: Iterable<StoreChange>): void {
    const noted = this.tree.changes;
    this.tree.changes = undefined;
    applyChanges(this, changes);
    this.tree.changes = noted;
  }

  /** Everything, for the daemon that takes over. Only while `quiescent`. */
  captureState(): CoreState {
    return captureState(this);
  }

  /** Takes over what another core captured. Before any client. Connections by their id: the transport gives each its `wake`. */
  restoreState(state: CoreState): ReadonlyMap<number, StoreConnection> {
    const noted = this.tree.changes;
    this.tree.changes = undefined;
    const restored = restoreState(this, state);
    this.tree.changes = noted;
    return restored;
  }

  note(change: StoreChange): void {
    this.tree.changes?.push(change);
  }

  flushJournal(): void {
    const { changes } = this.tree;
    if (!changes || changes.length === 0) return;
    this.tree.changes = [];
    this.#journal?.committed(changes);
  }

  #run(connection: StoreConnection, packet: XsPacket): Outcome {
    const operation = operationOf(packet.op);
    if (!operation) return fail('ENOSYS');
    if (operation.privileged && !connection.privileged) return fail('EACCES');
    let transaction: Transaction | undefined;
    if (packet.txId !== 0 && !operation.ignoresTransaction) {
      transaction = connection.transactions.get(packet.txId);
      if (!transaction) return fail('ENOENT');
    }
    const store = transaction ?? this.tree;
    const outcome = operation.handler({ core: this, connection, packet, transaction, store });
    if (transaction) logRequest(transaction, packet, outcome);
    return outcome;
  }

  #runAgain(connection: StoreConnection, { domids, ask, run }: Again): void {
    connection.busy = true;
    void ask()
      .catch((error: unknown) => {
        this.log('cannot ask for domains', { domids, err: error });
        return new Set(domids);
      })
      .then((found) => {
        connection.busy = false;
        if (!connection.closed) run(found);
      });
  }

  #finishLater(connection: StoreConnection, packet: XsPacket, { outcome }: Later): void {
    connection.busy = true;
    void outcome.then((settled) => {
      connection.busy = false;
      if (settled !== undefined) this.answer(connection, packet, settled);
      else connection.wake();
    });
  }

  #finish(
    connection: StoreConnection,
    packet: XsPacket,
    outcome: string | XsFailure | WithAfter,
    cause: Cause | undefined,
  ): void {
    const { op, reqId, txId } = packet;
    const failure = isFailure(outcome) ? outcome : undefined;
    const payload = outcome instanceof WithAfter ? outcome.payload : isFailure(outcome) ? '' : outcome;
    const refused = failure ?? this.#refusesReply(connection, payload.length);
    this.metrics.count(op, refused?.code);
    if (this.accessLog) this.#trace?.reply(connection, packet, refused?.code, refused ? '' : payload);
    const { output } = connection;
    if (refused) output.reply(XsOp.ERROR, reqId, txId, `${refused.code}\0`, cause);
    else output.reply(op, reqId, txId, payload, cause);
    if (outcome instanceof WithAfter) outcome.after();
    connection.wake();
  }

  #warn(account: Account, memory: number): void {
    const now = this.nowMs();
    if (now - account.warnedMs < WARNING_INTERVAL_MS) return;
    account.warnedMs = now;
    account.warned = !account.warned;
    const message = account.warned ? 'domain exceeds soft memory quota' : 'domain below soft memory quota again';
    this.log(message, { domid: account.domid, memory });
  }

  #traceRequest(connection: StoreConnection, packet: XsPacket): void {
    if (this.#trace) this.#trace.request(connection, packet);
    else this.log('request', { op: xsOpName(packet.op), domid: connection.domid, txId: packet.txId });
  }

  #refusesReply({ account }: StoreConnection, bytes: number): XsFailure | undefined {
    if (bytes <= UNCHECKED_REPLY_BYTES) return undefined;
    if (bytes > XS_PAYLOAD_MAX) return fail('E2BIG');
    return this.refusesMemory(account, bytes + XS_HEADER_SIZE) ? fail('ENOMEM') : undefined;
  }
}
