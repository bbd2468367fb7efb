/** Moves, duplicating moves, interleaves and logic of SSE, SSE2 and SSE3: no arithmetic, no exceptions of their own. */
import type { Semantics } from '../algebra.ts';
import { high64, low64, pair, readAligned, readInteger, widened } from './common.ts';
import { shuffleControl } from './integer.ts';
import { LANES, byteLanes, type Lanes } from './lanes.ts';

const XMM_BYTES = 16;

const aligned: Semantics = (e) => {
  if (e.operands[0]?.kind === 'memory') e.aligned(e.address(0), XMM_BYTES);
  e.write(0, readAligned(e, 1));
};

const unaligned: Semantics = (e) => {
  e.write(0, e.read(1));
};

/** MOVSS and MOVSD: merge between registers, zero the rest on a load. */
const scalar =
  (size: 4 | 8): Semantics =>
  (e) => {
    if (e.operands[1]?.kind === 'memory') {
      e.write(0, e.read(1));
      return;
    }
    const source = e.read(1);
    const value = size === 4 ? e.lane('i32x4.extract_lane', 0, source) : low64(e, source);
    if (e.operands[0]?.kind === 'memory') e.store(size === 4 ? 'u32' : 'u64', e.address(0), value);
    else e.write(0, e.lane(size === 4 ? 'i32x4.replace_lane' : 'i64x2.replace_lane', 0, e.read(0), value));
  };

const binary =
  (lanes: Lanes | undefined): Semantics =>
  (e) => {
    if (!lanes) throw new Error('no such lane operation');
    const b = readAligned(e, 1);
    e.write(0, lanes(e, e.read(0), b));
  };

const duplicate =
  (elements: readonly number[]): Semantics =>
  (e) => {
    const source = readAligned(e, 1);
    e.write(0, e.shuffle(source, source, byteLanes(4, elements)));
  };

/** SHUFPS: two elements of each operand by two bits of the immediate each. */
const shufps: Semantics = (e) => {
  const b = readAligned(e, 1);
  const a = e.read(0);
  const indices = shuffleControl(e, e.read(2), 4);
  const fromA = e.op('i8x16.swizzle', a, indices);
  const fromB = e.op('i8x16.swizzle', b, indices);
  e.write(0, e.shuffle(fromA, fromB, byteLanes(8, [0, 3])));
};

const shufpd: Semantics = (e) => {
  const b = readAligned(e, 1);
  const a = e.read(0);
  const immediate = e.read(2);
  const low = e.select(e.and(immediate, e.i32(1)), high64(e, a), low64(e, a));
  const high = e.select(e.and(immediate, e.i32(2)), high64(e, b), low64(e, b));
  e.write(0, pair(e, low, high));
};

export const moveSemantics: Readonly<Record<string, Semantics>> = {
  mova: aligned,
  movu: unaligned,
  movss: scalar(4),
  movsd: scalar(8),
  loadlow: (e) => {
    e.write(0, e.lane('i64x2.replace_lane', 0, e.read(0), e.load('u64', e.address(1))));
  },
  loadhigh: (e) => {
    e.write(0, e.lane('i64x2.replace_lane', 1, e.read(0), e.load('u64', e.address(1))));
  },
  storelow: (e) => {
    e.store('u64', e.address(0), low64(e, e.read(1)));
  },
  storehigh: (e) => {
    e.store('u64', e.address(0), high64(e, e.read(1)));
  },
  movhlps: (e) => {
    e.write(0, e.lane('i64x2.replace_lane', 0, e.read(0), high64(e, e.read(1))));
  },
  movlhps: (e) => {
    e.write(0, e.lane('i64x2.replace_lane', 1, e.read(0), low64(e, e.read(1))));
  },
  movddup: (e) => {
    e.write(0, e.op('i64x2.splat', low64(e, e.read(1))));
  },
  movsldup: duplicate([0, 0, 2, 2]),
  movshdup: duplicate([1, 1, 3, 3]),
  'movd.load': (e) => {
    const value = readInteger(e, 1);
    e.write(0, widened(e, e.operands[1]?.size === 8 ? value : e.extendU(value)));
  },
  'movd.store': (e) => {
    const source = e.read(1);
    e.write(0, e.operands[0]?.size === 8 ? low64(e, source) : e.lane('i32x4.extract_lane', 0, source));
  },
  'movq.load': (e) => {
    e.write(0, widened(e, low64(e, e.read(1))));
  },
  'movq.store': (e) => {
    const value = low64(e, e.read(1));
    if (e.operands[0]?.kind === 'memory') e.store('u64', e.address(0), value);
    else e.write(0, widened(e, value));
  },
  shufps,
  shufpd,
  unpcklps: binary(LANES['punpckldq']),
  unpckhps: binary(LANES['punpckhdq']),
  unpcklpd: binary(LANES['punpcklqdq']),
  unpckhpd: binary(LANES['punpckhqdq']),
  andps: binary(LANES['pand']),
  andpd: binary(LANES['pand']),
  andnps: binary(LANES['pandn']),
  andnpd: binary(LANES['pandn']),
  orps: binary(LANES['por']),
  orpd: binary(LANES['por']),
  xorps: binary(LANES['pxor']),
  xorpd: binary(LANES['pxor']),
  /** INSERTPS: an element of the source (or memory) into the target, then elements cleared. */
  insertps: (e) => {
    const immediate = e.read(2);
    const source = e.read(1);
    const from = e.operands[1]?.kind === 'memory' ? e.i32(0) : e.and(e.shrU(immediate, e.i32(6)), e.i32(3));
    const index = e.op('i32x4.splat', e.add(e.mul(from, e.i32(0x04040404)), e.i32(0x03020100)));
    const spread = e.op('i8x16.swizzle', source, index);
    const numbers = e.v128(new Uint8Array(new Uint32Array([0, 1, 2, 3]).buffer));
    const chosen = e.op('i32x4.splat', e.and(e.shrU(immediate, e.i32(4)), e.i32(3)));
    const merged = e.op('v128.bitselect', spread, e.read(0), e.op('i32x4.eq', numbers, chosen));
    const bits = e.v128(new Uint8Array(new Uint32Array([1, 2, 4, 8]).buffer));
    const cleared = e.op('i32x4.eq', e.op('v128.and', e.op('i32x4.splat', immediate), bits), bits);
    e.write(0, e.op('v128.andnot', merged, cleared));
  },
};
