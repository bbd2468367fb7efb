/**
 * FMA3: a * b + c with one rounding. WebAssembly has no fused operation that is certain, so the common case computes it
 * exactly from ordinary ones, and everything else goes to the helpers (helpers/avx.ts).
 *
 * Binary64: the product as a sum of two numbers (Dekker), added to c by exact sums (Knuth), the small part rounded to odd
 * so that the last, ordinary rounding is the only one: Boldo and Melquiond, "Emulation of FMA and correctly rounded sums:
 * proved algorithms using rounding to odd", IEEE Trans. Computers 57 (2008). Binary32: the product is exact in binary64,
 * and the sum there, rounded to odd, has enough bits for one more rounding.
 */
import type { Algebra, Semantics } from '../algebra.ts';
import { high64, low64, pair } from './common.ts';
import { SHAPES, anyUnusual, bitsType, helperScalar, isUsual, safeMask, scalarBits, writeScalar, zeroMask, type Shape } from './float-shape.ts'; // prettier-ignore
import { byteLanes, splat64 } from './lanes.ts';
import { vexForm } from './vex.ts';

/** Operands a, b, c by the row's variant: forms 132, 213, 231. */
const ORDERS = [[0, 2, 1], [1, 0, 2], [1, 2, 0]] as const; // prettier-ignore

/** Bits that are flipped in a and in c of a 64-bit half: what the operation's name says of the signs. */
interface Signs {
  readonly a: bigint;
  readonly c: bigint;
}
const signsOf = (name: string, suffix: 'ss' | 'sd' | 'ps' | 'pd'): Signs => {
  const { isDouble } = SHAPES[suffix];
  const all = isDouble ? 1n << 63n : 0x8000000080000000n;
  return { a: name.startsWith('fnm') ? all : 0n, c: name.endsWith('sub') && !name.endsWith('addsub') ? all : 0n };
};
/** Which elements subtract, for the alternating forms: in binary32 those of a half, in binary64 those of the vector. */
const ALTERNATING: Readonly<Record<string, readonly [even: boolean, odd: boolean]>> = {
  fmaddsub: [true, false],
  fmsubadd: [false, true],
};

type Sum<V> = readonly [sum: V, error: V];

/** The rounded sum of two binary64 vectors and what rounding took from it, exactly. */
function exactSum<V>(e: Algebra<V>, x: V, y: V): Sum<V> {
  const sum = e.op('f64x2.add', x, y);
  const rest = e.op('f64x2.sub', sum, x);
  const fromX = e.op('f64x2.sub', x, e.op('f64x2.sub', sum, rest));
  return [sum, e.op('f64x2.add', fromX, e.op('f64x2.sub', y, rest))];
}

/** A sum rounded to odd: exact ones stay, of the others' two neighbours the one with its last bit set. */
function roundedToOdd<V>(e: Algebra<V>, [sum, error]: Sum<V>): V {
  const zero = splat64(e, 0n);
  const isInexact = e.op('f64x2.ne', error, zero);
  const isEven = e.op('i64x2.eq', e.op('v128.and', sum, splat64(e, 1n)), zero);
  // One unit away from zero where the error has the sum's sign, else towards it.
  const direction = e.op('i64x2.shr_s', e.op('v128.xor', sum, error), e.i32(63));
  const step = e.op('v128.or', direction, splat64(e, 1n));
  return e.op('i64x2.add', sum, e.op('v128.and', step, e.op('v128.and', isInexact, isEven)));
}

/** 2^27 + 1 as binary64: splits a significand into halves whose products are exact. */
const SPLITTER = 0x41a0000002000000n;

function split<V>(e: Algebra<V>, x: V): Sum<V> {
  const scaled = e.op('f64x2.mul', x, splat64(e, SPLITTER));
  const high = e.op('f64x2.sub', scaled, e.op('f64x2.sub', scaled, x));
  return [high, e.op('f64x2.sub', x, high)];
}

/** a * b + c of binary64 vectors whose elements are far from the ends of the format. */
function fused64<V>(e: Algebra<V>, a: V, b: V, c: V): V {
  const mul = (x: V, y: V): V => e.op('f64x2.mul', x, y);
  const add = (x: V, y: V): V => e.op('f64x2.add', x, y);
  const [aHigh, aLow] = split(e, a);
  const [bHigh, bLow] = split(e, b);
  const product = mul(a, b);
  const upper = add(e.op('f64x2.sub', mul(aHigh, bHigh), product), mul(aHigh, bLow));
  const productError = add(add(upper, mul(aLow, bHigh)), mul(aLow, bLow));
  const [small, smallError] = exactSum(e, c, productError);
  const [large, largeError] = exactSum(e, product, small);
  return add(large, roundedToOdd(e, exactSum(e, smallError, largeError)));
}

/** Exponents, from that of one, within which no part of `fused64` can overflow or underflow. */
const FACTOR_RANGE = 400n;
const ADDEND_RANGE = 900n;
const BIAS = 1023n;

/** All ones in the elements that are within 2^-range and 2^range. */
function inRange<V>(e: Algebra<V>, vector: V, range: bigint): V {
  const magnitude = e.op('v128.and', vector, splat64(e, (1n << 63n) - 1n));
  const above = e.op('i64x2.gt_s', magnitude, splat64(e, (BIAS - range) << 52n));
  return e.op('v128.and', above, e.op('i64x2.lt_s', magnitude, splat64(e, (BIAS + range) << 52n)));
}

/** All ones in the elements that `fused64` is right for, all exceptions but precision being impossible. */
function canFuse64<V>(e: Algebra<V>, a: V, b: V, c: V): V {
  const or = (x: V, y: V): V => e.op('v128.or', x, y);
  const and = (x: V, y: V): V => e.op('v128.and', x, y);
  const [aIsNear, bIsNear] = [inRange(e, a, FACTOR_RANGE), inRange(e, b, FACTOR_RANGE)];
  const [aIsZero, bIsZero] = [zeroMask(e, SHAPES.pd, a), zeroMask(e, SHAPES.pd, b)];
  // Of a zero product and a zero the signs are not as the parts would have them.
  const withZero = and(zeroMask(e, SHAPES.pd, c), and(aIsNear, bIsNear));
  const withAddend = and(inRange(e, c, ADDEND_RANGE), and(or(aIsNear, aIsZero), or(bIsNear, bIsZero)));
  return or(withZero, withAddend);
}

/** a * b + c of the two low binary32 elements; they come back in binary64, rounded to odd. */
function oddSums32<V>(e: Algebra<V>, a: V, b: V, c: V): V {
  const wide = (vector: V): V => e.op('f64x2.promote_low_f32x4', vector);
  return roundedToOdd(e, exactSum(e, e.op('f64x2.mul', wide(a), wide(b)), wide(c)));
}

const upperHalf = <V>(e: Algebra<V>, vector: V): V => e.shuffle(vector, vector, byteLanes(8, [1, 1]));
const narrowed = <V>(e: Algebra<V>, vector: V): V => e.op('f32x4.demote_f64x2_zero', vector);

/** Flips signs; nothing where there is nothing to flip. */
const flipped = <V>(e: Algebra<V>, vector: V, low: bigint, high = low): V =>
  low === 0n && high === 0n ? vector : e.op('v128.xor', vector, pair(e, e.i64(low), e.i64(high)));

/** The three operands as vectors in their order; scalars in memory with zeros above them. */
const operandsOf = <V>(e: Algebra<V>): [V, V, V] => {
  const [a, b, c] = ORDERS[e.variant] ?? ORDERS[0];
  return [e.read(a), e.read(b), e.read(c)];
};

const halvesOf = <V>(e: Algebra<V>, vectors: readonly V[]): V[] =>
  vectors.flatMap((vector) => [low64(e, vector), high64(e, vector)]);

function alternatingSigns(name: string, isDouble: boolean): readonly [low: bigint, high: bigint] | undefined {
  const pattern = ALTERNATING[name];
  if (!pattern) return undefined;
  const [even, odd] = pattern;
  if (isDouble) return [even ? 1n << 63n : 0n, odd ? 1n << 63n : 0n];
  const half = (even ? 1n << 31n : 0n) | (odd ? 1n << 63n : 0n);
  return [half, half];
}

const packed =
  (name: string, suffix: 'ps' | 'pd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const operands = operandsOf(e);
    const signs = signsOf(name, suffix);
    const [low, high] = alternatingSigns(name, shape.isDouble) ?? [signs.c, signs.c];
    const [a, b, c] = [flipped(e, operands[0], signs.a), operands[1], flipped(e, operands[2], low, high)];
    const slow = (): V_<typeof e> => {
      const result = e.helper(`sse.${name}${suffix}`, ...halvesOf(e, operands));
      return pair(e, result, e.field('resultHigh'));
    };
    if (shape.isDouble) {
      const isFast = e.and(isUsual(e), e.op('i8x16.all_true', canFuse64(e, a, b, c)));
      e.write(0, e.choose('v128', isFast, () => fused64(e, a, b, c), slow)); // prettier-ignore
      return;
    }
    const lower = oddSums32(e, a, b, c);
    const upper = oddSums32(e, upperHalf(e, a), upperHalf(e, b), upperHalf(e, c));
    const result = e.shuffle(narrowed(e, lower), narrowed(e, upper), byteLanes(8, [0, 2]));
    const isZero = e.shuffle(isExactZero(e, lower), isExactZero(e, upper), byteLanes(4, [0, 2, 4, 6]));
    e.write(0, e.choose('v128', isFast32(e, [a, b, c], { result, isZero }), () => result, slow)); // prettier-ignore
  };

/** The value type of an algebra, for annotations inside a semantics function. */
type V_<E> = E extends Algebra<infer V> ? V : never;

const isExactZero = <V>(e: Algebra<V>, sum: V): V => e.op('f64x2.eq', sum, splat64(e, 0n));

/** No denormal or NaN comes in, and all that comes out is normal, or zero without rounding. */
function isFast32<V>(
  e: Algebra<V>,
  [a, b, c]: readonly [V, V, V],
  { result, isZero }: { readonly result: V; readonly isZero: V },
): V {
  const shape = SHAPES.ps;
  const isUnusual = e.or(anyUnusual(e, shape, a, b), anyUnusual(e, shape, c, c));
  const isGood = e.op('i8x16.all_true', e.op('v128.or', safeMask(e, shape, result), isZero));
  return e.and(e.and(isUsual(e), e.eqz(isUnusual)), isGood);
}

/** Everything above the low element repeated from it, so that tests of whole vectors are tests of the scalar. */
const spreadLow = <V>(e: Algebra<V>, shape: Shape, vector: V): V => {
  const size = shape.isDouble ? 8 : 4;
  return e.shuffle(vector, vector, byteLanes(size, new Array<number>(16 / size).fill(0)));
};

const scalar =
  (name: string, suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const operands = operandsOf(e);
    const signs = signsOf(name, suffix);
    const spread = operands.map((vector) => spreadLow(e, shape, vector)) as [V_<typeof e>, V_<typeof e>, V_<typeof e>];
    const [a, b, c] = [flipped(e, spread[0], signs.a), spread[1], flipped(e, spread[2], signs.c)];
    const slow = (): V_<typeof e> =>
      helperScalar(e, shape, `sse.${name}${suffix}`, ...operands.map((vector) => scalarBits(e, shape, vector)));
    const target = e.read(0);
    if (shape.isDouble) {
      const isFast = e.and(isUsual(e), e.op('i8x16.all_true', canFuse64(e, a, b, c)));
      const bits = e.choose(bitsType(shape), isFast, () => low64(e, fused64(e, a, b, c)), slow);
      writeScalar(e, shape, target, bits);
      return;
    }
    const sums = oddSums32(e, a, b, c);
    const result = spreadLow(e, shape, narrowed(e, sums));
    const isFast = isFast32(e, [a, b, c], { result, isZero: isExactZero(e, sums) });
    writeScalar(e, shape, target, e.choose('i32', isFast, () => scalarBits(e, shape, result), slow)); // prettier-ignore
  };

function allForms(): Record<string, Semantics> {
  const all: Record<string, Semantics> = {};
  for (const op of ['fmadd', 'fmsub', 'fnmadd', 'fnmsub'] as const)
    for (const suffix of ['ss', 'sd'] as const) all[op + suffix] = vexForm(op, scalar(op, suffix), 0);
  for (const op of ['fmadd', 'fmsub', 'fnmadd', 'fnmsub', 'fmaddsub', 'fmsubadd'])
    for (const suffix of ['ps', 'pd'] as const) all[op + suffix] = vexForm(op, packed(op, suffix), 0);
  return all;
}

export const fmaSemantics: Readonly<Record<string, Semantics>> = allForms();
