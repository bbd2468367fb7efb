/** The SIMD instructions that are all helper: state images, string comparison, masked stores. */
import type { Algebra, Semantics } from '../algebra.ts';
import { comparedStrings } from './compare-strings.ts';
import { high64, low64, pair, widened } from './common.ts';

const FX_ALIGNMENT = 16;
const X87_ERROR_VECTOR = 16;
const STATUS_ERROR_SUMMARY = 0x80;

const state =
  (name: string): Semantics =>
  (e) => {
    const address = e.address(0);
    e.aligned(address, FX_ALIGNMENT);
    e.helper(name, address, e.i32(e.variant));
  };

const ARITHMETIC_FLAGS = 0x8d5;
/** Variants of PCMPxSTRx: bit 0 index instead of mask, bit 1 implicit lengths, bit 2 64-bit lengths. */
const compareStrings: Semantics = (e) => {
  const b = e.read(1);
  const a = e.read(0);
  const isImplicit = (e.variant & 2) !== 0;
  const immediate = e.known(e.read(2));
  if (immediate !== undefined) {
    const lengths = isImplicit ? undefined : ([explicitLength(e, 0), explicitLength(e, 2)] as const);
    const found = comparedStrings(e, { a, b, control: Number(immediate & 0xffn), lengths });
    if ((e.variant & 1) !== 0) e.setGpr(1, 4, found.index());
    else e.setXmm(0, found.mask());
    e.flagsChange(ARITHMETIC_FLAGS, found.flags);
    return;
  }
  const control = e.or(e.read(2), e.i32((e.variant & 3) << 8));
  const packed = isImplicit ? e.i64(0) : packLengths(e);
  const flags = e.wrap(
    e.helper('sse.pcmpstr', low64(e, a), high64(e, a), low64(e, b), high64(e, b), e.extendU(control), packed),
  );
  if ((e.variant & 1) !== 0) e.setGpr(1, 4, e.shrU(flags, e.i32(16)));
  else e.setXmm(0, pair(e, e.field('resultLow'), e.field('resultHigh')));
  e.flagsChange(ARITHMETIC_FLAGS, e.and(flags, e.i32(ARITHMETIC_FLAGS)));
};

/** Explicit lengths beyond this count as this. */
const MAX_LENGTH = 16;

/** A length as signed 64 bits, brought into 32. */
function saturated<V>(e: Algebra<V>, value: V): V {
  const bias = e.i64(MAX_LENGTH);
  const isInside = e.ltU(e.add(value, bias), e.i64(2 * MAX_LENGTH + 1));
  return e.and(e.select(isInside, value, bias), e.i64(0xffffffffn));
}

const explicitLength = <V>(e: Algebra<V>, n: number): V =>
  (e.variant & 4) !== 0 ? e.gpr(n, 8) : e.extendS(e.gpr(n, 4));

/** RAX and RDX (with REX.W) or EAX and EDX, the explicit lengths, in one word. */
function packLengths<V>(e: Algebra<V>): V {
  const [first, second] = [0, 2].map((n) => saturated(e, explicitLength(e, n)));
  if (first === undefined || second === undefined) throw new Error('two lengths');
  return e.or(first, e.shl(second, e.i64(32)));
}

/** Bytes of the data whose mask byte has its top bit set go to DS:rDI. */
function maskedStore<V>(e: Algebra<V>, data: V, mask: V): void {
  const offset = e.gpr(7, 8);
  const limit = e.addressSize === 8 ? offset : e.and(offset, e.i64(e.addressSize === 4 ? 0xffffffffn : 0xffffn));
  e.helper('sse.maskmov', low64(e, data), high64(e, data), e.extendU(e.op('i8x16.bitmask', mask)), limit, e.segment());
}

export const specialSemantics: Readonly<Record<string, Semantics>> = {
  fxsave: state('fxsave'),
  fxrstor: state('fxrstor'),
  xsave: (e) => {
    e.helper('xsave', e.address(0), e.i32(e.variant & 1), e.i32(e.variant >> 1));
  },
  xrstor: (e) => {
    e.helper('xrstor', e.address(0), e.i32(e.variant));
  },
  pcmpstr: compareStrings,
  maskmov: (e) => {
    maskedStore(e, e.read(0), e.read(1));
  },
  'mmx.maskmov': (e) => {
    e.faultWhen(e.ne(e.and(e.field('fsw'), e.i32(STATUS_ERROR_SUMMARY)), e.i32(0)), X87_ERROR_VECTOR);
    maskedStore(e, widened(e, e.read(0)), widened(e, e.read(1)));
    e.setField('fsw', e.and(e.field('fsw'), e.i32(~0x3800)));
    e.setField('ftw', e.i32(0xff));
  },
};
