/**
 * Helpers: the rare and long instructions (segment loads, IRET, CPUID, FXSAVE, transcendental x87...), written once in
 * TypeScript over `CpuState` and a memory port, called from semantics by name. Oracle and generated code share them.
 */
import type { CpuState } from '../engine/state.ts';
import type { CpuidResult } from '../engine/api.ts';
import type { ExitReason } from '../engine/exit-reason.ts';

/** A guest's fault on its way from a helper to the engine; never leaves the engine. */
export class GuestFault {
  readonly vector: number;
  /** -1 for vectors without one. */
  readonly errorCode: number;
  /** Linear address for #PF. */
  readonly address: bigint;
  constructor(vector: number, errorCode = -1, address = 0n) {
    this.vector = vector;
    this.errorCode = errorCode;
    this.address = address;
  }
}

export const VECTOR = {
  divideError: 0, debug: 1, nmi: 2, breakpoint: 3, overflow: 4, boundRange: 5, invalidOpcode: 6, deviceNotAvailable: 7,
  doubleFault: 8, invalidTss: 10, segmentNotPresent: 11, stackFault: 12, generalProtection: 13, pageFault: 14,
  x87Error: 16, alignmentCheck: 17, machineCheck: 18, simdError: 19,
} as const; // prettier-ignore

/** Linear memory of the guest. Every access may throw `GuestFault` and then has changed nothing. */
export interface MemoryPort {
  /** `size` 1, 2, 4 or 8; the rights are those of the current CPL unless `system` (descriptor tables, TSS). */
  read(address: bigint, size: number, system?: boolean): bigint;
  write(address: bigint, size: number, value: bigint, system?: boolean): void;
  /**
   * Direct view of `length` bytes inside one page, or undefined where the bytes must go through `read` and `write`
   * (code, page crossing).
   */
  span(address: bigint, length: number, isWrite: boolean): Uint8Array | undefined;
  readBytes(address: bigint, into: Uint8Array): void;
  /** All pages are checked before the first byte is written. */
  writeBytes(address: bigint, from: Uint8Array): void;
}

export interface Port {
  port: number;
  size: number;
  isWrite: boolean;
}

/** What a helper sees. `state.rip` is that of the instruction; `nextRip` that of the next. */
export interface HelperContext {
  readonly state: CpuState;
  readonly memory: MemoryPort;
  readonly monitor: boolean;
  readonly nextRip: bigint;
  /** Bytes of the instruction. */
  length: number;
  cpuid(leaf: number, subleaf: number): CpuidResult;
  readTsc(): bigint;
  fault(this: void, vector: number, errorCode?: number): never;
  /** Leaves the engine with `reason`. `done` when the instruction is complete (RIP moves past it). */
  exit(reason: ExitReason, done: boolean, details?: ExitDetails): void;
  /** RIP after this instruction. */
  jump(rip: bigint): void;
  /** A segment register, CR0, CR4, EFER, CPL or an address space was changed. */
  changed(what: 'mode' | 'tlb' | 'tlb-global'): void;
  /** The run loop must look at shadows, TF and the interrupt window before the next instruction. */
  attend(): void;
  /** Delivers an interrupt or trap through the guest's IDT (architectural mode). */
  deliver(event: { vector: number; errorCode: number; kind: 'fault' | 'external' | 'software' | 'icebp' }): void;
  invalidatePage(address: bigint): void;
  /** Runs `body` with no other CPU inside one: what a locked access of more than eight bytes needs. `body` touches no guest memory but by direct views. */
  busLock(this: void, body: () => void): void;
  /** Runs `body` while no other CPU executes an instruction. */
  exclusively(this: void, body: () => void): void;
  /** Eight bytes at a machine address, 0 where there is no memory. */
  readPhysical(address: bigint): bigint;
}

export interface ExitDetails {
  vector?: number;
  errorCode?: number;
  port?: number;
  size?: number;
  isWrite?: boolean;
  msr?: number;
}

/** Returns the value that `e.helper` gives, where the semantics want one. */
export type Helper = (context: HelperContext, args: readonly bigint[]) => bigint | void;
