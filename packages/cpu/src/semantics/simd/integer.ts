/** Integer instructions on XMM registers: arithmetic by the lane table, shuffles, inserts and extracts. */
import type { Algebra, Semantics } from '../algebra.ts';
import { IOTA, bytes, low64, readAligned, readInteger, widened, zero128 } from './common.ts';
import { LANES, byteLanes, splat64 } from './lanes.ts';

/** The second operand of a lane operation: a register or memory, or a shift count as a vector. */
function second<V>(e: Algebra<V>): V {
  return e.operands[1]?.kind === 'immediate' ? widened(e, e.extendU(e.read(1))) : readAligned(e, 1);
}

const laneSemantics = Object.entries(LANES).map(([name, lanes]): [string, Semantics] => [
  `xmm.${name}`,
  (e) => {
    const b = second(e);
    e.write(0, lanes(e, e.read(0), b));
  },
]);

/** PSHUFD and the word shuffles: indices made from the immediate, two bits each. */
export function shuffleControl<V>(e: Algebra<V>, immediate: V, elementBytes: 2 | 4): V {
  const spread = e.op('i32x4.splat', immediate);
  if (elementBytes === 4) {
    const factors = new Uint8Array(new Uint32Array([64, 16, 4, 1]).buffer);
    const selected = e.op('v128.and', e.op('i32x4.mul', spread, e.v128(factors)), splat64(e, 0x000000c0000000c0n));
    const index = e.op('i32x4.mul', e.op('i32x4.shr_u', selected, e.i32(4)), splat64(e, 0x0101010101010101n));
    return e.op('v128.or', index, splat64(e, 0x0302010003020100n));
  }
  const factors = new Uint8Array(new Uint16Array([64, 16, 4, 1, 64, 16, 4, 1]).buffer);
  const product = e.op('i16x8.mul', e.op('i16x8.splat', immediate), e.v128(factors));
  const selected = e.op('v128.and', product, splat64(e, 0x00c000c000c000c0n));
  const index = e.op('i16x8.mul', e.op('i16x8.shr_u', selected, e.i32(5)), splat64(e, 0x0101010101010101n));
  return e.op('v128.or', index, splat64(e, 0x0100010001000100n));
}

const shuffleWords =
  (half: 'low' | 'high'): Semantics =>
  (e) => {
    const source = readAligned(e, 1);
    const control = shuffleControl(e, e.read(2), 2);
    const kept = bytes(e, IOTA);
    const highControl = e.op('i8x16.add', control, splat64(e, 0x0808080808080808n));
    const indices =
      half === 'low'
        ? e.shuffle(control, kept, byteLanes(8, [0, 3]))
        : e.shuffle(kept, highControl, byteLanes(8, [0, 3]));
    e.write(0, e.op('i8x16.swizzle', source, indices));
  };

/** Whole-register byte shifts: indices beyond the register give zero. */
const shiftBytes =
  (direction: 'left' | 'right'): Semantics =>
  (e) => {
    const count = e.op('i8x16.splat', e.read(1));
    const iota = bytes(e, IOTA);
    const indices = direction === 'right' ? e.op('i8x16.add_sat_u', iota, count) : e.op('i8x16.sub', iota, count);
    // 0 - 255 wraps into the register again; counts above 15 clear it.
    const isBeyond = e.ltU(e.i32(15), e.read(1));
    e.write(0, e.select(isBeyond, zero128(e), e.op('i8x16.swizzle', e.read(0), indices)));
  };

/** The 32 bytes of a (upper) and b (lower) moved right by `count` bytes; the low 16. */
export function alignRight<V>(e: Algebra<V>, a: V, b: V, count: V): V {
  const iota = bytes(e, IOTA);
  const fromLow = e.op('i8x16.swizzle', b, e.op('i8x16.add_sat_u', iota, e.op('i8x16.splat', count)));
  const moved = e.op('i8x16.splat', e.sub(count, e.i32(16)));
  const fromHigh = e.op('i8x16.swizzle', a, e.op('i8x16.add', iota, moved));
  return e.op('v128.or', fromLow, fromHigh);
}

/** Element of `size` bytes at a position known only at run time, moved to the bottom. */
function element<V>(e: Algebra<V>, source: V, position: V, size: number): V {
  const count = 16 / size;
  const offset = e.mul(e.and(position, e.i32(count - 1)), e.i32(size));
  return e.op('i8x16.swizzle', source, e.op('i8x16.add', e.op('i8x16.splat', offset), bytes(e, IOTA)));
}

const extractTo =
  (size: 1 | 2): Semantics =>
  (e) => {
    const source = element(e, e.read(1), e.read(2), size);
    const value = e.lane(size === 1 ? 'i8x16.extract_lane_u' : 'i16x8.extract_lane_u', 0, source);
    e.write(0, value);
  };

/** PEXTRD and PEXTRQ by operand size. */
const extractWide: Semantics = (e) => {
  const isQuad = e.operands[0]?.size === 8;
  const source = element(e, e.read(1), e.read(2), isQuad ? 8 : 4);
  e.write(0, isQuad ? low64(e, source) : e.lane('i32x4.extract_lane', 0, source));
};

/** Replaces one element chosen at run time. */
function insert<V>(e: Algebra<V>, target: V, spread: V, position: V, size: number): V {
  const shape = { 1: 'i8x16', 2: 'i16x8', 4: 'i32x4' }[size];
  const count = 16 / size;
  const numbers = new Uint8Array(16);
  for (let i = 0; i < count; i++) numbers[i * size] = i;
  const chosen = e.op(`${shape ?? 'i8x16'}.splat`, e.and(position, e.i32(count - 1)));
  const mask = e.op(`${shape ?? 'i8x16'}.eq`, e.v128(numbers), chosen);
  return e.op('v128.bitselect', spread, target, mask);
}

const insertNarrow =
  (size: 1 | 2): Semantics =>
  (e) => {
    const spread = e.op(size === 1 ? 'i8x16.splat' : 'i16x8.splat', readInteger(e, 1));
    e.write(0, insert(e, e.read(0), spread, e.read(2), size));
  };

const insertWide: Semantics = (e) => {
  if (e.operands[1]?.size === 4) {
    e.write(0, insert(e, e.read(0), e.op('i32x4.splat', readInteger(e, 1)), e.read(2), 4));
    return;
  }
  const value = readInteger(e, 1);
  const target = e.read(0);
  const isHigh = e.and(e.read(2), e.i32(1));
  e.write(
    0,
    e.select(isHigh, e.lane('i64x2.replace_lane', 1, target, value), e.lane('i64x2.replace_lane', 0, target, value)),
  );
};

/** Blend by the bits of an immediate: all ones in the elements whose bit is set. */
function immediateMask<V>(e: Algebra<V>, immediate: V, size: 2 | 4 | 8): V {
  const bits = new Uint8Array(16);
  const view = new DataView(bits.buffer);
  for (let i = 0; i < 16 / size; i++) {
    if (size === 2) view.setUint16(i * 2, 1 << i, true);
    else view.setUint32(i * size, 1 << i, true);
    if (size === 8) view.setUint32(i * 8 + 4, 1 << i, true);
  }
  const shape = size === 2 ? 'i16x8' : 'i32x4';
  const chosen = e.v128(bits);
  return e.op(`${shape}.eq`, e.op('v128.and', e.op(`${shape}.splat`, immediate), chosen), chosen);
}

const blendImmediate =
  (size: 2 | 4 | 8): Semantics =>
  (e) => {
    const b = readAligned(e, 1);
    e.write(0, e.op('v128.bitselect', b, e.read(0), immediateMask(e, e.read(2), size)));
  };

const blendVariable =
  (shape: string, bits: number): Semantics =>
  (e) => {
    const b = readAligned(e, 1);
    const mask = e.op(`${shape}.shr_s`, e.xmm(0), e.i32(bits - 1));
    e.write(0, e.op('v128.bitselect', b, e.read(0), mask));
  };

const ZF = 0x40;
const ARITHMETIC_FLAGS = 0x8d5;

const ptest: Semantics = (e) => {
  const b = readAligned(e, 1);
  const a = e.read(0);
  const isDisjoint = e.eqz(e.op('v128.any_true', e.op('v128.and', a, b)));
  const isCovered = e.eqz(e.op('v128.any_true', e.op('v128.andnot', b, a)));
  e.flagsChange(ARITHMETIC_FLAGS, e.or(e.mul(isDisjoint, e.i32(ZF)), isCovered));
};

const WIDENING_STEPS: Readonly<Record<string, readonly string[]>> = {
  bw: ['i16x8.extend_low_i8x16'],
  bd: ['i16x8.extend_low_i8x16', 'i32x4.extend_low_i16x8'],
  bq: ['i16x8.extend_low_i8x16', 'i32x4.extend_low_i16x8', 'i64x2.extend_low_i32x4'],
  wd: ['i32x4.extend_low_i16x8'],
  wq: ['i32x4.extend_low_i16x8', 'i64x2.extend_low_i32x4'],
  dq: ['i64x2.extend_low_i32x4'],
};

const widenings = Object.entries(WIDENING_STEPS).flatMap(([name, steps]) =>
  (['s', 'u'] as const).map((signs): [string, Semantics] => [
    `pmov${signs === 's' ? 'sx' : 'zx'}${name}`,
    (e) => {
      let value = readNarrow(e);
      for (const step of steps) value = e.op(`${step}_${signs}`, value);
      e.write(0, value);
    },
  ]),
);

/** An XMM register, or 2, 4 or 8 bytes of memory. */
function readNarrow<V>(e: Algebra<V>): V {
  const operand = e.operands[1];
  if (operand?.kind !== 'memory' || operand.size !== 2) return e.read(1);
  return e.op('i32x4.splat', e.load('u16', e.address(1)));
}

/** PHMINPOSUW: the least word and its position. */
const horizontalMinimum: Semantics = (e) => {
  const words = readAligned(e, 1);
  let least = e.lane('i16x8.extract_lane_u', 0, words);
  let position = e.i32(0);
  for (let i = 1; i < 8; i++) {
    const word = e.lane('i16x8.extract_lane_u', i, words);
    const isLess = e.ltU(word, least);
    least = e.select(isLess, word, least);
    position = e.select(isLess, e.i32(i), position);
  }
  e.write(0, widened(e, e.extendU(e.or(least, e.shl(position, e.i32(16))))));
};

/** MPSADBW: eight sums of absolute differences of four neighbouring bytes. */
const multipleSums: Semantics = (e) => {
  const b = readAligned(e, 1);
  const a = e.read(0);
  const immediate = e.read(2);
  const base = e.and(immediate, e.i32(4));
  const window = e.op('i8x16.swizzle', a, e.op('i8x16.add', bytes(e, IOTA), e.op('i8x16.splat', base)));
  const block = e.mul(e.and(immediate, e.i32(3)), e.i32(4));
  let sum = zero128(e);
  for (let i = 0; i < 4; i++) {
    const left = e.op(
      'i16x8.extend_low_i8x16_u',
      e.shuffle(
        window,
        window,
        IOTA.map((n) => (n + i) & 15),
      ),
    );
    const index = e.op('i8x16.splat', e.add(block, e.i32(i)));
    const right = e.op('i16x8.extend_low_i8x16_u', e.op('i8x16.swizzle', b, index));
    sum = e.op('i16x8.add', sum, e.op('i16x8.abs', e.op('i16x8.sub', left, right)));
  }
  e.write(0, sum);
};

export const xmmIntegerSemantics: Readonly<Record<string, Semantics>> = {
  ...Object.fromEntries(laneSemantics),
  ...Object.fromEntries(widenings),
  'xmm.phminposuw': horizontalMinimum,
  'xmm.psrldq': shiftBytes('right'),
  'xmm.pslldq': shiftBytes('left'),
  pshufd: (e) => {
    const source = readAligned(e, 1);
    e.write(0, e.op('i8x16.swizzle', source, shuffleControl(e, e.read(2), 4)));
  },
  pshuflw: shuffleWords('low'),
  pshufhw: shuffleWords('high'),
  palignr: (e) => {
    const b = readAligned(e, 1);
    e.write(0, alignRight(e, e.read(0), b, e.read(2)));
  },
  pextrb: extractTo(1),
  pextrw: extractTo(2),
  pextrwstore: extractTo(2),
  pextrd: extractWide,
  pinsrb: insertNarrow(1),
  pinsrw: insertNarrow(2),
  pinsrd: insertWide,
  pblendw: blendImmediate(2),
  blendps: blendImmediate(4),
  blendpd: blendImmediate(8),
  pblendvb: blendVariable('i8x16', 8),
  blendvps: blendVariable('i32x4', 32),
  blendvpd: blendVariable('i64x2', 64),
  ptest,
  pmovmskb: (e) => {
    e.write(0, e.op('i8x16.bitmask', e.read(1)));
  },
  movmskps: (e) => {
    e.write(0, e.op('i32x4.bitmask', e.read(1)));
  },
  movmskpd: (e) => {
    e.write(0, e.op('i64x2.bitmask', e.read(1)));
  },
  mpsadbw: multipleSums,
};
