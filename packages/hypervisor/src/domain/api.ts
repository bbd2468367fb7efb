/** What other subsystems ask about domains. All called with the hypervisor lock held. */
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import type { Engine } from '@xenhost/cpu';

export interface DomainPort {
  /** The domain of that id, whatever its state but destroyed; undefined for none and for reserved ids. */
  lookup(domid: number): DomainRef | undefined;
  /** As `lookup`, DOMID_SELF meaning `caller`. */
  resolve(caller: DomainRef, domid: number): DomainRef | undefined;
  /** Visits all domains in order of domid, Domain-0 included; ends early when `visit` returns false. */
  forEach(visit: (domain: DomainRef) => boolean | undefined): void;
  /** The vCPU, when it was allocated by max_vcpus. */
  vcpu(domain: DomainRef, vcpuId: number): VcpuRef | undefined;
  /** Those that max_vcpus allocated, in order. */
  vcpus(domain: DomainRef): VcpuRef[];
  forEachVcpu(domain: DomainRef, visit: (vcpu: VcpuRef) => void): void;
  /**
   * Ends a domain for a fault of its own: writes the reason and the registers to the console ring, as domain_crash
   * does, and shuts it down with reason crash. `engine` is the one that has `vcpu` loaded, if any.
   */
  crash(domain: DomainRef, reason: string, vcpu?: VcpuRef, engine?: Engine): void;
  /** SCHEDOP_shutdown: stops all vCPUs; VIRQ_DOM_EXC goes to Domain-0 once they are off. `reason` is SHUTDOWN_*. */
  shutdown(domain: DomainRef, reason: number): void;
  pause(domain: DomainRef): void;
  unpause(domain: DomainRef): void;
}
