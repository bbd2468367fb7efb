/** Memory operands of the in-place x87 instructions: floats and integers as 80-bit numbers, exact. */
import type { Algebra, MemoryType } from './algebra.ts';
import { SIGN, BIAS, INTEGER_BIT } from './x87-registers.ts';
import type { Extended } from './x87-registers.ts';

interface Loaded<V> {
  readonly value: Extended<V>;
  /** The operand is normal or zero. */
  readonly isGood: V;
}

export type MemoryKind = 'm32' | 'm64' | 'i16' | 'i32' | 'i64';
const MEMORY_TYPE: Readonly<Record<MemoryKind, MemoryType>> = { m32: 'u32', m64: 'u64', i16: 's16', i32: 'u32', i64: 'u64' }; // prettier-ignore

function fromFloat<V>(e: Algebra<V>, bits: V, isDouble: boolean): Loaded<V> {
  const wide = isDouble ? bits : e.extendU(bits);
  const [fractionBits, exponentMask, bias] = isDouble ? [52, 0x7ff, 1023] : [23, 0xff, 127];
  const sign = e.and(e.wrap(e.shrU(wide, e.i64(isDouble ? 48 : 16))), e.i32(SIGN));
  const exponent = e.and(e.wrap(e.shrU(wide, e.i64(fractionBits))), e.i32(exponentMask));
  const isNumber = e.ltU(e.sub(exponent, e.i32(1)), e.i32(exponentMask - 1));
  const fraction = e.shl(wide, e.i64(63 - fractionBits));
  const significand = e.select(isNumber, e.or(fraction, e.i64(INTEGER_BIT)), e.i64(0));
  const biased = e.select(isNumber, e.add(exponent, e.i32(BIAS - bias)), e.i32(0));
  const magnitude = isDouble ? e.shl(wide, e.i64(1)) : e.shl(wide, e.i64(33));
  return { value: { significand, exponent: e.or(biased, sign) }, isGood: e.or(isNumber, e.eqz(magnitude)) };
}

function fromInteger<V>(e: Algebra<V>, integer: V): Loaded<V> {
  const negative = e.shrS(integer, e.i64(63));
  const magnitude = e.sub(e.xor(integer, negative), negative);
  const zeros = e.clz(magnitude);
  const biased = e.sub(e.i32(BIAS + 63), e.wrap(zeros));
  const sign = e.and(e.wrap(negative), e.i32(SIGN));
  const isZeroInteger = e.eqz(integer);
  const exponent = e.select(isZeroInteger, e.i32(0), e.or(biased, sign));
  return { value: { significand: e.shl(magnitude, zeros), exponent }, isGood: e.i32(1) };
}

export function loadMemory<V>(e: Algebra<V>, kind: MemoryKind): Loaded<V> {
  const bits = e.load(MEMORY_TYPE[kind], e.address(0));
  if (kind === 'm32' || kind === 'm64') return fromFloat(e, bits, kind === 'm64');
  return fromInteger(e, kind === 'i64' ? bits : e.extendS(bits));
}
