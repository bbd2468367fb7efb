/**
 * The little machine that every fuzzed program runs in, the same for all engines: which pages stand where, what a
 * program starts from, and what is told of its run. Not how any engine makes it so.
 */
export const PAGE = 0x1000;

export interface Region {
  readonly name: string;
  readonly address: number;
  /** First page of it in the image. */
  readonly page: number;
  readonly pages: number;
  readonly write: boolean;
  readonly execute: boolean;
}

export const CODE_BASE = 0x1000_0000;
export const CODE_PAGES = 4;
/** The code's frames once more, to be written only: modification through another address. */
export const ALIAS_BASE = 0x1800_0000;
export const DATA_BASE = 0x2000_0000;
export const DATA_PAGES = 4;
/** One page that may be read only, right behind the data; behind it nothing. */
export const READONLY_BASE = DATA_BASE + DATA_PAGES * PAGE;
/** 1024 pages from the data: the same entry of an engine's TLB. */
export const FAR_BASE = DATA_BASE + 1024 * PAGE;
/** What no random access may hit: the resume cell, loop counters and jump tables. */
export const CONTROL_BASE = 0x3000_0000;
export const STACK_BASE = 0x3800_0000;
export const STACK_PAGES = 2;
export const INITIAL_RSP = STACK_BASE + STACK_PAGES * PAGE - 0x400;
export const GS_BASE = 0x1fff_0000;
/** Nothing is mapped here. */
export const HOLE_BASE = 0x4000_0000;

const CODE_PAGE = 0;
const DATA_PAGE = CODE_PAGE + CODE_PAGES;
const READONLY_PAGE = DATA_PAGE + DATA_PAGES;
const FAR_PAGE = READONLY_PAGE + 1;
const CONTROL_PAGE = FAR_PAGE + 1;
const STACK_PAGE = CONTROL_PAGE + 1;
export const IMAGE_PAGES = STACK_PAGE + STACK_PAGES;
export const IMAGE_BYTES = IMAGE_PAGES * PAGE;

export const REGIONS: readonly Region[] = [
  { name: 'code', address: CODE_BASE, page: CODE_PAGE, pages: CODE_PAGES, write: true, execute: true },
  { name: 'alias', address: ALIAS_BASE, page: CODE_PAGE, pages: CODE_PAGES, write: true, execute: false },
  { name: 'data', address: DATA_BASE, page: DATA_PAGE, pages: DATA_PAGES, write: true, execute: false },
  { name: 'readonly', address: READONLY_BASE, page: READONLY_PAGE, pages: 1, write: false, execute: false },
  { name: 'far', address: FAR_BASE, page: FAR_PAGE, pages: 1, write: true, execute: false },
  { name: 'control', address: CONTROL_BASE, page: CONTROL_PAGE, pages: 1, write: true, execute: false },
  { name: 'stack', address: STACK_BASE, page: STACK_PAGE, pages: STACK_PAGES, write: true, execute: false },
];

/** Address in a region to offset in the image; undefined where no region is. */
export function imageOffset(address: number): number | undefined {
  for (const { address: base, page, pages } of REGIONS)
    if (address >= base && address < base + pages * PAGE) return page * PAGE + address - base;
  return undefined;
}

/** Where an offset of the image stands in memory, for reports. */
export function placeOf(offset: number): string {
  const found = REGIONS.find(({ page, pages }) => offset >= page * PAGE && offset < (page + pages) * PAGE);
  return found ? `${found.name}+0x${(offset - found.page * PAGE).toString(16)}` : `image+0x${offset.toString(16)}`;
}

/**
 * A fault or INT3. When the quadword at `CONTROL_BASE` is not zero then, it is cleared and the program goes on there
 * with the registers as they are, the arithmetic flags cleared (what the fault left undefined must not be read),
 * `MAX_EVENTS` times at most; else, and after INT3, the run is over.
 */
export interface Event {
  vector: number;
  errorCode: bigint;
  /** CR2 of a page fault; elsewhere of no meaning. */
  address: bigint;
  rip: bigint;
  gpr: BigUint64Array;
  rflags: bigint;
  /** FXSAVE64 image, first `FX_COMPARED` bytes. */
  fx: Uint8Array;
  /** Upper halves of the YMM registers. */
  ymmHigh: Uint8Array;
}

export const MAX_EVENTS = 12;
export const FX_COMPARED = 416;
export const RESUME_CELL = CONTROL_BASE;
export const BREAKPOINT = 3;

/** A program laid out, ready to run. */
export interface Image {
  readonly entry: number;
  /** All pages, in the order of `Region.page`. */
  readonly bytes: Uint8Array;
  readonly gpr: BigUint64Array;
  readonly rflags: bigint;
  /** FXSAVE64 image of 512 bytes. */
  readonly fx: Uint8Array;
  /** Upper halves of the YMM registers, 256 bytes. */
  readonly ymmHigh: Uint8Array;
}

export interface Run {
  /** `unknown`: it left in a way that is not compared, as told in `note`. */
  readonly end: 'done' | 'timeout' | 'unknown';
  readonly note: string;
  readonly events: readonly Event[];
  /** The image afterwards. */
  readonly bytes: Uint8Array;
}

export interface Contestant {
  readonly name: string;
  /** Flags that the manuals leave undefined count too: it shares our semantics. */
  readonly ours: boolean;
  run(images: readonly Image[]): Run[];
}
