/** What two-operand integer SIMD instructions compute, on 128-bit values. The MMX forms use the same (mmx.ts). */
import type { Algebra } from '../algebra.ts';

export type Lanes = <V>(e: Algebra<V>, a: V, b: V) => V;

const plain =
  (name: string): Lanes =>
  (e, a, b) =>
    e.op(name, a, b);

/** Lane numbers of a byte shuffle that takes elements of `size` bytes by their numbers (the second vector from 16/size). */
export function byteLanes(size: number, elements: readonly number[]): number[] {
  return elements.flatMap((element) => Array.from({ length: size }, (_, i) => element * size + i));
}

const pick =
  (size: number, elements: readonly number[]): Lanes =>
  (e, a, b) =>
    e.shuffle(a, b, byteLanes(size, elements));

const evens = [0, 2, 4, 6, 8, 10, 12, 14];
const odds = [1, 3, 5, 7, 9, 11, 13, 15];

/** PHADDx and PHSUBx: an operation between neighbours. */
const horizontal = (size: number, op: string): Lanes => {
  const count = 16 / size;
  return (e, a, b) =>
    e.op(
      op,
      e.shuffle(a, b, byteLanes(size, evens.slice(0, count))),
      e.shuffle(a, b, byteLanes(size, odds.slice(0, count))),
    );
};

/** PSIGNx: negates, clears or keeps by the sign of the second operand. */
const sign =
  (shape: string, bits: number): Lanes =>
  (e, a, b) => {
    const negative = e.op(`${shape}.shr_s`, b, e.i32(bits - 1));
    const negated = e.op(`${shape}.sub`, e.op('v128.xor', a, negative), negative);
    return e.op('v128.andnot', negated, e.op(`${shape}.eq`, b, e.v128(new Uint8Array(16))));
  };

/** Upper halves of the 16-bit products. */
const multiplyHigh =
  (signs: 's' | 'u'): Lanes =>
  (e, a, b) =>
    e.shuffle(
      e.op(`i32x4.extmul_low_i16x8_${signs}`, a, b),
      e.op(`i32x4.extmul_high_i16x8_${signs}`, a, b),
      byteLanes(2, odds),
    );

/** Shift of all elements by the low 64 bits of `b`; counts beyond the element clear it or fill it with its sign. */
const shift =
  (shape: string, bits: number, op: 'shl' | 'shr_u' | 'shr_s'): Lanes =>
  (e, a, b) => {
    const count = e.lane('i64x2.extract_lane', 0, b);
    const inRange = e.ltU(count, e.i64(bits));
    if (op === 'shr_s') return e.op(`${shape}.shr_s`, a, e.select(inRange, e.wrap(count), e.i32(bits - 1)));
    return e.select(inRange, e.op(`${shape}.${op}`, a, e.wrap(count)), e.v128(new Uint8Array(16)));
  };

const multiplyEven =
  (signs: 's' | 'u'): Lanes =>
  (e, a, b) => {
    const lanes = byteLanes(4, [0, 2, 0, 2]);
    return e.op(`i64x2.extmul_low_i32x4_${signs}`, e.shuffle(a, a, lanes), e.shuffle(b, b, lanes));
  };

const sumOfDifferences: Lanes = (e, a, b) => {
  const difference = e.op('v128.or', e.op('i8x16.sub_sat_u', a, b), e.op('i8x16.sub_sat_u', b, a));
  const sums = e.op('i32x4.extadd_pairwise_i16x8_u', e.op('i16x8.extadd_pairwise_i8x16_u', difference));
  const total = e.op('i64x2.add', sums, e.op('i64x2.shr_u', sums, e.i32(32)));
  return e.op('v128.and', total, splat64(e, 0xffffffffn));
};

export function splat64<V>(e: Algebra<V>, value: bigint): V {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt.asUintN(64, value), true);
  view.setBigUint64(8, BigInt.asUintN(64, value), true);
  return e.v128(bytes);
}

/** Unsigned bytes of `a` times signed bytes of `b`, neighbours added with saturation. */
const multiplyAddBytes: Lanes = (e, a, b) => {
  const mask = splat64(e, 0x00ff00ff00ff00ffn);
  const low = e.op(
    'i16x8.mul',
    e.op('v128.and', a, mask),
    e.op('i16x8.shr_s', e.op('i16x8.shl', b, e.i32(8)), e.i32(8)),
  );
  const high = e.op('i16x8.mul', e.op('i16x8.shr_u', a, e.i32(8)), e.op('i16x8.shr_s', b, e.i32(8)));
  return e.op('i16x8.add_sat_s', low, high);
};

/** (a * b + 2^14) >> 15; of -1 times -1 the result wraps. */
const multiplyHighRounded: Lanes = (e, a, b) => {
  const least = splat64(e, 0x8000800080008000n);
  const wraps = e.op('v128.and', e.op('i16x8.eq', a, least), e.op('i16x8.eq', b, least));
  return e.op('v128.xor', e.op('i16x8.q15mulr_sat_s', a, b), wraps);
};

export const LANES: Readonly<Record<string, Lanes>> = {
  punpcklbw: pick(1, [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23]),
  punpcklwd: pick(2, [0, 8, 1, 9, 2, 10, 3, 11]),
  punpckldq: pick(4, [0, 4, 1, 5]),
  punpcklqdq: pick(8, [0, 2]),
  punpckhbw: pick(1, [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31]),
  punpckhwd: pick(2, [4, 12, 5, 13, 6, 14, 7, 15]),
  punpckhdq: pick(4, [2, 6, 3, 7]),
  punpckhqdq: pick(8, [1, 3]),
  packsswb: plain('i8x16.narrow_i16x8_s'),
  packuswb: plain('i8x16.narrow_i16x8_u'),
  packssdw: plain('i16x8.narrow_i32x4_s'),
  packusdw: plain('i16x8.narrow_i32x4_u'),
  pcmpgtb: plain('i8x16.gt_s'),
  pcmpgtw: plain('i16x8.gt_s'),
  pcmpgtd: plain('i32x4.gt_s'),
  pcmpgtq: plain('i64x2.gt_s'),
  pcmpeqb: plain('i8x16.eq'),
  pcmpeqw: plain('i16x8.eq'),
  pcmpeqd: plain('i32x4.eq'),
  pcmpeqq: plain('i64x2.eq'),
  psrlw: shift('i16x8', 16, 'shr_u'),
  psrld: shift('i32x4', 32, 'shr_u'),
  psrlq: shift('i64x2', 64, 'shr_u'),
  psraw: shift('i16x8', 16, 'shr_s'),
  psrad: shift('i32x4', 32, 'shr_s'),
  psllw: shift('i16x8', 16, 'shl'),
  pslld: shift('i32x4', 32, 'shl'),
  psllq: shift('i64x2', 64, 'shl'),
  paddb: plain('i8x16.add'),
  paddw: plain('i16x8.add'),
  paddd: plain('i32x4.add'),
  paddq: plain('i64x2.add'),
  psubb: plain('i8x16.sub'),
  psubw: plain('i16x8.sub'),
  psubd: plain('i32x4.sub'),
  psubq: plain('i64x2.sub'),
  paddsb: plain('i8x16.add_sat_s'),
  paddsw: plain('i16x8.add_sat_s'),
  paddusb: plain('i8x16.add_sat_u'),
  paddusw: plain('i16x8.add_sat_u'),
  psubsb: plain('i8x16.sub_sat_s'),
  psubsw: plain('i16x8.sub_sat_s'),
  psubusb: plain('i8x16.sub_sat_u'),
  psubusw: plain('i16x8.sub_sat_u'),
  pmullw: plain('i16x8.mul'),
  pmulld: plain('i32x4.mul'),
  pmulhw: multiplyHigh('s'),
  pmulhuw: multiplyHigh('u'),
  pmuludq: multiplyEven('u'),
  pmuldq: multiplyEven('s'),
  pmaddwd: plain('i32x4.dot_i16x8_s'),
  psadbw: sumOfDifferences,
  pminub: plain('i8x16.min_u'),
  pmaxub: plain('i8x16.max_u'),
  pminsw: plain('i16x8.min_s'),
  pmaxsw: plain('i16x8.max_s'),
  pminsb: plain('i8x16.min_s'),
  pmaxsb: plain('i8x16.max_s'),
  pminuw: plain('i16x8.min_u'),
  pmaxuw: plain('i16x8.max_u'),
  pminsd: plain('i32x4.min_s'),
  pmaxsd: plain('i32x4.max_s'),
  pminud: plain('i32x4.min_u'),
  pmaxud: plain('i32x4.max_u'),
  pavgb: plain('i8x16.avgr_u'),
  pavgw: plain('i16x8.avgr_u'),
  pand: plain('v128.and'),
  por: plain('v128.or'),
  pxor: plain('v128.xor'),
  pandn: (e, a, b) => e.op('v128.andnot', b, a),
  pshufb: (e, a, b) => e.op('i8x16.swizzle', a, e.op('v128.and', b, splat64(e, 0x8f8f8f8f8f8f8f8fn))),
  phaddw: horizontal(2, 'i16x8.add'),
  phaddd: horizontal(4, 'i32x4.add'),
  phaddsw: horizontal(2, 'i16x8.add_sat_s'),
  phsubw: horizontal(2, 'i16x8.sub'),
  phsubd: horizontal(4, 'i32x4.sub'),
  phsubsw: horizontal(2, 'i16x8.sub_sat_s'),
  pmaddubsw: multiplyAddBytes,
  psignb: sign('i8x16', 8),
  psignw: sign('i16x8', 16),
  psignd: sign('i32x4', 32),
  pmulhrsw: multiplyHighRounded,
  pabsb: (e, _, b) => e.op('i8x16.abs', b),
  pabsw: (e, _, b) => e.op('i16x8.abs', b),
  pabsd: (e, _, b) => e.op('i32x4.abs', b),
};
