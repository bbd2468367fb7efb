/**
 * SSE floating point. The common case runs on the host's own operations, as QEMU's hardfloat does: with rounding to
 * nearest, all exceptions masked, no DAZ or FTZ and the precision flag already set, an operation on normal numbers or
 * zeros whose result is such a number too is exactly the processor's. Everything else goes to the helpers
 * (helpers/sse.ts), which compute in software and raise what is to be raised.
 */
import type { Algebra, Semantics } from '../algebra.ts';
import { readAligned } from './common.ts';
import { conversionSemantics } from './conversions.ts';
import {
  SHAPES,
  isUsual,
  isUsualOr,
  scalarBits,
  scalarOperand,
  constantBits,
  layoutOf,
  isDenormal,
  isUnusual,
  isSafeResult,
  isZero,
  hostScalar,
  helperScalar,
  writeScalar,
  bitsType,
  spread,
  denormalMask,
  anyUnusual,
  zeroMask,
  safeMask,
  helperPacked,
  floatLanes,
  type Shape,
} from './float-shape.ts';
import { splat64 } from './lanes.ts';

const ZF_PF_CF = 0x45;
const ARITHMETIC_FLAGS = 0x8d5;

const SHAPE_NAMES = ['ss', 'sd', 'ps', 'pd'] as const;

type Arithmetic = 'add' | 'sub' | 'mul' | 'div';

/** When a zero result is exact and raises nothing: of a sum always, else when the first operand or (mul) either was zero. */
function isExactZero<V>(e: Algebra<V>, shape: Shape, op: Arithmetic, a: V, b: V, result: V): V {
  const resultIsZero = isZero(e, shape, result);
  if (op === 'add' || op === 'sub') return resultIsZero;
  const cause = op === 'mul' ? e.or(isZero(e, shape, a), isZero(e, shape, b)) : isZero(e, shape, a);
  return e.and(resultIsZero, cause);
}

/** Low bits that a binary64 with a significand of at most 26 bits leaves zero: products of two such are exact. */
const SHORT_MASK = (1n << 27n) - 1n;

const isShort = <V>(e: Algebra<V>, bits: V): V => e.eqz(e.and(bits, e.i64(SHORT_MASK)));

/** 1 when the host's result is certainly exact; 0 when it may not be. Operands and result are normal or zero. */
function isExact<V>(e: Algebra<V>, shape: Shape, op: Arithmetic, a: V, b: V, result: V): V {
  if (op === 'add' || op === 'sub') {
    // The error term of a sum (Knuth's TwoSum) is itself exact.
    const right = op === 'add' ? b : e.xor(b, constantBits(e, shape, layoutOf(shape).magnitude + 1n));
    const virtual = hostScalar(e, shape, 'sub', result, a);
    const errorA = hostScalar(e, shape, 'sub', a, hostScalar(e, shape, 'sub', result, virtual));
    const errorB = hostScalar(e, shape, 'sub', right, virtual);
    return isZero(e, shape, hostScalar(e, shape, 'add', errorA, errorB));
  }
  const [x, y, product] = op === 'mul' ? [a, b, result] : [result, b, a];
  if (shape.isDouble) {
    const back = hostScalar(e, shape, 'mul', x, y);
    return e.and(e.and(isShort(e, x), isShort(e, y)), e.eq(back, product));
  }
  const wide = (bits: V): V => e.op('f64.promote_f32', e.op('f32.reinterpret_i32', bits));
  return e.op('f64.eq', e.op('f64.mul', wide(x), wide(y)), wide(product));
}

const arithmeticScalar =
  (op: Arithmetic, suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = scalarOperand(e, shape, 1);
    const target = e.read(0);
    const a = scalarBits(e, shape, target);
    const result = hostScalar(e, shape, op, a, b);
    const isGoodResult = e.or(isSafeResult(e, shape, result), isExactZero(e, shape, op, a, b, result));
    const hasDenormal = e.or(isDenormal(e, shape, a), isDenormal(e, shape, b));
    const mayBeFast = e.and(isGoodResult, e.eqz(hasDenormal));
    const isFast = e.choose(
      'i32',
      isUsual(e),
      () => mayBeFast,
      () => e.and(mayBeFast, isUsualOr(e, isExact(e, shape, op, a, b, result))),
    );
    const bits = e.choose(
      bitsType(shape),
      isFast,
      () => result,
      () => helperScalar(e, shape, `sse.${op}${suffix}`, a, b),
    );
    writeScalar(e, shape, target, bits);
  };

const sqrtScalar =
  (suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = scalarOperand(e, shape, 1);
    const target = e.read(0);
    const result = hostScalar(e, shape, 'sqrt', b);
    const isRoot = isExact(e, shape, 'mul', result, result, b);
    const isGood = e.and(isSafeResult(e, shape, result), e.eqz(isDenormal(e, shape, b)));
    const isFast = e.and(isUsualOr(e, isRoot), isGood);
    const bits = e.choose(
      bitsType(shape),
      isFast,
      () => result,
      () => helperScalar(e, shape, `sse.sqrt${suffix}`, e.constant(shape.isDouble ? 8 : 4, 0), b),
    );
    writeScalar(e, shape, target, bits);
  };

/** MINSx, MAXSx: the second operand unless the first is truly less (greater). */
const extremeScalar =
  (op: 'min' | 'max', suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = scalarOperand(e, shape, 1);
    const target = e.read(0);
    const a = scalarBits(e, shape, target);
    const slow = e.or(isUnusual(e, shape, a), isUnusual(e, shape, b));
    const bits = e.choose(
      bitsType(shape),
      slow,
      () => helperScalar(e, shape, `sse.${op}${suffix}`, a, b),
      () => e.select(compareHost(e, shape, op === 'min' ? 'lt' : 'gt', a, b), a, b),
    );
    writeScalar(e, shape, target, bits);
  };

function compareHost<V>(e: Algebra<V>, shape: Shape, op: 'lt' | 'gt' | 'eq', a: V, b: V): V {
  const type = shape.isDouble ? 'f64' : 'f32';
  const from = shape.isDouble ? 'f64.reinterpret_i64' : 'f32.reinterpret_i32';
  return e.op(`${type}.${op}`, e.op(from, a), e.op(from, b));
}

/** COMISx and UCOMISx: ZF, PF, CF; the others cleared. */
const compareFlags =
  (name: 'comi' | 'ucomi', suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = scalarOperand(e, shape, 1);
    const a = scalarOperand(e, shape, 0);
    const slow = e.or(isUnusual(e, shape, a), isUnusual(e, shape, b));
    const flags = e.choose(
      'i32',
      slow,
      () => e.wrap(e.helper(`sse.${name}${suffix}`, a, b)),
      () => {
        const isEqual = compareHost(e, shape, 'eq', a, b);
        return e.or(e.shl(isEqual, e.i32(6)), compareHost(e, shape, 'lt', a, b));
      },
    );
    e.flagsChange(ARITHMETIC_FLAGS, e.and(flags, e.i32(ZF_PF_CF)));
  };

function fastPacked<V>(e: Algebra<V>, shape: Shape, op: Arithmetic, a: V, b: V, result: V): V {
  const zeroCause =
    op === 'add' || op === 'sub'
      ? zeroMask(e, shape, result)
      : e.op(
          'v128.and',
          zeroMask(e, shape, result),
          op === 'mul' ? e.op('v128.or', zeroMask(e, shape, a), zeroMask(e, shape, b)) : zeroMask(e, shape, a),
        );
  const good = e.op('v128.or', safeMask(e, shape, result), zeroCause);
  const denormals = e.op('v128.or', denormalMask(e, shape, a), denormalMask(e, shape, b));
  return e.and(isUsual(e), e.op('i8x16.all_true', e.op('v128.andnot', good, denormals)));
}

const arithmeticPacked =
  (op: Arithmetic, suffix: 'ps' | 'pd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = readAligned(e, 1);
    const a = e.read(0);
    const result = e.op(`${floatLanes(shape)}.${op}`, a, b);
    e.write(
      0,
      e.choose(
        'v128',
        fastPacked(e, shape, op, a, b, result),
        () => result,
        () => helperPacked(e, `sse.${op}${suffix}`, a, b),
      ),
    );
  };

const extremePacked =
  (op: 'min' | 'max', suffix: 'ps' | 'pd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = readAligned(e, 1);
    const a = e.read(0);
    e.write(
      0,
      e.choose(
        'v128',
        anyUnusual(e, shape, a, b),
        () => helperPacked(e, `sse.${op}${suffix}`, a, b),
        () => e.op('v128.bitselect', a, b, e.op(`${floatLanes(shape)}.${op === 'min' ? 'lt' : 'gt'}`, a, b)),
      ),
    );
  };

/** Bits of the immediate that SSE and AVX forms of CMPxx look at. */
const SSE_PREDICATES = 7;
const AVX_PREDICATES = 31;

/** CMPxx of operands that are numbers: predicates EQ LT LE UNORD and their opposites; those of AVX repeat them. */
function comparePredicate<V>(e: Algebra<V>, shape: Shape, a: V, b: V, predicate: V): V {
  const lanes = floatLanes(shape);
  const base = e.and(predicate, e.i32(3));
  const ordered = e.select(
    e.eqz(base),
    e.op(`${lanes}.eq`, a, b),
    e.select(e.eq(base, e.i32(1)), e.op(`${lanes}.lt`, a, b), e.op(`${lanes}.le`, a, b)),
  );
  const zero = splat64(e, 0n);
  const holds = e.select(e.eq(base, e.i32(3)), zero, ordered);
  const inverted = e.select(e.and(predicate, e.i32(4)), splat64(e, -1n), zero);
  return e.op('v128.xor', holds, inverted);
}

const comparePacked =
  (suffix: 'ps' | 'pd', predicates: number): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = readAligned(e, 1);
    const a = e.read(0);
    const predicate = e.and(e.read(2), e.i32(predicates));
    e.write(
      0,
      e.choose(
        'v128',
        anyUnusual(e, shape, a, b),
        () => helperPacked(e, `sse.cmp${suffix}`, a, b, predicate),
        () => comparePredicate(e, shape, a, b, predicate),
      ),
    );
  };

const compareScalar =
  (suffix: 'ss' | 'sd', predicates: number): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = scalarOperand(e, shape, 1);
    const target = e.read(0);
    const predicate = e.and(e.read(2), e.i32(predicates));
    const a = scalarBits(e, shape, target);
    const bits = e.choose(
      bitsType(shape),
      e.or(isUnusual(e, shape, a), isUnusual(e, shape, b)),
      () => helperScalar(e, shape, `sse.cmp${suffix}`, a, b, predicate),
      () => scalarBits(e, shape, comparePredicate(e, shape, target, spread(e, shape, b), predicate)),
    );
    writeScalar(e, shape, target, bits);
  };

/** Instructions without a fast form: both operands to a helper. */
const helped =
  (name: string): Semantics =>
  (e) => {
    const b = readAligned(e, 1);
    const a = e.read(0);
    const rest = e.operands.length > 2 ? [e.read(2)] : [];
    e.write(0, helperPacked(e, `sse.${name}`, a, b, ...rest));
  };

const helpedScalar =
  (name: string, suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = scalarOperand(e, shape, 1);
    const target = e.read(0);
    const rest = e.operands.length > 2 ? [e.read(2)] : [];
    const bits = helperScalar(e, shape, `sse.${name}${suffix}`, scalarBits(e, shape, target), b, ...rest);
    writeScalar(e, shape, target, bits);
  };

/** Every helper that these semantics call with two vectors. */
const HELPED_PACKED = [
  'rcpps', 'rsqrtps', 'haddps', 'haddpd', 'hsubps', 'hsubpd', 'addsubps', 'addsubpd', 'roundps', 'roundpd',
  'dpps', 'dppd', 'cvtps2dq', 'cvttpd2dq', 'cvtpd2dq',
] as const; // prettier-ignore

const arithmeticNames = ['add', 'sub', 'mul', 'div'] as const;

function allForms(): Record<string, Semantics> {
  const all: Record<string, Semantics> = {};
  for (const suffix of SHAPE_NAMES) {
    for (const op of arithmeticNames)
      all[op + suffix] =
        suffix === 'ss' || suffix === 'sd' ? arithmeticScalar(op, suffix) : arithmeticPacked(op, suffix);
    for (const op of ['min', 'max'] as const)
      all[op + suffix] = suffix === 'ss' || suffix === 'sd' ? extremeScalar(op, suffix) : extremePacked(op, suffix);
    for (const [name, predicates] of [
      ['cmp', SSE_PREDICATES],
      ['vcmp', AVX_PREDICATES],
    ] as const)
      all[name + suffix] =
        suffix === 'ss' || suffix === 'sd' ? compareScalar(suffix, predicates) : comparePacked(suffix, predicates);
  }
  for (const suffix of ['ss', 'sd'] as const) {
    all[`sqrt${suffix}`] = sqrtScalar(suffix);
    all[`comi${suffix}`] = compareFlags('comi', suffix);
    all[`ucomi${suffix}`] = compareFlags('ucomi', suffix);
  }
  return all;
}

export const floatSemantics: Readonly<Record<string, Semantics>> = {
  ...allForms(),
  ...Object.fromEntries(HELPED_PACKED.map((name) => [name, helped(name)])),
  ...conversionSemantics,
  rcpss: helpedScalar('rcp', 'ss'),
  rsqrtss: helpedScalar('rsqrt', 'ss'),
  ldmxcsr: (e) => {
    const value = e.load('u32', e.address(0));
    e.faultWhen(e.ne(e.and(value, e.i32(~0xffff)), e.i32(0)), 13, 0);
    e.setField('mxcsr', value);
  },
  stmxcsr: (e) => {
    e.store('u32', e.address(0), e.field('mxcsr'));
  },
};
