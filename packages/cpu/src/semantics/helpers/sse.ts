/**
 * SSE floating point in software, with MXCSR: the way of every operation that the inline code of semantics/simd does
 * not dare. `sse.<op><ss|sd|ps|pd>`; scalars take bit patterns and give one, packed ones take the halves of both operands,
 * return the low half and leave the high one in `resultHigh`.
 */
import type { Helper } from '../helper.ts';
import { BINARY32, BINARY64, type Format } from '../../softfloat/format.ts';
import {
  sseBinary,
  sseCompare,
  sseComparePredicate,
  sseConvertFormat,
  sseFromInteger,
  sseReciprocal,
  sseRound,
  sseSqrt,
  sseToInteger,
  type SseBinary,
} from '../../softfloat/sse.ts';
import { compareStrings } from './compare-strings.ts';
import { Operation, arg, finishHalves, packedHelper, scalarHelper, split } from './sse-operation.ts';
import type { Packed, PackedHelper, Scalar } from './sse-operation.ts';

const LOW = (1n << 64n) - 1n;
const allOnes = (format: Format): bigint => (format === BINARY32 ? 0xffffffffn : LOW);

const SCALARS: Readonly<Record<string, Scalar>> = {
  ...Object.fromEntries(
    (['add', 'sub', 'mul', 'div', 'min', 'max'] as const).map((op: SseBinary): [string, Scalar] => [
      op,
      (context, format, a, b) => sseBinary(context, format, op, a, b),
    ]),
  ),
  sqrt: (context, format, _, b) => sseSqrt(context, format, b),
  round: (context, format, _, b, immediate) => sseRound(context, format, immediate, b),
  cmp: (context, format, a, b, immediate) =>
    sseComparePredicate(context, format, immediate, a, b) ? allOnes(format) : 0n,
  rcp: (_, format, _a, b) => sseReciprocal(format, b, false),
  rsqrt: (_, format, _a, b) => sseReciprocal(format, b, true),
};

function lanewise(format: Format, compute: Scalar): Packed {
  return (operation, a, b, immediate) =>
    a.map((left, n) => operation.element((context) => compute(context, format, left, b[n] ?? 0n, immediate)));
}

const element = (list: readonly bigint[], n: number): bigint => list[n] ?? 0n;

/** HADDPx, HSUBPx. */
function horizontal(format: Format, op: 'add' | 'sub'): Packed {
  return (operation, a, b) =>
    [a, b].flatMap((list) => {
      const results: bigint[] = [];
      for (let n = 0; n < list.length; n += 2)
        results.push(
          operation.element((context) => sseBinary(context, format, op, element(list, n), element(list, n + 1))),
        );
      return results;
    });
}

/** DPPS, DPPD: products by the upper four bits of the immediate, their sum to the elements of the lower four. */
function dotProduct(format: Format): Packed {
  return (operation, a, b, immediate) => {
    const products = a.map((left, n) =>
      ((immediate >> (4 + n)) & 1) !== 0
        ? operation.element((context) => sseBinary(context, format, 'mul', left, element(b, n)))
        : 0n,
    );
    operation.finish();
    const sum = (left: bigint, right: bigint): bigint =>
      operation.element((context) => sseBinary(context, format, 'add', left, right));
    let total = sum(element(products, 0), element(products, 1));
    if (products.length > 2) {
      const high = sum(element(products, 2), element(products, 3));
      operation.finish();
      total = sum(total, high);
    }
    return a.map((_, n) => (((immediate >> n) & 1) !== 0 ? total : 0n));
  };
}

const toIntegers =
  (format: Format, truncates: boolean, count: number): Packed =>
  (operation, _, b) =>
    b.slice(0, count).map((value) => operation.element((c) => sseToInteger(c, format, value, 32, truncates)));

const PACKED_CONVERSIONS: Readonly<Record<string, PackedHelper>> = {
  cvtps2pd: packedHelper(BINARY32, BINARY64, (operation, _, b) =>
    b.slice(0, 2).map((value) => operation.element((c) => sseConvertFormat(c, BINARY32, BINARY64, value))),
  ),
  cvtpd2ps: packedHelper(BINARY64, BINARY32, (operation, _, b) =>
    b.map((value) => operation.element((c) => sseConvertFormat(c, BINARY64, BINARY32, value))),
  ),
  cvtdq2ps: packedHelper(BINARY32, BINARY32, (operation, _, b) =>
    b.map((value) => operation.element((c) => sseFromInteger(c, BINARY32, BigInt.asIntN(32, value)))),
  ),
  cvtps2dq: packedHelper(BINARY32, BINARY32, toIntegers(BINARY32, false, 4)),
  cvttps2dq: packedHelper(BINARY32, BINARY32, toIntegers(BINARY32, true, 4)),
  cvtpd2dq: packedHelper(BINARY64, BINARY32, toIntegers(BINARY64, false, 2)),
  cvttpd2dq: packedHelper(BINARY64, BINARY32, toIntegers(BINARY64, true, 2)),
};

const CONVERSIONS: Readonly<Record<string, Helper>> = {
  'sse.cvtss2sd': scalarHelper(BINARY32, (c, _, a) => sseConvertFormat(c, BINARY32, BINARY64, a)),
  'sse.cvtsd2ss': scalarHelper(BINARY64, (c, _, a) => sseConvertFormat(c, BINARY64, BINARY32, a)),
  'sse.cvtpi2ps': (helper, args) => {
    const operation = new Operation(helper);
    const value = arg(args, 0);
    const convert = (half: bigint): bigint =>
      operation.element((c) => sseFromInteger(c, BINARY32, BigInt.asIntN(32, half)));
    const result = convert(value) | (convert(value >> 32n) << 32n);
    operation.finish();
    return result;
  },
};

/** CVT(T)Px2PI: two 32-bit integers in one word. */
function toMmx(format: Format, truncates: boolean): Helper {
  return (helper, args) => {
    const operation = new Operation(helper);
    const [first = 0n, second = 0n] = split(format, arg(args, 0), arg(args, 1)).map((value, n) =>
      n < 2 ? operation.element((c) => sseToInteger(c, format, value, 32, truncates)) : 0n,
    );
    operation.finish();
    return first | (second << 32n);
  };
}

/** Packed helpers under their names for 128 bits (`sse`) and for a half of 256 (`sse256`). */
export function bothWidths(packed: Readonly<Record<string, PackedHelper>>): Record<string, Helper> {
  return Object.fromEntries(
    Object.entries(packed).flatMap(([name, make]) => [
      [`sse.${name}`, make(false)],
      [`sse256.${name}`, make(true)],
    ]),
  );
}

const FLAG_BITS = { equal: 0x40, less: 0x01, greater: 0, unordered: 0x45 } as const;

function buildHelpers(): Record<string, Helper> {
  const all: Record<string, Helper> = { ...CONVERSIONS };
  const packed: Record<string, PackedHelper> = { ...PACKED_CONVERSIONS };
  for (const [suffix, format] of [
    ['s', BINARY32],
    ['d', BINARY64],
  ] as const) {
    for (const [name, compute] of Object.entries(SCALARS)) {
      all[`sse.${name}s${suffix}`] = scalarHelper(format, compute);
      packed[`${name}p${suffix}`] = packedHelper(format, format, lanewise(format, compute));
    }
    for (const op of ['add', 'sub'] as const)
      packed[`h${op}p${suffix}`] = packedHelper(format, format, horizontal(format, op));
    packed[`addsubp${suffix}`] = packedHelper(format, format, (operation, a, b) =>
      a.map((left, n) =>
        operation.element((c) => sseBinary(c, format, (n & 1) === 0 ? 'sub' : 'add', left, element(b, n))),
      ),
    );
    packed[`dpp${suffix}`] = packedHelper(format, format, dotProduct(format));
    for (const name of ['comi', 'ucomi'] as const)
      all[`sse.${name}s${suffix}`] = scalarHelper(format, (c, f, a, b) =>
        BigInt(FLAG_BITS[sseCompare(c, f, a, b, name === 'comi')]),
      );
    all[`sse.cvtsi2s${suffix}`] = scalarHelper(format, (c, f, a) => sseFromInteger(c, f, BigInt.asIntN(64, a)));
    for (const truncates of [false, true]) {
      const t = truncates ? 't' : '';
      for (const bits of [32, 64])
        all[`sse.cvt${t}s${suffix}2si${bits}`] = scalarHelper(format, (c, f, a) =>
          sseToInteger(c, f, a, bits, truncates),
        );
      all[`sse.cvt${t}p${suffix}2pi`] = toMmx(format, truncates);
    }
  }
  return { ...all, ...bothWidths(packed) };
}

/** MASKMOVx: bytes chosen by the mask, to the address that is offset plus base of the segment. */
const maskedStore: Helper = (helper, args) => {
  const data = arg(args, 0) | (arg(args, 1) << 64n);
  const mask = Number(arg(args, 2));
  const { state, memory } = helper;
  const isLong = (state.segment(1).attributes & 0x2000) !== 0;
  const segment = Number(arg(args, 4));
  const base = isLong && segment < 4 ? 0n : state.segmentBase(segment);
  const address = BigInt.asUintN(isLong ? 64 : 32, arg(args, 3) + base);
  for (let n = 0; n < 16; n++)
    if (((mask >> n) & 1) !== 0) memory.write(address + BigInt(n), 1, (data >> BigInt(8 * n)) & 0xffn);
};

export const sseHelpers: Readonly<Record<string, Helper>> = {
  ...buildHelpers(),
  'sse256.finish': finishHalves,
  'sse.maskmov': maskedStore,
  'sse.pcmpstr': (helper, args) => {
    const lengths = arg(args, 5);
    const outcome = compareStrings([arg(args, 0), arg(args, 1)], [arg(args, 2), arg(args, 3)], Number(arg(args, 4)), [
      Number(BigInt.asIntN(32, lengths)),
      Number(BigInt.asIntN(32, lengths >> 32n)),
    ]);
    helper.state.resultLow = outcome.mask & LOW;
    helper.state.resultHigh = outcome.mask >> 64n;
    return BigInt(outcome.flags | (outcome.index << 16));
  },
};
