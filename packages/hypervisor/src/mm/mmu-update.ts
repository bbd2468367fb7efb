/**
 * `mmu_update`, `update_va_mapping` and `update_va_mapping_otherdomain`, and stores to L1 tables that the CPU refused
 * (writable page tables). Answers to `do_mmu_update` and `ptwr_emulated_update` of Xen.
 */
import { Errno } from '@xenhost/base';
import { MmuCommand, MmuUpdate, PAGE_SIZE, UVMF } from '@xenhost/xen-abi';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { frameOwner, mayTarget, u32 } from './access.ts';
import { FrameType } from './api.ts';
import type { MemoryModules, PtWriteResult } from './api.ts';
import { MISMATCH } from './entries.ts';
import type { Entries } from './entries.ts';
import { ALL_VCPUS } from './flush.ts';
import type { Flusher } from './flush.ts';
import type { FrameTable } from './frame.ts';
import type { Ownership } from './ownership.ts';
import { highHalf, isCanonical, joined, lowHalf, Pte } from './pte.ts';
import { RequestBuffer, RequestList } from './request-list.ts';
import type { Halves, Tables } from './tables.ts';
import type { PageTypes } from './types.ts';
import { findL1 } from './walk.ts';

export interface MmuModules {
  readonly frames: FrameTable;
  readonly own: Ownership;
  readonly tables: Tables;
  readonly types: PageTypes;
  readonly entries: Entries;
  readonly flusher: Flusher;
  readonly modules: MemoryModules;
}

interface Owners {
  readonly tables: DomainRef;
  /** Whose frames are mapped. */
  readonly frames: DomainRef;
}

interface EntryPlace {
  readonly table: number;
  readonly slot: number;
}

export class MmuUpdates {
  readonly #m: MmuModules;
  readonly #buffer = new RequestBuffer(MmuUpdate.size);
  constructor(modules: MmuModules) {
    this.#m = modules;
  }

  /** mmu_update(requests, count, *done, domains). */
  mmuUpdate(call: HypercallCall): HypercallResult {
    return this.#m.types.preemptible(
      () => call.shouldPreempt(),
      () => this.#mmuUpdate(call),
    );
  }

  #mmuUpdate(call: HypercallCall): HypercallResult {
    const domains = u32(call.args[3]);
    if (!this.#m.types.drain(call.domain)) return 'continue';
    const list = new RequestList(call, this.#buffer);
    const owners = this.#owners(call, domains);
    if (typeof owners === 'number') return owners;
    const stale = { upper: false };
    const upperChanged = (): void => {
      stale.upper = true;
      this.#m.modules.tlb.upperChanged(owners.tables.domid);
    };
    const result = list.run(this.#m.types, owners.tables, (words, at) => {
      const pointer = { lo: words[at] ?? 0, hi: words[at + 1] ?? 0 };
      return this.#request(call, owners, pointer, { lo: words[at + 2] ?? 0, hi: words[at + 3] ?? 0 }, upperChanged);
    });
    if (stale.upper) this.#m.modules.tlb.flushVcpus(owners.tables, ALL_VCPUS, true);
    return list.finish(result);
  }

  #owners(call: HypercallCall, domains: number): Owners | number {
    let tables = call.domain;
    const tableOwner = domains >>> 16;
    if (tableOwner !== 0) {
      const other = this.#m.modules.domain(tableOwner - 1);
      if (!other) return -Errno.ESRCH;
      if (other.domid !== call.domid && !this.#m.modules.vcpu(other, 0)) return -Errno.EINVAL;
      tables = other;
    }
    const frames = frameOwner(this.#m.modules, call, domains & 0xffff);
    return frames ? { tables, frames } : -Errno.ESRCH;
  }

  #request(call: HypercallCall, owners: Owners, pointer: Halves, value: Halves, stale: () => void): number {
    const command = pointer.lo & 7;
    switch (command) {
      case MmuCommand.normal:
      case MmuCommand.preserveAd:
      case MmuCommand.noTranslate:
        if ((owners.tables.v.flags & DomainFlag.hvm) !== 0) return -Errno.EOPNOTSUPP;
        if (!mayTarget(call.domain, owners.tables) || !mayTarget(call.domain, owners.frames)) return -Errno.EPERM;
        return this.#update(owners, pointer, value, command === MmuCommand.preserveAd, stale);
      case MmuCommand.machphys: {
        if (owners.tables.domid !== call.domid) return -Errno.EPERM;
        if (!mayTarget(call.domain, owners.frames)) return -Errno.EPERM;
        if ((owners.frames.v.flags & DomainFlag.hvm) !== 0) return -Errno.EINVAL;
        const mfn = frameAt(pointer);
        if (this.#m.own.ownerOf(mfn) !== owners.frames.domid) return -Errno.EINVAL;
        this.#m.own.setM2p(mfn, joined(value.lo, value.hi));
        return 0;
      }
      default:
        return -Errno.ENOSYS;
    }
  }

  #update(owners: Owners, pointer: Halves, value: Halves, preserveAd: boolean, stale: () => void): number {
    const { own, types, frames, entries, tables } = this.#m;
    const mfn = frameAt(pointer);
    if (!own.get(mfn, owners.tables.domid)) return -Errno.EINVAL;
    const slot = (pointer.lo >>> 3) & 0x1ff;
    let result: number = -Errno.EINVAL;
    if (types.isTableInUse(mfn)) {
      if (frames.type(mfn) === FrameType.l1)
        result = entries.modifyL1(mfn, slot, value, owners.frames.domid, preserveAd);
      else if (owners.frames.domid === owners.tables.domid)
        result = entries.modifyUpper(mfn, slot, value, preserveAd, stale);
    } else if (types.getType(mfn, FrameType.writable) === 0) {
      tables.store64(mfn * PAGE_SIZE + slot * 8, joined(value.lo, value.hi));
      own.changed(mfn);
      types.putType(mfn);
      result = 0;
    }
    own.put(mfn);
    return result;
  }

  /** update_va_mapping(va, value, flags) and, with a fourth argument, of another domain's frames. */
  updateVaMapping(call: HypercallCall, other: boolean): HypercallResult {
    const { vcpu } = call;
    if (!vcpu) return -Errno.EINVAL;
    if (!this.#m.types.drain(call.domain)) return -Errno.EBUSY;
    const owner = other ? frameOwner(this.#m.modules, call, u32(call.args[3]) & 0xffff) : call.domain;
    if (!owner) return -Errno.ESRCH;
    if (!mayTarget(call.domain, owner)) return -Errno.EPERM;
    const [va = 0n, value = 0n, flags = 0n] = call.args;
    const table = vcpu.v.kernelMode ? vcpu.v.guestTable : vcpu.v.guestTableUser;
    const leaf = findL1(this.#m.tables, this.#m.frames.nrFrames, table, va);
    if (!leaf || this.#m.own.ownerOf(leaf.table) !== call.domid) return -Errno.EINVAL;
    if (!this.#m.types.isTableInUse(leaf.table) || this.#m.frames.type(leaf.table) !== FrameType.l1)
      return -Errno.EINVAL;
    const result = this.#m.entries.modifyL1(leaf.table, leaf.slot, halves(value), owner.domid, false);
    return result === 0 ? this.#flush(call, va, flags) : result;
  }

  #flush(call: HypercallCall, va: bigint, flags: bigint): number {
    const kind = Number(flags & BigInt(UVMF.FLUSHTYPE_MASK));
    if (kind !== UVMF.TLB_FLUSH && kind !== UVMF.INVLPG) return 0;
    const whole = kind === UVMF.TLB_FLUSH;
    const { flusher } = this.#m;
    const scope = flags & ~BigInt(UVMF.FLUSHTYPE_MASK);
    if (scope === BigInt(UVMF.LOCAL)) {
      if (whole) flusher.local(call);
      else if (isCanonical(va)) flusher.pageLocal(call, va);
      return 0;
    }
    let mask = ALL_VCPUS;
    let result = 0;
    if (scope !== BigInt(UVMF.ALL)) {
      mask = flusher.mask(call, scope);
      if (mask < 0) {
        result = mask;
        mask = 0;
      }
    }
    if (whole) flusher.some(call, mask);
    else if (isCanonical(va)) flusher.pageSome(call, mask, va);
    return result;
  }

  /** See `MemoryManager.ptWrite`. */
  ptWrite(vcpu: VcpuRef, linear: bigint, size: number, value: bigint, expected?: bigint): PtWriteResult {
    const { tables, frames } = this.#m;
    const refused: PtWriteResult = { kind: 'refused' };
    if ((size !== 8 && size !== 4 && size !== 2 && size !== 1) || Number(linear & 7n) % size !== 0) return refused;
    const leaf = findL1(tables, frames.nrFrames, vcpu.v.guestTable, linear);
    if (!leaf) return refused;
    const mapping = tables.flags(leaf.table, leaf.slot);
    if ((mapping & (Pte.present | Pte.rw)) !== Pte.present) return refused;
    const table = tables.mfn(leaf.table, leaf.slot);
    if (!this.#isOwnL1(vcpu, table)) return refused;
    const slot = Number((linear >> 3n) & 0x1ffn);
    const shift = (linear & 7n) * 8n;
    const mask = ((1n << BigInt(size * 8)) - 1n) << shift;
    const current = tables.raw(table, slot);
    const merge = (part: bigint): bigint => (current & ~mask) | ((part << shift) & mask);
    const wanted = expected === undefined ? undefined : halves(merge(expected));
    const result = this.#replace(vcpu, { table, slot }, halves(merge(value)), wanted);
    if (result === MISMATCH) return { kind: 'mismatch', current: (tables.raw(table, slot) & mask) >> shift };
    return result === 0 ? { kind: 'stored' } : refused;
  }

  /** `ptWrite` of a whole entry whose place is known: see `EntryStore`. */
  ptWriteEntry(vcpu: VcpuRef, place: EntryPlace, value: Halves, expected: Halves | undefined): number {
    return this.#isOwnL1(vcpu, place.table) ? this.#replace(vcpu, place, value, expected) : -Errno.EINVAL;
  }

  #isOwnL1(vcpu: VcpuRef, table: number): boolean {
    const { own, types, frames } = this.#m;
    return own.ownerOf(table) === vcpu.domid && types.isTableInUse(table) && frames.type(table) === FrameType.l1;
  }

  #replace(vcpu: VcpuRef, { table, slot }: EntryPlace, value: Halves, expected: Halves | undefined): number {
    const { entries } = this.#m;
    if (expected === undefined) return entries.modifyL1(table, slot, value, vcpu.domid, false);
    return entries.exchangeL1(table, slot, value, expected, vcpu.domid);
  }
}

const halves = (value: bigint): Halves => ({ lo: lowHalf(value), hi: highHalf(value) });
/** The frame that a machine address is in; out of range, no frame's number. */
const frameAt = ({ lo, hi }: Halves): number => (lo >>> 12) + hi * 2 ** 20;
