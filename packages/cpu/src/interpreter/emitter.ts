/**
 * The algebra as a generator of WebAssembly: values are locals or constants, operands are fields of the record that
 * the handler runs on. Where code ends up (inside the interpreter's loop, or in a function of its own) is the frame's
 * matter.
 */
import { CC } from '../engine/flags.ts';
import { FIELDS, OFFSET } from '../engine/state.ts';
import type { CpuField } from '../engine/state.ts';
import type { MemoryType, OperandInfo, ValueType, Width } from '../semantics/algebra.ts';
import { AlgebraBase, log2, memoryType } from '../semantics/base.ts';
import { LOADS, STORES } from '../wasm/builder.ts';
import type { FunctionBuilder, FunctionRef } from '../wasm/builder.ts';
import { wasmOp } from '../wasm/ops.ts';
import { RECORD, TLB_READ, TLB_WRITE } from './memory-map.ts';

export const MACHINE = 1;
/** The number of a helper's arguments stands above its id. */
export const HELPER_ARITY_SHIFT = 16;

export interface Value {
  readonly type: ValueType;
  /** -1 for constants. */
  readonly local: number;
  readonly constant: bigint;
  readonly bytes?: Uint8Array;
}

/** Functions of the slow-path module and of the host that handlers call. */
export interface SlowImports {
  load: Readonly<Record<number, FunctionRef>>;
  store: Readonly<Record<number, FunctionRef>>;
  /** (address, size, record) -> machine address, or -1: value in `bounce`, write it by `store`. */
  rmw: FunctionRef;
  /** (kind, result, a, b) -> the six flags. */
  flags: FunctionRef;
  /** (kind, result, a, b) -> 0 or 1. */
  carry: FunctionRef;
  /** (code, kind, result, a, b) -> 0 or 1. */
  condition: FunctionRef;
  /** (id, record) -> SIGNAL. */
  helper: FunctionRef;
}

export type CcField = 'ccKind' | 'ccResult' | 'ccA' | 'ccB';

/** Where a handler's code stands. */
export interface Frame {
  readonly f: FunctionBuilder;
  /** Local with the record's address. */
  readonly record: number;
  pushView(): void;
  getCc(field: CcField): void;
  /** Pops the value into the field. */
  setCc(field: CcField): void;
  /** Ends the handler: a fault or the like stands in the state. */
  fault(): void;
  /** Ends the handler at another RIP (i64 local). */
  jump(target: Value): void;
  /** Ends the handler at the record's branch target. */
  taken(): void;
  again(): void;
  next(): void;
  /** With the result of a helper on the stack: ends the handler unless it is 0. */
  helperResult(): void;
}

/** What a handler is made for. */
export interface HandlerShape {
  readonly semantics: string;
  readonly size: Width;
  readonly mode: 64 | 32;
  readonly variant: number;
  readonly operands: readonly (OperandInfo & {
    readonly constant?: bigint;
    readonly indexed?: boolean;
    readonly vector?: boolean;
  })[];
  readonly locked: boolean;
  readonly addressSize: 2 | 4 | 8;
  readonly repeat: 'none' | 'rep' | 'repne';
}

/** Local variables by type, reused from handler to handler. */
export class TemporaryPool {
  private readonly f: FunctionBuilder;
  private readonly locals: Record<ValueType, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  private readonly used: Record<ValueType, number> = { i32: 0, i64: 0, f32: 0, f64: 0, v128: 0 };
  constructor(f: FunctionBuilder) {
    this.f = f;
  }
  take(type: ValueType): number {
    const n = this.used[type]++;
    return (this.locals[type][n] ??= this.f.local(type));
  }
  release(): void {
    for (const type of Object.keys(this.used) as ValueType[]) this.used[type] = 0;
  }
}

const SIZE_OF: Record<MemoryType, number> = { u8: 1, s8: 1, u16: 2, s16: 2, u32: 4, u64: 8, f32: 4, f64: 8, v128: 16, 'v128.32': 4, 'v128.64': 8 }; // prettier-ignore

export class HandlerEmitter extends AlgebraBase<Value> {
  readonly size: Width;
  readonly mode: 64 | 32;
  readonly variant: number;
  readonly operands: HandlerShape['operands'];
  readonly locked: boolean;
  readonly addressSize: 2 | 4 | 8;
  readonly repeat: 'none' | 'rep' | 'repne';
  private readonly frame: Frame;
  private readonly f: FunctionBuilder;
  private readonly slow: SlowImports;
  private readonly temporaries: TemporaryPool;
  private readonly helperIds: ReadonlyMap<string, number>;
  /** Effective addresses already made, by operand. */
  private readonly addresses = new Map<number, Value>();
  /** The flags are known to be those of a plain comparison that this handler made itself. */
  flagsAreCompare = false;

  constructor(
    shape: HandlerShape,
    modules: { frame: Frame; slow: SlowImports; temporaries: TemporaryPool; helperIds: ReadonlyMap<string, number> },
  ) {
    super();
    this.size = shape.size;
    this.mode = shape.mode;
    this.variant = shape.variant;
    this.operands = shape.operands;
    this.locked = shape.locked;
    this.addressSize = shape.addressSize;
    this.repeat = shape.repeat;
    this.frame = modules.frame;
    this.f = modules.frame.f;
    this.slow = modules.slow;
    this.temporaries = modules.temporaries;
    this.helperIds = modules.helperIds;
  }

  // Values
  typeOf(value: Value): ValueType {
    return value.type;
  }
  i32(value: number): Value {
    return { type: 'i32', local: -1, constant: BigInt(value | 0) };
  }
  i64(value: bigint | number): Value {
    return { type: 'i64', local: -1, constant: BigInt.asIntN(64, BigInt(value)) };
  }
  v128(bytes: Uint8Array): Value {
    return { type: 'v128', local: -1, constant: 0n, bytes };
  }
  private push1(value: Value): void {
    if (value.local >= 0) this.f.get(value.local);
    else if (value.type === 'i32') this.f.i32(Number(value.constant));
    else if (value.type === 'i64') this.f.i64(value.constant);
    else this.f.v128(value.bytes ?? new Uint8Array(16));
  }
  /** Pops the top of the Wasm stack into a temporary. */
  private bind(type: ValueType): Value {
    const local = this.temporaries.take(type);
    this.f.set(local);
    return { type, local, constant: 0n };
  }
  op(name: string, ...args: Value[]): Value {
    for (const a of args) this.push1(a);
    this.f.op(name);
    return this.bind(wasmOp(name).result);
  }
  lane(name: string, lane: number, ...args: Value[]): Value {
    for (const a of args) this.push1(a);
    this.f.laneOp(name, lane);
    return this.bind(wasmOp(name).result);
  }
  shuffle(a: Value, b: Value, lanes: readonly number[]): Value {
    this.push1(a);
    this.push1(b);
    this.f.shuffle(lanes);
    return this.bind('v128');
  }
  select(condition: Value, ifTrue: Value, ifFalse: Value): Value {
    this.push1(ifTrue);
    this.push1(ifFalse);
    this.push1(condition);
    if (ifTrue.type === 'v128') this.f.selectTyped('v128');
    else this.f.select();
    return this.bind(ifTrue.type);
  }

  // Operands
  private registerField(n: number): number {
    let seen = 0;
    for (let i = 0; i < n; i++) {
      const kind = this.operands[i]?.kind;
      if (kind && kind !== 'memory' && kind !== 'immediate' && kind !== 'relative' && kind !== 'far') seen++;
    }
    return [RECORD.a, RECORD.b, RECORD.c][seen] ?? RECORD.c;
  }
  private immediateField(n: number): number {
    return this.operands.slice(0, n).some((o) => o.kind === 'immediate') ? RECORD.disp : RECORD.imm;
  }
  /** Leaves the state address of register operand `n` on the stack. */
  private pushRegisterAddress(n: number): void {
    this.f.get(this.frame.record).load16(this.registerField(n));
  }
  private loadFrom(size: number, offset: number): Value {
    if (size === 1) this.f.load8(offset);
    else if (size === 2) this.f.load16(offset);
    else if (size === 4) this.f.load32(offset);
    else this.f.load64(offset);
    return this.bind(size === 8 ? 'i64' : 'i32');
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
  /** With the register's address on the stack. */
  private storeRegister(size: number, offset: number, value: Value): void {
    this.push1(value);
    if (size === 8) this.f.store64(offset);
    else if (size === 4) this.f.op('i64.extend_i32_u').store64(offset);
    else if (size === 2) this.f.access(0x3b, offset);
    else this.f.access(0x3a, offset);
  }
  gpr(n: number, size: Width): Value {
    this.f.i32(0);
    return this.loadFrom(size, OFFSET.rax + 8 * n);
  }
  setGpr(n: number, size: Width, value: Value): void {
    this.f.i32(0);
    this.storeRegister(size, OFFSET.rax + 8 * n, value);
  }
  xmm(n: number): Value {
    this.f.i32(0).simdAccess(0, OFFSET.xmm + 32 * n);
    return this.bind('v128');
  }
  setXmm(n: number, value: Value): void {
    this.f.i32(0);
    this.push1(value);
    this.f.simdAccess(11, OFFSET.xmm + 32 * n);
  }
  /** Leaves the state address of physical x87 register `n`, less the offset of the registers. */
  private pushFprIndex(n: Value): void {
    this.push1(n);
    this.f.i32(4).op('i32.shl');
  }
  fprSignificand(n: Value): Value {
    this.pushFprIndex(n);
    return this.loadFrom(8, OFFSET.fpr);
  }
  fprExponent(n: Value): Value {
    this.pushFprIndex(n);
    return this.loadFrom(2, OFFSET.fpr + 8);
  }
  setFpr(n: Value, significand: Value, exponent: Value): void {
    this.pushFprIndex(n);
    this.push1(significand);
    this.f.store64(OFFSET.fpr);
    this.pushFprIndex(n);
    this.push1(exponent);
    this.f.access(0x3b, OFFSET.fpr + 8);
  }
  field(name: CpuField): Value {
    if (name === 'ccKind' || name === 'ccResult' || name === 'ccA' || name === 'ccB') throw new Error('use flags()');
    const type = FIELDS[name];
    this.f.i32(0);
    return this.loadFrom(type === 'u64' ? 8 : type === 'u16' ? 2 : 4, OFFSET[name]);
  }
  setField(name: CpuField, value: Value): void {
    const type = FIELDS[name];
    this.f.i32(0);
    this.push1(value);
    if (type === 'u64') this.f.store64(OFFSET[name]);
    else if (type === 'u16') this.f.access(0x3b, OFFSET[name]);
    else this.f.store32(OFFSET[name]);
  }

  // Memory
  address(n: number): Value {
    const known = this.addresses.get(n);
    if (known) return known;
    const operand = this.operands[n];
    const { f } = this;
    const record = this.frame.record;
    f.get(record).load16(RECORD.base).load64(0);
    if (operand?.indexed !== false) {
      f.get(record).load16(RECORD.index).load64(0);
      f.get(record).access(0x31, RECORD.scale); // i64.load8_u
      f.op('i64.shl').op('i64.add');
    }
    f.get(record).access(0x34, RECORD.disp).op('i64.add'); // i64.load32_s
    const address = this.bind('i64');
    this.addresses.set(n, address);
    return address;
  }
  offset(n: number): Value {
    return this.address(n);
  }
  segment(): Value {
    this.f.get(this.frame.record);
    return this.loadFrom(2, RECORD.c);
  }
  /** Address of the TLB entry for `address` as a new i32 temporary. */
  private tlbEntry(address: Value): Value {
    this.push1(address);
    this.f.op('i32.wrap_i64').i32(8).op('i32.shr_u').i32(0x3ff0).op('i32.and');
    this.frame.pushView();
    this.f.op('i32.add');
    return this.bind('i32');
  }
  /** Leaves 1 when the entry translates all `size` bytes at `address`. */
  private pushHit(entry: Value, address: Value, size: number, table: number): void {
    this.push1(entry);
    this.f.load64(table);
    this.push1(address);
    if (size > 1) this.f.i64(size - 1).op('i64.add');
    this.f.i64(-4096).op('i64.and').op('i64.eq');
  }
  private pushHost(entry: Value, address: Value, table: number): void {
    this.push1(address);
    this.f.op('i32.wrap_i64');
    this.push1(entry);
    this.f.load32(table + 8).op('i32.add');
  }
  private checkSignal(): void {
    this.f.i32(0).load32(OFFSET.signal).if();
    this.frame.fault();
    this.f.end();
  }
  load(type: MemoryType, address: Value): Value {
    const size = SIZE_OF[type];
    const entry = this.tlbEntry(address);
    const { f } = this;
    this.pushHit(entry, address, size, TLB_READ);
    if (type === 'v128' || type === 'v128.32' || type === 'v128.64') {
      f.if('v128');
      this.pushHost(entry, address, TLB_READ);
      f.simdAccess(type === 'v128' ? 0 : type === 'v128.32' ? 92 : 93, 0, MACHINE);
      f.else();
      if (type !== 'v128') f.v128(new Uint8Array(16));
      this.slowLoad(size, address);
      if (type === 'v128.32') f.laneOp('i32x4.replace_lane', 0);
      if (type === 'v128.64') f.laneOp('i64x2.replace_lane', 0);
      f.end();
      return this.bind('v128');
    }
    const [opcode, , valueType] = LOADS[type];
    f.if(valueType);
    this.pushHost(entry, address, TLB_READ);
    f.access(opcode, 0, MACHINE);
    f.else();
    this.slowLoad(size, address);
    if (type === 's8') f.op('i32.extend8_s');
    if (type === 's16') f.op('i32.extend16_s');
    if (type === 'f32') f.op('f32.reinterpret_i32');
    if (type === 'f64') f.op('f64.reinterpret_i64');
    f.end();
    return this.bind(valueType);
  }
  private slowLoad(size: number, address: Value): void {
    this.push1(address);
    this.f.get(this.frame.record);
    this.callSlow(this.slow.load[size]);
    this.checkSignal();
  }
  private callSlow(f: FunctionRef | undefined): void {
    if (!f) throw new Error('no slow path of that size');
    this.f.call(f);
  }
  private slowStore(size: number, address: Value, value: Value): void {
    this.push1(address);
    this.push1(value);
    if (value.type === 'f32') this.f.op('i32.reinterpret_f32');
    if (value.type === 'f64') this.f.op('i64.reinterpret_f64');
    this.f.get(this.frame.record);
    this.callSlow(this.slow.store[size]);
    this.checkSignal();
  }
  store(type: MemoryType, address: Value, value: Value): void {
    if (type === 'v128.64') {
      this.store('u64', address, this.lane('i64x2.extract_lane', 0, value));
      return;
    }
    if (type === 'v128.32') {
      this.store('u32', address, this.lane('i32x4.extract_lane', 0, value));
      return;
    }
    const size = SIZE_OF[type];
    const entry = this.tlbEntry(address);
    const { f } = this;
    this.pushHit(entry, address, size, TLB_WRITE);
    f.if();
    this.pushHost(entry, address, TLB_WRITE);
    this.push1(value);
    if (type === 'v128') f.simdAccess(11, 0, MACHINE);
    else f.access(STORES[type][0], 0, MACHINE);
    f.else();
    this.slowStore(size, address, value);
    f.end();
  }
  update(n: number, change: (old: Value) => Value, atomic = this.locked): Value {
    const operand = this.operands[n];
    if (operand?.kind === 'memory') return this.updateMemory(this.address(n), operand.size as Width, change, atomic);
    const value = change(this.read(n));
    this.write(n, value);
    return value;
  }
  updateMemory(address: Value, size: Width, change: (old: Value) => Value, atomic = this.locked): Value {
    const { f } = this;
    const type = memoryType(size) as 'u8' | 'u16' | 'u32' | 'u64';
    const [loadOpcode, , valueType] = LOADS[type];
    const entry = this.tlbEntry(address);
    this.pushHit(entry, address, size, TLB_WRITE);
    f.if('i32');
    this.pushHost(entry, address, TLB_WRITE);
    f.else();
    this.push1(address);
    f.i32(size).get(this.frame.record).call(this.slow.rmw);
    this.checkSignal();
    f.end();
    const host = this.bind('i32');
    const direct = (): void => {
      this.push1(host);
      f.i32(-1).op('i32.ne');
    };
    direct();
    f.if(valueType);
    this.push1(host);
    f.access(loadOpcode, 0, MACHINE);
    f.else();
    f.i32(0).access(loadOpcode, OFFSET.bounce);
    f.end();
    const old = this.bind(valueType);
    if (!atomic) {
      const value = change(old);
      direct();
      f.if();
      this.push1(host);
      this.push1(value);
      f.access(STORES[type][0], 0, MACHINE);
      f.else();
      this.slowStore(size, address, value);
      f.end();
      return value;
    }
    const loop = f.loop();
    const value = change(old);
    direct();
    f.if();
    if (size > 1) {
      this.push1(host);
      f.i32(size - 1)
        .op('i32.and')
        .op('i32.eqz')
        .if();
    }
    this.push1(host);
    this.push1(old);
    this.push1(value);
    f.atomicAccess({ 1: 0x4a, 2: 0x4b, 4: 0x48, 8: 0x49 }[size], log2(size), MACHINE);
    const seen = this.bind(valueType);
    this.push1(seen);
    this.push1(old);
    f.op(`${valueType}.ne`).if();
    f.get(seen.local).set(old.local).br(loop).end();
    if (size > 1) {
      f.else();
      // Not aligned: a bus lock on real machines; here only a plain read and write (docs/LIMITS.md).
      this.push1(host);
      this.push1(value);
      f.access(STORES[type][0], 0, MACHINE);
      f.end();
    }
    f.else();
    this.slowStore(size, address, value);
    f.end();
    f.end();
    return value;
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

  // Flags
  private setCc(field: CcField, value: Value): void {
    this.push1(value);
    this.frame.setCc(field);
  }
  private getCc(field: CcField): Value {
    this.frame.getCc(field);
    return this.bind(field === 'ccKind' ? 'i32' : 'i64');
  }
  private setKind(kind: number, size: Width): void {
    this.setCc('ccKind', this.i32(kind | (log2(size) << 4)));
  }
  private flagsOperands(kind: number, size: Width, a: Value, b: Value, r: Value): void {
    this.setCc('ccA', this.signExtend(size, a));
    this.setCc('ccB', this.signExtend(size, b));
    this.setCc('ccResult', this.signExtend(size, r));
    this.setKind(kind, size);
  }
  flagsSub(size: Width, a: Value, b: Value, r: Value): void {
    this.flagsOperands(CC.sub, size, a, b, r);
  }
  flagsAdd(size: Width, a: Value, b: Value, r: Value): void {
    this.flagsOperands(CC.add, size, a, b, r);
  }
  override flagsLogic(size: Width, r: Value): void {
    const result = this.signExtend(size, r);
    this.setCc('ccA', result);
    this.setCc('ccB', this.i64(0));
    this.setCc('ccResult', result);
    this.setKind(CC.sub, size);
  }
  flagsInc(size: Width, r: Value): void {
    this.incDec(CC.inc, size, r);
  }
  flagsDec(size: Width, r: Value): void {
    this.incDec(CC.dec, size, r);
  }
  private incDec(kind: number, size: Width, r: Value): void {
    this.setCc('ccA', this.extendU(this.carry()));
    this.setCc('ccResult', this.signExtend(size, r));
    this.setKind(kind, size);
  }
  flagsShift(kind: 'shl' | 'shr' | 'sar', size: Width, a: Value, count: Value, r: Value): void {
    const wide = (v: Value): Value => (v.type === 'i64' ? v : this.extendU(v));
    this.setCc('ccA', kind === 'sar' ? this.signExtend(size, a) : wide(a));
    this.setCc('ccB', wide(count));
    this.setCc('ccResult', this.signExtend(size, r));
    this.setKind(CC[kind], size);
  }
  flagsResult(size: Width, r: Value, bits: Value): void {
    this.setCc('ccResult', this.signExtend(size, r));
    this.setCc('ccA', this.extendU(bits));
    this.setKind(CC.explicit, size);
  }
  flagsChange(mask: number, bits: Value): void {
    const change = this.and(bits, this.i32(mask));
    const all = mask === 0x8d5 ? change : this.or(this.and(this.flags(), this.i32(~mask)), change);
    if (mask & 0xc4) {
      const zero = this.and(all, this.i32(0x40));
      const sign = this.shl(this.extendU(this.and(all, this.i32(0x80))), this.i64(56));
      const parity = this.select(this.and(all, this.i32(4)), this.i64(3), this.i64(1));
      this.setCc('ccResult', this.select(zero, this.i64(0), this.or(sign, parity)));
      const inverted = this.xor(this.and(all, this.i32(0x84)), this.i32(4));
      const kept = this.and(all, this.i32(0x811));
      this.setCc('ccA', this.extendU(this.or(kept, this.select(zero, inverted, this.i32(0)))));
    } else {
      const isExplicit = this.eq(this.and(this.getCc('ccKind'), this.i32(15)), this.i32(CC.explicit));
      const inverted = this.and(this.wrap(this.getCc('ccA')), this.i32(0x84));
      const kept = this.and(all, this.i32(0x811));
      this.setCc('ccA', this.extendU(this.or(kept, this.select(isExplicit, inverted, this.i32(0)))));
    }
    this.setKind(CC.explicit, 8);
  }
  private pushCc(): void {
    this.frame.getCc('ccKind');
    this.frame.getCc('ccResult');
    this.frame.getCc('ccA');
    this.frame.getCc('ccB');
  }
  flags(): Value {
    this.pushCc();
    this.f.call(this.slow.flags);
    return this.bind('i32');
  }
  /** With the kind known to be `sub` inline, else by the slow module. */
  private bySub(inline: () => void, otherwise: () => void): Value {
    this.frame.getCc('ccKind');
    this.f.i32(15).op('i32.and').op('i32.eqz').if('i32');
    inline();
    this.f.else();
    otherwise();
    this.f.end();
    return this.bind('i32');
  }
  /** i64 whose sign is the borrow of ccA - ccB = ccResult. */
  private pushBorrow(): void {
    const { f, frame } = this;
    frame.getCc('ccA');
    f.i64(-1).op('i64.xor');
    frame.getCc('ccB');
    f.op('i64.and');
    frame.getCc('ccA');
    f.i64(-1).op('i64.xor');
    frame.getCc('ccB');
    f.op('i64.or');
    frame.getCc('ccResult');
    f.op('i64.and').op('i64.or');
  }
  /** i64 whose sign is SF xor OF of a subtraction. */
  private pushLess(): void {
    const { f, frame } = this;
    frame.getCc('ccA');
    frame.getCc('ccB');
    f.op('i64.xor');
    frame.getCc('ccA');
    frame.getCc('ccResult');
    f.op('i64.xor').op('i64.and');
    frame.getCc('ccResult');
    f.op('i64.xor');
  }
  carry(): Value {
    return this.bySub(
      () => {
        this.pushBorrow();
        this.f.i64(63).op('i64.shr_u').op('i32.wrap_i64');
      },
      () => {
        this.pushCc();
        this.f.call(this.slow.carry);
      },
    );
  }
  /** The condition after this handler's own comparison of ccA with ccB. */
  private conditionOfCompare(code: number): Value {
    const { f, frame } = this;
    const operator = { 1: 'lt_u', 3: 'le_u', 6: 'lt_s', 7: 'le_s' }[code >> 1];
    if (operator) {
      frame.getCc('ccA');
      frame.getCc('ccB');
      f.op(`i64.${operator}`);
    } else {
      frame.getCc('ccResult');
      if (code >> 1 === 2) f.op('i64.eqz');
      else f.i64(0).op('i64.lt_s');
    }
    const value = this.bind('i32');
    return code & 1 ? this.eqz(value) : value;
  }
  condition(code: number): Value {
    if (this.flagsAreCompare) return this.conditionOfCompare(code);
    const { f, frame } = this;
    const inverted = code & 1;
    const general = (): void => {
      f.i32(code & ~1);
      this.pushCc();
      f.call(this.slow.condition);
    };
    const sign = (): void => {
      f.i64(0).op('i64.lt_s');
    };
    const zero = (): void => {
      frame.getCc('ccResult');
      f.op('i64.eqz');
    };
    let value: Value;
    switch (code >> 1) {
      case 1:
        value = this.carry();
        break;
      case 2:
        zero();
        value = this.bind('i32');
        break;
      case 3:
        value = this.bySub(() => { this.pushBorrow(); sign(); zero(); f.op('i32.or'); }, general); // prettier-ignore
        break;
      case 4:
        value = this.bySub(() => { frame.getCc('ccResult'); sign(); }, general); // prettier-ignore
        break;
      case 6:
        value = this.bySub(() => { this.pushLess(); sign(); }, general); // prettier-ignore
        break;
      case 7:
        value = this.bySub(() => { this.pushLess(); sign(); zero(); f.op('i32.or'); }, general); // prettier-ignore
        break;
      default:
        general();
        value = this.bind('i32');
    }
    return inverted ? this.eqz(value) : value;
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
  jumpRelative(n: number): void {
    if (this.mode === 64) this.frame.taken();
    else {
      this.f.i32(0).load64(OFFSET.ripBase);
      const base = this.bind('i64');
      this.f.get(this.frame.record);
      const distance = this.loadFrom(8, RECORD.imm);
      void n;
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
  guard(field: 'simdBlock' | 'fpuBlock', isMmx = false): void {
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
