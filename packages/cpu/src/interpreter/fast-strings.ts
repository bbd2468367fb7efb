/**
 * Repeated string instructions with 64-bit addresses, in Wasm: page by page through the TLB, an element at a time where
 * that does not go (page crossings, code, faults, breakpoints). Registers are up to date before each access, so a fault
 * in the middle finds what the manual says. Answers to `semantics/helpers/string-operations.ts`. Intel SDM vol. 2 REP.
 */
import { CC } from '../engine/flags.ts';
import { OFFSET } from '../engine/state.ts';
import { LOADS, STORES } from '../wasm/builder.ts';
import type { FunctionBuilder, FunctionRef, ModuleBuilder } from '../wasm/builder.ts';
import { MACHINE } from './emit-frame.ts';
import { RECORD, SIGNAL, TLB_READ, TLB_WRITE } from './memory-map.ts';
import { ACCESS } from './translated.ts';

export const STRING_NAMES = ['movs', 'stos', 'scas', 'cmps'] as const;
export type StringName = (typeof STRING_NAMES)[number];
type Size = 1 | 2 | 4 | 8;

/** Slow accesses of one element: `load(address, record)`, `store(address, value, record)`; then `signal` tells of a fault. */
export interface ElementAccess {
  readonly load: FunctionRef;
  readonly store: FunctionRef;
}
export interface StringImports {
  readonly tryTranslate: FunctionRef;
  readonly access: Readonly<Record<number, ElementAccess>>;
  /** As `buildCopy` made it. */
  readonly copy: FunctionRef;
}

/** Elements after which a repeated instruction lets the run loop look; it goes on at the same RIP. */
const MAX_STEPS = 1 << 16;
/** From this many bytes on, memory.fill is faster than a loop. */
const FILL_BYTES = 512;
const DF = 0x400;
const REPNE = 2;
const REPEAT = OFFSET.args + 16;
const [RAX, RCX, RSI, RDI] = [OFFSET.rax, OFFSET.rax + 8, OFFSET.rax + 48, OFFSET.rax + 56] as const;
const MEMORY_COPY = [0xfc, 0x0a, MACHINE, MACHINE] as const;
const MEMORY_FILL = [0xfc, 0x0b, MACHINE] as const;
const V128 = { load: 0, store: 11 } as const;
const ACCESS_TYPE = { 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' } as const;
const LANES = { 1: 'i8x16', 2: 'i16x8', 4: 'i32x4', 8: 'i64x2' } as const;
const LOG2 = { 1: 0, 2: 1, 4: 2, 8: 3 } as const;

/**
 * `(destination, source, bytes)`: memory.copy for everything but a destination inside and above the source. V8's own
 * copies shared memory a byte at a time where the two are not aligned alike.
 */
export function buildCopy(m: ModuleBuilder): FunctionRef {
  const f = m.function(['i32', 'i32', 'i32'], []);
  const [to, from, bytes] = [0, 1, 2];
  f.get(to).get(from).op('i32.xor').i32(7).op('i32.and').op('i32.eqz').if();
  f.get(to).get(from).get(bytes).raw(...MEMORY_COPY).return().end();
  const wide = f.loop();
  f.get(bytes).i32(16).op('i32.ge_u').if();
  f.get(to).get(from).simdAccess(V128.load, 0, MACHINE).simdAccess(V128.store, 0, MACHINE);
  for (const pointer of [to, from]) f.get(pointer).i32(16).op('i32.add').set(pointer);
  f.get(bytes).i32(16).op('i32.sub').set(bytes).br(wide);
  f.end();
  f.end();
  const narrow = f.loop();
  f.get(bytes).op('i32.eqz').if().return().end();
  f.get(to).get(from).access(LOADS.u8[0], 0, MACHINE).access(STORES.u8[0], 0, MACHINE);
  for (const pointer of [to, from]) f.get(pointer).i32(1).op('i32.add').set(pointer);
  f.get(bytes).i32(1).op('i32.sub').set(bytes).br(narrow);
  f.end();
  return f;
} // prettier-ignore

/** Repeated instructions that compiled code calls: (name, element size) of `compiledStringName`. */
export const COMPILED_STRINGS = (['movs', 'stos'] as const).flatMap((name) =>
  ([1, 2, 4, 8] as const).map((size) => ({ name, size })),
);
export const compiledStringName = (name: string, size: number): string => `rep_${name}${size}`;

/**
 * The function `() -> SIGNAL` for compiled code, which has put the registers into the state: `none` when the repetition is
 * over, else what is left of it is the interpreter's.
 */
export function buildCompiledString(m: ModuleBuilder, name: 'movs' | 'stos', size: Size, imports: StringImports): void {
  const f = m.function([], ['i32'], compiledStringName(name, size));
  new StringFunction(f, { name, size, isCompiled: true }, { ...imports, search: undefined }).emit();
}

/** The function `(record) -> SIGNAL` of one instruction for one element size. */
export function buildString(m: ModuleBuilder, name: StringName, size: Size, imports: StringImports): FunctionRef {
  const search = name === 'scas' || name === 'cmps' ? buildSearch(m, name, size) : undefined;
  const f = m.function(['i32'], ['i32']);
  new StringFunction(f, { name, size, isCompiled: false }, { ...imports, search }).emit();
  return f;
}

class StringFunction {
  private readonly f: FunctionBuilder;
  private readonly name: StringName;
  private readonly size: Size;
  /** Called by compiled code: without a record, and nothing that could fault. */
  private readonly isCompiled: boolean;
  private readonly shift: number;
  private readonly modules: StringImports & { search: FunctionRef | undefined };
  private readonly record = 0;
  private readonly view: number;
  private readonly backwards: number;
  private readonly steps: number;
  private readonly entry: number;
  /** Elements and bytes of this round. */
  private readonly count: number;
  private readonly bytes: number;
  private readonly done: number;
  private readonly hostSource: number;
  private readonly hostDestination: number;
  private readonly left: number;
  private readonly source: number;
  private readonly destination: number;
  /** The accumulator, or the element of the source last compared; the element that it was compared with. */
  private readonly a: number;
  private readonly b: number;

  constructor(
    f: FunctionBuilder,
    what: { name: StringName; size: Size; isCompiled: boolean },
    modules: StringImports & { search: FunctionRef | undefined },
  ) {
    this.f = f;
    this.name = what.name;
    this.size = what.size;
    this.isCompiled = what.isCompiled;
    this.shift = LOG2[what.size];
    this.modules = modules;
    this.view = f.local('i32');
    this.backwards = f.local('i32');
    this.steps = f.local('i32');
    this.entry = f.local('i32');
    this.count = f.local('i32');
    this.bytes = f.local('i32');
    this.done = f.local('i32');
    this.hostSource = f.local('i32');
    this.hostDestination = f.local('i32');
    this.left = f.local('i64');
    this.source = f.local('i64');
    this.destination = f.local('i64');
    this.a = f.local('i64');
    this.b = f.local('i64');
  }

  private get reads(): boolean {
    return this.name === 'movs' || this.name === 'cmps';
  }
  private get compares(): boolean {
    return this.name === 'scas' || this.name === 'cmps';
  }

  emit(): void {
    const { f } = this;
    f.i32(0).load32(OFFSET.tlbView).set(this.view);
    f.i32(0).load32(OFFSET.eflags).i32(DF).op('i32.and').set(this.backwards);
    f.i32(MAX_STEPS).set(this.steps);
    // RIP of the instruction, should it go on in another turn; its record may be gone by then.
    if (!this.isCompiled) {
      f.i32(0).i32(0).load64(OFFSET.ripBase).get(this.record).access(0x33, RECORD.offset).op('i64.add');
      f.store64(OFFSET.rip);
    }
    if (this.name === 'scas' || this.name === 'stos') f.i32(0).access(this.zeroExtendingLoad, RAX).set(this.a);
    const round = f.loop();
    f.i32(0).load64(RCX).tee(this.left).op('i64.eqz').if().i32(SIGNAL.none).return().end();
    f.get(this.steps).op('i32.eqz').if().i32(SIGNAL.jump).return().end();
    if (this.reads) f.i32(0).load64(RSI).set(this.source);
    f.i32(0).load64(RDI).set(this.destination);
    const element = f.block();
    this.measure(element);
    this.inPages(element);
    f.br(round);
    f.end();
    if (this.isCompiled) f.i32(SIGNAL.bail).return();
    else {
      this.oneElement();
      f.br(round);
    }
    f.end();
    f.unreachable();
  }

  /** i64.load8_u, load16_u, load32_u, load. */
  private get zeroExtendingLoad(): number {
    return { 1: 0x31, 2: 0x33, 4: 0x35, 8: 0x29 }[this.size];
  }

  /** `count` and `bytes` of the elements in this round: all that lie whole in the pages at both ends. */
  private measure(element: number): void {
    const { f, size, shift, count, bytes, backwards } = this;
    const pointers = this.reads ? [this.source, this.destination] : [this.destination];
    const inPage = (pointer: number): FunctionBuilder => f.get(pointer).op('i32.wrap_i64').i32(4095).op('i32.and');
    const shifted = (): FunctionBuilder => (shift === 0 ? f : f.i32(shift).op('i32.shr_u'));
    const limit = (local: number): void => {
      f.set(local).get(local).get(count).get(local).get(count).op('i32.lt_u').select().set(count);
    };
    f.get(this.left).op('i32.wrap_i64').get(this.steps);
    f.get(this.left).get(this.steps).op('i64.extend_i32_u').op('i64.lt_u').select().set(count);
    f.get(backwards).if();
    if (this.compares) f.br(element);
    else {
      for (const pointer of pointers) {
        if (size > 1) inPage(pointer).i32(4096 - size).op('i32.gt_u').brIf(element);
        inPage(pointer);
        shifted().i32(1).op('i32.add');
        limit(bytes);
      }
      f.get(count).i32(shift).op('i32.shl').set(bytes);
      // From here on the pointers are those of the lowest element.
      for (const pointer of pointers)
        f.get(pointer).get(bytes).i32(size).op('i32.sub').op('i64.extend_i32_u').op('i64.sub').set(pointer);
    }
    f.else();
    for (const pointer of pointers) {
      f.i32(4096);
      inPage(pointer).op('i32.sub');
      shifted();
      limit(bytes);
    }
    if (size > 1) f.get(count).op('i32.eqz').brIf(element);
    f.get(count).i32(shift).op('i32.shl').set(bytes);
    f.end();
  } // prettier-ignore

  /** Machine address of a pointer into `host`; to `element` where there is no direct way. */
  private translate(pointer: number, host: number, isWrite: boolean, element: number): void {
    const { f, entry } = this;
    const table = isWrite ? TLB_WRITE : TLB_READ;
    f.get(pointer).op('i32.wrap_i64').i32(8).op('i32.shr_u').i32(0x3ff0).op('i32.and').get(this.view).op('i32.add');
    f.set(entry).get(entry).load64(table).get(pointer).i64(-4096).op('i64.and').op('i64.eq').if('i32');
    f.get(pointer).op('i32.wrap_i64').get(entry).load32(table + 8).op('i32.add');
    f.else();
    f.i32(0).get(pointer).store64(OFFSET.slowAddress);
    f.i32(this.size | (isWrite ? ACCESS.write : 0)).call(this.modules.tryTranslate).brIf(element);
    f.i32(0).load32(OFFSET.slowHost);
    f.end().set(host);
  } // prettier-ignore

  /** What lies in the pages, at once; registers after it. */
  private inPages(element: number): void {
    const { f, bytes, count } = this;
    if (this.reads) this.translate(this.source, this.hostSource, false, element);
    const writes = !this.compares;
    this.translate(this.destination, this.hostDestination, writes, element);
    if (this.name === 'movs') this.copy(element);
    else if (this.name === 'stos') this.fill();
    else this.search();
    if (writes) {
      f.get(this.backwards).if().i32(0).get(bytes).op('i32.sub').set(bytes).end();
    }
    const advance = (register: number): void => {
      f.i32(0).i32(0).load64(register).get(bytes).op('i64.extend_i32_s').op('i64.add').store64(register);
    };
    if (this.reads) advance(RSI);
    advance(RDI);
    f.i32(0).get(this.left).get(count).op('i64.extend_i32_u').op('i64.sub').store64(RCX);
    f.get(this.steps).get(count).op('i32.sub').set(this.steps);
    if (this.compares) f.get(this.done).if().i32(SIGNAL.none).return().end();
  }

  /** As the instruction copies: a destination that runs ahead of its source repeats what lies between them. */
  private copy(element: number): void {
    const { f, bytes, done, hostSource, hostDestination } = this;
    const memoryCopy = (): FunctionBuilder => f.call(this.modules.copy);
    const ahead = f.block();
    f.get(this.backwards).if();
    // Distances below `bytes` but not 0; those are the overlaps that memory.copy would do the other way.
    f.get(hostSource).get(hostDestination).op('i32.sub').i32(1).op('i32.sub');
    f.get(bytes).i32(1).op('i32.sub').op('i32.lt_u').brIf(element);
    f.get(hostDestination).get(hostSource).get(bytes).raw(...MEMORY_COPY).i32(0).set(done).br(ahead);
    f.else();
    f.get(hostDestination).get(hostSource).op('i32.sub').tee(done).i32(1).op('i32.sub');
    f.get(bytes).i32(1).op('i32.sub').op('i32.lt_u').brIf(ahead);
    f.end();
    f.get(hostDestination).get(hostSource).get(bytes);
    memoryCopy();
    f.i32(0).set(done);
    f.end();
    // `done`: 0, or the distance that the destination runs ahead: copy so much, then what is there again and again.
    f.get(done).if();
    f.get(done).i32(this.size).op('i32.lt_u').brIf(element);
    f.get(hostDestination).get(hostSource).get(done);
    memoryCopy();
    const doubling = f.loop();
    f.get(hostDestination).get(done).op('i32.add').get(hostDestination);
    f.get(done).get(bytes).get(done).op('i32.sub').get(done).get(bytes).get(done).op('i32.sub').op('i32.lt_u').select();
    memoryCopy();
    f.get(done).i32(1).op('i32.shl').tee(done).get(bytes).op('i32.lt_u').brIf(doubling);
    f.end();
    f.end();
  } // prettier-ignore

  private fill(): void {
    const { f, bytes, done, hostDestination, size } = this;
    const pattern = f.local('v128');
    if (size === 8) f.get(this.a);
    else f.get(this.a).op('i32.wrap_i64');
    f.op(`${LANES[size]}.splat`).set(pattern);
    f.get(bytes).i32(FILL_BYTES).op('i32.ge_u');
    // All bytes of the pattern alike.
    f.get(pattern).get(pattern).laneOp('i8x16.extract_lane_u', 0).op('i8x16.splat').op('i8x16.eq').op('i8x16.all_true').op('i32.and');
    f.if();
    f.get(hostDestination).get(pattern).laneOp('i8x16.extract_lane_u', 0).get(bytes).raw(...MEMORY_FILL);
    f.else();
    f.i32(0).set(done);
    const end = f.block();
    const wide = f.loop();
    f.get(bytes).get(done).op('i32.sub').i32(16).op('i32.ge_u').if();
    f.get(hostDestination).get(done).op('i32.add').get(pattern).simdAccess(V128.store, 0, MACHINE);
    f.get(done).i32(16).op('i32.add').set(done).br(wide);
    f.end();
    f.end();
    const narrow = f.loop();
    f.get(done).get(bytes).op('i32.ge_u').brIf(end);
    f.get(hostDestination).get(done).op('i32.add').get(this.a);
    if (size !== 8) f.op('i32.wrap_i64');
    f.access(STORES[ACCESS_TYPE[size]][0], 0, MACHINE);
    f.get(done).i32(size).op('i32.add').set(done).br(narrow);
    f.end();
    f.end();
    f.end();
  } // prettier-ignore

  /** Looks for the element that ends the repetition; `done` is then 1, and `count` and `bytes` end with it. */
  private search(): void {
    const { f, bytes, count, done, hostSource, hostDestination } = this;
    const { search } = this.modules;
    if (!search) throw new Error(`${this.name} does not search`);
    f.get(hostDestination);
    if (this.name === 'cmps') f.get(hostSource);
    else f.get(this.a);
    f.get(bytes).i32(0).load32(REPEAT).i32(REPNE).op('i32.eq').call(search).tee(done);
    f.get(bytes).op('i32.lt_u').if();
    f.get(done).i32(this.size).op('i32.add').set(bytes);
    f.get(bytes).i32(this.shift).op('i32.shr_u').set(count).i32(1).set(done);
    f.else().i32(0).set(done).end();
    const last = (host: number): void => {
      f.get(host).get(bytes).op('i32.add').i32(this.size).op('i32.sub').access(this.zeroExtendingLoad, 0, MACHINE);
    };
    if (this.name === 'cmps') {
      last(hostSource);
      f.set(this.a);
    }
    last(hostDestination);
    f.set(this.b);
    this.setFlags();
  }

  /** Flags of `a` - `b`. */
  private setFlags(): void {
    const { f, size } = this;
    const extended = (push: () => void): void => {
      push();
      if (size !== 8) f.op(`i64.extend${8 * size}_s`);
    };
    f.i32(0).i32(CC.sub | (this.shift << 4)).store32(OFFSET.ccKind);
    f.i32(0);
    extended(() => f.get(this.a));
    f.store64(OFFSET.ccA).i32(0);
    extended(() => f.get(this.b));
    f.store64(OFFSET.ccB).i32(0);
    extended(() => f.get(this.a).get(this.b).op('i64.sub'));
    f.store64(OFFSET.ccResult);
  } // prettier-ignore

  /** One element by the slow accesses, which fault, mind code and cross pages. */
  private oneElement(): void {
    const { f, size } = this;
    const access = this.modules.access[size];
    if (!access) throw new Error('no slow access of that size');
    const check = (): void => {
      f.i32(0).load32(OFFSET.signal).if().i32(SIGNAL.fault).return().end();
    };
    const load = (register: number, into: number): void => {
      f.i32(0).load64(register).get(this.record).call(access.load);
      if (size !== 8) f.op('i64.extend_i32_u');
      f.set(into);
      check();
    };
    if (this.reads) load(RSI, this.a);
    if (this.compares) {
      load(RDI, this.b);
      this.setFlags();
    } else {
      f.i32(0).load64(RDI).get(this.a);
      if (size !== 8) f.op('i32.wrap_i64');
      f.get(this.record).call(access.store);
      check();
    }
    const advance = (register: number): void => {
      f.i32(0).i32(0).load64(register).i64(-size).i64(size).get(this.backwards).select().op('i64.add').store64(register);
    };
    if (this.reads) advance(RSI);
    advance(RDI);
    f.i32(0).get(this.left).i64(1).op('i64.sub').store64(RCX);
    f.get(this.steps).i32(1).op('i32.sub').set(this.steps);
    if (!this.compares) return;
    // REPE ends at the first that differs, REPNE at the first that is equal.
    f.i32(0).load64(OFFSET.ccResult).op('i64.eqz').i32(0).load32(REPEAT).i32(REPNE).op('i32.eq').op('i32.eq');
    f.if().i32(SIGNAL.none).return().end();
  } // prettier-ignore
}

/**
 * `(host, host or value, bytes, wanted) -> byte offset` of the first element whose equality with its partner (in memory
 * for CMPS, the value for SCAS) is `wanted`; `bytes` when there is none.
 */
function buildSearch(m: ModuleBuilder, name: 'scas' | 'cmps', size: Size): FunctionRef {
  const inMemory = name === 'cmps';
  const f = m.function(['i32', inMemory ? 'i32' : 'i64', 'i32', 'i32'], ['i32']);
  const [host, partner, bytes, wanted] = [0, 1, 2, 3];
  const at = f.local('i32');
  const mask = f.local('i32');
  const flip = f.local('i32');
  const pattern = f.local('v128');
  const [opcode, , type] = LOADS[ACCESS_TYPE[size]];
  f.i32(0).i32(0xffff).get(wanted).select().set(flip);
  if (!inMemory) {
    f.get(partner);
    if (size !== 8) f.op('i32.wrap_i64');
    f.op(`${LANES[size]}.splat`).set(pattern);
  }
  const wide = f.loop();
  f.get(bytes).get(at).op('i32.sub').i32(16).op('i32.ge_u').if();
  f.get(host).get(at).op('i32.add').simdAccess(V128.load, 0, MACHINE);
  if (inMemory) f.get(partner).get(at).op('i32.add').simdAccess(V128.load, 0, MACHINE);
  else f.get(pattern);
  f.op(`${LANES[size]}.eq`).op('i8x16.bitmask').get(flip).op('i32.xor').tee(mask).if();
  f.get(mask).op('i32.ctz').get(at).op('i32.add').return().end();
  f.get(at).i32(16).op('i32.add').set(at).br(wide);
  f.end();
  f.end();
  const narrow = f.loop();
  f.get(at).get(bytes).op('i32.ge_u').if().get(bytes).return().end();
  f.get(host).get(at).op('i32.add').access(opcode, 0, MACHINE);
  if (inMemory) f.get(partner).get(at).op('i32.add').access(opcode, 0, MACHINE);
  else {
    f.get(partner);
    if (size !== 8) f.op('i32.wrap_i64');
    if (size < 4) f.i32((1 << (8 * size)) - 1).op('i32.and');
  }
  f.op(`${type}.eq`).get(wanted).op('i32.eq').if().get(at).return().end();
  f.get(at).i32(size).op('i32.add').set(at).br(narrow);
  f.end();
  f.unreachable();
  return f;
} // prettier-ignore
