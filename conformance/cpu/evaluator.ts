/**
 * The semantics evaluated directly: one instruction at a time on plain values, without handlers, records, TLB or lazily
 * emitted code. The reference that tells a wrong description of an instruction from a wrong generator. Numeric
 * operations are done by one-instruction WebAssembly modules. Flat 64-bit user mode only; `system-oracle.ts` adds the rest.
 */
/* eslint-disable @typescript-eslint/only-throw-error -- a guest's fault travels as GuestFault, as in the engines */
import { ExitReason, decodeInstruction, type Instruction, type MemoryOperand, type Operand } from '@xenhost/cpu';
import { FLAG, flagsOf, lazyFrom } from '../../packages/cpu/src/engine/flags.ts';
import { CPU_STATE_SIZE, CpuState, FIELDS, OFFSET, type CpuField } from '../../packages/cpu/src/engine/state.ts';
import type { MemoryType, OperandInfo, ValueType, Width } from '../../packages/cpu/src/semantics/algebra.ts';
import { AlgebraBase } from '../../packages/cpu/src/semantics/base.ts';
import { GuestFault, type HelperContext, type MemoryPort } from '../../packages/cpu/src/semantics/helper.ts';
import { HELPERS } from '../../packages/cpu/src/semantics/helpers/index.ts';
import { SEMANTICS } from '../../packages/cpu/src/semantics/index.ts';
import { ModuleBuilder } from '../../packages/cpu/src/wasm/builder.ts';
import { wasmOp } from '../../packages/cpu/src/wasm/ops.ts';

interface Value {
  readonly type: ValueType;
  /** Bit pattern, unsigned. */
  readonly bits: bigint;
}

const TYPE_BITS: Readonly<Record<ValueType, number>> = { i32: 32, i64: 64, f32: 32, f64: 64, v128: 128 };
const scratch = new WebAssembly.Memory({ initial: 1 });
const view = new DataView(scratch.buffer);
const STRIDE = 16;
const RESULT = 128;
type Operation = () => void;
const compiled = new Map<string, Operation>();

function loadOperand(f: ReturnType<ModuleBuilder['function']>, type: ValueType, at: number): void {
  f.i32(at);
  if (type === 'i32') f.load32(0);
  else if (type === 'i64') f.load64(0);
  else if (type === 'f32') f.access(0x2a, 0);
  else if (type === 'f64') f.access(0x2b, 0);
  else f.simdAccess(0, 0);
}

function storeResult(f: ReturnType<ModuleBuilder['function']>, type: ValueType): void {
  if (type === 'i32') f.store32(0);
  else if (type === 'i64') f.store64(0);
  else if (type === 'f32') f.access(0x38, 0);
  else if (type === 'f64') f.access(0x39, 0);
  else f.simdAccess(11, 0);
}

/** A function that reads its operands from the scratch memory and leaves its result there. */
function operation(
  key: string,
  params: readonly ValueType[],
  result: ValueType,
  emit: (f: ReturnType<ModuleBuilder['function']>) => void,
): Operation {
  // prettier-ignore
  let known = compiled.get(key);
  if (!known) {
    const module = new ModuleBuilder();
    module.importMemory('env', 'memory', 1, undefined, false);
    const f = module.function([], [], 'run');
    f.i32(RESULT);
    params.forEach((type, n) => {
      loadOperand(f, type, n * STRIDE);
    });
    emit(f);
    storeResult(f, result);
    const bytes = module.build();
    const instance = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(bytes)), {
      env: { memory: scratch },
    });
    known = instance.exports['run'] as Operation;
    compiled.set(key, known);
  }
  return known;
}

function put(at: number, value: Value): void {
  view.setBigUint64(at, BigInt.asUintN(64, value.bits), true);
  view.setBigUint64(at + 8, value.bits >> 64n, true);
}

function take(type: ValueType): Value {
  const low = view.getBigUint64(RESULT, true);
  if (type === 'v128') return { type, bits: low | (view.getBigUint64(RESULT + 8, true) << 64n) };
  return { type, bits: BigInt.asUintN(TYPE_BITS[type], low) };
}

function execute(
  key: string,
  args: readonly Value[],
  params: readonly ValueType[],
  result: ValueType,
  emit: (f: ReturnType<ModuleBuilder['function']>) => void,
): Value {
  // prettier-ignore
  args.forEach((arg, n) => {
    if (arg.type !== params[n]) throw new Error(`${key}: argument ${n} is ${arg.type}, not ${String(params[n])}`);
    put(n * STRIDE, arg);
  });
  operation(key, params, result, emit)();
  return take(result);
}

/** Where an instruction went. */
export interface Evaluation {
  /** -1 when it completed. */
  vector: number;
  errorCode: number;
  address: bigint;
}

const ACCESS_BYTES: Readonly<Record<MemoryType, number>> = { u8: 1, s8: 1, u16: 2, s16: 2, u32: 4, u64: 8, f32: 4, f64: 8, v128: 16, 'v128.32': 4, 'v128.64': 8 }; // prettier-ignore

const isCanonical = (address: bigint): boolean => {
  const top = BigInt.asIntN(64, address) >> 47n;
  return top === 0n || top === -1n;
};

/** Ends a semantics function after its jump. */
export class Jumped {
  readonly reason = 'jump';
}

/** Semantics whose accesses are, apart from their operands, those of the stack. */
const STACK_SEMANTICS = new Set(['push', 'pop', 'popmem', 'call', 'callind', 'ret', 'leave', 'enter', 'pushf', 'popf', 'pushseg']); // prettier-ignore

/** A target that is not canonical faults after the semantics have moved the stack pointer. */
const TRANSFERS = new Set(['call', 'callind', 'ret']);

/** Memory that can be asked whether an access would fault. */
export interface ProbedMemory extends MemoryPort {
  probe(address: bigint, size: number, isWrite: boolean): void;
}

export class Evaluator extends AlgebraBase<Value> {
  readonly state = new CpuState(new Uint8Array(CPU_STATE_SIZE));
  readonly memory: ProbedMemory;
  instruction!: Instruction;
  operands: readonly OperandInfo[] = [];
  size: Width = 4;
  readonly mode: 64 | 32 = 64;
  nextRipValue = 0n;
  protected readonly addresses: bigint[] = [];
  protected jumpTarget: bigint | undefined;
  protected exited = -1;

  constructor(memory: ProbedMemory) {
    super();
    this.memory = memory;
  }

  get variant(): number { return this.instruction.row.variant; } // prettier-ignore
  get locked(): boolean { return this.instruction.lock; } // prettier-ignore
  get addressSize(): 2 | 4 | 8 { return this.instruction.addressSize; } // prettier-ignore
  get repeat(): 'none' | 'rep' | 'repne' { return this.instruction.row.repeatable ? this.instruction.repeat : 'none'; } // prettier-ignore
  get length(): number { return this.instruction.length; } // prettier-ignore

  /** Decodes and runs the instruction at `code`; RIP in the state must be that of it. */
  step(code: Uint8Array): Evaluation {
    const decoded = decodeInstruction(code, 64);
    if (decoded === 'too-long') return { vector: 13, errorCode: 0, address: 0n };
    if (typeof decoded === 'string') return { vector: 6, errorCode: -1, address: 0n };
    this.instruction = decoded;
    this.operands = decoded.operands;
    this.size = semanticSize(decoded);
    this.nextRipValue = this.state.rip + BigInt(decoded.length);
    this.jumpTarget = undefined;
    this.exited = -1;
    const stackPointer = this.state.rsp;
    try {
      const semantics = SEMANTICS[decoded.row.semantics];
      if (!semantics) throw new Error(`no semantics '${decoded.row.semantics}'`);
      decoded.operands.forEach((operand, n) => {
        if (operand.kind === 'memory') this.addresses[n] = this.linear(operand);
      });
      semantics(this);
    } catch (e) {
      if (e instanceof GuestFault) {
        if (TRANSFERS.has(decoded.row.semantics)) this.state.rsp = stackPointer;
        return { vector: e.vector, errorCode: e.errorCode, address: e.address };
      }
      if (!(e instanceof Jumped)) throw e;
    }
    if (this.exited >= 0) return { vector: this.exited, errorCode: 0, address: 0n };
    // Typed anew: the semantics set it behind the compiler's back.
    const target = this.jumpTarget as bigint | undefined;
    this.state.rip = target ?? this.nextRipValue;
    return { vector: -1, errorCode: 0, address: 0n };
  }

  protected linear(operand: MemoryOperand): bigint {
    const { state } = this;
    let base = operand.base === -2 ? this.nextRipValue : operand.base >= 0 ? state.gpr(operand.base) : 0n;
    if (this.instruction.row.semantics === 'popmem' && operand.base === 4) base += BigInt(this.size);
    const index = operand.index >= 0 ? state.gpr(operand.index) << BigInt(Math.log2(operand.scale)) : 0n;
    let offset = BigInt.asUintN(64, base + index + operand.displacement);
    if (this.instruction.addressSize === 4) offset &= 0xffff_ffffn;
    if (this.instruction.row.semantics === 'lea') return offset;
    const segmentBase = operand.segment >= 4 ? state.segmentBase(operand.segment) : 0n;
    return BigInt.asUintN(64, offset + segmentBase);
  }

  typeOf(value: Value): ValueType { return value.type; } // prettier-ignore
  i32(value: number): Value { return { type: 'i32', bits: BigInt(value >>> 0) }; } // prettier-ignore
  i64(value: bigint | number): Value { return { type: 'i64', bits: BigInt.asUintN(64, BigInt(value)) }; } // prettier-ignore
  v128(bytes: Uint8Array): Value {
    let bits = 0n;
    for (let n = 15; n >= 0; n--) bits = (bits << 8n) | BigInt(bytes[n] ?? 0);
    return { type: 'v128', bits };
  }
  op(name: string, ...args: Value[]): Value {
    const { params, result } = wasmOp(name);
    return execute(name, args, params, result, (f) => f.op(name));
  }
  lane(name: string, lane: number, ...args: Value[]): Value {
    const { params, result } = wasmOp(name);
    return execute(`${name} ${lane}`, args, params, result, (f) => f.laneOp(name, lane));
  }
  shuffle(a: Value, b: Value, lanes: readonly number[]): Value {
    if (lanes.length !== 16) throw new Error('a shuffle has sixteen lanes');
    return execute(`shuffle ${lanes.join()}`, [a, b], ['v128', 'v128'], 'v128', (f) => f.shuffle(lanes));
  }
  select(condition: Value, ifTrue: Value, ifFalse: Value): Value {
    if (condition.type !== 'i32' || ifTrue.type !== ifFalse.type) throw new Error('bad select');
    return condition.bits !== 0n ? ifTrue : ifFalse;
  }

  private integer(size: number, bits: bigint): Value {
    return { type: size === 8 ? 'i64' : 'i32', bits: BigInt.asUintN(8 * size, bits) };
  }
  protected operand(n: number): Operand {
    const operand = this.instruction.operands[n];
    if (!operand) throw new Error(`no operand ${n}`);
    return operand;
  }
  read(n: number): Value {
    const o = this.operand(n);
    switch (o.kind) {
      case 'register':
        return this.integer(o.size, this.state.gpr(o.register) >> (o.high ? 8n : 0n));
      case 'memory': {
        const address = this.address(n);
        if (!this.instruction.operands.some((other) => other.kind === 'xmm')) return this.load(({ 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' } as const)[o.size as Width], address); // prettier-ignore
        return this.load(o.size === 4 ? 'v128.32' : o.size === 8 ? 'v128.64' : 'v128', address);
      }
      case 'immediate':
        return this.integer(o.size, o.value);
      case 'relative':
        return this.integer(o.size, BigInt(o.value));
      case 'xmm':
        return this.xmm(o.register);
      case 'mmx':
        return { type: 'i64', bits: this.state.dv.getBigUint64(OFFSET.fpr + 16 * o.register, true) };
      case 'far':
        throw new Error('far operands are not for this');
      default:
        return this.i32(o.register);
    }
  }
  write(n: number, value: Value): void {
    const o = this.operand(n);
    switch (o.kind) {
      case 'register':
        this.expect(value, o.size === 8 ? 'i64' : 'i32');
        if (o.high)
          this.state.setGpr(o.register, (this.state.gpr(o.register) & ~0xff00n) | ((value.bits & 0xffn) << 8n));
        else this.setGpr(o.register, o.size as Width, value);
        return;
      case 'memory':
        if (value.type === 'v128')
          this.store(o.size === 4 ? 'v128.32' : o.size === 8 ? 'v128.64' : 'v128', this.address(n), value); // prettier-ignore
        else this.store(({ 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' } as const)[o.size as Width], this.address(n), value);
        return;
      case 'xmm':
        this.expect(value, 'v128');
        this.setXmm(o.register, value);
        return;
      case 'mmx':
        this.expect(value, 'i64');
        this.state.dv.setBigUint64(OFFSET.fpr + 16 * o.register, value.bits, true);
        this.state.dv.setUint16(OFFSET.fpr + 16 * o.register + 8, 0xffff, true);
        return;
      default:
        throw new Error(`operand ${n} cannot be written`);
    }
  }
  private expect(value: Value, type: ValueType): void {
    if (value.type !== type) throw new Error(`${this.instruction.row.mnemonic}: ${value.type} where ${type} belongs`);
  }
  updateMemory(address: Value, size: Width, change: (old: Value) => Value): Value {
    this.checkAccess(address.bits, size, true);
    this.canonical(address.bits, size);
    // Writability first, as a real read-modify-write has it.
    this.memory.probe(address.bits, size, true);
    const old = this.memory.read(address.bits, size);
    const value = change(this.integer(size, old));
    this.memory.write(address.bits, size, BigInt.asUintN(8 * size, value.bits));
    return value;
  }
  segment(): Value {
    const source = this.instruction.operands.find((o) => o.kind === 'memory' && o.segment !== 0) as MemoryOperand | undefined; // prettier-ignore
    const override = this.instruction.segmentOverride;
    return this.i32(override >= 0 ? override : (source?.segment ?? 3));
  }
  address(n: number): Value {
    return { type: 'i64', bits: this.addresses[n] ?? 0n };
  }
  offset(n: number): Value {
    return this.address(n);
  }
  /** Before each access: what is checked outside flat 64-bit mode. */
  protected checkAccess(_address: bigint, _size: number, _isWrite: boolean): void {
    // Nothing in a flat segment.
  }
  /** #SS instead of #GP where the address was made with the stack segment. */
  private canonical(address: bigint, size: number): void {
    const last = BigInt.asUintN(64, address + BigInt(size - 1));
    if (isCanonical(address) && isCanonical(last)) return;
    this.fault(this.isStackAddress(address) ? 12 : 13, 0);
  }
  private isStackAddress(address: bigint): boolean {
    const { operands, row } = this.instruction;
    const exact = operands.find((o, n) => o.kind === 'memory' && this.addresses[n] === address);
    const operand = exact ?? operands.find((o) => o.kind === 'memory' && !STACK_SEMANTICS.has(row.semantics));
    return operand?.kind === 'memory' ? operand.segment === 2 : STACK_SEMANTICS.has(row.semantics);
  }
  load(type: MemoryType, address: Value): Value {
    this.expect(address, 'i64');
    this.checkAccess(address.bits, ACCESS_BYTES[type], false);
    this.canonical(address.bits, 1);
    if (type === 'v128' || type === 'v128.32' || type === 'v128.64') {
      const size = type === 'v128' ? 16 : type === 'v128.32' ? 4 : 8;
      const bytes = new Uint8Array(size);
      this.memory.readBytes(address.bits, bytes);
      const padded = new Uint8Array(16);
      padded.set(bytes);
      return this.v128(padded);
    }
    const size = ({ u8: 1, s8: 1, u16: 2, s16: 2, u32: 4, u64: 8, f32: 4, f64: 8 } as const)[type];
    const bits = this.memory.read(address.bits, size);
    if (type === 'f32' || type === 'f64') return { type, bits };
    if (type === 's8' || type === 's16') return this.i32(Number(BigInt.asIntN(8 * size, bits)));
    return this.integer(size, bits);
  }
  store(type: MemoryType, address: Value, value: Value): void {
    const size = ACCESS_BYTES[type];
    if (size < 16 && !type.startsWith('v128')) this.expect(value, ({ u64: 'i64', f32: 'f32', f64: 'f64' } as Record<string, ValueType>)[type] ?? 'i32'); // prettier-ignore
    this.checkAccess(address.bits, size, true);
    this.canonical(address.bits, 1);
    const bytes = new Uint8Array(size);
    for (let n = 0; n < size; n++) bytes[n] = Number((value.bits >> BigInt(8 * n)) & 0xffn);
    this.memory.writeBytes(address.bits, bytes);
  }
  gpr(n: number, size: Width): Value {
    return this.integer(size, this.state.gpr(n));
  }
  setGpr(n: number, size: Width, value: Value): void {
    this.expect(value, size === 8 ? 'i64' : 'i32');
    const mask = (1n << BigInt(8 * size)) - 1n;
    const old = size >= 4 ? 0n : this.state.gpr(n) & ~mask;
    this.state.setGpr(n, old | (value.bits & mask));
  }
  xmm(n: number): Value {
    return this.v128(this.state.xmm(n));
  }
  setXmm(n: number, value: Value): void {
    this.expect(value, 'v128');
    const target = this.state.xmm(n);
    for (let i = 0; i < 16; i++) target[i] = Number((value.bits >> BigInt(8 * i)) & 0xffn);
  }
  private vectorRegister(n: number): number {
    const o = this.operand(n);
    if (o.kind !== 'xmm') throw new Error(`operand ${n} is no vector register`);
    return o.register;
  }
  readHigh(n: number): Value {
    return this.v128(this.state.ymmHigh(this.vectorRegister(n)));
  }
  writeHigh(n: number, value: Value): void {
    this.setYmmHigh(this.vectorRegister(n), value);
  }
  setYmmHigh(n: number, value: Value): void {
    this.expect(value, 'v128');
    const target = this.state.ymmHigh(n);
    for (let i = 0; i < 16; i++) target[i] = Number((value.bits >> BigInt(8 * i)) & 0xffn);
  }
  fprSignificand(n: Value): Value {
    return this.i64(this.state.dv.getBigUint64(OFFSET.fpr + 16 * Number(n.bits), true));
  }
  fprExponent(n: Value): Value {
    return this.i32(this.state.dv.getUint16(OFFSET.fpr + 16 * Number(n.bits) + 8, true));
  }
  setFpr(n: Value, significand: Value, exponent: Value): void {
    this.expect(significand, 'i64');
    this.expect(exponent, 'i32');
    this.state.dv.setBigUint64(OFFSET.fpr + 16 * Number(n.bits), significand.bits, true);
    this.state.dv.setUint16(OFFSET.fpr + 16 * Number(n.bits) + 8, Number(exponent.bits & 0xffffn), true);
  }
  field(name: CpuField): Value {
    const type = FIELDS[name];
    const at = OFFSET[name];
    if (type === 'u64') return this.i64(this.state.dv.getBigUint64(at, true));
    return this.i32(type === 'u16' ? this.state.dv.getUint16(at, true) : this.state.dv.getUint32(at, true));
  }
  setField(name: CpuField, value: Value): void {
    const type = FIELDS[name];
    const at = OFFSET[name];
    this.expect(value, type === 'u64' ? 'i64' : 'i32');
    if (type === 'u64') this.state.dv.setBigUint64(at, value.bits, true);
    else if (type === 'u16') this.state.dv.setUint16(at, Number(value.bits & 0xffffn), true);
    else this.state.dv.setUint32(at, Number(value.bits), true);
  }
  stackRead(size: Width, pointer: Value): Value {
    return this.load(({ 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' } as const)[size], pointer);
  }
  setStackPointer(pointer: Value): void {
    this.setGpr(4, 8, pointer);
  }
  push(size: Width, value: Value): void {
    const pointer = this.i64(this.state.rsp - BigInt(size));
    this.store(({ 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' } as const)[size], pointer, value);
    this.setGpr(4, 8, pointer);
  }

  // Flags are kept unfolded: each setter computes all six at once.
  private setFlags(bits: number): void {
    Object.assign(this.state, lazyFrom(BigInt(bits)));
  }
  private lazy(kind: number, size: Width, a: bigint, b: bigint, r: bigint): void {
    const signed = (value: bigint): bigint => BigInt.asUintN(64, BigInt.asIntN(8 * size, value));
    this.setFlags(Number(flagsOf({ ccKind: kind | (Math.log2(size) << 4), ccA: signed(a), ccB: signed(b), ccResult: signed(r) }))); // prettier-ignore
  }
  flagsSub(size: Width, a: Value, b: Value, r: Value): void { this.lazy(0, size, a.bits, b.bits, r.bits); } // prettier-ignore
  flagsAdd(size: Width, a: Value, b: Value, r: Value): void { this.lazy(1, size, a.bits, b.bits, r.bits); } // prettier-ignore
  flagsInc(size: Width, r: Value): void { this.lazy(2, size, this.carry().bits, 0n, r.bits); } // prettier-ignore
  flagsDec(size: Width, r: Value): void { this.lazy(3, size, this.carry().bits, 0n, r.bits); } // prettier-ignore
  flagsShift(kind: 'shl' | 'shr' | 'sar', size: Width, a: Value, count: Value, r: Value): void {
    const signed = (value: bigint): bigint => BigInt.asUintN(64, BigInt.asIntN(8 * size, value));
    const ccA = kind === 'sar' ? signed(a.bits) : BigInt.asUintN(8 * size, a.bits);
    this.setFlags(Number(flagsOf({ ccKind: { shl: 4, shr: 5, sar: 6 }[kind] | (Math.log2(size) << 4), ccA, ccB: count.bits, ccResult: signed(r.bits) }))); // prettier-ignore
  }
  flagsResult(size: Width, r: Value, bits: Value): void {
    const signed = BigInt.asUintN(64, BigInt.asIntN(8 * size, r.bits));
    this.setFlags(Number(flagsOf({ ccKind: 7 | (Math.log2(size) << 4), ccA: bits.bits & BigInt(FLAG.cf | FLAG.af | FLAG.of), ccB: 0n, ccResult: signed }))); // prettier-ignore
  }
  flagsChange(mask: number, bits: Value): void {
    const old = Number(flagsOf(this.state));
    this.setFlags((old & ~mask) | (Number(bits.bits) & mask));
  }
  flags(): Value { return this.i32(Number(flagsOf(this.state))); } // prettier-ignore
  carry(): Value { return this.i32(Number(flagsOf(this.state) & 1n)); } // prettier-ignore
  condition(code: number): Value {
    const flags = Number(flagsOf(this.state));
    const has = (flag: number): boolean => (flags & flag) !== 0;
    const less = has(FLAG.sf) !== has(FLAG.of);
    const base = [has(FLAG.of), has(FLAG.cf), has(FLAG.zf), has(FLAG.cf) || has(FLAG.zf), has(FLAG.sf), has(FLAG.pf), less, less || has(FLAG.zf)][code >> 1]; // prettier-ignore
    return this.i32(Number(base !== ((code & 1) !== 0)));
  }

  when(condition: Value, then: () => void, otherwise?: () => void): void {
    if (condition.bits !== 0n) then();
    else otherwise?.();
  }
  choose(type: ValueType, condition: Value, then: () => Value, otherwise: () => Value): Value {
    this.expect(condition, 'i32');
    const value = condition.bits !== 0n ? then() : otherwise();
    this.expect(value, type);
    return value;
  }
  nextRip(): Value {
    return this.i64(this.nextRipValue);
  }
  jump(target: Value): void {
    if (!isCanonical(target.bits)) this.fault(13, 0);
    this.jumpTarget = target.bits;
    throw new Jumped();
  }
  jumpRelative(n: number): void {
    const operand = this.operand(n);
    if (operand.kind !== 'relative') throw new Error('not relative');
    this.jump(this.i64(this.nextRipValue + BigInt(operand.value)));
  }
  again(): void {
    this.jump(this.i64(this.state.rip));
  }
  fault(vector: number, errorCode?: number): never {
    throw new GuestFault(vector, errorCode ?? -1);
  }
  helper(name: string, ...args: Value[]): Value {
    const helper = HELPERS[name];
    if (!helper) throw new Error(`no helper '${name}'`);
    try {
      const result = helper(this.helperContext(), args.map((arg) => arg.bits)); // prettier-ignore
      return this.i64(typeof result === 'bigint' ? result : 0n);
    } catch (e) {
      // A helper has a linear address and does not know that it was made with the stack segment.
      const isStack = this.instruction.operands.some((o, n) => o.kind === 'memory' && o.segment === 2 && !isCanonical(this.addresses[n] ?? 0n)); // prettier-ignore
      if (e instanceof GuestFault && e.vector === 13 && e.address !== 0n && isStack) throw new GuestFault(12, 0);
      throw e;
    }
  }

  /** What helpers ask for. */
  protected helperContext(): HelperContext {
    return {
      state: this.state,
      memory: this.memory,
      monitor: true,
      nextRip: this.nextRipValue,
      length: this.instruction.length,
      cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
      readTsc: () => 0n,
      fault: (vector, errorCode) => this.fault(vector, errorCode),
      exit: (reason, done, details) => {
        if (done && reason === ExitReason.pause) return;
        this.exited = details?.vector ?? OTHER_EXIT + reason;
      },
      jump: (rip) => {
        this.jumpTarget = rip;
      },
      changed: () => undefined,
      attend: () => undefined,
      deliver: () => undefined,
      invalidatePage: () => undefined,
      busLock: (body) => {
        body();
      },
      exclusively: (body) => {
        body();
      },
      readPhysical: () => 0n,
    };
  }
}

/** Exits that are no exception are told as this plus their reason. */
const OTHER_EXIT = 0x100;

/** As the interpreter has it (`interpreter/handlers.ts`). */
export function semanticSize(instruction: Instruction): Width {
  const { row, operandSize, operands } = instruction;
  if (row.sizeRule !== 'fixed') return operandSize;
  const size = operands[0]?.size ?? operandSize;
  return size === 1 || size === 2 || size === 8 ? size : 4;
}
