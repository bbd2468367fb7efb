/** The part of the algebra that follows from a few primitives; oracle and generators extend it. */
import type { Algebra, MemoryType, OperandInfo, ValueType, Width } from './algebra.ts';
import type { CpuField } from '../engine/state.ts';
import type { WasmOp } from '../wasm/ops.ts';

const typedNames = new Map<string, Record<string, string>>();
/** `i64.add` of `i64` and `add`: made once, so that tables find it by identity. */
function typedName(type: ValueType, name: string): string {
  let names = typedNames.get(name);
  if (!names) typedNames.set(name, (names = { i32: `i32.${name}`, i64: `i64.${name}` }));
  return names[type] ?? `${type}.${name}`;
}

export const log2 = (size: number): number => 31 - Math.clz32(size);
/** Bytes that an access moves. */
export const SIZE_OF: Record<MemoryType, number> = { u8: 1, s8: 1, u16: 2, s16: 2, u32: 4, u64: 8, f32: 4, f64: 8, v128: 16, 'v128.32': 4, 'v128.64': 8 }; // prettier-ignore
export const memoryType = (size: Width): MemoryType => (({ 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' }) as const)[size];

export abstract class AlgebraBase<V> implements Algebra<V> {
  abstract readonly size: Width;
  abstract readonly mode: 64 | 32;
  abstract readonly variant: number;
  abstract readonly operands: readonly OperandInfo[];
  abstract readonly locked: boolean;
  abstract readonly addressSize: 2 | 4 | 8;
  abstract readonly repeat: 'none' | 'rep' | 'repne';

  abstract typeOf(value: V): ValueType;
  abstract i32(value: number): V;
  abstract i64(value: bigint | number): V;
  abstract v128(bytes: Uint8Array): V;
  abstract op(name: WasmOp, ...args: V[]): V;
  abstract lane(name: WasmOp, lane: number, ...args: V[]): V;
  abstract shuffle(a: V, b: V, lanes: readonly number[]): V;
  abstract select(condition: V, ifTrue: V, ifFalse: V): V;
  abstract read(n: number): V;
  abstract write(n: number, value: V): void;
  abstract updateMemory(address: V, size: Width, change: (old: V) => V, atomic?: boolean): V;
  abstract segment(): V;
  abstract address(n: number): V;
  abstract offset(n: number): V;
  abstract load(type: MemoryType, address: V): V;
  abstract store(type: MemoryType, address: V, value: V): void;
  abstract gpr(n: number, size: Width): V;
  abstract setGpr(n: number, size: Width, value: V): void;
  abstract xmm(n: number): V;
  abstract setXmm(n: number, value: V): void;
  abstract readHigh(n: number): V;
  abstract writeHigh(n: number, value: V): void;
  abstract setYmmHigh(n: number, value: V): void;
  abstract fprSignificand(n: V): V;
  abstract fprExponent(n: V): V;
  abstract setFpr(n: V, significand: V, exponent: V): void;
  abstract field(name: CpuField): V;
  abstract setField(name: CpuField, value: V): void;
  abstract stackRead(size: Width, pointer: V): V;
  abstract setStackPointer(pointer: V): void;
  abstract push(size: Width, value: V): void;
  abstract flagsSub(size: Width, a: V, b: V, r: V): void;
  abstract flagsAdd(size: Width, a: V, b: V, r: V): void;
  abstract flagsInc(size: Width, r: V): void;
  abstract flagsDec(size: Width, r: V): void;
  abstract flagsShift(kind: 'shl' | 'shr' | 'sar', size: Width, a: V, count: V, r: V): void;
  abstract flagsResult(size: Width, r: V, bits: V): void;
  abstract flagsChange(mask: number, bits: V): void;
  abstract flags(): V;
  abstract carry(): V;
  abstract condition(code: number): V;
  abstract when(condition: V, then: () => void, otherwise?: () => void): void;
  abstract choose(type: ValueType, condition: V, then: () => V, otherwise: () => V): V;
  abstract nextRip(): V;
  abstract jump(target: V): void;
  abstract jumpRelative(n: number): void;
  abstract again(): void;
  abstract fault(vector: number, errorCode?: number): void;
  abstract helper(name: string, ...args: V[]): V;

  constant(size: Width, value: bigint | number): V {
    return size === 8 ? this.i64(value) : this.i32(Number(BigInt.asIntN(32, BigInt(value))));
  }
  private binary(name: string, a: V, b: V): V {
    return this.op(typedName(this.typeOf(a), name), a, b);
  }
  private unary(name: string, a: V): V {
    return this.op(typedName(this.typeOf(a), name), a);
  }
  add(a: V, b: V): V { return this.binary('add', a, b); } // prettier-ignore
  sub(a: V, b: V): V { return this.binary('sub', a, b); } // prettier-ignore
  mul(a: V, b: V): V { return this.binary('mul', a, b); } // prettier-ignore
  and(a: V, b: V): V { return this.binary('and', a, b); } // prettier-ignore
  or(a: V, b: V): V { return this.binary('or', a, b); } // prettier-ignore
  xor(a: V, b: V): V { return this.binary('xor', a, b); } // prettier-ignore
  shl(a: V, b: V): V { return this.binary('shl', a, b); } // prettier-ignore
  shrU(a: V, b: V): V { return this.binary('shr_u', a, b); } // prettier-ignore
  shrS(a: V, b: V): V { return this.binary('shr_s', a, b); } // prettier-ignore
  rotl(a: V, b: V): V { return this.binary('rotl', a, b); } // prettier-ignore
  rotr(a: V, b: V): V { return this.binary('rotr', a, b); } // prettier-ignore
  eq(a: V, b: V): V { return this.binary('eq', a, b); } // prettier-ignore
  ne(a: V, b: V): V { return this.binary('ne', a, b); } // prettier-ignore
  ltU(a: V, b: V): V { return this.binary('lt_u', a, b); } // prettier-ignore
  ltS(a: V, b: V): V { return this.binary('lt_s', a, b); } // prettier-ignore
  clz(a: V): V { return this.unary('clz', a); } // prettier-ignore
  ctz(a: V): V { return this.unary('ctz', a); } // prettier-ignore
  popcnt(a: V): V { return this.unary('popcnt', a); } // prettier-ignore
  eqz(a: V): V { return this.unary('eqz', a); } // prettier-ignore
  not(a: V): V {
    return this.xor(a, this.typeOf(a) === 'i64' ? this.i64(-1) : this.i32(-1));
  }
  wrap(a: V): V { return this.op('i32.wrap_i64', a); } // prettier-ignore
  extendU(a: V): V { return this.op('i64.extend_i32_u', a); } // prettier-ignore
  extendS(a: V): V { return this.op('i64.extend_i32_s', a); } // prettier-ignore

  zeroExtend(size: Width, a: V): V {
    if (size === 8) return a;
    const wide = this.typeOf(a) === 'i64';
    if (size === 4) return this.extendU(wide ? this.wrap(a) : a);
    const masked = this.and(wide ? this.wrap(a) : a, this.i32(size === 1 ? 0xff : 0xffff));
    return this.extendU(masked);
  }
  signExtend(size: Width, a: V): V {
    if (size === 8) return a;
    const low = this.typeOf(a) === 'i64' ? this.wrap(a) : a;
    if (size === 4) return this.extendS(low);
    return this.extendS(this.op(size === 1 ? 'i32.extend8_s' : 'i32.extend16_s', low));
  }
  truncate(size: Width, a: V): V {
    if (size === 8) return a;
    const low = this.wrap(a);
    return size === 4 ? low : this.and(low, this.i32(size === 1 ? 0xff : 0xffff));
  }

  mulHighU(a: V, b: V): V {
    const low32 = this.i64(0xffff_ffffn);
    const c32 = this.i64(32);
    const [al, ah, bl, bh] = [this.and(a, low32), this.shrU(a, c32), this.and(b, low32), this.shrU(b, c32)];
    const cross = this.add(this.mul(ah, bl), this.shrU(this.mul(al, bl), c32));
    const cross2 = this.add(this.mul(al, bh), this.and(cross, low32));
    return this.add(this.add(this.mul(ah, bh), this.shrU(cross, c32)), this.shrU(cross2, c32));
  }
  mulHighS(a: V, b: V): V {
    const c63 = this.i64(63);
    const correction = this.add(this.and(this.shrS(a, c63), b), this.and(this.shrS(b, c63), a));
    return this.sub(this.mulHighU(a, b), correction);
  }

  flagsLogic(size: Width, r: V): void {
    this.flagsSub(size, r, this.constant(size, 0), r);
  }
  faultWhen(condition: V, vector: number, errorCode?: number): void {
    this.when(condition, () => {
      this.fault(vector, errorCode);
    });
  }
  update(n: number, change: (old: V) => V, atomic = this.locked): V {
    const operand = this.operands[n];
    if (operand?.kind === 'memory') return this.updateMemory(this.address(n), operand.size as Width, change, atomic);
    const value = change(this.read(n));
    this.write(n, value);
    return value;
  }
  known(_value: V): bigint | undefined {
    return undefined;
  }
  attempt(whole: () => V, instead: () => void): void {
    this.when(this.eqz(whole()), instead);
  }
  canonicalTarget(target: V): void {
    if (this.mode !== 64) return;
    const c16 = this.i64(16);
    this.faultWhen(this.ne(this.shrS(this.shl(target, c16), c16), target), 13, 0);
  }
  aligned(address: V, bytes: number): void {
    this.faultWhen(this.and(this.wrap(address), this.i32(bytes - 1)), 13, 0);
  }
  pop(size: Width): { value: V; commit: () => void } {
    const pointer = this.gpr(4, 8);
    const value = this.stackRead(size, pointer);
    return {
      value,
      commit: () => {
        this.setStackPointer(this.add(pointer, this.i64(size)));
      },
    };
  }
}
