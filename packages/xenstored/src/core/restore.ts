/** From the store to changes that make it, and back: what the journal is compacted to, and how it is read at a start. */
import type { XenstoreCore } from './core.ts';
import { addDomain, forgetDomain } from './domain-life.ts';
import type { StoreChange } from './journal.ts';
import { PermList, dom0Only } from './perms.ts';
import type { StoredPerm } from './perms.ts';

export function* snapshot(core: XenstoreCore): Generator<StoreChange> {
  yield { op: 'reset' };
  // Rights of a domain count only when it was known before they were set: domains first.
  for (const { domid, mfn, port } of core.domains.values()) yield { op: 'introduce', domid, mfn, port };
  for (const { domid, connection } of core.domains.values()) {
    if (connection.target) yield { op: 'target', domid, target: connection.target.domid };
  }
  for (const [name, perms] of core.rights.special) yield { op: 'special', name, perms: core.rights.describe(perms) };
  for (const [path, { value, perms }] of core.tree.walk()) {
    if (path !== '/') {
      yield { op: 'create', path, value, perms: core.rights.describe(perms) };
      continue;
    }
    if (value !== '') yield { op: 'write', path, value };
    yield { op: 'perms', path, perms: core.rights.describe(perms) };
  }
}

/** Throws on a change that does not fit what came before: the journal is not this daemon's. */
export function applyChanges(core: XenstoreCore, changes: Iterable<StoreChange>): void {
  for (const change of changes) applyChange(core, change);
}

function applyChange(core: XenstoreCore, change: StoreChange): void {
  const { tree } = core;
  switch (change.op) {
    case 'reset':
      for (const { domid } of [...core.domains.values()]) forgetDomain(core, domid);
      tree.reset(dom0Only());
      core.rights.resetSpecial();
      return;
    case 'create':
      tree.create(change.path, permsOf(core, change.perms), change.value);
      return;
    case 'write':
      tree.setValue(change.path, existing(core, change.path), change.value);
      return;
    case 'perms':
      tree.setPerms(change.path, existing(core, change.path), permsOf(core, change.perms));
      return;
    case 'rm':
      tree.remove(change.path);
      return;
    case 'special':
      core.rights.special.set(change.name, permsOf(core, change.perms));
      return;
    case 'introduce': {
      const known = core.domains.get(change.domid);
      if (known) {
        known.mfn = change.mfn;
        known.port = change.port;
      } else {
        addDomain(core, core.connect(change.domid), change.mfn, change.port);
      }
      return;
    }
    case 'release':
      forgetDomain(core, change.domid);
      return;
    case 'target': {
      const connection = core.domains.get(change.domid)?.connection;
      const target = change.target === 0 ? core.domain0 : core.domains.get(change.target)?.connection;
      if (connection && target) core.setTarget(connection, target);
    }
  }
}

/** As read: entries that were stale stay so, others count from now on. */
const permsOf = (core: XenstoreCore, entries: readonly StoredPerm[]): PermList => core.rights.list(entries);

function existing(core: XenstoreCore, path: string): NonNullable<ReturnType<XenstoreCore['tree']['lookup']>> {
  const node = core.tree.lookup(path);
  if (!node) throw new Error(`journal: no node ${path}`);
  return node;
}
