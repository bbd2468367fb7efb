/** Builds WebAssembly modules: bytes, nothing of the CPU. Core specification, chapter 5 "Binary Format". */
import type { ValueType } from '../semantics/algebra.ts';
import { wasmOp } from './ops.ts';

const TYPE_CODE: Record<ValueType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };
const EMPTY = 0x40;
const FUNCREF = 0x70;

/** Growing byte buffer with LEB128. */
class ByteSink {
  private buffer = new Uint8Array(256);
  length = 0;

  byte(value: number): void {
    if (this.length === this.buffer.length) this.grow(1);
    this.buffer[this.length++] = value;
  }
  bytes(values: ArrayLike<number>): void {
    const { length } = values;
    this.grow(length);
    if (length > 8) this.buffer.set(values, this.length);
    else for (let i = 0; i < length; i++) this.buffer[this.length + i] = values[i] ?? 0;
    this.length += length;
  }
  u32(value: number): void {
    value >>>= 0;
    while (value > 0x7f) {
      this.byte((value & 0x7f) | 0x80);
      value >>>= 7;
    }
    this.byte(value);
  }
  s32(value: number): void {
    value |= 0;
    for (;;) {
      const low = value & 0x7f;
      value >>= 7;
      if ((value === 0 && !(low & 0x40)) || (value === -1 && low & 0x40)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }
  s64(value: bigint): void {
    value = BigInt.asIntN(64, value);
    for (;;) {
      const low = Number(value & 0x7fn);
      value >>= 7n;
      if ((value === 0n && !(low & 0x40)) || (value === -1n && low & 0x40)) {
        this.byte(low);
        return;
      }
      this.byte(low | 0x80);
    }
  }
  patch(at: number, value: number): void {
    this.buffer[at] = value;
  }
  name(text: string): void {
    this.u32(text.length);
    for (const c of text) this.byte(c.charCodeAt(0));
  }
  done(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }
  private grow(by: number): void {
    if (this.length + by <= this.buffer.length) return;
    const larger = new Uint8Array(Math.max(this.buffer.length * 2, this.length + by));
    larger.set(this.buffer);
    this.buffer = larger;
  }
}

export interface FunctionRef {
  readonly index: number;
  readonly type: number;
}
/** A branch target: the nesting depth just inside its block. */
export type Label = number;

/** Memory instructions by access type: opcode, natural alignment (log2), value type. */
export const LOADS = {
  u8: [0x2d, 0, 'i32'], s8: [0x2c, 0, 'i32'], u16: [0x2f, 1, 'i32'], s16: [0x2e, 1, 'i32'], u32: [0x28, 2, 'i32'],
  u64: [0x29, 3, 'i64'], f32: [0x2a, 2, 'f32'], f64: [0x2b, 3, 'f64'],
} as const; // prettier-ignore
export const STORES = {
  u8: [0x3a, 0], s8: [0x3a, 0], u16: [0x3b, 1], s16: [0x3b, 1], u32: [0x36, 2], u64: [0x37, 3], f32: [0x38, 2], f64: [0x39, 3],
} as const; // prettier-ignore
/** Compare-and-exchange by bytes; the narrow ones are of i32. */
export const CMPXCHG = { 1: 0x4a, 2: 0x4b, 4: 0x48, 8: 0x49 } as const;

export class FunctionBuilder implements FunctionRef {
  private code = new ByteSink();
  readonly index: number;
  readonly type: number;
  readonly nrParams: number;
  private readonly locals: ValueType[] = [];
  private depth = 0;
  private lastSet = -1;
  private lastSetStart = 0;
  private lastSetEnd = 0;

  constructor(index: number, type: number, nrParams: number) {
    this.index = index;
    this.type = type;
    this.nrParams = nrParams;
  }

  local(type: ValueType): number {
    this.locals.push(type);
    return this.nrParams + this.locals.length - 1;
  }
  op(name: string): this {
    this.code.bytes(wasmOp(name).bytes);
    return this;
  }
  laneOp(name: string, lane: number): this {
    this.code.bytes(wasmOp(name).bytes);
    this.code.byte(lane);
    return this;
  }
  shuffle(lanes: readonly number[]): this {
    this.code.byte(0xfd);
    this.code.byte(13);
    this.code.bytes(lanes);
    return this;
  }
  raw(...bytes: number[]): this {
    this.code.bytes(bytes);
    return this;
  }
  get(local: number): this {
    // What was just put into the local and is asked for again stays on the stack as well: local.tee.
    if (local === this.lastSet && this.code.length === this.lastSetEnd) {
      this.code.patch(this.lastSetStart, 0x22);
      this.lastSet = -1;
      return this;
    }
    this.code.byte(0x20);
    this.code.u32(local);
    return this;
  }
  set(local: number): this {
    this.lastSet = local;
    this.lastSetStart = this.code.length;
    this.code.byte(0x21);
    this.code.u32(local);
    this.lastSetEnd = this.code.length;
    return this;
  }
  tee(local: number): this {
    this.code.byte(0x22);
    this.code.u32(local);
    return this;
  }
  i32(value: number): this {
    this.code.byte(0x41);
    this.code.s32(value);
    return this;
  }
  i64(value: bigint | number): this {
    this.code.byte(0x42);
    const small = Number(value);
    // The encodings of small numbers are the same.
    if (small >= -0x8000_0000 && small <= 0x7fff_ffff) this.code.s32(small);
    else this.code.s64(BigInt(value));
    return this;
  }
  v128(bytes: Uint8Array): this {
    this.code.bytes([0xfd, 12]);
    this.code.bytes(bytes);
    return this;
  }
  /** Memory access; alignment is only a hint, 0 is always right. */
  access(opcode: number, offset: number, memory = 0, align = 0): this {
    this.code.byte(opcode);
    return this.memarg(offset, memory, align);
  }
  simdAccess(opcode: number, offset: number, memory = 0): this {
    this.code.byte(0xfd);
    this.code.u32(opcode);
    return this.memarg(offset, memory, 0);
  }
  atomicAccess(opcode: number, align: number, memory = 0): this {
    this.code.byte(0xfe);
    this.code.u32(opcode);
    return this.memarg(0, memory, align);
  }
  private memarg(offset: number, memory: number, align: number): this {
    if (memory === 0) this.code.u32(align);
    else {
      this.code.u32(align | 0x40);
      this.code.u32(memory);
    }
    this.code.u32(offset);
    return this;
  }
  load32(offset: number): this {
    return this.access(0x28, offset);
  }
  load64(offset: number): this {
    return this.access(0x29, offset);
  }
  load16(offset: number): this {
    return this.access(0x2f, offset);
  }
  load8(offset: number): this {
    return this.access(0x2d, offset);
  }
  store32(offset: number): this {
    return this.access(0x36, offset);
  }
  store64(offset: number): this {
    return this.access(0x37, offset);
  }
  select(): this {
    this.code.byte(0x1b);
    return this;
  }
  selectTyped(type: ValueType): this {
    this.code.bytes([0x1c, 1, TYPE_CODE[type]]);
    return this;
  }
  drop(): this {
    this.code.byte(0x1a);
    return this;
  }
  private open(opcode: number, type: ValueType | undefined): Label {
    this.code.byte(opcode);
    this.code.byte(type ? TYPE_CODE[type] : EMPTY);
    return ++this.depth;
  }
  block(type?: ValueType): Label {
    return this.open(0x02, type);
  }
  loop(type?: ValueType): Label {
    return this.open(0x03, type);
  }
  if(type?: ValueType): this {
    this.open(0x04, type);
    return this;
  }
  else(): this {
    this.code.byte(0x05);
    return this;
  }
  end(): this {
    this.depth--;
    this.code.byte(0x0b);
    return this;
  }
  br(label: Label): this {
    this.code.byte(0x0c);
    this.code.u32(this.depth - label);
    return this;
  }
  brIf(label: Label): this {
    this.code.byte(0x0d);
    this.code.u32(this.depth - label);
    return this;
  }
  brTable(labels: readonly Label[], fallback: Label): this {
    this.code.byte(0x0e);
    this.code.u32(labels.length);
    for (const label of labels) this.code.u32(this.depth - label);
    this.code.u32(this.depth - fallback);
    return this;
  }
  return(): this {
    this.code.byte(0x0f);
    return this;
  }
  unreachable(): this {
    this.code.byte(0x00);
    return this;
  }
  call(f: FunctionRef): this {
    this.code.byte(0x10);
    this.code.u32(f.index);
    return this;
  }
  callIndirect(type: number, table = 0): this {
    return this.indirect(0x11, type, table);
  }
  /** Tail call through a table. */
  returnCallIndirect(type: number, table = 0): this {
    return this.indirect(0x13, type, table);
  }
  private indirect(opcode: number, type: number, table: number): this {
    this.code.byte(opcode);
    this.code.u32(type);
    this.code.u32(table);
    return this;
  }
  /** Bytes of code so far. */
  get size(): number {
    return this.code.length;
  }
  /** Puts what `emit` emits before the code that is there. */
  prepend(emit: () => void): this {
    const rest = this.code;
    this.code = new ByteSink();
    this.lastSet = -1;
    emit();
    this.lastSet = -1;
    this.code.bytes(rest.done());
    return this;
  }
  body(): Uint8Array {
    const out = new ByteSink();
    const runs: [number, ValueType][] = [];
    for (const type of this.locals) {
      const last = runs.at(-1);
      if (last && last[1] === type) last[0]++;
      else runs.push([1, type]);
    }
    out.u32(runs.length);
    for (const [count, type] of runs) {
      out.u32(count);
      out.byte(TYPE_CODE[type]);
    }
    out.bytes(this.code.done());
    out.byte(0x0b);
    return out.done();
  }
}

export class ModuleBuilder {
  private readonly types: string[] = [];
  private readonly typeBytes = new ByteSink();
  private readonly imports = new ByteSink();
  private nrImports = 0;
  private nrImportedFunctions = 0;
  private nrImportedTables = 0;
  private readonly functions: FunctionBuilder[] = [];
  private readonly exports: [string, number][] = [];
  private elements: readonly number[] = [];
  private tableExport: string | undefined;

  type(params: readonly ValueType[], results: readonly ValueType[]): number {
    const key = `${params.join()}>${results.join()}`;
    const known = this.types.indexOf(key);
    if (known >= 0) return known;
    this.typeBytes.byte(0x60);
    this.typeBytes.u32(params.length);
    for (const p of params) this.typeBytes.byte(TYPE_CODE[p]);
    this.typeBytes.u32(results.length);
    for (const r of results) this.typeBytes.byte(TYPE_CODE[r]);
    return this.types.push(key) - 1;
  }
  importFunction(
    module: string,
    name: string,
    params: readonly ValueType[],
    results: readonly ValueType[],
  ): FunctionRef {
    // prettier-ignore
    const type = this.type(params, results);
    this.imports.name(module);
    this.imports.name(name);
    this.imports.byte(0);
    this.imports.u32(type);
    this.nrImports++;
    return { index: this.nrImportedFunctions++, type };
  }
  importMemory(module: string, name: string, minimum: number, maximum: number | undefined, shared: boolean): void {
    this.imports.name(module);
    this.imports.name(name);
    this.imports.byte(2);
    this.imports.byte((maximum === undefined ? 0 : 1) | (shared ? 2 : 0));
    this.imports.u32(minimum);
    if (maximum !== undefined) this.imports.u32(maximum);
    this.nrImports++;
  }
  /** A table of functions that several modules share; returns its index. */
  importTable(module: string, name: string): number {
    this.imports.name(module);
    this.imports.name(name);
    this.imports.bytes([1, FUNCREF, 0, 0]);
    this.nrImports++;
    return this.nrImportedTables++;
  }
  /** All imports must be declared before the first function. */
  function(params: readonly ValueType[], results: readonly ValueType[], exportName?: string): FunctionBuilder {
    const f = new FunctionBuilder(
      this.nrImportedFunctions + this.functions.length,
      this.type(params, results),
      params.length,
    );
    this.functions.push(f);
    if (exportName) this.exports.push([exportName, f.index]);
    return f;
  }
  /** The module's own table of functions, for call_indirect; returns its index. */
  table(functions: readonly FunctionRef[], exportName?: string): number {
    this.tableExport = exportName;
    this.elements = functions.map((f) => f.index);
    return this.nrImportedTables;
  }
  build(): Uint8Array {
    const out = new ByteSink();
    out.bytes([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const section = (id: number, fill: (s: ByteSink) => void): void => {
      const s = new ByteSink();
      fill(s);
      out.byte(id);
      out.u32(s.length);
      out.bytes(s.done());
    };
    section(1, (s) => { s.u32(this.types.length); s.bytes(this.typeBytes.done()); }); // prettier-ignore
    section(2, (s) => { s.u32(this.nrImports); s.bytes(this.imports.done()); }); // prettier-ignore
    section(3, (s) => { s.u32(this.functions.length); for (const f of this.functions) s.u32(f.type); }); // prettier-ignore
    if (this.elements.length > 0) section(4, (s) => { s.bytes([1, FUNCREF, 0]); s.u32(this.elements.length); }); // prettier-ignore
    section(7, (s) => {
      s.u32(this.exports.length + (this.tableExport === undefined ? 0 : 1));
      if (this.tableExport !== undefined) {
        s.name(this.tableExport);
        s.byte(1);
        s.u32(this.nrImportedTables);
      }
      for (const [name, index] of this.exports) {
        s.name(name);
        s.byte(0);
        s.u32(index);
      }
    });
    if (this.elements.length > 0)
      section(9, (s) => {
        // Active, with an explicit table: offset 0, element kind function.
        s.bytes([1, 2]);
        s.u32(this.nrImportedTables);
        s.bytes([0x41, 0, 0x0b, 0]);
        s.u32(this.elements.length);
        for (const index of this.elements) s.u32(index);
      });
    section(10, (s) => {
      s.u32(this.functions.length);
      for (const f of this.functions) {
        const body = f.body();
        s.u32(body.length);
        s.bytes(body);
      }
    });
    return out.done();
  }
}
