/**
 * MMX forms. The registers are the significands of the physical x87 registers; an MMX instruction (but EMMS) makes all
 * of them valid, sets TOP to 0 (EMMS does that too) and writes ones above the register it changes (Intel SDM vol. 1, 9.5; vol. 3, 12.2).
 * A pending x87 exception comes first (#MF).
 */
import type { Algebra, Semantics } from '../algebra.ts';
import { high64, low64, pair, readInteger, readVector, widened } from './common.ts';
import { alignRight, shuffleControl } from './integer.ts';
import { LANES, splat64 } from './lanes.ts';

const STATUS_ERROR_SUMMARY = 0x80;
const STATUS_TOP = 0x3800;
const X87_ERROR_VECTOR = 16;

function checkPending<V>(e: Algebra<V>): void {
  e.faultWhen(e.ne(e.and(e.field('fsw'), e.i32(STATUS_ERROR_SUMMARY)), e.i32(0)), X87_ERROR_VECTOR);
}

function enter<V>(e: Algebra<V>): void {
  e.setField('fsw', e.and(e.field('fsw'), e.i32(~STATUS_TOP)));
  e.setField('ftw', e.i32(0xff));
}

const wrap =
  (body: Semantics): Semantics =>
  (e) => {
    checkPending(e);
    body(e);
    enter(e);
  };

/** Instructions that combine both operands into one vector before they narrow it. */
const JOINED = new Set(['packsswb', 'packuswb', 'packssdw']);
const HORIZONTAL = new Set(['phaddw', 'phaddd', 'phaddsw', 'phsubw', 'phsubd', 'phsubsw']);
const HIGH_INTERLEAVES: Readonly<Record<string, string>> = {
  punpckhbw: 'punpcklbw',
  punpckhwd: 'punpcklwd',
  punpckhdq: 'punpckldq',
};
/** What only XMM registers have. */
const NOT_MMX = new Set(['punpcklqdq', 'punpckhqdq', 'punpckhbw', 'punpckhwd', 'punpckhdq']);

function second<V>(e: Algebra<V>): V {
  const operand = e.operands[1];
  const value = e.read(1);
  // A 32-bit memory operand and an immediate come as i32.
  return operand?.kind === 'immediate' || (operand?.kind === 'memory' && operand.size === 4) ? e.extendU(value) : value;
}

const laneSemantics = Object.entries(LANES)
  .filter(([name]) => !NOT_MMX.has(name))
  .map(([name, lanes]): [string, Semantics] => [
    `mmx.${name}`,
    wrap((e) => {
      const b64 = second(e);
      const a64 = e.read(0);
      if (JOINED.has(name) || HORIZONTAL.has(name)) {
        const joined = pair(e, a64, b64);
        e.write(0, low64(e, lanes(e, joined, joined)));
        return;
      }
      let b = widened(e, b64);
      if (name === 'pshufb') b = e.op('v128.and', b, splat64(e, 0x8787878787878787n));
      e.write(0, low64(e, lanes(e, widened(e, a64), b)));
    }),
  ]);

const highInterleaves = Object.entries(HIGH_INTERLEAVES).map(([name, base]): [string, Semantics] => [
  `mmx.${name}`,
  wrap((e) => {
    const b = widened(e, e.read(1));
    const lanes = LANES[base];
    if (lanes) e.write(0, high64(e, lanes(e, widened(e, e.read(0)), b)));
  }),
]);

/** CVT(T)Px2PI: MMX mode is entered before an exception of the conversion, as processors have it. */
const toIntegers =
  (name: string): Semantics =>
  (e) => {
    checkPending(e);
    const source = readVector(e, 1);
    enter(e);
    e.write(0, e.helper(`sse.${name}`, low64(e, source), high64(e, source)));
  };

/** CVTPI2Px enters MMX mode only when its source is a register. */
const fromIntegers =
  (convert: Semantics): Semantics =>
  (e) => {
    if (e.operands[1]?.kind === 'mmx') wrap(convert)(e);
    else convert(e);
  };

export const mmxSemantics: Readonly<Record<string, Semantics>> = {
  ...Object.fromEntries(laneSemantics),
  ...Object.fromEntries(highInterleaves),
  'mmx.movq': wrap((e) => {
    e.write(0, e.read(1));
  }),
  'mmx.movd': wrap((e) => {
    const value = e.read(1);
    e.write(0, e.operands[1]?.size === 8 ? value : e.extendU(value));
  }),
  'mmx.storemovd': wrap((e) => {
    const value = e.read(1);
    e.write(0, e.operands[0]?.size === 8 ? value : e.wrap(value));
  }),
  'mmx.pshufw': wrap((e) => {
    const source = widened(e, e.read(1));
    e.write(0, low64(e, e.op('i8x16.swizzle', source, shuffleControl(e, e.read(2), 2))));
  }),
  'mmx.pinsrw': wrap((e) => {
    const shift = e.extendU(e.shl(e.and(e.read(2), e.i32(3)), e.i32(4)));
    const mask = e.shl(e.i64(0xffff), shift);
    const value = e.shl(e.and(e.extendU(readInteger(e, 1)), e.i64(0xffff)), shift);
    e.write(0, e.or(e.and(e.read(0), e.not(mask)), value));
  }),
  'mmx.pextrw': wrap((e) => {
    const shift = e.extendU(e.shl(e.and(e.read(2), e.i32(3)), e.i32(4)));
    e.write(0, e.and(e.wrap(e.shrU(e.read(1), shift)), e.i32(0xffff)));
  }),
  'mmx.palignr': wrap((e) => {
    const b = e.read(1);
    const joined = pair(e, b, e.read(0));
    e.write(0, low64(e, alignRight(e, widened(e, e.i64(0)), joined, e.read(2))));
  }),
  'mmx.pmovmskb': wrap((e) => {
    e.write(0, e.op('i8x16.bitmask', widened(e, e.read(1))));
  }),
  movdq2q: wrap((e) => {
    e.write(0, low64(e, e.read(1)));
  }),
  movq2dq: wrap((e) => {
    e.write(0, widened(e, e.read(1)));
  }),
  emms: (e) => {
    checkPending(e);
    enter(e);
    e.setField('ftw', e.i32(0));
  },
  cvtps2pi: toIntegers('cvtps2pi'),
  cvttps2pi: toIntegers('cvttps2pi'),
  cvtpd2pi: toIntegers('cvtpd2pi'),
  cvttpd2pi: toIntegers('cvttpd2pi'),
  cvtpi2ps: (e) => {
    const isRegister = e.operands[1]?.kind === 'mmx';
    if (isRegister) checkPending(e);
    const source = readInteger(e, 1);
    if (isRegister) enter(e);
    const converted = e.helper('sse.cvtpi2ps', source);
    e.write(0, e.lane('i64x2.replace_lane', 0, e.read(0), converted));
  },
  cvtpi2pd: fromIntegers((e) => {
    e.write(0, e.op('f64x2.convert_low_i32x4_s', widened(e, readInteger(e, 1))));
  }),
};
