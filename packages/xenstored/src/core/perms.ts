/** Who may do what to a node. Lists of rights are shared between nodes and never changed in place. */
import { formatXsPerm } from '@xenhost/xs-wire';
import type { XsAccess, XsPerm } from '@xenhost/xs-wire';
import { DOMID_FIRST_RESERVED } from './limits.ts';

export const MAY_READ = 1;
export const MAY_WRITE = 2;
export const MAY_OWN = 4;
const ALL = MAY_READ | MAY_WRITE | MAY_OWN;

const BITS: Record<XsAccess, number> = { none: 0, read: MAY_READ, write: MAY_WRITE, both: MAY_READ | MAY_WRITE };
const LETTERS: Partial<Record<string, XsAccess>> = { n: 'none', r: 'read', w: 'write', b: 'both' };

/** A right as it is stored: `stale` ones belong to a domain that is gone or cannot exist; they are shown and count for nobody. */
export interface StoredPerm extends XsPerm {
  readonly stale?: true;
}

const NOBODY: StoredPerm = { domid: 0, access: 'none' };

export class PermList {
  /** The first names the owner and what all others may do; the rest are one domain each. Never empty. */
  readonly entries: readonly StoredPerm[];
  /** Generation at which they were set: an entry counts only for a domain that is not younger. */
  readonly stamp: number;
  readonly owner: number;

  constructor(entries: readonly StoredPerm[], stamp: number) {
    this.entries = entries;
    this.stamp = stamp;
    this.owner = (entries[0] ?? NOBODY).domid;
  }

  get length(): number {
    return this.entries.length;
  }

  /** The same rights under another owner. */
  ownedBy(domid: number): PermList {
    const [first = NOBODY, ...others] = this.entries;
    return first.domid === domid ? this : new PermList([{ domid, access: first.access }, ...others], this.stamp);
  }

  /** GET_PERMS' reply. */
  format(): string {
    let text = '';
    for (const perm of this.entries) text += formatXsPerm(perm) + '\0';
    return text;
  }
}

export const dom0Only = (): PermList => new PermList([NOBODY], 0);

export interface Subject {
  readonly domid: number;
  /** Generation at which its domain was first heard of. */
  readonly birth: number;
  /** Domain whose rights this one has besides its own. */
  readonly target: { readonly domid: number; readonly birth: number } | undefined;
  /** Domain-0's tools: may do everything. */
  readonly privileged: boolean;
}

/** Rights as bits of MAY_*. Owners have all; else the first entry in force that names the subject; else the first entry's access. */
export function rightsOf(subject: Subject, list: PermList): number {
  if (subject.privileged) return ALL;
  const { domid, target } = subject;
  if (list.owner === domid || (target !== undefined && list.owner === target.domid)) return ALL;
  const { entries, stamp } = list;
  for (let i = 1; i < entries.length; i++) {
    const perm = entries[i];
    if (perm === undefined || perm.stale) continue;
    if (perm.domid === domid && subject.birth <= stamp) return BITS[perm.access];
    if (target !== undefined && perm.domid === target.domid && target.birth <= stamp) return BITS[perm.access];
  }
  return BITS[(entries[0] ?? NOBODY).access];
}

const PLAIN_PERM = /^[nrwb](?:0|[1-9]\d{0,4})$/;
/** What strtol takes with base 0, and nothing behind it. */
const STRTOL = /^[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*)$/;
const LONG_MAX = 0x7fff_ffff_ffff_ffffn;

/** One entry of SET_PERMS; undefined where the C daemon says EINVAL. A number that no domain can have makes it stale. */
export function parseStoredPerm(text: string): StoredPerm | undefined {
  const access = LETTERS[text.charAt(0)];
  if (access === undefined) return undefined;
  const domid = PLAIN_PERM.test(text) ? Number(text.slice(1)) : strtol(text.slice(1));
  if (domid === undefined) return undefined;
  return domid >= 0 && domid < DOMID_FIRST_RESERVED ? { domid, access } : { domid, access, stale: true };
}

function strtol(text: string): number | undefined {
  const match = STRTOL.exec(text);
  if (!match) return undefined;
  const [, sign, digits = ''] = match;
  const octal = /^0[0-7]+$/.test(digits);
  const magnitude = BigInt(octal ? `0o${digits.slice(1)}` : digits);
  const value = sign === '-' ? -magnitude : magnitude;
  const clamped = value > LONG_MAX ? LONG_MAX : value < -LONG_MAX - 1n ? -LONG_MAX - 1n : value;
  return Number(BigInt.asIntN(32, clamped));
}
