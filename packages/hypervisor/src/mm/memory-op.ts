/**
 * `memory_op` (Xen's `do_memory_op` and `arch_memory_op`): reservations, exchange, memory maps, the M2P's place and
 * resources of other domains. PV domains; what needs a physmap answers as Xen does for a PV caller.
 */
import { bytesOf, Errno } from '@xenhost/base';
import {
  AcquireResource, AddToPhysmap, AddToPhysmapBatch, E820, E820_ENTRY_SIZE, E820_MAX, ForeignMemoryMap, MachphysMapping,
  MachphysMfnList, MapSpace, MEMOP_EXTENT_SHIFT, MemoryExchange, MemoryMapOp, MemoryOp, MemoryReservation, PAGE_SIZE,
  RemoveFromPhysmap, Resource, ResourceGrantTable, XENMEMF,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { anyDomain, frameNumber, isPrivileged, mayTarget, readU64, u32, writeU64 } from './access.ts';
import { M2P_VIRT_START } from './api.ts';
import type { MemoryModules } from './api.ts';
import type { Exchange } from './exchange.ts';
import type { Ownership } from './ownership.ts';
import type { PageTypes } from './types.ts';

/** Largest order of one extent, for guests and for Domain-0 (`memop-max-order`). */
const DOMU_MAX_ORDER = 9;
const DOM0_MAX_ORDER = 18;
const M2P_VIRT_END = 0xffff804000000000n;
const M2P_ENTRIES = (M2P_VIRT_END - M2P_VIRT_START) / 8n;
/** Frames whose M2P entries one frame number of machphys_mfn_list covers: 2 MiB of table. */
const MACHPHYS_LIST_STRIDE = 512;
const MAX_EXTENTS = 0xffffffff >>> MEMOP_EXTENT_SHIFT;
const COMMAND_MASK = 0x3f;
const NODE_SHIFT = 8;
/** Frames of one acquire_resource call. */
const MAX_RESOURCE_FRAMES = 32;
/** Frames that populate_physmap gives out for one look at its list. */
const POPULATE_RUN = 64;

/** Where grant table frames come from; grant/ provides it. */
export interface GrantFrames {
  sharedFrame(domain: DomainRef, index: number): number;
  statusFrame(domain: DomainRef, index: number): number;
}

export interface MemoryOpModules {
  readonly own: Ownership;
  readonly types: PageTypes;
  readonly exchange: Exchange;
  readonly modules: MemoryModules;
  grants(): GrantFrames | undefined;
}

export const maxOrder = (caller: DomainRef): number => (isPrivileged(caller) ? DOM0_MAX_ORDER : DOMU_MAX_ORDER);

interface Extents {
  readonly domain: DomainRef;
  readonly list: bigint;
  readonly count: number;
  readonly order: number;
  readonly start: number;
}

export class MemoryOps {
  readonly #memory: MachineMemory;
  readonly #map: MemoryMap;
  readonly #m: MemoryOpModules;

  constructor(memory: MachineMemory, map: MemoryMap, modules: MemoryOpModules) {
    this.#memory = memory;
    this.#map = map;
    this.#m = modules;
  }

  memoryOp(call: HypercallCall): HypercallResult {
    return this.#m.types.preemptible(
      () => call.shouldPreempt(),
      () => this.#run(call),
    );
  }

  #run(call: HypercallCall): HypercallResult {
    const command = Number(BigInt.asUintN(32, call.args[0] ?? 0n));
    const op = command & COMMAND_MASK;
    const start = command >>> MEMOP_EXTENT_SHIFT;
    const arg = call.args[1] ?? 0n;
    if (!this.#m.types.drain(call.domain)) return 'continue';
    switch (op) {
      case MemoryOp.increase_reservation:
      case MemoryOp.decrease_reservation:
      case MemoryOp.populate_physmap:
        return this.#reservation(call, op, start, arg);
      case MemoryOp.machphys_mapping: {
        const { bytes } = MachphysMapping.create({
          v_start: M2P_VIRT_START,
          v_end: M2P_VIRT_END,
          max_mfn: M2P_ENTRIES - 1n,
        });
        return call.memory.write(arg, bytes) ? 0 : -Errno.EFAULT;
      }
      case MemoryOp.machphys_mfn_list:
        return this.#machphysList(call, arg);
      case MemoryOp.machphys_compat_mfn_list:
        return -Errno.EOPNOTSUPP;
      case MemoryOp.set_memory_map:
        return this.#setMemoryMap(call, arg);
      case MemoryOp.memory_map:
        return this.#memoryMap(call, arg);
      case MemoryOp.machine_memory_map:
        return this.#machineMemoryMap(call, arg);
      case MemoryOp.get_sharing_freed_pages:
      case MemoryOp.get_sharing_shared_pages:
        return 0;
      case MemoryOp.add_to_physmap:
      case MemoryOp.add_to_physmap_batch:
        return this.#addToPhysmap(call, op, arg);
      case MemoryOp.set_pod_target:
      case MemoryOp.get_pod_target:
        return call.memory.read(arg, 8) ? -Errno.EINVAL : -Errno.EFAULT;
      case MemoryOp.acquire_resource:
        return this.#acquireResource(call, arg);
      default:
        return start === 0 ? this.#simple(call, op, arg) : -Errno.EINVAL;
    }
  }

  /** Operations that never continue. */
  #simple(call: HypercallCall, op: number, arg: bigint): HypercallResult {
    switch (op) {
      case MemoryOp.exchange:
        return this.#exchange(call, arg);
      case MemoryOp.maximum_ram_page:
        return this.#map.nrFrames;
      case MemoryOp.current_reservation:
      case MemoryOp.maximum_reservation:
      case MemoryOp.maximum_gpfn: {
        const domain = this.#target(call, arg);
        if (typeof domain === 'number') return domain;
        if (op === MemoryOp.current_reservation) return domain.v.totalPages;
        if (op === MemoryOp.maximum_reservation) return domain.v.maxPages;
        return this.#maximumGpfn(domain);
      }
      case MemoryOp.remove_from_physmap: {
        const bytes = call.memory.read(arg, RemoveFromPhysmap.size);
        if (!bytes) return -Errno.EFAULT;
        const domain = anyDomain(this.#m.modules, call, RemoveFromPhysmap.view(bytesOf(bytes), 0).domid);
        return domain ? -Errno.EACCES : -Errno.ESRCH;
      }
      case MemoryOp.claim_pages:
        return this.#claim(call, arg);
      case MemoryOp.get_vnumainfo: {
        const domain = this.#target(call, arg);
        return typeof domain === 'number' ? domain : -Errno.EOPNOTSUPP;
      }
      case MemoryOp.reserved_device_memory_map:
        return -Errno.EOPNOTSUPP;
      default:
        return -Errno.ENOSYS;
    }
  }

  /** The domain named by the u16 at the start of the structure, which the caller may ask about; or -errno. */
  #target(call: HypercallCall, arg: bigint): DomainRef | number {
    const bytes = call.memory.read(arg, 2);
    if (!bytes) return -Errno.EFAULT;
    const domain = anyDomain(this.#m.modules, call, new DataView(bytes.buffer, bytes.byteOffset).getUint16(0, true));
    if (!domain) return -Errno.ESRCH;
    return mayTarget(call.domain, domain) ? domain : -Errno.EPERM;
  }

  /** max_pfn of shared_info less one, as the guest said it. */
  #maximumGpfn(domain: DomainRef): number {
    const MAX_PFN_OFFSET = 3088;
    const address = domain.v.sharedInfoMfn * PAGE_SIZE + MAX_PFN_OFFSET;
    const maxPfn = domain.v.sharedInfoMfn === 0 ? 0n : this.#memory.dv.getBigUint64(address, true);
    return Number((maxPfn === 0n ? 1n : maxPfn) - 1n);
  }

  /* ---- reservations ---- */

  #reservation(call: HypercallCall, op: number, start: number, arg: bigint): HypercallResult {
    const bytes = call.memory.read(arg, MemoryReservation.size);
    if (!bytes) return start;
    const r = MemoryReservation.view(bytesOf(bytes), 0);
    if (r.nr_extents > BigInt(MAX_EXTENTS) || BigInt(start) >= r.nr_extents) return start;
    const domain = anyDomain(this.#m.modules, call, r.domid);
    if (!domain || !mayTarget(call.domain, domain)) return start;
    if (!this.#flagsOk(call, r.mem_flags) || r.extent_order > maxOrder(call.domain)) return start;
    const extents: Extents = {
      domain, list: r.extent_start, count: Number(r.nr_extents), order: r.extent_order, start,
    }; // prettier-ignore
    let done: number;
    switch (op) {
      case MemoryOp.increase_reservation:
        done = this.#eachExtent(extents, (at) => this.#increase(call, extents, at));
        break;
      case MemoryOp.populate_physmap:
        if ((r.mem_flags & XENMEMF.populate_on_demand) !== 0) return start;
        done = this.#populate(call, extents);
        break;
      default:
        done = this.#eachExtent(extents, (at) => this.#decrease(call, extents, at));
    }
    if (done >= 0) return done;
    call.args[0] = BigInt(op - done * 2 ** MEMOP_EXTENT_SHIFT);
    return 'continue';
  }

  /** Extents done; negative when interrupted after so many. */
  #eachExtent(extents: Extents, one: (listAddress: bigint) => boolean): number {
    for (let i = extents.start; i < extents.count; i++) {
      if (i !== extents.start && this.#m.types.interrupted()) return -i;
      if (!one(BigInt.asUintN(64, extents.list + BigInt(i * 8)))) return i;
    }
    return extents.count;
  }

  #flagsOk(call: HypercallCall, flags: number): boolean {
    const addressBits = flags & 0xff;
    if (addressBits !== 0 && addressBits <= 12) return false;
    const node = (flags >>> NODE_SHIFT) & 0xff;
    if (node === 0) return true;
    // Node numbers are kept plus one; there is one node.
    if (isPrivileged(call.domain)) return node === 1 || (flags & XENMEMF.exact_node) === 0;
    return (flags & XENMEMF.exact_node) === 0;
  }

  #increase(call: HypercallCall, extents: Extents, at: bigint): boolean {
    const mfn = this.#m.own.allocate(extents.domain, extents.order);
    if (mfn === undefined) return false;
    return extents.list === 0n || writeU64(call.memory, at, BigInt(mfn));
  }

  /** As `#eachExtent`, in runs of single frames. */
  #populate(call: HypercallCall, extents: Extents): number {
    const { start, count, order } = extents;
    const longest = order === 0 ? POPULATE_RUN : 1;
    for (let i = start; i < count;) {
      if (i !== start && this.#m.types.interrupted()) return -i;
      const wanted = Math.min(longest, count - i);
      const done = this.#populateRun(call, extents, i, wanted);
      i += done;
      if (done < wanted) return i;
    }
    return count;
  }

  /** Extents done of `nr` from `first` on. */
  #populateRun(call: HypercallCall, extents: Extents, first: number, nr: number): number {
    const { own } = this.#m;
    const at = BigInt.asUintN(64, extents.list + BigInt(first * 8));
    const list = call.memory.read(at, nr * 8);
    // A longer run takes no frame before its list is known to be writable: else it stops where the list does.
    if (!list || (nr > 1 && !call.memory.write(at, list)))
      return nr > 1 ? this.#populateSingly(call, extents, first, nr) : 0;
    const entries = new DataView(list.buffer, list.byteOffset, list.byteLength);
    let done = 0;
    for (; done < nr; done++) {
      const mfn = own.allocate(extents.domain, extents.order);
      if (mfn === undefined) break;
      const gpfn = entries.getBigUint64(done * 8, true);
      own.setM2p(mfn, gpfn);
      for (let i = 1; i < 2 ** extents.order; i++) own.setM2p(mfn + i, BigInt.asUintN(64, gpfn + BigInt(i)));
      entries.setBigUint64(done * 8, BigInt(mfn), true);
    }
    return done === 0 || call.memory.write(at, list.subarray(0, done * 8)) ? done : 0;
  }

  #populateSingly(call: HypercallCall, extents: Extents, first: number, nr: number): number {
    for (let i = 0; i < nr; i++) if (this.#populateRun(call, extents, first + i, 1) === 0) return i;
    return nr;
  }

  #decrease(call: HypercallCall, extents: Extents, at: bigint): boolean {
    const first = readU64(call.memory, at);
    if (first === undefined) return false;
    for (let i = 0; i < 2 ** extents.order; i++) {
      const mfn = frameNumber(first + BigInt(i));
      if (!this.#m.own.get(mfn, extents.domain.domid)) return false;
      this.#m.own.dropAllocation(mfn);
      this.#m.own.put(mfn);
    }
    return true;
  }

  #exchange(call: HypercallCall, arg: bigint): HypercallResult {
    const bytes = call.memory.read(arg, MemoryExchange.size);
    if (!bytes) return -Errno.EFAULT;
    const result = this.#m.exchange.run(call, bytes);
    const at = arg + BigInt(MemoryExchange.offsets.nr_exchanged);
    if (!writeU64(call.memory, at, result.exchanged)) return -Errno.EFAULT;
    return result.outcome;
  }

  #claim(call: HypercallCall, arg: bigint): number {
    const bytes = call.memory.read(arg, MemoryReservation.size);
    if (!bytes) return -Errno.EFAULT;
    const r = MemoryReservation.view(bytesOf(bytes), 0);
    if (r.extent_start !== 0n || r.extent_order !== 0 || r.mem_flags !== 0) return -Errno.EINVAL;
    const domain = this.#m.modules.domain(r.domid);
    if (!domain) return -Errno.EINVAL;
    if (!isPrivileged(call.domain)) return -Errno.EPERM;
    if (r.nr_extents !== 0n && r.nr_extents > BigInt(domain.v.maxPages)) return -Errno.EINVAL;
    return this.#m.own.claim(domain, Number(r.nr_extents)) ? 0 : -Errno.ENOMEM;
  }

  /* ---- maps ---- */

  #machphysList(call: HypercallCall, arg: bigint): number {
    const bytes = call.memory.read(arg, MachphysMfnList.size);
    if (!bytes) return -Errno.EFAULT;
    const list = MachphysMfnList.view(bytesOf(bytes), 0);
    const frames = Math.ceil((this.#map.nrFrames * 8) / PAGE_SIZE);
    const wanted = Math.min(list.max_extents, Math.ceil(frames / MACHPHYS_LIST_STRIDE));
    for (let i = 0; i < wanted; i++) {
      const mfn = BigInt(this.#map.m2p + i * MACHPHYS_LIST_STRIDE);
      if (!writeU64(call.memory, BigInt.asUintN(64, list.extent_start + BigInt(i * 8)), mfn)) return -Errno.EFAULT;
    }
    list.nr_extents = wanted;
    return call.memory.write(arg, bytes) ? 0 : -Errno.EFAULT;
  }

  #setMemoryMap(call: HypercallCall, arg: bigint): number {
    const bytes = call.memory.read(arg, ForeignMemoryMap.size);
    if (!bytes) return -Errno.EFAULT;
    const { domid } = ForeignMemoryMap.view(bytesOf(bytes), 0);
    const map = MemoryMapOp.view(bytesOf(bytes), ForeignMemoryMap.offsets.map);
    const nr = map.nr_entries;
    if (nr > E820_MAX) return -Errno.EINVAL;
    const domain = anyDomain(this.#m.modules, call, domid);
    if (!domain) return -Errno.ESRCH;
    if (!mayTarget(call.domain, domain)) return -Errno.EPERM;
    const entries = nr === 0 ? new Uint8Array(0) : call.memory.read(map.buffer, nr * E820_ENTRY_SIZE);
    if (!entries) return -Errno.EFAULT;
    if (domain.v.memoryMapMfn === 0) {
      const mfn = this.#m.own.allocateXen(1);
      if (mfn === undefined) return -Errno.ENOMEM;
      domain.v.memoryMapMfn = mfn;
    }
    this.#memory.u8.set(entries, domain.v.memoryMapMfn * PAGE_SIZE);
    domain.v.memoryMapEntries = nr;
    return 0;
  }

  #memoryMap(call: HypercallCall, arg: bigint): number {
    const bytes = call.memory.read(arg, MemoryMapOp.size);
    if (!bytes) return -Errno.EFAULT;
    const { memoryMapMfn, memoryMapEntries } = call.domain.v;
    if (memoryMapEntries === 0 || memoryMapMfn === 0) return -Errno.ENOSYS;
    const map = MemoryMapOp.view(bytesOf(bytes), 0);
    map.nr_entries = Math.min(map.nr_entries, memoryMapEntries);
    const from = memoryMapMfn * PAGE_SIZE;
    const entries = this.#memory.u8.slice(from, from + map.nr_entries * E820_ENTRY_SIZE);
    if (entries.length > 0 && !call.memory.write(map.buffer, entries)) return -Errno.EFAULT;
    return call.memory.write(arg, bytes) ? 0 : -Errno.EFAULT;
  }

  /** One range of RAM, for Domain-0. */
  #machineMemoryMap(call: HypercallCall, arg: bigint): number {
    if (!isPrivileged(call.domain)) return -Errno.EPERM;
    const bytes = call.memory.read(arg, MemoryMapOp.size);
    if (!bytes) return -Errno.EFAULT;
    const map = MemoryMapOp.view(bytesOf(bytes), 0);
    if (map.buffer !== 0n) {
      if (map.nr_entries < 2) return -Errno.EINVAL;
      const entry = new Uint8Array(E820_ENTRY_SIZE);
      const dv = new DataView(entry.buffer);
      dv.setBigUint64(8, BigInt(this.#map.nrFrames) * BigInt(PAGE_SIZE), true);
      dv.setUint32(16, E820.RAM, true);
      if (!call.memory.write(map.buffer, entry)) return -Errno.EFAULT;
    }
    map.nr_entries = 1;
    return call.memory.write(arg, bytes) ? 0 : -Errno.EFAULT;
  }

  /** A PV domain has no physmap to add to. */
  #addToPhysmap(call: HypercallCall, op: number, arg: bigint): number {
    const batch = op === MemoryOp.add_to_physmap_batch;
    const bytes = call.memory.read(arg, batch ? AddToPhysmapBatch.size : AddToPhysmap.size);
    if (!bytes) return -Errno.EFAULT;
    const view = batch ? AddToPhysmapBatch.view(bytesOf(bytes), 0) : AddToPhysmap.view(bytesOf(bytes), 0);
    if (!batch && view.space === MapSpace.gmfn_foreign) return -Errno.ENOSYS;
    if (batch && view.space === MapSpace.gmfn_range) return -Errno.EOPNOTSUPP;
    const domain = anyDomain(this.#m.modules, call, view.domid);
    if (!domain) return -Errno.ESRCH;
    if ((domain.v.flags & DomainFlag.hvm) === 0) return -Errno.EACCES;
    return mayTarget(call.domain, domain) ? -Errno.EOPNOTSUPP : -Errno.EPERM;
  }

  #acquireResource(call: HypercallCall, arg: bigint): number {
    const bytes = call.memory.read(arg, AcquireResource.size);
    if (!bytes) return -Errno.EFAULT;
    const r = AcquireResource.view(bytesOf(bytes), 0);
    if (r.pad !== 0) return -Errno.EINVAL;
    const domain = this.#m.modules.domain(r.domid);
    if (!domain) return -Errno.ESRCH;
    if (domain.domid === call.domid || !mayTarget(call.domain, domain)) return -Errno.EPERM;
    const grants = this.#m.grants();
    if (r.type !== Resource.grant_table || !grants) return -Errno.EOPNOTSUPP;
    if (r.id !== ResourceGrantTable.shared && r.id !== ResourceGrantTable.status) return -Errno.EINVAL;
    const isSizeQuery = r.frame_list === 0n;
    if (isSizeQuery) {
      if (r.nr_frames !== 0) return -Errno.EINVAL;
      r.nr_frames = domain.v.grantMaxFrames;
      return call.memory.write(arg, bytes) ? 0 : -Errno.EFAULT;
    }
    if (r.nr_frames > MAX_RESOURCE_FRAMES) return -Errno.E2BIG;
    for (let i = 0; i < r.nr_frames; i++) {
      const index = u32(r.frame) + i;
      const mfn =
        r.id === ResourceGrantTable.shared ? grants.sharedFrame(domain, index) : grants.statusFrame(domain, index);
      if (mfn < 0) return mfn;
      if (!writeU64(call.memory, BigInt.asUintN(64, r.frame_list + BigInt(i * 8)), BigInt(mfn))) return -Errno.EFAULT;
    }
    return 0;
  }
}
