/**
 * What other subsystems ask of the scheduler and of the other pCPUs. All methods are called with the hypervisor lock
 * held and return at once, but for the waits named below, which are bounded by one slice of guest code (below 1 ms).
 */
import type { Engine } from '@xenhost/cpu';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

export interface SchedulerPort {
  /**
   * The vCPU has something to take (event upcall, NMI, exception): wakes it when it is blocked or polling; when it is
   * running, its pCPU looks before the next entry. Harmless when there is nothing to do.
   */
  kick(vcpu: VcpuRef): void;
  /** Makes a vCPU runnable again after a reason not to run went away (unblocked, unpaused, came up). */
  wake(vcpu: VcpuRef): void;
  /** The reasons not to run have changed (paused, went down, blocked): takes it off the run queue or makes its pCPU let go soon. */
  sleep(vcpu: VcpuRef): void;
  /** True when every vCPU of the domain is off its pCPU, its registers saved in the record. */
  isQuiescent(domain: DomainRef): boolean;
}

/** Translations cached by the engines. A pCPU that is out of guest code flushes before it enters again. */
export interface TlbPort {
  /** Flushes the pCPUs that have one of these vCPUs loaded (bit n: vCPU n); returns when none can use an old entry. */
  flushVcpus(domain: DomainRef, vcpuMask: number, includeGlobal: boolean): void;
  /** The same for one page. */
  invalidatePage(domain: DomainRef, vcpuMask: number, address: bigint): void;
  /** Flushes every pCPU, global entries included: before a frame changes owner or type. */
  flushAll(): void;
  /** Flushes the loaded vCPU, which is the calling one, on this pCPU. */
  flushCaller(vcpu: VcpuRef, engine: Engine): void;
  /** A present L1 entry of the domain's (`slot`, mapping `mfn`) has gone or allows less than before. */
  leafChanged(domid: number, slot: number, mfn: number): void;
  /** A present entry of an upper table of the domain's has gone or was replaced; `flushVcpus` is to follow. */
  upperChanged(domid: number): void;
  /** An L4 table of the domain's is one no longer. */
  rootReleased(domid: number, mfn: number): void;
}

/** Code that engines have decoded from frames. */
export interface CodeWatchPort {
  /** The hypervisor has changed bytes of a frame (scrub, foreign write, grant copy): decoded code of it is dropped. Cheap when it held none. */
  frameChanged(frame: number): void;
}
