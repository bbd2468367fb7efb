/** The engine's private memory: state, TLB, decoded code. Fixed addresses, so that they are constants in the code. */
import { CPU_STATE_SIZE } from '../engine/state.ts';

/** Records of single-stepped instructions. */
export const SCRATCH_RECORDS = CPU_STATE_SIZE;
export const NR_SCRATCH_RECORDS = 8;

/**
 * TLB entries of 16 bytes: tag (linear page address, all ones = empty), u32 to be added to the low half of a linear
 * address to give a machine address, `TLB_PAGE` bits. One pair of tables (read, write) for each view; whose views they
 * are, is `tlb.ts`'s matter. View 0 is never filled: every access takes the slow path, for alignment checks and data
 * breakpoints.
 */
export const TLB_ENTRIES = 1024;
export const TLB_TABLE_BYTES = TLB_ENTRIES * 16;
export const TLB_READ = 0x10000;
export const TLB_WRITE = TLB_READ + TLB_TABLE_BYTES;
export const VIEW_BYTES = 2 * TLB_TABLE_BYTES;
export const NR_VIEWS = 16;
/** What the fourth word of a TLB entry says of its page. */
export const TLB_PAGE = { global: 1, large: 2 } as const;

/**
 * Code TLB: tag, u32 address of the page's map of records, `TLB_PAGE` bits. Views as above. A kernel's text is some 16 MiB: with
 * 512 entries a system call's own pages pushed one another out.
 */
export const CODE_TLB = TLB_READ + NR_VIEWS * VIEW_BYTES;
export const CODE_TLB_ENTRIES = 2048;
export const CODE_VIEW_BYTES = CODE_TLB_ENTRIES * 16;
export const NR_CODE_VIEWS = 16;

/** Entries that were pushed out of a view's tables: first those of its read table, then those of its write table. */
export const NR_VICTIMS = 8;
export const VICTIM_BYTES = 2 * NR_VICTIMS * 16;
export const TLB_VICTIMS = CODE_TLB + NR_CODE_VIEWS * CODE_VIEW_BYTES;

/**
 * For each page of code a map: u32 record address for each byte offset, 0 where nothing is decoded. Room for the code of twenty Linux
 * guests, some 600 pages each: when it is used up all is decoded anew. Memory is taken by what is used only.
 */
export const PAGE_MAPS = 0x200000;
export const PAGE_MAP_BYTES = 4096 * 4;
export const NR_PAGE_MAPS = 12_288;
export const RECORDS = PAGE_MAPS + NR_PAGE_MAPS * PAGE_MAP_BYTES;
export const RECORD_BYTES = 32;
export const NR_RECORDS = 4_000_000;

/** How often branches went to a record: u32 by a hash of its address. At `HOT_THRESHOLD` the JIT tier is told. */
export const COUNTERS = RECORDS + NR_RECORDS * RECORD_BYTES;
/** Of the byte offset of a counter: `(record >>> 3) & COUNTER_MASK`. */
export const COUNTER_MASK = 0x3fffc;
export const HOT_THRESHOLD = COUNTERS + COUNTER_MASK + 4;
/** How often the interpreter has entered compiled code: u32. */
export const NR_ENTERED = HOT_THRESHOLD + 4;
/** How often compiled code has left an instruction to the interpreter: u32. */
export const NR_BAILED = HOT_THRESHOLD + 8;
/** Regions of compiled code: a slot in the table of functions, and what `enter` records and the functions themselves are given. */
export const NR_REGIONS = 4096;
export const ENTRY = { blockBits: 8, blockMask: 0xff } as const;
/** For each region the addresses of the page maps of its pages. */
export const REGION_PAGES = { base: HOT_THRESHOLD + 16, log2: 5 } as const;
export const PRIVATE_BYTES = REGION_PAGES.base + (NR_REGIONS << REGION_PAGES.log2);

/**
 * A decoded instruction for its handler. Register fields hold the register's address in the state. `imm` is the first
 * immediate, or for a relative branch the distance of its target from `ripBase`.
 */
export const RECORD = {
  handler: 0, length: 2, scale: 3, a: 4, b: 6, base: 8, index: 10, disp: 12, imm: 16, link: 24, offset: 28, c: 30,
} as const; // prettier-ignore

/** What generated code and its slow paths tell one another (`signal` in the state, results of helpers and of `run`). */
export const SIGNAL = {
  /** Nothing: go on. */
  none: 0,
  /** A fault is in `faultVector`, `faultError`, `faultAddress`. */
  fault: 1,
  /** Continue at the RIP in the state. */
  jump: 2,
  /** Leave: the host has filled the exit. RIP in the state is right. */
  leave: 3,
  /** From a region: the instruction at the RIP in the state is the interpreter's. */
  bail: 4,
  /** From a region: as `RUN_BUDGET`. */
  compiledBudget: 5,
} as const;
/** `run` came back because the budget is used up. */
export const RUN_BUDGET = 0;
