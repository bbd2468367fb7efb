/**
 * The PV CPU model as the run loop and the control plane see it, and what it asks of the memory manager, the event
 * channels and the domain code. All calls are made with the hypervisor lock held. 64-bit guests.
 */
import type { CpuidResult, Engine, Exit } from '@xenhost/cpu';
import type { EventChannels } from '../event/api.ts';
import type { HypercallHandler } from '../hypercall/types.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { Counters } from '../trace/counters.ts';
import type { Tracer } from '../trace/tracer.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

/** The memory manager's part in running PV code. */
export interface PvMemory {
  /**
   * A #PF of the guest, before it is given to the guest: writable page table emulation, LDT pages on demand, and
   * translations that were stale. True when it is dealt with and the guest should run on.
   */
  fixPageFault(vcpu: VcpuRef, engine: Engine, address: bigint, errorCode: number): boolean;
  /** Loads CR3 with the table of the vCPU's present mode: guestTable, or guestTableUser when not kernelMode. */
  switchTables(vcpu: VcpuRef, engine: Engine): void;
  /** set_gdt: checks and takes the frames, rewrites the vCPU's GDT window. 0 or -errno. `frames` are guest mfns. */
  setGdt(vcpu: VcpuRef, frames: readonly bigint[], entries: number): number;
  /** update_descriptor by machine address. 0 or -errno. */
  updateDescriptor(vcpu: VcpuRef, machineAddress: bigint, descriptor: bigint): number;
  /** Takes an L4 (pinned or to be validated) as kernel or user base of a vCPU that is not running. 0 or -errno. */
  setBaseTable(vcpu: VcpuRef, mfn: bigint, user: boolean): number;
  /** MOV CR3 of a running kernel: as MMUEXT_NEW_BASEPTR with that L4, loaded at once. 0 or -errno. */
  loadBaseTable(vcpu: VcpuRef, engine: Engine, mfn: bigint): number;
  /** Base and entries of the LDT, checked as MMUEXT_SET_LDT does. 0 or -errno. */
  setLdt(vcpu: VcpuRef, linearBase: bigint, entries: number): number;
  /** Linear address of the vCPU's GDT window, and of its LDT window (per-domain area). */
  gdtBase(vcpu: VcpuRef): bigint;
  ldtBase(vcpu: VcpuRef): bigint;
}

export interface PvModules {
  readonly memory: MachineMemory;
  readonly mm: PvMemory;
  readonly events: EventChannels;
  domainOf(vcpu: VcpuRef): DomainRef;
  vcpu(domain: DomainRef, vcpuId: number): VcpuRef | undefined;
  /**
   * Runs the hypercall that the registers of the engine ask for (number in RAX): writes RAX, moves RIP back by 2 for a
   * continuation, leaves the registers alone for `noResult`.
   */
  dispatchHypercall(vcpu: VcpuRef, engine: Engine): void;
  /** Shuts the whole domain down with reason crash and logs `text` with the registers. */
  crashDomain(domain: DomainRef, vcpu: VcpuRef, text: string, engine?: Engine): void;
  cpuid(vcpu: VcpuRef, leaf: number, subleaf: number): CpuidResult;
  /** The vCPU's TSC now. */
  readTsc(vcpu: VcpuRef): bigint;
  /** Xen system time in ns (the emulated PIT and RTC count by it) and wall-clock ns. */
  systemTimeNs(): bigint;
  wallTimeNs(): bigint;
  /** What this thread counts and traces; absent: nothing. */
  readonly observer?: { readonly counters: Counters; readonly tracer: Tracer };
  /** Makes the vCPU runnable and, when it runs, leave the guest (an NMI became pending). */
  kick(vcpu: VcpuRef): void;
}

/** `resume`: call `beforeEntry` and run on. `stop`: the domain was crashed; pick another vCPU. */
export type PvOutcome = 'resume' | 'stop';

export interface Pv {
  /**
   * Deals with an exit of reason exception, softwareInterrupt, syscall, sysenter or hypercall. `budget`, `pause`,
   * `halt` are the run loop's (a PV guest's HLT arrives as #GP).
   */
  handleExit(vcpu: VcpuRef, engine: Engine, exit: Exit): PvOutcome;
  /**
   * Deals with the exit that the engine has just made where that needs nothing but this vCPU: the hypervisor lock need not
   * be held, and the pCPU may still count as in guest code. True when the guest may run on (`hasPending` permitting);
   * false, with nothing changed, for all that is `handleExit`'s.
   */
  fastExit(vcpu: VcpuRef, engine: Engine): boolean;
  /**
   * The exit that the engine has just made needs the lock, but `handleExit` deals with it in microseconds and leaves
   * nothing to decide but whether the vCPU may run on: it may be called in the middle of a run of the engine.
   */
  isBrief(vcpu: VcpuRef, engine: Engine): boolean;
  /** There is something for `beforeEntry` to deliver. Without the lock as well. */
  hasPending(vcpu: VcpuRef): boolean;
  /** Before every entry to the guest: pending NMI, then event upcall. `stop` when the frame could not be written. */
  beforeEntry(vcpu: VcpuRef, engine: Engine): PvOutcome;
  /**
   * After `engine.load` of this vCPU on a pCPU: tables, descriptor table registers, data segments as saved (failsafe
   * callback frame when one cannot be loaded). `stop` as above.
   */
  switchedIn(vcpu: VcpuRef, engine: Engine): PvOutcome;
  /** Before `engine.save`: takes what the guest may have changed by itself (FS and GS bases and selectors). */
  switchingOut(vcpu: VcpuRef, engine: Engine): void;
  /** Leaves or enters guest kernel mode: swaps GS bases and CR3. False when there is no user table (not switched). */
  toggleMode(vcpu: VcpuRef, engine: Engine): boolean;
  /**
   * arch_set_info_guest: takes a `vcpu_guest_context` (5168 bytes, x86-64) for a vCPU that is not running, writes its
   * registers into the saved CPU state. 0 or -errno. Domctl setvcpucontext and VCPUOP_initialise.
   */
  initContext(vcpu: VcpuRef, context: Uint8Array): number;
  /** arch_get_info_guest, of a vCPU that is not running. */
  readContext(vcpu: VcpuRef): Uint8Array;
  /** The contents of a PV 64 hypercall page. */
  fillHypercallPage(page: Uint8Array): void;
  /** Marks an NMI pending (VCPUOP_send_nmi); delivered at the next entry when an NMI callback is there. */
  sendNmi(vcpu: VcpuRef): void;
  /** Handlers by hypercall name, for the dispatch table. */
  readonly hypercalls: {
    readonly set_trap_table: HypercallHandler;
    readonly set_gdt: HypercallHandler;
    readonly stack_switch: HypercallHandler;
    readonly set_callbacks: HypercallHandler;
    readonly fpu_taskswitch: HypercallHandler;
    readonly set_debugreg: HypercallHandler;
    readonly get_debugreg: HypercallHandler;
    readonly update_descriptor: HypercallHandler;
    readonly iret: HypercallHandler;
    readonly set_segment_base: HypercallHandler;
    readonly nmi_op: HypercallHandler;
    readonly callback_op: HypercallHandler;
    readonly physdev_op: HypercallHandler;
  };
}
