/** Helpers of AVX, F16C and FMA: stores that happen whole or not at all, and what WebAssembly has no operation for. */
import { BINARY16, BINARY32, BINARY64, type Format, isNan, packInfinity, packNan, packZero, unpack } from '../../softfloat/format.ts'; // prettier-ignore
import { FpFlag, Rounding, type FpContext } from '../../softfloat/context.ts';
import { roundPack } from '../../softfloat/round.ts';
import { sseConvertFormat, sseFused, type FusedSigns } from '../../softfloat/sse.ts';
import type { Helper, MemoryPort } from '../helper.ts';
import { bothWidths } from './sse.ts';
import { Operation, arg, join, split, type PackedHelper } from './sse-operation.ts';

const ELEMENTS = 4;
const HALF_BITS = 16n;
const HALF_MASK = 0xffffn;

/** Bytes of consecutive words. */
function bytesOf(words: readonly bigint[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(words).buffer);
}

const store32: Helper = ({ memory }, [address = 0n, ...words]) => {
  memory.writeBytes(address, bytesOf(words));
};

/** Faults as a store of `size` bytes would: at its first byte, or at the first of the next page. */
function requireWritable(memory: MemoryPort, address: bigint, size: bigint): void {
  const start = BigInt.asUintN(64, address);
  memory.span(start, 1, true);
  const page = BigInt.asUintN(64, (address + size - 1n) & ~0xfffn);
  if (page !== (start & ~0xfffn)) memory.span(page, 1, true);
}

/** Faults as a store of `size` bytes would. */
const writable: Helper = ({ memory }, [address = 0n, size = 1n]) => {
  requireWritable(memory, address, size);
};

/** Arguments: address, bits of the elements to be written, four words of data. */
const maskedStore =
  (size: 4 | 8): Helper =>
  ({ memory }, [address = 0n, chosen = 0n, ...words]) => {
    const data = bytesOf(words);
    const offsets = Array.from({ length: data.length / size }, (_, n) => n)
      .filter((n) => (chosen >> BigInt(n)) & 1n)
      .map((n) => n * size);
    for (const offset of offsets) requireWritable(memory, address + BigInt(offset), BigInt(size));
    for (const offset of offsets)
      memory.writeBytes(BigInt.asUintN(64, address + BigInt(offset)), data.slice(offset, offset + size));
  };

/** A half float's value as binary32: exact; its denormals are no denormal operands and DAZ says nothing. */
function fromHalf(context: FpContext, bits: bigint): bigint {
  const a = unpack(BINARY16, bits);
  if (isNan(a)) {
    if (a.class === 'signalingNan') context.flags |= FpFlag.invalid;
    return packNan(BINARY32, a.sign, a.significand, BINARY16.precision - 1);
  }
  if (a.class === 'infinity') return packInfinity(BINARY32, a.sign);
  if (a.class === 'zero') return packZero(BINARY32, a.sign);
  return roundPack(context, BINARY32, a.sign, a.significand, a.exponent);
}

const fromHalves: PackedHelper = (isHalf) => (helper, args) => {
  const operation = new Operation(helper, isHalf);
  const word = arg(args, 0);
  const result = Array.from({ length: ELEMENTS }, (_, n) =>
    operation.element((context) => fromHalf(context, (word >> (BigInt(n) * HALF_BITS)) & HALF_MASK)),
  );
  operation.finish();
  return join(helper, BINARY32, result);
};

/** Arguments: halves of the vector, immediate (bits 0 and 1 rounding, bit 2 that of MXCSR). FTZ says nothing. */
const toHalves: PackedHelper = (isHalf) => (helper, args) => {
  const operation = new Operation(helper, isHalf);
  const immediate = Number(arg(args, 2));
  operation.context.flushToZero = false;
  if ((immediate & 4) === 0) operation.context.rounding = (immediate & 3) as Rounding;
  let result = 0n;
  split(BINARY32, arg(args, 0), arg(args, 1)).forEach((bits, n) => {
    const half = operation.element((context) => sseConvertFormat(context, BINARY32, BINARY16, bits));
    result |= half << (BigInt(n) * HALF_BITS);
  });
  operation.finish();
  return result;
};

const SIGNS: Readonly<Record<string, FusedSigns>> = {
  fmadd: { negatesProduct: false, negatesAddend: false },
  fmsub: { negatesProduct: false, negatesAddend: true },
  fnmadd: { negatesProduct: true, negatesAddend: false },
  fnmsub: { negatesProduct: true, negatesAddend: true },
};
const PLUS: FusedSigns = { negatesProduct: false, negatesAddend: false };
const MINUS: FusedSigns = { negatesProduct: false, negatesAddend: true };

function fusedPacked(format: Format, signs: (n: number) => FusedSigns): PackedHelper {
  return (isHalf) => (helper, args) => {
    const operation = new Operation(helper, isHalf);
    const [a = [], b = [], c = []] = [0, 2, 4].map((n) => split(format, arg(args, n), arg(args, n + 1)));
    const result = a.map((left, n) =>
      operation.element((context) => sseFused(context, format, [left, b[n] ?? 0n, c[n] ?? 0n], signs(n))),
    );
    operation.finish();
    return join(helper, format, result);
  };
}

const fusedScalar =
  (format: Format, signs: FusedSigns): Helper =>
  (helper, args) => {
    const operation = new Operation(helper);
    const result = operation.element((c) => sseFused(c, format, [arg(args, 0), arg(args, 1), arg(args, 2)], signs));
    operation.finish();
    return result;
  };

function fusedHelpers(): Record<string, Helper> {
  const all: Record<string, Helper> = {};
  const packed: Record<string, PackedHelper> = {};
  for (const [suffix, format] of [
    ['s', BINARY32],
    ['d', BINARY64],
  ] as const) {
    // prettier-ignore
    for (const [name, signs] of Object.entries(SIGNS)) {
      all[`sse.${name}s${suffix}`] = fusedScalar(format, signs);
      packed[`${name}p${suffix}`] = fusedPacked(format, () => signs);
    }
    packed[`fmaddsubp${suffix}`] = fusedPacked(format, (n) => ((n & 1) === 0 ? MINUS : PLUS));
    packed[`fmsubaddp${suffix}`] = fusedPacked(format, (n) => ((n & 1) === 0 ? PLUS : MINUS));
  }
  return { ...all, ...bothWidths(packed) };
}

export const avxHelpers: Readonly<Record<string, Helper>> = {
  'vex.store32': store32,
  'vex.writable': writable,
  'vex.maskstore4': maskedStore(4),
  'vex.maskstore8': maskedStore(8),
  ...bothWidths({ vcvtph2ps: fromHalves, vcvtps2ph: toHalves }),
  ...fusedHelpers(),
};
