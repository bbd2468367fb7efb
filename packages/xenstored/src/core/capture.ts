/** The whole core to plain data and back, for live update. The layout is state.ts. */
import { XS_HEADER_SIZE } from '@xenhost/xs-wire';
import { StoreConnection } from './connection.ts';
import type { XenstoreCore } from './core.ts';
import { addDomain } from './domain-life.ts';
import { isFailure } from './failure.ts';
import { MergeLog } from './merge.ts';
import { Cause } from './output.ts';
import { PermList, dom0Only } from './perms.ts';
import { CORE_STATE_VERSION } from './state.ts';
import type { ConnectionState, CoreState, DomainState, OutputState, PermsState, TransactionState } from './state.ts';
import { TouchedNode } from './transaction.ts';
import type { Transaction } from './transaction.ts';
import type { TreeNode } from './tree.ts';

/** Gives each of what it is shown a number, once. */
class Numbers<T extends object> {
  readonly #numbers = new Map<T, number>();

  of(thing: T): number {
    let number = this.#numbers.get(thing);
    if (number === undefined) this.#numbers.set(thing, (number = this.#numbers.size));
    return number;
  }

  all(): T[] {
    return [...this.#numbers.keys()];
  }
}

export function captureState(core: XenstoreCore): CoreState {
  if (!core.quiescent) throw new Error('a request waits for the world outside');
  const perms = new Numbers<PermList>();
  const causes = new Numbers<Cause>();
  const { tree } = core;
  const nowMs = core.nowMs();
  // All that names rights comes before their table.
  const nodes = [...tree.walk()].map(
    ([, node, depth]) => [depth, node.name, node.value, perms.of(node.perms), node.generation] as const,
  );
  const special = [...core.rights.special].map(([name, list]) => [name, perms.of(list)] as const);
  const connections = [...core.connections].map((each) => captureConnection(each, perms, causes, nowMs));
  return {
    version: CORE_STATE_VERSION,
    quotas: core.quotas,
    policy: core.transactions.policy,
    accessLog: core.accessLog,
    generation: tree.generation,
    nextConnectionId: core.nextConnectionId,
    nodes,
    special,
    domains: captureDomains(core, nowMs),
    writeReserve: core.writeLimit.reserve,
    connections,
    perms: perms.all().map((list): PermsState => ({ entries: core.rights.describe(list), stamp: list.stamp })),
    causes: causes.all().map(({ account }) => (core.accounts.of(account.domid) === account ? account.domid : -1)),
  };
}

function captureDomains(core: XenstoreCore, nowMs: number): DomainState[] {
  return [...core.known.known()].map(([domid, birth]): DomainState => {
    const domain = core.domains.get(domid);
    if (!domain) return { domid, birth };
    const { mfn, port, shutdown, connection, credit } = domain;
    core.writeLimit.update(nowMs);
    return { domid, birth, introduced: { mfn, port, shutdown, connection: connection.id, writeCredit: credit.value } };
  });
}

function captureConnection(
  connection: StoreConnection,
  perms: Numbers<PermList>,
  causes: Numbers<Cause>,
  nowMs: number,
): ConnectionState {
  const { id, domid, target, ignored, nextTransactionId } = connection;
  return {
    id,
    domid,
    isRing: connection.isRing,
    target: target?.domid,
    ignored,
    nextTransactionId,
    watches: [...connection.watches].map(({ path, token, relative, sequence }) => ({
      path,
      token,
      relative,
      sequence,
    })),
    transactions: [...connection.transactions.values()].map((each) => captureTransaction(each, perms)),
    output: [...connection.output.waiting()].map(({ packet, bytes, taken }): OutputState => {
      const { kind, key, cause, expiresAt } = packet;
      return {
        bytes: bytes.toString('latin1'),
        taken,
        kind,
        repeatable: key === undefined,
        cause: cause && causes.of(cause),
        expiresInMs: expiresAt === Infinity ? undefined : expiresAt - nowMs,
      };
    }),
  };
}

function captureTransaction(transaction: Transaction, perms: Numbers<PermList>): TransactionState {
  const { id, failed, created, generation, log } = transaction;
  const optional = (list: PermList | undefined): number | undefined => list && perms.of(list);
  return {
    id,
    failed,
    created,
    generation,
    log: log && { requests: log.requests?.map(({ op, payload, reply }) => [op, payload, reply] as const) },
    nodes: [...transaction.nodesDelta],
    touched: [...transaction.touched.values()].map((node) => ({
      path: node.path,
      baseGeneration: node.baseGeneration,
      oldPerms: optional(node.oldPerms),
      exists: node.exists,
      value: node.value,
      perms: perms.of(node.perms),
      generation: node.generation,
      childBytes: node.childBytes,
      baseGone: node.baseGone,
      valueSet: node.valueSet,
      permsSet: node.permsSet,
      modified: node.modified,
      fire: node.fire,
      createdAt: node.createdAt,
      added: [...(node.added ?? [])],
      removed: [...(node.removed ?? [])],
      // Of a node that has changed or gone since, the names as they were.
      baseNames: node.keptNames ?? (node.base?.generation === 0 ? [...node.base.childNames()] : undefined),
    })),
  };
}

export function restoreState(core: XenstoreCore, state: CoreState): ReadonlyMap<number, StoreConnection> {
  if (state.version !== CORE_STATE_VERSION) throw new Error(`state of version ${state.version} cannot be taken over`);
  const perms = state.perms.map(({ entries, stamp }) => new PermList(entries, stamp));
  const permsAt = (index: number): PermList => perms[index] ?? dom0Only();
  core.quotas = state.quotas;
  core.transactions.policy = state.policy;
  core.accessLog = state.accessLog;
  restoreNodes(core, state, permsAt);
  for (const [name, index] of state.special) core.rights.special.set(name, permsAt(index));
  for (const { domid, birth } of state.domains) core.known.restoreBirth(domid, birth);
  const connections = new Map<number, StoreConnection>();
  for (const { id, domid, isRing } of state.connections) {
    const birth = core.known.birthIfKnown(domid);
    const connection = new StoreConnection(id, core.accounts.of(domid), isRing, birth);
    connections.set(id, core.addConnection(connection));
  }
  core.nextConnectionId = Math.max(core.nextConnectionId, state.nextConnectionId);
  for (const { introduced } of state.domains) {
    const connection = introduced && connections.get(introduced.connection);
    if (!connection) continue;
    const domain = addDomain(core, connection, introduced.mfn, introduced.port);
    domain.shutdown = introduced.shutdown;
    core.writeLimit.set(domain.credit, introduced.writeCredit);
  }
  core.writeLimit.restoreReserve(state.writeReserve);
  const causes = state.causes.map((domid) => (domid < 0 ? undefined : new Cause(core.accounts.of(domid))));
  for (const saved of state.connections) {
    const connection = connections.get(saved.id);
    if (connection) restoreConnection(core, connection, saved, permsAt, causes);
  }
  restoreCauses(state, causes);
  return connections;
}

function restoreNodes(core: XenstoreCore, state: CoreState, permsAt: (index: number) => PermList): void {
  const { tree } = core;
  const [root, ...others] = state.nodes;
  if (!root) throw new Error('state without nodes');
  tree.reset(permsAt(root[3]), root[2]);
  const line: TreeNode[] = [tree.root];
  const generations: (readonly [TreeNode, number])[] = [[tree.root, root[4]]];
  for (const [depth, name, value, perms, generation] of others) {
    const parent = line[depth - 1];
    if (!parent) throw new Error('state with a node that has no parent');
    const node = tree.attach(parent, name, permsAt(perms), value, generation);
    line.length = depth;
    line.push(node);
    generations.push([node, generation]);
  }
  // Children have changed their parents' while they were put in.
  for (const [node, generation] of generations) node.generation = generation;
  tree.continueFrom(state.generation);
}

function restoreConnection(
  core: XenstoreCore,
  connection: StoreConnection,
  saved: ConnectionState,
  permsAt: (index: number) => PermList,
  causes: readonly (Cause | undefined)[],
): void {
  connection.ignored = saved.ignored;
  connection.nextTransactionId = saved.nextTransactionId;
  const target = saved.target === 0 ? core.domain0 : core.domains.get(saved.target ?? -1)?.connection;
  if (target) core.setTarget(connection, target);
  for (const { path, token, relative, sequence } of saved.watches) {
    core.addWatch(connection, path, token, relative, sequence);
  }
  for (const transaction of saved.transactions) restoreTransaction(core, connection, transaction, permsAt);
  for (const { bytes, taken, kind, repeatable, cause, expiresInMs } of saved.output) {
    const packet = {
      size: taken + bytes.length,
      kind,
      key: kind === 'event' && !repeatable ? bytes.slice(Math.max(0, XS_HEADER_SIZE - taken)) : undefined,
      cause: cause === undefined ? undefined : causes[cause],
      expiresAt: expiresInMs === undefined ? Infinity : core.nowMs() + expiresInMs,
    };
    connection.output.restore(packet, Buffer.from(bytes, 'latin1'));
  }
}

/** Counts the events of each cause that still wait, and requests that are outstanding for them alone. */
function restoreCauses(state: CoreState, causes: readonly (Cause | undefined)[]): void {
  const replies = new Set<number>();
  for (const { output } of state.connections) {
    for (const { kind, cause } of output) {
      if (cause === undefined) continue;
      const restored = causes[cause];
      if (kind === 'reply') replies.add(cause);
      else if (restored) restored.events++;
    }
  }
  for (const [i, cause] of causes.entries()) {
    if (!cause || replies.has(i)) continue;
    cause.replyWaits = false;
    cause.account.outstanding++;
  }
}

function restoreTransaction(
  core: XenstoreCore,
  connection: StoreConnection,
  saved: TransactionState,
  permsAt: (index: number) => PermList,
): void {
  const transaction = core.transactions.make(connection, saved.id, saved.generation);
  core.transactions.add(connection, transaction);
  transaction.failed = saved.failed;
  transaction.created = saved.created;
  for (const [domid, delta] of saved.nodes) transaction.nodesDelta.set(domid, delta);
  for (const each of saved.touched) {
    const found = core.tree.find(each.path);
    // A node that has changed since is not the one that was read: it conflicts in any case.
    const base = isFailure(found) || each.baseGeneration === 0 ? undefined : found;
    const node = new TouchedNode(each.path, base, permsAt(each.perms), {
      baseGeneration: each.baseGeneration,
      oldPerms: each.oldPerms === undefined ? undefined : permsAt(each.oldPerms),
    });
    node.exists = each.exists;
    node.value = each.value;
    node.perms = permsAt(each.perms);
    node.generation = each.generation;
    node.childBytes = each.childBytes;
    node.baseGone = each.baseGone;
    node.valueSet = each.valueSet;
    node.permsSet = each.permsSet;
    node.modified = each.modified;
    node.fire = each.fire;
    node.createdAt = each.createdAt;
    if (each.added.length > 0) node.added = new Set(each.added);
    if (each.removed.length > 0) node.removed = new Set(each.removed);
    node.keptNames = each.baseNames;
    transaction.restoreNode(node);
  }
  if (!saved.log) {
    transaction.log = undefined;
    return;
  }
  transaction.log = new MergeLog(connection.account);
  if (!saved.log.requests) transaction.log.overflow();
  for (const [op, payload, reply] of saved.log.requests ?? []) transaction.log.add({ op, payload, reply });
}
