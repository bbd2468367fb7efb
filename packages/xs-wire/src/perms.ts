/**
 * Permissions of a node as they travel: `w<domid>` and so on. The first entry names the owner and what everyone else may
 * do; the others are one domain each.
 */
export type XsAccess = 'none' | 'read' | 'write' | 'both';

export interface XsPerm {
  readonly domid: number;
  readonly access: XsAccess;
}

const LETTERS = { n: 'none', r: 'read', w: 'write', b: 'both' } as const satisfies Record<string, XsAccess>;
const LETTER_OF = { none: 'n', read: 'r', write: 'w', both: 'b' } as const satisfies Record<XsAccess, string>;
/** Largest domain number that fits the 16-bit domid_t. */
const DOMID_MAX = 0xffff;

/** `r5` and its kind; undefined for anything else. */
export function parseXsPerm(text: string): XsPerm | undefined {
  const access = (LETTERS as Partial<Record<string, XsAccess>>)[text.charAt(0)];
  const digits = text.slice(1);
  if (access === undefined || !/^\d{1,5}$/.test(digits)) return undefined;
  const domid = Number(digits);
  return domid <= DOMID_MAX ? { domid, access } : undefined;
}

export const formatXsPerm = (perm: XsPerm): string => LETTER_OF[perm.access] + String(perm.domid);
