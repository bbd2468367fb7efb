/** Pieces of the SSE floating-point semantics: shapes of operands, tests of bit patterns, calls of the helpers. */
import type { Algebra } from '../algebra.ts';
import { high64, low64, pair, readInteger } from './common.ts';
import { splat64 } from './lanes.ts';

export const MXCSR_PRECISION = 0x20;
export const MXCSR_PRECISION_MASK = 0x1000;
/** Denormals are zeros, flush to zero, rounding control: must be clear for the host's operations to be right. */
const MXCSR_UNUSUAL = 0xe040;
const MXCSR_MASKS = 0x1f80;

export interface Shape {
  readonly isDouble: boolean;
  readonly isPacked: boolean;
}
export const SHAPES: Readonly<Record<'ss' | 'sd' | 'ps' | 'pd', Shape>> = {
  ss: { isDouble: false, isPacked: false },
  sd: { isDouble: true, isPacked: false },
  ps: { isDouble: false, isPacked: true },
  pd: { isDouble: true, isPacked: true },
};

/** MXCSR asks for nothing unusual and an inexact result would change nothing. */
export function isUsual<V>(e: Algebra<V>): V {
  const bits = e.and(e.field('mxcsr'), e.i32(MXCSR_UNUSUAL | MXCSR_MASKS | MXCSR_PRECISION));
  return e.eq(bits, e.i32(MXCSR_MASKS | MXCSR_PRECISION));
}

/** The same for a result that may be known to be exact: programs that only count never set the precision flag. */
export function isUsualOr<V>(e: Algebra<V>, isExact: V): V {
  const mxcsr = e.field('mxcsr');
  const isPlain = e.eq(e.and(mxcsr, e.i32(MXCSR_UNUSUAL | MXCSR_MASKS)), e.i32(MXCSR_MASKS));
  return e.and(isPlain, e.or(isExact, e.ne(e.and(mxcsr, e.i32(MXCSR_PRECISION)), e.i32(0))));
}

// Scalars: bit patterns in i32 or i64 ---------------------------------------------------------------------------------

export function scalarBits<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  return shape.isDouble ? low64(e, vector) : e.lane('i32x4.extract_lane', 0, vector);
}

/** Operand `n` as bits: the bottom of a register, or memory. */
export function scalarOperand<V>(e: Algebra<V>, shape: Shape, n: number): V {
  return e.operands[n]?.kind === 'memory' ? readInteger(e, n) : scalarBits(e, shape, e.read(n));
}

export function constantBits<V>(e: Algebra<V>, shape: Shape, value: bigint): V {
  return shape.isDouble ? e.i64(value) : e.i32(Number(BigInt.asIntN(32, value)));
}

export const layoutOf = (shape: Shape): { magnitude: bigint; infinity: bigint; unit: bigint } =>
  shape.isDouble
    ? { magnitude: (1n << 63n) - 1n, infinity: 0x7ffn << 52n, unit: 1n << 52n }
    : { magnitude: (1n << 31n) - 1n, infinity: 0xffn << 23n, unit: 1n << 23n };

/** 1 when the operand is a denormal. */
export function isDenormal<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  const { magnitude, unit } = layoutOf(shape);
  const absolute = e.and(bits, constantBits(e, shape, magnitude));
  return e.ltU(e.sub(absolute, constantBits(e, shape, 1n)), constantBits(e, shape, unit - 1n));
}

/** 1 when the operand is a NaN or a denormal. */
export function isUnusual<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  const { magnitude, infinity } = layoutOf(shape);
  const absolute = e.and(bits, constantBits(e, shape, magnitude));
  return e.or(e.ltU(constantBits(e, shape, infinity), absolute), isDenormal(e, shape, bits));
}

/** 1 when a rounded result is normal and cannot have been tiny before rounding. */
export function isSafeResult<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  const { magnitude, infinity, unit } = layoutOf(shape);
  const absolute = e.and(bits, constantBits(e, shape, magnitude));
  const low = constantBits(e, shape, 2n * unit);
  return e.ltU(e.sub(absolute, low), constantBits(e, shape, infinity - 2n * unit));
}

export function isZero<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  return e.eqz(e.and(bits, constantBits(e, shape, layoutOf(shape).magnitude)));
}

export function hostScalar<V>(e: Algebra<V>, shape: Shape, op: string, ...bits: V[]): V {
  const type = shape.isDouble ? 'f64' : 'f32';
  const from = shape.isDouble ? 'f64.reinterpret_i64' : 'f32.reinterpret_i32';
  const to = shape.isDouble ? 'i64.reinterpret_f64' : 'i32.reinterpret_f32';
  return e.op(to, e.op(`${type}.${op}`, ...bits.map((b) => e.op(from, b))));
}

export function helperScalar<V>(e: Algebra<V>, shape: Shape, name: string, ...args: V[]): V {
  const result = e.helper(name, ...args);
  return shape.isDouble ? result : e.wrap(result);
}

export function writeScalar<V>(e: Algebra<V>, shape: Shape, target: V, bits: V): void {
  e.write(0, e.lane(shape.isDouble ? 'i64x2.replace_lane' : 'i32x4.replace_lane', 0, target, bits));
}

export const bitsType = (shape: Shape): 'i32' | 'i64' => (shape.isDouble ? 'i64' : 'i32');

/** Bits in every element. */
export function spread<V>(e: Algebra<V>, shape: Shape, bits: V): V {
  return e.op(shape.isDouble ? 'i64x2.splat' : 'i32x4.splat', bits);
}

// Packed --------------------------------------------------------------------------------------------------------------

/** Every element's bit pattern repeated over the vector. */
export function splatBits<V>(e: Algebra<V>, shape: Shape, value: bigint): V {
  return splat64(e, shape.isDouble ? value : (value << 32n) | value);
}

export function magnitudes<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  return e.op('v128.and', vector, splatBits(e, shape, layoutOf(shape).magnitude));
}

/** All ones in the elements that are denormal. */
export function denormalMask<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  const lanes = shape.isDouble ? 'i64x2' : 'i32x4';
  const absolute = magnitudes(e, shape, vector);
  const isSmall = e.op(`${lanes}.lt_s`, absolute, splatBits(e, shape, layoutOf(shape).unit));
  return e.op('v128.and', isSmall, e.op(`${lanes}.ne`, absolute, splatBits(e, shape, 0n)));
}

function nanMask<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  const lanes = shape.isDouble ? 'i64x2' : 'i32x4';
  return e.op(`${lanes}.gt_s`, magnitudes(e, shape, vector), splatBits(e, shape, layoutOf(shape).infinity));
}

export function anyUnusual<V>(e: Algebra<V>, shape: Shape, a: V, b: V): V {
  const nans = e.op('v128.or', nanMask(e, shape, a), nanMask(e, shape, b));
  const denormals = e.op('v128.or', denormalMask(e, shape, a), denormalMask(e, shape, b));
  return e.op('v128.any_true', e.op('v128.or', nans, denormals));
}

export function zeroMask<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  return e.op(`${shape.isDouble ? 'i64x2' : 'i32x4'}.eq`, magnitudes(e, shape, vector), splatBits(e, shape, 0n));
}

export function safeMask<V>(e: Algebra<V>, shape: Shape, vector: V): V {
  const lanes = shape.isDouble ? 'i64x2' : 'i32x4';
  const { infinity, unit } = layoutOf(shape);
  const absolute = magnitudes(e, shape, vector);
  const isLarge = e.op(`${lanes}.ge_s`, absolute, splatBits(e, shape, 2n * unit));
  return e.op('v128.and', isLarge, e.op(`${lanes}.lt_s`, absolute, splatBits(e, shape, infinity)));
}

export function helperPacked<V>(e: Algebra<V>, name: string, a: V, b: V, ...rest: V[]): V {
  const low = e.helper(name, low64(e, a), high64(e, a), low64(e, b), high64(e, b), ...rest);
  return pair(e, low, e.field('resultHigh'));
}

export const floatLanes = (shape: Shape): string => (shape.isDouble ? 'f64x2' : 'f32x4');
