/** SSE conversions, roundings and the packed square root: on the host where it is exact, else by helpers. */
import type { Algebra, Semantics } from '../algebra.ts';
import { low64, readAligned, readInteger } from './common.ts';
import {
  MXCSR_PRECISION,
  MXCSR_PRECISION_MASK,
  SHAPES,
  isUsual,
  scalarOperand,
  isUnusual,
  isSafeResult,
  isZero,
  hostScalar,
  helperScalar,
  writeScalar,
  bitsType,
  splatBits,
  magnitudes,
  denormalMask,
  anyUnusual,
  zeroMask,
  safeMask,
  helperPacked,
  floatLanes,
} from './float-shape.ts';

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
      ? e.eq(
          e.and(e.field('mxcsr'), e.i32(settled | MXCSR_PRECISION_MASK)),
          e.i32(MXCSR_PRECISION | MXCSR_PRECISION_MASK),
        )
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

function scalarForms(suffix: 'ss' | 'sd'): Record<string, Semantics> {
  return {
    [`round${suffix}`]: roundScalar(suffix),
    [`cvtsi2${suffix}`]: fromInteger(suffix),
    [`cvt${suffix}2si`]: toInteger(suffix, false),
    [`cvtt${suffix}2si`]: toInteger(suffix, true),
  };
}

export const conversionSemantics: Readonly<Record<string, Semantics>> = {
  ...scalarForms('ss'),
  ...scalarForms('sd'),
  ...packedConversions,
  cvtss2sd,
  cvtsd2ss,
  cvtdq2pd: (e) => {
    e.write(0, e.op('f64x2.convert_low_i32x4_s', e.read(1)));
  },
  sqrtps: sqrtPacked('ps'),
  sqrtpd: sqrtPacked('pd'),
};
