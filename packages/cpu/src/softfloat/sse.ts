/**
 * Scalar SSE floating-point operations on binary32 and binary64 bit patterns: NaN choice, DAZ/FTZ and exceptions as
 * the SSE unit has them. A packed instruction calls them once an element and joins the flags.
 *
 * Intel SDM vol. 1, 4.8.3.5 table 4-7 (NaN operands), 11.5 (SSE exceptions); vol. 2 for each instruction.
 */
import { FpFlag, Rounding, type FpContext } from './context.ts';
import { addFinite, compareFinite, divideFinite, multiplyFinite, sqrtFinite } from './arithmetic.ts';
import { isNan, packInfinity, packNan, packZero, signBit, unpack, type Format, type Unpacked } from './format.ts';
import { roundPack, roundShift } from './round.ts';

export type SseBinary = 'add' | 'sub' | 'mul' | 'div' | 'min' | 'max';

/** Decomposes an operand and applies DAZ. */
function operand(context: FpContext, format: Format, bits: bigint): Unpacked {
  const unpacked = unpack(format, bits);
  if (unpacked.class === 'denormal' && context.denormalsAreZero) {
    unpacked.class = 'zero';
    unpacked.significand = 0n;
  }
  return unpacked;
}

function noteDenormal(context: FpContext, a: Unpacked, b?: Unpacked): void {
  if (a.class === 'denormal' || b?.class === 'denormal') context.flags |= FpFlag.denormal;
}

function quieted(format: Format, nan: Unpacked): bigint {
  return packNan(format, nan.sign, nan.significand, format.precision - 1);
}

/** The NaN result of an operation with a NaN operand: the first one that is a NaN, made quiet. */
function propagateNan(context: FpContext, format: Format, a: Unpacked, b: Unpacked): bigint {
  if (a.class === 'signalingNan' || b.class === 'signalingNan') context.flags |= FpFlag.invalid;
  return quieted(format, isNan(a) ? a : b);
}

function invalid(context: FpContext, format: Format): bigint {
  context.flags |= FpFlag.invalid;
  return format.defaultNan;
}

/** ADDSx, SUBSx, MULSx, DIVSx, MINSx, MAXSx on one pair of elements. */
export function sseBinary(context: FpContext, format: Format, op: SseBinary, aBits: bigint, bBits: bigint): bigint {
  if (op === 'min' || op === 'max') return minMax(context, format, op, aBits, bBits);
  const a = operand(context, format, aBits);
  const b = operand(context, format, bBits);
  if (isNan(a) || isNan(b)) return propagateNan(context, format, a, b);
  switch (op) {
    case 'add':
      return add(context, format, a, b);
    case 'sub':
      b.sign = !b.sign;
      return add(context, format, a, b);
    case 'mul':
      return multiply(context, format, a, b);
    case 'div':
      return divide(context, format, a, b);
  }
}

function add(context: FpContext, format: Format, a: Unpacked, b: Unpacked): bigint {
  if (a.class === 'infinity' && b.class === 'infinity' && a.sign !== b.sign) return invalid(context, format);
  noteDenormal(context, a, b);
  if (a.class === 'infinity') return packInfinity(format, a.sign);
  if (b.class === 'infinity') return packInfinity(format, b.sign);
  return addFinite(context, format, a, b);
}

function multiply(context: FpContext, format: Format, a: Unpacked, b: Unpacked): bigint {
  const hasInfinity = a.class === 'infinity' || b.class === 'infinity';
  if (hasInfinity && (a.class === 'zero' || b.class === 'zero')) return invalid(context, format);
  noteDenormal(context, a, b);
  if (hasInfinity) return packInfinity(format, a.sign !== b.sign);
  return multiplyFinite(context, format, a, b);
}

function divide(context: FpContext, format: Format, a: Unpacked, b: Unpacked): bigint {
  const sign = a.sign !== b.sign;
  if (a.class === 'infinity' && b.class === 'infinity') return invalid(context, format);
  if (a.class === 'zero' && b.class === 'zero') return invalid(context, format);
  if (b.class === 'zero' && a.class !== 'infinity') {
    context.flags |= FpFlag.zeroDivide;
    return packInfinity(format, sign);
  }
  noteDenormal(context, a, b);
  if (a.class === 'infinity') return packInfinity(format, sign);
  if (b.class === 'infinity') return packZero(format, sign);
  return divideFinite(context, format, a, b);
}

/** MINSx and MAXSx: with any NaN or two zeros the second operand as it is. */
function minMax(context: FpContext, format: Format, op: 'min' | 'max', aBits: bigint, bBits: bigint): bigint {
  const a = operand(context, format, aBits);
  const b = operand(context, format, bBits);
  const second = b.class === 'zero' ? packZero(format, b.sign) : bBits;
  if (isNan(a) || isNan(b)) {
    context.flags |= FpFlag.invalid;
    return second;
  }
  noteDenormal(context, a, b);
  const order = compareOrdered(a, b);
  const takesFirst = op === 'min' ? order < 0 : order > 0;
  if (!takesFirst) return second;
  return a.class === 'zero' ? packZero(format, a.sign) : aBits;
}

/** Order of two operands that are no NaNs. */
function compareOrdered(a: Unpacked, b: Unpacked): -1 | 0 | 1 {
  if (a.class === 'infinity' || b.class === 'infinity') {
    const left = a.class === 'infinity' ? (a.sign ? -1 : 1) : 0;
    const right = b.class === 'infinity' ? (b.sign ? -1 : 1) : 0;
    return left === right ? 0 : left < right ? -1 : 1;
  }
  return compareFinite(a, b);
}

export function sseSqrt(context: FpContext, format: Format, bits: bigint): bigint {
  const a = operand(context, format, bits);
  if (isNan(a)) return propagateNan(context, format, a, a);
  if (a.class === 'zero') return packZero(format, a.sign);
  if (a.sign) return invalid(context, format);
  noteDenormal(context, a);
  if (a.class === 'infinity') return packInfinity(format, false);
  return sqrtFinite(context, format, a);
}

/** What a fused multiply-add does with the signs: of the product, of the addend. */
export interface FusedSigns {
  readonly negatesProduct: boolean;
  readonly negatesAddend: boolean;
}

/** a * b + c with one rounding. */
export function sseFused(
  context: FpContext,
  format: Format,
  bits: readonly [a: bigint, b: bigint, c: bigint],
  signs: FusedSigns,
): bigint {
  const [a, b, c] = bits.map((value) => operand(context, format, value)) as [Unpacked, Unpacked, Unpacked];
  const hasInfinity = a.class === 'infinity' || b.class === 'infinity';
  const isInvalidProduct = hasInfinity && (a.class === 'zero' || b.class === 'zero');
  const nan = [a, b, c].find(isNan);
  if (nan) {
    if ([a, b, c].some((one) => one.class === 'signalingNan')) context.flags |= FpFlag.invalid;
    return quieted(format, nan);
  }
  if (isInvalidProduct) return invalid(context, format);
  const sign = (a.sign !== b.sign) !== signs.negatesProduct;
  c.sign = c.sign !== signs.negatesAddend;
  if (hasInfinity && c.class === 'infinity' && c.sign !== sign) return invalid(context, format);
  noteDenormal(context, a, b);
  noteDenormal(context, c);
  if (hasInfinity) return packInfinity(format, sign);
  if (c.class === 'infinity') return packInfinity(format, c.sign);
  const product: Unpacked = {
    class: 'normal',
    sign,
    significand: a.significand * b.significand,
    exponent: a.exponent + b.exponent,
  };
  return addFinite(context, format, product, c);
}

export type Relation = 'less' | 'equal' | 'greater' | 'unordered';

/** COMISx (`signalsQuiet`) and UCOMISx; also the base of CMPxx. */
export function sseCompare(
  context: FpContext,
  format: Format,
  aBits: bigint,
  bBits: bigint,
  signalsQuiet: boolean,
): Relation {
  const a = operand(context, format, aBits);
  const b = operand(context, format, bBits);
  if (isNan(a) || isNan(b)) {
    if (signalsQuiet || a.class === 'signalingNan' || b.class === 'signalingNan') context.flags |= FpFlag.invalid;
    return 'unordered';
  }
  noteDenormal(context, a, b);
  const order = compareOrdered(a, b);
  return order === 0 ? 'equal' : order < 0 ? 'less' : 'greater';
}

/**
 * CMPxx predicates 0 to 7: EQ LT LE UNORD NEQ NLT NLE ORD, true of unordered operands from UNORD to NLE; those of AVX from
 * 8 on tell the same of numbers and the opposite of NaNs, and 16 to 31 signal where 0 to 15 do not. True makes an
 * element of all ones. Intel SDM vol. 2 CMPPD, table 3-1.
 */
export function sseComparePredicate(
  context: FpContext,
  format: Format,
  predicate: number,
  aBits: bigint,
  bBits: bigint,
): boolean {
  const base = predicate & 3;
  const signals = (base === 1 || base === 2) !== predicate >= 16;
  const relation = sseCompare(context, format, aBits, bBits, signals);
  if (relation === 'unordered') {
    const isTrueOfNans = (predicate & 7) >= 3 && (predicate & 7) <= 6;
    return isTrueOfNans !== (predicate & 8) > 0;
  }
  let holds = false;
  if (base === 0) holds = relation === 'equal';
  else if (base === 1) holds = relation === 'less';
  else if (base === 2) holds = relation === 'less' || relation === 'equal';
  return (predicate & 4) !== 0 ? !holds : holds;
}

/** CVTSS2SD, CVTSD2SS and their packed forms. */
export function sseConvertFormat(context: FpContext, from: Format, to: Format, bits: bigint): bigint {
  const a = operand(context, from, bits);
  if (isNan(a)) {
    if (a.class === 'signalingNan') context.flags |= FpFlag.invalid;
    return packNan(to, a.sign, a.significand, from.precision - 1);
  }
  noteDenormal(context, a);
  if (a.class === 'infinity') return packInfinity(to, a.sign);
  if (a.class === 'zero') return packZero(to, a.sign);
  return roundPack(context, to, a.sign, a.significand, a.exponent);
}

/**
 * CVTxx2SI/DQ/PI and, with `truncates`, CVTTxx. Returns the two's complement of `bits` bits; the integer indefinite
 * (only the top bit set) with invalid when it does not fit.
 */
export function sseToInteger(
  context: FpContext,
  format: Format,
  value: bigint,
  bits: number,
  truncates: boolean,
): bigint {
  const indefinite = 1n << BigInt(bits - 1);
  const a = operand(context, format, value);
  if (isNan(a) || a.class === 'infinity') {
    context.flags |= FpFlag.invalid;
    return indefinite;
  }
  if (a.significand === 0n) return 0n;
  if (a.exponent > bits) {
    context.flags |= FpFlag.invalid;
    return indefinite;
  }
  const rounding = truncates ? Rounding.zero : context.rounding;
  const rounded = roundShift(rounding, a.sign, a.significand, -a.exponent);
  if (rounded.value > (a.sign ? indefinite : indefinite - 1n)) {
    context.flags |= FpFlag.invalid;
    return indefinite;
  }
  if (rounded.isInexact) context.flags |= FpFlag.precision;
  return BigInt.asUintN(bits, a.sign ? -rounded.value : rounded.value);
}

/** CVTSI2xx, CVTDQ2xx, CVTPI2xx from a signed integer. */
export function sseFromInteger(context: FpContext, format: Format, value: bigint): bigint {
  const sign = value < 0n;
  return roundPack(context, format, sign, sign ? -value : value, 0);
}

/** ROUNDxx: imm bits 0..1 rounding, bit 2 take MXCSR's, bit 3 no precision exception. */
export function sseRound(context: FpContext, format: Format, immediate: number, bits: bigint): bigint {
  const a = operand(context, format, bits);
  if (isNan(a)) return propagateNan(context, format, a, a);
  if (a.class === 'infinity') return bits;
  if (a.class === 'zero') return packZero(format, a.sign);
  if (a.exponent >= 0) return bits;
  const rounding = (immediate & 4) !== 0 ? context.rounding : ((immediate & 3) as Rounding);
  const rounded = roundShift(rounding, a.sign, a.significand, -a.exponent);
  if (rounded.isInexact && (immediate & 8) === 0) context.flags |= FpFlag.precision;
  if (rounded.value === 0n) return packZero(format, a.sign);
  const exact = context.flags;
  const result = roundPack(context, format, a.sign, rounded.value, 0);
  context.flags = exact;
  return result;
}

/**
 * RCPSS and RSQRTSS: no exceptions, denormals count as zero and tiny results are zero whatever MXCSR says. The manual
 * allows a relative error of 1.5 * 2^-12 and processors differ; ours is the correctly rounded quotient of 12 bits.
 */
export function sseReciprocal(format: Format, bits: bigint, ofRoot: boolean): bigint {
  const a = unpack(format, bits);
  if (isNan(a)) return quieted(format, a);
  if (a.class === 'zero' || a.class === 'denormal') return packInfinity(format, a.sign);
  if (ofRoot && a.sign) return format.defaultNan;
  if (a.class === 'infinity') return packZero(format, a.sign);
  const value = Number(a.significand) * 2 ** a.exponent;
  const exact = ofRoot ? 1 / Math.sqrt(value) : 1 / value;
  return approximation(format, exact, a.sign);
}

const APPROXIMATION_DATA = new DataView(new ArrayBuffer(4));
/** Fraction bits of a binary32 that an approximation leaves zero. */
const APPROXIMATION_DROPPED_BITS = 11;

function approximation(format: Format, magnitude: number, sign: boolean): bigint {
  APPROXIMATION_DATA.setFloat32(0, magnitude);
  const pattern = APPROXIMATION_DATA.getUint32(0);
  const half = 1 << (APPROXIMATION_DROPPED_BITS - 1);
  const kept = ((pattern + half) >>> APPROXIMATION_DROPPED_BITS) << APPROXIMATION_DROPPED_BITS;
  if (kept >>> 23 === 0) return packZero(format, sign);
  return signBit(format, sign) | BigInt(kept >>> 0);
}
