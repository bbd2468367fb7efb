/**
 * Memory accesses of the region compiler: TLB lookups inline. What misses (a translation that is not there, a fault, a
 * page border, a write to code) is left to the interpreter, at this instruction and with nothing changed: a call of a
 * slow path in place would make V8 keep everything in memory around each access.
 */
import { MACHINE } from '../interpreter/emit-frame.ts';
import type { Value } from '../interpreter/emit-frame.ts';
import { TLB_READ, TLB_WRITE } from '../interpreter/memory-map.ts';
import type { MemoryType, Width } from '../semantics/algebra.ts';
import { SIZE_OF, log2, memoryType } from '../semantics/base.ts';
import { CMPXCHG, LOADS, STORES } from '../wasm/builder.ts';
import { RegionFlagEmitter } from './emit-flags.ts';

export abstract class RegionMemoryEmitter extends RegionFlagEmitter {
  /** Leaves the instruction to the interpreter where the i32 that `emitCondition` puts on the stack is not 0. */
  abstract bailIf(emitCondition: () => void): void;

  /** Machine address of `size` bytes at a linear address, as a new local. */
  private host(address: Value, size: number, isWrite: boolean): Value {
    const { f, context } = this;
    const table = isWrite ? TLB_WRITE : TLB_READ;
    this.bailIf(() => {
      this.push1(address);
      f.op('i32.wrap_i64').i32(8).op('i32.shr_u').i32(0x3ff0).op('i32.and').get(context.view).op('i32.add');
      f.tee(context.scratch).load64(table);
      this.push1(address);
      if (size > 1) f.i64(size - 1).op('i64.add');
      f.i64(-4096).op('i64.and').op('i64.ne');
    });
    this.push1(address);
    f.op('i32.wrap_i64')
      .get(context.scratch)
      .load32(table + 8)
      .op('i32.add');
    return this.bind('i32');
  }
  load(type: MemoryType, address: Value): Value {
    const host = this.host(address, SIZE_OF[type], false);
    this.push1(host);
    if (type === 'v128' || type === 'v128.32' || type === 'v128.64') {
      this.f.simdAccess(type === 'v128' ? 0 : type === 'v128.32' ? 92 : 93, 0, MACHINE);
      return this.bind('v128');
    }
    const [opcode, , valueType] = LOADS[type];
    this.f.access(opcode, 0, MACHINE);
    return this.bind(valueType);
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
    const host = this.host(address, SIZE_OF[type], true);
    this.push1(host);
    this.push1(value);
    if (type === 'v128') this.f.simdAccess(11, 0, MACHINE);
    else this.f.access(STORES[type][0], 0, MACHINE);
  }

  updateMemory(address: Value, size: Width, change: (old: Value) => Value, atomic = this.locked): Value {
    const { f } = this;
    const [loadOpcode, , valueType] = LOADS[memoryType(size) as 'u8' | 'u16' | 'u32' | 'u64'];
    const store = STORES[memoryType(size) as 'u8' | 'u16' | 'u32' | 'u64'][0];
    const host = this.host(address, size, true);
    if (!atomic) {
      this.push1(host);
      f.access(loadOpcode, 0, MACHINE);
      const old = this.bind(valueType);
      const value = change(old);
      this.push1(host);
      this.push1(value);
      f.access(store, 0, MACHINE);
      return value;
    }
    if (size > 1) {
      // Not aligned: a bus lock on real machines, the interpreter's matter here.
      this.bailIf(() => {
        this.push1(host);
        f.i32(size - 1).op('i32.and');
      });
    }
    this.push1(host);
    f.access(loadOpcode, 0, MACHINE);
    const old = this.bind(valueType);
    const loop = f.loop();
    const value = change(old);
    this.push1(host);
    this.push1(old);
    this.push1(value);
    f.atomicAccess(CMPXCHG[size], log2(size), MACHINE);
    const seen = this.bind(valueType);
    this.push1(seen);
    this.push1(old);
    f.op(`${valueType}.ne`).if();
    f.get(seen.local).set(old.local).br(loop).end();
    f.end();
    return value;
  }
}
