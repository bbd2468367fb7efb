/**
 * The common case of x87 arithmetic as integer arithmetic on 64-bit significands, generated in place: registers in use,
 * control word as FNINIT leaves it (all exceptions masked, 64 bits, to nearest), operands normal or zero, result normal
 * or zero. Each function gives an i32: 1 when it has done the whole instruction, 0 when nothing was changed and the
 * helper (helpers/x87-instructions.ts) must do it. A test holds both to the same answers.
 */
import type { Algebra } from './algebra.ts';
import { arithmetic } from './x87-arithmetic.ts';
import { loadMemory } from './x87-memory.ts';
import type { MemoryKind } from './x87-memory.ts';
import {
  CONTROL_MASK,
  CONTROL_DEFAULT,
  CONTROL_TRUNCATE,
  STATUS_C1,
  STATUS_CONDITIONS,
  SIGN,
  EXPONENT_MASK,
  BIAS,
  INTEGER_BIT,
  has,
  all,
  physical,
  inUse,
  isDefault,
  isQuiet,
  readRegister,
  exponentOf,
  signOf,
  isNormal,
  isZero,
  noteRounding,
  clearC1,
  pop,
  push,
  hasRoom,
  guarded,
} from './x87-registers.ts';
import type { Extended } from './x87-registers.ts';

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
