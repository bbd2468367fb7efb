/** Operations on nodes: DIRECTORY, DIRECTORY_PART, READ, WRITE, MKDIR, RM, GET_PERMS, SET_PERMS. */
import { XS_PAYLOAD_MAX, formatXsPerm, joinStrings, parseXsPerm, splitStrings } from '@xenhost/xs-wire';
import type { XsPerm } from '@xenhost/xs-wire';
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import { childPath, parentOf } from './paths.ts';
import { MAY_OWN, MAY_READ, MAY_WRITE } from './perms.ts';
import { ACK, canonicalPath, findNode, leadingInt, namedNode, oneString } from './request.ts';
import type { Handler, Request } from './request.ts';
import { recordBytes } from './tree.ts';
import type { NodeState } from './tree.ts';

const EMPTY = Buffer.alloc(0);

export const read: Handler = (request) => {
  const found = namedNode(request, MAY_READ);
  return isFailure(found) ? found : found.node.value;
};

export const directory: Handler = (request) => {
  const found = namedNode(request, MAY_READ);
  if (isFailure(found)) return found;
  return found.node.childBytes > XS_PAYLOAD_MAX ? fail('E2BIG') : joinStrings([...found.node.childNames()]);
};

/** Answers the generation, then as many whole names from byte `offset` on as fit; one NUL more when these are the last. */
export const directoryPart: Handler = (request) => {
  const { strings, rest } = splitStrings(request.packet.payload);
  const [given, offsetText] = strings;
  if (strings.length !== 2 || rest.length > 0 || given === undefined || offsetText === undefined) return fail('EINVAL');
  const path = canonicalPath(request, given);
  if (isFailure(path)) return path;
  const node = findNode(request, path, MAY_READ);
  if (isFailure(node)) return node;
  const generation = `${node.generation}\0`;
  const offset = leadingInt(offsetText);
  if (offset < 0 || offset >= node.childBytes) return `${generation}\0`;
  const room = XS_PAYLOAD_MAX - generation.length - 1;
  const all = joinStrings([...node.childNames()]);
  let end = offset;
  while (end < all.length) {
    const next = all.indexOf('\0', end) + 1;
    if (next - offset > room) break;
    end = next;
  }
  return generation + all.slice(offset, end) + (end === all.length ? '\0' : '');
};

export const getPerms: Handler = (request) => {
  const given = oneString(request.packet.payload);
  const special = given?.startsWith('@') ? request.core.specialPerms(given) : undefined;
  if (special && request.connection.privileged) return joinStrings(special.map(formatXsPerm));
  const found = namedNode(request, MAY_READ);
  return isFailure(found) ? found : joinStrings(found.node.perms.map(formatXsPerm));
};

export const write: Handler = (request) => {
  const { payload } = request.packet;
  const nul = payload.indexOf(0);
  const path = canonicalPath(request, nul < 0 ? undefined : payload.toString('latin1', 0, nul));
  if (isFailure(path)) return path;
  // A copy: the payload is a view of a larger receive buffer.
  const value = Buffer.from(payload.subarray(nul + 1));
  const node = findNode(request, path, MAY_WRITE);
  if (isFailure(node)) {
    if (node.code !== 'ENOENT') return node;
    const failure = createNode(request, path, value);
    if (failure) return failure;
  } else {
    const failure =
      overSize(request, recordBytes(value.length, node.perms.length, node.childBytes)) ??
      overMemory(request, value.length - node.value.length) ??
      overTouched(request);
    if (failure) return failure;
    request.store.setValue(path, value);
  }
  request.core.changed(request, path);
  return ACK;
};

export const mkdir: Handler = (request) => {
  const path = canonicalPath(request, oneString(request.packet.payload));
  if (isFailure(path)) return path;
  const node = findNode(request, path, MAY_WRITE);
  if (!isFailure(node)) return ACK;
  if (node.code !== 'ENOENT') return node;
  const failure = createNode(request, path, EMPTY);
  if (failure) return failure;
  request.core.changed(request, path);
  return ACK;
};

export const rm: Handler = (request) => {
  const path = canonicalPath(request, oneString(request.packet.payload));
  if (isFailure(path)) return path;
  const node = findNode(request, path, MAY_WRITE);
  if (isFailure(node)) {
    return node.code === 'ENOENT' && request.store.find(parentOf(path)) ? ACK : node;
  }
  if (path === '/') return fail('EINVAL');
  const failure = overTouched(request);
  if (failure) return failure;
  request.core.removed(request, path);
  request.store.remove(path);
  return ACK;
};

export const setPerms: Handler = (request) => {
  const { connection, core, store, packet } = request;
  const { strings, rest } = splitStrings(packet.payload);
  const [given, ...texts] = strings;
  if (given === undefined || texts.length === 0 || rest.length > 0) return fail('EINVAL');
  if (!connection.privileged && texts.length > core.quotas.permissions) return fail('ENOSPC');
  const perms: XsPerm[] = [];
  for (const text of texts) {
    const perm = parseXsPerm(text);
    if (!perm) return fail('EINVAL');
    perms.push(perm);
  }
  if (given.startsWith('@')) {
    if (!connection.privileged) return fail('EACCES');
    return core.setSpecialPerms(given, perms) ? ACK : fail('EINVAL');
  }
  const path = canonicalPath(request, given);
  if (isFailure(path)) return path;
  const node = findNode(request, path, MAY_WRITE | MAY_OWN);
  if (isFailure(node)) return node;
  const oldPerms = node.perms;
  if (!connection.privileged && perms[0]?.domid !== oldPerms[0]?.domid) return fail('EPERM');
  const failure =
    overSize(request, recordBytes(node.value.length, perms.length, node.childBytes)) ?? overTouched(request);
  if (failure) return failure;
  store.setPerms(path, perms);
  core.changed(request, path, oldPerms);
  return ACK;
};

/** Creates a node and its missing ancestors, all with the permissions of the nearest that exists; a guest owns what it creates. */
function createNode(request: Request, path: string, value: Buffer): XsFailure | undefined {
  const { store, connection } = request;
  const missing = [path];
  let at = parentOf(path);
  let ancestor: NodeState | undefined;
  while (!(ancestor = store.find(at))) {
    missing.unshift(at);
    at = parentOf(at);
  }
  const perms = connection.privileged ? ancestor.perms : ownedBy(connection.domid, ancestor.perms);
  const failure = guestMayCreate(request, ancestor, missing, perms, value);
  if (failure) return failure;
  for (const each of missing) store.create(each, perms, each === path ? value : EMPTY);
  return undefined;
}

function guestMayCreate(
  request: Request,
  ancestor: NodeState,
  missing: readonly string[],
  perms: readonly XsPerm[],
  value: Buffer,
): XsFailure | undefined {
  const { connection, core, store } = request;
  if (connection.privileged) return undefined;
  if (store.nodesOwnedBy(connection.domid) + missing.length > core.quotas.nodes) return fail('ENOSPC');
  const nameBytes = (path: string): number => path.length - path.lastIndexOf('/');
  const first = missing[0] ?? '';
  let bytes = 0;
  for (const [i, path] of missing.entries()) {
    const child = missing[i + 1];
    bytes += path.length + recordBytes(0, perms.length, child === undefined ? 0 : nameBytes(child));
  }
  return (
    overSize(request, recordBytes(value.length, perms.length, 0)) ??
    overSize(
      request,
      recordBytes(ancestor.value.length, ancestor.perms.length, ancestor.childBytes + nameBytes(first)),
    ) ??
    overMemory(request, bytes + value.length) ??
    overTouched(request)
  );
}

const ownedBy = (domid: number, perms: readonly XsPerm[]): readonly XsPerm[] =>
  perms[0]?.domid === domid ? perms : [{ domid, access: perms[0]?.access ?? 'none' }, ...perms.slice(1)];

/** ENOSPC when a guest's node would reach the node-size quota. */
function overSize(request: Request, bytes: number): XsFailure | undefined {
  const { connection, core } = request;
  return !connection.privileged && bytes >= core.quotas.nodeSize ? fail('ENOSPC') : undefined;
}

function overMemory(request: Request, added: number): XsFailure | undefined {
  const { connection, core } = request;
  if (connection.privileged || added <= 0) return undefined;
  return connection.account.memory + added >= core.quotas.memory ? fail('ENOMEM') : undefined;
}

/** ENOSPC, and the transaction is lost, when a guest's transaction has touched too many nodes. */
function overTouched(request: Request): XsFailure | undefined {
  const { connection, core, transaction } = request;
  if (connection.privileged || !transaction || transaction.nrTouched <= core.quotas.transactionNodes) return undefined;
  transaction.failed = true;
  return fail('ENOSPC');
}

/** Nodes at and below a path, children before their parent. */
export function* subtree(
  store: { find(path: string): NodeState | undefined },
  path: string,
): Generator<readonly [string, NodeState]> {
  const node = store.find(path);
  if (!node) return;
  for (const name of [...node.childNames()]) yield* subtree(store, childPath(path, name));
  yield [path, node];
}
