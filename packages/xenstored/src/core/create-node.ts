/** Creating a node with its missing ancestors (create_node() of the C daemon): all or nothing. */
import { fail, isFailure } from './failure.ts';
import type { XsFailure } from './failure.ts';
import { parentOf } from './paths.ts';
import type { PermList } from './perms.ts';
import type { Request } from './request.ts';
import { recordBytes } from './tree.ts';
import type { NodeState } from './tree.ts';

/** All get the permissions of the nearest that exists; a guest owns what it creates. */
export function createNode(request: Request, path: string, value: string): XsFailure | undefined {
  const { store, connection, transaction } = request;
  const missing = [path];
  let at = parentOf(path);
  let ancestor = store.find(at);
  while (isFailure(ancestor)) {
    if (ancestor.code !== 'ENOENT') return ancestor;
    missing.push(at);
    at = parentOf(at);
    ancestor = store.find(at);
  }
  const perms = connection.privileged ? ancestor.perms : ancestor.perms.ownedBy(connection.domid);
  const refused = mayCreate(request, ancestor, missing, perms, value);
  if (refused) {
    // Nothing but a full quota of nodes leaves a transaction as it was.
    if (transaction && !refused.clean) transaction.failed = true;
    return refused.failure;
  }
  for (let i = missing.length - 1; i >= 0; i--) store.create(missing[i] ?? path, perms, i === 0 ? value : '');
  request.core.debit(request, missing.length + 1);
  return undefined;
}

interface Refused {
  readonly failure: XsFailure;
  readonly clean: boolean;
}

/** What quotas say, in the order in which the C daemon writes the nodes: from the new leaf up to the ancestor. */
function mayCreate(
  request: Request,
  ancestor: NodeState,
  missing: readonly string[],
  perms: PermList,
  value: string,
): Refused | undefined {
  const { connection, core, store, transaction } = request;
  const { quotas } = core;
  const account = store.accountFor(perms);
  let memory = 0;
  let nameBytes = 0;
  for (const [i, path] of missing.entries()) {
    const owned = connection.account.nodes + (transaction ? 0 : i);
    if (!connection.privileged && owned >= quotas.nodes) return { failure: fail('ENOSPC'), clean: i === 0 };
    const bytes = recordBytes(i === 0 ? value.length : 0, perms.length, nameBytes);
    if (!connection.privileged && bytes >= quotas.nodeSize) return { failure: fail('ENOSPC'), clean: false };
    memory += store.keyBytes(path) + bytes;
    if (core.refusesMemory(account, memory)) return { failure: fail('EIO'), clean: false };
    nameBytes = path.length - path.lastIndexOf('/');
  }
  const bytes = recordBytes(ancestor.value.length, ancestor.perms.length, ancestor.childBytes + nameBytes);
  if (!connection.privileged && bytes >= quotas.nodeSize) return { failure: fail('ENOSPC'), clean: false };
  const above = store.accountFor(ancestor.perms);
  const added = above === account ? memory + nameBytes : nameBytes;
  return core.refusesMemory(above, added) ? { failure: fail('EIO'), clean: false } : undefined;
}
