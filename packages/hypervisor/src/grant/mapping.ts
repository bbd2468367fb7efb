/** Mapping and unmapping granted frames: map_grant_ref, unmap_grant_ref, unmap_and_replace (Xen's `map_grant_ref`, `unmap_common`). */
import { bytesOf } from '@xenhost/base';
import {
  GNTMAP, GNTST, GnttabMapGrantRef, GnttabUnmapAndReplace, GnttabUnmapGrantRef, PAGE_SIZE,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { GrantMemory } from '../mm/api.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import type { GrantModules } from './api.ts';
import { grantedPage } from './entry.ts';
import { reduceStatus, setStatus } from './status.ts';
import { Pin, WRITE_PINS } from './table.ts';
import type { ActiveEntry, GrantTable } from './table.ts';

/** Page table bits of a mapping of a grant. */
const PTE = { present: 1, rw: 2, user: 4, accessed: 0x20, dirty: 0x40, availShift: 9, nx: 1 << 23 } as const;
const GUEST_AVAIL_SHIFT = 16;

export interface MappingModules {
  readonly memory: MachineMemory;
  readonly mm: GrantMemory;
  readonly modules: GrantModules;
  table(domain: DomainRef): GrantTable;
}

/** Who calls: a vCPU for mappings into page tables. */
export interface Mapper {
  readonly domain: DomainRef;
  readonly vcpu: VcpuRef | undefined;
}

/** What is left to do for an unmap after translations were flushed. */
interface Undone {
  readonly granter: DomainRef;
  readonly ref: number;
  readonly mfn: number;
  readonly flags: number;
}

const isReadonly = (flags: number): boolean => (flags & GNTMAP.readonly) !== 0;
const hostPin = (flags: number): number => (isReadonly(flags) ? Pin.hostRead : Pin.hostWrite);
const devicePin = (flags: number): number => (isReadonly(flags) ? Pin.deviceRead : Pin.deviceWrite);

function entryFlags(flags: number): number {
  let bits = PTE.present | PTE.accessed | PTE.dirty | PTE.nx;
  if ((flags & GNTMAP.application_map) !== 0) bits |= PTE.user;
  if (!isReadonly(flags)) bits |= PTE.rw;
  return bits | (((flags >>> GUEST_AVAIL_SHIFT) & 7) << PTE.availShift);
}

/** True when the reference is in use by the domain in the ways that a mapping of these flags has noted. */
function holdsPins(active: ActiveEntry, user: DomainRef, flags: number): boolean {
  if (active.domid !== user.domid) return false;
  const holds = (kind: number): boolean => ((active.pin >>> kind) & 0xff) !== 0;
  if ((flags & GNTMAP.host_map) !== 0 && !holds(hostPin(flags))) return false;
  return (flags & GNTMAP.device_map) === 0 || holds(devicePin(flags));
}

export class GrantMapper {
  readonly #m: MappingModules;
  constructor(modules: MappingModules) {
    this.#m = modules;
  }

  /** One map operation: `bytes` are the request and get the answer. */
  map(caller: Mapper, bytes: Uint8Array): void {
    const op = GnttabMapGrantRef.view(bytesOf(bytes), 0);
    const request = { address: op.host_addr, flags: op.flags, ref: op.ref, domid: op.dom };
    const result = this.#map(caller, request);
    if (typeof result === 'number') {
      op.status = result & 0xffff;
      return;
    }
    op.handle = result.handle;
    op.dev_bus_addr = BigInt(result.mfn) * BigInt(PAGE_SIZE);
    op.status = GNTST.okay;
  }

  #map(
    caller: Mapper,
    request: { address: bigint; flags: number; ref: number; domid: number },
  ): { handle: number; mfn: number } | number {
    // prettier-ignore
    const { flags, ref } = request;
    if ((flags & (GNTMAP.host_map | GNTMAP.device_map)) === 0) return GNTST.bad_gntref;
    const granter = this.#m.modules.domain(request.domid);
    if (!granter) return GNTST.bad_domain;
    const own = this.#m.table(caller.domain);
    const handle = own.allocateHandle();
    if (handle === undefined) return GNTST.no_space;
    const mfn = this.#pin(caller, granter, ref, flags, request.address);
    if (mfn < 0) {
      own.freeHandle(handle);
      return mfn;
    }
    own.setTrack(handle, { domid: request.domid, ref, flags });
    return { handle, mfn };
  }

  /** Takes the grant and makes the mapping; the frame, or GNTST_*. */
  #pin(caller: Mapper, granter: DomainRef, ref: number, flags: number, address: bigint): number {
    const table = this.#m.table(granter);
    if (ref >= table.entries) return GNTST.bad_gntref;
    const active = table.active(ref);
    const wantsHost = (flags & GNTMAP.host_map) !== 0;
    const wantsDevice = (flags & GNTMAP.device_map) !== 0;
    if (active.pin !== 0) {
      if (active.domid !== caller.domain.domid || active.isSubPage) return GNTST.general_error;
      if (wantsHost && !active.canPin(hostPin(flags))) return GNTST.general_error;
      if (wantsDevice && !active.canPin(devicePin(flags))) return GNTST.general_error;
    }
    const readonly = isReadonly(flags);
    if (active.pin === 0 || (!readonly && (active.pin & WRITE_PINS) === 0)) {
      const use = { domid: caller.domain.domid, isReadonly: readonly, isMapping: true };
      const status = setStatus(table, ref, active, use);
      if (status !== GNTST.okay) return status;
      if (active.pin === 0 && !this.#activate(table, granter, ref, active, caller.domain.domid)) {
        reduceStatus(table, ref, active, readonly);
        return GNTST.bad_page;
      }
    }
    if (wantsHost) active.addPin(hostPin(flags));
    if (wantsDevice) active.addPin(devicePin(flags));
    const { mfn } = active;
    const status = this.#refer(caller, granter, mfn, flags, address);
    if (status === GNTST.okay) return mfn;
    if (wantsHost) active.dropPin(hostPin(flags));
    if (wantsDevice) active.dropPin(devicePin(flags));
    reduceStatus(table, ref, active, readonly);
    return status;
  }

  #activate(table: GrantTable, granter: DomainRef, ref: number, active: ActiveEntry, user: number): boolean {
    const page = grantedPage(this.#m.memory, table, ref);
    const mfn = this.#m.mm.getFrame(granter, page.frame);
    if (mfn === undefined) return false;
    this.#m.mm.putFrame(mfn);
    active.domid = user;
    active.mfn = mfn;
    active.start = 0;
    active.length = PAGE_SIZE;
    active.isSubPage = false;
    active.transitiveDomid = granter.domid;
    active.transitiveRef = ref;
    return true;
  }

  /** One general reference, and one of type writable, for each of the two kinds of mapping; then the page table entry. */
  #refer(caller: Mapper, granter: DomainRef, mfn: number, flags: number, address: bigint): number {
    const { mm } = this.#m;
    const kinds = ((flags & GNTMAP.host_map) !== 0 ? 1 : 0) + ((flags & GNTMAP.device_map) !== 0 ? 1 : 0);
    let taken = 0;
    for (; taken < kinds; taken++) {
      if (mm.getFrame(granter, mfn) === undefined) break;
      if (isReadonly(flags) || mm.getWritable(mfn)) continue;
      mm.putFrame(mfn);
      break;
    }
    const isEntry = (flags & GNTMAP.contains_pte) !== 0;
    if (taken === kinds) {
      if ((flags & GNTMAP.host_map) === 0) return GNTST.okay;
      if (caller.vcpu && mm.createMapping(caller.vcpu, address, isEntry, mfn, entryFlags(flags))) return GNTST.okay;
    }
    for (; taken > 0; taken--) this.#unrefer(mfn, flags);
    return GNTST.general_error;
  }

  #unrefer(mfn: number, flags: number): void {
    if (!isReadonly(flags)) this.#m.mm.putWritable(mfn);
    this.#m.mm.putFrame(mfn);
  }

  /** Runs a batch of unmaps: page table entries first, then one flush, then references. */
  unmap(caller: Mapper, batch: readonly Uint8Array[], replace: boolean): void {
    const undone: Undone[] = [];
    for (const bytes of batch) {
      if (replace) {
        const op = GnttabUnmapAndReplace.view(bytesOf(bytes), 0);
        op.status = this.#unmap(caller, op.handle, op.host_addr, 0n, op.new_addr, undone) & 0xffff;
      } else {
        const op = GnttabUnmapGrantRef.view(bytesOf(bytes), 0);
        op.status = this.#unmap(caller, op.handle, op.host_addr, op.dev_bus_addr, 0n, undone) & 0xffff;
      }
    }
    if (undone.length === 0) return;
    this.#m.mm.flush(caller.domain);
    for (const one of undone) this.#complete(one);
  }

  #unmap(
    caller: Mapper,
    handle: number,
    address: bigint,
    busAddress: bigint,
    newAddress: bigint,
    undone: Undone[],
  ): number {
    // prettier-ignore
    const own = this.#m.table(caller.domain);
    const track = own.track(handle);
    if (!track) return GNTST.bad_handle;
    const granter = this.#m.modules.domain(track.domid);
    if (!granter || track.ref >= this.#m.table(granter).entries) return GNTST.bad_handle;
    const active = this.#m.table(granter).active(track.ref);
    const { flags } = track;
    const { mfn } = active;
    // The granter the handle was made for may be gone, and its id another's.
    if (!holdsPins(active, caller.domain, flags)) return GNTST.bad_handle;
    const isDevice = busAddress !== 0n && (flags & GNTMAP.device_map) !== 0;
    if (isDevice && busAddress !== BigInt(mfn) * BigInt(PAGE_SIZE)) return GNTST.bad_dev_addr;
    let done = 0;
    if (address !== 0n && (flags & GNTMAP.host_map) !== 0) {
      const isEntry = (flags & GNTMAP.contains_pte) !== 0;
      if (!caller.vcpu) return GNTST.general_error;
      if (!this.#m.mm.removeMapping(caller.vcpu, address, isEntry, mfn, entryFlags(flags), newAddress))
        return GNTST.general_error;
      done |= GNTMAP.host_map;
    }
    if (isDevice) done |= GNTMAP.device_map;
    if (done === 0) return GNTST.okay;
    const left = flags & ~done;
    if ((left & (GNTMAP.host_map | GNTMAP.device_map)) === 0) own.freeHandle(handle);
    else own.setTrack(handle, { ...track, flags: left });
    undone.push({ granter, ref: track.ref, mfn, flags: done | (flags & GNTMAP.readonly) });
    return GNTST.okay;
  }

  #complete(one: Undone): void {
    const table = this.#m.table(one.granter);
    const active = table.active(one.ref);
    for (const [kind, pin] of [
      [GNTMAP.device_map, devicePin(one.flags)],
      [GNTMAP.host_map, hostPin(one.flags)],
    ] as const) {
      if ((one.flags & kind) === 0) continue;
      this.#unrefer(one.mfn, one.flags);
      active.dropPin(pin);
    }
    reduceStatus(table, one.ref, active, isReadonly(one.flags));
  }

  /**
   * Undoes mappings of a dying domain by handle, some at a time: its page tables go without this (the entries' own
   * references are the grants'). True when none is left.
   */
  release(domain: DomainRef, budget: number): boolean {
    const own = this.#m.table(domain);
    let left = budget;
    for (; own.relinquished < own.handles; own.relinquished++) {
      if (left-- === 0) return false;
      const handle = own.relinquished;
      const track = own.track(handle);
      if (!track) continue;
      own.freeHandle(handle);
      const granter = this.#m.modules.domain(track.domid);
      if (!granter || track.ref >= this.#m.table(granter).entries) continue;
      const active = this.#m.table(granter).active(track.ref);
      if (!holdsPins(active, domain, track.flags)) continue;
      // The entry in its page table keeps the references of a host mapping: mm drops them with the table.
      this.#forget(granter, track.ref, active.mfn, track.flags);
    }
    return true;
  }

  #forget(granter: DomainRef, ref: number, mfn: number, flags: number): void {
    const table = this.#m.table(granter);
    const active = table.active(ref);
    if ((flags & GNTMAP.device_map) !== 0) {
      this.#unrefer(mfn, flags);
      active.dropPin(devicePin(flags));
    }
    if ((flags & GNTMAP.host_map) !== 0) active.dropPin(hostPin(flags));
    reduceStatus(table, ref, active, isReadonly(flags));
  }
}
