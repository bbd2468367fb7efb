/**
 * GDT and LDT of PV vCPUs (Xen's `pv/descriptor-tables.c`): frames of type segDesc behind each vCPU's windows in the
 * per-domain area, so that the CPU reads descriptors as on any machine.
 */
import { Errno } from '@xenhost/base';
import type { Engine } from '@xenhost/cpu';
import type { MachineMemory } from '../state/machine-memory.ts';
import { VcpuLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { at } from '../state/refs.ts';
import { frameNumber } from './access.ts';
import { FrameType, ldtVirt } from './api.ts';
import type { MemoryModules } from './api.ts';
import { checkDescriptor } from './descriptor-rules.ts';
import type { FrameTable } from './frame.ts';
import type { Ownership } from './ownership.ts';
import type { PerDomain } from './per-domain.ts';
import { isCanonical, Pte } from './pte.ts';
import type { Tables } from './tables.ts';
import type { PageTypes } from './types.ts';
import { findL1 } from './walk.ts';

const MAX_GDT_ENTRIES = 7168;
const MAX_LDT_ENTRIES = 8192;
const ENTRIES_PER_PAGE = 512;
const LDT_PAGES = 16;
const LDT_WINDOW_BYTES = 0x10000n;
/** Attributes of a loaded LDTR: present, type LDT. */
const LDT_ATTRIBUTES = 0x82;
/** Selector that Xen's own GDT has for the LDT. */
const LDT_SELECTOR = 0xe040;

export interface DescriptorModules {
  readonly frames: FrameTable;
  readonly own: Ownership;
  readonly tables: Tables;
  readonly types: PageTypes;
  readonly perDomain: PerDomain;
  readonly modules: MemoryModules;
}

export class Descriptors {
  readonly #memory: MachineMemory;
  readonly #m: DescriptorModules;

  constructor(memory: MachineMemory, modules: DescriptorModules) {
    this.#memory = memory;
    this.#m = modules;
  }

  setGdt(vcpu: VcpuRef, frames: readonly bigint[], entries: number): number {
    const nr = Math.ceil(entries / ENTRIES_PER_PAGE);
    if (entries > MAX_GDT_ENTRIES || nr > frames.length) return -Errno.EINVAL;
    const mfns = frames.slice(0, nr).map(frameNumber);
    for (const [i, mfn] of mfns.entries()) {
      if (this.#m.types.getWithType(mfn, vcpu.domid, FrameType.segDesc) === 0) continue;
      for (const taken of mfns.slice(0, i)) this.#m.types.putWithType(taken);
      return -Errno.EINVAL;
    }
    this.dropGdt(vcpu);
    vcpu.v.gdtEntries = entries;
    for (const [i, mfn] of mfns.entries()) {
      this.#setGdtFrame(vcpu, i, mfn);
      this.#m.perDomain.mapGdtPage(vcpu, i, mfn);
    }
    this.#flush(vcpu);
    return 0;
  }

  #flush(vcpu: VcpuRef): void {
    const domain = this.#m.modules.domain(vcpu.domid);
    if (domain) this.#m.modules.tlb.flushVcpus(domain, (1 << vcpu.vcpuId) >>> 0, true);
  }

  dropGdt(vcpu: VcpuRef): void {
    const nr = Math.ceil(vcpu.v.gdtEntries / ENTRIES_PER_PAGE);
    vcpu.v.gdtEntries = 0;
    for (let i = 0; i < nr; i++) {
      const mfn = this.#gdtFrame(vcpu, i);
      this.#m.perDomain.unmapGdtPage(vcpu, i);
      this.#setGdtFrame(vcpu, i, 0);
      if (mfn !== 0) this.#m.types.putWithType(mfn);
    }
  }

  /** 0 or -EINVAL. The vCPU's LDTR is loaded when `engine` is given. */
  setLdt(vcpu: VcpuRef, base: bigint, entries: number, engine?: Engine): number {
    if (entries > MAX_LDT_ENTRIES) return -Errno.EINVAL;
    if (entries !== 0 && ((base & 0xfffn) !== 0n || !isCanonical(base))) return -Errno.EINVAL;
    const linear = entries === 0 ? 0n : base;
    if (vcpu.v.ldtEntries === entries && vcpu.v.ldtBase === linear) return 0;
    if (this.dropLdt(vcpu)) engine?.flushTlb(true);
    vcpu.v.ldtBase = linear;
    vcpu.v.ldtEntries = entries;
    if (engine) this.loadLdt(vcpu, engine);
    return 0;
  }

  loadLdt(vcpu: VcpuRef, engine: Engine): void {
    const { ldtEntries } = vcpu.v;
    const { state } = engine;
    state.ldtrSelector = ldtEntries === 0 ? 0 : LDT_SELECTOR;
    state.ldtrBase = ldtEntries === 0 ? 0n : ldtVirt(vcpu.vcpuId);
    state.ldtrLimit = ldtEntries === 0 ? 0 : ldtEntries * 8 - 1;
    state.ldtrAttributes = ldtEntries === 0 ? 0 : LDT_ATTRIBUTES;
    engine.stateChanged();
  }

  /** Forgets the LDT's frames, which come back on demand; true when there were any. */
  dropLdt(vcpu: VcpuRef): boolean {
    let dropped = false;
    if (vcpu.v.ldtEntries === 0) return dropped;
    for (let page = 0; page < LDT_PAGES; page++) {
      const mfn = this.#m.perDomain.unmapLdtPage(vcpu, page);
      if (mfn === 0) continue;
      this.#m.types.putWithType(mfn);
      dropped = true;
    }
    return dropped;
  }

  /** A #PF in the LDT window: maps the guest's page there when it may hold descriptors. */
  mapLdtPage(vcpu: VcpuRef, address: bigint): boolean {
    const offset = address - ldtVirt(vcpu.vcpuId);
    if (offset < 0n || offset >= LDT_WINDOW_BYTES || offset >= BigInt(vcpu.v.ldtEntries) * 8n) return false;
    const linear = BigInt.asUintN(64, vcpu.v.ldtBase + offset);
    const leaf = findL1(this.#m.tables, this.#m.frames.nrFrames, vcpu.v.guestTable, linear);
    if (!leaf || !this.#m.tables.isPresent(leaf.table, leaf.slot)) return false;
    const mfn = this.#m.tables.mfn(leaf.table, leaf.slot);
    if (this.#m.types.getWithType(mfn, vcpu.domid, FrameType.segDesc) !== 0) return false;
    const page = Number(offset >> 12n);
    const old = this.#m.perDomain.unmapLdtPage(vcpu, page);
    this.#m.perDomain.mapLdtPage(vcpu, page, mfn, this.#m.tables.flags(leaf.table, leaf.slot) & ~Pte.user);
    if (old !== 0) this.#m.types.putWithType(old);
    return true;
  }

  update(domain: DomainRef, machineAddress: bigint, descriptor: bigint): number {
    if ((machineAddress & 7n) !== 0n) return -Errno.EINVAL;
    const checked = checkDescriptor(Number(descriptor & 0xffffffffn), Number((descriptor >> 32n) & 0xffffffffn));
    if (!checked) return -Errno.EINVAL;
    const mfn = frameNumber(machineAddress >> 12n);
    const { frames, own, types, tables } = this.#m;
    if (!own.get(mfn, domain.domid)) return -Errno.EINVAL;
    const type = frames.type(mfn) === FrameType.segDesc ? FrameType.segDesc : FrameType.writable;
    const error = types.getType(mfn, type) !== 0;
    if (!error) {
      tables.store64(Number(machineAddress), (BigInt(checked.hi) << 32n) | BigInt(checked.lo));
      own.changed(mfn);
      types.putType(mfn);
    }
    own.put(mfn);
    return error ? -Errno.EINVAL : 0;
  }

  #gdtFrame(vcpu: VcpuRef, i: number): number {
    return this.#memory.u32[at(vcpu, VcpuLayout.offsets.gdtFrames, i, 4) / 4] ?? 0;
  }
  #setGdtFrame(vcpu: VcpuRef, i: number, mfn: number): void {
    this.#memory.u32[at(vcpu, VcpuLayout.offsets.gdtFrames, i, 4) / 4] = mfn;
  }
}
