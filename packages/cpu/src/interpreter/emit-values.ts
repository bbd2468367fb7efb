/** Values of the generators: constants, locals, numeric instructions, fields of the state; and registers in the state. */
import { FIELDS, OFFSET } from '../engine/state.ts';
import type { CpuField } from '../engine/state.ts';
import type { ValueType, Width } from '../semantics/algebra.ts';
import { AlgebraBase } from '../semantics/base.ts';
import type { FunctionBuilder } from '../wasm/builder.ts';
import { wasmOp } from '../wasm/ops.ts';
import type { Frame, HandlerShape, SlowImports, TemporaryPool, Value } from './emit-frame.ts';

/** Where the upper half of a YMM register lies in its 32 bytes. */
export const YMM_HIGH = 16;

/** What the interpreter's handlers and the regions of the JIT tier make in the same way. */
export abstract class NumericEmitter extends AlgebraBase<Value> {
  readonly size: Width;
  readonly mode: 64 | 32;
  readonly variant: number;
  readonly operands: HandlerShape['operands'];
  readonly locked: boolean;
  readonly addressSize: 2 | 4 | 8;
  readonly repeat: 'none' | 'rep' | 'repne';
  protected readonly f: FunctionBuilder;
  protected readonly temporaries: TemporaryPool;
  constructor(shape: HandlerShape, modules: { f: FunctionBuilder; temporaries: TemporaryPool }) {
    super();
    this.size = shape.size;
    this.mode = shape.mode;
    this.variant = shape.variant;
    this.operands = shape.operands;
    this.locked = shape.locked;
    this.addressSize = shape.addressSize;
    this.repeat = shape.repeat;
    this.f = modules.f;
    this.temporaries = modules.temporaries;
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
  protected push1(value: Value): void {
    if (value.local >= 0) this.f.get(value.local);
    else if (value.type === 'i32') this.f.i32(Number(value.constant));
    else if (value.type === 'i64') this.f.i64(value.constant);
    else this.f.v128(value.bytes ?? new Uint8Array(16));
  }
  /** Pops the top of the Wasm stack into a temporary. */
  protected bind(type: ValueType): Value {
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

  // Fields and x87 registers
  protected loadFrom(size: number, offset: number): Value {
    if (size === 1) this.f.load8(offset);
    else if (size === 2) this.f.load16(offset);
    else if (size === 4) this.f.load32(offset);
    else this.f.load64(offset);
    return this.bind(size === 8 ? 'i64' : 'i32');
  }
  /** With the register's address on the stack. */
  protected storeRegister(size: number, offset: number, value: Value): void {
    this.push1(value);
    if (size === 8) this.f.store64(offset);
    else if (size === 4) this.f.op('i64.extend_i32_u').store64(offset);
    else if (size === 2) this.f.access(0x3b, offset);
    else this.f.access(0x3a, offset);
  }
  /** Upper halves have no local of their own anywhere. */
  setYmmHigh(n: number, value: Value): void {
    this.f.i32(0);
    this.push1(value);
    this.f.simdAccess(11, OFFSET.xmm + 32 * n + YMM_HIGH);
  }
  /** Leaves the state address of physical x87 register `n`, less the offset of the registers. */
  protected pushFprIndex(n: Value): void {
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
}

/** Registers in the state, the rest of a handler in its frame. */
export abstract class ValueEmitter extends NumericEmitter {
  protected readonly frame: Frame;
  protected readonly slow: SlowImports;
  protected readonly helperIds: ReadonlyMap<string, number>;
  constructor(
    shape: HandlerShape,
    modules: { frame: Frame; slow: SlowImports; temporaries: TemporaryPool; helperIds: ReadonlyMap<string, number> },
  ) {
    super(shape, { f: modules.frame.f, temporaries: modules.temporaries });
    this.frame = modules.frame;
    this.slow = modules.slow;
    this.helperIds = modules.helperIds;
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
}
