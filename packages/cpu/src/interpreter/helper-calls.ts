/** The door from generated code to helpers: arguments and results in the state, faults and exits as signals. */
import type { Exit, ExitAnswer } from '../engine/api.ts';
import { ExitReason } from '../engine/exit-reason.ts';
import { OFFSET } from '../engine/state.ts';
import { highHalf, lowHalf } from '../mmu/walk.ts';
import { GuestFault } from '../semantics/helper.ts';
import type { Helper, HelperContext, MemoryPort } from '../semantics/helper.ts';
import { deliverEvent } from '../semantics/helpers/deliver.ts';
import { HELPERS } from '../semantics/helpers/index.ts';
import type { EngineCore } from './core.ts';
import { HELPER_ARITY_SHIFT } from './emit-frame.ts';
import { HELPER_IDS, HELPER_NAMES } from './generate.ts';
import { RECORD, SIGNAL } from './memory-map.ts';
import type { DerivedMode } from './mode.ts';

const HELPER_LIST: readonly Helper[] = HELPER_NAMES.map((name) => HELPERS[name] as Helper);
const SYSCALL = HELPER_IDS.get('syscall');
const EFER_SCE = 1;
/** Words for arguments in the state. */
const MAX_ARGS = (OFFSET.result - OFFSET.args) / 8;
/** PAUSEs within one run after which the owner may want to run another. */
const PAUSES_PER_EXIT = 32;

type Outcome = (typeof SIGNAL)[keyof typeof SIGNAL];

/** A helper's context with what the engine keeps there: where the next instruction is, and how this one ended. */
export interface EngineContext extends HelperContext {
  outcome: Outcome;
  /** Distance of the next instruction from `ripBase`. */
  nextOffset: number;
}

export class HelperCalls {
  readonly context: EngineContext;
  /** PAUSEs since the run began. */
  pauses = 0;
  private readonly core: EngineCore;
  private readonly mode: DerivedMode;
  private readonly busLock: Int32Array;
  private readonly onExit: (exit: Exit) => ExitAnswer;
  private readonly monitor: boolean;
  /** Arguments by their number: a helper reads them and does not keep them. */
  private readonly args = Array.from({ length: MAX_ARGS + 1 }, (_, length) => Array<bigint>(length).fill(0n));

  constructor(
    options: { monitor: boolean },
    modules: {
      core: EngineCore;
      mode: DerivedMode;
      memory: MemoryPort;
      busLock: Int32Array;
      onExit: (exit: Exit) => ExitAnswer;
    },
  ) {
    this.core = modules.core;
    this.mode = modules.mode;
    this.busLock = modules.busLock;
    this.onExit = modules.onExit;
    this.monitor = options.monitor;
    this.context = this.makeContext(options.monitor, modules.memory);
  }

  /** `word`: helper number and, above it, how many arguments stand in the state, as RIP does. */
  call(word: number, record: number): number {
    const { core, context } = this;
    const { view, longs } = core;
    const id = word & ((1 << HELPER_ARITY_SHIFT) - 1);
    if (id === SYSCALL && this.monitor) {
      const outcome = this.answeredSyscall(record);
      if (outcome !== SIGNAL.none) return outcome;
    }
    const nrArgs = word >> HELPER_ARITY_SHIFT;
    context.length = view.getUint8(record + RECORD.length);
    context.nextOffset = view.getUint16(record + RECORD.offset, true) + context.length;
    context.outcome = SIGNAL.none;
    core.currentRecord = record;
    const args = this.args[nrArgs] ?? [];
    for (let i = 0; i < nrArgs; i++) args[i] = longs[OFFSET.args / 8 + i] ?? 0n;
    try {
      const result = HELPER_LIST[id]?.(context, args);
      if (typeof result === 'bigint') longs[OFFSET.result / 8] = BigInt.asUintN(64, result);
    } catch (e) {
      if (!(e instanceof GuestFault)) throw e;
      this.refresh();
      core.setFault(e.vector, e.errorCode, lowHalf(e.address), highHalf(e.address));
      return SIGNAL.fault;
    }
    this.refresh();
    return context.outcome;
  }
  /** SYSCALL that the owner deals with in the middle of the run; `none`, and nothing changed but RIP, when it does not. */
  private answeredSyscall(record: number): Outcome {
    const { core } = this;
    const { words, view, exit } = core;
    if (core.codeSize !== 64 || words[OFFSET.attention / 4] !== 0) return SIGNAL.none;
    if (((words[OFFSET.efer / 4] ?? 0) & EFER_SCE) === 0) return SIGNAL.none;
    const length = view.getUint8(record + RECORD.length);
    const base = (words[OFFSET.ripBase / 4] ?? 0) >>> 0;
    const low = base + view.getUint16(record + RECORD.offset, true) + length;
    words[OFFSET.rip / 4] = low | 0;
    words[OFFSET.rip / 4 + 1] = (words[OFFSET.ripBase / 4 + 1] ?? 0) + (low > 0xffff_ffff ? 1 : 0);
    exit.reason = ExitReason.syscall;
    exit.length = length;
    const answer = this.onExit(exit);
    if (answer === 'refuse') return SIGNAL.none;
    if (answer === 'resume') return SIGNAL.jump;
    core.leave(answer, undefined, 0);
    return SIGNAL.leave;
  }
  /** Derived state after something that touched what it is derived from. */
  refresh(): void {
    if (this.core.modeStale) this.mode.update();
  }

  private makeContext(monitor: boolean, memory: MemoryPort): EngineContext {
    const { core } = this;
    const { state, host } = core;
    const calls = { pause: () => ++this.pauses % PAUSES_PER_EXIT === 0 };
    return {
      state,
      memory,
      monitor,
      nextOffset: 0,
      length: 0,
      outcome: SIGNAL.none,
      get nextRip() {
        return (state.ripBase + BigInt(this.nextOffset)) & state.ripMask;
      },
      cpuid: (leaf, subleaf) => host.cpuid(leaf, subleaf),
      readTsc: () => host.readTsc(),
      fault: (vector, errorCode) => {
        throw new GuestFault(vector, errorCode);
      },
      exit(reason, done, details) {
        if (reason === ExitReason.pause && !calls.pause()) return;
        core.leave(reason, details, this.length);
        if (done) state.rip = this.nextRip;
        this.outcome = SIGNAL.leave;
      },
      jump(rip) {
        state.rip = rip;
        this.outcome = SIGNAL.jump;
      },
      changed(what) {
        core.modeStale = true;
        if (what !== 'mode') core.tlb.flushOwner(what === 'tlb-global');
      },
      attend: () => {
        state.attention = 1;
      },
      deliver(event) {
        if (deliverEvent(this, event) === 'delivered') return;
        core.leave(ExitReason.tripleFault, undefined, 0);
        this.outcome = SIGNAL.leave;
      },
      invalidatePage: (address) => {
        core.tlb.invalidatePage(address);
      },
      busLock: (body) => {
        this.withBusLock(body);
      },
      exclusively: (body) => {
        if (host.exclusively) host.exclusively(body);
        else this.withBusLock(body);
      },
      readPhysical: (address) => {
        const at = Number(address);
        return at + 8 <= core.machine.length ? core.machineView.getBigUint64(at, true) : 0n;
      },
    };
  }
  private withBusLock(body: () => void): void {
    const { busLock } = this;
    while (Atomics.compareExchange(busLock, 0, 0, 1) !== 0);
    try {
      body();
    } finally {
      Atomics.store(busLock, 0, 0);
    }
  }
}
