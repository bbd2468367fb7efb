/**
 * Semantics of x87 instructions: the common case in place (x87-fast.ts), the rest by helpers (helpers/x87-*.ts). What
 * a helper takes: the linear address of a memory operand or the number of STi, then the row's variant.
 */
import type { Algebra, Semantics } from './algebra.ts';
import { x87InstructionHelpers } from './helpers/x87-instructions.ts';
import { X87_FAST, compareFlagsFast } from './x87-fast.ts';

const ARITHMETIC_FLAGS = 0x8d5;
const CR0_MP_TS = 0x0an;
const STATUS_ERROR_SUMMARY = 0x80;
const DEVICE_NOT_AVAILABLE = 7;
const X87_ERROR = 16;

/** The operand that matters: memory, else the register STi (the one that is not ST0). */
function operand<V>(e: Algebra<V>): V {
  const last = e.operands.length - 1;
  if (e.operands[0]?.kind === 'memory') return e.address(0);
  const first = e.operands[0];
  if (first?.kind !== 'st') return e.i32(0);
  // Of "STi, ST0" and "ST0, STi" one number is zero.
  return last === 0 ? e.read(0) : e.or(e.read(0), e.read(1));
}

/** The fast form in place where there is one, else (or where it gives up) the helper. */
const helped =
  (name: string): Semantics =>
  (e) => {
    const help = (): void => {
      e.helper(name, operand(e), e.i32(e.variant));
    };
    const fast = X87_FAST[name];
    if (fast) e.attempt(() => fast(e), help);
    else help();
  };

/** FNSTENV and kin: the size of the image goes by the operand size. */
const image =
  (name: string): Semantics =>
  (e) => {
    e.helper(name, e.address(0), e.i32(e.size === 2 ? 2 : 4));
  };

export const x87Semantics: Readonly<Record<string, Semantics>> = {
  ...Object.fromEntries(Object.keys(x87InstructionHelpers).map((name) => [name, helped(name)])),
  'x87.fldenv': image('x87.fldenv'),
  'x87.fnstenv': image('x87.fnstenv'),
  'x87.frstor': image('x87.frstor'),
  'x87.fnsave': image('x87.fnsave'),
  'x87.nothing': () => undefined,
  'x87.nop': (e) => {
    e.faultWhen(e.ne(e.and(e.field('fsw'), e.i32(STATUS_ERROR_SUMMARY)), e.i32(0)), X87_ERROR);
  },
  'x87.fnstcw': (e) => {
    e.write(0, e.field('fcw'));
  },
  'x87.fnstsw': (e) => {
    e.write(0, e.field('fsw'));
  },
  'x87.compareflags': (e) => {
    const fast = compareFlagsFast(e);
    const flags = e.choose(
      'i32',
      e.eq(fast, e.i32(-1)),
      () => e.wrap(e.helper('x87.compareflags', operand(e), e.i32(e.variant))),
      () => fast,
    );
    e.flagsChange(ARITHMETIC_FLAGS, flags);
  },
  'x87.fcmov': (e) => {
    e.helper('x87.fcmov', operand(e), e.condition(e.variant));
  },
  'x87.fwait': (e) => {
    const bits = e.and(e.field('cr0'), e.i64(CR0_MP_TS));
    e.faultWhen(e.eq(bits, e.i64(CR0_MP_TS)), DEVICE_NOT_AVAILABLE);
    e.faultWhen(e.ne(e.and(e.field('fsw'), e.i32(STATUS_ERROR_SUMMARY)), e.i32(0)), X87_ERROR);
  },
};
