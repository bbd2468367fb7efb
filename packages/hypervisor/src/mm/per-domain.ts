/**
 * The per-domain area, L4 slot 260 of every PV address space (Xen's `PERDOMAIN_VIRT_START`): one L3 and L2 for the
 * domain, an L1 for 16 vCPUs, in it 32 pages for each vCPU: its GDT window (guest frames, Xen's page at 0xe000), then
 * its LDT window. Supervisor only: the CPU reaches it when it loads descriptors, guest code never.
 */
import { Errno } from '@xenhost/base';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import type { MemoryModules } from './api.ts';
import type { Ownership } from './ownership.ts';
import { DomainWords } from './private.ts';
import type { HostWords } from './private.ts';
import { Pte } from './pte.ts';
import type { Tables } from './tables.ts';

const VCPUS_PER_L1 = 16;
const PAGES_PER_VCPU = 32;
const LDT_FIRST_PAGE = 16;
const GDT_GUEST_PAGES = 14;
const NR_L1 = 2;
const TABLE = Pte.present | Pte.rw | Pte.accessed;
const DATA = Pte.present | Pte.rw | Pte.accessed | Pte.dirty | Pte.nx;
const READ_ONLY = Pte.present | Pte.accessed | Pte.nx;

export class PerDomain {
  readonly #memory: MachineMemory;
  readonly #own: Ownership;
  readonly #tables: Tables;
  readonly #host: HostWords;
  readonly #modules: MemoryModules;

  constructor(memory: MachineMemory, own: Ownership, tables: Tables, host: HostWords, modules: MemoryModules) {
    this.#memory = memory;
    this.#own = own;
    this.#tables = tables;
    this.#host = host;
    this.#modules = modules;
  }

  initDomain(domain: DomainRef): number {
    const l3 = this.#own.allocateXen(1);
    const l2 = this.#own.allocateXen(1);
    if (l3 === undefined || l2 === undefined) {
      if (l3 !== undefined) this.#own.freeXen(l3, 1);
      return -Errno.ENOMEM;
    }
    this.#tables.write(l3, 0, l2, TABLE);
    domain.v.perDomainL3 = l3;
    new DomainWords(this.#memory, domain).perDomainL2 = l2;
    return 0;
  }

  initVcpu(vcpu: VcpuRef): number {
    const domain = this.#modules.domain(vcpu.domid);
    const l2 = domain ? new DomainWords(this.#memory, domain).perDomainL2 : 0;
    if (l2 === 0) return 0;
    const slot = Math.floor(vcpu.vcpuId / VCPUS_PER_L1);
    if (!this.#tables.isPresent(l2, slot)) {
      const l1 = this.#own.allocateXen(1);
      if (l1 === undefined) return -Errno.ENOMEM;
      this.#tables.write(l2, slot, l1, TABLE);
    }
    const [l1, first] = this.#window(vcpu);
    for (let page = 0; page < GDT_GUEST_PAGES; page++)
      this.#tables.write(l1, first + page, this.#host.zeroFrame, READ_ONLY);
    this.#tables.write(l1, first + GDT_GUEST_PAGES, this.#host.gdtFrame, DATA);
    return 0;
  }

  freeDomain(domain: DomainRef): void {
    const words = new DomainWords(this.#memory, domain);
    const l2 = words.perDomainL2;
    if (l2 === 0) return;
    for (let slot = 0; slot < NR_L1; slot++)
      if (this.#tables.isPresent(l2, slot)) this.#own.freeXen(this.#tables.mfn(l2, slot), 1);
    this.#own.freeXen(l2, 1);
    this.#own.freeXen(domain.v.perDomainL3, 1);
    words.perDomainL2 = 0;
    domain.v.perDomainL3 = 0;
  }

  mapGdtPage(vcpu: VcpuRef, page: number, mfn: number): void {
    const [l1, first] = this.#window(vcpu);
    this.#tables.write(l1, first + page, mfn, DATA);
  }
  unmapGdtPage(vcpu: VcpuRef, page: number): void {
    const [l1, first] = this.#window(vcpu);
    this.#tables.write(l1, first + page, this.#host.zeroFrame, READ_ONLY);
  }
  mapLdtPage(vcpu: VcpuRef, page: number, mfn: number, flags: number): void {
    const [l1, first] = this.#window(vcpu);
    this.#tables.write(l1, first + LDT_FIRST_PAGE + page, mfn, (flags & ~Pte.global) | DATA);
  }
  /** The frame that was there, 0 for none. */
  unmapLdtPage(vcpu: VcpuRef, page: number): number {
    const domain = this.#modules.domain(vcpu.domid);
    if (!domain || domain.v.perDomainL3 === 0) return 0;
    const [l1, first] = this.#window(vcpu);
    const slot = first + LDT_FIRST_PAGE + page;
    if (l1 === 0 || !this.#tables.isPresent(l1, slot)) return 0;
    const mfn = this.#tables.mfn(l1, slot);
    this.#tables.write(l1, slot, 0, 0);
    return mfn;
  }

  /** Frames in the vCPU's LDT window. */
  ldtFrames(vcpu: VcpuRef): number[] {
    const domain = this.#modules.domain(vcpu.domid);
    if (!domain || domain.v.perDomainL3 === 0) return [];
    const [l1, first] = this.#window(vcpu);
    const frames: number[] = [];
    for (let page = 0; l1 !== 0 && page < LDT_FIRST_PAGE; page++) {
      const slot = first + LDT_FIRST_PAGE + page;
      if (this.#tables.isPresent(l1, slot)) frames.push(this.#tables.mfn(l1, slot));
    }
    return frames;
  }

  #window(vcpu: VcpuRef): [l1: number, firstSlot: number] {
    const domain = this.#modules.domain(vcpu.domid);
    if (!domain) throw new Error(`mm: vCPU of no domain ${vcpu.domid}`);
    const l2 = new DomainWords(this.#memory, domain).perDomainL2;
    const l1 = this.#tables.mfn(l2, Math.floor(vcpu.vcpuId / VCPUS_PER_L1));
    return [l1, (vcpu.vcpuId % VCPUS_PER_L1) * PAGES_PER_VCPU];
  }
}
