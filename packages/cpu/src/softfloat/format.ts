/**
 * The binary formats of the processor as bit patterns in a bigint, and their decomposition.
 *
 * Intel SDM vol. 1, 4.2.2 and 4.8.3; unsupported 80-bit encodings: 8.2.2.
 */

export interface Format {
  readonly name: 'binary16' | 'binary32' | 'binary64' | 'extended';
  /** Bits of the significand, the integer bit included. */
  readonly precision: number;
  readonly bias: number;
  /** Biased exponent of infinities and NaNs. */
  readonly maxBiased: number;
  /** Unbiased exponents of the smallest and the largest normal number. */
  readonly minExponent: number;
  readonly maxExponent: number;
  /** Bit position of the exponent field (80-bit: above the explicit integer bit). */
  readonly exponentShift: bigint;
  readonly signShift: bigint;
  /** By how much an unmasked overflow or underflow moves the exponent. */
  readonly exponentAdjust: number;
  readonly integerBitIsExplicit: boolean;
  readonly quietBit: bigint;
  readonly defaultNan: bigint;
  readonly infinity: bigint;
}

function makeFormat(name: Format['name'], precision: number, exponentBits: number, isExplicit: boolean): Format {
  const bias = 2 ** (exponentBits - 1) - 1;
  const exponentShift = BigInt(isExplicit ? precision : precision - 1);
  const maxBiased = 2 ** exponentBits - 1;
  const signShift = exponentShift + BigInt(exponentBits);
  const quietBit = 1n << BigInt(precision - 2);
  const integerBit = isExplicit ? 1n << BigInt(precision - 1) : 0n;
  const infinity = (BigInt(maxBiased) << exponentShift) | integerBit;
  return {
    name,
    precision,
    bias,
    maxBiased,
    minExponent: 1 - bias,
    maxExponent: bias,
    exponentShift,
    signShift,
    exponentAdjust: 3 * 2 ** (exponentBits - 2),
    integerBitIsExplicit: isExplicit,
    quietBit,
    defaultNan: (1n << signShift) | infinity | quietBit,
    infinity,
  };
}

export const BINARY16 = makeFormat('binary16', 11, 5, false);
export const BINARY32 = makeFormat('binary32', 24, 8, false);
export const BINARY64 = makeFormat('binary64', 53, 11, false);
export const EXTENDED = makeFormat('extended', 64, 15, true);

/** `unsupported`: an 80-bit encoding that the processor refuses (pseudo-NaN, pseudo-infinity, unnormal). */
export type NumberClass = 'zero' | 'normal' | 'denormal' | 'infinity' | 'quietNan' | 'signalingNan' | 'unsupported';

/** A decomposed operand. For finite ones the value is (-1)^sign * significand * 2^exponent. */
export interface Unpacked {
  class: NumberClass;
  sign: boolean;
  /** Integer significand without fraction; of a NaN the significand field. */
  significand: bigint;
  exponent: number;
}

export function unpack(format: Format, bits: bigint): Unpacked {
  const sign = ((bits >> format.signShift) & 1n) !== 0n;
  const biased = Number((bits >> format.exponentShift) & BigInt(format.maxBiased));
  const field = bits & ((1n << format.exponentShift) - 1n);
  const fractionBits = format.precision - 1;
  if (biased === format.maxBiased) {
    const integerBit = 1n << BigInt(fractionBits);
    if (format.integerBitIsExplicit && (field & integerBit) === 0n)
      return { class: 'unsupported', sign, significand: field, exponent: 0 };
    const fraction = format.integerBitIsExplicit ? field ^ integerBit : field;
    if (fraction === 0n) return { class: 'infinity', sign, significand: 0n, exponent: 0 };
    const isQuiet = (fraction & format.quietBit) !== 0n;
    return { class: isQuiet ? 'quietNan' : 'signalingNan', sign, significand: fraction, exponent: 0 };
  }
  if (biased === 0) {
    const exponent = format.minExponent - fractionBits;
    return { class: field === 0n ? 'zero' : 'denormal', sign, significand: field, exponent };
  }
  const exponent = biased - format.bias - fractionBits;
  if (!format.integerBitIsExplicit)
    return { class: 'normal', sign, significand: field | (1n << format.exponentShift), exponent };
  const isNormal = field >> BigInt(fractionBits) !== 0n;
  return { class: isNormal ? 'normal' : 'unsupported', sign, significand: field, exponent };
}

export function signBit(format: Format, sign: boolean): bigint {
  return sign ? 1n << format.signShift : 0n;
}

export function packZero(format: Format, sign: boolean): bigint {
  return signBit(format, sign);
}

export function packInfinity(format: Format, sign: boolean): bigint {
  return signBit(format, sign) | format.infinity;
}

/** A NaN of `format` from the fraction field of another format, made quiet; the payload keeps its upper bits. */
export function packNan(format: Format, sign: boolean, fraction: bigint, fractionBits: number): bigint {
  const delta = format.precision - 1 - fractionBits;
  const moved = delta >= 0 ? fraction << BigInt(delta) : fraction >> BigInt(-delta);
  return signBit(format, sign) | format.infinity | format.quietBit | moved;
}

export function isNan(operand: Unpacked): boolean {
  return operand.class === 'quietNan' || operand.class === 'signalingNan';
}

/** Number of significant bits of a non-negative integer. */
export function bitLength(value: bigint): number {
  if (value === 0n) return 0;
  const digits = value.toString(16);
  return digits.length * 4 - (Math.clz32(parseInt(digits[0] ?? '0', 16)) - 28);
}
