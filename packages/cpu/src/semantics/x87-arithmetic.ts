/**
 * Sum, product and quotient of two normal 80-bit numbers on 64-bit significands, rounded to nearest even with 64 bits of
 * precision. Each gives an i32: 1 when the register is written, 0 when nothing was changed (the exponent leaves the
 * safe range, or a difference cancels below 64 bits).
 */
import type { Algebra } from './algebra.ts';
import {
  SIGN,
  EXPONENT_MASK,
  BIAS,
  INTEGER_BIT,
  exponentOf,
  signOf,
  noteRounding,
  clearC1,
  pop,
} from './x87-registers.ts';
import type { Extended } from './x87-registers.ts';

/** What is rounded to nearest: `high` has its top bit set, `low` are the 64 bits below it. */
interface Unrounded<V> {
  readonly sign: V;
  readonly exponent: V;
  readonly high: V;
  readonly low: V;
}

/** Rounds and writes `register` unless the exponent leaves the safe range. */
function finish<V>(e: Algebra<V>, register: V, value: Unrounded<V>, pops: boolean): V {
  const isHalf = e.ltS(value.low, e.i64(0));
  const beyond = e.ne(e.shl(value.low, e.i64(1)), e.i64(0));
  const isOdd = e.wrap(e.and(value.high, e.i64(1)));
  const up = e.and(isHalf, e.or(beyond, isOdd));
  const rounded = e.add(value.high, e.extendU(up));
  const carry = e.eqz(rounded);
  const significand = e.or(rounded, e.shl(e.extendU(carry), e.i64(63)));
  const exponent = e.add(value.exponent, carry);
  const isSafe = e.ltU(e.sub(exponent, e.i32(2)), e.i32(EXPONENT_MASK - 2));
  return e.choose(
    'i32',
    isSafe,
    () => {
      e.setFpr(register, significand, e.or(exponent, value.sign));
      noteRounding(e, e.ne(value.low, e.i64(0)), up);
      if (pops) pop(e);
      return e.i32(1);
    },
    () => e.i32(0),
  );
}

/** Sum of two normal numbers, `negates` flipping the sign of the second. */
function addNormal<V>(e: Algebra<V>, a: Extended<V>, b: Extended<V>, negates: boolean, register: V, pops: boolean): V {
  const signB = negates ? e.xor(signOf(e, b), e.i32(SIGN)) : signOf(e, b);
  const signA = signOf(e, a);
  const [ea, eb] = [exponentOf(e, a), exponentOf(e, b)];
  const isLess = e.or(e.ltU(ea, eb), e.and(e.eq(ea, eb), e.ltU(a.significand, b.significand)));
  const large = e.select(isLess, b.significand, a.significand);
  const small = e.select(isLess, a.significand, b.significand);
  const exponent = e.select(isLess, eb, ea);
  const sign = e.select(isLess, signB, signA);
  const distance = e.sub(exponent, e.select(isLess, ea, eb));
  const shift = e.extendU(distance);
  const isNear = e.ltU(distance, e.i32(64));
  // 128 bits of the smaller one; what falls out below stays as the lowest bit.
  const farShift = e.sub(shift, e.i64(64));
  const lost = e.and(small, e.sub(e.shl(e.i64(1), farShift), e.i64(1)));
  const far = e.or(e.shrU(small, farShift), e.extendU(e.ne(lost, e.i64(0))));
  const farLow = e.select(e.ltU(distance, e.i32(128)), far, e.i64(1));
  const nearLow = e.select(e.eqz(distance), e.i64(0), e.shl(small, e.sub(e.i64(0), shift)));
  const smallHigh = e.select(isNear, e.shrU(small, shift), e.i64(0));
  const smallLow = e.select(isNear, nearLow, farLow);
  return e.choose(
    'i32',
    e.eq(signA, signB),
    () => {
      const sum = e.add(large, smallHigh);
      const carry = e.ltU(sum, large);
      const halved = e.or(e.shrU(sum, e.i64(1)), e.i64(INTEGER_BIT));
      const halvedLow = e.or(e.or(e.shl(sum, e.i64(63)), e.shrU(smallLow, e.i64(1))), e.and(smallLow, e.i64(1)));
      const high = e.select(carry, halved, sum);
      const low = e.select(carry, halvedLow, smallLow);
      return finish(e, register, { sign, exponent: e.add(exponent, carry), high, low }, pops);
    },
    () => {
      const low = e.sub(e.i64(0), smallLow);
      const borrow = e.extendU(e.ne(smallLow, e.i64(0)));
      const high = e.sub(e.sub(large, smallHigh), borrow);
      return e.choose(
        'i32',
        e.eqz(high),
        // Complete cancellation is +0; leave the rest to the helper.
        () =>
          e.choose(
            'i32',
            e.eqz(low),
            () => {
              e.setFpr(register, e.i64(0), e.i32(0));
              clearC1(e);
              if (pops) pop(e);
              return e.i32(1);
            },
            () => e.i32(0),
          ),
        () => {
          const zeros = e.clz(high);
          const fromLow = e.select(e.eqz(zeros), e.i64(0), e.shrU(low, e.sub(e.i64(0), zeros)));
          const shifted = e.or(e.shl(high, zeros), fromLow);
          const normalized = e.sub(exponent, e.wrap(zeros));
          return finish(e, register, { sign, exponent: normalized, high: shifted, low: e.shl(low, zeros) }, pops);
        },
      );
    },
  );
}

function multiplyNormal<V>(e: Algebra<V>, a: Extended<V>, b: Extended<V>, register: V, pops: boolean): V {
  const high = e.mulHighU(a.significand, b.significand);
  const low = e.mul(a.significand, b.significand);
  const isTop = e.ltS(high, e.i64(0));
  const doubled = e.or(e.shl(high, e.i64(1)), e.shrU(low, e.i64(63)));
  const sum = e.add(exponentOf(e, a), exponentOf(e, b));
  const exponent = e.add(e.sub(sum, e.i32(BIAS)), isTop);
  const sign = e.xor(signOf(e, a), signOf(e, b));
  return finish(
    e,
    register,
    { sign, exponent, high: e.select(isTop, high, doubled), low: e.select(isTop, low, e.shl(low, e.i64(1))) },
    pops,
  );
}

const LOW_32 = 0xffffffffn;

/** One 32-bit digit of a long division: floor((rest * 2^32 + next) / divisor) and the rest after it (Knuth's D). */
function divideDigit<V>(e: Algebra<V>, rest: V, next: V, divisor: V): { digit: V; rest: V } {
  const top = e.shrU(divisor, e.i64(32));
  const bottom = e.and(divisor, e.i64(LOW_32));
  let digit = e.op('i64.div_u', rest, top);
  let estimate = e.sub(rest, e.mul(digit, top));
  for (let correction = 0; correction < 2; correction++) {
    const isSmall = e.eqz(e.shrU(estimate, e.i64(32)));
    const isLarge = e.ne(e.shrU(digit, e.i64(32)), e.i64(0));
    const exceeds = e.ltU(e.or(e.shl(estimate, e.i64(32)), next), e.mul(digit, bottom));
    const corrects = e.extendU(e.and(isSmall, e.or(isLarge, exceeds)));
    digit = e.sub(digit, corrects);
    estimate = e.add(estimate, e.and(top, e.sub(e.i64(0), corrects)));
  }
  return { digit, rest: e.sub(e.add(e.shl(rest, e.i64(32)), next), e.mul(digit, divisor)) };
}

function divideNormal<V>(e: Algebra<V>, a: Extended<V>, b: Extended<V>, register: V, pops: boolean): V {
  const divisor = b.significand;
  const isLess = e.ltU(a.significand, divisor);
  const high = e.select(isLess, a.significand, e.shrU(a.significand, e.i64(1)));
  const low = e.select(isLess, e.i64(0), e.shl(a.significand, e.i64(63)));
  const first = divideDigit(e, high, e.shrU(low, e.i64(32)), divisor);
  const second = divideDigit(e, first.rest, e.and(low, e.i64(LOW_32)), divisor);
  const quotient = e.add(e.shl(first.digit, e.i64(32)), second.digit);
  const { rest } = second;
  // The rest as bits below the quotient: nothing, below a half, a half, above.
  const missing = e.sub(divisor, rest);
  const isHalf = e.eqz(e.ltU(rest, missing));
  const isOff = e.and(e.ne(rest, e.i64(0)), e.ne(rest, missing));
  const below = e.or(e.shl(e.extendU(isHalf), e.i64(63)), e.extendU(isOff));
  const exponent = e.sub(e.add(e.sub(exponentOf(e, a), exponentOf(e, b)), e.i32(BIAS)), isLess);
  const sign = e.xor(signOf(e, a), signOf(e, b));
  return finish(e, register, { sign, exponent, high: quotient, low: below }, pops);
}

/** Numbers of the arithmetic variants: add, multiply, subtract, reversed, divide, reversed. */
export function arithmetic<V>(e: Algebra<V>, a: Extended<V>, b: Extended<V>, register: V, pops: boolean): V {
  switch (e.variant) {
    case 1:
      return multiplyNormal(e, a, b, register, pops);
    case 2:
      return addNormal(e, a, b, true, register, pops);
    case 3:
      return addNormal(e, b, a, true, register, pops);
    case 4:
      return divideNormal(e, a, b, register, pops);
    case 5:
      return divideNormal(e, b, a, register, pops);
    default:
      return addNormal(e, a, b, false, register, pops);
  }
}
