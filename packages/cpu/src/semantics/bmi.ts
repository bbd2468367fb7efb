/** BMI1 and BMI2. Intel SDM vol. 2. */
import type { Algebra, Semantics, Width } from './algebra.ts';

const CF = 0x001;

/** Flags by the result; OF and AF clear. */
function flags<V>(e: Algebra<V>, result: V, carry: V): void {
  e.flagsResult(e.size, result, e.mul(carry, e.i32(CF)));
}

const bitsOf = (size: Width): number => 8 * size;

/** An operation on operand 1 that gives a result and CF. */
const lowestBit =
  (compute: <V>(e: Algebra<V>, source: V) => V, carryWhenZero: boolean): Semantics =>
  (e) => {
    const source = e.read(1);
    const result = compute(e, source);
    const isZero = e.eqz(source);
    e.write(0, result);
    flags(e, result, carryWhenZero ? isZero : e.eqz(isZero));
  };

const minusOne = <V>(e: Algebra<V>, source: V): V => e.sub(source, e.constant(e.size, 1));

/** Low `length` bits set, all for a length beyond the width. `length` is an i32. */
function lowMask<V>(e: Algebra<V>, length: V): V {
  const wide = e.size === 8 ? e.extendU(length) : length;
  const mask = minusOne(e, e.shl(e.constant(e.size, 1), wide));
  return e.select(e.ltU(length, e.i32(bitsOf(e.size))), mask, e.constant(e.size, -1));
}

/** An operand's low half as i32. */
const low32 = <V>(e: Algebra<V>, value: V): V => (e.size === 8 ? e.wrap(value) : value);

const bextr: Semantics = (e) => {
  const source = e.read(1);
  const control = low32(e, e.read(2));
  const start = e.and(control, e.i32(0xff));
  const length = e.and(e.shrU(control, e.i32(8)), e.i32(0xff));
  const moved = e.shrU(source, e.size === 8 ? e.extendU(start) : start);
  const inRange = e.ltU(start, e.i32(bitsOf(e.size)));
  const result = e.and(e.select(inRange, moved, e.constant(e.size, 0)), lowMask(e, length));
  e.write(0, result);
  flags(e, result, e.i32(0));
};

const bzhi: Semantics = (e) => {
  const source = e.read(1);
  const length = e.and(low32(e, e.read(2)), e.i32(0xff));
  const result = e.and(source, lowMask(e, length));
  const isBeyond = e.eqz(e.ltU(length, e.i32(bitsOf(e.size))));
  e.write(0, result);
  flags(e, result, isBeyond);
};

/**
 * What moves where, for PEXT and PDEP: for each step of 1, 2, 4... places the bits that take it. Warren, Hacker's Delight
 * 7-4 ("compress").
 */
function moves<V>(e: Algebra<V>, mask: V): V[] {
  let left = mask;
  let zeros = e.shl(e.not(mask), e.constant(e.size, 1));
  const steps: V[] = [];
  for (let step = 1; step < bitsOf(e.size); step *= 2) {
    // Parity of the zeros to the right of each bit.
    let parity = zeros;
    for (let n = 1; n < bitsOf(e.size); n *= 2) parity = e.xor(parity, e.shl(parity, e.constant(e.size, n)));
    const moving = e.and(parity, left);
    steps.push(moving);
    left = e.or(e.xor(left, moving), e.shrU(moving, e.constant(e.size, step)));
    zeros = e.and(zeros, e.not(parity));
  }
  return steps;
}

const pext: Semantics = (e) => {
  const mask = e.read(2);
  let value = e.and(e.read(1), mask);
  moves(e, mask).forEach((moving, n) => {
    const taken = e.and(value, moving);
    value = e.or(e.xor(value, taken), e.shrU(taken, e.constant(e.size, 1 << n)));
  });
  e.write(0, value);
};

const pdep: Semantics = (e) => {
  const mask = e.read(2);
  let value = e.read(1);
  for (const [n, moving] of [...moves(e, mask).entries()].reverse()) {
    const shifted = e.shl(value, e.constant(e.size, 1 << n));
    value = e.or(e.and(value, e.not(moving)), e.and(shifted, moving));
  }
  e.write(0, e.and(value, mask));
};

const mulx: Semantics = (e) => {
  const b = e.read(2);
  const a = e.gpr(2, e.size);
  if (e.size === 8) {
    const high = e.mulHighU(a, b);
    e.write(1, e.mul(a, b));
    e.write(0, high);
    return;
  }
  const product = e.mul(e.extendU(a), e.extendU(b));
  e.write(1, e.wrap(product));
  e.write(0, e.wrap(e.shrU(product, e.i64(32))));
};

const shift =
  (compute: <V>(e: Algebra<V>, a: V, count: V) => V): Semantics =>
  (e) => {
    const count = e.read(2);
    e.write(0, compute(e, e.read(1), count));
  };

export const bmiSemantics: Readonly<Record<string, Semantics>> = {
  andn: (e) => {
    const result = e.and(e.not(e.read(1)), e.read(2));
    e.write(0, result);
    flags(e, result, e.i32(0));
  },
  blsr: lowestBit((e, source) => e.and(source, minusOne(e, source)), true),
  blsmsk: lowestBit((e, source) => e.xor(source, minusOne(e, source)), true),
  blsi: lowestBit((e, source) => e.and(source, e.sub(e.constant(e.size, 0), source)), false),
  bextr,
  bzhi,
  pext,
  pdep,
  mulx,
  shlx: shift((e, a, count) => e.shl(a, count)),
  shrx: shift((e, a, count) => e.shrU(a, count)),
  sarx: shift((e, a, count) => e.shrS(a, count)),
  rorx: (e) => {
    const source = e.read(1);
    const count = e.read(2);
    e.write(0, e.rotr(source, e.size === 8 ? e.extendU(count) : count));
  },
};
