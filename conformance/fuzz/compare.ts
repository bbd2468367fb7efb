/** What two runs of one program differ in, but for what the manuals leave undefined. */
import { BREAKPOINT, placeOf, type Event, type Run } from './world.ts';

export const FLAGS = { cf: 0x001, pf: 0x004, af: 0x010, zf: 0x040, sf: 0x080, of: 0x800 } as const;
export const ALL_FLAGS = 0x8d5;
const DF = 0x400;
const PAGE_FAULT = 14;
const STACK_FAULT = 12;
const GENERAL_PROTECTION = 13;
const PF_PRESENT = 1n;
/** TASK_SIZE_MAX: the last page below the hole is nobody's. */
const KERNEL_HALF = (1n << 47n) - 0x1000n;
const HAS_ERROR_CODE = new Set([STACK_FAULT, GENERAL_PROTECTION, PAGE_FAULT]);
const REGISTERS = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15']; // prettier-ignore

/** FXSAVE64 image: name, offset, bytes, mask. The instruction and data pointers of the x87 are kept by nobody alike. */
const FX_FIELDS: readonly (readonly [string, number, number, bigint])[] = [
  ['fcw', 0, 2, 0xffffn],
  ['fsw', 2, 2, 0xffffn],
  ['ftw', 4, 1, 0xffn],
  ['mxcsr', 24, 4, 0xffffn],
  ...Array.from({ length: 8 }, (_, n) => [`st${n}`, 32 + 16 * n, 10, (1n << 80n) - 1n] as const),
  ...Array.from({ length: 16 }, (_, n) => [`xmm${n}`, 160 + 16 * n, 16, (1n << 128n) - 1n] as const),
];

export interface Difference {
  /** Which event, counted from 0; -1 for the memory at the end and the end itself. */
  readonly event: number;
  readonly what: string;
  readonly expected: string;
  readonly actual: string;
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function field(bytes: Uint8Array, at: number, size: number): bigint {
  let value = 0n;
  for (let n = size - 1; n >= 0; n--) value = (value << 8n) | BigInt(bytes[at + n] ?? 0);
  return value;
}

/**
 * All differences, the first event's first. `undefinedFlags` tells which flags are undefined when RIP stands at an
 * address; it is asked only where one of the two is not ours.
 */
export function compareRuns(
  expected: Run,
  actual: Run,
  undefinedFlags: ((rip: bigint) => number) | undefined,
): Difference[] {
  const found: Difference[] = [];
  const nrEvents = Math.max(expected.events.length, actual.events.length);
  for (let n = 0; n < nrEvents && found.length === 0; n++) {
    const [a, b] = [expected.events[n], actual.events[n]];
    if (a && b)
      compareEvents(a, b, undefinedFlags, (what, x, y) => found.push({ event: n, what, expected: x, actual: y })); // prettier-ignore
    else found.push({ event: n, what: 'event', expected: told(a, expected), actual: told(b, actual) });
  }
  if (found.length > 0) return found;
  if (expected.end !== actual.end)
    return [{ event: -1, what: 'end', expected: expected.end, actual: `${actual.end} ${actual.note}` }];
  for (let at = 0; at < expected.bytes.length; at += 8) {
    const [x, y] = [field(expected.bytes, at, 8), field(actual.bytes, at, 8)];
    if (x !== y) found.push({ event: -1, what: placeOf(at), expected: hex(x), actual: hex(y) });
  }
  return found;
}

const told = (event: Event | undefined, run: Run): string =>
  event ? `vector ${event.vector} at ${hex(event.rip)}` : `${run.end} ${run.note}`;

function compareEvents(
  a: Event,
  b: Event,
  undefinedFlags: ((rip: bigint) => number) | undefined,
  differ: (what: string, expected: string, actual: string) => void,
): void {
  const check = (what: string, x: bigint | number, y: bigint | number): void => {
    if (BigInt(x) !== BigInt(y)) differ(what, hex(x), hex(y));
  };
  check('vector', a.vector, b.vector);
  check('rip', a.rip, b.rip);
  // Linux tells no program whether a page of the kernel is present.
  const known = a.vector === PAGE_FAULT && a.address >= KERNEL_HALF ? ~PF_PRESENT : ~0n;
  if (HAS_ERROR_CODE.has(a.vector)) check('error code', a.errorCode & known, b.errorCode & known);
  if (a.vector === PAGE_FAULT) check('cr2', a.address, b.address);
  for (let n = 0; n < 16; n++) check(REGISTERS[n] ?? '', a.gpr[n] ?? 0n, b.gpr[n] ?? 0n);
  const at = a.vector === BREAKPOINT ? a.rip - 1n : a.rip;
  const mask = BigInt((ALL_FLAGS | DF) & ~(undefinedFlags?.(at) ?? 0));
  check('rflags', a.rflags & mask, b.rflags & mask);
  for (const [name, offset, size, bits] of FX_FIELDS)
    check(name, field(a.fx, offset, size) & bits, field(b.fx, offset, size) & bits);
  for (let n = 0; n < 16; n++) check(`upper half of ymm${n}`, field(a.ymmHigh, 16 * n, 16), field(b.ymmHigh, 16 * n, 16)); // prettier-ignore
}
