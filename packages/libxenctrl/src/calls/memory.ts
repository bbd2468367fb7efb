/** Memory of domains: reservations, foreign frames, page tables, grants (`xc_domain.c`, `xc_foreign_memory.c`). */
import { bytesOf, domid as asDomid, Errno, XenError } from '@xenhost/base';
import type { GrantRef } from '@xenhost/base';
import type { MemoryOp, MemoryResult, RemotePage } from '@xenhost/privcmd';
import {
  Domctl, DomctlGetpageframeinfo3, GnttabGetVersion, GnttabQuerySize, GnttabSetupTable, GNTST, GrantOp, Hypercall,
  MemoryOp as Memop, MemoryReservation, MmuCommand, MmuExt, MmuExtOp, MmuUpdate, PAGE_SHIFT, PAGE_SIZE,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { Xenctrl } from '../api.ts';
import { CallArena } from '../caller.ts';
import type { Caller } from '../caller.ts';

/** Extents of one reservation call: half a MiB of frame numbers. */
const RESERVATION_CHUNK = 65536;
const MMU_UPDATE_CHUNK = 4096;
const PFINFO_CHUNK = 1024;
/** Mode of a memory_op on one domid: `xen_memory_reservation` or a bare domid. */
type ReservationOp = 'increase_reservation' | 'decrease_reservation' | 'populate_physmap';

export const memoryCalls = (caller: Caller) => {
  const reservation = async (
    op: ReservationOp,
    domid: number,
    frames: Uint32Array,
    order: number,
  ): Promise<Uint32Array> => {
    const out = new Uint32Array(frames.length);
    for (let at = 0; at < frames.length; at += RESERVATION_CHUNK) {
      const chunk = frames.subarray(at, at + RESERVATION_CHUNK);
      const arena = new CallArena();
      const extents = arena.put(widen(chunk), true);
      const { address } = arena.struct(MemoryReservation, {
        extent_start: extents.address, nr_extents: BigInt(chunk.length), extent_order: order, domid,
      }); // prettier-ignore
      const operation = `xc_domain_${op} of domain ${domid}`;
      const done = await caller.call(operation, Hypercall.memory_op, [BigInt(Memop[op]), address], arena);
      if (done !== chunk.length) {
        const errno = op === 'populate_physmap' ? Errno.ENOMEM : Errno.EBUSY;
        throw new XenError(errno, `${operation}: ${at + done} of ${frames.length} extents of order ${order}`);
      }
      out.set(narrow(extents.bytes), at);
    }
    return out;
  };

  /** memory_op on a bare domid. */
  const ofDomain = async (operation: string, op: number, domid: number): Promise<number> => {
    const arena = new CallArena();
    const { address } = arena.put(Uint8Array.of(domid & 255, domid >> 8));
    return caller.call(`${operation} of domain ${domid}`, Hypercall.memory_op, [BigInt(op), address], arena);
  };

  const mmuext = async (operation: string, cmd: number, domid: number, mfn: number): Promise<void> => {
    const arena = new CallArena();
    const { address } = arena.struct(MmuExtOp, { cmd, arg1: BigInt(mfn) });
    await caller.call(
      `${operation} ${mfn} of domain ${domid}`,
      Hypercall.mmuext_op,
      [address, 1n, 0n, BigInt(domid)],
      arena,
    );
  };

  const foreign = (domid: number, gfn: number): RemotePage => ({ space: 'foreign', domid: asDomid(domid), gfn });
  const granted = (domid: number, gref: GrantRef): RemotePage => ({ space: 'grant', domid: asDomid(domid), gref });

  const one = async (operation: string, op: MemoryOp): Promise<Uint8Array> => {
    const [result] = await caller.port.memory([op]);
    if (result?.status !== 0) throw new XenError(-(result?.status ?? -Errno.EIO), operation);
    return result.data ?? new Uint8Array(0);
  };

  const all = (operation: string, results: readonly MemoryResult[], gfns: Uint32Array): void => {
    const failed = results.findIndex(({ status }) => status !== 0);
    if (failed >= 0)
      throw new XenError(-(results[failed]?.status ?? -Errno.EIO), `${operation}, frame ${gfns[failed] ?? -1}`);
  };

  return {
    domainPopulatePhysmap: (domid, pfns, order = 0) => reservation('populate_physmap', domid, pfns, order),
    domainIncreaseReservation: (domid, count, order = 0) =>
      reservation('increase_reservation', domid, new Uint32Array(count), order),
    async domainDecreaseReservation(domid, frames, order = 0) {
      await reservation('decrease_reservation', domid, frames, order);
    },
    domainMaximumGpfn: (domid) => ofDomain('xc_domain_maximum_gpfn', Memop.maximum_gpfn, domid),
    domainCurrentReservation: (domid) => ofDomain('current_reservation', Memop.current_reservation, domid),
    domainMaximumReservation: (domid) => ofDomain('maximum_reservation', Memop.maximum_reservation, domid),

    async readFrames(domid, gfns) {
      const ops = Array.from(gfns, (gfn): MemoryOp => ({
        kind: 'read',
        page: foreign(domid, gfn),
        offset: 0,
        length: PAGE_SIZE,
      }));
      const results = await caller.port.memory(ops);
      all(`reading memory of domain ${domid}`, results, gfns);
      const out = new Uint8Array(gfns.length * PAGE_SIZE);
      for (const [i, { data }] of results.entries()) if (data) out.set(data, i * PAGE_SIZE);
      return out;
    },
    async writeFrames(domid, gfns, data) {
      if (data.length !== gfns.length * PAGE_SIZE) {
        throw new XenError(Errno.EINVAL, `writing ${data.length} bytes to ${gfns.length} frames of domain ${domid}`);
      }
      const ops = Array.from(gfns, (gfn, i): MemoryOp => {
        return {
          kind: 'write',
          page: foreign(domid, gfn),
          offset: 0,
          data: data.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE),
        };
      });
      all(`writing memory of domain ${domid}`, await caller.port.memory(ops), gfns);
    },
    readFrame: (domid, gfn, offset = 0, length = PAGE_SIZE - offset) =>
      one(`reading frame ${gfn} of domain ${domid}`, { kind: 'read', page: foreign(domid, gfn), offset, length }),
    async writeFrame(domid, gfn, offset, data) {
      await one(`writing frame ${gfn} of domain ${domid}`, { kind: 'write', page: foreign(domid, gfn), offset, data });
    },

    mmuextPin: (domid, level, mfn) => mmuext(`pinning L${level} table`, MmuExt.PIN_L1_TABLE + level - 1, domid, mfn),
    mmuextUnpin: (domid, mfn) => mmuext('unpinning table', MmuExt.UNPIN_TABLE, domid, mfn),

    async machphysUpdate(domid, mfns, pfns) {
      for (let at = 0; at < mfns.length; at += MMU_UPDATE_CHUNK) {
        const count = Math.min(MMU_UPDATE_CHUNK, mfns.length - at);
        const bytes = new Uint8Array(count * MmuUpdate.size);
        const dv = new DataView(bytes.buffer);
        for (let i = 0; i < count; i++) {
          const ptr = (BigInt(mfns[at + i] ?? 0) << BigInt(PAGE_SHIFT)) | BigInt(MmuCommand.machphys);
          dv.setBigUint64(i * MmuUpdate.size, ptr, true);
          dv.setBigUint64(i * MmuUpdate.size + 8, BigInt(pfns[at + i] ?? 0), true);
        }
        const arena = new CallArena();
        const args = [arena.put(bytes).address, BigInt(count), 0n, BigInt(domid)];
        await caller.call(`xc_mmu_update of domain ${domid}`, Hypercall.mmu_update, args, arena);
      }
    },

    async getPageframeInfo(domid, mfns) {
      const out = new Uint32Array(mfns.length);
      for (let at = 0; at < mfns.length; at += PFINFO_CHUNK) {
        const chunk = mfns.subarray(at, at + PFINFO_CHUNK);
        const arena = new CallArena();
        const words = arena.put(widen(chunk), true);
        const init = { num: BigInt(chunk.length), array: words.address };
        const operation = `xc_get_pfn_type_batch of domain ${domid}`;
        await caller.domctl(operation, Domctl.getpageframeinfo3, domid, DomctlGetpageframeinfo3, init, arena);
        out.set(narrow(words.bytes), at);
      }
      return out;
    },

    async gnttabQuerySize(domid) {
      const arena = new CallArena();
      const { address, view } = arena.struct(GnttabQuerySize, { dom: domid });
      const operation = `xc_gnttab_query_size of domain ${domid}`;
      await caller.call(operation, Hypercall.grant_table_op, [BigInt(GrantOp.query_size), address, 1n], arena);
      if (view.status !== GNTST.okay) throw new XenError(Errno.EINVAL, `${operation}: status ${view.status}`);
      return { nrFrames: view.nr_frames, maxNrFrames: view.max_nr_frames };
    },
    async gnttabGetVersion(domid) {
      const arena = new CallArena();
      const { address, view } = arena.struct(GnttabGetVersion, { dom: domid });
      const operation = `xc_gnttab_get_version of domain ${domid}`;
      await caller.call(operation, Hypercall.grant_table_op, [BigInt(GrantOp.get_version), address, 1n], arena);
      return view.version;
    },
    async gnttabSetupTable(domid, nrFrames) {
      const arena = new CallArena();
      const frames = arena.output(nrFrames * 8);
      const init = { dom: domid, nr_frames: nrFrames, frame_list: frames.address };
      const { address, view } = arena.struct(GnttabSetupTable, init);
      const operation = `gnttab setup_table of domain ${domid}`;
      await caller.call(operation, Hypercall.grant_table_op, [BigInt(GrantOp.setup_table), address, 1n], arena);
      if (view.status !== GNTST.okay) throw new XenError(Errno.EINVAL, `${operation}: status ${view.status}`);
      return narrow(frames.bytes);
    },
    gnttabRead: (domid, gref, offset, length) =>
      one(`reading grant ${gref} of domain ${domid}`, { kind: 'read', page: granted(domid, gref), offset, length }),
    async gnttabWrite(domid, gref, offset, data) {
      await one(`writing grant ${gref} of domain ${domid}`, {
        kind: 'write',
        page: granted(domid, gref),
        offset,
        data,
      });
    },
    memory: (ops) => caller.port.memory(ops),
  } satisfies Partial<Xenctrl>;
};

/** Frame numbers as xen_pfn_t and back. */
export function widen(frames: Uint32Array): Uint8Array {
  const words = new Uint32Array(frames.length * 2);
  for (let i = 0; i < frames.length; i++) words[i * 2] = frames[i] ?? 0;
  return new Uint8Array(words.buffer);
}

export function narrow(bytes: Uint8Array): Uint32Array {
  const { dv } = bytesOf(bytes);
  const frames = new Uint32Array(bytes.length / 8);
  for (let i = 0; i < frames.length; i++) frames[i] = dv.getUint32(i * 8, true);
  return frames;
}
