/**
 * What the parts of a region's compiler share while one function is made: its locals, the homes of the guest's
 * registers, what is known of the flags, and the ways out.
 */
import type { ValueType } from '../semantics/algebra.ts';
import { TemporaryPool } from '../interpreter/emit-frame.ts';
import type { Value } from '../interpreter/emit-frame.ts';
import { OFFSET } from '../engine/state.ts';
import type { FunctionBuilder, FunctionRef, Label } from '../wasm/builder.ts';
import { GENERIC, keyOfFlags } from './lazy.ts';
import type { FlagState } from './lazy.ts';

/** Functions that a region calls. */
export interface RegionImports {
  readonly flags: FunctionRef;
  readonly carry: FunctionRef;
  readonly condition: FunctionRef;
  /** `COMPILED_STRINGS` by `compiledStringName`. */
  readonly strings: ReadonlyMap<string, FunctionRef>;
}

/** What an instruction did, as far as the flow of flags asks. */
export interface Events {
  /** Flags could be seen (read, or by a way out) before they were all set. */
  observes: boolean;
  kills: boolean;
  /** Sets all flags, whoever saw them before. */
  sets: boolean;
  /** Always left to the interpreter. */
  bails: boolean;
  /** Has changed the guest's state. */
  writes: boolean;
  /** Computes with the flags of before, or keeps some of them. */
  usesFlags: boolean;
}

export class RegionContext {
  readonly f: FunctionBuilder;
  readonly imports: RegionImports;
  readonly temporaries: TemporaryPool;
  /** Parameters. */
  readonly word = 0;
  readonly budget = 1;
  readonly view: number;
  readonly codeView: number;
  /** Linear address that positions of the region count from. */
  readonly base: number;
  readonly nextRip: number;
  /** Position of the instruction that a way out names. */
  readonly position: number;
  readonly entry: number;
  readonly scratch: number;
  /** Which description holds where flags are `joined` or a way out was taken; 0 is generic. */
  readonly form: number;
  /** How the function ends. */
  readonly result: number;
  private readonly forms = new Map<string, { readonly id: number; readonly state: FlagState }>();
  readonly cc: { readonly kind: number; readonly result: number; readonly a: number; readonly b: number };
  flags: FlagState = GENERIC;
  /** The flags after the instruction at hand are of no interest. */
  flagsAreDead = false;
  /** The instruction at hand neither sets nor reads flags. */
  leavesFlags = false;
  /** Nesting of computations that may not happen. */
  depth = 0;
  /** Code from here on is not reached. */
  isDead = false;
  /** Fields of the state that were found 0 in this block: `guard`. */
  readonly checkedBlocks = new Set<string>();
  bailLabel: Label = 0;
  readonly events: Events = {
    observes: false,
    kills: false,
    sets: false,
    bails: false,
    writes: false,
    usesFlags: false,
  };
  private readonly gprs: number[] = [];
  private readonly xmms: number[] = [];
  private readonly writtenGprs = new Set<number>();
  private readonly writtenXmms = new Set<number>();
  private readonly flagLocals = new Map<string, number>();

  constructor(f: FunctionBuilder, imports: RegionImports) {
    this.f = f;
    this.imports = imports;
    this.temporaries = new TemporaryPool(f);
    this.view = f.local('i32');
    this.codeView = f.local('i32');
    this.base = f.local('i64');
    this.nextRip = f.local('i64');
    this.position = f.local('i32');
    this.entry = f.local('i32');
    this.scratch = f.local('i32');
    this.form = f.local('i32');
    this.result = f.local('i32');
    this.cc = { kind: f.local('i32'), result: f.local('i64'), a: f.local('i64'), b: f.local('i64') };
  }

  /** Local that holds general register `n`. */
  gpr(n: number): number {
    return (this.gprs[n] ??= this.f.local('i64'));
  }
  xmm(n: number): number {
    return (this.xmms[n] ??= this.f.local('v128'));
  }
  noteGprWritten(n: number): void {
    this.writtenGprs.add(n);
  }
  noteXmmWritten(n: number): void {
    this.writtenXmms.add(n);
  }
  /** A local that holds an operand of the last flag setter. */
  flagLocal(role: 'a' | 'b' | 'r' | 'step' | 'bits' | 'change', type: ValueType): number {
    const key = role + type;
    const known = this.flagLocals.get(key);
    if (known !== undefined) return known;
    const local = this.f.local(type);
    this.flagLocals.set(key, local);
    return local;
  }

  /** The instruction computes with the flags as they are. */
  use(): void {
    this.observe();
    if (!this.events.sets) this.events.usesFlags = true;
  }
  observe(): void {
    if (!this.events.kills) this.events.observes = true;
  }

  /** Notes in the local `form` what is known of the flags, for a way out or a block that several ways lead to. */
  emitForm(state: FlagState): void {
    if (state.form === 'joined' || state.form === 'dead') return;
    this.f.i32(this.formOf(state)).set(this.form);
  }
  private formOf(state: FlagState): number {
    if (state.form === 'generic') return 0;
    const key = keyOfFlags(state);
    const known = this.forms.get(key);
    if (known) return known.id;
    const id = this.forms.size + 1;
    this.forms.set(key, { id, state });
    return id;
  }
  /** Makes the lazy words of whatever `form` says. `emit` makes those of one description. */
  emitResolve(emit: (state: FlagState) => void): void {
    const { f, forms } = this;
    if (forms.size === 0) return;
    const done = f.block();
    const labels: Label[] = [];
    for (let i = 0; i < forms.size; i++) labels.unshift(f.block());
    f.get(this.form).brTable([done, ...labels], done);
    for (const { state } of forms.values()) {
      f.end();
      emit(state);
      this.temporaries.release();
      f.br(done);
    }
    f.end().i32(0).set(this.form); // prettier-ignore
  }

  /** Registers and flags from the state to their locals. */
  emitLoads(): void {
    const { f, cc } = this;
    this.gprs.forEach((local, n) => f.i32(0).load64(OFFSET.rax + 8 * n).set(local)); // prettier-ignore
    this.xmms.forEach((local, n) => f.i32(0).simdAccess(0, OFFSET.xmm + 32 * n).set(local)); // prettier-ignore
    f.i32(0).load32(OFFSET.ccKind).set(cc.kind).i32(0).load64(OFFSET.ccResult).set(cc.result);
    f.i32(0).load64(OFFSET.ccA).set(cc.a).i32(0).load64(OFFSET.ccB).set(cc.b);
    f.i32(0).set(this.form);
    f.i32(0).load32(OFFSET.tlbView).set(this.view).i32(0).load32(OFFSET.codeView).set(this.codeView);
  }
  /** The locals that were written back to the state. */
  emitStores(): void {
    const { f, cc } = this;
    for (const n of this.writtenGprs) f.i32(0).get(this.gpr(n)).store64(OFFSET.rax + 8 * n); // prettier-ignore
    for (const n of this.writtenXmms) f.i32(0).get(this.xmm(n)).simdAccess(11, OFFSET.xmm + 32 * n); // prettier-ignore
    f.i32(0).get(cc.kind).store32(OFFSET.ccKind).i32(0).get(cc.result).store64(OFFSET.ccResult);
    f.i32(0).get(cc.a).store64(OFFSET.ccA).i32(0).get(cc.b).store64(OFFSET.ccB);
  }
  local(type: ValueType, local: number): Value {
    return { type, local, constant: 0n };
  }
}
