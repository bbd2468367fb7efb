/** Operations on the table itself: setup_table, query_size, versions, status frames, swap_grant_ref (Xen's `gnttab_*`). */
import { bytesOf, Errno } from '@xenhost/base';
import {
  GNTST, GnttabGetStatusFrames, GnttabGetVersion, GnttabQuerySize, GnttabSetupTable, GnttabSetVersion,
  GnttabSwapGrantRef, GRANTS_RESERVED, GrantEntryV1, GrantEntryV2, GTF, PAGE_SIZE,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { HypercallCall } from '../hypercall/types.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef } from '../state/refs.ts';
import { GrantTable } from './table.ts';

export interface ControlModules {
  readonly memory: MachineMemory;
  table(domain: DomainRef): GrantTable;
  /** DOMID_SELF or an id. */
  domain(call: HypercallCall, id: number): DomainRef | undefined;
  mayTarget(call: HypercallCall, domain: DomainRef): boolean;
}

/** GNTTAB_CACHE_* */
const CACHE_CLEAN = 1;
const CACHE_INVALIDATE = 2;
const USE_FLAGS = GTF.reading | GTF.writing;

interface Reserved {
  readonly flags: number;
  readonly domid: number;
  readonly frame: number;
}

export class GrantControl {
  readonly #m: ControlModules;
  constructor(modules: ControlModules) {
    this.#m = modules;
  }

  setupTable(call: HypercallCall, arg: bigint, count: number): number {
    if (count !== 1) return -Errno.EINVAL;
    const bytes = call.memory.read(arg, GnttabSetupTable.size);
    if (!bytes) return -Errno.EFAULT;
    const op = GnttabSetupTable.view(bytesOf(bytes), 0);
    op.status = this.#setup(call, op.dom, op.nr_frames, op.frame_list) & 0xffff;
    return call.memory.write(arg, bytes) ? 0 : -Errno.EFAULT;
  }

  #setup(call: HypercallCall, dom: number, frames: number, list: bigint): number {
    const domain = this.#m.domain(call, dom);
    if (!domain) return GNTST.bad_domain;
    if (!this.#m.mayTarget(call, domain)) return GNTST.permission_denied;
    const table = this.#m.table(domain);
    if (frames > domain.v.grantMaxFrames) return GNTST.general_error;
    if (frames > table.frames && !table.grow(frames)) return GNTST.general_error;
    return this.#writeFrames(call, list, frames, (i) => table.sharedFrame(i));
  }

  #writeFrames(call: HypercallCall, list: bigint, nr: number, frame: (i: number) => number): number {
    const bytes = new Uint8Array(nr * 8);
    const dv = new DataView(bytes.buffer);
    for (let i = 0; i < nr; i++) dv.setBigUint64(i * 8, BigInt(frame(i)), true);
    return nr === 0 || call.memory.write(list, bytes) ? GNTST.okay : GNTST.bad_virt_addr;
  }

  querySize(call: HypercallCall, arg: bigint, count: number): number {
    if (count !== 1) return -Errno.EINVAL;
    const bytes = call.memory.read(arg, GnttabQuerySize.size);
    if (!bytes) return -Errno.EFAULT;
    const op = GnttabQuerySize.view(bytesOf(bytes), 0);
    const domain = this.#m.domain(call, op.dom);
    if (!domain) op.status = GNTST.bad_domain & 0xffff;
    else if (!this.#m.mayTarget(call, domain)) op.status = GNTST.permission_denied & 0xffff;
    else {
      op.nr_frames = this.#m.table(domain).frames;
      op.max_nr_frames = domain.v.grantMaxFrames;
      op.status = GNTST.okay;
    }
    return call.memory.write(arg, bytes) ? 0 : -Errno.EFAULT;
  }

  getVersion(call: HypercallCall, arg: bigint): number {
    const bytes = call.memory.read(arg, GnttabGetVersion.size);
    if (!bytes) return -Errno.EFAULT;
    const op = GnttabGetVersion.view(bytesOf(bytes), 0);
    const domain = this.#m.domain(call, op.dom);
    if (!domain) return -Errno.ESRCH;
    if (!this.#m.mayTarget(call, domain)) return -Errno.EPERM;
    op.version = this.#m.table(domain).version;
    return call.memory.write(arg, bytes) ? 0 : -Errno.EFAULT;
  }

  getStatusFrames(call: HypercallCall, arg: bigint, count: number): number {
    if (count !== 1) return -Errno.EINVAL;
    const bytes = call.memory.read(arg, GnttabGetStatusFrames.size);
    if (!bytes) return -Errno.EFAULT;
    const op = GnttabGetStatusFrames.view(bytesOf(bytes), 0);
    op.status = this.#statusFrames(call, op.dom, op.nr_frames, op.frame_list) & 0xffff;
    return call.memory.write(arg, bytes) ? 0 : -Errno.EFAULT;
  }

  #statusFrames(call: HypercallCall, dom: number, frames: number, list: bigint): number {
    const domain = this.#m.domain(call, dom);
    if (!domain) return GNTST.bad_domain;
    if (!this.#m.mayTarget(call, domain)) return GNTST.permission_denied;
    const table = this.#m.table(domain);
    if (frames > table.statusFrames) return GNTST.general_error;
    return this.#writeFrames(call, list, frames, (i) => table.statusFrame(i));
  }

  /** The answer's version is what is in force afterwards. */
  setVersion(call: HypercallCall, arg: bigint): number {
    const bytes = call.memory.read(arg, GnttabSetVersion.size);
    if (!bytes) return -Errno.EFAULT;
    const op = GnttabSetVersion.view(bytesOf(bytes), 0);
    const table = this.#m.table(call.domain);
    const result = this.#setVersion(table, op.version);
    op.version = table.version;
    return call.memory.write(arg, bytes) ? result : -Errno.EFAULT;
  }

  #setVersion(table: GrantTable, version: number): number {
    if (version !== 1 && version !== 2) return -Errno.EINVAL;
    if (version === 2 && table.maxVersion < 2) return -Errno.ENOSYS;
    if (version === table.version) return 0;
    for (let ref = GRANTS_RESERVED; ref < table.entries; ref++) if (table.active(ref).pin !== 0) return -Errno.EBUSY;
    const reserved = this.#reserved(table);
    if (!reserved) return -Errno.ERANGE;
    if (version === 2 ? !table.populateStatus() : !table.unpopulateStatus())
      return version === 2 ? -Errno.ENOMEM : -Errno.EBUSY;
    table.clear();
    table.domain.v.grantVersion = version;
    for (const [ref, entry] of reserved.entries()) this.#restore(table, ref, entry);
    return 0;
  }

  /** The toolstack's entries, which survive a change; undefined when one cannot be said in version 1. */
  #reserved(table: GrantTable): Reserved[] | undefined {
    if (table.frames === 0) return [];
    const { dv } = this.#m.memory;
    const entries: Reserved[] = [];
    for (let ref = 0; ref < GRANTS_RESERVED; ref++) {
      const at = table.entryAddress(ref);
      const header = table.header(ref);
      const flags = header & 0xffff;
      const domid = header >>> 16;
      if (table.version === 1) {
        entries.push({ flags, domid, frame: dv.getUint32(at + GrantEntryV1.offsets.frame, true) });
        continue;
      }
      const frame = dv.getBigUint64(at + GrantEntryV2.offsets.frame, true);
      const kind = flags & GTF.type_mask;
      if (kind === GTF.transitive) return undefined;
      if (kind !== GTF.permit_access) {
        entries.push({ flags: 0, domid: 0, frame: 0 });
        continue;
      }
      if (frame >> 32n !== 0n) return undefined;
      const status = dv.getUint16(table.statusAddress(ref), true);
      entries.push({ flags: flags | status, domid, frame: Number(frame) });
    }
    return entries;
  }

  #restore(table: GrantTable, ref: number, entry: Reserved): void {
    const { dv } = this.#m.memory;
    const at = table.entryAddress(ref);
    if (table.version === 1) {
      dv.setUint32(at + GrantEntryV1.offsets.frame, entry.frame, true);
      dv.setUint16(at + GrantEntryV1.offsets.domid, entry.domid, true);
      dv.setUint16(at, entry.flags, true);
      return;
    }
    dv.setUint16(table.statusAddress(ref), entry.flags & USE_FLAGS, true);
    dv.setBigUint64(at + GrantEntryV2.offsets.frame, BigInt(entry.frame), true);
    dv.setUint16(at + GrantEntryV2.offsets.domid, entry.domid, true);
    dv.setUint16(at, entry.flags & ~USE_FLAGS, true);
  }

  swap(call: HypercallCall, bytes: Uint8Array): void {
    const op = GnttabSwapGrantRef.view(bytesOf(bytes), 0);
    op.status = this.#swap(this.#m.table(call.domain), op.ref_a, op.ref_b) & 0xffff;
  }

  #swap(table: GrantTable, a: number, b: number): number {
    if (a >= table.entries || b >= table.entries) return GNTST.bad_gntref;
    if (a === b) return GNTST.okay;
    if (table.active(a).pin !== 0 || table.active(b).pin !== 0) return GNTST.eagain;
    const { u8 } = this.#m.memory;
    const size = table.version === 2 ? GrantEntryV2.size : GrantEntryV1.size;
    const [atA, atB] = [table.entryAddress(a), table.entryAddress(b)];
    const kept = u8.slice(atA, atA + size);
    u8.copyWithin(atA, atB, atB + size);
    u8.set(kept, atB);
    return GNTST.okay;
  }

  /** GNTTABOP_cache_flush: caches are coherent, so that only the arguments are looked at. */
  cacheFlush(owned: boolean, offset: number, length: number, op: number): number {
    if (offset >= PAGE_SIZE || length > PAGE_SIZE || offset + length > PAGE_SIZE) return -Errno.EINVAL;
    if ((op & ~(CACHE_CLEAN | CACHE_INVALIDATE)) !== 0) return -Errno.EINVAL;
    if (length === 0 || op === 0) return 0;
    if (!owned) return -Errno.EPERM;
    return op === CACHE_INVALIDATE ? -Errno.EOPNOTSUPP : 0;
  }
}
