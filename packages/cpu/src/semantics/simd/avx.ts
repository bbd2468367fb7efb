/** Instructions that came with AVX, AVX2 and F16C: broadcasts, permutations across lanes, masked moves, gathers. */
import type { Algebra, Semantics } from '../algebra.ts';
import { high64, low64, pair, zero128 } from './common.ts';
import { helperPacked } from './float-shape.ts';
import { byteLanes, splat64 } from './lanes.ts';
import { YMM_BYTES, lanesOf, readPair, vexForm, writePair, type Pair } from './vex.ts';

const NR_REGISTERS_64 = 16;
const NR_REGISTERS_32 = 8;
const SHAPES = { 1: 'i8x16', 2: 'i16x8', 4: 'i32x4', 8: 'i64x2' } as const;
const INTEGERS = { 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' } as const;
type ElementSize = keyof typeof SHAPES;

const zeroRegisters =
  (isWhole: boolean): Semantics =>
  (e) => {
    const zero = zero128(e);
    const count = e.mode === 64 ? NR_REGISTERS_64 : NR_REGISTERS_32;
    for (let n = 0; n < count; n++) {
      if (isWhole) e.setXmm(n, zero);
      e.setYmmHigh(n, zero);
    }
  };

/** Both halves of the destination alike, as far as it has them. */
function writeBoth<V>(e: Algebra<V>, vector: V): void {
  if (e.operands[0]?.size === YMM_BYTES) writePair(e, vector, vector);
  else writePair(e, vector);
}

const broadcast =
  (size: ElementSize): Semantics =>
  (e) => {
    if (e.operands[1]?.kind === 'memory')
      writeBoth(e, e.op(`${SHAPES[size]}.splat`, e.load(INTEGERS[size], e.address(1)))); // prettier-ignore
    else {
      const source = e.read(1);
      writeBoth(e, e.shuffle(source, source, byteLanes(size, new Array<number>(16 / size).fill(0))));
    }
  };

/** A shuffle of 32-bit elements inside a lane by the low bits of another vector's. */
const permuteWords: Semantics = (e) => {
  const control = e.op('v128.and', e.read(1), splat64(e, 0x0000000300000003n));
  e.write(0, e.op('i8x16.swizzle', e.read(0), byteIndices(e, control)));
};

/** Byte numbers of the 32-bit elements with these numbers. */
function byteIndices<V>(e: Algebra<V>, elements: V): V {
  const first = e.op('i32x4.mul', elements, splat64(e, 0x0404040404040404n));
  return e.op('i32x4.add', first, splat64(e, 0x0302010003020100n));
}

const permuteDoubles: Semantics = (e) => {
  const control = e.op('i64x2.shr_s', e.op('i64x2.shl', e.read(1), e.i32(62)), e.i32(63));
  const source = e.read(0);
  const spread = (half: V_<typeof e>): V_<typeof e> => e.op('i64x2.splat', half);
  e.write(0, e.op('v128.bitselect', spread(high64(e, source)), spread(low64(e, source)), control));
};
type V_<E> = E extends Algebra<infer V> ? V : never;

const permuteDoublesImmediate: Semantics = (e) => {
  const source = e.read(1);
  const immediate = e.read(2);
  const element = (bit: number): V_<typeof e> =>
    e.select(e.and(immediate, e.i32(bit)), high64(e, source), low64(e, source));
  e.write(0, pair(e, element(1), element(2)));
};

/** Bytes of a 256-bit source by numbers 0 to 31. */
function fromBoth<V>(e: Algebra<V>, [low, high]: Pair<V>, indices: V): V {
  const above = e.op('i8x16.sub', indices, splat64(e, 0x1010101010101010n));
  return e.op('v128.or', e.op('i8x16.swizzle', low, indices), e.op('i8x16.swizzle', high, above));
}

/** VPERM2F128: each half is one of the four of both sources, or zero. */
const permuteHalves: Semantics = (e) => {
  const immediate = e.read(3);
  const [b, bHigh] = readPair(e, 2);
  const [a, aHigh] = readPair(e, 1);
  const half = (shift: number): V_<typeof e> => {
    const bit = (n: number): V_<typeof e> => e.and(immediate, e.i32(1 << (n + shift)));
    const chosen = e.select(bit(1), e.select(bit(0), bHigh, b), e.select(bit(0), aHigh, a));
    return e.select(bit(3), zero128(e), chosen);
  };
  writePair(e, half(0), half(4));
};

/** VPERMD and VPERMPS: 32-bit elements of operand 2 by the numbers in operand 1. */
const permuteAcross: Semantics = (e) => {
  const source = readPair(e, 2);
  const numbers = readPair(e, 1);
  const [low, high] = numbers.map((vector) =>
    fromBoth(e, source, byteIndices(e, e.op('v128.and', vector, splat64(e, 0x0000000700000007n)))),
  ) as unknown as Pair<V_<typeof e>>;
  writePair(e, low, high);
};

const permuteQuads: Semantics = (e) => {
  const source = readPair(e, 1);
  const immediate = e.extendU(e.read(2));
  const indices = (n: number): V_<typeof e> => {
    const chosen = e.and(e.shrU(immediate, e.i64(2 * n)), e.i64(3));
    return e.add(e.mul(chosen, e.i64(0x0808080808080808n)), e.i64(0x0706050403020100n));
  };
  const half = (n: number): V_<typeof e> => fromBoth(e, source, pair(e, indices(n), indices(n + 1)));
  writePair(e, half(0), half(2));
};

const insertHalf: Semantics = (e) => {
  const half = e.read(2);
  const [low, high] = readPair(e, 1);
  const isUpper = e.and(e.read(3), e.i32(1));
  writePair(e, e.select(isUpper, low, half), e.select(isUpper, half, high));
};

const extractHalf: Semantics = (e) => {
  const [low, high] = readPair(e, 1);
  const half = e.select(e.and(e.read(2), e.i32(1)), high, low);
  if (e.operands[0]?.kind === 'memory') e.store('v128', e.address(0), half);
  else writePair(e, half);
};

/** Shifts by a count for each element. */
const shiftEach =
  (size: 4 | 8, op: 'shl' | 'shr_u' | 'shr_s'): Semantics =>
  (e) => {
    const counts = e.read(1);
    const source = e.read(0);
    const bits = e.constant(size, 8 * size);
    const type = size === 4 ? 'i32' : 'i64';
    let result = source;
    for (let n = 0; n < 16 / size; n++) {
      const count = e.lane(`${SHAPES[size]}.extract_lane`, n, counts);
      const value = e.lane(`${SHAPES[size]}.extract_lane`, n, source);
      const inRange = e.ltU(count, bits);
      const shifted =
        op === 'shr_s'
          ? e.op(`${type}.shr_s`, value, e.select(inRange, count, e.constant(size, 8 * size - 1)))
          : e.select(inRange, e.op(`${type}.${op}`, value, count), e.constant(size, 0));
      result = e.lane(`${SHAPES[size]}.replace_lane`, n, result, shifted);
    }
    e.write(0, result);
  };

/** Elements of a vector pair as integers. */
function elementAt<V>(e: Algebra<V>, vector: Pair<V>, size: 4 | 8, n: number): V {
  const count = 16 / size;
  return e.lane(`${SHAPES[size]}.extract_lane`, n % count, n < count ? vector[0] : vector[1]);
}

/** `vector` with the elements that `element` gives; undefined ones stay. */
function withElements<V>(e: Algebra<V>, vector: Pair<V>, size: 4 | 8, element: (n: number) => V | undefined): Pair<V> {
  const count = 16 / size;
  const half = (from: V, first: number): V => {
    let result = from;
    for (let n = 0; n < count; n++) {
      const value = element(first + n);
      if (value !== undefined) result = e.lane(`${SHAPES[size]}.replace_lane`, n, result, value);
    }
    return result;
  };
  return [half(vector[0], 0), half(vector[1], count)];
}

const isNegative = <V>(e: Algebra<V>, size: 4 | 8, value: V): V => e.ltS(value, e.constant(size, 0));

/** Elements whose mask is clear are zero and are not read. */
const maskedLoad =
  (size: 4 | 8): Semantics =>
  (e) => {
    const mask = readPair(e, 1);
    const address = e.address(2);
    const count = (lanesOf(e) * 16) / size;
    const [low, high] = withElements(e, [zero128(e), zero128(e)], size, (n) => {
      if (n >= count) return undefined;
      const at = e.add(address, e.i64(n * size));
      const isChosen = isNegative(e, size, elementAt(e, mask, size, n));
      return e.choose(size === 4 ? 'i32' : 'i64', isChosen, () => e.load(INTEGERS[size], at), () => e.constant(size, 0)); // prettier-ignore
    });
    writePair(e, low, high);
  };

/** Elements whose mask is clear are not written; when one faults, none is. */
const maskedStore =
  (size: 4 | 8): Semantics =>
  (e) => {
    const mask = readPair(e, 1);
    const data = readPair(e, 2);
    const bitmask = (vector: V_<typeof e>): V_<typeof e> => e.op(`${SHAPES[size]}.bitmask`, vector);
    const chosen = e.or(bitmask(mask[0]), e.shl(bitmask(mask[1]), e.i32(16 / size)));
    const halves = data.flatMap((vector) => [low64(e, vector), high64(e, vector)]);
    e.helper(`vex.maskstore${size}`, e.address(0), chosen, ...halves);
  };

/** Operands: destination, base, indices, scale, mask. Unchosen elements keep what they are; the mask ends as zero. */
const gather =
  (indexSize: 4 | 8): Semantics =>
  (e) => {
    const size = e.operands[1]?.size === 8 ? 8 : 4;
    const count = Math.min((e.operands[0]?.size ?? 0) / size, (e.operands[2]?.size ?? 0) / indexSize);
    const base = e.address(1);
    const indices = readPair(e, 2);
    const scale = e.extendU(e.read(3));
    const mask = readPair(e, 4);
    const old = readPair(e, 0);
    const [low, high] = withElements(e, old, size, (n) => {
      if (n >= count) return n * size < 16 ? e.constant(size, 0) : undefined;
      const index = elementAt(e, indices, indexSize, n);
      const linear = e.add(base, e.mul(indexSize === 8 ? index : e.extendS(index), scale));
      const at = e.mode === 64 ? linear : e.and(linear, e.i64(0xffff_ffffn));
      const isChosen = isNegative(e, size, elementAt(e, mask, size, n));
      const type = size === 4 ? 'i32' : 'i64';
      return e.choose(type, isChosen, () => e.load(INTEGERS[size], at), () => elementAt(e, old, size, n)); // prettier-ignore
    });
    writePair(e, low, count * size > 16 ? high : zero128(e));
    e.write(4, zero128(e));
    e.writeHigh(4, zero128(e));
  };

/** Half floats: the four in the low 64 bits. */
const fromHalf: Semantics = (e) => {
  const source = e.read(1);
  e.write(0, helperPacked(e, 'sse.vcvtph2ps', source, source));
};

const toHalf: Semantics = (e) => {
  const source = readPair(e, 1);
  const immediate = e.read(2);
  const isWide = lanesOf(e) === 2;
  // MXCSR must not change when the store faults.
  if (e.operands[0]?.kind === 'memory') e.helper('vex.writable', e.address(0), e.i32(isWide ? 16 : 8));
  const convert = (vector: V_<typeof e>): V_<typeof e> =>
    e.helper(`${isWide ? 'sse256' : 'sse'}.vcvtps2ph`, low64(e, vector), high64(e, vector), immediate);
  const low = convert(source[0]);
  if (!isWide) {
    if (e.operands[0]?.kind === 'memory') e.store('u64', e.address(0), low);
    else writePair(e, e.lane('i64x2.replace_lane', 0, zero128(e), low));
    return;
  }
  const result = pair(e, low, convert(source[1]));
  e.helper('sse256.finish');
  if (e.operands[0]?.kind === 'memory') e.store('v128', e.address(0), result);
  else writePair(e, result);
};

/** Merging moves between registers: the low element of operand 2, the rest of operand 1. */
const merge =
  (size: 4 | 8): Semantics =>
  (e) => {
    const element = e.lane(`${SHAPES[size]}.extract_lane`, 0, e.read(2));
    writePair(e, e.lane(`${SHAPES[size]}.replace_lane`, 0, e.read(1), element));
  };

export const avxSemantics: Readonly<Record<string, Semantics>> = {
  vzeroupper: zeroRegisters(false),
  vzeroall: zeroRegisters(true),
  vmovss: merge(4),
  vmovsd: merge(8),
  'vbroadcast.1': broadcast(1),
  'vbroadcast.2': broadcast(2),
  'vbroadcast.4': broadcast(4),
  'vbroadcast.8': broadcast(8),
  'vbroadcast.16': (e) => {
    const vector = e.load('v128', e.address(1));
    writePair(e, vector, vector);
  },
  vpermilps: vexForm('vpermilps', permuteWords, 1),
  vpermilpd: vexForm('vpermilpd', permuteDoubles, 1),
  'vpermilpd.imm': vexForm('vpermilpd.imm', permuteDoublesImmediate, 0),
  vperm2x128: permuteHalves,
  vpermd: permuteAcross,
  vpermq: permuteQuads,
  vinsert128: insertHalf,
  vextract128: extractHalf,
  vpsllvd: vexForm('vpsllvd', shiftEach(4, 'shl'), 1),
  vpsllvq: vexForm('vpsllvq', shiftEach(8, 'shl'), 1),
  vpsrlvd: vexForm('vpsrlvd', shiftEach(4, 'shr_u'), 1),
  vpsrlvq: vexForm('vpsrlvq', shiftEach(8, 'shr_u'), 1),
  vpsravd: vexForm('vpsravd', shiftEach(4, 'shr_s'), 1),
  'vmaskload.4': maskedLoad(4),
  'vmaskload.8': maskedLoad(8),
  'vmaskstore.4': maskedStore(4),
  'vmaskstore.8': maskedStore(8),
  'gather.d': gather(4),
  'gather.q': gather(8),
  vcvtph2ps: vexForm('vcvtph2ps', fromHalf, 0),
  vcvtps2ph: toHalf,
};
