/**
 * The domains of the host, found by id or in order. Only finding: creation and destruction are in `lifecycle.ts`.
 * Called with the hypervisor lock held.
 */
import { DOMID, PAGE_SIZE } from '@xenhost/xen-abi';
import type { Core } from '../state/core.ts';
import { MAX_VCPUS_PER_DOMAIN, NR_DOMIDS } from '../state/memory-map.ts';
import { DomainLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { domainRef, vcpuRef } from '../state/refs.ts';

export class DomainTable {
  readonly #core: Core;
  readonly #index: number;
  readonly #domains = new Map<number, DomainRef>();
  readonly #vcpus = new Map<number, VcpuRef>();

  constructor(core: Core) {
    this.#core = core;
    this.#index = (core.map.domainIndex * PAGE_SIZE) / 4;
  }

  lookup(domid: number): DomainRef | undefined {
    if (!(domid >= 0 && domid < NR_DOMIDS)) return undefined;
    const frame = this.#core.memory.u32[this.#index + domid] ?? 0;
    return frame === 0 ? undefined : this.#domainAt(frame);
  }

  resolve(caller: DomainRef, domid: number): DomainRef | undefined {
    return domid === DOMID.SELF ? this.lookup(caller.domid) : this.lookup(domid);
  }

  forEach(visit: (domain: DomainRef) => boolean | undefined): void {
    for (let frame = this.#core.header.domainListHead; frame !== 0;) {
      const domain = this.#domainAt(frame);
      const next = domain.v.nextDomain;
      if (visit(domain) === false) return;
      frame = next;
    }
  }

  vcpu(domain: DomainRef, vcpuId: number): VcpuRef | undefined {
    if (!(vcpuId >= 0 && vcpuId < MAX_VCPUS_PER_DOMAIN)) return undefined;
    const frame = this.#core.memory.u32[(domain.address + DomainLayout.offsets.vcpuFrames) / 4 + vcpuId] ?? 0;
    return frame === 0 ? undefined : this.vcpuAt(frame);
  }

  forEachVcpu(domain: DomainRef, visit: (vcpu: VcpuRef) => void): void {
    const max = domain.v.maxVcpus;
    for (let id = 0; id < max; id++) {
      const vcpu = this.vcpu(domain, id);
      if (vcpu) visit(vcpu);
    }
  }

  vcpus(domain: DomainRef): VcpuRef[] {
    const all: VcpuRef[] = [];
    this.forEachVcpu(domain, (vcpu) => all.push(vcpu));
    return all;
  }

  /** The vCPU whose record is at that frame. */
  vcpuAt(frame: number): VcpuRef {
    let ref = this.#vcpus.get(frame);
    if (!ref) {
      ref = vcpuRef(this.#core.memory, frame);
      this.#vcpus.set(frame, ref);
    } else if (ref.domid !== ref.v.domid || ref.vcpuId !== ref.v.vcpuId) {
      ref = vcpuRef(this.#core.memory, frame);
      this.#vcpus.set(frame, ref);
    }
    return ref;
  }

  /** The domain of a vCPU; a vCPU outlives neither its domain nor its domain's place in the index. */
  domainOf(vcpu: VcpuRef): DomainRef {
    const domain = this.lookup(vcpu.domid);
    if (!domain) throw new Error(`vCPU ${vcpu.vcpuId} of domain ${vcpu.domid} without a domain`);
    return domain;
  }

  /** Enters a new record: into the index, and into the list in order of domid. */
  insert(frame: number): DomainRef {
    this.#domains.delete(frame);
    const domain = this.#domainAt(frame);
    const { header } = this.#core;
    let previous: DomainRef | undefined;
    let next = header.domainListHead;
    while (next !== 0) {
      const at = this.#domainAt(next);
      if (at.domid > domain.domid) break;
      previous = at;
      next = at.v.nextDomain;
    }
    domain.v.nextDomain = next;
    if (previous) previous.v.nextDomain = frame;
    else header.domainListHead = frame;
    this.#core.memory.u32[this.#index + domain.domid] = frame;
    header.nrDomains++;
    return domain;
  }

  /** Takes a record out of index and list; its frame may then be freed. */
  remove(domain: DomainRef): void {
    const { header } = this.#core;
    if (header.domainListHead === domain.frame) header.domainListHead = domain.v.nextDomain;
    else
      this.forEach((d) => {
        if (d.v.nextDomain !== domain.frame) return true;
        d.v.nextDomain = domain.v.nextDomain;
        return false;
      });
    this.#core.memory.u32[this.#index + domain.domid] = 0;
    header.nrDomains--;
  }

  /** Other threads make and destroy domains: a cached handle is checked against its record before it is given out. */
  #domainAt(frame: number): DomainRef {
    let ref = this.#domains.get(frame);
    if (!ref || ref.domid !== ref.v.domid) {
      ref = domainRef(this.#core.memory, frame);
      this.#domains.set(frame, ref);
    }
    return ref;
  }
}
