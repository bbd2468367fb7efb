/**
 * x87 registers and status word as the in-place instructions see them (x87-fast.ts): stack, tags, rounding notes, and
 * tests of one value. Significands are i64; sign with biased exponent is an i32.
 */
import type { Algebra } from './algebra.ts';

/** Significand as i64; sign and biased exponent as i32. */
export interface Extended<V> {
  readonly significand: V;
  readonly exponent: V;
}

export const CONTROL_MASK = 0x0f3f;
export const CONTROL_DEFAULT = 0x033f;
export const CONTROL_TRUNCATE = 0x0f3f;
const STATUS_PENDING = 0x80;
const STATUS_TOP = 0x3800;
export const STATUS_C1 = 0x200;
export const STATUS_CONDITIONS = 0x4500;
export const SIGN = 0x8000;
export const EXPONENT_MASK = 0x7fff;
export const BIAS = 16383;
export const INTEGER_BIT = 1n << 63n;

export const has = <V>(e: Algebra<V>, value: V, mask: number): V => e.ne(e.and(value, e.i32(mask)), e.i32(0));
export const all = <V>(e: Algebra<V>, first: V, ...rest: V[]): V => rest.reduce((a, b) => e.and(a, b), first);

/** Number of ST(i); `i` i32. */
export function physical<V>(e: Algebra<V>, i: V): V {
  return e.and(e.add(e.shrU(e.field('fsw'), e.i32(11)), i), e.i32(7));
}

export function inUse<V>(e: Algebra<V>, register: V): V {
  return e.and(e.shrU(e.field('ftw'), register), e.i32(1));
}

/** No exception waits, and the control word is FNINIT's. */
export function isDefault<V>(e: Algebra<V>): V {
  return e.eq(e.and(e.field('fcw'), e.i32(CONTROL_MASK)), e.i32(CONTROL_DEFAULT));
}

export function isQuiet<V>(e: Algebra<V>): V {
  return e.eqz(e.and(e.field('fsw'), e.i32(STATUS_PENDING)));
}

export function readRegister<V>(e: Algebra<V>, register: V): Extended<V> {
  return { significand: e.fprSignificand(register), exponent: e.fprExponent(register) };
}

export const exponentOf = <V>(e: Algebra<V>, x: Extended<V>): V => e.and(x.exponent, e.i32(EXPONENT_MASK));
export const signOf = <V>(e: Algebra<V>, x: Extended<V>): V => e.and(x.exponent, e.i32(SIGN));

export function isNormal<V>(e: Algebra<V>, x: Extended<V>): V {
  const inRange = e.ltU(e.sub(exponentOf(e, x), e.i32(1)), e.i32(EXPONENT_MASK - 1));
  return e.and(inRange, e.ltS(x.significand, e.i64(0)));
}

export function isZero<V>(e: Algebra<V>, x: Extended<V>): V {
  return e.and(e.eqz(x.significand), e.eqz(exponentOf(e, x)));
}

/** Status word with C1 and the precision flag of a rounding; `inexact`, `up` i32. */
export function noteRounding<V>(e: Algebra<V>, inexact: V, up: V): void {
  const kept = e.and(e.field('fsw'), e.i32(~STATUS_C1));
  e.setField('fsw', e.or(kept, e.or(e.shl(inexact, e.i32(5)), e.shl(up, e.i32(9)))));
}

export function clearC1<V>(e: Algebra<V>): void {
  e.setField('fsw', e.and(e.field('fsw'), e.i32(~STATUS_C1)));
}

function moveTop<V>(e: Algebra<V>, by: number): void {
  const status = e.field('fsw');
  const top = e.and(e.add(status, e.i32(by << 11)), e.i32(STATUS_TOP));
  e.setField('fsw', e.or(e.and(status, e.i32(~STATUS_TOP)), top));
}

export function pop<V>(e: Algebra<V>): void {
  const bit = e.shl(e.i32(1), physical(e, e.i32(0)));
  e.setField('ftw', e.and(e.field('ftw'), e.not(bit)));
  moveTop(e, 1);
}

/** Makes room and writes the new ST(0); the register must not be in use. */
export function push<V>(e: Algebra<V>, value: Extended<V>): void {
  clearC1(e);
  moveTop(e, -1);
  const register = physical(e, e.i32(0));
  e.setField('ftw', e.or(e.field('ftw'), e.shl(e.i32(1), register)));
  e.setFpr(register, value.significand, value.exponent);
}

export function hasRoom<V>(e: Algebra<V>): V {
  return e.eqz(inUse(e, physical(e, e.i32(-1))));
}

/** `then` where the condition holds, else 0. */
export function guarded<V>(e: Algebra<V>, condition: V, then: () => V): V {
  return e.choose('i32', condition, then, () => e.i32(0));
}
