/**
 * F2XM1, FYL2X, FYL2XP1, FSIN, FCOS, FSINCOS, FPTAN and FPATAN by series in fixed point on bigints, with far more bits
 * than the result has; the only error left is that of the final rounding. Processors differ among one another in the
 * last bit. Large angles are reduced with a pi of 66 bits, as the processors do.
 *
 * Intel SDM vol. 1, 8.3.7 to 8.3.10; vol. 2 for the tables of special operands.
 */
import { FpFlag, type FpContext } from './context.ts';
import { integerSqrt } from './arithmetic.ts';
import { EXTENDED, bitLength, isNan, packInfinity, packZero, signBit, unpack, type Unpacked } from './format.ts';
import { roundPack } from './round.ts';
import { invalidResult, noteDenormal, propagateNanExtended } from './x87.ts';

/** Fraction bits of the fixed-point numbers where nothing more is said. */
const FRACTION = 256;
/** Below this exponent a series is its first term and a sticky bit. */
const TINY_EXPONENT = -60;
/** FSIN, FCOS, FPTAN refuse arguments from 2^63 on. */
const MAX_ANGLE_EXPONENT = 63;

const ONE = 1n << BigInt(FRACTION);
/** 1.0 as extended. */
const EXTENDED_ONE = 0x3fff8000000000000000n;

/** atan(1/n) in fixed point with `bits` fraction bits. */
function arctanOfInverse(n: bigint, bits: number): bigint {
  let power = (1n << BigInt(bits)) / n;
  const square = n * n;
  let sum = power;
  for (let k = 3n, sign = -1n; power !== 0n; k += 2n, sign = -sign) {
    power /= square;
    sum += (sign * power) / k;
  }
  return sum;
}

const GUARD = 80;
/** Pi with room for the reduction of arguments up to 2^63 (Machin's formula). */
const PI_BITS = FRACTION + GUARD;
const PI_LONG = (4n * (4n * arctanOfInverse(5n, PI_BITS + 16) - arctanOfInverse(239n, PI_BITS + 16))) >> 16n;
const PI = PI_LONG >> BigInt(GUARD);
/** The pi that the processors subtract, of 66 significant bits (SDM vol. 1, 8.3.8). */
const REDUCTION_PI = (PI_LONG >> BigInt(PI_BITS - 64)) << BigInt(PI_BITS - 64);

/** 2 * atanh(t) = ln((1+t)/(1-t)); |t| well below 1. */
function twiceArtanh(t: bigint, bits: number): bigint {
  const shift = BigInt(bits);
  const square = (t * t) >> shift;
  let power = t;
  let sum = t;
  for (let k = 3n; power !== 0n && power !== -1n; k += 2n) {
    power = (power * square) >> shift;
    sum += power / k;
  }
  return sum * 2n;
}

const LN2 = twiceArtanh(ONE / 3n, FRACTION);

function top(a: Unpacked): number {
  return a.exponent + bitLength(a.significand) - 1;
}

/** The magnitude in fixed point; bits below the last are dropped. */
function toFixed(a: Unpacked, bits: number): bigint {
  const shift = a.exponent + bits;
  return shift >= 0 ? a.significand << BigInt(shift) : a.significand >> BigInt(-shift);
}

/** Rounds an inexact fixed-point value. */
function fromFixed(context: FpContext, value: bigint, bits: number, scale = 0): bigint {
  const sign = value < 0n;
  const magnitude = sign ? -value : value;
  return roundPack(context, EXTENDED, sign, (magnitude << 1n) | 1n, scale - bits - 1);
}

/** Rounds a value infinitesimally below (or above) the magnitude of `a`. */
function nearly(context: FpContext, a: Unpacked, isBelow: boolean): bigint {
  const widened = a.significand << BigInt(GUARD);
  return roundPack(context, EXTENDED, a.sign, isBelow ? widened - 1n : widened + 1n, a.exponent - GUARD);
}

/** Results for unsupported and NaN operands, common to all. */
function refuse(context: FpContext, a: Unpacked, b: Unpacked): bigint | undefined {
  context.roundedUp = false;
  if (a.class === 'unsupported' || b.class === 'unsupported') return invalidResult(context);
  if (isNan(a) || isNan(b)) return propagateNanExtended(context, a, b);
  return undefined;
}

/** e^x - 1 in fixed point. */
function exponentialMinusOne(x: bigint, bits: number): bigint {
  let term = x;
  let sum = x;
  for (let k = 2n; term !== 0n && term !== -1n; k++) {
    term = ((term * x) >> BigInt(bits)) / k;
    sum += term;
  }
  return sum;
}

/** F2XM1: 2^x - 1 for -1 <= x <= 1; outside the manual leaves the result open and ours is x. */
export function x87TwoToXMinusOne(context: FpContext, bits: bigint): bigint {
  const a = unpack(EXTENDED, bits);
  const refused = refuse(context, a, a);
  if (refused !== undefined) return refused;
  if (a.class === 'zero') return bits;
  if (a.class === 'infinity') return a.sign ? EXTENDED_ONE | signBit(EXTENDED, true) : bits;
  noteDenormal(context, a);
  if (context.hasNoResult) return bits;
  const exponent = top(a);
  if (exponent >= 0) {
    context.flags |= FpFlag.precision;
    if (exponent > 0 || a.significand !== 1n << 63n) return bits;
    return a.sign ? 0xbffe8000000000000000n : EXTENDED_ONE;
  }
  if (exponent < -FRACTION) {
    const product = a.significand * LN2;
    return roundPack(context, EXTENDED, a.sign, (product << 1n) | 1n, a.exponent - FRACTION - 1);
  }
  const fraction = FRACTION - exponent;
  const magnitude = (toFixed(a, fraction) * LN2) >> BigInt(FRACTION);
  return fromFixed(context, exponentialMinusOne(a.sign ? -magnitude : magnitude, fraction), fraction);
}

/** log2 of a positive finite number, FRACTION bits. */
function logarithm(a: Unpacked): bigint {
  let scale = top(a);
  // Mantissa between 0.7 and 1.42, so that arguments near one keep their accuracy.
  const shift = FRACTION - (bitLength(a.significand) - 1);
  let mantissa = shift >= 0 ? a.significand << BigInt(shift) : a.significand >> BigInt(-shift);
  if (mantissa > (ONE * 181n) / 128n) {
    mantissa >>= 1n;
    scale += 1;
  }
  const natural = twiceArtanh(((mantissa - ONE) << BigInt(FRACTION)) / (mantissa + ONE), FRACTION);
  return BigInt(scale) * ONE + (natural * ONE) / LN2;
}

/** FYL2X: st1 * log2(st0). */
export function x87YLog2X(context: FpContext, xBits: bigint, yBits: bigint): bigint {
  const x = unpack(EXTENDED, xBits);
  const y = unpack(EXTENDED, yBits);
  const refused = refuse(context, x, y);
  if (refused !== undefined) return refused;
  if (x.sign && x.class !== 'zero') return invalidResult(context);
  if (x.class === 'zero') {
    if (y.class === 'zero') return invalidResult(context);
    if (y.class !== 'infinity') context.flags |= FpFlag.zeroDivide;
    return packInfinity(EXTENDED, !y.sign);
  }
  const isOne = xBits === EXTENDED_ONE;
  const isBelowOne = x.class !== 'infinity' && top(x) < 0;
  if (x.class === 'infinity' ? y.class === 'zero' : isOne && y.class === 'infinity') return invalidResult(context);
  noteDenormal(context, x, y);
  const sign = y.sign !== isBelowOne;
  if (x.class === 'infinity' || y.class === 'infinity') return packInfinity(EXTENDED, sign);
  if (y.class === 'zero' || isOne) return packZero(EXTENDED, sign);
  return scaledLogarithm(context, y, logarithm(x), FRACTION);
}

function scaledLogarithm(context: FpContext, y: Unpacked, log: bigint, bits: number): bigint {
  const isNegative = log < 0n;
  const magnitude = isNegative ? -log : log;
  const isExact = (magnitude & (ONE - 1n)) === 0n && bits === FRACTION;
  // Processors call the result inexact whatever it is.
  if (!context.hasNoResult) context.flags |= FpFlag.precision;
  const product = y.significand * magnitude;
  const sign = y.sign !== isNegative;
  const result = roundPack(context, EXTENDED, sign, (product << 1n) | (isExact ? 0n : 1n), y.exponent - bits - 1);
  const isTiny = (result & EXTENDED.infinity) >> EXTENDED.exponentShift === 0n;
  if (isTiny && !context.hasNoResult) context.flags |= FpFlag.underflow;
  return result;
}

/** FYL2XP1: st1 * log2(st0 + 1), for |st0| below 1 - sqrt(1/2); further out ours still is right, above -1. */
export function x87YLog2XPlusOne(context: FpContext, xBits: bigint, yBits: bigint): bigint {
  const x = unpack(EXTENDED, xBits);
  const y = unpack(EXTENDED, yBits);
  const refused = refuse(context, x, y);
  if (refused !== undefined) return refused;
  const sign = x.sign !== y.sign;
  if (x.class === 'infinity') {
    if (x.sign || y.class === 'zero') return invalidResult(context);
    noteDenormal(context, y);
    return packInfinity(EXTENDED, sign);
  }
  if (x.class === 'zero' && y.class === 'infinity') return invalidResult(context);
  noteDenormal(context, x, y);
  if (y.class === 'infinity') return packInfinity(EXTENDED, sign);
  if (x.class === 'zero' || y.class === 'zero') return packZero(EXTENDED, sign);
  const exponent = top(x);
  if (x.sign && exponent >= 0) {
    // No logarithm: the manual leaves the result open, AMD's processors give the operand back.
    if (!context.hasNoResult) context.flags |= FpFlag.precision;
    return xBits;
  }
  if (exponent < -FRACTION / 2) {
    // log2(1 + x) is x / ln 2 here.
    const quotient = (x.significand << BigInt(2 * FRACTION)) / LN2;
    const product = ((quotient * y.significand) << 1n) | 1n;
    return roundPack(context, EXTENDED, sign, product, x.exponent + y.exponent - FRACTION - 1);
  }
  const bits = FRACTION - Math.min(exponent, 0);
  const one = 1n << BigInt(bits);
  const fixed = x.sign ? -toFixed(x, bits) : toFixed(x, bits);
  if (exponent >= -1) {
    const log = logarithm({ class: 'normal', sign: false, significand: fixed + one, exponent: -bits });
    return scaledLogarithm(context, y, log, FRACTION);
  }
  const natural = twiceArtanh((fixed << BigInt(bits)) / (fixed + 2n * one), bits);
  return scaledLogarithm(context, y, (natural * ONE) / LN2, bits);
}

interface SineCosine {
  sine: bigint;
  cosine: bigint;
}

/** Sine and cosine of a finite angle below 2^63, FRACTION bits. */
function sineCosine(a: Unpacked): SineCosine {
  const long = toFixed(a, PI_BITS);
  const half = REDUCTION_PI >> 1n;
  const quadrant = (long + (half >> 1n)) / half;
  const x = (long - quadrant * half) >> BigInt(GUARD);
  const shift = BigInt(FRACTION);
  const square = (x * x) >> shift;
  let sine = x;
  let cosine = ONE;
  let term = x;
  for (let k = 2n; term !== 0n && term !== -1n; k += 2n) {
    term = -((term * square) >> shift) / (k * (k + 1n));
    sine += term;
  }
  term = ONE;
  for (let k = 1n; term !== 0n && term !== -1n; k += 2n) {
    term = -((term * square) >> shift) / (k * (k + 1n));
    cosine += term;
  }
  switch (Number(quadrant & 3n)) {
    case 0:
      break;
    case 1:
      [sine, cosine] = [cosine, -sine];
      break;
    case 2:
      [sine, cosine] = [-sine, -cosine];
      break;
    default:
      [sine, cosine] = [-cosine, sine];
  }
  return { sine: a.sign ? -sine : sine, cosine };
}

export interface Angles {
  /** The argument is out of range (C2): nothing was computed. */
  isOutOfRange: boolean;
  sine: bigint;
  cosine: bigint;
  tangent: bigint;
}

/** FSIN, FCOS, FSINCOS, FPTAN: the values asked for in `wanted`. */
export function x87Angles(context: FpContext, bits: bigint, wanted: 'sine' | 'cosine' | 'both' | 'tangent'): Angles {
  const a = unpack(EXTENDED, bits);
  const all = (value: bigint): Angles => ({ isOutOfRange: false, sine: value, cosine: value, tangent: value });
  const refused = refuse(context, a, a);
  if (refused !== undefined) return all(refused);
  if (a.class === 'infinity') return all(invalidResult(context));
  if (a.class === 'zero') return { isOutOfRange: false, sine: bits, cosine: EXTENDED_ONE, tangent: bits };
  if (top(a) >= MAX_ANGLE_EXPONENT) return { ...all(bits), isOutOfRange: true };
  noteDenormal(context, a);
  if (context.hasNoResult) return all(bits);
  const result = all(bits);
  if (top(a) < TINY_EXPONENT) {
    if (wanted === 'sine' || wanted === 'both') result.sine = nearly(context, a, true);
    if (wanted === 'tangent') result.tangent = nearly(context, a, false);
    if (wanted === 'cosine' || wanted === 'both') result.cosine = fromFixed(context, ONE - 1n, FRACTION);
    return result;
  }
  const { sine, cosine } = sineCosine(a);
  if (wanted === 'sine' || wanted === 'both') result.sine = fromFixed(context, sine, FRACTION);
  if (wanted === 'cosine' || wanted === 'both') result.cosine = fromFixed(context, cosine, FRACTION);
  if (wanted === 'tangent') result.tangent = fromFixed(context, (sine << BigInt(FRACTION)) / cosine, FRACTION);
  return result;
}

/** atan of 0 <= t <= 1, FRACTION bits. */
function arctangent(t: bigint): bigint {
  const shift = BigInt(FRACTION);
  let x = t;
  // Each step halves the angle: atan t = 2 atan(t / (1 + sqrt(1 + t^2))).
  const halvings = 3n;
  for (let i = 0n; i < halvings; i++) {
    const root = integerSqrt((ONE << shift) + x * x);
    x = (x << shift) / (ONE + root);
  }
  const square = (x * x) >> shift;
  let power = x;
  let sum = x;
  for (let k = 3n, sign = -1n; power !== 0n; k += 2n, sign = -sign) {
    power = (power * square) >> shift;
    sum += (sign * power) / k;
  }
  return sum << halvings;
}

/** FPATAN: the angle of the point (st0, st1), in the range -pi to pi. */
export function x87Arctangent(context: FpContext, xBits: bigint, yBits: bigint): bigint {
  const x = unpack(EXTENDED, xBits);
  const y = unpack(EXTENDED, yBits);
  const refused = refuse(context, x, y);
  if (refused !== undefined) return refused;
  noteDenormal(context, x, y);
  if (context.hasNoResult) return yBits;
  const angle = (value: bigint): bigint => fromFixed(context, y.sign ? -value : value, FRACTION);
  if (y.class === 'infinity') {
    if (x.class !== 'infinity') return angle(PI >> 1n);
    return angle(x.sign ? (PI * 3n) >> 2n : PI >> 2n);
  }
  if (x.class === 'infinity' || y.class === 'zero') return x.sign ? angle(PI) : packZero(EXTENDED, y.sign);
  if (x.class === 'zero') return angle(PI >> 1n);
  const distance = top(y) - top(x);
  if (distance < TINY_EXPONENT && !x.sign) {
    // The quotient itself, a sticky bit below: too small for the cubic term to reach a rounding boundary.
    const quotient = (y.significand << BigInt(FRACTION)) / x.significand;
    const isExact = quotient * x.significand === y.significand << BigInt(FRACTION);
    const below = isExact ? (quotient << 1n) - 1n : (quotient << 1n) | 1n;
    return roundPack(context, EXTENDED, y.sign, below, y.exponent - x.exponent - FRACTION - 1);
  }
  if (distance > FRACTION) return angle(PI >> 1n);
  if (distance < -FRACTION) return angle(PI);
  const isSteep = distance > 0 || (distance === 0 && compareAligned(y, x) > 0);
  const [numerator, denominator] = isSteep ? [x, y] : [y, x];
  const shift = FRACTION + numerator.exponent - denominator.exponent;
  const ratio =
    shift >= 0
      ? (numerator.significand << BigInt(shift)) / denominator.significand
      : numerator.significand / (denominator.significand << BigInt(-shift));
  let value = arctangent(ratio);
  if (isSteep) value = (PI >> 1n) - value;
  return angle(x.sign ? PI - value : value);
}

/** Compares magnitudes with the same leading exponent. */
function compareAligned(a: Unpacked, b: Unpacked): number {
  const delta = a.exponent - b.exponent;
  const left = delta > 0 ? a.significand << BigInt(delta) : a.significand;
  const right = delta < 0 ? b.significand << BigInt(-delta) : b.significand;
  return left === right ? 0 : left < right ? -1 : 1;
}
