/**
 * The memory manager as the rest of the hypervisor sees it: frames and their owners, page types, the direct paging
 * interface of PV guests, descriptor tables, reservations. Answers to `xen/arch/x86/mm.c` and `xen/common/memory.c`.
 * All calls are made with the hypervisor lock held. Instances hold no state: each thread has its own over the same memory.
 *
 * Build one with `createMemory(core, modules)` (mm/memory.ts) after `bootMemory(memory, map)` (mm/boot.ts) has run once
 * per host, before any other thread starts.
 */
import type { Engine } from '@xenhost/cpu';
import type { HypercallHandler } from '../hypercall/types.ts';
import type { PvMemory } from '../pv/api.ts';
import type { CodeWatchPort, TlbPort } from '../sched/api.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

/** What the memory manager asks of its surroundings. */
export interface MemoryModules {
  readonly tlb: TlbPort;
  readonly code: CodeWatchPort;
  /** The domain of that id, dying ones included; undefined for none and for reserved ids. */
  domain(domid: number): DomainRef | undefined;
  vcpu(domain: DomainRef, vcpuId: number): VcpuRef | undefined;
  /** Ends a domain for a fault of its own. */
  crashDomain(domain: DomainRef, reason: string): void;
}

/** A type a guest frame can have; exclusive (`PGT_*`). */
export const FrameType = {
  none: 0, l1: 1, l2: 2, l3: 3, l4: 4, segDesc: 5, shared: 6, writable: 7,
} as const; // prettier-ignore
export type FrameType = (typeof FrameType)[keyof typeof FrameType];

/** Linear addresses of the per-domain area (slot 260), in every address space of the domain. */
export const PERDOMAIN_START = 0xffff820000000000n;
/** Each vCPU has a window of 32 pages for its GDT and, 64 KiB above, 16 pages for its LDT. */
export const PERDOMAIN_VCPU_SHIFT = 17n;
export const PERDOMAIN_LDT_OFFSET = 0x10000n;
export const gdtVirt = (vcpuId: number): bigint => PERDOMAIN_START + (BigInt(vcpuId) << PERDOMAIN_VCPU_SHIFT);
export const ldtVirt = (vcpuId: number): bigint => gdtVirt(vcpuId) + PERDOMAIN_LDT_OFFSET;
/** GDT limit of a PV vCPU: guest entries and Xen's reserved page at 0xe000. */
export const PV_GDT_LIMIT = 0xefff;

/** The M2P table as guests see it, and the part of the address space that is Xen's. */
export const M2P_VIRT_START = 0xffff800000000000n;
export const HYPERVISOR_VIRT_START = 0xffff800000000000n;
export const HYPERVISOR_VIRT_END = 0xffff880000000000n;
const XEN_FIRST_HIGH = Number(HYPERVISOR_VIRT_START >> 32n);
const XEN_END_HIGH = Number(HYPERVISOR_VIRT_END >> 32n);
/** An address with this high half (signed or not) lies in Xen's part. */
export const isXensHalf = (high: number): boolean => high >>> 0 >= XEN_FIRST_HIGH && high >>> 0 < XEN_END_HIGH;
/** M2P entry of frames that have no pfn (free, Xen's). */
export const INVALID_M2P_ENTRY = 0xffff_ffff_ffff_ffffn;

/** Outcome of a step of a long operation. */
export type Progress = 'done' | 'continue';

export interface HeapInfo {
  readonly totalFrames: number;
  readonly freeFrames: number;
}

/** What grant tables ask of the memory manager. */
export interface GrantMemory {
  /** A reference to a frame of the domain; undefined when it is none of its live frames. */
  getFrame(domain: DomainRef, gfn: number): number | undefined;
  /** A writable type reference; false when the frame is of another type. */
  getWritable(mfn: number): boolean;
  putWritable(mfn: number): void;
  putFrame(mfn: number): void;
  /** References that Xen and guests hold to a frame now. */
  references(mfn: number): number;
  /**
   * Writes an L1 entry of the vCPU's domain: `address` is linear, or with `isEntry` the machine address of the entry.
   * The mapping's references are the caller's; those of the entry that was there are dropped. False when there is no
   * such L1 entry.
   */
  createMapping(vcpu: VcpuRef, address: bigint, isEntry: boolean, mfn: number, flags: number): boolean;
  /**
   * Takes such a mapping away: the entry must map `mfn` with the same present and write bits. With `newAddress` the
   * entry at that linear address moves here. False when it does not match.
   */
  removeMapping(
    vcpu: VcpuRef,
    address: bigint,
    isEntry: boolean,
    mfn: number,
    flags: number,
    newAddress: bigint,
  ): boolean;
  /**
   * Takes an own RAM frame out of the domain's hands, its bytes kept; undefined unless only the owner's own reference and no
   * type is left on it. Then `giveFrame` or `discardFrame` it.
   */
  stealFrame(domain: DomainRef, gfn: bigint): number | undefined;
  /** True when the domain lives and may own one more frame. */
  hasRoom(domain: DomainRef): boolean;
  /** Gives a stolen frame to a domain that has room, as its `pfn` (M2P), after a flush of all stale translations. */
  giveFrame(domain: DomainRef, mfn: number, pfn: bigint): void;
  /** Frees a stolen frame. */
  discardFrame(mfn: number): void;
  /** Flushes translations of all the domain's vCPUs. */
  flush(domain: DomainRef): void;
  /** grant/ tells where XENMEM_acquire_resource finds its frames. */
  setGrantFrames(frames: {
    sharedFrame(domain: DomainRef, index: number): number;
    statusFrame(domain: DomainRef, index: number): number;
  }): void;
}

export interface MemoryManager extends PvMemory {
  readonly forGrants: GrantMemory;

  /* ---- Xen's own frames ---- */

  /** A zeroed frame of Xen's own; undefined when memory is short. */
  allocateXenFrame(): number | undefined;
  /** `nr` contiguous zeroed frames (first one), for records larger than a page. Free them with the same `nr`. */
  allocateXenFrames(nr: number): number | undefined;
  freeXenFrame(mfn: number): void;
  freeXenFrames(mfn: number, nr: number): void;
  /**
   * Gives the domain access to a Xen frame (shared_info, grant table frames): it may map it writable, or read-only when
   * not `writable`, but never own or free it. Undone by `unshareXenFrame`.
   */
  shareXenFrame(domain: DomainRef, mfn: number, writable: boolean): void;
  /**
   * Takes the frame back: true when no guest reference was left and it has been freed; else it is freed when the last
   * mapping goes (domain destruction at the latest).
   */
  unshareXenFrame(domain: DomainRef, mfn: number): boolean;
  heapInfo(): HeapInfo;

  /* ---- life of domains and vCPUs ---- */

  /** Prepares a zeroed domain record: per-domain area of a PV domain. 0 or -ENOMEM. `maxPages` starts at 0. */
  initDomain(domain: DomainRef): number;
  /** Prepares the GDT and LDT windows of a vCPU (PV). 0 or -ENOMEM. */
  initVcpu(vcpu: VcpuRef): number;
  /**
   * Drops what a vCPU holds: base tables, GDT and LDT frames. The vCPU must not be loaded. For VCPUOP re-initialisation
   * (vcpu_reset) and, implicitly, by `relinquish`.
   */
  resetVcpu(vcpu: VcpuRef): void;
  /**
   * Destruction, repeated until 'done': with all vCPUs off their pCPUs and grant/'s `relinquish` done, drops base
   * tables, pins, types and frames. Frames that others still map stay until they let go.
   */
  relinquish(domain: DomainRef): Progress;
  /** After `relinquish`: true when no frame of the domain is referenced by anybody; its record may be freed after `freeDomain`. */
  isRelinquished(domain: DomainRef): boolean;
  /** Frees the per-domain area. The last call for this domain. */
  freeDomain(domain: DomainRef): void;

  /* ---- the toolstack's and backends' access ---- */

  /**
   * The machine frame behind a domain's frame, for a copy to be made before the lock is released. PV: gfn = mfn, which
   * must be owned by the domain (shared Xen frames included). `write`: also that it may be writable now (no page table,
   * no descriptor frame). Non-negative mfn, or -errno: -EINVAL (not its frame), -EBUSY (typed). After writing call
   * `frameWritten`.
   */
  foreignFrame(domain: DomainRef, gfn: number, write: boolean): number;
  /** The hypervisor has changed bytes of a guest frame: engines forget code decoded from it. */
  frameWritten(mfn: number): void;
  /** XEN_DOMCTL_getpageframeinfo3: XEN_DOMCTL_PFINFO_* of a frame of the domain (type << 28, pinned bit, XTAB). */
  frameInfo(domain: DomainRef, gfn: number): number;
  /** Visits the frames a domain owns (its page list, shared Xen frames not included). */
  forEachFrame(domain: DomainRef, visit: (mfn: number) => void): void;
  /** The entry of the M2P: pfn, or undefined when there is none. */
  pfnOf(mfn: number): number | undefined;

  /**
   * A reference of type writable on the domain's own frame, kept until `releaseWritableFrame`: FIFO pages, vcpu_info.
   * The mfn, or undefined when it is none of its RAM frames or cannot be writable.
   */
  takeWritableFrame(domain: DomainRef, gfn: bigint): number | undefined;
  releaseWritableFrame(domain: DomainRef, mfn: number): void;

  /* ---- PV ---- */

  /**
   * Writable page tables: a store of the guest's kernel to a present read-only mapping of one of its L1 tables, already
   * decoded. `size` 4 or 8 bytes, aligned. With `expected` it is a compare-and-exchange: the store happens when the
   * entry holds that. `stored`: done; `mismatch`: the entry held `current`; `refused`: give the guest its #PF.
   */
  ptWrite(vcpu: VcpuRef, engine: Engine, linear: bigint, size: number, value: bigint, expected?: bigint): PtWriteResult;
  /** Frame of the leaf table entry for a linear address in the vCPU's present tables, for diagnostics. */
  walk(l4: number, linear: bigint): PageWalk | undefined;

  readonly hypercalls: {
    readonly mmu_update: HypercallHandler;
    readonly update_va_mapping: HypercallHandler;
    readonly update_va_mapping_otherdomain: HypercallHandler;
    readonly mmuext_op: HypercallHandler;
    readonly memory_op: HypercallHandler;
  };

  /**
   * Recounts references and types of every frame from tables, pins and bases and lists what disagrees; empty when all
   * is well. Slow: tests and debug keys.
   */
  audit(domains: readonly DomainRef[]): string[];
}

export type PtWriteResult =
  { readonly kind: 'stored' } | { readonly kind: 'mismatch'; readonly current: bigint } | { readonly kind: 'refused' };

export interface PageWalk {
  /** Byte address in machine memory of the leaf entry. */
  readonly entryAddress: number;
  readonly entry: bigint;
  /** Rights along the whole walk. */
  readonly writable: boolean;
  readonly user: boolean;
}
