/**
 * Which engines' translations are known to agree with the page tables. A PV guest's tables change only through the
 * hypervisor: who changes an entry drops what its own engine has of it at once, and counts the change. A vCPU, or an engine,
 * for which no other change has been counted since its last flush needs no flush: what it holds is what a walk would find.
 *
 * Counters are 64-bit floats in the shared records, exact up to 2^53. With the hypervisor lock held.
 */
import type { Core } from '../state/core.ts';
import { DomainLayout, HeaderLayout, VcpuLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

export class Translations {
  readonly #values: Float64Array;
  readonly #changes: number;
  /** Changes counted by this thread, and of the others' those that its engine was flushed for. */
  #own = 0;
  #settled = 0;

  constructor(core: Core) {
    this.#values = core.memory.f64;
    this.#changes = (core.map.header * 4096 + HeaderLayout.offsets.tableChanges) / 8;
  }

  #get(at: number): number {
    return this.#values[at] ?? 0;
  }
  #generation(domain: DomainRef): number {
    return (domain.address + DomainLayout.offsets.tableGeneration) / 8;
  }
  #seen(vcpu: VcpuRef): number {
    return (vcpu.address + VcpuLayout.offsets.tableGeneration) / 8;
  }

  /** Entries of the domain's tables changed, and no engine has dropped anything for it yet. */
  changed(domain: DomainRef): void {
    this.#values[this.#changes] = this.#get(this.#changes) + 1;
    const at = this.#generation(domain);
    this.#values[at] = this.#get(at) + 1;
  }
  /** The same, but this thread's engine has dropped what it had of it; `loaded` is the vCPU that it has loaded. */
  changedAndDropped(domain: DomainRef, loaded: VcpuRef | undefined): void {
    this.#own++;
    const wasTrusted = loaded?.domid === domain.domid && this.isTrusted(domain, loaded);
    this.changed(domain);
    if (loaded && wasTrusted) this.flushed(domain, loaded);
  }

  /** All that engines hold for the vCPU agrees with the tables. */
  isTrusted(domain: DomainRef, vcpu: VcpuRef): boolean {
    return this.#get(this.#seen(vcpu)) === this.#get(this.#generation(domain));
  }
  /** The vCPU's translations were dropped, or will be before it runs again. */
  flushed(domain: DomainRef, vcpu: VcpuRef): void {
    this.#values[this.#seen(vcpu)] = this.#get(this.#generation(domain));
  }

  /** All that this thread's engine holds, of any domain, agrees with the tables. */
  isEngineTrusted(): boolean {
    return this.#get(this.#changes) - this.#own === this.#settled;
  }
  engineFlushed(): void {
    this.#settled = this.#get(this.#changes) - this.#own;
  }
}
