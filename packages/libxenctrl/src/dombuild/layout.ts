/**
 * Where everything of a new PV guest goes: which pfn holds what, and what virtual addresses map to them. Pure: from the
 * kernel's own wishes to a plan of pages. Order and padding as libxenguest does it (`xg_dom_core.c` build_image,
 * `xg_dom_x86.c` alloc_pgtables): image, initrd, p2m, start_info, xenstore, console, page tables, boot stack, padding to
 * 4 MiB, then an unmapped initrd and an outside p2m.
 */
import type { PvGuestImage } from '@xenhost/elf';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import { DomBuildError } from './errors.ts';
import { planTables } from './page-tables.ts';
import type { Mapping, TablePlan } from './page-tables.ts';

/** A run of pages. */
export interface PageRun {
  readonly pfn: number;
  readonly pages: number;
  /** VA of the first page; only when it is in the initial mapping or is the outside p2m. */
  readonly va: bigint;
}

export interface PvLayout {
  readonly kernel: PageRun;
  readonly initrd: PageRun | undefined;
  /** True: start_info names the initrd by pfn (SIF_MOD_START_PFN). */
  readonly initrdUnmapped: boolean;
  readonly p2m: PageRun;
  /** True: the p2m is outside of the initial mapping; `p2m.pages` then counts its tables too. */
  readonly p2mOutside: boolean;
  readonly startInfo: PageRun;
  readonly xenstore: PageRun;
  readonly console: PageRun;
  readonly pageTables: PageRun;
  readonly bootStack: PageRun;
  readonly tables: TablePlan;
  /** Pages used in all; the rest of memory is not mapped. */
  readonly pagesUsed: number;
}

const PAGE = BigInt(PAGE_SIZE);
/** Room after the boot stack that is always mapped. */
const PADDING = 512n * 1024n;
/** The end of the initial mapping is aligned to this. */
const MAPPING_ALIGN = 4n * 1024n * 1024n;

const pagesFor = (bytes: number | bigint): number => Number((BigInt(bytes) + PAGE - 1n) / PAGE);
const roundUp = (n: bigint, to: bigint): bigint => ((n + to - 1n) / to) * to;

/** @throws DomBuildError when it does not fit into memory or the kernel asks for the impossible */
export function planPvLayout(guest: PvGuestImage, totalPages: number, initrdBytes: number): PvLayout {
  const { virtBase, notes, addressBits } = guest;
  const limit = addressBits === 64 ? 1n << 64n : 1n << 32n;
  let next = 0;

  const take = (what: string, pages: number): PageRun => {
    if (pages > totalPages - next) {
      throw new DomBuildError(
        'outOfMemory',
        `segment ${what} too large (0x${pages.toString(16)} > 0x${totalPages.toString(16)} - 0x${next.toString(16)} pages)`,
      );
    }
    next += pages;
    return { pfn: next - pages, pages, va: virtBase + BigInt(next - pages) * PAGE };
  };

  if ((guest.virtStart - virtBase) % PAGE !== 0n) {
    throw new DomBuildError('internal', `segment boundary isn't page aligned (0x${guest.virtStart.toString(16)})`);
  }
  if (guest.virtEnd > limit) throw new DomBuildError('invalidKernel', 'kernel runs over the end of the address space');
  take('gap below the kernel', pagesFor(guest.virtStart - virtBase));
  const kernel = take('kernel', pagesFor(guest.virtEnd - guest.virtStart));

  const initrdUnmapped = initrdBytes > 0 && notes.modStartPfn;
  const initrdPages = pagesFor(initrdBytes);
  let initrd = initrdBytes > 0 && !initrdUnmapped ? take('ramdisk', initrdPages) : undefined;

  const p2mBytes = totalPages * (addressBits / 8);
  const p2mBase = outsideP2m(guest);
  let p2m = p2mBase === undefined ? take('phys2mach', pagesFor(p2mBytes)) : undefined;

  const startInfo = take('start info', 1);
  const xenstore = take('xenstore', 1);
  const console = take('console', 1);

  // The tables' own pages lie inside of what they map: grow the mapping until both fit.
  let tablePages = 0;
  let initial: Mapping;
  let tables: TablePlan;
  for (;;) {
    const need = virtBase + BigInt(next + tablePages + 1) * PAGE + PADDING;
    const end = roundUp(need, MAPPING_ALIGN);
    if (end > limit) throw new DomBuildError('invalidKernel', 'initial mapping runs over the end of the address space');
    initial = { va: virtBase, pages: Number((end - virtBase) / PAGE), pfn: 0 };
    tables = planTables(addressBits, [{ mapping: initial, firstTablePfn: next }]);
    if (tables.counts[0] === tablePages) break;
    tablePages = tables.counts[0] ?? 0;
  }
  if (initial.pages > totalPages) {
    throw new DomBuildError(
      'outOfMemory',
      `not enough memory for initial mapping (0x${initial.pages.toString(16)} > 0x${totalPages.toString(16)})`,
    );
  }
  const firstTablePfn = next;
  const pageTables = take('page tables', tablePages);
  const bootStack = take('boot stack', 1);
  take('padding', initial.pages - next);

  if (initrdUnmapped) initrd = take('ramdisk', initrdPages);
  if (p2mBase !== undefined) {
    const pages = pagesFor(p2mBytes);
    if (p2mBase + BigInt(pages) * PAGE > virtBase) throw new DomBuildError('internal', 'overlapping mappings');
    const mapping = { va: p2mBase, pages, pfn: next };
    tables = planTables(addressBits, [
      { mapping: initial, firstTablePfn },
      { mapping, firstTablePfn: next + pages },
    ]);
    p2m = { ...take('phys2mach', pages + (tables.counts[1] ?? 0)), va: p2mBase };
  }
  if (!p2m) throw new Error('the p2m has a place in every layout');
  return {
    kernel, initrd, initrdUnmapped, p2m, p2mOutside: p2mBase !== undefined, startInfo, xenstore, console, pageTables,
    bootStack, tables, pagesUsed: next,
  }; // prettier-ignore
}

/** INIT_P2M counts when it is below the kernel's half and page aligned, and in 64-bit guests only. */
function outsideP2m({ notes, virtBase, addressBits }: PvGuestImage): bigint | undefined {
  const base = notes.initP2m;
  return addressBits === 64 && base !== undefined && base < virtBase && base % PAGE === 0n ? base : undefined;
}
