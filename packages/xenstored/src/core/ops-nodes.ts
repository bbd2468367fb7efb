/** Operations that read nodes, and those that change one: DIRECTORY, DIRECTORY_PART, READ, GET_PERMS, WRITE, MKDIR, RM, SET_PERMS. */
import { XS_PAYLOAD_MAX } from '@xenhost/xs-wire';
import { createNode } from './create-node.ts';
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import { isSpecial, parentOf } from './paths.ts';
import { MAY_OWN, MAY_READ, MAY_WRITE, parseStoredPerm, rightsOf } from './perms.ts';
import type { PermList, StoredPerm } from './perms.ts';
import { ACK, findNode, leadingInt, namedNode, nodePath, payloadPath, strings } from './request.ts';
import type { Handler, Request } from './request.ts';
import { recordBytes } from './tree.ts';
import type { NodeState } from './tree.ts';

export const read: Handler = (request) => {
  const node = namedNode(request, MAY_READ);
  return isFailure(node) ? node : node.value;
};

export const directory: Handler = (request) => {
  const node = namedNode(request, MAY_READ);
  if (isFailure(node)) return node;
  return node.childBytes > XS_PAYLOAD_MAX ? fail('E2BIG') : joined(node);
};

/** Answers the generation, then as many whole names from byte `offset` on as fit; one NUL more when these are the last. */
export const directoryPart: Handler = (request) => {
  const [given, offsetText, more] = strings(request.packet.payload);
  if (given === undefined || offsetText === undefined || more !== undefined) return fail('EINVAL');
  const path = nodePath(request, given);
  if (isFailure(path)) return path;
  const node = findNode(request, path, MAY_READ);
  if (isFailure(node)) return node;
  const generation = `${node.generation}\0`;
  const offset = leadingInt(offsetText) >>> 0;
  if (offset >= node.childBytes) return `${generation}\0`;
  const room = XS_PAYLOAD_MAX - generation.length - 1;
  const all = request.core.listings.of(node, path);
  let end = offset;
  while (end < all.length) {
    const next = all.indexOf('\0', end) + 1;
    if (next - offset > room) break;
    end = next;
  }
  return generation + all.slice(offset, end) + (end === all.length ? '\0' : '');
};

export const getPerms: Handler = (request) => {
  const node = namedNode(request, MAY_READ);
  return isFailure(node) ? node : node.perms.format();
};

export const write: Handler = (request) => {
  const { payload } = request.packet;
  const nul = payload.indexOf(0);
  const path = nul < 0 ? fail('EINVAL') : nodePath(request, payload.toString('latin1', 0, nul));
  if (isFailure(path)) return path;
  const value = payload.toString('latin1', nul + 1);
  const node = findNode(request, path, MAY_WRITE);
  const failure = isFailure(node)
    ? node.code === 'ENOENT'
      ? createNode(request, path, value)
      : node
    : overwrite(request, path, node, value);
  if (failure) return failure;
  request.core.changed(request, path);
  return ACK;
};

export const mkdir: Handler = (request) => {
  const path = payloadPath(request);
  if (isFailure(path)) return path;
  const node = findNode(request, path, MAY_WRITE);
  if (!isFailure(node)) return ACK;
  const failure = node.code === 'ENOENT' ? createNode(request, path, '') : node;
  if (failure) return failure;
  request.core.changed(request, path);
  return ACK;
};

export const rm: Handler = (request) => {
  const path = payloadPath(request);
  if (isFailure(path)) return path;
  const node = findNode(request, path, MAY_WRITE);
  if (isFailure(node)) {
    if (node.code !== 'ENOENT') return node;
    const parent = request.store.find(parentOf(path));
    return isFailure(parent) ? parent : ACK;
  }
  return path === '/' ? fail('EINVAL') : request.core.remove(request, path);
};

export const setPerms: Handler = (request) => {
  const { connection, core, packet } = request;
  const [given, ...texts] = strings(packet.payload);
  if (given === undefined || texts.length === 0) return fail('EINVAL');
  if (!connection.privileged && texts.length > core.quotas.permissions) return fail('ENOSPC');
  const entries: StoredPerm[] = [];
  for (const text of texts) {
    const perm = parseStoredPerm(text);
    if (!perm) return fail('EINVAL');
    entries.push(core.known.absent.has(perm.domid) ? { ...perm, stale: true } : perm);
  }
  const unheardOf = entries.filter(({ domid, stale }) => !stale && !core.known.isKnown(domid));
  const again =
    unheardOf.length > 0
      ? core.lookFor(
          request,
          unheardOf.map(({ domid }) => domid),
        )
      : undefined;
  if (again) return again;
  if (entries[0]?.stale) return fail('ENOENT');
  const perms = core.rights.list(entries);
  return isSpecial(given) ? setSpecialPerms(request, given, perms) : setNodePerms(request, given, perms);
};

function setNodePerms(request: Request, given: string, perms: PermList): typeof ACK | XsFailure {
  const { connection, core, store } = request;
  const path = nodePath(request, given);
  if (isFailure(path)) return path;
  const node = findNode(request, path, MAY_WRITE | MAY_OWN);
  if (isFailure(node)) return node;
  const oldPerms = node.perms;
  if (!connection.privileged && perms.owner !== oldPerms.owner) return fail('EPERM');
  const failure = mayStore(request, path, node, node.value.length, perms);
  if (failure) return failure;
  store.setPerms(path, node, perms);
  core.debit(request, 1);
  core.changed(request, path, oldPerms);
  return ACK;
}

function setSpecialPerms({ connection, core }: Request, name: string, perms: PermList): typeof ACK | XsFailure {
  const old = core.rights.special.get(name);
  if (!old) return fail('EINVAL');
  if ((rightsOf(connection, old) & (MAY_WRITE | MAY_OWN)) !== (MAY_WRITE | MAY_OWN)) return fail('EACCES');
  core.rights.setSpecial(name, perms);
  return ACK;
}

function overwrite(request: Request, path: string, node: NodeState, value: string): XsFailure | undefined {
  const failure = mayStore(request, path, node, value.length, node.perms);
  if (failure) return failure;
  request.store.setValue(path, node, value);
  request.core.debit(request, 1);
  return undefined;
}

/** Whether quotas allow an existing node to get this size. A transaction that is refused so is lost. */
function mayStore(
  { connection, core, store, transaction }: Request,
  path: string,
  node: NodeState,
  valueBytes: number,
  perms: PermList,
): XsFailure | undefined {
  const bytes = recordBytes(valueBytes, perms.length, node.childBytes);
  let failure: XsFailure | undefined;
  if (!connection.privileged && bytes >= core.quotas.nodeSize) failure = fail('ENOSPC');
  else {
    const account = store.accountFor(perms);
    const had =
      store.accountFor(node.perms) === account
        ? recordBytes(node.value.length, node.perms.length, node.childBytes)
        : -store.keyBytes(path);
    if (core.refusesMemory(account, bytes - had)) failure = fail('ENOMEM');
  }
  if (failure && transaction) transaction.failed = true;
  return failure;
}

function joined(node: NodeState): string {
  let text = '';
  for (const name of node.childNames()) text += name + '\0';
  return text;
}

/** The list of children last asked for in parts: each part of a wide node's would else cost all of it. */
export class Listings {
  #path = '';
  #generation = -1;
  #text = '';

  of(node: NodeState, path: string): string {
    if (path !== this.#path || node.generation !== this.#generation) {
      this.#text = joined(node);
      this.#path = path;
      this.#generation = node.generation;
    }
    return this.#text;
  }
}
