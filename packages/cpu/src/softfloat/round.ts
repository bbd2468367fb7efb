/**
 * Rounding and packing of an exact (or sticky) result into a format: the only place that raises overflow, underflow
 * and precision. Tininess is detected after rounding, as x86 does it.
 *
 * Intel SDM vol. 1, 4.8.4, 4.9.1.4 to 4.9.1.6, 8.5.4, 8.5.5.
 */
import { FpFlag, Rounding, type FpContext } from './context.ts';
import { bitLength, packInfinity, packZero, signBit, type Format } from './format.ts';

/** Quotient of significand / 2^shift rounded to an integer; tells in `rounded` what happened. */
interface RoundedInteger {
  value: bigint;
  isInexact: boolean;
  isUp: boolean;
}

/** Rounds significand * 2^-shift (shift may be negative) to an integer magnitude. */
export function roundShift(rounding: Rounding, sign: boolean, significand: bigint, shift: number): RoundedInteger {
  if (shift <= 0) return { value: significand << BigInt(-shift), isInexact: false, isUp: false };
  const bits = BigInt(shift);
  const value = significand >> bits;
  const rest = significand - (value << bits);
  if (rest === 0n) return { value, isInexact: false, isUp: false };
  let isUp: boolean;
  switch (rounding) {
    case Rounding.nearest: {
      const half = 1n << (bits - 1n);
      isUp = rest > half || (rest === half && (value & 1n) !== 0n);
      break;
    }
    case Rounding.down:
      isUp = sign;
      break;
    case Rounding.up:
      isUp = !sign;
      break;
    case Rounding.zero:
      isUp = false;
      break;
  }
  return { value: isUp ? value + 1n : value, isInexact: true, isUp };
}

/** Packs a significand of exactly `precision` bits whose leading bit weighs 2^exponent. */
function packNormal(format: Format, sign: boolean, significand: bigint, precision: number, exponent: number): bigint {
  const aligned = significand << BigInt(format.precision - precision);
  const field = format.integerBitIsExplicit ? aligned : aligned ^ (1n << format.exponentShift);
  return signBit(format, sign) | (BigInt(exponent + format.bias) << format.exponentShift) | field;
}

function overflow(context: FpContext, format: Format, sign: boolean, precision: number): bigint {
  context.flags |= FpFlag.overflow | FpFlag.precision;
  const { rounding } = context;
  const isInfinite =
    rounding === Rounding.nearest || (rounding === Rounding.up && !sign) || (rounding === Rounding.down && sign);
  context.roundedUp = isInfinite;
  if (isInfinite) return packInfinity(format, sign);
  return packNormal(format, sign, (1n << BigInt(precision)) - 1n, precision, format.maxExponent);
}

/**
 * Rounds (-1)^sign * significand * 2^exponent into `format` with `precision` significand bits. A result that is not
 * exact must be given with two more bits than `precision`, the lowest one standing for everything below it. Does
 * nothing after an unmasked exception that has no result.
 */
export function roundPack(
  context: FpContext,
  format: Format,
  sign: boolean,
  significand: bigint,
  exponent: number,
  precision = format.precision,
): bigint {
  context.roundedUp = false;
  if (significand === 0n || context.hasNoResult) return packZero(format, sign);
  const length = bitLength(significand);
  const rounded = roundShift(context.rounding, sign, significand, length - precision);
  let top = exponent + length - 1;
  let value = rounded.value;
  if (value >> BigInt(precision) !== 0n) {
    value >>= 1n;
    top += 1;
  }
  if (top > format.maxExponent) {
    if ((context.masks & FpFlag.overflow) !== 0) return overflow(context, format, sign, precision);
    context.flags |= FpFlag.overflow;
    top -= format.exponentAdjust;
    if (top > format.maxExponent) {
      // Only FSCALE gets here in extended format; it delivers an infinity and calls that inexact.
      if (rounded.isInexact || format.integerBitIsExplicit) context.flags |= FpFlag.precision;
      context.roundedUp = format.integerBitIsExplicit;
      return packInfinity(format, sign);
    }
  } else if (top < format.minExponent) {
    if ((context.masks & FpFlag.underflow) !== 0)
      return underflow(context, format, sign, significand, exponent, precision);
    context.flags |= FpFlag.underflow;
    top += format.exponentAdjust;
    if (top < format.minExponent) {
      if (rounded.isInexact || format.integerBitIsExplicit) context.flags |= FpFlag.precision;
      return packZero(format, sign);
    }
  }
  if (rounded.isInexact) {
    context.flags |= FpFlag.precision;
    context.roundedUp = rounded.isUp;
  }
  return packNormal(format, sign, value, precision, top);
}

/** Masked response to a tiny result: denormalised, or flushed to zero. */
function underflow(
  context: FpContext,
  format: Format,
  sign: boolean,
  significand: bigint,
  exponent: number,
  precision: number,
): bigint {
  if (context.flushToZero) {
    context.flags |= FpFlag.underflow | FpFlag.precision;
    return packZero(format, sign);
  }
  const lowest = format.minExponent - (precision - 1);
  const rounded = roundShift(context.rounding, sign, significand, lowest - exponent);
  if (rounded.isInexact) {
    context.flags |= FpFlag.underflow | FpFlag.precision;
    context.roundedUp = rounded.isUp;
  }
  const value = rounded.value << BigInt(format.precision - precision);
  // A carry into the leading bit makes the smallest normal number: its exponent field is 1.
  const isNormal = value >> BigInt(format.precision - 1) !== 0n;
  if (format.integerBitIsExplicit && isNormal) return signBit(format, sign) | (1n << format.exponentShift) | value;
  return signBit(format, sign) | value;
}
