/** Who may do what to a node. */
import type { XsAccess, XsPerm } from '@xenhost/xs-wire';

export const MAY_READ = 1;
export const MAY_WRITE = 2;
export const MAY_OWN = 4;
const ALL = MAY_READ | MAY_WRITE | MAY_OWN;

const BITS: Record<XsAccess, number> = { none: 0, read: MAY_READ, write: MAY_WRITE, both: MAY_READ | MAY_WRITE };

/** A right as it is stored: `stale` ones belonged to a domain that is gone, are shown and count for nobody. */
export interface StoredPerm extends XsPerm {
  readonly stale?: true;
}

export interface Subject {
  readonly domid: number;
  /** Domain whose rights this one has besides its own. */
  readonly target: number | undefined;
  /** Domain-0's tools: may do everything. */
  readonly privileged: boolean;
}

/** Rights as bits of MAY_*. Owners have all; else the first entry naming the subject; else the first entry's access. */
export function rightsOf(subject: Subject, perms: readonly XsPerm[]): number {
  const owner = perms[0];
  if (subject.privileged || owner === undefined) return ALL;
  const is = (domid: number): boolean => domid === subject.domid || domid === subject.target;
  if (is(owner.domid)) return ALL;
  for (let i = 1; i < perms.length; i++) {
    const perm = perms[i];
    if (perm !== undefined && is(perm.domid)) return BITS[perm.access];
  }
  return BITS[owner.access];
}
