/**
 * Page tables of a new PV guest: which tables a set of mappings needs, and their contents once machine frames are known.
 * 64-bit: 4 levels; 32-bit PAE: 3 levels whose third L2 is always there, as Xen wants it.
 */

/** `pages` pages from `va` on map to pfns from `pfn` on. */
export interface Mapping {
  readonly va: bigint;
  readonly pages: number;
  readonly pfn: number;
}

/** A table: `level` 1..4; `index` counts tables of the level through the address space. */
interface Table {
  readonly level: number;
  readonly index: bigint;
  readonly pfn: number;
}

export interface TablePlan {
  readonly levels: number;
  readonly tables: readonly Table[];
  readonly mappings: readonly Mapping[];
  /** Tables that each mapping brought. */
  readonly counts: readonly number[];
  /** The top table. */
  readonly root: number;
}

const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const LEAF = PRESENT | WRITABLE | ACCESSED;
const LEAF_READ_ONLY = PRESENT | ACCESSED;
const INNER = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;

const VA_BITS = { 64: 48n, 32: 32n } as const;
/** Below this a PAE guest's mapping does not reach the L2 of the last GiB, which Xen needs nonetheless. */
const PAE_LAST_L2 = 3n;
const ENTRIES = 512;

/** Address bits below those that a table of `level` translates. */
const shift = (level: number): bigint => 12n + 9n * BigInt(level);

/** Tables lie at `firstTablePfn` on, from the top level down, each level in order of address. */
export function planTables(
  addressBits: 32 | 64,
  parts: readonly { readonly mapping: Mapping; readonly firstTablePfn: number }[],
): TablePlan {
  const levels = addressBits === 64 ? 4 : 3;
  const mask = (1n << VA_BITS[addressBits]) - 1n;
  const known = new Set<string>();
  const tables: Table[] = [];
  const counts: number[] = [];
  for (const [i, { mapping, firstTablePfn }] of parts.entries()) {
    const from = mapping.va & mask;
    const to = from + BigInt(mapping.pages) * 4096n - 1n;
    const before = tables.length;
    const add = (level: number, index: bigint): void => {
      const key = `${level}:${index}`;
      if (known.has(key)) return;
      known.add(key);
      tables.push({ level, index, pfn: firstTablePfn + tables.length - before });
    };
    for (let level = levels; level >= 1; level--) {
      if (level === levels) {
        add(level, 0n);
        continue;
      }
      for (let index = from >> shift(level); index <= to >> shift(level); index++) add(level, index);
      if (levels === 3 && level === 2 && i === 0) add(level, PAE_LAST_L2);
    }
    counts.push(tables.length - before);
  }
  const mappings = parts.map(({ mapping }) => ({ ...mapping, va: mapping.va & mask }));
  return { levels, tables, mappings, counts, root: tables[0]?.pfn ?? 0 };
}

/** Contents of each table by pfn. `p2m` gives the machine frame of a pfn. Pages that are tables are mapped read-only. */
export function fillTables(plan: TablePlan, p2m: Uint32Array): Map<number, Uint8Array> {
  const isTable = new Set(plan.tables.map(({ pfn }) => pfn));
  const byPlace = new Map(plan.tables.map((table) => [`${table.level}:${table.index}`, table]));
  const pages = new Map(plan.tables.map(({ pfn }) => [pfn, new DataView(new ArrayBuffer(4096))]));
  const frame = (pfn: number): bigint => BigInt(p2m[pfn] ?? 0) << 12n;

  for (const { level, index, pfn } of plan.tables) {
    if (level === plan.levels) continue;
    const parent = byPlace.get(level + 1 === plan.levels ? `${plan.levels}:0` : `${level + 1}:${index >> 9n}`);
    const slot = Number(index % BigInt(ENTRIES));
    if (parent) pages.get(parent.pfn)?.setBigUint64(slot * 8, frame(pfn) | INNER, true);
  }
  for (const { va, pages: count, pfn: first } of plan.mappings) {
    for (let i = 0; i < count; i++) {
      const page = (va >> 12n) + BigInt(i);
      const table = byPlace.get(`1:${page >> 9n}`);
      const entry = frame(first + i) | (isTable.has(first + i) ? LEAF_READ_ONLY : LEAF);
      if (table) pages.get(table.pfn)?.setBigUint64(Number(page & 511n) * 8, entry, true);
    }
  }
  return new Map([...pages].map(([pfn, dv]) => [pfn, new Uint8Array(dv.buffer)]));
}
