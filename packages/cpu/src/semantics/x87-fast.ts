/**
 * The common case of x87 arithmetic as integer arithmetic on 64-bit significands, generated in place: registers in use,
 * control word as FNINIT leaves it (all exceptions masked, 64 bits, to nearest), operands normal or zero, result normal
 * or zero. Each function gives an i32: 1 when it has done the whole instruction, 0 when nothing was changed and the
 * helper (helpers/x87-instructions.ts) must do it. A test holds both to the same answers.
 */
import type { Algebra, MemoryType } from './algebra.ts';

/** Significand as i64; sign and biased exponent as i32. */
interface Extended<V> {
  readonly significand: V;
  readonly exponent: V;
}

const CONTROL_MASK = 0x0f3f;
const CONTROL_DEFAULT = 0x033f;
const CONTROL_TRUNCATE = 0x0f3f;
const STATUS_PENDING = 0x80;
const STATUS_TOP = 0x3800;
const STATUS_C1 = 0x200;
const STATUS_CONDITIONS = 0x4500;
const SIGN = 0x8000;
const EXPONENT_MASK = 0x7fff;
const BIAS = 16383;
const INTEGER_BIT = 1n << 63n;

const has = <V>(e: Algebra<V>, value: V, mask: number): V => e.ne(e.and(value, e.i32(mask)), e.i32(0));
const all = <V>(e: Algebra<V>, first: V, ...rest: V[]): V => rest.reduce((a, b) => e.and(a, b), first);

/** Number of ST(i); `i` i32. */
function physical<V>(e: Algebra<V>, i: V): V {
  return e.and(e.add(e.shrU(e.field('fsw'), e.i32(11)), i), e.i32(7));
}

function inUse<V>(e: Algebra<V>, register: V): V {
  return e.and(e.shrU(e.field('ftw'), register), e.i32(1));
}

/** No exception waits, and the control word is FNINIT's. */
function isDefault<V>(e: Algebra<V>): V {
  return e.eq(e.and(e.field('fcw'), e.i32(CONTROL_MASK)), e.i32(CONTROL_DEFAULT));
}

function isQuiet<V>(e: Algebra<V>): V {
  return e.eqz(e.and(e.field('fsw'), e.i32(STATUS_PENDING)));
}

function readRegister<V>(e: Algebra<V>, register: V): Extended<V> {
  return { significand: e.fprSignificand(register), exponent: e.fprExponent(register) };
}

const exponentOf = <V>(e: Algebra<V>, x: Extended<V>): V => e.and(x.exponent, e.i32(EXPONENT_MASK));
const signOf = <V>(e: Algebra<V>, x: Extended<V>): V => e.and(x.exponent, e.i32(SIGN));

function isNormal<V>(e: Algebra<V>, x: Extended<V>): V {
  const inRange = e.ltU(e.sub(exponentOf(e, x), e.i32(1)), e.i32(EXPONENT_MASK - 1));
  return e.and(inRange, e.ltS(x.significand, e.i64(0)));
}

function isZero<V>(e: Algebra<V>, x: Extended<V>): V {
  return e.and(e.eqz(x.significand), e.eqz(exponentOf(e, x)));
}

/** Status word with C1 and the precision flag of a rounding; `inexact`, `up` i32. */
function noteRounding<V>(e: Algebra<V>, inexact: V, up: V): void {
  const kept = e.and(e.field('fsw'), e.i32(~STATUS_C1));
  e.setField('fsw', e.or(kept, e.or(e.shl(inexact, e.i32(5)), e.shl(up, e.i32(9)))));
}

function clearC1<V>(e: Algebra<V>): void {
  e.setField('fsw', e.and(e.field('fsw'), e.i32(~STATUS_C1)));
}

function moveTop<V>(e: Algebra<V>, by: number): void {
  const status = e.field('fsw');
  const top = e.and(e.add(status, e.i32(by << 11)), e.i32(STATUS_TOP));
  e.setField('fsw', e.or(e.and(status, e.i32(~STATUS_TOP)), top));
}

function pop<V>(e: Algebra<V>): void {
  const bit = e.shl(e.i32(1), physical(e, e.i32(0)));
  e.setField('ftw', e.and(e.field('ftw'), e.not(bit)));
  moveTop(e, 1);
}

/** Makes room and writes the new ST(0); the register must not be in use. */
function push<V>(e: Algebra<V>, value: Extended<V>): void {
  clearC1(e);
  moveTop(e, -1);
  const register = physical(e, e.i32(0));
  e.setField('ftw', e.or(e.field('ftw'), e.shl(e.i32(1), register)));
  e.setFpr(register, value.significand, value.exponent);
}

function hasRoom<V>(e: Algebra<V>): V {
  return e.eqz(inUse(e, physical(e, e.i32(-1))));
}

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
function arithmetic<V>(e: Algebra<V>, a: Extended<V>, b: Extended<V>, register: V, pops: boolean): V {
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

// Memory operands -----------------------------------------------------------------------------------------------------

interface Loaded<V> {
  readonly value: Extended<V>;
  /** The operand is normal or zero. */
  readonly isGood: V;
}

type MemoryKind = 'm32' | 'm64' | 'i16' | 'i32' | 'i64';
const MEMORY_TYPE: Readonly<Record<MemoryKind, MemoryType>> = { m32: 'u32', m64: 'u64', i16: 's16', i32: 'u32', i64: 'u64' }; // prettier-ignore

function fromFloat<V>(e: Algebra<V>, bits: V, isDouble: boolean): Loaded<V> {
  const wide = isDouble ? bits : e.extendU(bits);
  const [fractionBits, exponentMask, bias] = isDouble ? [52, 0x7ff, 1023] : [23, 0xff, 127];
  const sign = e.and(e.wrap(e.shrU(wide, e.i64(isDouble ? 48 : 16))), e.i32(SIGN));
  const exponent = e.and(e.wrap(e.shrU(wide, e.i64(fractionBits))), e.i32(exponentMask));
  const isNumber = e.ltU(e.sub(exponent, e.i32(1)), e.i32(exponentMask - 1));
  const fraction = e.shl(wide, e.i64(63 - fractionBits));
  const significand = e.select(isNumber, e.or(fraction, e.i64(INTEGER_BIT)), e.i64(0));
  const biased = e.select(isNumber, e.add(exponent, e.i32(BIAS - bias)), e.i32(0));
  const magnitude = isDouble ? e.shl(wide, e.i64(1)) : e.shl(wide, e.i64(33));
  return { value: { significand, exponent: e.or(biased, sign) }, isGood: e.or(isNumber, e.eqz(magnitude)) };
}

function fromInteger<V>(e: Algebra<V>, integer: V): Loaded<V> {
  const negative = e.shrS(integer, e.i64(63));
  const magnitude = e.sub(e.xor(integer, negative), negative);
  const zeros = e.clz(magnitude);
  const biased = e.sub(e.i32(BIAS + 63), e.wrap(zeros));
  const sign = e.and(e.wrap(negative), e.i32(SIGN));
  const isZeroInteger = e.eqz(integer);
  const exponent = e.select(isZeroInteger, e.i32(0), e.or(biased, sign));
  return { value: { significand: e.shl(magnitude, zeros), exponent }, isGood: e.i32(1) };
}

function loadMemory<V>(e: Algebra<V>, kind: MemoryKind): Loaded<V> {
  const bits = e.load(MEMORY_TYPE[kind], e.address(0));
  if (kind === 'm32' || kind === 'm64') return fromFloat(e, bits, kind === 'm64');
  return fromInteger(e, kind === 'i64' ? bits : e.extendS(bits));
}

/** `then` where the condition holds, else 0. */
function guarded<V>(e: Algebra<V>, condition: V, then: () => V): V {
  return e.choose('i32', condition, then, () => e.i32(0));
}

// Instructions --------------------------------------------------------------------------------------------------------

export type Fast = <V>(e: Algebra<V>) => V;

const arithmeticMemory =
  (kind: 'm32' | 'm64' | 'i16' | 'i32'): Fast =>
  (e) =>
    guarded(e, isDefault(e), () => {
      const loaded = loadMemory(e, kind);
      const register = physical(e, e.i32(0));
      const top = readRegister(e, register);
      const isGood = all(e, loaded.isGood, inUse(e, register), isNormal(e, top), isNormal(e, loaded.value));
      return guarded(e, isGood, () => arithmetic(e, top, loaded.value, register, false));
    });

const arithmeticRegister =
  (target: 'st0' | 'sti', pops: boolean): Fast =>
  (e) =>
    guarded(e, isDefault(e), () => {
      const other = physical(e, e.or(e.read(0), e.read(1)));
      const top = physical(e, e.i32(0));
      const [a, b] = [readRegister(e, top), readRegister(e, other)];
      const isGood = all(e, inUse(e, top), inUse(e, other), isNormal(e, a), isNormal(e, b));
      return guarded(e, isGood, () =>
        target === 'st0' ? arithmetic(e, a, b, top, pops) : arithmetic(e, b, a, other, pops),
      );
    });

const loadFast =
  (kind: MemoryKind): Fast =>
  (e) =>
    guarded(e, isQuiet(e), () => {
      const loaded = loadMemory(e, kind);
      return guarded(e, e.and(loaded.isGood, hasRoom(e)), () => {
        push(e, loaded.value);
        return e.i32(1);
      });
    });

const PAGE_MASK = 0xfff;
/** Last offset in a page at which ten bytes fit. */
const LAST_TEN_BYTES = 4096 - 10;

function isInPage<V>(e: Algebra<V>, address: V): V {
  return e.ltU(e.and(e.wrap(address), e.i32(PAGE_MASK)), e.i32(LAST_TEN_BYTES + 1));
}

const loadExtended: Fast = (e) =>
  guarded(e, e.and(isQuiet(e), hasRoom(e)), () => {
    const address = e.address(0);
    const significand = e.load('u64', address);
    push(e, { significand, exponent: e.load('u16', e.add(address, e.i64(8))) });
    return e.i32(1);
  });

const storeExtended: Fast = (e) => {
  const register = physical(e, e.i32(0));
  const address = e.address(0);
  return guarded(e, all(e, isQuiet(e), inUse(e, register), isInPage(e, address)), () => {
    e.store('u64', address, e.fprSignificand(register));
    e.store('u16', e.add(address, e.i64(8)), e.fprExponent(register));
    clearC1(e);
    pop(e);
    return e.i32(1);
  });
};

/** FST(P) m32 and m64. */
const storeFloat =
  (kind: 'm32' | 'm64'): Fast =>
  (e) =>
    guarded(e, isDefault(e), () => {
      const isDouble = kind === 'm64';
      const [dropped, bias, maximum] = isDouble ? [11, 1023, 0x7fe] : [40, 127, 0xfe];
      const register = physical(e, e.i32(0));
      const value = readRegister(e, register);
      const sign = e.shl(e.extendU(signOf(e, value)), e.i64(48));
      const exponent = e.sub(exponentOf(e, value), e.i32(BIAS - bias));
      const inRange = e.ltU(e.sub(exponent, e.i32(2)), e.i32(maximum - 2));
      const isZeroValue = isZero(e, value);
      const isGood = e.or(e.and(isNormal(e, value), inRange), isZeroValue);
      return guarded(e, e.and(inUse(e, register), isGood), () => {
        const kept = e.shrU(value.significand, e.i64(dropped));
        const rest = e.shl(value.significand, e.i64(64 - dropped));
        const up = e.and(
          e.ltS(rest, e.i64(0)),
          e.or(e.ne(e.shl(rest, e.i64(1)), e.i64(0)), e.wrap(e.and(kept, e.i64(1)))),
        );
        // The integer bit of `kept` adds one to the exponent field.
        const field = e.shl(e.extendS(e.sub(exponent, e.i32(1))), e.i64(63 - dropped));
        const sum = e.add(e.add(field, kept), e.extendU(up));
        const magnitude = e.select(isZeroValue, e.i64(0), sum);
        const bits = isDouble ? e.or(magnitude, sign) : e.or(magnitude, e.shrU(sign, e.i64(32)));
        e.store(isDouble ? 'u64' : 'u32', e.address(0), isDouble ? bits : e.wrap(bits));
        noteRounding(e, e.ne(rest, e.i64(0)), up);
        if (e.variant !== 0) pop(e);
        return e.i32(1);
      });
    });

/** FIST(P) with rounding to nearest or to zero, FISTTP; the least integer is left to the helper. */
const storeInteger =
  (kind: 'i16' | 'i32' | 'i64', truncates: boolean): Fast =>
  (e) => {
    const control = e.and(e.field('fcw'), e.i32(CONTROL_MASK));
    const isTruncating = truncates ? e.i32(1) : e.eq(control, e.i32(CONTROL_TRUNCATE));
    const isKnown = e.or(e.eq(control, e.i32(CONTROL_DEFAULT)), e.eq(control, e.i32(CONTROL_TRUNCATE)));
    return guarded(e, isKnown, () => {
      const register = physical(e, e.i32(0));
      const value = readRegister(e, register);
      const exponent = e.sub(exponentOf(e, value), e.i32(BIAS));
      const isZeroValue = isZero(e, value);
      const inRange = e.ltU(exponent, e.i32({ i16: 15, i32: 31, i64: 63 }[kind]));
      const isGood = e.or(e.and(isNormal(e, value), inRange), isZeroValue);
      return guarded(e, e.and(inUse(e, register), isGood), () => {
        const shift = e.extendS(e.sub(e.i32(63), exponent));
        const whole = e.shrU(value.significand, shift);
        const rest = e.select(isZeroValue, e.i64(0), e.shl(value.significand, e.sub(e.i64(0), shift)));
        const isOdd = e.wrap(e.and(whole, e.i64(1)));
        const beyond = e.ne(e.shl(rest, e.i64(1)), e.i64(0));
        const nearest = e.and(e.ltS(rest, e.i64(0)), e.or(beyond, isOdd));
        const up = e.select(isTruncating, e.i32(0), nearest);
        const magnitude = e.select(isZeroValue, e.i64(0), e.add(whole, e.extendU(up)));
        const fits = e.eqz(e.shrU(magnitude, e.i64({ i16: 15, i32: 31, i64: 63 }[kind])));
        return guarded(e, fits, () => {
          const negative = e.sub(e.i64(0), e.extendU(has(e, value.exponent, SIGN)));
          const integer = e.sub(e.xor(magnitude, negative), negative);
          const type = ({ i16: 'u16', i32: 'u32', i64: 'u64' } as const)[kind];
          e.store(type, e.address(0), kind === 'i64' ? integer : e.wrap(integer));
          noteRounding(e, e.ne(rest, e.i64(0)), up);
          if (truncates || e.variant !== 0) pop(e);
          return e.i32(1);
        });
      });
    });
  };

/** FST(P) STi. */
const storeRegister: Fast = (e) => {
  const top = physical(e, e.i32(0));
  return guarded(e, e.and(isQuiet(e), inUse(e, top)), () => {
    const target = physical(e, e.read(0));
    e.setFpr(target, e.fprSignificand(top), e.fprExponent(top));
    e.setField('ftw', e.or(e.field('ftw'), e.shl(e.i32(1), target)));
    clearC1(e);
    if (e.variant !== 0) pop(e);
    return e.i32(1);
  });
};

const loadRegister: Fast = (e) => {
  const source = physical(e, e.read(0));
  return guarded(e, all(e, isQuiet(e), inUse(e, source), hasRoom(e)), () => {
    push(e, readRegister(e, source));
    return e.i32(1);
  });
};

const exchange: Fast = (e) => {
  const top = physical(e, e.i32(0));
  const other = physical(e, e.read(0));
  return guarded(e, all(e, isQuiet(e), inUse(e, top), inUse(e, other)), () => {
    const [a, b] = [readRegister(e, top), readRegister(e, other)];
    e.setFpr(top, b.significand, b.exponent);
    e.setFpr(other, a.significand, a.exponent);
    clearC1(e);
    return e.i32(1);
  });
};

const changeSign =
  (change: 'flip' | 'clear'): Fast =>
  (e) => {
    const top = physical(e, e.i32(0));
    return guarded(e, e.and(isQuiet(e), inUse(e, top)), () => {
      const exponent = e.fprExponent(top);
      const changed = change === 'flip' ? e.xor(exponent, e.i32(SIGN)) : e.and(exponent, e.i32(EXPONENT_MASK));
      e.setFpr(top, e.fprSignificand(top), changed);
      clearC1(e);
      return e.i32(1);
    });
  };

/** FLD1 and FLDZ; the others depend on the rounding. */
const loadConstant: Fast = (e) => {
  if (e.variant !== 0 && e.variant !== 6) return e.i32(0);
  return guarded(e, e.and(isQuiet(e), hasRoom(e)), () => {
    const isOne = e.variant === 0;
    push(e, { significand: e.i64(isOne ? INTEGER_BIT : 0n), exponent: e.i32(isOne ? BIAS : 0) });
    return e.i32(1);
  });
};

/** Order of two numbers that are normal or zero: flags as FCOMI sets them (ZF 0x40, CF 1). */
function orderFlags<V>(e: Algebra<V>, a: Extended<V>, b: Extended<V>): V {
  const [ea, eb] = [exponentOf(e, a), exponentOf(e, b)];
  const [na, nb] = [has(e, a.exponent, SIGN), has(e, b.exponent, SIGN)];
  const sameExponent = e.eq(ea, eb);
  const isLess = e.or(e.ltU(ea, eb), e.and(sameExponent, e.ltU(a.significand, b.significand)));
  const isSame = e.and(sameExponent, e.eq(a.significand, b.significand));
  const bothZero = e.and(isSame, e.eqz(a.significand));
  const isEqual = e.or(bothZero, e.and(isSame, e.eq(na, nb)));
  const isGreater = e.eqz(e.or(isLess, isSame));
  const below = e.select(e.ne(na, nb), na, e.select(na, isGreater, isLess));
  return e.or(e.shl(isEqual, e.i32(6)), e.and(below, e.eqz(isEqual)));
}

function isComparable<V>(e: Algebra<V>, x: Extended<V>): V {
  return e.or(isNormal(e, x), isZero(e, x));
}

/** -1 where the helper must decide, else the flags of FCOMI and its kin; pops by bit 1 of the variant. */
export const compareFlagsFast: Fast = (e) => {
  const top = physical(e, e.i32(0));
  const other = physical(e, e.or(e.read(0), e.read(1)));
  const [a, b] = [readRegister(e, top), readRegister(e, other)];
  const isGood = all(e, isQuiet(e), inUse(e, top), inUse(e, other), isComparable(e, a), isComparable(e, b));
  return e.choose(
    'i32',
    isGood,
    () => {
      const flags = orderFlags(e, a, b);
      if ((e.variant & 2) !== 0) pop(e);
      return flags;
    },
    () => e.i32(-1),
  );
};

/** C3 and C0 of a comparison; C2 and C1 cleared. */
function noteOrder<V>(e: Algebra<V>, flags: V): void {
  const kept = e.and(e.field('fsw'), e.i32(~(STATUS_CONDITIONS | STATUS_C1)));
  e.setField('fsw', e.or(kept, e.shl(flags, e.i32(8))));
}

const compareRegister =
  (pops: (variant: number) => number): Fast =>
  (e) => {
    const top = physical(e, e.i32(0));
    const other = e.operands.length === 0 ? physical(e, e.i32(1)) : physical(e, e.read(0));
    const [a, b] = [readRegister(e, top), readRegister(e, other)];
    const isGood = all(e, isQuiet(e), inUse(e, top), inUse(e, other), isComparable(e, a), isComparable(e, b));
    return guarded(e, isGood, () => {
      noteOrder(e, orderFlags(e, a, b));
      for (let n = 0; n < pops(e.variant); n++) pop(e);
      return e.i32(1);
    });
  };

const compareMemory =
  (kind: 'm32' | 'm64' | 'i16' | 'i32'): Fast =>
  (e) =>
    guarded(e, isQuiet(e), () => {
      const loaded = loadMemory(e, kind);
      const top = physical(e, e.i32(0));
      const a = readRegister(e, top);
      return guarded(e, all(e, loaded.isGood, inUse(e, top), isComparable(e, a)), () => {
        noteOrder(e, orderFlags(e, a, loaded.value));
        if (e.variant !== 0) pop(e);
        return e.i32(1);
      });
    });

const loadControl: Fast = (e) =>
  guarded(e, isQuiet(e), () => {
    const control = e.or(e.and(e.load('u16', e.address(0)), e.i32(0x1f3f)), e.i32(0x40));
    const pending = e.and(e.and(e.field('fsw'), e.not(control)), e.i32(0x3f));
    return guarded(e, e.eqz(pending), () => {
      e.setField('fcw', control);
      return e.i32(1);
    });
  });

export const X87_FAST: Readonly<Record<string, Fast>> = {
  'x87.arithmetic.m32': arithmeticMemory('m32'),
  'x87.arithmetic.m64': arithmeticMemory('m64'),
  'x87.arithmetic.i16': arithmeticMemory('i16'),
  'x87.arithmetic.i32': arithmeticMemory('i32'),
  'x87.arithmetic.st0': arithmeticRegister('st0', false),
  'x87.arithmetic.sti': arithmeticRegister('sti', false),
  'x87.arithmetic.pop': arithmeticRegister('sti', true),
  'x87.load.m32': loadFast('m32'),
  'x87.load.m64': loadFast('m64'),
  'x87.load.i16': loadFast('i16'),
  'x87.load.i32': loadFast('i32'),
  'x87.load.i64': loadFast('i64'),
  'x87.load.m80': loadExtended,
  'x87.load.sti': loadRegister,
  'x87.store.m32': storeFloat('m32'),
  'x87.store.m64': storeFloat('m64'),
  'x87.store.m80': storeExtended,
  'x87.store.sti': storeRegister,
  'x87.integer.i16': storeInteger('i16', false),
  'x87.integer.i32': storeInteger('i32', false),
  'x87.integer.i64': storeInteger('i64', false),
  'x87.truncate.i16': storeInteger('i16', true),
  'x87.truncate.i32': storeInteger('i32', true),
  'x87.truncate.i64': storeInteger('i64', true),
  'x87.exchange': exchange,
  'x87.fchs': changeSign('flip'),
  'x87.fabs': changeSign('clear'),
  'x87.constant': loadConstant,
  'x87.compare.m32': compareMemory('m32'),
  'x87.compare.m64': compareMemory('m64'),
  'x87.compare.i16': compareMemory('i16'),
  'x87.compare.i32': compareMemory('i32'),
  'x87.compare.sti': compareRegister((variant) => variant),
  'x87.compareunordered': compareRegister((variant) => variant),
  'x87.comparepop': compareRegister(() => 2),
  'x87.fldcw': loadControl,
};
