/**
 * x87 operations on 80-bit extended bit patterns: NaN choice, unsupported encodings, precision control and exceptions
 * as the x87 unit has them. Stack handling and the status word belong to the instruction semantics; here a result that
 * an unmasked exception forbids is told by `context.hasNoResult`.
 *
 * Intel SDM vol. 1, 4.8.3.5, 8.2.2 (encodings), 8.3 (instructions), 8.5 (exceptions).
 */
import { FpFlag, Rounding, type FpContext } from './context.ts';
import { addFinite, compareFinite, divideFinite, multiplyFinite, sqrtFinite } from './arithmetic.ts';
import {
  EXTENDED,
  bitLength,
  isNan,
  packInfinity,
  packNan,
  packZero,
  signBit,
  unpack,
  type Format,
  type Unpacked,
} from './format.ts';
import { roundPack, roundShift } from './round.ts';
import type { Relation } from './sse.ts';

export type X87Binary = 'add' | 'sub' | 'subr' | 'mul' | 'div' | 'divr';

const FRACTION_BITS = EXTENDED.precision - 1;

export function invalidResult(context: FpContext): bigint {
  context.flags |= FpFlag.invalid;
  context.roundedUp = false;
  return EXTENDED.defaultNan;
}

function quietedExtended(nan: Unpacked): bigint {
  return packNan(EXTENDED, nan.sign, nan.significand, FRACTION_BITS);
}

/** The NaN result of an x87 operation: a quiet operand wins over a signalling one, else the larger significand. */
export function propagateNanExtended(context: FpContext, a: Unpacked, b: Unpacked): bigint {
  context.roundedUp = false;
  const aSignals = a.class === 'signalingNan';
  const bSignals = b.class === 'signalingNan';
  if (aSignals || bSignals) context.flags |= FpFlag.invalid;
  if (!isNan(b)) return quietedExtended(a);
  if (!isNan(a)) return quietedExtended(b);
  if (aSignals !== bSignals) return quietedExtended(aSignals ? b : a);
  if (a.significand !== b.significand) return quietedExtended(a.significand > b.significand ? a : b);
  return quietedExtended(a.sign ? b : a);
}

export function noteDenormal(context: FpContext, a: Unpacked, b?: Unpacked): void {
  if (a.class === 'denormal' || b?.class === 'denormal') context.flags |= FpFlag.denormal;
}

/** FADD, FSUB(R), FMUL, FDIV(R) of two extended operands. */
export function x87Binary(context: FpContext, op: X87Binary, aBits: bigint, bBits: bigint): bigint {
  const isReversed = op === 'subr' || op === 'divr';
  const a = unpack(EXTENDED, isReversed ? bBits : aBits);
  const b = unpack(EXTENDED, isReversed ? aBits : bBits);
  context.roundedUp = false;
  if (a.class === 'unsupported' || b.class === 'unsupported') return invalidResult(context);
  if (isNan(a) || isNan(b)) return propagateNanExtended(context, a, b);
  switch (op) {
    case 'add':
      return add(context, a, b);
    case 'sub':
    case 'subr':
      b.sign = !b.sign;
      return add(context, a, b);
    case 'mul':
      return multiply(context, a, b);
    case 'div':
    case 'divr':
      return divide(context, a, b);
  }
}

function add(context: FpContext, a: Unpacked, b: Unpacked): bigint {
  if (a.class === 'infinity' && b.class === 'infinity' && a.sign !== b.sign) return invalidResult(context);
  noteDenormal(context, a, b);
  if (a.class === 'infinity') return packInfinity(EXTENDED, a.sign);
  if (b.class === 'infinity') return packInfinity(EXTENDED, b.sign);
  return addFinite(context, EXTENDED, a, b, context.precision);
}

function multiply(context: FpContext, a: Unpacked, b: Unpacked): bigint {
  const hasInfinity = a.class === 'infinity' || b.class === 'infinity';
  if (hasInfinity && (a.class === 'zero' || b.class === 'zero')) return invalidResult(context);
  noteDenormal(context, a, b);
  if (hasInfinity) return packInfinity(EXTENDED, a.sign !== b.sign);
  return multiplyFinite(context, EXTENDED, a, b, context.precision);
}

function divide(context: FpContext, a: Unpacked, b: Unpacked): bigint {
  const sign = a.sign !== b.sign;
  if (a.class === 'infinity' && b.class === 'infinity') return invalidResult(context);
  if (a.class === 'zero' && b.class === 'zero') return invalidResult(context);
  if (b.class === 'zero' && a.class !== 'infinity') {
    context.flags |= FpFlag.zeroDivide;
    return packInfinity(EXTENDED, sign);
  }
  noteDenormal(context, a, b);
  if (a.class === 'infinity') return packInfinity(EXTENDED, sign);
  if (b.class === 'infinity') return packZero(EXTENDED, sign);
  return divideFinite(context, EXTENDED, a, b, context.precision);
}

export function x87Sqrt(context: FpContext, bits: bigint): bigint {
  const a = unpack(EXTENDED, bits);
  context.roundedUp = false;
  if (a.class === 'unsupported') return invalidResult(context);
  if (isNan(a)) return propagateNanExtended(context, a, a);
  if (a.class === 'zero') return bits;
  if (a.sign) return invalidResult(context);
  noteDenormal(context, a);
  if (a.class === 'infinity') return bits;
  return sqrtFinite(context, EXTENDED, a, context.precision);
}

/** FCOM family (`signalsQuiet`), FUCOM family. */
export function x87Compare(context: FpContext, aBits: bigint, bBits: bigint, signalsQuiet: boolean): Relation {
  const a = unpack(EXTENDED, aBits);
  const b = unpack(EXTENDED, bBits);
  context.roundedUp = false;
  if (a.class === 'unsupported' || b.class === 'unsupported') {
    context.flags |= FpFlag.invalid;
    return 'unordered';
  }
  if (isNan(a) || isNan(b)) {
    if (signalsQuiet || a.class === 'signalingNan' || b.class === 'signalingNan') context.flags |= FpFlag.invalid;
    return 'unordered';
  }
  noteDenormal(context, a, b);
  const rankA = a.class === 'infinity' ? (a.sign ? -1 : 1) : 0;
  const rankB = b.class === 'infinity' ? (b.sign ? -1 : 1) : 0;
  const order = rankA !== 0 || rankB !== 0 ? Math.sign(rankA - rankB) : compareFinite(a, b);
  return order === 0 ? 'equal' : order < 0 ? 'less' : 'greater';
}

/** FLD m32/m64 and the conversion of memory operands. */
export function x87FromFormat(context: FpContext, from: Format, bits: bigint): bigint {
  const a = unpack(from, bits);
  if (isNan(a)) {
    if (a.class === 'signalingNan') context.flags |= FpFlag.invalid;
    return packNan(EXTENDED, a.sign, a.significand, from.precision - 1);
  }
  if (a.class === 'infinity') return packInfinity(EXTENDED, a.sign);
  if (a.class === 'zero') return packZero(EXTENDED, a.sign);
  noteDenormal(context, a);
  const length = bitLength(a.significand);
  const biased = a.exponent + length - 1 + EXTENDED.bias;
  const significand = a.significand << BigInt(EXTENDED.precision - length);
  return signBit(EXTENDED, a.sign) | (BigInt(biased) << EXTENDED.exponentShift) | significand;
}

/** A memory operand of arithmetic: as FLD, but a signalling NaN stays signalling for the operation itself to see. */
export function x87OperandFromFormat(from: Format, bits: bigint): bigint {
  const a = unpack(from, bits);
  if (a.class === 'signalingNan') {
    const fraction = a.significand << BigInt(EXTENDED.precision - from.precision);
    return signBit(EXTENDED, a.sign) | EXTENDED.infinity | fraction;
  }
  return x87FromFormat(SCRATCH, from, bits);
}

/** Whether a binary32/64 memory operand is denormal (its extended form no longer is). */
export function isDenormal(from: Format, bits: bigint): boolean {
  return unpack(from, bits).class === 'denormal';
}

const SCRATCH: FpContext = { flags: 0 } as FpContext;

/** FST/FSTP m32/m64. */
export function x87ToFormat(context: FpContext, to: Format, bits: bigint): bigint {
  const a = unpack(EXTENDED, bits);
  context.roundedUp = false;
  if (a.class === 'unsupported') {
    context.flags |= FpFlag.invalid;
    return to.defaultNan;
  }
  if (isNan(a)) {
    if (a.class === 'signalingNan') context.flags |= FpFlag.invalid;
    return packNan(to, a.sign, a.significand, FRACTION_BITS);
  }
  if (a.class === 'infinity') return packInfinity(to, a.sign);
  if (a.class === 'zero') return packZero(to, a.sign);
  const result = roundPack(context, to, a.sign, a.significand, a.exponent);
  // Nothing is stored then, so nothing was rounded.
  if ((context.flags & ~context.masks & (FpFlag.overflow | FpFlag.underflow)) !== 0) {
    context.flags &= ~FpFlag.precision;
    context.roundedUp = false;
  }
  return result;
}

/** FIST(P) and FISTTP (`truncates`): two's complement of `bits` bits, or the integer indefinite with invalid. */
export function x87ToInteger(context: FpContext, bits: number, value: bigint, truncates: boolean): bigint {
  const indefinite = 1n << BigInt(bits - 1);
  const a = unpack(EXTENDED, value);
  context.roundedUp = false;
  const isFinite = a.class === 'zero' || a.class === 'normal' || a.class === 'denormal';
  if (!isFinite || a.exponent > bits) {
    context.flags |= FpFlag.invalid;
    return indefinite;
  }
  const rounded = roundShift(truncates ? Rounding.zero : context.rounding, a.sign, a.significand, -a.exponent);
  if (rounded.value > (a.sign ? indefinite : indefinite - 1n)) {
    context.flags |= FpFlag.invalid;
    return indefinite;
  }
  if (rounded.isInexact) {
    context.flags |= FpFlag.precision;
    context.roundedUp = rounded.isUp;
  }
  return BigInt.asUintN(bits, a.sign ? -rounded.value : rounded.value);
}

/** FILD: always exact. `value` is signed. */
export function x87FromInteger(value: bigint): bigint {
  if (value === 0n) return 0n;
  const sign = value < 0n;
  const magnitude = sign ? -value : value;
  const length = bitLength(magnitude);
  const significand = magnitude << BigInt(EXTENDED.precision - length);
  return signBit(EXTENDED, sign) | (BigInt(length - 1 + EXTENDED.bias) << EXTENDED.exponentShift) | significand;
}

/** FRNDINT. */
export function x87Round(context: FpContext, bits: bigint): bigint {
  const a = unpack(EXTENDED, bits);
  context.roundedUp = false;
  if (a.class === 'unsupported') return invalidResult(context);
  if (isNan(a)) return propagateNanExtended(context, a, a);
  if (a.class === 'infinity' || a.class === 'zero') return bits;
  noteDenormal(context, a);
  if (a.exponent >= 0 || context.hasNoResult) return bits;
  const rounded = roundShift(context.rounding, a.sign, a.significand, -a.exponent);
  if (rounded.isInexact) {
    context.flags |= FpFlag.precision;
    context.roundedUp = rounded.isUp;
  }
  if (rounded.value === 0n) return packZero(EXTENDED, a.sign);
  return x87FromInteger(a.sign ? -rounded.value : rounded.value);
}

const BCD_DIGITS = 18;
const BCD_LIMIT = 10n ** BigInt(BCD_DIGITS);
const BCD_INDEFINITE = 0xffffc000000000000000n;

/** FBSTP: 80-bit packed decimal, or the packed BCD indefinite with invalid. */
export function x87ToBcd(context: FpContext, bits: bigint): bigint {
  const integer = BigInt.asIntN(64, x87ToInteger(context, 64, bits, false));
  const magnitude = integer < 0n ? -integer : integer;
  if ((context.flags & FpFlag.invalid) !== 0 || magnitude >= BCD_LIMIT) {
    context.flags = (context.flags & ~FpFlag.precision) | FpFlag.invalid;
    context.roundedUp = false;
    return BCD_INDEFINITE;
  }
  const isNegative = unpack(EXTENDED, bits).sign;
  return BigInt(`0x${magnitude.toString(10)}`) | (isNegative ? 1n << 79n : 0n);
}

/** FBLD. Digits above 9 are undefined by the manual; here each nibble weighs its binary value, as processors do. */
export function x87FromBcd(packed: bigint): bigint {
  let value = 0n;
  for (let digit = BCD_DIGITS - 1; digit >= 0; digit--) value = value * 10n + ((packed >> BigInt(digit * 4)) & 15n);
  return x87FromInteger(value) | (((packed >> 79n) & 1n) << 79n);
}

/** FSCALE: st0 * 2^trunc(st1). */
export function x87Scale(context: FpContext, aBits: bigint, bBits: bigint): bigint {
  const a = unpack(EXTENDED, aBits);
  const b = unpack(EXTENDED, bBits);
  context.roundedUp = false;
  if (a.class === 'unsupported' || b.class === 'unsupported') return invalidResult(context);
  if (isNan(a) || isNan(b)) return propagateNanExtended(context, a, b);
  if (b.class === 'infinity') {
    if (b.sign ? a.class === 'infinity' : a.class === 'zero') return invalidResult(context);
    noteDenormal(context, a);
    return b.sign ? packZero(EXTENDED, a.sign) : packInfinity(EXTENDED, a.sign);
  }
  noteDenormal(context, a, b);
  if (a.class === 'infinity' || a.class === 'zero') return aBits;
  const integer = roundShift(Rounding.zero, false, b.significand, Math.min(-b.exponent, MAX_SHIFT));
  const limited = integer.value > SCALE_LIMIT ? SCALE_LIMIT : integer.value;
  const scale = Number(b.sign ? -limited : limited);
  return roundPack(context, EXTENDED, a.sign, a.significand, a.exponent + scale);
}

/** More than any exponent can be moved. */
const SCALE_LIMIT = 0x20000n;
const MAX_SHIFT = 128;

/** FXTRACT: `exponent` replaces st0, then `significand` is pushed. */
export function x87Extract(context: FpContext, bits: bigint): { exponent: bigint; significand: bigint } {
  const a = unpack(EXTENDED, bits);
  context.roundedUp = false;
  if (a.class === 'unsupported') {
    const nan = invalidResult(context);
    return { exponent: nan, significand: nan };
  }
  if (isNan(a)) {
    const nan = propagateNanExtended(context, a, a);
    return { exponent: nan, significand: nan };
  }
  if (a.class === 'infinity') return { exponent: packInfinity(EXTENDED, false), significand: bits };
  if (a.class === 'zero') {
    context.flags |= FpFlag.zeroDivide;
    return { exponent: packInfinity(EXTENDED, true), significand: bits };
  }
  noteDenormal(context, a);
  const length = bitLength(a.significand);
  const significand = a.significand << BigInt(EXTENDED.precision - length);
  return {
    exponent: x87FromInteger(BigInt(a.exponent + length - 1)),
    significand: signBit(EXTENDED, a.sign) | (BigInt(EXTENDED.bias) << EXTENDED.exponentShift) | significand,
  };
}

export interface Remainder {
  value: bigint;
  /** Low three bits of the quotient; undefined where there is none (invalid, NaN). Meaningless when not complete. */
  quotient: number | undefined;
  isComplete: boolean;
}

/** FPREM (`roundsToNearest` false) and FPREM1. Exact; reduces the exponent by at most 63 a time. */
export function x87Remainder(context: FpContext, aBits: bigint, bBits: bigint, roundsToNearest: boolean): Remainder {
  const a = unpack(EXTENDED, aBits);
  const b = unpack(EXTENDED, bBits);
  context.roundedUp = false;
  const without = (value: bigint): Remainder => ({ value, quotient: undefined, isComplete: true });
  const done = (value: bigint): Remainder => ({ value, quotient: 0, isComplete: true });
  if (a.class === 'unsupported' || b.class === 'unsupported') return without(invalidResult(context));
  if (isNan(a) || isNan(b)) return without(propagateNanExtended(context, a, b));
  if (a.class === 'infinity' || b.class === 'zero') return without(invalidResult(context));
  noteDenormal(context, a, b);
  if (a.class === 'zero') return done(aBits);
  if (b.class === 'infinity') return done(roundPack(context, EXTENDED, a.sign, a.significand, a.exponent));
  const topA = a.exponent + bitLength(a.significand);
  const topB = b.exponent + bitLength(b.significand);
  const distance = topA - topB;
  const exponent = Math.min(a.exponent, b.exponent);
  if (distance < 64) {
    if (distance < -1)
      return { value: roundPack(context, EXTENDED, a.sign, a.significand, a.exponent), quotient: 0, isComplete: true };
    const left = a.significand << BigInt(a.exponent - exponent);
    const right = b.significand << BigInt(b.exponent - exponent);
    let quotient = left / right;
    let rest = left - quotient * right;
    let sign = a.sign;
    if (roundsToNearest) {
      const twice = rest * 2n;
      if (twice > right || (twice === right && (quotient & 1n) !== 0n)) {
        quotient += 1n;
        rest = right - rest;
        sign = !sign;
      }
    }
    if (rest === 0n) return { value: packZero(EXTENDED, a.sign), quotient: Number(quotient & 7n), isComplete: true };
    const value = roundPack(context, EXTENDED, sign, rest, exponent);
    return { value, quotient: Number(quotient & 7n), isComplete: true };
  }
  // Partial: subtract a multiple of b * 2^(distance - step) so that the exponent falls by `step`, 32 to 63.
  const step = (distance & 31) | 32;
  const scaledExponent = b.exponent + distance - step;
  const common = Math.min(a.exponent, scaledExponent);
  const left = a.significand << BigInt(a.exponent - common);
  const right = b.significand << BigInt(scaledExponent - common);
  const rest = left % right;
  const value = rest === 0n ? packZero(EXTENDED, a.sign) : roundPack(context, EXTENDED, a.sign, rest, common);
  return { value, quotient: 0, isComplete: false };
}

export type X87Class = 'unsupported' | 'nan' | 'normal' | 'infinity' | 'zero' | 'denormal';

/** FXAM, for a register that is not empty. */
export function x87Examine(bits: bigint): X87Class {
  const a = unpack(EXTENDED, bits);
  return isNan(a) ? 'nan' : (a.class as X87Class);
}
