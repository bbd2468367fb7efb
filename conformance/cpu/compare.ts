/**
 * What counts as a mismatch: everything but what the manuals leave undefined, what processors are known to do each
 * their own way, and what the runner cannot see.
 */
import { decodeInstruction, type Row } from '@xenhost/cpu';
import { CODE_BASE, GS_BASE, type CpuCase, type Outcome } from './native.ts';

const CF = 0x001;
const PF = 0x004;
const AF = 0x010;
const ZF = 0x040;
const SF = 0x080;
const OF = 0x800;
const ALL = CF | PF | AF | ZF | SF | OF;
const DF = 0x400;

/** Flags that an instruction leaves undefined (Intel SDM vol. 2 and vol. 1 appendix A), by semantics. */
const UNDEFINED_FLAGS: Readonly<Record<string, number>> = {
  and: AF, or: AF, xor: AF, test: AF,
  shl: AF | OF, shr: AF | OF, sar: AF | OF, rol: OF, ror: OF, rcl: OF, rcr: OF, shld: AF | OF, shrd: AF | OF,
  mul: SF | ZF | AF | PF, imul1: SF | ZF | AF | PF, imul2: SF | ZF | AF | PF, imul3: SF | ZF | AF | PF,
  div: ALL, idiv: ALL, bsf: CF | OF | SF | AF | PF, bsr: CF | OF | SF | AF | PF,
  bt: OF | SF | AF | PF, bts: OF | SF | AF | PF, btr: OF | SF | AF | PF, btc: OF | SF | AF | PF,
  tzcnt: OF | SF | AF | PF, lzcnt: OF | SF | AF | PF,
  andn: AF | PF, blsr: AF | PF, blsmsk: AF | PF, blsi: AF | PF, bzhi: AF | PF, bextr: AF | PF | SF,
}; // prettier-ignore
/** 16-bit SHLD and SHRD by more than 16, 8- and 16-bit SHL and SHR by more than the operand: results or CF undefined. */
const LARGE_SHIFTS = new Set(['shl', 'shr', 'sar', 'shld', 'shrd']);

/** Relative error that the manual allows RCPxx and RSQRTxx. */
const APPROXIMATIONS = new Set(['rcpps', 'rcpss', 'rsqrtps', 'rsqrtss']);
const APPROXIMATION_ERROR = 1.5 * 2 ** -12;
/** Transcendentals may differ in the last places, and in C1. */
const TRANSCENDENTAL = new Set(['x87.f2xm1', 'x87.fyl2x', 'x87.fyl2xp1', 'x87.fptan', 'x87.fpatan', 'x87.fsin', 'x87.fcos', 'x87.fsincos']); // prettier-ignore
const LAST_PLACES = 4n;

const FX_FCW = 0;
const FX_FSW = 2;
const FX_FTW = 4;
const FX_MXCSR = 24;
const FX_ST = 32;
const FX_XMM = 160;
const C1 = 0x200;
/** FOP, FIP and FDP, in FXSAVE images and in environments, are kept by neither side alike. */

/** Semantics of a VEX form under the name of the SSE form. */
const legacyName = (row: Row): string => row.semantics.replace(/^vex3?\./, '');

export interface Mismatch {
  what: string;
  expected: string;
  actual: string;
}

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function field(bytes: Uint8Array, at: number, size: number): bigint {
  let value = 0n;
  for (let n = size - 1; n >= 0; n--) value = (value << 8n) | BigInt(bytes[at + n] ?? 0);
  return value;
}

/** First difference between what the processor (`expected`) and an engine did, if any. */
export function compare(row: Row, one: CpuCase, expected: Outcome, actual: Outcome): Mismatch | undefined {
  if (isUndefined(row, one) || isAmdMxcsr(row, expected, actual)) return undefined;
  if (expected.vector === STACK_FAULT && actual.vector === GENERAL_PROTECTION && needsAlignment(row)) return undefined;
  if (isGather(row) && expected.vector !== BREAKPOINT && actual.vector !== BREAKPOINT) return undefined;
  const different = (what: string, a: bigint | number, b: bigint | number): Mismatch | undefined =>
    BigInt(a) === BigInt(b) ? undefined : { what, expected: hex(a), actual: hex(b) };
  const first =
    different('vector', expected.vector, actual.vector) ??
    different('rip', expected.rip, actual.rip) ??
    (HAS_ERROR_CODE.has(expected.vector)
      ? different('error code', knownError(row, expected), knownError(row, actual))
      : undefined) ??
    (expected.vector === PAGE_FAULT && !LARGE_IMAGES.has(row.semantics)
      ? different('fault address', expected.address, actual.address)
      : undefined);
  if (first) return first;
  for (let n = 0; n < 16; n++) {
    const found = different(`register ${n}`, expected.gpr[n] ?? 0n, actual.gpr[n] ?? 0n);
    if (found) return found;
  }
  const flagMask = (ALL | DF) & ~(expected.vector === BREAKPOINT ? undefinedFlags(row) : 0);
  const flags = different('flags', Number(expected.rflags) & flagMask, Number(actual.rflags) & flagMask);
  return (
    flags ??
    compareFx(row, expected.fx, actual.fx) ??
    compareYmm(row, expected.ymmHigh, actual.ymmHigh) ??
    compareMemory(row, one, expected, actual)
  );
}

const PAGE_FAULT = 14;
/** A 16-byte operand that is misaligned and not canonical: through the stack segment processors say #SS, we #GP. */
function needsAlignment(row: Row): boolean {
  return row.operands.some((o) => o.type === 'x') || row.semantics === 'fxsave' || row.semantics === 'fxrstor';
}

/** Of a gather's faulting elements processors tell different ones; ours has done none of the others (docs/LIMITS.md). */
const isGather = (row: Row): boolean => row.operands.some((o) => o.method === 'vsib');

const BREAKPOINT = 3;
const STACK_FAULT = 12;
const GENERAL_PROTECTION = 13;
const AMD_MXCSR_BIT = 0x20000n;
const HAS_ERROR_CODE = new Set([13, 14, 12]);

function undefinedFlags(row: Row): number {
  let mask = UNDEFINED_FLAGS[legacyName(row)] ?? 0;
  if (LARGE_SHIFTS.has(row.semantics)) mask |= CF;
  return mask;
}

/** Images that may cross from one faulting page into another: processors differ in which they tell. */
const LARGE_IMAGES = new Set([
  'fxsave',
  'fxrstor',
  'xsave',
  'xrstor',
  'x87.fnsave',
  'x87.frstor',
  'x87.fnstenv',
  'x87.fldenv',
]);
const PF_PRESENT = 1n;
const PF_FETCH = 16n;

/** The error code without what cannot be compared: whether a far jump's target, the kernel's perhaps, is present. */
function knownError(row: Row, outcome: Outcome): bigint {
  if (outcome.vector !== PAGE_FAULT) return outcome.errorCode;
  if (LARGE_IMAGES.has(row.semantics)) return 0n;
  return (outcome.errorCode & PF_FETCH) !== 0n ? outcome.errorCode & ~PF_PRESENT : outcome.errorCode;
}

/** Instances whose whole result the manuals leave open. */
function isUndefined(row: Row, one: CpuCase): boolean {
  const is16Bit = one.code.includes(0x66);
  // Double shifts of 16 bits by more than 16; BSWAP of 16 bits.
  if (row.semantics === 'shld' || row.semantics === 'shrd' || row.semantics === 'bswap') return is16Bit;
  // Register forms of the 3DNow prefetch: AMD refuses them, Intel does nothing.
  return row.encoding === '0f 0d /r' && isRegisterForm(one.code);
}

/** AMD's MXCSR has bit 17 (misaligned exception mask); for us, as for Intel, it is reserved. */
function isAmdMxcsr(row: Row, expected: Outcome, actual: Outcome): boolean {
  if (legacyName(row) !== 'ldmxcsr' && row.semantics !== 'fxrstor' && row.semantics !== 'xrstor') return false;
  return expected.vector === BREAKPOINT && actual.vector === GENERAL_PROTECTION && (field(expected.fx, FX_MXCSR, 4) & AMD_MXCSR_BIT) !== 0n; // prettier-ignore
}

function isRegisterForm(code: Uint8Array): boolean {
  return (code[code.lastIndexOf(0x0d) + 1] ?? 0) >= 0xc0;
}

function compareFx(row: Row, expected: Uint8Array, actual: Uint8Array): Mismatch | undefined {
  const statusMask = TRANSCENDENTAL.has(row.semantics) ? ~C1 & 0xffff : 0xffff;
  const fields: [string, number, number, number][] = [
    ['fcw', FX_FCW, 2, 0xffff],
    ['fsw', FX_FSW, 2, statusMask],
    ['ftw', FX_FTW, 1, 0xff],
    ['mxcsr', FX_MXCSR, 4, 0xffff],
  ];
  for (const [what, at, size, mask] of fields) {
    const a = field(expected, at, size) & BigInt(mask);
    const b = field(actual, at, size) & BigInt(mask);
    if (a !== b) return { what, expected: hex(a), actual: hex(b) };
  }
  for (let n = 0; n < 8; n++) {
    const a = field(expected, FX_ST + 16 * n, 10);
    const b = field(actual, FX_ST + 16 * n, 10);
    const [orderA, orderB] = [extendedOrder(a), extendedOrder(b)];
    const distance = orderA > orderB ? orderA - orderB : orderB - orderA;
    if (a !== b && !(TRANSCENDENTAL.has(row.semantics) && distance < LAST_PLACES))
      return { what: `st${n}`, expected: hex(a), actual: hex(b) };
  }
  return compareVectors(row, expected, actual, { from: FX_XMM, name: 'xmm' });
}

const compareYmm = (row: Row, expected: Uint8Array, actual: Uint8Array): Mismatch | undefined =>
  compareVectors(row, expected, actual, { from: 0, name: 'upper half of ymm' });

function compareVectors(
  row: Row,
  expected: Uint8Array,
  actual: Uint8Array,
  { from, name }: { from: number; name: string },
): Mismatch | undefined {
  for (let n = 0; n < 16; n++) {
    const at = from + 16 * n;
    const a = field(expected, at, 16);
    const b = field(actual, at, 16);
    if (a !== b && !(APPROXIMATIONS.has(legacyName(row)) && isClose(expected, actual, at)))
      return { what: `${name}${n}`, expected: hex(a), actual: hex(b) };
  }
  return undefined;
}

/** Neighbouring extended numbers are neighbouring integers without their integer bit. */
function extendedOrder(bits: bigint): bigint {
  return ((bits >> 64n) << 63n) | (bits & ((1n << 63n) - 1n));
}

/** Elements of binary32 within what the manual allows approximations; tiny ones may be zero. */
function isClose(expected: Uint8Array, actual: Uint8Array, at: number): boolean {
  const a = new DataView(expected.buffer, expected.byteOffset + at, 16);
  const b = new DataView(actual.buffer, actual.byteOffset + at, 16);
  for (let n = 0; n < 16; n += 4) {
    if (a.getUint32(n, true) === b.getUint32(n, true)) continue;
    const [x, y] = [a.getFloat32(n, true), b.getFloat32(n, true)];
    if (!(Math.abs(x - y) <= 2 * APPROXIMATION_ERROR * Math.abs(x) || Math.abs(x) + Math.abs(y) < 2 ** -125)) return false; // prettier-ignore
  }
  return true;
}

/** Bytes of FXSAVE images and environments that hold FOP, FIP and FDP, or that nobody writes: begin, end. */
function ignoredRanges(row: Row, code: Uint8Array): readonly (readonly [number, number])[] {
  if (row.semantics === 'fxsave') return [[5, 24], [28, 32], [464, 512], ...registerPadding()]; // prettier-ignore
  if (row.semantics === 'xsave') return [[5, 24], [28, 32], ...registerPadding()];
  if (row.semantics === 'x87.fnstenv' || row.semantics === 'x87.fnsave') return code.includes(0x66) ? [[6, 14]] : [[12, 28]]; // prettier-ignore
  return [];
}

function registerPadding(): [number, number][] {
  return Array.from({ length: 8 }, (_, n): [number, number] => [FX_ST + 16 * n + 10, FX_ST + 16 * n + 16]);
}

function compareMemory(row: Row, one: CpuCase, expected: Outcome, actual: Outcome): Mismatch | undefined {
  const differing: number[] = [];
  for (let n = 0; n < one.memory.length; n++) if (expected.memory[n] !== actual.memory[n]) differing.push(n);
  if (differing.length === 0) return undefined;
  const ranges = ignoredRanges(row, one.code);
  if (ranges.length > 0) {
    const start = Number(operandAddress(one) - BigInt(one.memoryAddress));
    if (differing.every((n) => ranges.some(([from, to]) => n - start >= from && n - start < to))) return undefined;
  }
  if (TRANSCENDENTAL.has(row.semantics)) return undefined;
  const at = differing[0] ?? 0;
  return {
    what: `memory +${at}`,
    expected: hex(field(expected.memory, at, 16)),
    actual: hex(field(actual.memory, at, 16)),
  };
}

/** Linear address of the memory operand. */
function operandAddress(one: CpuCase): bigint {
  const decoded = decodeInstruction(one.code, 64);
  const operand = typeof decoded === 'string' ? undefined : decoded.operands.find((o) => o.kind === 'memory');
  if (typeof decoded === 'string' || operand?.kind !== 'memory') return 0n;
  const next = BigInt(CODE_BASE + one.codeOffset + decoded.length);
  const mask = decoded.addressSize === 4 ? 0xffffffffn : (1n << 64n) - 1n;
  const base = operand.base === -2 ? next : (one.gpr[operand.base] ?? 0n);
  const index = (one.gpr[operand.index] ?? 0n) * BigInt(operand.scale);
  const offset = (base + index + operand.displacement) & mask;
  return BigInt.asUintN(64, offset + (operand.segment === 5 ? GS_BASE : 0n));
}
