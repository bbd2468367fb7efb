/**
 * The frame of an SSE floating-point helper: controls from MXCSR, exceptions of all elements joined, operands as halves of
 * vectors. Intel SDM vol. 1, 11.5: one unmasked exception means #XM (or #UD without CR4.OSXMMEXCPT) and no result, with
 * the flags set.
 */
import type { Helper, HelperContext } from '../helper.ts';
import { VECTOR } from '../helper.ts';
import { FpContext, PRE_COMPUTATION_FLAGS } from '../../softfloat/context.ts';
import { BINARY64, type Format } from '../../softfloat/format.ts';

const CR4_OSXMMEXCPT = 1n << 10n;

/** One operation's controls and joined outcome. */
export class Operation {
  readonly context = new FpContext();
  readonly #helper: HelperContext;
  /** The first or second half of a 256-bit operation: `sse256.finish` comes after both. */
  readonly #isHalf: boolean;
  #joined = 0;

  constructor(helper: HelperContext, isHalf = false) {
    this.#helper = helper;
    this.#isHalf = isHalf;
    this.context.loadMxcsr(helper.state.mxcsr);
  }

  /** Runs one element with clean flags. */
  element<T>(compute: (context: FpContext) => T): T {
    this.context.flags = 0;
    const result = compute(this.context);
    this.#joined |= this.context.flags;
    return result;
  }

  /**
   * End of the elements that are computed side by side: their flags become final, and an unmasked exception ends the
   * instruction. DPPS and DPPD have several such stages, every other instruction one.
   */
  finish(): void {
    const { state } = this.#helper;
    let flags = this.#joined;
    if (this.#isHalf) {
      state.simdPending |= flags;
      return;
    }
    // An unmasked exception of any element before its computation leaves the others without theirs after it.
    if ((flags & ~this.context.masks & PRE_COMPUTATION_FLAGS) !== 0) flags &= PRE_COMPUTATION_FLAGS;
    state.mxcsr |= flags;
    this.#joined = 0;
    if ((flags & ~this.context.masks) === 0) return;
    this.#helper.fault((state.cr4 & CR4_OSXMMEXCPT) !== 0n ? VECTOR.simdError : VECTOR.invalidOpcode);
  }
}

/** The end of an operation on 256 bits, whose halves left their exceptions in the state. */
export const finishHalves: Helper = (helper) => {
  const operation = new Operation(helper);
  const flags = helper.state.simdPending;
  helper.state.simdPending = 0;
  operation.element((context) => {
    context.flags = flags;
  });
  operation.finish();
};

export type Scalar = (context: FpContext, format: Format, a: bigint, b: bigint, immediate: number) => bigint;

export const arg = (args: readonly bigint[], n: number): bigint => args[n] ?? 0n;

export function scalarHelper(format: Format, compute: Scalar): Helper {
  return (helper, args) => {
    const operation = new Operation(helper);
    const [a, b] = [arg(args, 0), arg(args, 1)];
    const result = operation.element((context) => compute(context, format, a, b, Number(arg(args, 2))));
    operation.finish();
    return result;
  };
}

/** Elements of a 128-bit value, lowest first. */
export function split(format: Format, low: bigint, high: bigint): bigint[] {
  if (format === BINARY64) return [low, high];
  return [low & 0xffffffffn, low >> 32n, high & 0xffffffffn, high >> 32n];
}

export function join(helper: HelperContext, format: Format, elements: readonly bigint[]): bigint {
  const at = (n: number): bigint => elements[n] ?? 0n;
  if (format === BINARY64) {
    helper.state.resultHigh = at(1);
    return at(0);
  }
  helper.state.resultHigh = at(2) | (at(3) << 32n);
  return at(0) | (at(1) << 32n);
}

export type Packed = (operation: Operation, a: readonly bigint[], b: readonly bigint[], immediate: number) => bigint[];

/** A packed operation as a whole of 128 bits, or as a half of 256. */
export type PackedHelper = (isHalf: boolean) => Helper;

/** Operands split by `from`, the result joined by `to`. */
export function packedHelper(from: Format, to: Format, compute: Packed): PackedHelper {
  return (isHalf) => (helper, args) => {
    const operation = new Operation(helper, isHalf);
    const a = split(from, arg(args, 0), arg(args, 1));
    const b = split(from, arg(args, 2), arg(args, 3));
    const result = compute(operation, a, b, Number(arg(args, 4)));
    operation.finish();
    return join(helper, to, result);
  };
}
