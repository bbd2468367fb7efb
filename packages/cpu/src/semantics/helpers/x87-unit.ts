/**
 * The x87 unit over a CPU state: stack, tags, condition codes, status. One operation at a time: `begin`, look at
 * operands, compute with `context`, then `settle`. Intel SDM vol. 1, chapter 8.
 */
import { type CpuState, OFFSET } from '../../engine/state.ts';
import { FpContext, FpFlag, PRE_COMPUTATION_FLAGS } from '../../softfloat/context.ts';
import { EXTENDED } from '../../softfloat/format.ts';
import { VECTOR } from '../helper.ts';
import type { HelperContext } from '../helper.ts';
import { STATUS_ERROR_SUMMARY, physical, updateSummary } from './fpu-state.ts';

export const CONDITION = { c0: 0x100, c1: 0x200, c2: 0x400, c3: 0x4000 } as const;
const STACK_FAULT = 0x40;
const TOP_SHIFT = 11;
const TOP_MASK = 0x3800;

export class X87Unit {
  readonly helper: HelperContext;
  readonly state: CpuState;
  readonly context = new FpContext();

  constructor(helper: HelperContext) {
    this.helper = helper;
    this.state = helper.state;
  }

  /** Start of a waiting instruction: #MF if an exception is pending. */
  begin(): void {
    if ((this.state.fsw & STATUS_ERROR_SUMMARY) !== 0) this.helper.fault(VECTOR.x87Error);
    this.context.loadControlWord(this.state.fcw);
  }

  isEmpty(i: number): boolean {
    return ((this.state.ftw >> physical(this.state, i)) & 1) === 0;
  }

  /** ST(i) as an 80-bit pattern. */
  read(i: number): bigint {
    const at = this.state.base + OFFSET.fpr + 16 * physical(this.state, i);
    return this.state.dv.getBigUint64(at, true) | (BigInt(this.state.dv.getUint16(at + 8, true)) << 64n);
  }

  /** Writes ST(i) and makes it valid. */
  write(i: number, value: bigint): void {
    const number = physical(this.state, i);
    const at = this.state.base + OFFSET.fpr + 16 * number;
    this.state.dv.setBigUint64(at, BigInt.asUintN(64, value), true);
    this.state.dv.setUint16(at + 8, Number(value >> 64n), true);
    this.state.ftw |= 1 << number;
  }

  free(i: number): void {
    this.state.ftw &= ~(1 << physical(this.state, i));
  }

  moveTop(by: number): void {
    const top = (((this.state.fsw >> TOP_SHIFT) & 7) + by) & 7;
    this.state.fsw = (this.state.fsw & ~TOP_MASK) | (top << TOP_SHIFT);
  }

  pop(): void {
    this.free(0);
    this.moveTop(1);
  }

  /** Makes room and writes the new ST(0). */
  push(value: bigint): void {
    this.moveTop(-1);
    this.write(0, value);
  }

  setConditions(mask: number, bits: number): void {
    this.state.fsw = (this.state.fsw & ~mask) | bits;
  }

  /** Merges the context's exceptions; C1 tells whether the result was rounded up (FCOMI and its kin leave it). */
  settle(keepsC1 = false): void {
    const isUp = this.context.roundedUp && (this.context.flags & FpFlag.precision) !== 0;
    if (!keepsC1) this.setConditions(CONDITION.c1, isUp ? CONDITION.c1 : 0);
    this.state.fsw |= this.context.flags;
    updateSummary(this.state);
  }

  /** An exception of the stack: C1 tells overflow from underflow. True when it is masked and a NaN is the answer. */
  stackFault(isOverflow: boolean): boolean {
    this.setConditions(CONDITION.c1, isOverflow ? CONDITION.c1 : 0);
    this.state.fsw |= FpFlag.invalid | STACK_FAULT;
    updateSummary(this.state);
    return (this.state.fcw & FpFlag.invalid) !== 0;
  }

  /** False, with everything done that is to be done, when one of the registers is empty; the NaN goes to `target`. */
  requireValid(registers: readonly number[], target: number, pops = false): boolean {
    if (!registers.some((i) => this.isEmpty(i))) return true;
    if (this.stackFault(false)) {
      this.write(target, EXTENDED.defaultNan);
      if (pops) this.pop();
    }
    return false;
  }

  /** Pushes `value` unless the stack is full. The context's exceptions must allow a result. */
  pushChecked(value: bigint): void {
    if (!this.isEmpty(-1)) {
      if (this.stackFault(true)) this.push(EXTENDED.defaultNan);
      return;
    }
    this.settle();
    if (!this.context.hasNoResult) this.push(value);
  }

  /** Writes a result unless an unmasked exception forbids it. */
  deliver(target: number, value: bigint, pops = false): void {
    this.settle();
    if (this.context.hasNoResult) return;
    this.write(target, value);
    if (pops) this.pop();
  }

  /**
   * A denormal memory operand, which is none any more as an extended number, belongs to the exceptions of the operation
   * unless a more important one or a NaN took its place.
   */
  addDenormal(otherIsNan: boolean): void {
    const { context } = this;
    if (otherIsNan || (context.flags & (FpFlag.invalid | FpFlag.zeroDivide)) !== 0) return;
    context.flags |= FpFlag.denormal;
    if (!context.hasNoResult) return;
    context.flags &= PRE_COMPUTATION_FLAGS;
    context.roundedUp = false;
  }
}
