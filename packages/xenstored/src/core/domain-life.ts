/** How domains come and go: introduction, death, and what the hypervisor says in between (xenstored_domain.c). */
import type { StoreConnection } from './connection.ts';
import type { XenstoreCore } from './core.ts';
import type { IntroducedDomain } from './domains.ts';
import { topmostOwned } from './purge.ts';
import { INTRODUCE_DOMAIN, RELEASE_DOMAIN } from './rights.ts';

/** Domains whose death is handled in one call of checkDomains(). */
const DEATHS_A_TURN = 256;

/** What the hypervisor says of a domain. */
export type DomainCondition = 'alive' | 'shutdown' | 'gone';

/** Connects a domain's ring; a domain that is known gets its session and ring reset. One at a time for each domain. */
export async function introduceDomain(core: XenstoreCore, domid: number, mfn: string, port: number): Promise<void> {
  const connection = core.domains.get(domid)?.connection ?? core.connect(domid);
  try {
    await core.gate.introduce(connection, /^\d+$/.test(mfn) ? BigInt(mfn) : 0n, port);
  } catch (error) {
    if (core.domains.get(domid)?.connection !== connection) core.disconnect(connection);
    throw error;
  }
  if (connection.closed) {
    // Released while its ring was being connected anew.
    core.gate.release(domid);
    throw Object.assign(new Error(`domain ${domid} is gone`), { code: 'ENOENT' });
  }
  core.resetConnection(connection);
  connection.output.clear();
  connection.ignored = false;
  const known = core.domains.get(domid);
  if (known) {
    known.mfn = mfn;
    known.port = port;
  } else {
    addDomain(core, connection, mfn, port);
  }
  core.note({ op: 'introduce', domid, mfn, port });
  core.flushJournal();
  if (!known) core.events.special(INTRODUCE_DOMAIN);
}

/** Makes a domain known, with a connection of its own, and tells nobody. */
export function addDomain(
  core: XenstoreCore,
  connection: StoreConnection,
  mfn: string,
  port: number,
): IntroducedDomain {
  const { domid } = connection;
  const credit = core.writeLimit.open(core.nowMs());
  const domain: IntroducedDomain = { domid, connection, shutdown: false, mfn, port, credit };
  core.known.introduced.set(domid, domain);
  return domain;
}

/** Forgets a domain and tells nobody; its nodes stay. */
export function forgetDomain(core: XenstoreCore, domid: number): void {
  const domain = core.domains.get(domid);
  if (domain) {
    core.disconnect(domain.connection);
    core.writeLimit.close(domain.credit);
  }
  core.known.forget(domid);
}

/** Session, ring and nodes of a domain go; @releaseDomain is told when it was introduced. Nothing when it is not known. */
export function domainGone(core: XenstoreCore, domid: number): void {
  if (domid === 0 || !core.known.isKnown(domid)) return;
  const introduced = core.domains.has(domid);
  const connection = core.domains.get(domid)?.connection;
  if (connection) core.disconnect(connection);
  removeNodes(core, domid);
  core.rights.dropSpecial(domid);
  forgetDomain(core, domid);
  core.accounts.forget(domid);
  core.note({ op: 'release', domid });
  if (introduced) {
    core.gate.release(domid);
    core.events.special(RELEASE_DOMAIN);
  }
  core.flushJournal();
}

/** True when more have died than are handled in one turn. */
export function checkDomains(core: XenstoreCore, conditionOf: (domid: number) => DomainCondition): boolean {
  let deaths = 0;
  let toTell = false;
  for (const [domid] of [...core.known.known()]) {
    const domain = core.domains.get(domid);
    const condition = conditionOf(domid);
    if (condition === 'gone') {
      if (deaths++ === DEATHS_A_TURN) return true;
      domainGone(core, domid);
      // That has told.
      if (domain) toTell = false;
    } else if (condition === 'shutdown' && domain && !domain.shutdown) {
      domain.shutdown = true;
      toTell = true;
    }
  }
  if (toTell) core.events.special(RELEASE_DOMAIN);
  return false;
}

function removeNodes(core: XenstoreCore, domid: number): void {
  const { tree } = core;
  if (tree.root.perms.owner === domid) tree.setPerms('/', tree.root, tree.root.perms.ownedBy(0));
  for (const node of topmostOwned(core.accounts.of(domid))) {
    const { path } = node;
    core.events.beforeRemoval(path, node);
    tree.remove(path);
  }
}
