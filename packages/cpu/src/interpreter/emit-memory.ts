/** Memory accesses of the generator: effective addresses, TLB lookups inline, slow paths, atomic updates. */
import { OFFSET } from '../engine/state.ts';
import type { MemoryType, Width } from '../semantics/algebra.ts';
import { SIZE_OF, log2, memoryType } from '../semantics/base.ts';
import { CMPXCHG, LOADS, STORES } from '../wasm/builder.ts';
import type { FunctionRef } from '../wasm/builder.ts';
import { MACHINE } from './emit-frame.ts';
import type { Value } from './emit-frame.ts';
import { ValueEmitter } from './emit-values.ts';
import { RECORD, TLB_READ, TLB_WRITE } from './memory-map.ts';

export abstract class MemoryEmitter extends ValueEmitter {
  /** Effective addresses already made, by operand. */
  protected readonly addresses = new Map<number, Value>();

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
  protected tlbEntry(address: Value): Value {
    this.push1(address);
    this.f.op('i32.wrap_i64').i32(8).op('i32.shr_u').i32(0x3ff0).op('i32.and');
    this.frame.pushView();
    this.f.op('i32.add');
    return this.bind('i32');
  }
  /** Leaves 1 when the entry translates all `size` bytes at `address`. */
  protected pushHit(entry: Value, address: Value, size: number, table: number): void {
    this.push1(entry);
    this.f.load64(table);
    this.push1(address);
    if (size > 1) this.f.i64(size - 1).op('i64.add');
    this.f.i64(-4096).op('i64.and').op('i64.eq');
  }
  protected pushHost(entry: Value, address: Value, table: number): void {
    this.push1(address);
    this.f.op('i32.wrap_i64');
    this.push1(entry);
    this.f.load32(table + 8).op('i32.add');
  }
  protected checkSignal(): void {
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
  protected slowLoad(size: number, address: Value): void {
    this.push1(address);
    this.f.get(this.frame.record);
    this.callSlow(this.slow.load[size]);
    this.checkSignal();
  }
  protected callSlow(f: FunctionRef | undefined): void {
    if (!f) throw new Error('no slow path of that size');
    this.f.call(f);
  }
  protected slowStore(size: number, address: Value, value: Value): void {
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
    if (size > 1) {
      this.push1(host);
      f.i32(size - 1)
        .op('i32.and')
        .op('i32.eqz')
        .op('i32.and');
    }
    f.if(valueType);
    this.push1(host);
    this.push1(old);
    this.push1(value);
    f.atomicAccess(CMPXCHG[size], log2(size), MACHINE);
    f.else();
    // Not aligned, or not to be written to directly: a bus lock on real machines.
    this.push1(this.helper('splitlock', address, this.i32(size), old, value));
    if (valueType === 'i32') f.op('i32.wrap_i64');
    f.end();
    const seen = this.bind(valueType);
    this.push1(seen);
    this.push1(old);
    f.op(`${valueType}.ne`).if();
    f.get(seen.local).set(old.local).br(loop).end();
    f.end();
    return value;
  }
}
