/**
 * Grant tables as the rest of the hypervisor sees them. Answers to `xen/include/public/grant_table.h` and
 * `xen/common/grant_table.c`. All calls are made with the hypervisor lock held. Build with `createGrants(core, mm, modules)`.
 */
import type { HypercallHandler } from '../hypercall/types.ts';
import type { Progress } from '../mm/api.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

export interface GrantModules {
  domain(domid: number): DomainRef | undefined;
  vcpu(domain: DomainRef, vcpuId: number): VcpuRef | undefined;
}

/** Limits of one domain; `undefined` gives the host's default. */
export interface GrantLimits {
  /** Frames of the shared table (default 64). */
  readonly maxFrames?: number | undefined;
  /** Frames of the maptrack (default 1024). */
  readonly maxMaptrackFrames?: number | undefined;
  /** Highest version the domain may set (default 2). */
  readonly maxVersion?: number | undefined;
}

/** A frame opened through a grant, for a copy made before the lock is released. */
export interface GrantAccess {
  readonly kind: 'frame';
  readonly mfn: number;
  /** Part of the frame that was granted (sub-page grants of version 2). */
  readonly offset: number;
  readonly length: number;
}
/** `status` is GNTST_* (negative). */
export interface GrantRefusal {
  readonly kind: 'refused';
  readonly status: number;
}

export interface GrantTables {
  /** Prepares the table of a new domain (Domain-0 too): one frame, version 1. 0 or -errno. */
  initDomain(domain: DomainRef, limits: GrantLimits): number;
  /**
   * First part of destruction, repeated until 'done': unmaps the grants this domain has mapped, so that their owners get them back.
   * Comes before mm's `relinquish`.
   */
  relinquish(domain: DomainRef): Progress;
  /** Last part: frees table, status and maptrack frames. After mm's `relinquish`. */
  freeDomain(domain: DomainRef): void;
  /**
   * Opens a grant of `granter` to `user` (Domain-0's backends through privcmd), marks GTF_reading or GTF_writing in the
   * shared entry; every success must be closed by `closeAccess` with the same arguments.
   */
  openAccess(granter: DomainRef, user: DomainRef, gref: number, write: boolean): GrantAccess | GrantRefusal;
  closeAccess(granter: DomainRef, gref: number, write: boolean): void;
  /** Machine frame of the shared table's frame `index`, growing it when needed; or -errno (XENMEM_acquire_resource, HVM's physmap). */
  sharedFrame(domain: DomainRef, index: number): number;
  statusFrame(domain: DomainRef, index: number): number;
  /** `grant_table_op` (20). */
  readonly hypercall: HypercallHandler;
}
