/** Walking a guest's page tables in software: for hypercalls that name an entry by the address it maps. */
import type { PageWalk } from './api.ts';
import { highHalf, lowHalf, Pte, slotAt } from './pte.ts';
import type { Tables } from './tables.ts';

export interface LeafTable {
  readonly table: number;
  readonly slot: number;
  readonly writable: boolean;
  readonly user: boolean;
}

/** The L1 table and slot behind a linear address; undefined when an upper entry is not present or is a large page. */
export function findL1(tables: Tables, nrFrames: number, l4: number, linear: bigint): LeafTable | undefined {
  const lo = lowHalf(linear);
  const hi = highHalf(linear);
  const top = (hi | 0) >> 15;
  if (l4 === 0 || (top !== 0 && top !== -1)) return undefined;
  let table = l4;
  let writable = true;
  let user = true;
  for (let level = 4; level > 1; level--) {
    const slot = slotAt(lo, hi, level);
    const flags = tables.flags(table, slot);
    if ((flags & (Pte.present | Pte.pse)) !== Pte.present) return undefined;
    writable &&= (flags & Pte.rw) !== 0;
    user &&= (flags & Pte.user) !== 0;
    table = tables.mfn(table, slot);
    if (table >= nrFrames) return undefined;
  }
  return { table, slot: (lo >>> 12) & 0x1ff, writable, user };
}

export function walkTo(tables: Tables, nrFrames: number, l4: number, linear: bigint): PageWalk | undefined {
  const leaf = findL1(tables, nrFrames, l4, linear);
  if (!leaf) return undefined;
  const flags = tables.flags(leaf.table, leaf.slot);
  return {
    entryAddress: leaf.table * 4096 + leaf.slot * 8,
    entry: tables.raw(leaf.table, leaf.slot),
    writable: leaf.writable && (flags & Pte.rw) !== 0,
    user: leaf.user && (flags & Pte.user) !== 0,
  };
}
