/**
 * Event channels as the rest of the hypervisor sees them, and what they ask of it. Answers to
 * `xen/include/public/event_channel.h`. All calls are made with the hypervisor lock held.
 */
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { HypercallHandler } from '../hypercall/types.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

/** What event channels ask of their surroundings; `machine.ts` passes it at construction. */
export interface EventModules {
  readonly memory: MachineMemory;
  /** A zeroed frame of the Xen heap for the domain's bookkeeping, or undefined when memory is short. */
  allocateXenFrame(): number | undefined;
  freeXenFrame(mfn: number): void;
  /**
   * Takes a reference of type writable to the domain's own RAM frame, so that Xen may keep writing there until it is
   * released. PV: gfn = mfn; HVM: through the p2m. undefined when it is no such frame (-EINVAL to the guest).
   */
  takeWritableFrame(domain: DomainRef, gfn: bigint): number | undefined;
  releaseWritableFrame(domain: DomainRef, mfn: number): void;
  domain(domid: Domid): DomainRef | undefined;
  vcpu(domain: DomainRef, vcpuId: number): VcpuRef | undefined;
  /**
   * An event became deliverable to this vCPU, or one of the ports it polls became pending: ends its block or poll
   * (clears the VcpuFlag bits), and makes it leave the guest when it runs.
   */
  kick(vcpu: VcpuRef): void;
  /** A port is made pending; for counting. */
  notified?(): void;
  /** A port of Domain-0 became pending: wakes the control plane, which calls `takeDom0Pending`. */
  ringControlDoorbell(): void;
}

/** Limits of one domain. */
export interface EventLimits {
  /** Highest number of ports the domain may have (`max_event_channels`, port 0 not counted). */
  readonly maxPorts: number;
}

export interface EventChannels {
  /** Prepares a new domain's (Domain-0 included) ports; 0 or -ENOMEM. */
  initDomain(domain: DomainRef, limits: EventLimits): number;
  /** XEN_DOMCTL_set_max_evtchn: the highest port number allowed. */
  setMaxPort(domain: DomainRef, maxPort: number): void;
  /** Closes every port (peers return to unbound) and gives back what was allocated. Repeatable. */
  destroyDomain(domain: DomainRef): void;
  /** EVTCHNOP_reset and soft reset: closes every port, back to the 2-level ABI. */
  resetDomain(domain: DomainRef): number;
  /** `event_channel_op` (32), for guests and for Domain-0's tools. */
  readonly hypercall: HypercallHandler;

  /** EVTCHNOP_send without the hypercall: 0 or -errno. */
  send(domain: DomainRef, port: EvtchnPort): number;
  /** EVTCHNOP_alloc_unbound: the port (positive) or -errno. */
  allocUnbound(domain: DomainRef, remote: Domid): number;
  /** EVTCHNOP_bind_interdomain for `domain`: its local port (positive) or -errno. */
  bindInterdomain(domain: DomainRef, remote: Domid, remotePort: EvtchnPort): number;
  /** EVTCHNOP_bind_virq for `domain`: its port (positive) or -errno. Domain-0 binds on vCPU 0. */
  bindVirq(domain: DomainRef, virq: number, vcpuId: number): number;
  /** EVTCHNOP_close: 0 or -errno. */
  close(domain: DomainRef, port: EvtchnPort): number;

  /** A per-vCPU virtual interrupt (VIRQ_TIMER, VIRQ_DEBUG, ...); nothing when it is not bound. */
  raiseVirq(vcpu: VcpuRef, virq: number): void;
  /** A global virtual interrupt of a domain (VIRQ_DOM_EXC of Domain-0, ...); nothing when it is not bound. */
  raiseGlobalVirq(domain: DomainRef, virq: number): void;
  /** True when the port is pending, masked or not (SCHEDOP_poll). False for ports that do not exist. */
  isPending(domain: DomainRef, port: EvtchnPort): boolean;
  /** True for a port number that SCHEDOP_poll accepts. */
  isValidPort(domain: DomainRef, port: number): boolean;
  /** evtchn_upcall_pending and not evtchn_upcall_mask. */
  hasDeliverable(vcpu: VcpuRef): boolean;
  /** Sets or clears evtchn_upcall_mask (SCHEDOP_block clears it). */
  setUpcallMask(vcpu: VcpuRef, masked: boolean): void;
  /**
   * After infoMfn and infoOffset of the vCPU were pointed at a newly registered vcpu_info (contents copied by the
   * caller): sets every selector bit and the upcall so that nothing is lost.
   */
  vcpuInfoMoved(vcpu: VcpuRef): void;

  /** Ports of Domain-0 that became pending since the last call; clears their pending bits. */
  takeDom0Pending(): EvtchnPort[];
}
