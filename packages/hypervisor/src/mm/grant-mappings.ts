/** References and page table entries of granted frames (Xen's `pv/grant_table.c`). */
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { frameNumber } from './access.ts';
import { FrameType } from './api.ts';
import type { GrantMemory } from './api.ts';
import { ALL_VCPUS } from './flush.ts';
import type { GrantFrames } from './memory-op.ts';
import type { MmuModules } from './mmu-update.ts';
import { adjustL1, Pte } from './pte.ts';
import { findL1 } from './walk.ts';

interface Place {
  readonly table: number;
  readonly slot: number;
}

export class GrantMappings implements GrantMemory {
  readonly #m: MmuModules;
  readonly setGrantFrames: (frames: GrantFrames) => void;

  constructor(modules: MmuModules, setGrantFrames: (frames: GrantFrames) => void) {
    this.#m = modules;
    this.setGrantFrames = setGrantFrames;
  }

  getFrame(domain: DomainRef, gfn: number): number | undefined {
    return this.#m.own.get(gfn, domain.domid) ? gfn : undefined;
  }
  getWritable(mfn: number): boolean {
    return this.#m.types.getType(mfn, FrameType.writable) === 0;
  }
  putWritable(mfn: number): void {
    this.#m.types.putType(mfn);
  }
  putFrame(mfn: number): void {
    this.#m.own.put(mfn);
  }
  references(mfn: number): number {
    return this.#m.frames.count(mfn);
  }

  stealFrame(domain: DomainRef, gfn: bigint): number | undefined {
    const mfn = frameNumber(gfn);
    return this.#m.own.steal(domain, mfn) ? mfn : undefined;
  }
  hasRoom(domain: DomainRef): boolean {
    return this.#m.own.mayGrow(domain, 1);
  }
  giveFrame(domain: DomainRef, mfn: number, pfn: bigint): void {
    this.#m.own.give(domain, mfn);
    this.#m.own.setM2p(mfn, pfn);
  }
  discardFrame(mfn: number): void {
    this.#m.own.discard(mfn);
  }

  createMapping(vcpu: VcpuRef, address: bigint, isEntry: boolean, mfn: number, flags: number): boolean {
    const place = this.#place(vcpu, address, isEntry);
    if (!place) return false;
    this.#replace(place, mfn, adjustL1(flags));
    return true;
  }

  removeMapping(
    vcpu: VcpuRef,
    address: bigint,
    isEntry: boolean,
    mfn: number,
    flags: number,
    newAddress: bigint,
  ): boolean {
    // prettier-ignore
    const { tables, types } = this.#m;
    let moved = { mfn: 0, flags: 0 };
    if (newAddress !== 0n) {
      const from = isEntry ? undefined : this.#place(vcpu, newAddress, false);
      if (!from) return false;
      moved = { mfn: tables.mfn(from.table, from.slot), flags: tables.flags(from.table, from.slot) };
      tables.write(from.table, from.slot, 0, 0);
      this.#m.entries.leafChanged(from.table, from.slot, moved, { mfn: 0, flags: 0 });
    }
    const place = this.#place(vcpu, address, isEntry);
    const matches =
      place !== undefined &&
      tables.mfn(place.table, place.slot) === mfn &&
      ((tables.flags(place.table, place.slot) ^ flags) & (Pte.present | Pte.rw)) === 0;
    if (!matches) {
      types.putFromL1(moved.flags, moved.mfn);
      return false;
    }
    // The references of the mapping that goes are the grant's, dropped when it is completed.
    const old = { mfn, flags: tables.flags(place.table, place.slot) };
    tables.write(place.table, place.slot, moved.mfn, moved.flags);
    this.#m.entries.leafChanged(place.table, place.slot, old, moved);
    this.#m.own.changed(place.table);
    return true;
  }

  flush(domain: DomainRef): void {
    this.#m.modules.tlb.flushVcpus(domain, ALL_VCPUS, true);
  }

  #replace(place: Place, mfn: number, flags: number): void {
    const { tables, types, own } = this.#m;
    const old = { mfn: tables.mfn(place.table, place.slot), flags: tables.flags(place.table, place.slot) };
    tables.write(place.table, place.slot, mfn, flags);
    own.changed(place.table);
    this.#m.entries.leafChanged(place.table, place.slot, old, { mfn, flags });
    types.putFromL1(old.flags, old.mfn);
  }

  /** The entry that an address names, in an L1 table of the vCPU's domain that is in use. */
  #place(vcpu: VcpuRef, address: bigint, isEntry: boolean): Place | undefined {
    const { frames, tables, own, types } = this.#m;
    let place: Place | undefined;
    if (isEntry) {
      if ((address & 7n) !== 0n) return undefined;
      place = { table: frameNumber(address >> 12n), slot: Number((address >> 3n) & 0x1ffn) };
    } else {
      const l4 = vcpu.v.kernelMode ? vcpu.v.guestTable : vcpu.v.guestTableUser;
      place = findL1(tables, frames.nrFrames, l4, address);
    }
    if (!place || own.ownerOf(place.table) !== vcpu.domid) return undefined;
    return types.isTableInUse(place.table) && frames.type(place.table) === FrameType.l1 ? place : undefined;
  }
}
