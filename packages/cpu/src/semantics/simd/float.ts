/**
 * SSE floating point. The common case runs on the host's own operations, as QEMU's hardfloat does: with rounding to
 * nearest, all exceptions masked, no DAZ or FTZ and the precision flag already set, an operation on normal numbers or
 * zeros whose result is such a number too is exactly the processor's. Everything else goes to the helpers
 * (helpers/sse.ts), which compute in software and raise what is to be raised.
 */
import type { Algebra, Semantics } from '../algebra.ts';
import { high64, low64, pair, readAligned, readInteger } from './common.ts';
import { splat64 } from './lanes.ts';

const MXCSR_PRECISION = 0x20;
const MXCSR_PRECISION_MASK = 0x1000;
/** Denormals are zeros, flush to zero, rounding control: must be clear for the host's operations to be right. */
const MXCSR_UNUSUAL = 0xe040;
const MXCSR_MASKS = 0x1f80;
const ZF_PF_CF = 0x45;
const ARITHMETIC_FLAGS = 0x8d5;

interface Shape {
  readonly isDouble: boolean;
  readonly isPacked: boolean;
}
const SHAPES: Readonly<Record<'ss' | 'sd' | 'ps' | 'pd', Shape>> = {
  ss: { isDouble: false, isPacked: false },
  sd: { isDouble: true, isPacked: false },
  ps: { isDouble: false, isPacked: true },
  pd: { isDouble: true, isPacked: true },
};
type ShapeName = keyof typeof SHAPES;
const SHAPE_NAMES = Object.keys(SHAPES) as ShapeName[];

/** MXCSR asks for nothing unusual and an inexact result would change nothing. */
function isUsual<V>(e: Algebra<V>): V {
  const bits = e.and(e.field('mxcsr'), e.i32(MXCSR_UNUSUAL | MXCSR_MASKS | MXCSR_PRECISION));
  return e.eq(bits, e.i32(MXCSR_MASKS | MXCSR_PRECISION));
}

/** The same for a result that may be known to be exact: programs that only count never set the precision flag. */
function isUsualOr<V>(e: Algebra<V>, isExact: V): V {
  const mxcsr = e.field('mxcsr');
  const isPlain = e.eq(e.and(mxcsr, e.i32(MXCSR_UNUSUAL | MXCSR_MASKS)), e.i32(MXCSR_MASKS));
  return e.and(isPlain, e.or(isExact, e.ne(e.and(mxcsr, e.i32(MXCSR_PRECISION)), e.i32(0))));
}

// Scalars: bit patterns in i32 or i64 ---------------------------------------------------------------------------------

function scalarBits<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  return shape.isDouble ? low64(e, vector) : e.lane('i32x4.extract_lane', 0, vector);
}

/** Operand `n` as bits: the bottom of a register, or memory. */
function scalarOperand<V>(e: Algebra<V>, shape: Shape, n: number): V {
  return e.operands[n]?.kind === 'memory' ? readInteger(e, n) : scalarBits(e, shape, e.read(n));
}

function constantBits<V>(e: Algebra<V>, shape: Shape, value: bigint): V {
  return shape.isDouble ? e.i64(value) : e.i32(Number(BigInt.asIntN(32, value)));
}

const layoutOf = (shape: Shape): { magnitude: bigint; infinity: bigint; unit: bigint } =>
  shape.isDouble
    ? { magnitude: (1n << 63n) - 1n, infinity: 0x7ffn << 52n, unit: 1n << 52n }
    : { magnitude: (1n << 31n) - 1n, infinity: 0xffn << 23n, unit: 1n << 23n };

/** 1 when the operand is a denormal. */
function isDenormal<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  const { magnitude, unit } = layoutOf(shape);
  const absolute = e.and(bits, constantBits(e, shape, magnitude));
  return e.ltU(e.sub(absolute, constantBits(e, shape, 1n)), constantBits(e, shape, unit - 1n));
}

/** 1 when the operand is a NaN or a denormal. */
function isUnusual<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  const { magnitude, infinity } = layoutOf(shape);
  const absolute = e.and(bits, constantBits(e, shape, magnitude));
  return e.or(e.ltU(constantBits(e, shape, infinity), absolute), isDenormal(e, shape, bits));
}

/** 1 when a rounded result is normal and cannot have been tiny before rounding. */
function isSafeResult<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  const { magnitude, infinity, unit } = layoutOf(shape);
  const absolute = e.and(bits, constantBits(e, shape, magnitude));
  const low = constantBits(e, shape, 2n * unit);
  return e.ltU(e.sub(absolute, low), constantBits(e, shape, infinity - 2n * unit));
}

function isZero<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  return e.eqz(e.and(bits, constantBits(e, shape, layoutOf(shape).magnitude)));
}

function hostScalar<V>(e: Algebra<V>, shape: Shape, op: string, ...bits: V[]): V {
  const type = shape.isDouble ? 'f64' : 'f32';
  const from = shape.isDouble ? 'f64.reinterpret_i64' : 'f32.reinterpret_i32';
  const to = shape.isDouble ? 'i64.reinterpret_f64' : 'i32.reinterpret_f32';
  return e.op(to, e.op(`${type}.${op}`, ...bits.map((b) => e.op(from, b))));
}

function helperScalar<V>(e: Algebra<V>, shape: Shape, name: string, ...args: V[]): V {
  const result = e.helper(name, ...args);
  return shape.isDouble ? result : e.wrap(result);
}

function writeScalar<V>(e: Algebra<V>, shape: Shape, target: V, bits: V): void {
  e.write(0, e.lane(shape.isDouble ? 'i64x2.replace_lane' : 'i32x4.replace_lane', 0, target, bits));
}

const bitsType = (shape: Shape): 'i32' | 'i64' => (shape.isDouble ? 'i64' : 'i32');

/** Bits in every element. */
function spread<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  return e.op(shape.isDouble ? 'i64x2.splat' : 'i32x4.splat', bits);
}

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

// Packed --------------------------------------------------------------------------------------------------------------

/** Every element's bit pattern repeated over the vector. */
function splatBits<V>(e: Algebra<V>, shape: Shape, value: bigint): V {
  return splat64(e, shape.isDouble ? value : (value << 32n) | value);
}

function magnitudes<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  return e.op('v128.and', vector, splatBits(e, shape, layoutOf(shape).magnitude));
}

/** All ones in the elements that are denormal. */
function denormalMask<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  const lanes = shape.isDouble ? 'i64x2' : 'i32x4';
  const absolute = magnitudes(e, shape, vector);
  const isSmall = e.op(`${lanes}.lt_s`, absolute, splatBits(e, shape, layoutOf(shape).unit));
  return e.op('v128.and', isSmall, e.op(`${lanes}.ne`, absolute, splatBits(e, shape, 0n)));
}

function nanMask<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  const lanes = shape.isDouble ? 'i64x2' : 'i32x4';
  return e.op(`${lanes}.gt_s`, magnitudes(e, shape, vector), splatBits(e, shape, layoutOf(shape).infinity));
}

function anyUnusual<V>(e: Algebra<V>, shape: Shape, a: V, b: V): V {
  const nans = e.op('v128.or', nanMask(e, shape, a), nanMask(e, shape, b));
  const denormals = e.op('v128.or', denormalMask(e, shape, a), denormalMask(e, shape, b));
  return e.op('v128.any_true', e.op('v128.or', nans, denormals));
}

function zeroMask<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  return e.op(`${shape.isDouble ? 'i64x2' : 'i32x4'}.eq`, magnitudes(e, shape, vector), splatBits(e, shape, 0n));
}

function safeMask<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  const lanes = shape.isDouble ? 'i64x2' : 'i32x4';
  const { infinity, unit } = layoutOf(shape);
  const absolute = magnitudes(e, shape, vector);
  const isLarge = e.op(`${lanes}.ge_s`, absolute, splatBits(e, shape, 2n * unit));
  return e.op('v128.and', isLarge, e.op(`${lanes}.lt_s`, absolute, splatBits(e, shape, infinity)));
}

function helperPacked<V>(e: Algebra<V>, name: string, a: V, b: V, ...rest: V[]): V {
  const low = e.helper(name, low64(e, a), high64(e, a), low64(e, b), high64(e, b), ...rest);
  return pair(e, low, e.field('resultHigh'));
}

const floatLanes = (shape: Shape): string => (shape.isDouble ? 'f64x2' : 'f32x4');

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

/** CMPxx: predicates EQ LT LE UNORD and their opposites. */
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
  (suffix: 'ps' | 'pd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = readAligned(e, 1);
    const a = e.read(0);
    const predicate = e.and(e.read(2), e.i32(7));
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
  (suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = scalarOperand(e, shape, 1);
    const target = e.read(0);
    const predicate = e.and(e.read(2), e.i32(7));
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

// Conversions ---------------------------------------------------------------------------------------------------------

/** CVTSI2SS and CVTSI2SD. A 32-bit integer is exact in binary64. */
const fromInteger =
  (suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const is64 = e.operands[1]?.size === 8;
    const value = readInteger(e, 1);
    const target = e.read(0);
    const integer = is64 ? value : e.extendS(value);
    const type = shape.isDouble ? 'f64' : 'f32';
    const to = shape.isDouble ? 'i64.reinterpret_f64' : 'i32.reinterpret_f32';
    const host = (): V_<typeof e> => e.op(to, e.op(`${type}.convert_i64_s`, integer));
    if (shape.isDouble && !is64) {
      writeScalar(e, shape, target, host());
      return;
    }
    // Within the significand the conversion is exact.
    const significant = shape.isDouble ? 53 : 24;
    const half = e.i64(1n << BigInt(significant));
    const isExact = e.ltU(e.add(integer, half), e.i64(1n << BigInt(significant + 1)));
    const bits = e.choose(bitsType(shape), e.or(isExact, isUsual(e)), host, () =>
      helperScalar(e, shape, `sse.cvtsi2${suffix}`, integer),
    );
    writeScalar(e, shape, target, bits);
  };

/** The value type of an algebra, for annotations inside a semantics function. */
type V_<E> = E extends Algebra<infer V> ? V : never;

/** CVT(T)Sx2SI. The fast form is for integral values in range: nothing to round, nothing to raise. */
const toInteger =
  (suffix: 'ss' | 'sd', truncates: boolean): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const is64 = e.operands[0]?.size === 8;
    const b = scalarOperand(e, shape, 1);
    const type = shape.isDouble ? 'f64' : 'f32';
    const from = shape.isDouble ? 'f64.reinterpret_i64' : 'f32.reinterpret_i32';
    const value = e.op(from, b);
    const integer = e.op(`${is64 ? 'i64' : 'i32'}.trunc_sat_${type}_s`, value);
    const back = e.op(`${type}.convert_${is64 ? 'i64' : 'i32'}_s`, integer);
    // The least and the greatest integer may be saturated ones.
    const ends = is64 ? e.i64(1n << 63n) : e.i32(-0x80000000);
    const isInside = e.ltU(e.constant(is64 ? 8 : 4, 1), e.sub(integer, ends));
    const isNotTop = e.ne(integer, is64 ? e.i64((1n << 63n) - 1n) : e.i32(0x7fffffff));
    const isIntegral = e.op(`${type}.eq`, back, value);
    // Truncation of anything in range is right too once inexactness is recorded and denormals count as they are.
    const settled = MXCSR_PRECISION | 0x40;
    const isSettled = truncates
      ? e.eq(e.and(e.field('mxcsr'), e.i32(settled | MXCSR_PRECISION_MASK)), e.i32(MXCSR_PRECISION | MXCSR_PRECISION_MASK))
      : e.i32(0);
    const isNumber = e.eqz(isUnusual(e, shape, b));
    const isFast = e.and(e.and(isInside, isNotTop), e.or(isIntegral, e.and(isSettled, isNumber)));
    const result = e.choose(is64 ? 'i64' : 'i32', isFast, () => integer, () => {
      const converted = e.helper(`sse.cvt${truncates ? 't' : ''}${suffix}2si${is64 ? '64' : '32'}`, b);
      return is64 ? converted : e.wrap(converted);
    }); // prettier-ignore
    e.write(0, result);
  };

const cvtss2sd: Semantics = (e) => {
  const source = scalarOperand(e, SHAPES.ss, 1);
  const target = e.read(0);
  const bits = e.choose(
    'i64',
    isUnusual(e, SHAPES.ss, source),
    () => e.helper('sse.cvtss2sd', source),
    () => e.op('i64.reinterpret_f64', e.op('f64.promote_f32', e.op('f32.reinterpret_i32', source))),
  );
  writeScalar(e, SHAPES.sd, target, bits);
};

const cvtsd2ss: Semantics = (e) => {
  const source = scalarOperand(e, SHAPES.sd, 1);
  const target = e.read(0);
  const result = e.op('i32.reinterpret_f32', e.op('f32.demote_f64', e.op('f64.reinterpret_i64', source)));
  const isGood = e.or(isSafeResult(e, SHAPES.ss, result), isZero(e, SHAPES.sd, source));
  const bits = e.choose(
    'i32',
    e.and(isUsual(e), isGood),
    () => result,
    () => e.wrap(e.helper('sse.cvtsd2ss', source)),
  );
  writeScalar(e, SHAPES.ss, target, bits);
};

/** A packed operation on its second operand alone, with the host's where `isFast` holds. */
const packedUnary =
  (
    name: string,
    host: <V>(e: Algebra<V>, b: V) => V,
    isFast: <V>(e: Algebra<V>, b: V, result: V) => V,
    read: <V>(e: Algebra<V>) => V = (e) => readAligned(e, 1),
  ): Semantics =>
  (e) => {
    const b = read(e);
    const result = host(e, b);
    e.write(
      0,
      e.choose(
        'v128',
        isFast(e, b, result),
        () => result,
        () => helperPacked(e, `sse.${name}`, b, b),
      ),
    );
  };

const sqrtPacked = (suffix: 'ps' | 'pd'): Semantics => {
  const shape = SHAPES[suffix];
  return packedUnary(
    `sqrt${suffix}`,
    (e, b) => e.op(`${floatLanes(shape)}.sqrt`, b),
    (e, b, result) => {
      const good = e.op('v128.andnot', safeMask(e, shape, result), denormalMask(e, shape, b));
      return e.and(isUsual(e), e.op('i8x16.all_true', good));
    },
  );
};

/** Bound of the integers that a truncation may reach, as binary32: -2^31 < x < 2^31. */
const INTEGER_BOUND_32 = 0x4f000000n;

const packedConversions: Readonly<Record<string, Semantics>> = {
  cvtps2pd: packedUnary(
    'cvtps2pd',
    (e, b) => e.op('f64x2.promote_low_f32x4', b),
    (e, b) => {
      const low = e.op('i64x2.splat', low64(e, b));
      return e.eqz(anyUnusual(e, SHAPES.ps, low, low));
    },
    (e) => e.read(1),
  ),
  cvtpd2ps: packedUnary(
    'cvtpd2ps',
    (e, b) => e.op('f32x4.demote_f64x2_zero', b),
    (e, b, result) => {
      // Elements 0 and 1 of the result, each over both halves of the binary64 it comes from.
      const spread = e.shuffle(result, result, [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7]);
      const good = e.op('v128.or', safeMask(e, SHAPES.ps, spread), zeroMask(e, SHAPES.pd, b));
      return e.and(isUsual(e), e.op('i8x16.all_true', good));
    },
  ),
  cvtdq2ps: packedUnary(
    'cvtdq2ps',
    (e, b) => e.op('f32x4.convert_i32x4_s', b),
    (e) => isUsual(e),
  ),
  cvttps2dq: packedUnary(
    'cvttps2dq',
    (e, b) => e.op('i32x4.trunc_sat_f32x4_s', b),
    (e, b) => {
      const inRange = e.op('i32x4.lt_s', magnitudes(e, SHAPES.ps, b), splatBits(e, SHAPES.ps, INTEGER_BOUND_32));
      return e.and(isUsual(e), e.op('i8x16.all_true', e.op('v128.andnot', inRange, denormalMask(e, SHAPES.ps, b))));
    },
  ),
};

/** ROUNDSS and ROUNDSD: by the immediate's mode or MXCSR's; bit 3 keeps the precision flag as it is. */
const roundScalar =
  (suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const b = scalarOperand(e, shape, 1);
    const target = e.read(0);
    const immediate = e.read(2);
    const mxcsr = e.field('mxcsr');
    const current = e.and(e.shrU(mxcsr, e.i32(13)), e.i32(3));
    const mode = e.select(e.and(immediate, e.i32(4)), current, e.and(immediate, e.i32(3)));
    const nearest = hostScalar(e, shape, 'nearest', b);
    const down = hostScalar(e, shape, 'floor', b);
    const up = hostScalar(e, shape, 'ceil', b);
    const zero = hostScalar(e, shape, 'trunc', b);
    const isOdd = e.and(mode, e.i32(1));
    const result = e.select(e.and(mode, e.i32(2)), e.select(isOdd, zero, up), e.select(isOdd, down, nearest));
    const precision = MXCSR_PRECISION | MXCSR_PRECISION_MASK;
    const isRecorded = e.eq(e.and(mxcsr, e.i32(precision)), e.i32(precision));
    const isSilent = e.or(isRecorded, e.ne(e.and(immediate, e.i32(8)), e.i32(0)));
    const isFast = e.and(e.or(isSilent, e.eq(result, b)), e.eqz(isUnusual(e, shape, b)));
    const bits = e.choose(
      bitsType(shape),
      isFast,
      () => result,
      () => helperScalar(e, shape, `sse.round${suffix}`, b, b, immediate),
    );
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
    all[`cmp${suffix}`] = suffix === 'ss' || suffix === 'sd' ? compareScalar(suffix) : comparePacked(suffix);
  }
  for (const suffix of ['ss', 'sd'] as const) {
    all[`sqrt${suffix}`] = sqrtScalar(suffix);
    all[`comi${suffix}`] = compareFlags('comi', suffix);
    all[`ucomi${suffix}`] = compareFlags('ucomi', suffix);
    all[`round${suffix}`] = roundScalar(suffix);
    all[`cvtsi2${suffix}`] = fromInteger(suffix);
    all[`cvt${suffix}2si`] = toInteger(suffix, false);
    all[`cvtt${suffix}2si`] = toInteger(suffix, true);
  }
  return all;
}

export const floatSemantics: Readonly<Record<string, Semantics>> = {
  ...allForms(),
  ...Object.fromEntries(HELPED_PACKED.map((name) => [name, helped(name)])),
  ...packedConversions,
  sqrtps: sqrtPacked('ps'),
  sqrtpd: sqrtPacked('pd'),
  rcpss: helpedScalar('rcp', 'ss'),
  rsqrtss: helpedScalar('rsqrt', 'ss'),
  cvtss2sd,
  cvtsd2ss,
  cvtdq2pd: (e) => {
    e.write(0, e.op('f64x2.convert_low_i32x4_s', e.read(1)));
  },
  ldmxcsr: (e) => {
    const value = e.load('u32', e.address(0));
    e.faultWhen(e.ne(e.and(value, e.i32(~0xffff)), e.i32(0)), 13, 0);
    e.setField('mxcsr', value);
  },
  stmxcsr: (e) => {
    e.store('u32', e.address(0), e.field('mxcsr'));
  },
};
