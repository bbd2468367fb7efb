/** What the parts of an engine share: memories and views of them, state, exit, counters. No behaviour of its own but faults and exits. */
import { newCounters } from '../engine/api.ts';
import type { EngineHost, Exit } from '../engine/api.ts';
import { ExitReason } from '../engine/exit-reason.ts';
import { CpuState, OFFSET } from '../engine/state.ts';
import type { CodeSize } from '../isa/instruction.ts';
import { Mmu } from '../mmu/walk.ts';
import type { ExitDetails } from '../semantics/helper.ts';
import { CodeCache } from './code-cache.ts';
import { PRIVATE_BYTES } from './memory-map.ts';
import { Tlb } from './tlb.ts';

/** `faultVector` when there is no fault. */
export const NO_FAULT = 0xff;
/** Bits of CR3 below the table's address, that of PAE included, which keys of roots in the TLB do not have. */
export const ROOT_SHIFT = 5;
const frameOfRoot = (root: number): number => root >>> (12 - ROOT_SHIFT);

/** Bits of EFLAGS that the parts look at. */
export const EFLAGS = { tf: 0x100, if: 0x200, rf: 0x10000, ac: 0x40000 } as const;

export class EngineCore {
  readonly exit: Exit = { reason: ExitReason.budget, vector: 0, errorCode: 0, hasErrorCode: false, address: 0n, length: 0, port: 0, size: 0, isWrite: false, msr: 0 }; // prettier-ignore
  readonly counters = newCounters();
  readonly host: EngineHost;
  readonly nrFrames: number;
  readonly machine: Uint8Array;
  readonly machineView: DataView;
  readonly privateMemory: WebAssembly.Memory;
  readonly words: Int32Array;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly longs: BigUint64Array;
  readonly state: CpuState;
  readonly mmu: Mmu;
  readonly tlb: Tlb;
  readonly cache: CodeCache;
  codeSize: CodeSize = 16;
  /** The exit is filled: the run is over. */
  exitPending = false;
  /** A helper has changed what `stateChanged` derives from. */
  modeStale = false;
  /** Bits for DR6 of the instruction that runs. */
  pendingDebug = 0n;
  /** Record of the instruction whose helper runs. */
  currentRecord = 0;

  constructor(options: { nrFrames: number }, modules: { machineMemory: WebAssembly.Memory; host: EngineHost }) {
    const { buffer } = modules.machineMemory;
    this.host = modules.host;
    this.nrFrames = options.nrFrames;
    this.machine = new Uint8Array(buffer);
    this.machineView = new DataView(buffer);
    const pages = Math.ceil(PRIVATE_BYTES / 65536);
    this.privateMemory = new WebAssembly.Memory({ initial: pages, maximum: pages });
    const own = this.privateMemory.buffer;
    this.words = new Int32Array(own);
    this.bytes = new Uint8Array(own);
    this.view = new DataView(own);
    this.longs = new BigUint64Array(own);
    this.state = new CpuState({ u8: this.bytes, dv: this.view });
    this.mmu = new Mmu(buffer, options.nrFrames);
    this.tlb = new Tlb(own, options.nrFrames, (root, other) => this.sharesUpperHalf(root, other));
    this.cache = new CodeCache(own, this.machine);
  }

  /** Leaves a fault for the run loop; `low` and `high` are the halves of a #PF's address. */
  setFault(vector: number, errorCode: number, low = 0, high = 0): void {
    const { words } = this;
    words[OFFSET.faultVector / 4] = vector;
    words[OFFSET.faultError / 4] = errorCode;
    words[OFFSET.faultAddress / 4] = low;
    words[OFFSET.faultAddress / 4 + 1] = high;
  }
  /** Ends the run with an exit. */
  leave(reason: ExitReason, details: ExitDetails | undefined, length: number): void {
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
    this.exitPending = true;
  }
  /** For roots as the TLB knows them: `rootKey`. Only 4-level tables have such halves. */
  private sharesUpperHalf(root: number, other: number): boolean {
    if (this.mmu.paging !== 'four-level' || root <= 0 || other <= 0) return false;
    return this.mmu.sharesUpperHalf(frameOfRoot(root), frameOfRoot(other));
  }
  breakpointsOn(): boolean {
    return ((this.words[OFFSET.dr7 / 4] ?? 0) & 0xff) !== 0;
  }
}
