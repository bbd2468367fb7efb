/**
 * Generates the interpreter: one function, a loop around a br_table over the records' handler numbers, with the
 * common handlers inside and the others in functions of their own behind call_indirect. RIP is never kept: it is
 * `ripBase` plus the record's offset. Measurements behind the shape: docs/RATIONALE.md.
 */
import { OFFSET } from '../engine/state.ts';
import { ROWS } from '../isa/table.ts';
import { HELPERS } from '../semantics/helpers/index.ts';
import { SEMANTICS } from '../semantics/index.ts';
import { ModuleBuilder } from '../wasm/builder.ts';
import type { FunctionBuilder, FunctionRef, Label } from '../wasm/builder.ts';
import { HELPER_ARITY_SHIFT, TemporaryPool } from './emit-frame.ts';
import { HandlerEmitter } from './emitter.ts';
import type { CcField, Frame, SlowImports, Value } from './emit-frame.ts';
import { SPECIAL, enumerateFused, enumerateShapes, fusedKey } from './handlers.ts';
import type { BoundShape, FusedShape } from './handlers.ts';
import {
  CODE_TLB, CODE_TLB_ENTRIES, COUNTERS, COUNTER_MASK, ENTRY, HOT_THRESHOLD, NR_BAILED, NR_ENTERED, RECORD, RECORD_BYTES, RUN_BUDGET, SIGNAL,
} from './memory-map.ts'; // prettier-ignore
import { buildSlowModule } from './slow-module.ts';

const CC_FIELDS: readonly CcField[] = ['ccKind', 'ccResult', 'ccA', 'ccB'];

export const HELPER_NAMES: readonly string[] = Object.keys(HELPERS);
export const HELPER_IDS: ReadonlyMap<string, number> = new Map(HELPER_NAMES.map((name, id) => [name, id]));

export interface HandlerTable {
  /** Handler number by shape key. */
  readonly numbers: ReadonlyMap<string, number>;
  readonly inlineShapes: readonly BoundShape[];
  readonly fusedShapes: readonly FusedShape[];
  readonly outlinedShapes: readonly BoundShape[];
}
/** Handlers outlined into modules of their own that are made when first needed (`late.ts`), numbered after all others. */
export interface LateTable {
  readonly numbers: ReadonlyMap<string, number>;
  readonly shapes: readonly BoundShape[];
  /** Number of the first of these. */
  readonly first: number;
}

let cachedTable: HandlerTable | undefined;
/** Numbers of all handlers; the same in every thread, since the rows are. */
export function handlerTable(): HandlerTable {
  if (cachedTable) return cachedTable;
  const shapes = enumerateShapes(ROWS.filter((row) => !row.vex));
  const inlineShapes = shapes.filter((s) => s.inline);
  const outlinedShapes = shapes.filter((s) => !s.inline);
  const fusedShapes = enumerateFused(inlineShapes);
  const numbers = new Map<string, number>();
  const keys = [
    ...inlineShapes.map((s) => s.key),
    ...fusedShapes.map((s) => fusedKey(s.setter.key, s.condition)),
    ...outlinedShapes.map((s) => s.key),
  ];
  for (const key of keys) numbers.set(key, SPECIAL.first + numbers.size);
  cachedTable = { numbers, inlineShapes, fusedShapes, outlinedShapes };
  return cachedTable;
}

let cachedLateTable: LateTable | undefined;
/** Those of the instructions with a VEX prefix. */
export function lateTable(): LateTable {
  if (cachedLateTable) return cachedLateTable;
  const shapes = enumerateShapes(ROWS.filter((row) => row.vex));
  const first = SPECIAL.first + handlerTable().numbers.size;
  cachedLateTable = { shapes, first, numbers: new Map(shapes.map(({ key }, n) => [key, first + n])) };
  return cachedLateTable;
}

/** Bytes of the two modules; compile once, share among threads. */
export interface EngineBinaries {
  readonly interpreter: Uint8Array;
  readonly slow: Uint8Array;
}

export function generateEngine(): EngineBinaries {
  return { interpreter: buildInterpreter(), slow: buildSlowModule() };
}

function emitShape(shape: BoundShape, frame: Frame, slow: SlowImports, temporaries: TemporaryPool): void {
  const semantics = SEMANTICS[shape.semantics];
  if (!semantics) throw new Error(`rows name semantics '${shape.semantics}' that do not exist`);
  const e = new HandlerEmitter(shape, { frame, slow, temporaries, helperIds: HELPER_IDS });
  if (shape.feature === 'sse') e.guard('simdBlock');
  else if (shape.feature === 'avx') e.guard('avxBlock');
  else if (shape.feature !== '') e.guard('fpuBlock', shape.feature === 'mmx');
  semantics(e);
  frame.next();
}

/** A flag setter and the conditional jump in the record behind it. */
function emitFused(fused: FusedShape, frame: Frame, parts: { slow: SlowImports; temporaries: TemporaryPool }): void {
  const e = new HandlerEmitter(fused.setter, { frame, ...parts, helperIds: HELPER_IDS });
  SEMANTICS[fused.setter.semantics]?.(e);
  e.flagsAreCompare = true;
  const condition = e.condition(fused.condition);
  frame.f.get(frame.record).i32(RECORD_BYTES).op('i32.add').set(frame.record);
  e.when(condition, () => {
    frame.taken();
  });
  frame.next();
}

/** Under which name the interpreter exports its table of outlined handlers. */
export const HANDLER_TABLE = 'handlers';
/** Late handlers in one module. */
export const LATE_GROUP = 32;
export const lateName = (n: number): string => `h${n}`;

/** The slow paths that handlers of any module call. */
function importSlow(m: ModuleBuilder, helper: FunctionRef): SlowImports {
  const cc = ['i32', 'i64', 'i64', 'i64'] as const;
  const sizes = [1, 2, 4, 8, 16] as const;
  const valueType = (size: number): 'i32' | 'i64' | 'v128' => (size === 16 ? 'v128' : size === 8 ? 'i64' : 'i32');
  return {
    flags: m.importFunction('slow', 'flags', cc, ['i32']),
    carry: m.importFunction('slow', 'carry', cc, ['i32']),
    condition: m.importFunction('slow', 'condition', ['i32', ...cc], ['i32']),
    rmw: m.importFunction('slow', 'rmw', ['i64', 'i32', 'i32'], ['i32']),
    load: Object.fromEntries(sizes.map((s) => [s, m.importFunction('slow', `load${s}`, ['i64', 'i32'], [valueType(s)])])), // prettier-ignore
    store: Object.fromEntries(sizes.map((s) => [s, m.importFunction('slow', `store${s}`, ['i64', valueType(s), 'i32'], [])])), // prettier-ignore
    helper,
  };
}

/** A handler as a function from record to SIGNAL. */
function buildOutlined(m: ModuleBuilder, shape: BoundShape, slow: SlowImports, exportName?: string): FunctionRef {
  const f = m.function(['i32'], ['i32'], exportName);
  emitShape(shape, outlinedFrame(f), slow, new TemporaryPool(f));
  f.unreachable();
  return f;
}

/** The module of the late handlers from `LATE_GROUP` times `group` on; it exports each under `lateName`. */
export function buildLateGroup(group: number): Uint8Array {
  const m = new ModuleBuilder();
  m.importMemory('engine', 'private', 1, undefined, false);
  m.importMemory('engine', 'machine', 1, 65536, true);
  const slow = importSlow(m, m.importFunction('engine', 'helper', ['i32', 'i32'], ['i32']));
  const first = group * LATE_GROUP;
  lateTable()
    .shapes.slice(first, first + LATE_GROUP)
    .forEach((shape, n) => {
      buildOutlined(m, shape, slow, lateName(n));
    });
  return m.build();
}

function buildInterpreter(): Uint8Array {
  const m = new ModuleBuilder();
  m.importMemory('engine', 'private', 1, undefined, false);
  m.importMemory('engine', 'machine', 1, 65536, true);
  /** (RIP in the state) -> record, or 0: a fault or an exit stands in the state. */
  const resolve = m.importFunction('engine', 'resolve', [], ['i32']);
  const helper = m.importFunction('engine', 'helper', ['i32', 'i32'], ['i32']);
  /** (record that branches went to often) -> the record to go on with. */
  const hot = m.importFunction('engine', 'hot', ['i32'], ['i32']);
  const regions = m.importTable('engine', 'regions');
  const slow = importSlow(m, helper);
  const { inlineShapes, fusedShapes, outlinedShapes } = handlerTable();
  // Declared index 0: V8's --wasm-tier-mask-for-testing=1 compiles exactly it with the optimising compiler at once.
  const run = m.function(['i32', 'i32'], ['i32'], 'run');
  const outlined = outlinedShapes.map((shape) => buildOutlined(m, shape, slow));
  const outlinedTable = m.table(outlined, HANDLER_TABLE);
  const outlinedType = m.type(['i32'], ['i32']);
  const regionType = m.type(['i32', 'i32'], ['i32']);
  buildLoop(run, { slow, resolve, hot, inlineShapes, fusedShapes, outlinedType, outlinedTable, regions, regionType });
  return m.build();
}

/** A handler in a function of its own: flags stay in memory, the result says how to go on. */
function outlinedFrame(f: FunctionBuilder): Frame {
  const leave = (signal: number): void => {
    f.i32(signal).return();
  };
  const code = f.local('i32');
  const popped: Record<CcField, number> = {
    ccKind: f.local('i32'), ccResult: f.local('i64'), ccA: f.local('i64'), ccB: f.local('i64'),
  }; // prettier-ignore
  const jump = (target: Value): void => {
    f.i32(0);
    f.get(target.local).store64(OFFSET.rip);
    leave(SIGNAL.jump);
  };
  return {
    f,
    record: 0,
    pushView: () => { f.i32(0).load32(OFFSET.tlbView); },
    getCc: (field) => {
      f.i32(0);
      if (field === 'ccKind') f.load32(OFFSET.ccKind);
      else f.load64(OFFSET[field]);
    },
    setCc: (field) => {
      f.set(popped[field]).i32(0).get(popped[field]);
      if (field === 'ccKind') f.store32(OFFSET.ccKind);
      else f.store64(OFFSET[field]);
    },
    fault: () => { leave(SIGNAL.fault); },
    jump,
    taken: () => {
      f.i32(0).i32(0).load64(OFFSET.ripBase).get(0).load64(RECORD.imm).op('i64.add').store64(OFFSET.rip);
      leave(SIGNAL.jump);
    },
    again: () => {
      f.i32(0).i32(0).load64(OFFSET.ripBase).get(0).access(0x33, RECORD.offset).op('i64.add').store64(OFFSET.rip);
      leave(SIGNAL.jump);
    },
    next: () => { leave(SIGNAL.none); },
    helperResult: () => { f.tee(code).if().get(code).return().end(); },
  }; // prettier-ignore
}

interface LoopParts {
  slow: SlowImports;
  resolve: FunctionRef;
  hot: FunctionRef;
  inlineShapes: readonly BoundShape[];
  fusedShapes: readonly FusedShape[];
  outlinedType: number;
  outlinedTable: number;
  /** Table and type of the functions of compiled code. */
  regions: number;
  regionType: number;
}

/** The function `run(record, budget)`: record 0 starts at the state's RIP. Returns RUN_BUDGET or a SIGNAL. */
function buildLoop(f: FunctionBuilder, parts: LoopParts): void {
  const { slow, resolve, inlineShapes, fusedShapes } = parts;
  const record = 0;
  const budget = 1;
  const cc: Record<CcField, number> = {
    ccKind: f.local('i32'), ccResult: f.local('i64'), ccA: f.local('i64'), ccB: f.local('i64'),
  }; // prettier-ignore
  const view = f.local('i32');
  const nextRip = f.local('i64');
  const linear = f.local('i64');
  const entry = f.local('i32');
  const code = f.local('i32');
  const temporaries = new TemporaryPool(f);

  const spillFlags = (): void => {
    for (const field of CC_FIELDS) {
      f.i32(0).get(cc[field]);
      if (field === 'ccKind') f.store32(OFFSET.ccKind);
      else f.store64(OFFSET[field]);
    }
  };
  const reload = (): void => {
    for (const field of CC_FIELDS) {
      f.i32(0);
      if (field === 'ccKind') f.load32(OFFSET.ccKind);
      else f.load64(OFFSET[field]);
      f.set(cc[field]);
    }
    f.i32(0).load32(OFFSET.tlbView).set(view);
  };
  /** ripBase + offset of the record. */
  const pushRip = (): void => {
    f.i32(0).load64(OFFSET.ripBase).get(record).access(0x33, RECORD.offset).op('i64.add');
  };
  const pushTarget = (): void => {
    f.i32(0).load64(OFFSET.ripBase).get(record).load64(RECORD.imm).op('i64.add');
  };

  /** The record of `nextRip`, and `ripBase`; where there is none, a fault or an exit stands in the state. */
  const lookup = (): void => {
    f.i32(0).set(record);
    f.get(nextRip).i32(0).load64(OFFSET.codeBase).op('i64.add').tee(linear);
    f.op('i32.wrap_i64').i32(8).op('i32.shr_u').i32((CODE_TLB_ENTRIES - 1) << 4).op('i32.and');
    f.i32(0).load32(OFFSET.codeView).op('i32.add').tee(entry).load64(CODE_TLB);
    f.get(linear).i64(-4096).op('i64.and').op('i64.eq').if();
    f.get(entry).load32(CODE_TLB + 8).get(linear).op('i32.wrap_i64').i32(4095).op('i32.and').i32(2).op('i32.shl');
    f.op('i32.add').load32(0).set(record).end();
    f.get(record).op('i32.eqz').if();
    f.i32(0).get(nextRip).store64(OFFSET.rip);
    f.call(resolve).tee(record).op('i32.eqz').if().i32(SIGNAL.leave).set(code).br(leave).end();
    f.end();
    f.i32(0).get(nextRip).get(linear).i64(4095).op('i64.and').op('i64.sub').store64(OFFSET.ripBase);
  }; // prettier-ignore

  reload();
  f.i32(0).load64(OFFSET.rip).set(nextRip);
  const leave = f.block();
  const fault = f.block();
  const jump = f.loop();

  // A jump to `nextRip`, unless the caller gave a record.
  f.get(record).op('i32.eqz').if();
  f.get(budget).i32(1).op('i32.sub').tee(budget).i32(0).op('i32.lt_s').if();
  f.i32(0).get(nextRip).store64(OFFSET.rip).i32(RUN_BUDGET).set(code).br(leave).end();
  lookup();
  f.end();

  // Branches come here.
  const counted = f.loop();
  f.get(record).i32(3).op('i32.shr_u').i32(COUNTER_MASK).op('i32.and').tee(entry);
  f.get(entry).load32(COUNTERS).i32(1).op('i32.add').tee(code).store32(COUNTERS);
  f.get(code).i32(0).load32(HOT_THRESHOLD).op('i32.ge_u').if();
  f.get(record).call(parts.hot).set(record).end();

  const main = f.loop();
  const nrInline = inlineShapes.length + fusedShapes.length;
  const nrBlocks = SPECIAL.first + nrInline + 1;
  const blocks: Label[] = [];
  for (let i = 0; i < nrBlocks; i++) blocks.unshift(f.block());
  f.get(record).load16(RECORD.handler);
  f.brTable(blocks.slice(0, -1), blocks.at(-1) ?? main);

  const toMain = (): void => {
    f.br(main);
  };
  const toJump = (): void => {
    f.i32(0).set(record).br(jump);
  };
  const next = (): void => {
    f.get(record).i32(RECORD_BYTES).op('i32.add').set(record);
    toMain();
  };
  const frame: Frame = {
    f,
    record,
    pushView: () => { f.get(view); },
    getCc: (field) => { f.get(cc[field]); },
    setCc: (field) => { f.set(cc[field]); },
    fault: () => { f.br(fault); },
    jump: (target) => {
      f.get(target.local).set(nextRip);
      toJump();
    },
    taken: () => {
      f.get(record).load32(RECORD.link).tee(entry).if();
      f.get(budget).i32(1).op('i32.sub').tee(budget).i32(0).op('i32.lt_s').if();
      f.i32(0);
      pushTarget();
      f.store64(OFFSET.rip).i32(RUN_BUDGET).set(code).br(leave).end();
      f.get(entry).set(record).br(counted);
      f.end();
      pushTarget();
      f.set(nextRip);
      toJump();
    },
    again: () => {
      pushRip();
      f.set(nextRip);
      toJump();
    },
    next,
    helperResult: () => { throw new Error('handlers inside the loop call no helpers'); },
  }; // prettier-ignore

  const pushOffset = (): void => {
    f.get(record).load16(RECORD.base).load64(0);
    f.get(record).load16(RECORD.index).load64(0);
    f.get(record).access(0x31, RECORD.scale).op('i64.shl').op('i64.add');
    f.get(record).access(0x34, RECORD.disp).op('i64.add');
  };

  const special: Record<number, () => void> = {
    [SPECIAL.resolve]: () => { frame.again(); },
    [SPECIAL.attend]: () => {
      f.i32(0).load32(OFFSET.attention).if();
      f.i32(0); pushRip(); f.store64(OFFSET.rip).i32(SIGNAL.leave).set(code).br(leave).end();
      reload();
      frame.again();
    },
    [SPECIAL.stop]: () => {
      f.i32(0); pushRip(); f.store64(OFFSET.rip).i32(RUN_BUDGET).set(code).br(leave);
    },
    [SPECIAL.goto]: () => { f.get(record).load32(RECORD.link).set(record); toMain(); },
    [SPECIAL.fault]: () => {
      f.i32(0).get(record).load16(RECORD.a).store32(OFFSET.faultVector);
      f.i32(0).get(record).load32(RECORD.imm).store32(OFFSET.faultError);
      f.br(fault);
    },
    [SPECIAL.address]: () => {
      f.i32(0); pushOffset(); f.get(record).load64(RECORD.imm).op('i64.and');
      f.get(record).load16(RECORD.a).load64(0).op('i64.add').store64(OFFSET.ea);
      next();
    },
    [SPECIAL.addressLegacy]: () => {
      const offset = temporaries.take('i64');
      pushOffset(); f.get(record).load64(RECORD.imm).op('i64.and').set(offset);
      f.i32(0).load32(OFFSET.segmentCheck).get(record).load16(RECORD.c).i32(7).op('i32.and').op('i32.shr_u').i32(1).op('i32.and').if();
      f.i32(0).get(record).load16(RECORD.c).i32(7).op('i32.and').op('i64.extend_i32_u').store64(OFFSET.args);
      f.i32(0).get(offset).store64(OFFSET.args + 8);
      f.i32(0).get(record).load16(RECORD.c).i32(3).op('i32.shr_u').op('i64.extend_i32_u').store64(OFFSET.args + 16);
      spillFlags();
      f.i32((HELPER_IDS.get('checksegment') ?? 0) | (3 << HELPER_ARITY_SHIFT)).get(record).call(slow.helper).brIf(fault).end();
      f.i32(0).get(offset).get(record).load16(RECORD.a).load64(0).op('i64.add').i64(0xffff_ffffn).op('i64.and').store64(OFFSET.ea);
      temporaries.release();
      next();
    },
    [SPECIAL.addressOffset]: () => {
      f.i32(0); pushOffset(); f.get(record).load64(RECORD.imm).op('i64.and').store64(OFFSET.ea);
      next();
    },
    [SPECIAL.addressLong]: () => {
      f.i32(0).get(record).load16(RECORD.base).load64(0).get(record).load64(RECORD.imm).op('i64.add');
      f.get(record).load16(RECORD.a).load64(0).op('i64.add').store64(OFFSET.ea);
      next();
    },
    [SPECIAL.crossing]: () => {
      // The second page must still translate to the page map that it had when the instruction was decoded.
      f.i32(0).load64(OFFSET.ripBase).i64(4096).op('i64.add').i32(0).load64(OFFSET.codeBase).op('i64.add').tee(linear);
      f.op('i32.wrap_i64').i32(8).op('i32.shr_u').i32((CODE_TLB_ENTRIES - 1) << 4).op('i32.and');
      f.i32(0).load32(OFFSET.codeView).op('i32.add').tee(entry).load64(CODE_TLB);
      f.get(linear).i64(-4096).op('i64.and').op('i64.eq');
      f.get(entry).load32(CODE_TLB + 8).get(record).load32(RECORD.link).op('i32.eq').op('i32.and').if();
      next();
      f.end();
      // Decode again: the map forgets this record, the host makes another.
      pushRip(); f.tee(nextRip); f.set(linear);
      f.i32(0).get(nextRip).store64(OFFSET.rip);
      f.i32(0).get(record).store32(OFFSET.nextRecord);
      f.call(resolve).tee(record).op('i32.eqz').if().i32(SIGNAL.leave).set(code).br(leave).end();
      toMain();
    },
    [SPECIAL.enter]: () => {
      spillFlags();
      f.i32(0).i32(0).load32(NR_ENTERED).i32(1).op('i32.add').store32(NR_ENTERED);
      f.get(record).load32(RECORD.imm).tee(entry).get(budget).get(entry).i32(ENTRY.blockBits).op('i32.shr_u');
      f.callIndirect(parts.regionType, parts.regions).set(code);
      f.i32(0).load32(OFFSET.budgetLeft).set(budget);
      reload();
      f.i32(0).load64(OFFSET.rip).set(nextRip);
      f.get(code).i32(SIGNAL.jump).op('i32.eq').if();
      toJump();
      f.end();
      f.get(code).i32(SIGNAL.bail).op('i32.ne').brIf(leave);
      f.i32(0).i32(0).load32(NR_BAILED).i32(1).op('i32.add').store32(NR_BAILED);
      // The instruction itself, even where compiled code begins with it.
      lookup();
      f.get(record).load16(RECORD.handler).i32(SPECIAL.enter).op('i32.eq').if();
      f.get(record).load32(RECORD.link).set(record).end();
      toMain();
    },
  }; // prettier-ignore

  for (let i = 0; i < SPECIAL.first; i++) {
    f.end();
    special[i]?.();
  }
  for (const shape of inlineShapes) {
    f.end();
    emitShape(shape, frame, slow, temporaries);
    temporaries.release();
  }
  for (const fused of fusedShapes) {
    f.end();
    emitFused(fused, frame, { slow, temporaries });
    temporaries.release();
  }
  // Everything else is a function.
  f.end();
  spillFlags();
  f.get(record);
  f.get(record)
    .load16(RECORD.handler)
    .i32(SPECIAL.first + nrInline)
    .op('i32.sub')
    .callIndirect(parts.outlinedType, parts.outlinedTable)
    .set(code);
  reload();
  f.get(code).op('i32.eqz').if();
  next();
  f.end();
  f.get(code).i32(SIGNAL.jump).op('i32.eq').if();
  f.i32(0).load64(OFFSET.rip).set(nextRip);
  toJump();
  f.end();
  f.get(code).i32(SIGNAL.fault).op('i32.eq').brIf(fault);
  f.br(leave);

  f.end(); // main
  f.end(); // counted
  f.end(); // jump
  f.unreachable();
  f.end(); // fault
  f.i32(0);
  pushRip();
  f.store64(OFFSET.rip).i32(SIGNAL.fault).set(code);
  f.end(); // leave
  spillFlags();
  f.i32(0).get(budget).store32(OFFSET.budgetLeft);
  f.get(code);
}
