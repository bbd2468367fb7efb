/**
 * Controls and outcome of one floating-point operation: what MXCSR or the x87 control word asks for, and the
 * exceptions the operation met. Not a register: the caller loads it before and merges `flags` afterwards.
 *
 * Intel SDM vol. 1, 4.9 and 8.5 (exceptions), 10.2.3 (MXCSR).
 */

/** Exception bits, as they stand in MXCSR and in the x87 status word. */
export const FpFlag = {
  invalid: 0x01,
  denormal: 0x02,
  zeroDivide: 0x04,
  overflow: 0x08,
  underflow: 0x10,
  precision: 0x20,
} as const;

/** Exceptions that are found before the result is computed: unmasked, they leave no result at all. */
export const PRE_COMPUTATION_FLAGS = FpFlag.invalid | FpFlag.denormal | FpFlag.zeroDivide;
const ALL_FP_FLAGS = 0x3f;

/** Rounding control as encoded in MXCSR, the x87 control word and the ROUNDxx immediates. */
export const Rounding = { nearest: 0, down: 1, up: 2, zero: 3 } as const;
export type Rounding = (typeof Rounding)[keyof typeof Rounding];

export class FpContext {
  rounding: Rounding = Rounding.nearest;
  /** Exceptions with a set bit are masked. */
  masks = ALL_FP_FLAGS;
  /** MXCSR.DAZ: denormal operands count as zero. Never with x87. */
  denormalsAreZero = false;
  /** MXCSR.FTZ: a tiny result becomes zero, if underflow is masked. Never with x87. */
  flushToZero = false;
  /** Significand bits of x87 add, subtract, multiply, divide and square root: 24, 53 or 64. */
  precision = 64;
  /** Exceptions met, FpFlag bits. */
  flags = 0;
  /** The magnitude of the last inexact result was rounded up (x87 C1). */
  roundedUp = false;

  /** True when an exception was met that has no result: the destination must stay as it is. */
  get hasNoResult(): boolean {
    return (this.flags & ~this.masks & PRE_COMPUTATION_FLAGS) !== 0;
  }

  /** True when an unmasked exception was met. */
  get mustTrap(): boolean {
    return (this.flags & ~this.masks) !== 0;
  }

  /** Takes rounding, masks, DAZ and FTZ from an MXCSR value and forgets earlier outcomes. */
  loadMxcsr(mxcsr: number): this {
    this.rounding = ((mxcsr >> 13) & 3) as Rounding;
    this.masks = (mxcsr >> 7) & ALL_FP_FLAGS;
    this.denormalsAreZero = (mxcsr & 0x40) !== 0;
    this.flushToZero = (mxcsr & 0x8000) !== 0;
    this.precision = 64;
    this.flags = 0;
    this.roundedUp = false;
    return this;
  }

  /** Takes rounding, precision and masks from an x87 control word and forgets earlier outcomes. */
  loadControlWord(controlWord: number): this {
    this.rounding = ((controlWord >> 10) & 3) as Rounding;
    this.masks = controlWord & ALL_FP_FLAGS;
    this.denormalsAreZero = false;
    this.flushToZero = false;
    this.precision = X87_PRECISION[(controlWord >> 8) & 3] ?? 64;
    this.flags = 0;
    this.roundedUp = false;
    return this;
  }
}

/** PC field of the control word; 1 is reserved and behaves as extended precision. */
const X87_PRECISION = [24, 64, 53, 64];
