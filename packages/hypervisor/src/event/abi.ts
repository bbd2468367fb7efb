/** How pending events reach a domain: one implementation per ABI (2-level, FIFO, Domain-0's own). */
import type { VcpuRef, DomainRef } from '../state/refs.ts';
import type { PortView } from './records.ts';

export interface EventAbi {
  /** Ports that the ABI can express, port 0 included. */
  maxPorts(domain: DomainRef): number;
  /** A free port was bound. */
  init(domain: DomainRef, port: number, record: PortView): void;
  /** Makes the port pending and notifies `record.notifyVcpu` (or what it goes to) when that is due. */
  setPending(domain: DomainRef, port: number, record: PortView, vcpuId: number): void;
  clearPending(domain: DomainRef, port: number, record: PortView): void;
  unmask(domain: DomainRef, port: number, record: PortView): void;
  isPending(domain: DomainRef, port: number): boolean;
  /** True while the guest still has the port on a queue: it must not be given out again. */
  isBusy(domain: DomainRef, port: number): boolean;
  /** 0 or -errno. */
  setPriority(record: PortView, priority: number): number;
}

/** What delivery needs of vCPUs. */
export interface EventTargets {
  vcpu(domain: DomainRef, vcpuId: number): VcpuRef | undefined;
  /** Sets evtchn_upcall_pending and wakes the vCPU when it was clear. */
  markEventsPending(vcpu: VcpuRef): void;
  /** A port became pending that was not: wakes the vCPUs that poll it. */
  wakePollers(domain: DomainRef, port: number): void;
}
