/** Puts the parts of the memory manager together behind `MemoryManager`. No rules of its own but foreign access. */
import { Errno } from '@xenhost/base';
import type { Engine } from '@xenhost/cpu';
import { Pfinfo, VcpuInfo } from '@xenhost/xen-abi';
import type { Core } from '../state/core.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { MAX_VCPUS_PER_DOMAIN } from '../state/memory-map.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { frameNumber } from './access.ts';
import { FrameType, gdtVirt, HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START, INVALID_M2P_ENTRY, ldtVirt } from './api.ts';
import type { GrantMemory, HeapInfo, MemoryManager, MemoryModules, PageWalk, Progress, PtWriteResult } from './api.ts';
import { audit } from './audit.ts';
import type { ExternalReferences } from './audit.ts';
import { BaseTables } from './base-tables.ts';
import { Descriptors } from './descriptors.ts';
import { Entries } from './entries.ts';
import { Exchange } from './exchange.ts';
import { Flusher } from './flush.ts';
import { FrameFlag, FrameTable } from './frame.ts';
import { GrantMappings } from './grant-mappings.ts';
import { Heap } from './heap.ts';
import type { GrantFrames } from './memory-op.ts';
import { MemoryOps } from './memory-op.ts';
import { MmuUpdates } from './mmu-update.ts';
import type { MmuModules } from './mmu-update.ts';
import { MmuExtOps } from './mmuext.ts';
import { Ownership } from './ownership.ts';
import { PerDomain } from './per-domain.ts';
import { HostWords } from './private.ts';
import { isCanonical } from './pte.ts';
import { COUNTER } from '../trace/counter-table.ts';
import { hasWritableTables, PtEmulator } from './pt-emulate.ts';
import { PlainStores } from './pt-plain.ts';
import { Relinquisher } from './relinquish.ts';
import { Tables } from './tables.ts';
import { PageTypes } from './types.ts';
import { walkTo } from './walk.ts';

/** Error-code bits of a #PF. */
const PFEC = { present: 1, write: 2 } as const;

export function createMemory(core: Core, modules: MemoryModules): Memory {
  return new Memory(core, modules);
}

export class Memory implements MemoryManager {
  /** The parts, for grant/ and tests. */
  readonly frames: FrameTable;
  readonly own: Ownership;
  readonly tables: Tables;
  readonly types: PageTypes;
  readonly entries: Entries;
  readonly hypercalls: MemoryManager['hypercalls'];
  readonly forGrants: GrantMemory;
  readonly #core: Core;
  readonly #map: MemoryMap;
  readonly #modules: MemoryModules;
  readonly #heap: Heap;
  readonly #host: HostWords;
  readonly #bases: BaseTables;
  readonly #perDomain: PerDomain;
  readonly #descriptors: Descriptors;
  readonly #updates: MmuUpdates;
  readonly #emulator: PtEmulator;
  readonly #plainStores: PlainStores;
  readonly #relinquisher: Relinquisher;
  #grants: GrantFrames | undefined;

  constructor(core: Core, modules: MemoryModules) {
    const { memory, map, header } = core;
    this.#core = core;
    this.#map = map;
    this.#modules = modules;
    this.#host = new HostWords(memory, map);
    this.frames = new FrameTable(memory, map);
    this.#heap = new Heap(memory, this.frames, this.#host, header);
    this.tables = new Tables(memory);
    this.own = new Ownership({ memory, map }, this.frames, this.#heap, this.#host, modules);
    this.types = new PageTypes(memory, this.frames, this.own, this.tables, modules, () => header.m2pL3);
    this.entries = new Entries(this.frames, this.own, this.tables, this.types, modules.tlb);
    this.#bases = new BaseTables(this.types);
    this.#perDomain = new PerDomain(memory, this.own, this.tables, this.#host, modules);
    const { frames, own, tables, types, entries } = this;
    const flusher = new Flusher(modules.tlb);
    const parts: MmuModules = { frames, own, tables, types, entries, flusher, modules };
    this.#descriptors = new Descriptors(memory, { ...parts, perDomain: this.#perDomain });
    this.#updates = new MmuUpdates(parts);
    this.#emulator = new PtEmulator((vcpu, linear, size, value, expected) => {
      const { counters, engine, tracer } = core;
      counters.count(COUNTER.ptwr);
      if (tracer.on && engine) tracer.ptwr(value, linear, engine.state.rip);
      return this.#updates.ptWrite(vcpu, linear, size, value, expected);
    });
    this.#plainStores = new PlainStores(memory, (vcpu, place, value, expected) => {
      const result = this.#updates.ptWriteEntry(vcpu, place, value, expected);
      if (result === 0) core.counters.count(COUNTER.ptwr);
      return result;
    });
    this.#relinquisher = new Relinquisher(memory, {
      frames, own, types,
      resetVcpus: (domain) => {
        for (let id = 0; id < MAX_VCPUS_PER_DOMAIN; id++) {
          const vcpu = modules.vcpu(domain, id);
          if (!vcpu) continue;
          this.resetVcpu(vcpu);
          this.#unregisterInfo(domain, vcpu);
        }
      },
    }); // prettier-ignore
    const updates = this.#updates;
    const extended = new MmuExtOps(memory, { ...parts, bases: this.#bases, descriptors: this.#descriptors });
    const exchange = new Exchange(own, types, modules);
    const operations = new MemoryOps(memory, map, { own, types, exchange, modules, grants: () => this.#grants });
    this.forGrants = new GrantMappings(parts, (grants) => {
      this.#grants = grants;
    });
    this.hypercalls = {
      mmu_update: (call) => updates.mmuUpdate(call),
      update_va_mapping: (call) => updates.updateVaMapping(call, false),
      update_va_mapping_otherdomain: (call) => updates.updateVaMapping(call, true),
      mmuext_op: (call) => extended.mmuExtOp(call),
      memory_op: (call) => operations.memoryOp(call),
    };
  }

  /* ---- Xen's own frames ---- */

  allocateXenFrame(): number | undefined {
    return this.own.allocateXen(1);
  }
  allocateXenFrames(nr: number): number | undefined {
    return this.own.allocateXen(nr);
  }
  freeXenFrame(mfn: number): void {
    this.own.freeXen(mfn, 1);
  }
  freeXenFrames(mfn: number, nr: number): void {
    this.own.freeXen(mfn, nr);
  }
  shareXenFrame(domain: DomainRef, mfn: number, writable: boolean): void {
    this.own.share(domain, mfn, writable);
  }
  unshareXenFrame(_domain: DomainRef, mfn: number): boolean {
    return this.own.unshare(mfn);
  }
  heapInfo(): HeapInfo {
    return { totalFrames: this.#host.totalFrames, freeFrames: this.#heap.freeFrames };
  }

  /* ---- life ---- */

  initDomain(domain: DomainRef): number {
    return (domain.v.flags & DomainFlag.hvm) !== 0 ? 0 : this.#perDomain.initDomain(domain);
  }
  initVcpu(vcpu: VcpuRef): number {
    return this.#perDomain.initVcpu(vcpu);
  }
  resetVcpu(vcpu: VcpuRef): void {
    this.#bases.reset(vcpu);
    this.#descriptors.dropGdt(vcpu);
    this.#descriptors.dropLdt(vcpu);
    vcpu.v.ldtEntries = 0;
    vcpu.v.ldtBase = 0n;
  }
  /** A registered vcpu_info holds a frame of the guest: back to the place in shared_info. */
  #unregisterInfo(domain: DomainRef, vcpu: VcpuRef): void {
    if (!vcpu.v.infoRegistered) return;
    this.types.putWithType(vcpu.v.infoMfn);
    vcpu.v.infoRegistered = 0;
    vcpu.v.infoMfn = domain.v.sharedInfoMfn;
    vcpu.v.infoOffset = vcpu.vcpuId * VcpuInfo.size;
  }
  relinquish(domain: DomainRef): Progress {
    return this.#relinquisher.step(domain);
  }
  isRelinquished(domain: DomainRef): boolean {
    return domain.v.totalPages === 0 && domain.v.xenHeapPages === 0;
  }
  freeDomain(domain: DomainRef): void {
    this.#perDomain.freeDomain(domain);
    this.own.claim(domain, 0);
    if (domain.v.memoryMapMfn === 0) return;
    this.own.freeXen(domain.v.memoryMapMfn, 1);
    domain.v.memoryMapMfn = 0;
    domain.v.memoryMapEntries = 0;
  }

  /* ---- foreign access ---- */

  foreignFrame(domain: DomainRef, gfn: number, write: boolean): number {
    if (this.own.ownerOf(gfn) !== domain.domid) return -Errno.EINVAL;
    if (!write) return gfn;
    if (this.types.getWithType(gfn, domain.domid, FrameType.writable) !== 0) return -Errno.EBUSY;
    this.types.putWithType(gfn);
    return gfn;
  }
  frameWritten(mfn: number): void {
    this.own.changed(mfn);
  }
  frameInfo(domain: DomainRef, gfn: number): number {
    if (this.own.ownerOf(gfn) !== domain.domid) return Pfinfo.XTAB;
    const type = this.frames.type(gfn);
    const isTable = type >= FrameType.l1 && type <= FrameType.l4 && this.frames.typeCount(gfn) > 0;
    if (!isTable) return Pfinfo.NOTAB;
    const table = [Pfinfo.L1TAB, Pfinfo.L2TAB, Pfinfo.L3TAB, Pfinfo.L4TAB][type - 1] ?? Pfinfo.NOTAB;
    return (this.frames.has(gfn, FrameFlag.pinned) ? table | Pfinfo.LPINTAB : table) >>> 0;
  }
  forEachFrame(domain: DomainRef, visit: (mfn: number) => void): void {
    for (let mfn = domain.v.pageListHead; mfn !== 0; mfn = this.frames.next(mfn)) visit(mfn);
  }
  pfnOf(mfn: number): number | undefined {
    const entry = this.own.m2p(mfn);
    return entry === INVALID_M2P_ENTRY || entry > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : Number(entry);
  }
  takeWritableFrame(domain: DomainRef, gfn: bigint): number | undefined {
    const mfn = frameNumber(gfn);
    if (this.own.ownerOf(mfn) !== domain.domid) return undefined;
    return this.types.getWithType(mfn, domain.domid, FrameType.writable) === 0 ? mfn : undefined;
  }
  releaseWritableFrame(_domain: DomainRef, mfn: number): void {
    this.types.putWithType(mfn);
  }

  /* ---- PV ---- */

  fixPageFault(vcpu: VcpuRef, engine: Engine, address: bigint, errorCode: number): boolean {
    if (address >= HYPERVISOR_VIRT_START && address < HYPERVISOR_VIRT_END)
      return (errorCode & PFEC.present) === 0 && this.#descriptors.mapLdtPage(vcpu, address);
    const isWriteToPresent = (errorCode & (PFEC.present | PFEC.write)) === (PFEC.present | PFEC.write);
    if (!isWriteToPresent || !vcpu.v.kernelMode || !isCanonical(address)) return false;
    const domain = this.#modules.domain(vcpu.domid);
    if (!domain || !hasWritableTables(domain)) return false;
    // Traced stores go the general way, which tells of them.
    if (!this.#core.tracer.on && this.#plainStores.emulate(vcpu, engine, address)) return true;
    return this.#emulator.emulate(vcpu, engine, address);
  }
  switchTables(vcpu: VcpuRef, engine: Engine): void {
    this.#bases.switchTables(vcpu, engine);
  }
  setGdt(vcpu: VcpuRef, frames: readonly bigint[], entries: number): number {
    return this.#descriptors.setGdt(vcpu, frames, entries);
  }
  updateDescriptor(vcpu: VcpuRef, machineAddress: bigint, descriptor: bigint): number {
    const domain = this.#modules.domain(vcpu.domid);
    return domain ? this.#descriptors.update(domain, machineAddress, descriptor) : -Errno.EINVAL;
  }
  setBaseTable(vcpu: VcpuRef, mfn: bigint, user: boolean): number {
    vcpu.v.translationsOn = 0;
    return this.#bases.set(vcpu, mfn, user);
  }
  loadBaseTable(vcpu: VcpuRef, engine: Engine, mfn: bigint): number {
    const result = this.#bases.set(vcpu, mfn, false);
    if (result !== 0) return result;
    this.#descriptors.dropLdt(vcpu);
    this.#bases.switchTables(vcpu, engine);
    this.#modules.tlb.flushCaller(vcpu, engine);
    return 0;
  }
  setLdt(vcpu: VcpuRef, linearBase: bigint, entries: number): number {
    return this.#descriptors.setLdt(vcpu, linearBase, entries);
  }
  gdtBase(vcpu: VcpuRef): bigint {
    return gdtVirt(vcpu.vcpuId);
  }
  ldtBase(vcpu: VcpuRef): bigint {
    return ldtVirt(vcpu.vcpuId);
  }
  ptWrite(
    vcpu: VcpuRef,
    _engine: Engine,
    linear: bigint,
    size: number,
    value: bigint,
    expected?: bigint,
  ): PtWriteResult {
    // prettier-ignore
    return this.#updates.ptWrite(vcpu, linear, size, value, expected);
  }
  walk(l4: number, linear: bigint): PageWalk | undefined {
    return walkTo(this.tables, this.frames.nrFrames, l4, linear);
  }

  audit(domains: readonly DomainRef[], external?: ExternalReferences): string[] {
    const { frames, own, tables } = this;
    return audit(this.#core.memory, this.#map, {
      frames, own, tables, modules: this.#modules,
      ldtFrames: (vcpu) => this.#perDomain.ldtFrames(vcpu),
    }, domains, external); // prettier-ignore
  }
}
