/**
 * The algebra as the region compiler sees it: one instruction with its operands folded in, guest registers in locals.
 * The same semantics make the interpreter's handlers (interpreter/emitter.ts) and are evaluated by the oracle.
 *
 * Whatever a region does not do itself (faults, helpers) it leaves to the interpreter: semantics write nothing before
 * everything that can fault, so the instruction can always be done again from its start.
 */
import { OFFSET, SEG, SEGMENT_STRIDE } from '../engine/state.ts';
import type { CpuField } from '../engine/state.ts';
import type { Instruction, MemoryOperand } from '../isa/instruction.ts';
import type { Value } from '../interpreter/emit-frame.ts';
import { compiledStringName } from '../interpreter/fast-strings.ts';
import { semanticSize } from '../interpreter/handlers.ts';
import type { ValueType, Width } from '../semantics/algebra.ts';
import { memoryType } from '../semantics/base.ts';
import { ADDRESSED } from '../semantics/index.ts';
import type { RegionContext } from './context.ts';
import { RegionMemoryEmitter } from './emit-memory.ts';
import { GENERIC } from './lazy.ts';

/** Ways on from an instruction other than to the next one. */
export interface Ways {
  /** To a position of the region's code. */
  to(emitter: RegionEmitter, position: number): void;
  /** To a linear address; `isReturn` for RET. */
  toAddress(emitter: RegionEmitter, target: Value, isReturn: boolean): void;
}

/** A value that still is a register's local: copied before that changes. */
interface Borrowed {
  readonly value: { local: number; readonly type: ValueType };
  readonly home: number;
}

const [RAX, RCX, RSI, RDI] = [0, 1, 6, 7];
const NO_ADDRESSES: (Value | undefined)[] = [];

export class RegionEmitter extends RegionMemoryEmitter {
  readonly at: number;
  readonly instruction: Instruction;
  private readonly ways: Ways;
  /** Effective addresses already made, by operand. */
  private addresses: (Value | undefined)[] = NO_ADDRESSES;
  private borrowed: Borrowed[] = [];

  constructor(instruction: Instruction, place: { at: number; context: RegionContext; ways: Ways }) {
    const { row } = instruction;
    super(
      {
        semantics: row.semantics, size: semanticSize(instruction), mode: 64, variant: row.variant, operands: instruction.operands,
        locked: instruction.lock, addressSize: ADDRESSED.has(row.semantics) ? instruction.addressSize : 8,
        repeat: row.repeatable ? instruction.repeat : 'none',
      },
      place.context,
    ); // prettier-ignore
    this.at = place.at;
    this.instruction = instruction;
    this.ways = place.ways;
  }

  /** Leaves a value on the Wasm stack. */
  pushValue(value: Value): void {
    this.push1(value);
  }

  // Registers --------------------------------------------------------------------------------------------------------
  private borrow(type: 'i64' | 'v128', home: number): Value {
    const value = { type, local: home, constant: 0n };
    this.borrowed.push({ value, home });
    return value;
  }
  private detach(of: (home: number) => boolean): void {
    if (this.borrowed.length === 0) return;
    const rest: Borrowed[] = [];
    const copies = new Map<number, number>();
    for (const one of this.borrowed) {
      if (!of(one.home)) {
        rest.push(one);
        continue;
      }
      let copy = copies.get(one.home);
      if (copy === undefined) {
        copy = this.temporaries.take(one.value.type);
        this.f.get(one.home).set(copy);
        copies.set(one.home, copy);
      }
      one.value.local = copy;
    }
    this.borrowed = rest;
  }
  private setHome(n: number, emitValue: () => void): void {
    const home = this.context.gpr(n);
    this.detach((one) => one === home);
    this.context.events.writes = true;
    emitValue();
    this.f.set(home);
    this.context.noteGprWritten(n);
  }
  gpr(n: number, size: Width): Value {
    const home = this.context.gpr(n);
    if (size === 8) return this.borrow('i64', home);
    this.f.get(home).op('i32.wrap_i64');
    if (size < 4) this.f.i32(size === 1 ? 0xff : 0xffff).op('i32.and');
    return this.bind('i32');
  }
  setGpr(n: number, size: Width, value: Value): void {
    const home = this.context.gpr(n);
    this.setHome(n, () => {
      if (size === 8) this.push1(value);
      else if (size === 4) {
        this.push1(value);
        this.f.op('i64.extend_i32_u');
      } else {
        const mask = size === 1 ? 0xffn : 0xffffn;
        this.f.get(home).i64(~mask).op('i64.and');
        this.push1(value);
        this.f.op('i64.extend_i32_u').i64(mask).op('i64.and').op('i64.or');
      }
    });
  }
  private highByte(n: number): Value {
    this.f.get(this.context.gpr(n)).op('i32.wrap_i64').i32(8).op('i32.shr_u').i32(0xff).op('i32.and');
    return this.bind('i32');
  }
  private setHighByte(n: number, value: Value): void {
    const home = this.context.gpr(n);
    this.setHome(n, () => {
      this.f.get(home).i64(~0xff00n).op('i64.and');
      this.push1(value);
      this.f.op('i64.extend_i32_u').i64(0xff).op('i64.and').i64(8).op('i64.shl').op('i64.or');
    });
  }
  xmm(n: number): Value {
    return this.borrow('v128', this.context.xmm(n));
  }
  override setField(name: CpuField, value: Value): void {
    this.context.events.writes = true;
    super.setField(name, value);
  }
  override setFpr(n: Value, significand: Value, exponent: Value): void {
    this.context.events.writes = true;
    super.setFpr(n, significand, exponent);
  }
  private vectorRegister(n: number): number {
    const operand = this.instruction.operands[n];
    if (operand?.kind !== 'xmm') throw new Error(`operand ${n} is no vector register`);
    return operand.register;
  }
  /** Upper halves stay in the state. */
  readHigh(n: number): Value {
    this.f.i32(0).simdAccess(0, OFFSET.xmm + 32 * this.vectorRegister(n) + 16); // prettier-ignore
    return this.bind('v128');
  }
  writeHigh(n: number, value: Value): void {
    this.setYmmHigh(this.vectorRegister(n), value);
  }
  override setYmmHigh(n: number, value: Value): void {
    this.context.events.writes = true;
    this.f.i32(0);
    this.push1(value);
    this.f.simdAccess(11, OFFSET.xmm + 32 * n + 16);
  }
  setXmm(n: number, value: Value): void {
    const home = this.context.xmm(n);
    this.detach((one) => one === home);
    this.context.events.writes = true;
    this.push1(value);
    this.f.set(home);
    this.context.noteXmmWritten(n);
  }

  // Operands ---------------------------------------------------------------------------------------------------------
  read(n: number): Value {
    const operand = this.instruction.operands[n];
    switch (operand?.kind) {
      case 'register':
        return operand.high ? this.highByte(operand.register) : this.gpr(operand.register, operand.size as Width);
      case 'memory':
        return this.loadOperand(n, operand);
      case 'immediate': {
        const { size, value } = operand;
        return size === 8 ? this.i64(value) : this.i32(Number(BigInt.asUintN(8 * size, value)));
      }
      case 'xmm':
        return this.xmm(operand.register);
      case 'mmx':
        this.f.i32(0).load64(OFFSET.fpr + 16 * operand.register);
        return this.bind('i64');
      case 'far':
        return this.i32(operand.offset);
      case 'segment':
      case 'control':
      case 'debug':
      case 'st':
        return this.i32(operand.register);
      default:
        throw new Error(`operand ${n} of ${this.instruction.row.mnemonic} has no value`);
    }
  }
  private isVector(n: number): boolean {
    const { row } = this.instruction;
    const method = row.operands[n]?.method;
    return method === 'W' || (method === 'M' && row.operands.some((o) => o.method === 'V'));
  }
  private loadOperand(n: number, { size }: MemoryOperand): Value {
    const address = this.address(n);
    if (this.isVector(n)) return this.load(size === 4 ? 'v128.32' : size === 8 ? 'v128.64' : 'v128', address);
    return this.load(memoryType(size as Width), address);
  }
  write(n: number, value: Value): void {
    const operand = this.instruction.operands[n];
    switch (operand?.kind) {
      case 'register':
        if (operand.high) this.setHighByte(operand.register, value);
        else this.setGpr(operand.register, operand.size as Width, value);
        return;
      case 'memory': {
        const address = this.address(n);
        if (value.type !== 'v128') this.store(memoryType(operand.size as Width), address, value);
        else this.store(operand.size === 16 ? 'v128' : operand.size === 8 ? 'v128.64' : 'v128.32', address, value);
        return;
      }
      case 'xmm':
        this.setXmm(operand.register, value);
        return;
      case 'mmx':
        this.context.events.writes = true;
        this.f.i32(0);
        this.push1(value);
        this.f.store64(OFFSET.fpr + 16 * operand.register);
        // Sign and exponent of the x87 register become ones.
        this.f.i32(0).i32(0xffff).access(0x3b, OFFSET.fpr + 16 * operand.register + 8); // prettier-ignore
        return;
      default:
        throw new Error(`operand ${n} of ${this.instruction.row.mnemonic} cannot be written`);
    }
  }
  offset(n: number): Value {
    const operand = this.instruction.operands[n];
    if (operand?.kind !== 'memory') throw new Error(`operand ${n} is no memory`);
    const { base, index, scale } = operand;
    let displacement = operand.displacement;
    let sum: Value | undefined;
    if (base === -2) {
      displacement += BigInt(this.at + this.instruction.length);
      sum = this.context.local('i64', this.context.base);
    } else if (base >= 0) sum = this.gpr(base, 8);
    // POP to memory makes its address with the stack pointer already moved.
    if (this.instruction.row.semantics === 'popmem' && base === 4) displacement += BigInt(this.instruction.operandSize);
    if (index >= 0) {
      const scaled = this.shl(this.gpr(index, 8), this.i64(31 - Math.clz32(scale)));
      sum = sum ? this.add(sum, scaled) : scaled;
    }
    const whole = sum ? this.add(sum, this.i64(displacement)) : this.i64(displacement);
    return this.instruction.addressSize === 8 ? whole : this.and(whole, this.i64(0xffff_ffffn));
  }
  address(n: number): Value {
    const known = this.addresses[n];
    if (known) return known;
    let address = this.offset(n);
    const operand = this.instruction.operands[n];
    if (operand?.kind === 'memory' && operand.segment >= SEG.fs) {
      this.f.i32(0).load64(OFFSET.esBase + operand.segment * SEGMENT_STRIDE);
      address = this.add(this.bind('i64'), address);
    }
    if (this.addresses === NO_ADDRESSES) this.addresses = [];
    this.addresses[n] = address;
    return address;
  }
  segment(): Value {
    return this.i32(this.instruction.segmentOverride >= 0 ? this.instruction.segmentOverride : SEG.ds);
  }

  // Stack ------------------------------------------------------------------------------------------------------------
  stackRead(size: Width, pointer: Value): Value {
    return this.load(memoryType(size), pointer);
  }
  setStackPointer(pointer: Value): void {
    this.setGpr(4, 8, pointer);
  }
  push(size: Width, value: Value): void {
    const pointer = this.sub(this.gpr(4, 8), this.i64(size));
    this.store(memoryType(size), pointer, value);
    this.setGpr(4, 8, pointer);
  }

  // Control ----------------------------------------------------------------------------------------------------------
  /** A body that happens only if the code before it goes there. */
  private branch(body: () => void): void {
    const { context } = this;
    const { addresses } = this;
    this.addresses = [...addresses];
    const { isDead } = context;
    context.depth++;
    body();
    context.depth--;
    this.borrowed = [];
    this.addresses = addresses;
    context.isDead = isDead;
  }
  when(condition: Value, then: () => void, otherwise?: () => void): void {
    if (condition.local < 0) {
      if (condition.constant !== 0n) then();
      else otherwise?.();
      return;
    }
    const { f, context } = this;
    // Nobody's local may change in one branch only.
    this.detach(() => true);
    const before = context.flags;
    this.push1(condition);
    if (condition.type === 'i64') f.i64(0).op('i64.ne');
    f.if();
    const { events } = context;
    const { writes } = events;
    this.branch(then);
    // What one branch has written, the other has not.
    const written = events.writes;
    events.writes = writes;
    const changes = context.flags !== before;
    // What depends on the run time counts as use of what was before.
    if (changes && !context.events.sets) context.events.usesFlags = true;
    if (!changes && !otherwise) {
      f.end();
      events.writes = written;
      return;
    }
    if (context.leavesFlags) {
      f.else();
      if (otherwise) this.branch(otherwise);
      f.end();
      events.writes ||= written;
      return;
    }
    const merges = before.form !== 'dead' || context.flags.form !== 'dead';
    this.emitGeneric(context.flags);
    context.flags = before;
    f.else();
    if (otherwise) this.branch(otherwise);
    this.emitGeneric(context.flags);
    f.end();
    events.writes ||= written;
    context.flags = merges ? GENERIC : before;
  }
  override known(value: Value): bigint | undefined {
    return value.local < 0 && value.type !== 'v128' ? value.constant : undefined;
  }
  override attempt(whole: () => Value, instead: () => void): void {
    const { events } = this.context;
    const before = events.writes;
    const done = whole();
    const writes = events.writes;
    // Where it was not done, nothing was changed.
    events.writes = before;
    this.when(this.eqz(done), instead);
    events.writes = writes;
  }
  choose(type: ValueType, condition: Value, then: () => Value, otherwise: () => Value): Value {
    if (condition.local < 0) return condition.constant !== 0n ? then() : otherwise();
    const { f } = this;
    const { events } = this.context;
    const { writes } = events;
    this.detach(() => true);
    this.push1(condition);
    f.if(type);
    this.branch(() => { this.push1(then()); }); // prettier-ignore
    const written = events.writes;
    events.writes = writes;
    f.else();
    this.branch(() => { this.push1(otherwise()); }); // prettier-ignore
    f.end();
    events.writes ||= written;
    return this.bind(type);
  }
  override faultWhen(condition: Value, vector: number, errorCode?: number): void {
    if (condition.local < 0) {
      if (condition.constant !== 0n) this.fault(vector, errorCode);
      return;
    }
    this.bailIf(() => {
      this.push1(condition);
      if (condition.type === 'i64') this.f.i64(0).op('i64.ne');
    });
  }
  nextRip(): Value {
    return this.add(this.context.local('i64', this.context.base), this.i64(this.at + this.instruction.length));
  }
  jump(target: Value): void {
    this.ways.toAddress(this, target, this.instruction.row.semantics === 'ret');
    this.context.isDead = true;
  }
  jumpRelative(): void {
    const operand = this.instruction.operands.find((o) => o.kind === 'relative');
    if (operand?.kind !== 'relative') throw new Error('a relative jump without a distance');
    this.ways.to(this, this.at + this.instruction.length + operand.value);
    this.context.isDead = true;
  }
  again(): void {
    this.ways.to(this, this.at);
    this.context.isDead = true;
  }
  bail(): void {
    const { f, context } = this;
    context.observe();
    if (context.depth === 0 || context.events.writes) context.events.bails = true;
    this.emitPlace();
    f.br(context.bailLabel);
    context.isDead = true;
  }
  bailIf(emitCondition: () => void): void {
    const { context } = this;
    context.observe();
    // What has changed something already cannot be done again.
    if (context.events.writes) context.events.bails = true;
    this.emitPlace();
    emitCondition();
    this.f.brIf(context.bailLabel);
  }
  /** Notes where and with which flags the region is left. */
  private emitPlace(): void {
    this.context.emitForm(this.context.flags);
    this.f.i32(this.at).set(this.context.position);
  }
  fault(_vector: number, _errorCode?: number): void {
    this.bail();
  }
  helper(name: string, ...args: Value[]): Value {
    if (!this.string(name, args)) this.bail();
    return this.i64(0);
  }
  /** A repeated MOVS or STOS by a call, what it leaves by the interpreter; false where there is no such function. */
  private string(name: string, [size, addressSize, repeat, segment]: readonly Value[]): boolean {
    const { f, context } = this;
    const [bytes, from] = [size, segment].map((value) => value && this.known(value));
    if (from === undefined || from > SEG.ds || (addressSize && this.known(addressSize)) !== 8n) return false;
    if ((repeat && this.known(repeat)) === 0n) return false;
    const call = context.imports.strings.get(compiledStringName(name, Number(bytes)));
    if (!call) return false;
    context.observe();
    const inputs = name === 'movs' ? [RCX, RSI, RDI] : [RAX, RCX, RDI];
    for (const n of inputs) f.i32(0).get(context.gpr(n)).store64(OFFSET.rax + 8 * n); // prettier-ignore
    f.call(call).set(context.result);
    for (const n of inputs)
      if (n !== RAX) this.setHome(n, () => f.i32(0).load64(OFFSET.rax + 8 * n)); // prettier-ignore
    // The registers say how far it came, and the instruction goes on from there.
    this.emitPlace();
    f.get(context.result).brIf(context.bailLabel);
    return true;
  }
  /** Leaves the instruction to the interpreter while SSE or x87 instructions fault. */
  guard(field: 'simdBlock' | 'avxBlock' | 'fpuBlock'): void {
    const { context } = this;
    if (context.checkedBlocks.has(field)) return;
    this.bailIf(() => {
      this.f.i32(0).load32(OFFSET[field]);
    });
    context.checkedBlocks.add(field);
  }
}
