/**
 * The engine: wires the parts over one private memory, and the run loop around the generated interpreter. It knows
 * nothing of who handles its exits.
 */
import type { Engine, EngineHost, EngineOptions, Exit, ExitAnswer, PageFault } from '../engine/api.ts';
import { ExitReason } from '../engine/exit-reason.ts';
import { CPU_STATE_SIZE, OFFSET, SEG } from '../engine/state.ts';
import type { CpuState } from '../engine/state.ts';
import { GuestFault, VECTOR } from '../semantics/helper.ts';
import { deliverEvent } from '../semantics/helpers/deliver.ts';
import { loadCodeSegment, loadSegmentRegister } from '../semantics/helpers/segments.ts';
import { JitTier } from '../jit/tier.ts';
import { CodeLookup } from './code-lookup.ts';
import { EFLAGS, EngineCore, NO_FAULT } from './core.ts';
import { DataAccess } from './data-access.ts';
import { HANDLER_TABLE, generateEngine } from './generate.ts';
import type { EngineBinaries } from './generate.ts';
import { LateHandlers } from './late.ts';
import { HelperCalls } from './helper-calls.ts';
import { NR_BAILED, NR_ENTERED, RUN_BUDGET, SIGNAL } from './memory-map.ts';
import { DerivedMode, rootKey } from './mode.ts';
import { HelperMemory, accessVirtual } from './virtual-memory.ts';

/** BS of DR6: a single step. */
const DR6_SINGLE_STEP = 0x4000n;

/** Compiled modules; make them once and share them among threads. */
export interface EngineModules {
  readonly interpreter: WebAssembly.Module;
  readonly slow: WebAssembly.Module;
  /** One word that all engines over one memory lock against each other with. */
  readonly busLock: SharedArrayBuffer;
}

/** `binaries`: as `generateEngine` of this very version made them, should that have been done before. */
export function compileEngine(binaries?: EngineBinaries): EngineModules {
  const { interpreter, slow } = binaries ?? generateEngine();
  return {
    interpreter: new WebAssembly.Module(interpreter),
    slow: new WebAssembly.Module(slow),
    busLock: new SharedArrayBuffer(4),
  };
}

export class InterpreterEngine implements Engine {
  readonly state: CpuState;
  readonly exit: Exit;
  readonly counters: EngineCore['counters'];
  onExit: ((exit: Exit) => ExitAnswer) | undefined;
  private readonly monitor: boolean;
  private readonly core: EngineCore;
  private readonly mode: DerivedMode;
  private readonly data: DataAccess;
  private readonly code: CodeLookup;
  private readonly helpers: HelperCalls;
  private readonly jit: JitTier;
  private readonly wasmRun: (record: number, budget: number) => number;

  constructor(
    options: EngineOptions,
    modules: { machineMemory: WebAssembly.Memory; host: EngineHost; code?: EngineModules },
  ) {
    const { interpreter, slow, busLock } = modules.code ?? compileEngine();
    this.monitor = options.trapMode === 'monitor';
    const core = new EngineCore(options, modules);
    this.core = core;
    this.state = core.state;
    this.exit = core.exit;
    this.counters = core.counters;
    this.mode = new DerivedMode(core, { monitor: this.monitor });
    this.data = new DataAccess(core);
    this.code = new CodeLookup(core, this.data);
    const memory = new HelperMemory(core, this.data);
    this.helpers = new HelperCalls(
      { monitor: this.monitor },
      {
        core,
        mode: this.mode,
        memory,
        busLock: new Int32Array(busLock),
        onExit: (exit) => this.onExit?.(exit) ?? 'refuse',
      },
    );
    const memories = { private: core.privateMemory, machine: modules.machineMemory };
    const translate = (info: number, record: number): number => this.data.translate(info, record);
    const tryTranslate = (info: number): number => this.data.tryTranslate(info);
    const helper = (word: number, record: number): number => this.helpers.call(word, record);
    const slowPaths = new WebAssembly.Instance(slow, { engine: { ...memories, translate, tryTranslate, helper } });
    this.jit = new JitTier(core, options.jit ?? 'on', options.hotAfter);
    this.jit.link(memories, slowPaths.exports);
    const imports: WebAssembly.Imports = {
      engine: {
        ...memories,
        resolve: () => this.code.resolve(),
        helper: slowPaths.exports.helper as () => number,
        hot: (record: number) => this.jit.hot(record),
        regions: this.jit.table,
      },
      slow: slowPaths.exports as Record<string, () => unknown>,
    };
    const main = new WebAssembly.Instance(interpreter, imports);
    const late = new LateHandlers(main.exports[HANDLER_TABLE] as WebAssembly.Table, imports);
    core.cache.onLateHandler = (handler) => {
      late.need(handler);
    };
    this.wasmRun = main.exports.run as (record: number, budget: number) => number;
    this.state.reset();
    this.stateChanged();
  }

  // Running ----------------------------------------------------------------------------------------------------------
  run(budget: number): ExitReason {
    const { state, core } = this;
    this.counters.slices++;
    this.jit.betweenRuns();
    this.helpers.pauses = 0;
    let left = Math.max(1, budget);
    state.attention = 1;
    for (;;) {
      if (state.attention !== 0) {
        if (this.windowIsOpen()) return this.leaveWith(ExitReason.interruptWindow);
        state.attention = this.mustStep() ? 1 : 0;
      }
      const stepping = state.attention !== 0;
      const code = stepping ? this.step() : this.wasmRun(0, left);
      left = stepping ? left - 1 : (core.words[OFFSET.budgetLeft / 4] ?? 0);
      core.words[OFFSET.signal / 4] = 0;
      if (core.exitPending) {
        core.exitPending = false;
        state.faultVector = NO_FAULT;
        return this.leaveWith(this.exit.reason);
      }
      if (code === SIGNAL.fault || state.faultVector !== NO_FAULT) {
        const answer = this.raise() ? this.answerTo(stepping) : 'resume';
        if (answer !== 'resume') return this.leaveWith(answer === 'refuse' ? this.exit.reason : answer);
      } else if ((code === RUN_BUDGET || code === SIGNAL.compiledBudget) && !stepping) {
        if (code === RUN_BUDGET) this.counters.interpretedSlices++;
        else this.counters.compiledSlices++;
        return this.leaveWith(ExitReason.budget);
      }
      if (left <= 0) return this.leaveWith(ExitReason.budget);
    }
  }

  /** What becomes of the exit that a fault has become. */
  private answerTo(stepping: boolean): ExitAnswer {
    return this.onExit && this.monitor && !stepping ? this.onExit(this.exit) : 'refuse';
  }
  private leaveWith(reason: ExitReason): ExitReason {
    this.counters.decodedInstructions = this.core.cache.decodedInstructions;
    this.counters.regionEntries = (this.core.words[NR_ENTERED / 4] ?? 0) >>> 0;
    this.counters.regionBails = (this.core.words[NR_BAILED / 4] ?? 0) >>> 0;
    this.exit.reason = reason;
    return reason;
  }
  private windowIsOpen(): boolean {
    const { state } = this;
    return state.interruptWindow !== 0 && state.interruptShadow === 0 && (state.eflags & EFLAGS.if) !== 0;
  }
  private mustStep(): boolean {
    const { state } = this;
    return (state.eflags & (EFLAGS.tf | EFLAGS.rf)) !== 0 || state.interruptShadow !== 0 || this.core.breakpointsOn();
  }

  /** One instruction, with what single steps and breakpoints ask. */
  private step(): number {
    const { state, core } = this;
    const trap = (state.eflags & EFLAGS.tf) !== 0;
    const resume = (state.eflags & EFLAGS.rf) !== 0;
    const shadow = state.interruptShadow;
    // What MOV SS or POP SS met waits for the instruction after it.
    if (shadow !== 2) core.pendingDebug = 0n;
    if (!resume && this.codeBreakpoint()) return SIGNAL.fault;
    const record = this.code.fetchStep();
    if (record === 0) return SIGNAL.fault;
    state.interruptShadow = 0;
    const code = this.wasmRun(record, 0);
    if (code === SIGNAL.fault || state.faultVector !== NO_FAULT) {
      state.interruptShadow = shadow;
      return SIGNAL.fault;
    }
    if (resume && !core.exitPending) state.eflags &= ~EFLAGS.rf;
    if (trap && (state.eflags & EFLAGS.tf || code === RUN_BUDGET)) core.pendingDebug |= DR6_SINGLE_STEP;
    if (core.pendingDebug !== 0n && state.interruptShadow !== 2 && !core.exitPending) {
      state.dr6 |= core.pendingDebug;
      core.setFault(VECTOR.debug, -1);
      return SIGNAL.fault;
    }
    return code;
  }

  private codeBreakpoint(): boolean {
    const { state } = this;
    if (!this.core.breakpointsOn()) return false;
    const linear = BigInt.asUintN(64, state.rip + state.codeBase);
    for (let i = 0n; i < 4n; i++) {
      const enabled = (state.dr7 >> (2n * i)) & 3n;
      const condition = (state.dr7 >> (16n + 4n * i)) & 3n;
      if (enabled && condition === 0n && state[`dr${Number(i)}` as 'dr0'] === linear) {
        state.dr6 |= 1n << i;
        this.core.setFault(VECTOR.debug, -1);
        return true;
      }
    }
    return false;
  }

  /** A fault stands in the state: leaves with it (true), or delivers it and goes on. */
  private raise(): boolean {
    const { state, exit } = this;
    const vector = state.faultVector;
    const errorCode = state.faultError;
    state.faultVector = NO_FAULT;
    if (vector === VECTOR.pageFault) state.cr2 = state.faultAddress;
    if (this.monitor) {
      exit.reason = ExitReason.exception;
      exit.vector = vector;
      exit.hasErrorCode = errorCode >= 0;
      exit.errorCode = errorCode >= 0 ? errorCode : 0;
      exit.address = state.faultAddress;
      exit.length = 0;
      return true;
    }
    const outcome = deliverEvent(this.helpers.context, { vector, errorCode, kind: 'fault' });
    this.helpers.refresh();
    exit.reason = ExitReason.tripleFault;
    return outcome === 'shutdown';
  }

  /** Delivers an interrupt from outside (architectural mode). False when it ends in shutdown. */
  injectInterrupt(vector: number): boolean {
    const outcome = deliverEvent(this.helpers.context, { vector, errorCode: -1, kind: 'external' });
    this.helpers.refresh();
    return outcome !== 'shutdown';
  }

  // The loaded vCPU --------------------------------------------------------------------------------------------------
  load(from: Uint8Array, owner = 0, keepTranslations = false): void {
    this.core.bytes.set(from.subarray(0, CPU_STATE_SIZE));
    this.state.signal = 0;
    this.mode.loaded(owner, keepTranslations);
  }
  save(to: Uint8Array): void {
    to.set(this.core.bytes.subarray(0, CPU_STATE_SIZE));
  }
  stateChanged(): void {
    this.mode.update();
  }
  loadSegment(register: 'es' | 'cs' | 'ss' | 'ds' | 'fs' | 'gs', selector: number): boolean {
    try {
      if (register === 'cs') loadCodeSegment(this.helpers.context, selector);
      else loadSegmentRegister(this.helpers.context, SEG[register], selector);
      return true;
    } catch (e) {
      if (!(e instanceof GuestFault)) throw e;
      return false;
    } finally {
      this.helpers.refresh();
    }
  }

  // Translations, code and guest memory ------------------------------------------------------------------------------
  flushTlb(includeGlobal: boolean): void {
    this.core.tlb.flushOwner(includeGlobal);
  }
  hostAddress(low: number, high: number, isWrite: boolean): number {
    return this.data.reach(low, high, isWrite);
  }
  dropMapping(slot: number, frame: number): void {
    this.core.tlb.dropMapping(slot, frame);
  }
  dropRoot(frame: number): void {
    this.core.tlb.dropRoot(rootKey(frame));
  }
  flushAllTranslations(): void {
    this.core.tlb.flush();
  }
  switchRoot(frame: number): void {
    this.mode.switchRoot(frame);
  }
  invalidatePage(address: bigint): void {
    this.core.tlb.invalidatePage(address);
  }
  invalidateCode(frame: number): void {
    this.data.writtenElsewhere(frame);
  }
  dropWriteTranslations(frame: number): void {
    this.core.tlb.dropWrites(frame);
  }
  readVirtual(address: bigint, into: Uint8Array, user: boolean): PageFault | undefined {
    return accessVirtual(this.core, this.data, { address, bytes: into, user, isWrite: false });
  }
  writeVirtual(address: bigint, from: Uint8Array, user: boolean): PageFault | undefined {
    return accessVirtual(this.core, this.data, { address, bytes: from, user, isWrite: true });
  }
}

/** An engine over machine memory. Pass `code` (from `compileEngine`) to share compiled modules among threads. */
export function createEngine(
  options: EngineOptions,
  modules: { machineMemory: WebAssembly.Memory; host: EngineHost; code?: EngineModules },
): InterpreterEngine {
  return new InterpreterEngine(options, modules);
}
