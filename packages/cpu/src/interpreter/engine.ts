/**
 * The engine: private memory, TLB, code cache, slow paths and the run loop around the generated interpreter. It knows
 * nothing of who handles its exits.
 */
import type { Engine, EngineHost, EngineOptions, Exit, PageFault } from '../engine/api.ts';
import { ExitReason } from '../engine/exit-reason.ts';
import { ATTR, CPU_STATE_SIZE, CpuState, OFFSET, SEG } from '../engine/state.ts';
import type { CodeSize } from '../isa/instruction.ts';
import { ACCESS_FETCH, ACCESS_USER, ACCESS_WRITE, Mmu, PF, highHalf, lowHalf } from '../mmu/walk.ts';
import { GuestFault, VECTOR } from '../semantics/helper.ts';
import type { ExitDetails, Helper, HelperContext, MemoryPort } from '../semantics/helper.ts';
import { CR0, is64Bit, isFlat, isVirtual8086, stackMaskOf } from '../semantics/helpers/addressing.ts';
import { deliverEvent } from '../semantics/helpers/deliver.ts';
import { HELPERS } from '../semantics/helpers/index.ts';
import { loadCodeSegment, loadSegmentRegister } from '../semantics/helpers/segments.ts';
import { CodeCache } from './code-cache.ts';
import type { CodePage } from './code-cache.ts';
import { HELPER_ARITY_SHIFT } from './emitter.ts';
import { HELPER_NAMES, generateEngine, handlerTable } from './generate.ts';
import { SPECIAL } from './handlers.ts';
import {
  CODE_TLB, CODE_TLB_ENTRIES, CODE_VIEW_BYTES, NR_VIEWS, PRIVATE_BYTES, RECORD, RUN_BUDGET, SIGNAL, TLB_ENTRIES,
  TLB_READ, TLB_WRITE, VIEW, VIEW_BYTES,
} from './memory-map.ts'; // prettier-ignore
import { ACCESS, TRANSLATED } from './slow-module.ts';

const HELPER_LIST: readonly Helper[] = HELPER_NAMES.map((name) => HELPERS[name] as Helper);
/** Semantics whose memory accesses are stack accesses: #SS rather than #GP for non-canonical addresses. */
const STACK_SEMANTICS = new Set(['push', 'pop', 'call', 'callind', 'ret', 'leave', 'enter', 'pushf', 'popf', 'pushseg', 'popseg']); // prettier-ignore
/** Writes through the slow path to a frame without live code until it is taken for data again. */
const QUIET_WRITES = 4;
const TRAP_FLAG = 0x100;
const INTERRUPT_FLAG = 0x200;
const ALIGNMENT_FLAG = 0x40000;
const RESUME_FLAG = 0x10000;
const DR6 = { single: 0x4000n } as const;
/** Bits of CR0 and CR4 in their low halves. */
const BIT = { em: 4, ts: 8, am: 1 << 18, paging: (1 << 31) | (1 << 16), osfxsr: 1 << 9, smap: 1 << 21 } as const;
/** PAUSEs within one run after which the owner may want to run another. */
const PAUSES_PER_EXIT = 32;

/** Compiled modules; make them once and share them among threads. */
export interface EngineModules {
  readonly interpreter: WebAssembly.Module;
  readonly slow: WebAssembly.Module;
  /** One word that all engines over one memory lock against each other with. */
  readonly busLock: SharedArrayBuffer;
}

export function compileEngine(): EngineModules {
  const { interpreter, slow } = generateEngine();
  return {
    interpreter: new WebAssembly.Module(interpreter),
    slow: new WebAssembly.Module(slow),
    busLock: new SharedArrayBuffer(4),
  };
}

type Outcome = (typeof SIGNAL)[keyof typeof SIGNAL];

/** A helper's context with what the engine keeps there: RIP of the instruction and how it ended. */
interface EngineContext extends HelperContext {
  outcome: Outcome;
  helperRip: bigint;
}

export class InterpreterEngine implements Engine {
  readonly state: CpuState;
  readonly exit: Exit = { reason: ExitReason.budget, vector: 0, errorCode: 0, hasErrorCode: false, address: 0n, length: 0, port: 0, size: 0, isWrite: false, msr: 0 }; // prettier-ignore
  readonly counters = { slices: 0, decodedInstructions: 0, tlbMisses: 0, codeInvalidations: 0 };

  private readonly monitor: boolean;
  private readonly nrFrames: number;
  private readonly host: EngineHost;
  private readonly machine: Uint8Array;
  private readonly machineView: DataView;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;
  private readonly longs: BigUint64Array;
  private readonly busLock: Int32Array;
  private readonly mmu: Mmu;
  private readonly cache: CodeCache;
  private readonly wasmRun: (record: number, budget: number) => number;
  private readonly stackHandlers: Uint8Array;
  private readonly memory: MemoryPort;
  private readonly context: EngineContext;
  /** Frames that are code by the host's word but hold no live code here: slow writes counted since. */
  private readonly quietFrames = new Map<number, number>();
  private readonly usedViews = new Uint8Array(NR_VIEWS);
  private codeSize: CodeSize = 16;
  private codeLow = 0;
  private codeHigh = 0;
  private exitPending = false;
  private pauses = 0;
  private pendingDebug = 0n;
  /** CR3, CR0's paging bits, CR4 and EFER as the TLB was filled under; CR4 has no -1. */
  private readonly control = new Int32Array(5).fill(-1);
  /** Segmentation is derived for 64-bit mode, where it depends on nothing. */
  private derivedLong = false;
  private modeStale = false;
  /** Record of the instruction whose helper runs. */
  private currentRecord = 0;

  constructor(
    options: EngineOptions,
    modules: { machineMemory: WebAssembly.Memory; host: EngineHost; code?: EngineModules },
  ) {
    this.monitor = options.trapMode === 'monitor';
    this.nrFrames = options.nrFrames;
    this.host = modules.host;
    const code = modules.code ?? compileEngine();
    const buffer = modules.machineMemory.buffer;
    this.machine = new Uint8Array(buffer);
    this.machineView = new DataView(buffer);
    const pages = Math.ceil(PRIVATE_BYTES / 65536);
    const privateMemory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    this.words = new Int32Array(privateMemory.buffer);
    this.bytes = new Uint8Array(privateMemory.buffer);
    this.view = new DataView(privateMemory.buffer);
    this.longs = new BigUint64Array(privateMemory.buffer);
    this.state = new CpuState({ u8: this.bytes, dv: this.view });
    this.mmu = new Mmu(buffer, options.nrFrames);
    this.cache = new CodeCache(privateMemory.buffer, this.machine);
    this.stackHandlers = stackHandlers();
    this.memory = this.makeMemoryPort();
    this.context = this.makeContext();
    this.busLock = new Int32Array(code.busLock);
    const engine = { private: privateMemory, machine: modules.machineMemory };
    const slow = new WebAssembly.Instance(code.slow, {
      engine: { ...engine, translate: (info: number, record: number) => this.translate(info, record) },
    });
    const interpreter = new WebAssembly.Instance(code.interpreter, {
      engine: {
        ...engine,
        resolve: () => this.resolve(),
        helper: (id: number, record: number) => this.callHelper(id, record),
      },
      slow: slow.exports as Record<string, () => unknown>,
    });
    this.wasmRun = interpreter.exports.run as (record: number, budget: number) => number;
    this.state.reset();
    this.flushAll();
    this.stateChanged();
  }

  // Running ----------------------------------------------------------------------------------------------------------
  run(budget: number): ExitReason {
    const { state } = this;
    this.counters.slices++;
    this.pauses = 0;
    let left = Math.max(1, budget);
    state.attention = 1;
    for (;;) {
      if (state.attention !== 0) {
        if (this.windowIsOpen()) return this.leaveWith(ExitReason.interruptWindow);
        state.attention = this.mustStep() ? 1 : 0;
      }
      const stepping = state.attention !== 0;
      const code = stepping ? this.step() : this.wasmRun(0, left);
      left = stepping ? left - 1 : (this.words[OFFSET.budgetLeft / 4] ?? 0);
      this.words[OFFSET.signal / 4] = 0;
      if (this.exitPending) {
        this.exitPending = false;
        state.faultVector = NO_FAULT;
        this.counters.decodedInstructions = this.cache.decodedInstructions;
        return this.exit.reason;
      }
      if (code === SIGNAL.fault || state.faultVector !== NO_FAULT) {
        if (this.raise()) return this.exit.reason;
      } else if (code === RUN_BUDGET && !stepping) return this.leaveWith(ExitReason.budget);
      if (left <= 0) return this.leaveWith(ExitReason.budget);
    }
  }

  private leaveWith(reason: ExitReason): ExitReason {
    this.counters.decodedInstructions = this.cache.decodedInstructions;
    this.exit.reason = reason;
    return reason;
  }
  private windowIsOpen(): boolean {
    const { state } = this;
    return state.interruptWindow !== 0 && state.interruptShadow === 0 && (state.eflags & INTERRUPT_FLAG) !== 0;
  }
  private mustStep(): boolean {
    const { state } = this;
    return (state.eflags & (TRAP_FLAG | RESUME_FLAG)) !== 0 || state.interruptShadow !== 0 || this.breakpointsOn();
  }

  /** One instruction, with what single steps and breakpoints ask. */
  private step(): number {
    const { state } = this;
    const trap = (state.eflags & TRAP_FLAG) !== 0;
    const resume = (state.eflags & RESUME_FLAG) !== 0;
    const shadow = state.interruptShadow;
    // What MOV SS or POP SS met waits for the instruction after it.
    if (shadow !== 2) this.pendingDebug = 0n;
    if (!resume && this.codeBreakpoint()) return SIGNAL.fault;
    const record = this.fetchStep();
    if (record === 0) return SIGNAL.fault;
    state.interruptShadow = 0;
    const code = this.wasmRun(record, 0);
    if (code === SIGNAL.fault || state.faultVector !== NO_FAULT) {
      state.interruptShadow = shadow;
      return SIGNAL.fault;
    }
    if (resume && !this.exitPending) state.eflags &= ~RESUME_FLAG;
    if (trap && (state.eflags & TRAP_FLAG || code === RUN_BUDGET)) this.pendingDebug |= DR6.single;
    if (this.pendingDebug !== 0n && state.interruptShadow !== 2 && !this.exitPending) {
      state.dr6 |= this.pendingDebug;
      this.setFault(VECTOR.debug, -1);
      return SIGNAL.fault;
    }
    return code;
  }

  /** Fetches and decodes the instruction at RIP into the scratch records; 0 with a fault set. */
  private fetchStep(): number {
    const { state } = this;
    const rip = state.rip;
    const bytes = new Uint8Array(15);
    this.linearRip();
    const { codeLow, codeHigh } = this;
    const first = this.fetchHost(codeLow, codeHigh);
    if (first < 0) return 0;
    const offset = codeLow & 4095;
    const inPage = Math.min(15, 4096 - offset);
    bytes.set(this.machine.subarray(first, first + inPage));
    let available = inPage;
    state.ripBase = BigInt.asUintN(64, rip - BigInt(offset));
    if (inPage < 15) {
      const record = this.cache.decodeStep(bytes.subarray(0, inPage), offset, this.codeSize);
      // Only a truncated instruction needs the second page.
      if (this.view.getUint16(record, true) !== SPECIAL.fault) return record;
      const nextLow = (codeLow + inPage) | 0;
      const second = this.fetchHost(nextLow, nextLow === 0 && this.codeSize === 64 ? (codeHigh + 1) | 0 : codeHigh);
      if (second < 0) return 0;
      bytes.set(this.machine.subarray(second, second + 15 - inPage), inPage);
      available = 15;
    }
    return this.cache.decodeStep(bytes.subarray(0, available), offset, this.codeSize);
  }

  private codeBreakpoint(): boolean {
    const { state } = this;
    if (!this.breakpointsOn()) return false;
    const linear = BigInt.asUintN(64, state.rip + state.codeBase);
    for (let i = 0n; i < 4n; i++) {
      const enabled = (state.dr7 >> (2n * i)) & 3n;
      const condition = (state.dr7 >> (16n + 4n * i)) & 3n;
      if (enabled && condition === 0n && state[`dr${Number(i)}` as 'dr0'] === linear) {
        state.dr6 |= 1n << i;
        this.setFault(VECTOR.debug, -1);
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
      this.counters.decodedInstructions = this.cache.decodedInstructions;
      return true;
    }
    const kind =
      vector === VECTOR.debug || vector === VECTOR.breakpoint || vector === VECTOR.overflow ? 'trap' : 'fault';
    if (deliverEvent(this.context, { vector, errorCode, kind: kind === 'trap' ? 'fault' : 'fault' }) === 'shutdown') {
      exit.reason = ExitReason.tripleFault;
      return true;
    }
    this.refresh();
    return false;
  }

  /** Delivers an interrupt from outside (architectural mode). False when it ends in shutdown. */
  injectInterrupt(vector: number): boolean {
    const outcome = deliverEvent(this.context, { vector, errorCode: -1, kind: 'external' });
    this.refresh();
    return outcome !== 'shutdown';
  }

  private setFault(vector: number, errorCode: number, low = 0, high = 0): void {
    const { words } = this;
    words[OFFSET.faultVector / 4] = vector;
    words[OFFSET.faultError / 4] = errorCode;
    words[OFFSET.faultAddress / 4] = low;
    words[OFFSET.faultAddress / 4 + 1] = high;
  }

  // Helpers ----------------------------------------------------------------------------------------------------------
  private callHelper(word: number, record: number): number {
    const { view, context, state, longs } = this;
    const id = word & ((1 << HELPER_ARITY_SHIFT) - 1);
    const nrArgs = word >> HELPER_ARITY_SHIFT;
    const rip = BigInt.asUintN(64, state.ripBase + BigInt(view.getUint16(record + RECORD.offset, true)));
    context.length = view.getUint8(record + RECORD.length);
    state.rip = rip;
    context.helperRip = rip;
    context.outcome = SIGNAL.none;
    this.currentRecord = record;
    const args: bigint[] = [];
    for (let i = 0; i < nrArgs; i++) args.push(longs[OFFSET.args / 8 + i] ?? 0n);
    try {
      const result = HELPER_LIST[id]?.(context, args);
      if (typeof result === 'bigint') longs[OFFSET.result / 8] = BigInt.asUintN(64, result);
    } catch (e) {
      if (!(e instanceof GuestFault)) throw e;
      this.refresh();
      this.setFault(e.vector, e.errorCode, lowHalf(e.address), highHalf(e.address));
      return SIGNAL.fault;
    }
    this.refresh();
    return context.outcome;
  }
  /** Derived state after a helper that touched what it is derived from. */
  private refresh(): void {
    if (!this.modeStale) return;
    this.modeStale = false;
    this.stateChanged();
  }

  private makeContext(): EngineContext {
    // eslint-disable-next-line @typescript-eslint/no-this-alias -- the context's methods are plain closures
    const engine = this;
    const { state, memory, host } = this;
    return {
      state,
      memory,
      monitor: this.monitor,
      helperRip: 0n,
      get nextRip() {
        return (this.helperRip + BigInt(this.length)) & state.ripMask;
      },
      length: 0,
      outcome: SIGNAL.none as Outcome,
      cpuid: (leaf, subleaf) => host.cpuid(leaf, subleaf),
      readTsc: () => host.readTsc(),
      fault: (vector, errorCode) => {
        throw new GuestFault(vector, errorCode);
      },
      exit(reason, done, details) {
        if (reason === ExitReason.pause && ++engine.pauses % PAUSES_PER_EXIT !== 0) return;
        engine.fillExit(reason, details, this.length);
        if (done) state.rip = this.nextRip;
        engine.exitPending = true;
        this.outcome = SIGNAL.leave;
      },
      jump(rip) {
        state.rip = rip;
        this.outcome = SIGNAL.jump;
      },
      changed(what) {
        engine.modeStale = true;
        if (what !== 'mode') engine.flushAll();
      },
      attend: () => {
        state.attention = 1;
      },
      deliver(event) {
        if (deliverEvent(this, event) === 'shutdown') {
          engine.fillExit(ExitReason.tripleFault, undefined, 0);
          engine.exitPending = true;
          this.outcome = SIGNAL.leave;
        }
      },
      invalidatePage: (address) => {
        engine.invalidatePage(address);
      },
      busLock: (body) => {
        engine.withBusLock(body);
      },
      readPhysical: (address) => engine.readPhysical(address),
    };
  }
  private fillExit(reason: ExitReason, details: ExitDetails | undefined, length: number): void {
    const { exit } = this;
    exit.reason = reason;
    exit.length = length;
    exit.vector = details?.vector ?? 0;
    exit.errorCode = details?.errorCode ?? 0;
    exit.hasErrorCode = details?.errorCode !== undefined;
    exit.port = details?.port ?? 0;
    exit.size = details?.size ?? 0;
    exit.isWrite = details?.isWrite ?? false;
    exit.msr = details?.msr ?? 0;
    exit.address = 0n;
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
  private readPhysical(address: bigint): bigint {
    const at = Number(address);
    return at + 8 <= this.machine.length ? this.machineView.getBigUint64(at, true) : 0n;
  }

  // Translation ------------------------------------------------------------------------------------------------------
  /** Slow path of generated code: see `TRANSLATED`. */
  private translate(info: number, record: number): number {
    const { words } = this;
    const size = info & ACCESS.sizeMask;
    const isWrite = (info & ACCESS.write) !== 0;
    const low = words[OFFSET.slowAddress / 4] ?? 0;
    const high = words[OFFSET.slowAddress / 4 + 1] ?? 0;
    if (words[OFFSET.tlbView / 4] === VIEW.checked * VIEW_BYTES && !this.checkedAccess(low, high, size, isWrite)) {
      words[OFFSET.signal / 4] = SIGNAL.fault;
      return TRANSLATED.fault;
    }
    const offset = low & 4095;
    const first = this.hostFor(low, high, isWrite, false, record);
    if (first < 0) {
      words[OFFSET.signal / 4] = SIGNAL.fault;
      return TRANSLATED.fault;
    }
    if (offset + size <= 4096) {
      if (!isWrite || !this.isCode(first)) {
        words[OFFSET.slowHost / 4] = first | 0;
        return TRANSLATED.direct;
      }
      if (info & ACCESS.update) this.copyToBounce(first, 0, size);
      else this.storeCode(first, 0, size);
      return TRANSLATED.bounced;
    }
    const inFirst = 4096 - offset;
    const nextLow = (low + inFirst) | 0;
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
    const second = this.hostFor(nextLow, this.codeSize === 64 ? nextHigh : 0, isWrite, false, record);
    if (second < 0) {
      words[OFFSET.signal / 4] = SIGNAL.fault;
      return TRANSLATED.fault;
    }
    if (!isWrite || info & ACCESS.update) {
      this.copyToBounce(first, 0, inFirst);
      this.copyToBounce(second, inFirst, size - inFirst);
    } else {
      this.storeCode(first, 0, inFirst);
      this.storeCode(second, inFirst, size - inFirst);
    }
    return TRANSLATED.bounced;
  }
  private copyToBounce(host: number, at: number, length: number): void {
    this.bytes.set(this.machine.subarray(host, host + length), OFFSET.bounce + at);
  }
  /** Stores from the bounce buffer, inside one page, minding code. */
  private storeCode(host: number, at: number, length: number): void {
    this.machine.set(this.bytes.subarray(OFFSET.bounce + at, OFFSET.bounce + at + length), host);
    this.wrote(host, length);
  }
  private isCode(host: number): boolean {
    const frame = Math.floor(host / 4096);
    return this.cache.holds(frame) || this.host.isCodeFrame(frame);
  }
  /** After a write of this engine that did not go through a write translation. */
  private wrote(host: number, length: number): void {
    const frame = Math.floor(host / 4096);
    const mine = this.cache.holds(frame);
    const others = this.host.isCodeFrame(frame);
    if (!mine && !others) return;
    if (mine && this.cache.meetsCode(frame, host & 4095, length)) {
      this.counters.codeInvalidations++;
      this.cache.invalidate(frame);
      this.quietFrames.set(frame, 0);
    } else if (mine && this.cache.isQuiet(frame)) {
      const writes = (this.quietFrames.get(frame) ?? 0) + 1;
      this.quietFrames.set(frame, writes);
      if (writes > QUIET_WRITES) this.retire(frame);
    }
    if (others) this.host.codeFrameWritten(frame);
  }
  /** A frame that was code is data again. */
  private retire(frame: number): void {
    if (!this.host.codeFrameRemoved) return;
    this.quietFrames.delete(frame);
    this.cache.remove(frame);
    this.flushCodeTlb();
    this.host.codeFrameRemoved(frame);
  }

  private isStackAccess(record: number): boolean {
    const handler = this.view.getUint16(record + RECORD.handler, true);
    if (this.stackHandlers[handler]) {
      if (this.view.getUint16(record + RECORD.base, true) === OFFSET.zero) return true;
      const distance = BigInt.asIntN(64, this.state.slowAddress - this.state.rsp);
      if (distance >= -16n && distance <= 16n) return true;
    }
    const base = this.view.getUint16(record + RECORD.base, true);
    return base === OFFSET.rsp || base === OFFSET.rbp;
  }

  /** Machine address of a data access, TLB filled; -1 with the fault (or an mmio exit) set. */
  private hostFor(low: number, high: number, isWrite: boolean, system: boolean, record: number): number {
    const { words, mmu, state } = this;
    const viewOffset = words[OFFSET.tlbView / 4] ?? 0;
    const entry = ((isWrite ? TLB_WRITE : TLB_READ) + viewOffset + ((low >>> 8) & 0x3ff0)) / 4;
    const page = low & ~4095;
    // While a helper has changed the mode, the view is that of before: neither used nor filled.
    const direct = system || this.modeStale;
    if (!direct && words[entry] === page && words[entry + 1] === high) return (low + (words[entry + 2] ?? 0)) >>> 0;
    this.counters.tlbMisses++;
    if (mmu.paging === 'four-level') {
      const top = high >> 15;
      if (top !== 0 && top !== -1) {
        this.setFault(this.isStackAccess(record) ? VECTOR.stackFault : VECTOR.generalProtection, 0);
        return -1;
      }
    }
    const user = words[OFFSET.cpl / 4] === 3 && !system;
    const access = (isWrite ? ACCESS_WRITE : 0) | (user ? ACCESS_USER : 0);
    const allowUser = !system && (state.eflags & ALIGNMENT_FLAG) !== 0;
    if (!mmu.walk(low, high, access, allowUser)) {
      this.setFault(VECTOR.pageFault, mmu.errorCode, low, high);
      return -1;
    }
    const { frame, writable } = mmu.last;
    if (frame >= this.nrFrames) {
      this.fillExit(ExitReason.mmio, { isWrite }, 0);
      this.exit.address = BigInt(frame) * 4096n + BigInt(low & 4095);
      this.exitPending = true;
      return -1;
    }
    const host = frame * 4096 + (low & 4095);
    if (!direct && viewOffset !== VIEW.checked * VIEW_BYTES) {
      this.usedViews[viewOffset / VIEW_BYTES] = 1;
      const index = viewOffset + ((low >>> 8) & 0x3ff0);
      const addend = (host - low) | 0;
      // The other table gets the page only where it has nothing: a copy between pages that share an index must not thrash.
      const read = (TLB_READ + index) / 4;
      const write = (TLB_WRITE + index) / 4;
      if (!isWrite || words[read] === -1) this.fill(read, page, high, addend);
      if ((isWrite || (writable && words[write] === -1)) && !this.isCode(host)) this.fill(write, page, high, addend);
    }
    return host;
  }
  private fill(at: number, page: number, high: number, addend: number): void {
    const { words } = this;
    words[at] = page;
    words[at + 1] = high;
    words[at + 2] = addend;
  }

  /** Alignment checks and data breakpoints, for the view that is never filled. False with a fault set. */
  private checkedAccess(low: number, high: number, size: number, isWrite: boolean): boolean {
    const { state } = this;
    const checks = state.cpl === 3 && (state.eflags & ALIGNMENT_FLAG) !== 0 && (state.cr0 & CR0.am) !== 0n;
    if (checks && low & (Math.min(size, 8) - 1)) {
      this.setFault(VECTOR.alignmentCheck, 0);
      return false;
    }
    if (!this.breakpointsOn()) return true;
    const address = BigInt.asUintN(64, (BigInt(high) << 32n) | BigInt(low >>> 0));
    for (let i = 0n; i < 4n; i++) {
      if (!((state.dr7 >> (2n * i)) & 3n)) continue;
      const condition = (state.dr7 >> (16n + 4n * i)) & 3n;
      if (!(condition === 3n || (condition === 1n && isWrite))) continue;
      const length = [1n, 2n, 8n, 4n][Number((state.dr7 >> (18n + 4n * i)) & 3n)] ?? 1n;
      const start = state[`dr${Number(i)}` as 'dr0'] & ~(length - 1n);
      if (address < start + length && address + BigInt(size) > start) this.pendingDebug |= 1n << i;
    }
    return true;
  }

  /** Machine address of code at a linear address; -1 with the fault set. */
  private fetchHost(low: number, high: number): number {
    const { mmu, words } = this;
    if (this.codeSize === 64) {
      const top = high >> 15;
      if (top !== 0 && top !== -1) {
        this.setFault(VECTOR.generalProtection, 0);
        return -1;
      }
    } else if ((words[OFFSET.rip / 4] ?? 0) >>> 0 > (words[OFFSET.csLimit / 4] ?? 0) >>> 0) {
      this.setFault(VECTOR.generalProtection, 0);
      return -1;
    }
    const user = words[OFFSET.cpl / 4] === 3;
    if (!mmu.walk(low, high, ACCESS_FETCH | (user ? ACCESS_USER : 0), false)) {
      this.setFault(VECTOR.pageFault, mmu.errorCode, low, high);
      return -1;
    }
    const { frame } = mmu.last;
    if (frame >= this.nrFrames) {
      this.setFault(VECTOR.pageFault, PF.present | PF.reserved | (user ? PF.user : 0), low, high);
      return -1;
    }
    return frame * 4096 + (low & 4095);
  }

  /** Linear address of the state's RIP, in halves: `codeLow` and `codeHigh`. */
  private linearRip(): void {
    const { words } = this;
    this.codeLow = words[OFFSET.rip / 4] ?? 0;
    this.codeHigh = words[OFFSET.rip / 4 + 1] ?? 0;
    if (this.codeSize !== 64) {
      this.codeLow = (this.codeLow + (words[OFFSET.codeBase / 4] ?? 0)) | 0;
      this.codeHigh = 0;
    }
  }

  /** Slow path of jumps: the record at the state's RIP, or 0 with a fault set. */
  private resolve(): number {
    const { words, cache } = this;
    this.linearRip();
    const { codeLow, codeHigh } = this;
    const host = this.fetchHost(codeLow, codeHigh);
    const retry = words[OFFSET.nextRecord / 4] ?? 0;
    words[OFFSET.nextRecord / 4] = 0;
    if (host < 0) return 0;
    if (cache.isFull) {
      cache.clear();
      this.flushCodeTlb();
    }
    const offset = host & 4095;
    const frame = Math.floor(host / 4096);
    // To announce code may serve a flush that another CPU asked for: the translation must be from after it.
    if (this.announce(frame) && this.fetchHost(codeLow, codeHigh) !== host) return this.resolve();
    const page = cache.page(frame, this.codeSize);
    if (retry !== 0) {
      if (cache.recordAt(page, offset) === retry && this.stillCrosses(retry, offset)) return retry;
      cache.forget(page, offset);
    }
    this.fillCodeTlb(codeLow, codeHigh, page);
    const known = cache.recordAt(page, offset);
    if (known !== 0) return known;
    this.quietFrames.delete(frame);
    return cache.decodeRun(page, offset) ?? this.resolveCrossing(page, offset);
  }
  /** Tells the host of the first code in a frame; true when it was the first. */
  private announce(frame: number): boolean {
    if (this.cache.holds(frame)) return false;
    this.host.codeFrameAdded(frame);
    this.dropWriteTranslations(frame);
    this.cache.page(frame, this.codeSize);
    return true;
  }
  /** The instruction of a crossing record runs into the page that it was decoded with: only the code TLB had forgotten. */
  private stillCrosses(record: number, offset: number): boolean {
    const nextLow = (this.codeLow + 4096 - offset) | 0;
    const nextHigh = nextLow === 0 && this.codeSize === 64 ? (this.codeHigh + 1) | 0 : this.codeHigh;
    const host = this.fetchHost(nextLow, nextHigh);
    if (host < 0) {
      this.state.faultVector = NO_FAULT;
      return false;
    }
    const next = this.cache.known(Math.floor(host / 4096), this.codeSize);
    if (next?.map !== this.view.getUint32(record + RECORD.link, true)) return false;
    this.fillCodeTlb(nextLow, nextHigh, next);
    return true;
  }
  private resolveCrossing(page: CodePage, offset: number): number {
    const inPage = 4096 - offset;
    const nextLow = (this.codeLow + inPage) | 0;
    const nextHigh = nextLow === 0 && this.codeSize === 64 ? (this.codeHigh + 1) | 0 : this.codeHigh;
    const host = this.fetchHost(nextLow, nextHigh);
    if (host < 0) return 0;
    const frame = Math.floor(host / 4096);
    if (this.announce(frame)) return this.resolve();
    this.quietFrames.delete(frame);
    const next = this.cache.page(frame, this.codeSize);
    this.fillCodeTlb(nextLow, nextHigh, next);
    const bytes = new Uint8Array(inPage + 15);
    bytes.set(this.machine.subarray(page.frame * 4096 + offset, page.frame * 4096 + 4096));
    bytes.set(this.machine.subarray(host, host + 15), inPage);
    return this.cache.decodeCrossing(page, offset, bytes.subarray(0, Math.min(bytes.length, 16)), next);
  }
  private fillCodeTlb(low: number, high: number, page: CodePage): void {
    const view = this.words[OFFSET.codeView / 4] ?? 0;
    const at = (CODE_TLB + view + ((low >>> 8) & ((CODE_TLB_ENTRIES - 1) << 4))) / 4;
    this.fill(at, low & ~4095, high, page.map);
  }

  // Flushing ---------------------------------------------------------------------------------------------------------
  private flushAll(): void {
    for (let view = 0; view < NR_VIEWS; view++) {
      if (!this.usedViews[view] && this.counters.slices > 0) continue;
      this.bytes.fill(0xff, TLB_READ + view * VIEW_BYTES, TLB_READ + (view + 1) * VIEW_BYTES);
      this.usedViews[view] = 0;
    }
    this.flushCodeTlb();
  }
  private flushCodeTlb(): void {
    this.bytes.fill(0xff, CODE_TLB, CODE_TLB + 2 * CODE_VIEW_BYTES);
  }
  flushTlb(_includeGlobal: boolean): void {
    this.flushAll();
  }
  invalidatePage(address: bigint): void {
    const low = lowHalf(address);
    for (let view = 0; view < NR_VIEWS; view++)
      for (const table of [TLB_READ, TLB_WRITE])
        this.fill((table + view * VIEW_BYTES + ((low >>> 8) & 0x3ff0)) / 4, -1, -1, 0);
    for (const view of [0, CODE_VIEW_BYTES])
      this.fill((CODE_TLB + view + ((low >>> 8) & ((CODE_TLB_ENTRIES - 1) << 4))) / 4, -1, -1, 0);
  }
  invalidateCode(frame: number): void {
    if (!this.cache.holds(frame)) return;
    if (this.cache.isQuiet(frame) && this.host.codeFrameRemoved) {
      // Written again and nothing was decoded since: it is data now, and others need not ask any more.
      this.retire(frame);
      return;
    }
    this.cache.invalidate(frame);
    this.counters.codeInvalidations++;
  }
  dropWriteTranslations(frame: number): void {
    const { words } = this;
    const page = (frame * 4096) | 0;
    for (let view = 0; view < NR_VIEWS; view++) {
      if (!this.usedViews[view]) continue;
      const table = (TLB_WRITE + view * VIEW_BYTES) / 4;
      for (let i = 0; i < TLB_ENTRIES; i++) {
        const at = table + i * 4;
        const tag = words[at] ?? -1;
        if (((tag + (words[at + 2] ?? 0)) | 0) === page && (tag & 4095) === 0) this.fill(at, -1, -1, 0);
      }
    }
  }

  // The loaded vCPU --------------------------------------------------------------------------------------------------
  load(from: Uint8Array): void {
    this.bytes.set(from.subarray(0, CPU_STATE_SIZE));
    this.state.signal = 0;
    this.state.faultVector = NO_FAULT;
    this.control.fill(-1);
    this.derivedLong = false;
    this.stateChanged();
  }
  save(to: Uint8Array): void {
    to.set(this.bytes.subarray(0, CPU_STATE_SIZE));
  }
  stateChanged(): void {
    const { state } = this;
    this.modeStale = false;
    state.faultVector = NO_FAULT;
    state.zero = 0n;
    const { words } = this;
    const cr0 = words[OFFSET.cr0 / 4] ?? 0;
    const cr4 = words[OFFSET.cr4 / 4] ?? 0;
    if (this.translationChanged()) {
      this.mmu.configure(state);
      this.flushAll();
    } else if (this.mmu.paging === 'pae') this.mmu.configure(state);
    const long = is64Bit(state);
    if (!long || this.codeSize !== 64 || !this.derivedLong) this.deriveSegmentation(long);
    state.simdBlock = cr0 & BIT.em || !(cr4 & BIT.osfxsr) ? 1 : cr0 & BIT.ts ? 2 : 0;
    state.fpuBlock = cr0 & (BIT.em | BIT.ts) ? 2 : 0;
    const user = state.cpl === 3;
    const ac = (state.eflags & ALIGNMENT_FLAG) !== 0;
    const checked = (user && ac && (cr0 & BIT.am) !== 0) || this.breakpointsOn();
    const smapOpen = ac && (cr4 & BIT.smap) !== 0;
    const view = checked ? VIEW.checked : user ? VIEW.user : smapOpen ? VIEW.supervisorAc : VIEW.supervisor;
    state.tlbView = view * VIEW_BYTES;
    state.codeView = user ? 0 : CODE_VIEW_BYTES;
    state.attention = 1;
  }
  /** What the TLB depends on is not as it was; remembers it. */
  private translationChanged(): boolean {
    const { words, control } = this;
    const now = [words[OFFSET.cr3 / 4], words[OFFSET.cr3 / 4 + 1], (words[OFFSET.cr0 / 4] ?? 0) & BIT.paging, words[OFFSET.cr4 / 4], words[OFFSET.efer / 4]]; // prettier-ignore
    let changed = false;
    for (let n = 0; n < now.length; n++) {
      changed ||= control[n] !== now[n];
      control[n] = now[n] ?? 0;
    }
    return changed;
  }
  /** Code size, bases, masks and checks of the mode. */
  private deriveSegmentation(long: boolean): void {
    const { state } = this;
    this.derivedLong = long;
    const codeSize: CodeSize = long ? 64 : state.csAttributes & ATTR.big && !isVirtual8086(state) ? 32 : 16;
    if (codeSize !== this.codeSize) {
      this.codeSize = codeSize;
      this.flushCodeTlb();
    }
    state.codeBase = long ? 0n : state.csBase;
    state.ripMask = long ? (1n << 64n) - 1n : codeSize === 32 ? 0xffff_ffffn : 0xffffn;
    state.stackMask = stackMaskOf(state);
    let check = 0;
    if (!long) for (const n of [SEG.es, SEG.cs, SEG.ss, SEG.ds, SEG.fs, SEG.gs]) if (!isFlat(state, n)) check |= 1 << n;
    state.segmentCheck = check;
  }
  private breakpointsOn(): boolean {
    return ((this.words[OFFSET.dr7 / 4] ?? 0) & 0xff) !== 0;
  }

  loadSegment(register: 'es' | 'cs' | 'ss' | 'ds' | 'fs' | 'gs', selector: number): boolean {
    try {
      if (register === 'cs') loadCodeSegment(this.context, selector);
      else loadSegmentRegister(this.context, SEG[register], selector);
      return true;
    } catch (e) {
      if (!(e instanceof GuestFault)) throw e;
      return false;
    } finally {
      this.refresh();
    }
  }

  // Guest memory on its behalf ---------------------------------------------------------------------------------------
  readVirtual(address: bigint, into: Uint8Array, user: boolean): PageFault | undefined {
    return this.accessVirtual(address, into, user, false);
  }
  writeVirtual(address: bigint, from: Uint8Array, user: boolean): PageFault | undefined {
    return this.accessVirtual(address, from, user, true);
  }
  private accessVirtual(address: bigint, bytes: Uint8Array, user: boolean, isWrite: boolean): PageFault | undefined {
    const pieces: [host: number, at: number, length: number][] = [];
    const access = (isWrite ? ACCESS_WRITE : 0) | (user ? ACCESS_USER : 0);
    for (let at = 0; at < bytes.length;) {
      const here = BigInt.asUintN(64, address + BigInt(at));
      const low = lowHalf(here);
      const high = highHalf(here);
      const length = Math.min(bytes.length - at, 4096 - (low & 4095));
      const top = high >> 15;
      if (this.mmu.paging === 'four-level' && top !== 0 && top !== -1)
        return { address: here, errorCode: access & (PF.write | PF.user) };
      if (!this.mmu.walk(low, high, access, true)) return { address: here, errorCode: this.mmu.errorCode };
      const { frame } = this.mmu.last;
      if (frame >= this.nrFrames)
        return { address: here, errorCode: PF.reserved | PF.present | (access & (PF.write | PF.user)) };
      pieces.push([frame * 4096 + (low & 4095), at, length]);
      at += length;
    }
    for (const [host, at, length] of pieces)
      if (isWrite) {
        this.machine.set(bytes.subarray(at, at + length), host);
        this.wrote(host, length);
      } else bytes.set(this.machine.subarray(host, host + length), at);
    return undefined;
  }

  private makeMemoryPort(): MemoryPort {
    const host = (address: bigint, isWrite: boolean, system: boolean): number => {
      const found = this.hostFor(lowHalf(address), highHalf(address), isWrite, system, this.currentRecord);
      if (found >= 0) return found;
      const { state } = this;
      const fault = new GuestFault(state.faultVector, state.faultError, state.faultAddress);
      if (this.exitPending) return this.unreachableMemory();
      state.faultVector = NO_FAULT;
      throw fault;
    };
    const scratch = new Uint8Array(8);
    const scratchView = new DataView(scratch.buffer);
    const pieces = (address: bigint, length: number, isWrite: boolean, system: boolean): [number, number, number][] => {
      const list: [number, number, number][] = [];
      for (let at = 0; at < length;) {
        const here = BigInt.asUintN(64, address + BigInt(at));
        const n = Math.min(length - at, 4096 - Number(here & 0xfffn));
        list.push([host(here, isWrite, system), at, n]);
        at += n;
      }
      return list;
    };
    const readBytes = (address: bigint, into: Uint8Array, system = false): void => {
      for (const [from, at, n] of pieces(address, into.length, false, system))
        into.set(this.machine.subarray(from, from + n), at);
    };
    const writeBytes = (address: bigint, from: Uint8Array, system = false): void => {
      for (const [to, at, n] of pieces(address, from.length, true, system)) {
        this.machine.set(from.subarray(at, at + n), to);
        this.wrote(to, n);
      }
    };
    return {
      read: (address, size, system = false) => {
        if (Number(address & 0xfffn) + size <= 4096) {
          const at = host(address, false, system);
          if (size === 8) return this.machineView.getBigUint64(at, true);
          if (size === 4) return BigInt(this.machineView.getUint32(at, true));
          return BigInt(size === 2 ? this.machineView.getUint16(at, true) : this.machineView.getUint8(at));
        }
        scratch.fill(0);
        readBytes(address, scratch.subarray(0, size), system);
        return scratchView.getBigUint64(0, true);
      },
      write: (address, size, value, system = false) => {
        scratchView.setBigUint64(0, value, true);
        writeBytes(address, scratch.subarray(0, size), system);
      },
      span: (address, length, isWrite) => {
        const at = host(address, isWrite, false);
        if (isWrite && this.isCode(at)) return undefined;
        return this.machine.subarray(at, at + length);
      },
      readBytes: (address, into) => { readBytes(address, into); },
      writeBytes: (address, from) => { writeBytes(address, from); },
    }; // prettier-ignore
  }
  /** A helper touched memory that is not there: an mmio exit stands, the helper is abandoned by a fault that is none. */
  private unreachableMemory(): never {
    throw new GuestFault(VECTOR.generalProtection, 0);
  }
}

/** `faultVector` when there is no fault. */
export const NO_FAULT = 0xff;

function stackHandlers(): Uint8Array {
  const { numbers, inlineShapes, outlinedShapes } = handlerTable();
  const flags = new Uint8Array(SPECIAL.first + numbers.size);
  for (const shape of [...inlineShapes, ...outlinedShapes])
    if (STACK_SEMANTICS.has(shape.semantics)) flags[numbers.get(shape.key) ?? 0] = 1;
  return flags;
}

/** An engine over machine memory. Pass `code` (from `compileEngine`) to share compiled modules among threads. */
export function createEngine(
  options: EngineOptions,
  modules: { machineMemory: WebAssembly.Memory; host: EngineHost; code?: EngineModules },
): InterpreterEngine {
  return new InterpreterEngine(options, modules);
}
