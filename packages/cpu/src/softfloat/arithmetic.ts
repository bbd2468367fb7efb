/**
 * Exact arithmetic on decomposed finite numbers, rounded once. NaNs, infinities and the denormal exception are the
 * business of the callers (sse.ts, x87.ts), because the two units treat them differently.
 */
import { Rounding, type FpContext } from './context.ts';
import { bitLength, packZero, type Format, type Unpacked } from './format.ts';
import { roundPack } from './round.ts';

/** Beyond this distance of exponents an addend only matters as a sticky bit. */
const STICKY_DISTANCE = 200;
/** Quotients and roots are computed to at least this many bits before rounding. */
const GUARDED_BITS = 70;

/** Rounded a + b of finite operands. */
export function addFinite(context: FpContext, format: Format, a: Unpacked, b: Unpacked, precision?: number): bigint {
  const low = a.exponent < b.exponent ? a : b;
  const high = a.exponent < b.exponent ? b : a;
  const distance = high.exponent - low.exponent;
  let significand: bigint;
  let exponent = low.exponent;
  if (distance <= STICKY_DISTANCE || high.significand === 0n || low.significand === 0n) {
    if (high.significand === 0n) significand = signed(low);
    else if (low.significand === 0n) {
      significand = signed(high);
      exponent = high.exponent;
    } else significand = (signed(high) << BigInt(distance)) + signed(low);
  } else {
    significand = (signed(high) << BigInt(STICKY_DISTANCE)) + (low.sign ? -1n : 1n);
    exponent = high.exponent - STICKY_DISTANCE;
  }
  if (significand === 0n) {
    context.roundedUp = false;
    const isNegative = a.sign === b.sign ? a.sign : context.rounding === Rounding.down;
    return packZero(format, isNegative);
  }
  const sign = significand < 0n;
  return roundPack(context, format, sign, sign ? -significand : significand, exponent, precision);
}

function signed(operand: Unpacked): bigint {
  return operand.sign ? -operand.significand : operand.significand;
}

export function multiplyFinite(
  context: FpContext,
  format: Format,
  a: Unpacked,
  b: Unpacked,
  precision?: number,
): bigint {
  const sign = a.sign !== b.sign;
  return roundPack(context, format, sign, a.significand * b.significand, a.exponent + b.exponent, precision);
}

/** Rounded a / b; b is not zero. */
export function divideFinite(context: FpContext, format: Format, a: Unpacked, b: Unpacked, precision?: number): bigint {
  const shift = Math.max(0, GUARDED_BITS + bitLength(b.significand) - bitLength(a.significand));
  const numerator = a.significand << BigInt(shift);
  const quotient = numerator / b.significand;
  const sticky = quotient * b.significand === numerator ? 0n : 1n;
  const exponent = a.exponent - b.exponent - shift - 1;
  return roundPack(context, format, a.sign !== b.sign, (quotient << 1n) | sticky, exponent, precision);
}

/** Rounded square root of a non-negative operand. */
export function sqrtFinite(context: FpContext, format: Format, a: Unpacked, precision?: number): bigint {
  if (a.significand === 0n) return packZero(format, a.sign);
  let shift = Math.max(0, 2 * GUARDED_BITS - bitLength(a.significand));
  if (((a.exponent - shift) & 1) !== 0) shift += 1;
  const radicand = a.significand << BigInt(shift);
  const root = integerSqrt(radicand);
  const sticky = root * root === radicand ? 0n : 1n;
  return roundPack(context, format, false, (root << 1n) | sticky, (a.exponent - shift) / 2 - 1, precision);
}

/** Largest integer whose square is not above `value`. */
export function integerSqrt(value: bigint): bigint {
  if (value < 2n) return value;
  let root = 1n << BigInt((bitLength(value) + 1) >> 1);
  for (;;) {
    const next = (root + value / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/** -1, 0 or 1 as a is below, equal to or above b; both finite, zeros equal whatever their signs. */
export function compareFinite(a: Unpacked, b: Unpacked): -1 | 0 | 1 {
  if (a.significand === 0n && b.significand === 0n) return 0;
  if (a.significand === 0n) return b.sign ? 1 : -1;
  if (b.significand === 0n) return a.sign ? -1 : 1;
  if (a.sign !== b.sign) return a.sign ? -1 : 1;
  const magnitude = compareMagnitude(a, b);
  return a.sign ? (-magnitude as -1 | 0 | 1) : magnitude;
}

function compareMagnitude(a: Unpacked, b: Unpacked): -1 | 0 | 1 {
  const topA = a.exponent + bitLength(a.significand);
  const topB = b.exponent + bitLength(b.significand);
  if (topA !== topB) return topA < topB ? -1 : 1;
  const delta = a.exponent - b.exponent;
  const left = delta > 0 ? a.significand << BigInt(delta) : a.significand;
  const right = delta < 0 ? b.significand << BigInt(-delta) : b.significand;
  if (left === right) return 0;
  return left < right ? -1 : 1;
}
