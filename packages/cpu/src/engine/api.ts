/**
 * What an owner of emulated CPUs sees of one: state, run, exits as data, and the few commands that a real CPU takes
 * from outside. The engine imports nothing that handles an exit. Nothing of Node either.
 */
import type { ExitReason } from './exit-reason.ts';
import type { SharedRegions } from '../jit/image.ts';
import type { CompileOrder, CompiledOrder } from '../jit/order.ts';
import type { CpuState } from './state.ts';

export { ExitReason, exitName } from './exit-reason.ts';
export type { SharedRegions } from '../jit/image.ts';
export type { CompileOrder, CompiledOrder } from '../jit/order.ts';

/**
 * How traps reach their handler.
 * `monitor`: every exception, software interrupt, SYSCALL, SYSENTER and privileged instruction leaves the engine (a PV
 * guest: the hypervisor stands where the real CPU's IDT and LSTAR would point). `architectural`: delivered through the
 * guest's own IDT, SYSCALL MSRs and task structures (an HVM guest, and the tests of system instructions).
 */
export type TrapMode = 'monitor' | 'architectural';

/**
 * What an owner makes of an exit in the middle of a run. `resume`: it is dealt with, the run goes on at the new state; a reason: it is
 * dealt with, and the run ends with that; `refuse`: nothing was changed, the run ends with the exit.
 */
export type ExitAnswer = 'resume' | 'refuse' | ExitReason;

/** Details of the last exit. One object per engine, overwritten by each `run`. */
export interface Exit {
  reason: ExitReason;
  vector: number;
  errorCode: number;
  hasErrorCode: boolean;
  /** Faulting linear address (#PF) or guest-physical address (mmio). */
  address: bigint;
  /** Bytes of the instruction, for exits whose RIP is that of the instruction. */
  length: number;
  port: number;
  size: number;
  isWrite: boolean;
  msr: number;
}

export interface CpuidResult {
  eax: number;
  ebx: number;
  ecx: number;
  edx: number;
}

/** What the engine asks of its owner while it runs; bound at construction, never replaced. */
export interface EngineHost {
  /** CPUID policy of the vCPU now loaded. Values are unsigned 32-bit. */
  cpuid(leaf: number, subleaf: number): CpuidResult;
  /** The vCPU's TSC now. */
  readTsc(): bigint;
  /**
   * A frame is about to get its first decoded instruction: from now on nobody may write to it unseen. Returns when all
   * other engines over this memory have dropped their write translations of it.
   */
  codeFrameAdded(frame: number): void;
  /** This engine wrote to a frame that holds code of some engine; the others must drop theirs. */
  codeFrameWritten(frame: number): void;
  /** This engine has forgotten all code of the frame and will not notice writes to it any more. */
  codeFrameRemoved?(frame: number): void;
  /**
   * Runs `body` while no other engine over this memory executes: for a LOCK on bytes that no single atomic access can
   * change. Absent: such bodies exclude one another only.
   */
  exclusively?(body: () => void): void;
  /** Compiled code for the other engines over this memory; whoever takes it compares it with the code that is there. */
  shareRegions?(shared: SharedRegions): void;
  /** What another engine has shared and this one has not taken yet. Asked often: nothing new must be cheap to say. */
  takeRegions?(): SharedRegions | undefined;
  /** Has regions compiled elsewhere (`compileOrder`) while this engine goes on. Absent: it compiles them itself. */
  orderCompilation?(order: CompileOrder): void;
  /** What was ordered and is done. Asked often, as above. */
  takeCompiled?(): CompiledOrder | undefined;
  /** True when the frame holds code of any engine: writes to it must come through the slow path. */
  isCodeFrame(frame: number): boolean;
}

export interface EngineOptions {
  trapMode: TrapMode;
  /** Frames of machine memory; an access beyond is `mmio`. */
  nrFrames: number;
  /** `on` (the default): hot code is compiled; `off`: interpreter only; `force`: code is compiled at its first execution, for tests. */
  jit?: JitMode;
  /** With `on`: branches to a place before it is compiled, instead of the usual number; for tests. */
  hotAfter?: number;
}

export type JitMode = 'off' | 'on' | 'force';

/** What an engine has done since it was made; for metrics. Plain numbers that only the engine's thread writes. */
export interface EngineCounters {
  /** Calls of `run`. */
  slices: number;
  /** Budget exits that came while the interpreter ran, and those that came from compiled code: samples of who runs. */
  interpretedSlices: number;
  compiledSlices: number;
  decodedInstructions: number;
  tlbMisses: number;
  /** Frames whose code was forgotten as it was written. */
  codeInvalidations: number;
  /** Regions, basic blocks and instructions compiled since the start; bytes of Wasm made for them. */
  regionsCompiled: number;
  blocksCompiled: number;
  instructionsCompiled: number;
  codeBytes: number;
  /** Regions that can be entered now. */
  regionsLive: number;
  /** Regions dropped for room, and because their code was written. */
  regionsEvicted: number;
  regionsInvalidated: number;
  /** Regions that another engine had compiled and that are used here. */
  regionsReused: number;
  /** Times that compiled code was entered from the interpreter. */
  regionEntries: number;
  /** Instructions that compiled code left to the interpreter: TLB misses, faults, what only helpers do. */
  regionBails: number;
  compileNs: number;
}

/** All zero. */
export const newCounters = (): EngineCounters => ({
  slices: 0, interpretedSlices: 0, compiledSlices: 0, decodedInstructions: 0, tlbMisses: 0, codeInvalidations: 0,
  regionsCompiled: 0, blocksCompiled: 0, instructionsCompiled: 0, codeBytes: 0, regionsLive: 0, regionsEvicted: 0,
  regionsInvalidated: 0, regionsReused: 0, regionEntries: 0, regionBails: 0, compileNs: 0,
}); // prettier-ignore

/** Outcome of an access on the guest's behalf: undefined when it went through, else the #PF it would have raised. */
export interface PageFault {
  address: bigint;
  errorCode: number;
}

export interface Engine {
  /**
   * Asked where SYSCALL in 64-bit mode or an exception is about to end a run (`monitor` mode, no single steps), `exit` and `state`
   * being as after that run.
   */
  onExit: ((exit: Exit) => ExitAnswer) | undefined;
  /** Registers of the loaded vCPU; valid between runs. Lazily kept flags are folded into `rflags` by the view. */
  readonly state: CpuState;
  readonly exit: Exit;
  /** Runs until an exit. `budget` is in taken branches, some tens of thousands a slice. Returns `exit.reason`. */
  run(budget: number): ExitReason;
  /**
   * Replaces the whole state by that of another vCPU (`CPU_STATE_SIZE` bytes as saved). `owner`, a small number not below
   * 0, tells vCPUs apart: translations are kept for each of them. With `keepTranslations` those that this engine made for
   * the owner before are still good, else they go.
   */
  load(from: Uint8Array, owner?: number, keepTranslations?: boolean): void;
  /** Writes the whole state, flags materialised. */
  save(to: Uint8Array): void;
  /** After CR3, CR0, CR4, EFER or a segment register was changed from outside: recompute what is derived from them. */
  stateChanged(): void;
  /** Drops the translations of the loaded vCPU, in all its address spaces; those of global pages only when asked. */
  flushTlb(includeGlobal: boolean): void;
  /**
   * Machine address behind a linear address (given in halves) for an access of the loaded vCPU, with its rights, inside one
   * page; A and D bits are set, the TLB is used and filled. -1 where the access would fault, be watched, or write to code.
   */
  hostAddress(low: number, high: number, isWrite: boolean): number;
  /** Drops all translations, of whatever vCPU and root, that `slot` of an L1 table may have given to the frame. */
  dropMapping(slot: number, frame: number): void;
  /** Drops all translations that vCPUs have under the root in `frame`. */
  dropRoot(frame: number): void;
  /** Drops all translations of all vCPUs. */
  flushAllTranslations(): void;
  /** Drops the page of an address from all address spaces of the loaded vCPU. */
  invalidatePage(address: bigint): void;
  /**
   * CR3 becomes the 4-level table in `frame` and nothing is flushed: translations made under that root before are used
   * again (`monitor` mode; an architectural MOV CR3 keeps only what is global). For when all else is unchanged.
   */
  switchRoot(frame: number): void;
  /** Forget decoded instructions of a machine frame (it was written from outside or by another engine). */
  invalidateCode(frame: number): void;
  /** Drop write translations of a machine frame (another engine has found code in it). */
  dropWriteTranslations(frame: number): void;
  /** Loads a selector as MOV Sreg would (descriptor read from GDT/LDT, checks of `cpl`); false where that would fault. */
  loadSegment(register: 'es' | 'cs' | 'ss' | 'ds' | 'fs' | 'gs', selector: number): boolean;
  /** Reads guest-virtual memory through the current page tables with the given rights; sets A bits. */
  readVirtual(address: bigint, into: Uint8Array, user: boolean): PageFault | undefined;
  /** Writes guest-virtual memory; sets A and D bits; code frames are handled. */
  writeVirtual(address: bigint, from: Uint8Array, user: boolean): PageFault | undefined;
  readonly counters: EngineCounters;
}
