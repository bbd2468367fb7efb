/** An algebra that hands everything to another one: the base of views that see operands otherwise than they are. */
import type { Algebra, MemoryType, OperandInfo, ValueType, Width } from './algebra.ts';
import type { CpuField } from '../engine/state.ts';
import type { WasmOp } from '../wasm/ops.ts';

export class DelegatingAlgebra<V> implements Algebra<V> {
  protected readonly to: Algebra<V>;
  constructor(to: Algebra<V>) {
    this.to = to;
  }
  get size(): Width { return this.to.size; } // prettier-ignore
  get mode(): 64 | 32 { return this.to.mode; } // prettier-ignore
  get variant(): number { return this.to.variant; } // prettier-ignore
  get operands(): readonly OperandInfo[] { return this.to.operands; } // prettier-ignore
  get locked(): boolean { return this.to.locked; } // prettier-ignore
  get addressSize(): 2 | 4 | 8 { return this.to.addressSize; } // prettier-ignore
  get repeat(): 'none' | 'rep' | 'repne' { return this.to.repeat; } // prettier-ignore

  i32(value: number): V { return this.to.i32(value); } // prettier-ignore
  i64(value: bigint | number): V { return this.to.i64(value); } // prettier-ignore
  v128(bytes: Uint8Array): V { return this.to.v128(bytes); } // prettier-ignore
  constant(size: Width, value: bigint | number): V { return this.to.constant(size, value); } // prettier-ignore
  op(name: WasmOp, ...args: V[]): V { return this.to.op(name, ...args); } // prettier-ignore
  lane(name: WasmOp, lane: number, ...args: V[]): V { return this.to.lane(name, lane, ...args); } // prettier-ignore
  shuffle(a: V, b: V, lanes: readonly number[]): V { return this.to.shuffle(a, b, lanes); } // prettier-ignore
  add(a: V, b: V): V { return this.to.add(a, b); } // prettier-ignore
  sub(a: V, b: V): V { return this.to.sub(a, b); } // prettier-ignore
  mul(a: V, b: V): V { return this.to.mul(a, b); } // prettier-ignore
  and(a: V, b: V): V { return this.to.and(a, b); } // prettier-ignore
  or(a: V, b: V): V { return this.to.or(a, b); } // prettier-ignore
  xor(a: V, b: V): V { return this.to.xor(a, b); } // prettier-ignore
  not(a: V): V { return this.to.not(a); } // prettier-ignore
  shl(a: V, b: V): V { return this.to.shl(a, b); } // prettier-ignore
  shrU(a: V, b: V): V { return this.to.shrU(a, b); } // prettier-ignore
  shrS(a: V, b: V): V { return this.to.shrS(a, b); } // prettier-ignore
  rotl(a: V, b: V): V { return this.to.rotl(a, b); } // prettier-ignore
  rotr(a: V, b: V): V { return this.to.rotr(a, b); } // prettier-ignore
  clz(a: V): V { return this.to.clz(a); } // prettier-ignore
  ctz(a: V): V { return this.to.ctz(a); } // prettier-ignore
  popcnt(a: V): V { return this.to.popcnt(a); } // prettier-ignore
  eqz(a: V): V { return this.to.eqz(a); } // prettier-ignore
  eq(a: V, b: V): V { return this.to.eq(a, b); } // prettier-ignore
  ne(a: V, b: V): V { return this.to.ne(a, b); } // prettier-ignore
  ltU(a: V, b: V): V { return this.to.ltU(a, b); } // prettier-ignore
  ltS(a: V, b: V): V { return this.to.ltS(a, b); } // prettier-ignore
  mulHighU(a: V, b: V): V { return this.to.mulHighU(a, b); } // prettier-ignore
  mulHighS(a: V, b: V): V { return this.to.mulHighS(a, b); } // prettier-ignore
  wrap(a: V): V { return this.to.wrap(a); } // prettier-ignore
  extendU(a: V): V { return this.to.extendU(a); } // prettier-ignore
  extendS(a: V): V { return this.to.extendS(a); } // prettier-ignore
  zeroExtend(size: Width, a: V): V { return this.to.zeroExtend(size, a); } // prettier-ignore
  signExtend(size: Width, a: V): V { return this.to.signExtend(size, a); } // prettier-ignore
  truncate(size: Width, a: V): V { return this.to.truncate(size, a); } // prettier-ignore
  select(condition: V, ifTrue: V, ifFalse: V): V { return this.to.select(condition, ifTrue, ifFalse); } // prettier-ignore

  read(n: number): V { return this.to.read(n); } // prettier-ignore
  write(n: number, value: V): void { this.to.write(n, value); } // prettier-ignore
  readHigh(n: number): V { return this.to.readHigh(n); } // prettier-ignore
  writeHigh(n: number, value: V): void { this.to.writeHigh(n, value); } // prettier-ignore
  setYmmHigh(n: number, value: V): void { this.to.setYmmHigh(n, value); } // prettier-ignore
  update(n: number, change: (old: V) => V, atomic?: boolean): V { return this.to.update(n, change, atomic); } // prettier-ignore
  updateMemory(address: V, size: Width, change: (old: V) => V, atomic?: boolean): V { return this.to.updateMemory(address, size, change, atomic); } // prettier-ignore
  segment(): V { return this.to.segment(); } // prettier-ignore
  address(n: number): V { return this.to.address(n); } // prettier-ignore
  offset(n: number): V { return this.to.offset(n); } // prettier-ignore
  load(type: MemoryType, address: V): V { return this.to.load(type, address); } // prettier-ignore
  store(type: MemoryType, address: V, value: V): void { this.to.store(type, address, value); } // prettier-ignore
  aligned(address: V, bytes: number): void { this.to.aligned(address, bytes); } // prettier-ignore
  gpr(n: number, size: Width): V { return this.to.gpr(n, size); } // prettier-ignore
  setGpr(n: number, size: Width, value: V): void { this.to.setGpr(n, size, value); } // prettier-ignore
  xmm(n: number): V { return this.to.xmm(n); } // prettier-ignore
  setXmm(n: number, value: V): void { this.to.setXmm(n, value); } // prettier-ignore
  fprSignificand(n: V): V { return this.to.fprSignificand(n); } // prettier-ignore
  fprExponent(n: V): V { return this.to.fprExponent(n); } // prettier-ignore
  setFpr(n: V, significand: V, exponent: V): void { this.to.setFpr(n, significand, exponent); } // prettier-ignore
  field(name: CpuField): V { return this.to.field(name); } // prettier-ignore
  setField(name: CpuField, value: V): void { this.to.setField(name, value); } // prettier-ignore
  stackRead(size: Width, pointer: V): V { return this.to.stackRead(size, pointer); } // prettier-ignore
  setStackPointer(pointer: V): void { this.to.setStackPointer(pointer); } // prettier-ignore
  push(size: Width, value: V): void { this.to.push(size, value); } // prettier-ignore
  pop(size: Width): { value: V; commit: () => void } { return this.to.pop(size); } // prettier-ignore

  flagsSub(size: Width, a: V, b: V, r: V): void { this.to.flagsSub(size, a, b, r); } // prettier-ignore
  flagsAdd(size: Width, a: V, b: V, r: V): void { this.to.flagsAdd(size, a, b, r); } // prettier-ignore
  flagsLogic(size: Width, r: V): void { this.to.flagsLogic(size, r); } // prettier-ignore
  flagsInc(size: Width, r: V): void { this.to.flagsInc(size, r); } // prettier-ignore
  flagsDec(size: Width, r: V): void { this.to.flagsDec(size, r); } // prettier-ignore
  flagsShift(kind: 'shl' | 'shr' | 'sar', size: Width, a: V, count: V, r: V): void { this.to.flagsShift(kind, size, a, count, r); } // prettier-ignore
  flagsResult(size: Width, r: V, bits: V): void { this.to.flagsResult(size, r, bits); } // prettier-ignore
  flagsChange(mask: number, bits: V): void { this.to.flagsChange(mask, bits); } // prettier-ignore
  flags(): V { return this.to.flags(); } // prettier-ignore
  carry(): V { return this.to.carry(); } // prettier-ignore
  condition(code: number): V { return this.to.condition(code); } // prettier-ignore

  when(condition: V, then: () => void, otherwise?: () => void): void { this.to.when(condition, then, otherwise); } // prettier-ignore
  known(value: V): bigint | undefined { return this.to.known(value); } // prettier-ignore
  attempt(whole: () => V, instead: () => void): void { this.to.attempt(whole, instead); } // prettier-ignore
  choose(type: ValueType, condition: V, then: () => V, otherwise: () => V): V { return this.to.choose(type, condition, then, otherwise); } // prettier-ignore
  nextRip(): V { return this.to.nextRip(); } // prettier-ignore
  canonicalTarget(target: V): void { this.to.canonicalTarget(target); } // prettier-ignore
  jump(target: V): void { this.to.jump(target); } // prettier-ignore
  jumpRelative(n: number): void { this.to.jumpRelative(n); } // prettier-ignore
  again(): void { this.to.again(); } // prettier-ignore
  fault(vector: number, errorCode?: number): void { this.to.fault(vector, errorCode); } // prettier-ignore
  faultWhen(condition: V, vector: number, errorCode?: number): void { this.to.faultWhen(condition, vector, errorCode); } // prettier-ignore
  helper(name: string, ...args: V[]): V { return this.to.helper(name, ...args); } // prettier-ignore
}
