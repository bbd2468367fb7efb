/**
 * The algebra as a generator of WebAssembly: values are locals or constants, operands are fields of the record that
 * the handler runs on. Where code ends up (inside the interpreter's loop, or in a function of its own) is the frame's
 * matter.
 */
import { OFFSET } from '../engine/state.ts';
import type { ValueType, Width } from '../semantics/algebra.ts';
import { memoryType } from '../semantics/base.ts';
import { FlagEmitter } from './emit-flags.ts';
import { HELPER_ARITY_SHIFT } from './emit-frame.ts';
import type { Value } from './emit-frame.ts';
import { YMM_HIGH } from './emit-values.ts';
import { RECORD } from './memory-map.ts';

export class HandlerEmitter extends FlagEmitter {
  // Operands
  private registerField(n: number): number {
    let seen = 0;
    for (let i = 0; i < n; i++) {
      const kind = this.operands[i]?.kind;
      if (kind && kind !== 'memory' && kind !== 'immediate' && kind !== 'relative' && kind !== 'far') seen++;
    }
    return [RECORD.a, RECORD.b, RECORD.c, RECORD.disp][seen] ?? RECORD.c;
  }
  private immediateField(n: number): number {
    return this.operands.slice(0, n).some((o) => o.kind === 'immediate') ? RECORD.disp : RECORD.imm;
  }
  /** Leaves the state address of register operand `n` on the stack. */
  private pushRegisterAddress(n: number): void {
    this.f.get(this.frame.record).load16(this.registerField(n));
  }
  read(n: number): Value {
    const operand = this.operands[n];
    if (!operand) throw new Error(`no operand ${n}`);
    switch (operand.kind) {
      case 'register':
      case 'high-byte':
        this.pushRegisterAddress(n);
        return this.loadFrom(operand.size, 0);
      case 'memory':
        return this.loadOperand(operand.size, operand.vector ?? false, this.address(n));
      case 'immediate':
        if (operand.constant !== undefined) return this.constant(operand.size as Width, operand.constant);
        this.f.get(this.frame.record);
        return this.loadFrom(operand.size, this.immediateField(n));
      case 'relative':
      case 'far':
        this.f.get(this.frame.record);
        return this.loadFrom(this.size, RECORD.imm);
      case 'xmm':
        this.pushRegisterAddress(n);
        this.f.simdAccess(0, 0);
        return this.bind('v128');
      case 'mmx':
        this.pushRegisterAddress(n);
        return this.loadFrom(8, 0);
      default:
        this.f.get(this.frame.record);
        return this.loadFrom(2, this.registerField(n));
    }
  }
  /** A memory operand: v128 where it may be an XMM register, else an integer. */
  private loadOperand(size: number, vector: boolean, address: Value): Value {
    if (vector) return this.load(size === 4 ? 'v128.32' : size === 8 ? 'v128.64' : 'v128', address);
    return this.load(memoryType(size as Width), address);
  }
  write(n: number, value: Value): void {
    const operand = this.operands[n];
    switch (operand?.kind) {
      case 'register':
      case 'high-byte':
        this.pushRegisterAddress(n);
        this.storeRegister(operand.size, 0, value);
        return;
      case 'memory': {
        const address = this.address(n);
        if (value.type !== 'v128') this.store(memoryType(operand.size as Width), address, value);
        else if (operand.size === 16) this.store('v128', address, value);
        else if (operand.size === 8) this.store('u64', address, this.lane('i64x2.extract_lane', 0, value));
        else this.store('u32', address, this.lane('i32x4.extract_lane', 0, value));
        return;
      }
      case 'xmm':
        this.pushRegisterAddress(n);
        this.push1(value);
        this.f.simdAccess(11, 0);
        return;
      case 'mmx':
        this.pushRegisterAddress(n);
        this.push1(value);
        this.f.store64(0);
        // Sign and exponent of the x87 register become ones.
        this.pushRegisterAddress(n);
        this.f.i32(0xffff).access(0x3b, 8);
        return;
      default:
        throw new Error(`operand ${n} cannot be written`);
    }
  }
  readHigh(n: number): Value {
    this.pushRegisterAddress(n);
    this.f.simdAccess(0, YMM_HIGH);
    return this.bind('v128');
  }
  writeHigh(n: number, value: Value): void {
    this.pushRegisterAddress(n);
    this.push1(value);
    this.f.simdAccess(11, YMM_HIGH);
  }
  // Stack
  private stackAddress(pointer: Value, size: number, isWrite: boolean): { linear: Value; pointer: Value } {
    if (this.mode === 64) return { linear: pointer, pointer };
    const masked = this.and(pointer, this.field('stackMask'));
    const check = this.and(this.field('segmentCheck'), this.i32(1 << 2));
    this.when(check, () => {
      this.helper('checksegment', this.i32(2), masked, this.i32(size | (isWrite ? 0x100 : 0)));
    });
    return { linear: this.and(this.add(masked, this.field('ssBase')), this.i64(0xffff_ffffn)), pointer: masked };
  }
  stackRead(size: Width, pointer: Value): Value {
    return this.load(memoryType(size), this.stackAddress(pointer, size, false).linear);
  }
  setStackPointer(pointer: Value): void {
    if (this.mode === 64) {
      this.setGpr(4, 8, pointer);
      return;
    }
    const mask = this.field('stackMask');
    this.setGpr(4, 8, this.or(this.and(this.gpr(4, 8), this.not(mask)), this.and(pointer, mask)));
  }
  push(size: Width, value: Value): void {
    const { linear, pointer } = this.stackAddress(this.sub(this.gpr(4, 8), this.i64(size)), size, true);
    this.store(memoryType(size), linear, value);
    this.setStackPointer(pointer);
  }

  // Control
  when(condition: Value, then: () => void, otherwise?: () => void): void {
    this.push1(condition);
    if (condition.type === 'i64') this.f.i64(0).op('i64.ne');
    this.f.if();
    this.branch(then);
    if (otherwise) {
      this.f.else();
      this.branch(otherwise);
    }
    this.f.end();
  }
  /** Addresses made inside a branch are not there after it. */
  private branch(body: () => void): void {
    const before = new Map(this.addresses);
    body();
    this.addresses.clear();
    for (const [n, address] of before) this.addresses.set(n, address);
  }
  choose(type: ValueType, condition: Value, then: () => Value, otherwise: () => Value): Value {
    this.push1(condition);
    this.f.if(type);
    this.branch(() => { this.push1(then()); }); // prettier-ignore
    this.f.else();
    this.branch(() => { this.push1(otherwise()); }); // prettier-ignore
    this.f.end();
    return this.bind(type);
  }
  nextRip(): Value {
    const { f } = this;
    const record = this.frame.record;
    f.i32(0).load64(OFFSET.ripBase);
    f.get(record).load16(RECORD.offset).get(record).load8(RECORD.length).op('i32.add');
    f.op('i64.extend_i32_u').op('i64.add');
    return this.bind('i64');
  }
  private cutRip(target: Value): Value {
    if (this.mode === 64) return target;
    return this.and(target, this.i64(this.size === 2 ? 0xffffn : 0xffff_ffffn));
  }
  jump(target: Value): void {
    this.frame.jump(this.cutRip(target));
  }
  /** A row has one relative operand: its target stands in the record. */
  jumpRelative(): void {
    if (this.mode === 64) this.frame.taken();
    else {
      this.f.i32(0).load64(OFFSET.ripBase);
      const base = this.bind('i64');
      this.f.get(this.frame.record);
      const distance = this.loadFrom(8, RECORD.imm);
      this.jump(this.add(base, distance));
    }
  }
  again(): void {
    this.frame.again();
  }
  fault(vector: number, errorCode = -1): void {
    this.f.i32(0).i32(vector).store32(OFFSET.faultVector);
    this.f.i32(0).i32(errorCode).store32(OFFSET.faultError);
    this.frame.fault();
  }
  helper(name: string, ...args: Value[]): Value {
    const id = this.helperIds.get(name);
    if (id === undefined) throw new Error(`no helper '${name}'`);
    args.forEach((arg, i) => {
      const wide = arg.type === 'i32' ? this.extendU(arg) : arg;
      this.f.i32(0);
      this.push1(wide);
      this.f.store64(OFFSET.args + 8 * i);
    });
    this.f
      .i32(id | (args.length << HELPER_ARITY_SHIFT))
      .get(this.frame.record)
      .call(this.slow.helper);
    this.frame.helperResult();
    this.f.i32(0).load64(OFFSET.result);
    return this.bind('i64');
  }
  /** #UD or #NM when the state says that SSE or x87 instructions fault. */
  guard(field: 'simdBlock' | 'avxBlock' | 'fpuBlock', isMmx = false): void {
    const block = this.field(field);
    this.when(block, () => {
      // CR0.EM makes x87 instructions #NM but MMX ones #UD.
      const isInvalid = isMmx ? this.and(this.wrap(this.field('cr0')), this.i32(4)) : this.and(block, this.i32(1));
      this.when(
        isInvalid,
        () => {
          this.fault(6);
        },
        () => {
          this.fault(7);
        },
      );
    });
  }
}
