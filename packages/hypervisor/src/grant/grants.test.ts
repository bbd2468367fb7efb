import { Errno } from '@xenhost/base';
import {
  DOMID, GNTCOPY, GNTMAP, GNTST, GnttabCopy, GnttabCopyPtr, GnttabGetStatusFrames, GnttabMapGrantRef, GnttabQuerySize,
  GnttabSetVersion, GnttabSetupTable, GnttabSwapGrantRef, GnttabUnmapAndReplace, GnttabUnmapGrantRef, GrantOp, GTF, MmuExt,
} from '@xenhost/xen-abi'; // prettier-ignore
import { bytesOf } from '@xenhost/base';
import { FrameType } from '../mm/api.ts';
import { P, pte, RW, World } from '../mm/world.test-kit.ts';
import type { DomainRef } from '../state/refs.ts';

const signed = (status: number): number => (status << 16) >> 16;
const KB4 = 4096n;

/** Two domains; the second has tables whose slots 1 and up are free for mappings. */
function pair(): { w: World; granter: DomainRef; user: DomainRef; page: number; l1: number } {
  const w = new World();
  const [granter, user] = [w.domain(1), w.domain(2)];
  const [page = 0] = w.frames(granter, 1);
  const t = w.tables(user);
  expect(w.ext(user, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
  expect(w.ext(user, MmuExt.NEW_BASEPTR, t.l4)).toBe(0);
  return { w, granter, user, page, l1: t.l1 };
}

const entryAt = (w: World, d: DomainRef, ref: number): number => w.grants.sharedFrame(d, 0) * 4096 + ref * 8;

/** The granter writes an entry of version 1. */
function grant(
  w: World,
  from: DomainRef,
  ref: number,
  to: number,
  frame: number,
  flags: number = GTF.permit_access,
): void {
  const at = entryAt(w, from, ref);
  w.memory.dv.setUint16(at + 2, to, true);
  w.memory.dv.setUint32(at + 4, frame, true);
  w.memory.dv.setUint16(at, flags, true);
}
const flagsOf = (w: World, d: DomainRef, ref: number): number => w.memory.dv.getUint16(entryAt(w, d, ref), true);

function map(w: World, d: DomainRef, fields: { dom: number; ref?: number; flags?: number; address?: bigint }) {
  const { bytes, view } = GnttabMapGrantRef.create({
    host_addr: fields.address ?? KB4, flags: fields.flags ?? GNTMAP.host_map, ref: fields.ref ?? 8, dom: fields.dom,
  }); // prettier-ignore
  expect(w.grantOp(d, GrantOp.map_grant_ref, bytes)).toBe(0);
  return { status: signed(view.status), handle: view.handle, bus: view.dev_bus_addr };
}
function unmap(w: World, d: DomainRef, handle: number, address = KB4, bus = 0n): number {
  const { bytes, view } = GnttabUnmapGrantRef.create({ host_addr: address, handle, dev_bus_addr: bus });
  expect(w.grantOp(d, GrantOp.unmap_grant_ref, bytes)).toBe(0);
  return signed(view.status);
}

describe('mapping', () => {
  test('writable: entry, references, flags; and all of it back', () => {
    const { w, granter, user, page, l1 } = pair();
    grant(w, granter, 8, 2, page);
    const mapped = map(w, user, { dom: 1 });
    expect(mapped.status).toBe(GNTST.okay);
    expect(w.peek(l1, 1) & 0xffff_f067n).toBe(pte(page, 0x67n));
    expect(flagsOf(w, granter, 8)).toBe(GTF.permit_access | GTF.reading | GTF.writing);
    expect(w.mm.frames.type(page)).toBe(FrameType.writable);
    expect(w.audit()).toEqual([]);
    w.flushes.length = 0;
    expect(unmap(w, user, mapped.handle)).toBe(GNTST.okay);
    expect(w.flushes).toContain('d2 ffffffff');
    expect(w.peek(l1, 1)).toBe(0n);
    expect(flagsOf(w, granter, 8)).toBe(GTF.permit_access);
    expect(w.audit()).toEqual([]);
    expect(unmap(w, user, mapped.handle)).toBe(GNTST.bad_handle);
  });

  test('read-only leaves the type alone and does not unmap as writable', () => {
    const { w, granter, user, page } = pair();
    grant(w, granter, 8, 2, page, GTF.permit_access | GTF.readonly);
    expect(map(w, user, { dom: 1 }).status).toBe(GNTST.general_error);
    expect(flagsOf(w, granter, 8)).toBe(GTF.permit_access | GTF.readonly);
    const mapped = map(w, user, { dom: 1, flags: GNTMAP.host_map | GNTMAP.readonly });
    expect(mapped.status).toBe(GNTST.okay);
    expect(flagsOf(w, granter, 8)).toBe(GTF.permit_access | GTF.readonly | GTF.reading);
    expect(w.mm.frames.typeCount(page)).toBe(0);
    expect(unmap(w, user, mapped.handle)).toBe(GNTST.okay);
    expect(w.audit()).toEqual([]);
  });

  test.each([
    ['no such domain', { dom: 9 }, GNTST.bad_domain],
    ['a reference beyond the table', { dom: 1, ref: 100_000 }, GNTST.bad_gntref],
    ['nothing to map', { dom: 1, flags: 0 }, GNTST.bad_gntref],
    ['an entry for somebody else', { dom: 1, ref: 9 }, GNTST.general_error],
    ['an empty entry', { dom: 1, ref: 10 }, GNTST.general_error],
    ["a frame that is not the granter's", { dom: 1, ref: 11 }, GNTST.bad_page],
    ['no L1 at the address', { dom: 1, address: 1n << 30n }, GNTST.general_error],
    ['an entry across two (XSA-227)', { dom: 1, flags: GNTMAP.host_map | GNTMAP.contains_pte, address: KB4 - 2n }, GNTST.general_error],
  ])('%s', (_, fields, status) => {
    const { w, granter, user, page } = pair();
    grant(w, granter, 8, 2, page);
    grant(w, granter, 9, 3, page);
    grant(w, granter, 11, 2, w.frames(user, 1)[0] ?? 0);
    expect(map(w, user, fields).status).toBe(status);
    expect(flagsOf(w, granter, 8)).toBe(GTF.permit_access);
    expect(w.audit()).toEqual([]);
  }); // prettier-ignore

  test('a page table cannot be granted writable', () => {
    const { w, granter, user } = pair();
    const t = w.tables(granter);
    expect(w.ext(granter, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    grant(w, granter, 8, 2, t.l1);
    expect(map(w, user, { dom: 1 }).status).toBe(GNTST.general_error);
    expect(map(w, user, { dom: 1, flags: GNTMAP.host_map | GNTMAP.readonly }).status).toBe(GNTST.okay);
  });

  test('host and device mapping each hold a reference (XSA-224)', () => {
    const { w, granter, user, page } = pair();
    grant(w, granter, 8, 2, page);
    const both = map(w, user, { dom: 1, flags: GNTMAP.host_map | GNTMAP.device_map });
    expect(both).toMatchObject({ status: GNTST.okay, bus: BigInt(page) << 12n });
    expect(w.mm.frames.typeCount(page)).toBe(2);
    expect(unmap(w, user, both.handle)).toBe(GNTST.okay);
    expect(w.mm.frames.typeCount(page)).toBe(1);
    expect(unmap(w, user, both.handle, 0n, 0x1000n)).toBe(GNTST.bad_dev_addr);
    expect(unmap(w, user, both.handle, 0n, both.bus)).toBe(GNTST.okay);
    expect(w.mm.frames.typeCount(page)).toBe(0);
    expect(w.audit()).toEqual([]);
  });

  test('unmapping where something else is mapped now is refused (XSA-234)', () => {
    const { w, granter, user, page, l1 } = pair();
    grant(w, granter, 8, 2, page);
    grant(w, granter, 9, 2, w.frames(granter, 1)[0] ?? 0);
    const first = map(w, user, { dom: 1 });
    const second = map(w, user, { dom: 1, ref: 9, address: 2n * KB4, flags: GNTMAP.host_map | GNTMAP.readonly });
    const { bytes, view } = GnttabUnmapAndReplace.create({ host_addr: 2n * KB4, new_addr: KB4, handle: second.handle });
    expect(w.grantOp(user, GrantOp.unmap_and_replace, bytes)).toBe(0);
    expect(signed(view.status)).toBe(GNTST.okay);
    expect(w.peek(l1, 1)).toBe(0n);
    expect(unmap(w, user, first.handle)).toBe(GNTST.general_error);
    expect(w.mm.frames.typeCount(page)).toBe(1);
    expect(w.audit()).toEqual([]);
  });

  test('an entry that its guest changes at every look is given up', () => {
    const { w, granter, user, page } = pair();
    grant(w, granter, 8, 2, page);
    const { compareExchange } = Atomics;
    const hostile = jest.spyOn(Atomics, 'compareExchange').mockImplementation(((array: Uint32Array, i: number, old: number, value: number) => {
      if (array === w.memory.u32 && i === entryAt(w, granter, 8) / 4) array[i] = (array[i] ?? 0) ^ GTF.PCD;
      return compareExchange(array, i, old, value);
    }) as typeof Atomics.compareExchange);
    expect(map(w, user, { dom: 1 }).status).toBe(GNTST.general_error);
    hostile.mockRestore();
    expect(w.audit()).toEqual([]);
  }); // prettier-ignore
});

describe('copy', () => {
  function copy(w: World, d: DomainRef, fields: {
    from: [u: number, domid: number, offset?: number]; to: [u: number, domid: number, offset?: number]; len: number; flags: number;
  }): number {
    const { bytes, view } = GnttabCopy.create({ len: fields.len, flags: fields.flags });
    for (const [base, [u, domid, offset = 0]] of [[GnttabCopy.offsets.source, fields.from], [GnttabCopy.offsets.dest, fields.to]] as const)
      Object.assign(GnttabCopyPtr.view(bytesOf(bytes), base), { u: BigInt(u), domid, offset });
    expect(w.grantOp(d, GrantOp.copy, bytes)).toBe(0);
    return signed(view.status);
  } // prettier-ignore

  test('both ways, within the page', () => {
    const { w, granter, user, page } = pair();
    const [own = 0] = w.frames(user, 1);
    grant(w, granter, 8, 2, page);
    w.memory.frame(page).set([1, 2, 3, 4], 100);
    const SELF = DOMID.SELF;
    expect(copy(w, user, { from: [8, 1, 100], to: [own, SELF, 8], len: 4, flags: GNTCOPY.source_gref })).toBe(0);
    expect([...w.memory.frame(own).subarray(8, 12)]).toEqual([1, 2, 3, 4]);
    expect(copy(w, user, { from: [own, SELF, 8], to: [8, 1], len: 4, flags: GNTCOPY.dest_gref })).toBe(0);
    expect([...w.memory.frame(page).subarray(0, 4)]).toEqual([1, 2, 3, 4]);
    expect(copy(w, user, { from: [8, 1, 4093], to: [own, SELF], len: 4, flags: 1 })).toBe(GNTST.bad_copy_arg);
    expect(copy(w, user, { from: [page, 1], to: [own, SELF], len: 4, flags: 0 })).toBe(GNTST.permission_denied);
    expect(copy(w, user, { from: [page, SELF], to: [own, SELF], len: 4, flags: 0 })).toBe(GNTST.bad_page);
    expect(flagsOf(w, granter, 8)).toBe(GTF.permit_access);
    expect(w.audit()).toEqual([]);
  });

  test('into a page table is refused', () => {
    const { w, user, l1 } = pair();
    const [own = 0] = w.frames(user, 1);
    expect(copy(w, user, { from: [own, DOMID.SELF], to: [l1, DOMID.SELF], len: 8, flags: 0 })).toBe(
      GNTST.general_error,
    );
  });

  test('version 2: part of a page, and a grant of a grant', () => {
    const { w, granter, user, page } = pair();
    const third = w.domain(3);
    const [own = 0] = w.frames(third, 1);
    for (const d of [granter, user]) {
      const { bytes, view } = GnttabSetVersion.create({ version: 2 });
      expect(w.grantOp(d, GrantOp.set_version, bytes)).toBe(0);
      expect(view.version).toBe(2);
    }
    const entry = (d: DomainRef, ref: number, fields: [flags: number, domid: number, low: number, length: number, frame: bigint]): void => {
      const at = w.grants.sharedFrame(d, 0) * 4096 + ref * 16;
      w.memory.dv.setUint16(at + 2, fields[1], true);
      w.memory.dv.setUint16(at + 4, fields[2], true);
      w.memory.dv.setUint16(at + 6, fields[3], true);
      w.memory.dv.setBigUint64(at + 8, fields[4], true);
      w.memory.dv.setUint16(at, fields[0], true);
    };
    w.memory.frame(page).fill(7);
    entry(granter, 8, [GTF.permit_access | GTF.sub_page, 2, 512, 256, BigInt(page)]);
    entry(user, 8, [GTF.transitive, 3, 1, 0, 8n]);
    const SELF = DOMID.SELF;
    expect(copy(w, third, { from: [8, 2, 512], to: [own, SELF], len: 256, flags: GNTCOPY.source_gref })).toBe(0);
    expect(w.memory.frame(own)[255]).toBe(7);
    expect(copy(w, third, { from: [8, 2, 511], to: [own, SELF], len: 256, flags: GNTCOPY.source_gref })).toBe(GNTST.general_error);
    expect(map(w, third, { dom: 2 }).status).toBe(GNTST.general_error);
    expect(map(w, user, { dom: 1 }).status).toBe(GNTST.general_error);
    expect(w.audit()).toEqual([]);
  }); // prettier-ignore
});

describe('the table', () => {
  test('setup grows it up to the limit; query_size tells', () => {
    const { w, user } = pair();
    const setup = (nr: number): number => {
      const { bytes, view } = GnttabSetupTable.create({ dom: DOMID.SELF, nr_frames: nr, frame_list: 0x6000n });
      expect(w.grantOp(user, GrantOp.setup_table, bytes)).toBe(0);
      return signed(view.status);
    };
    expect(setup(64)).toBe(GNTST.okay);
    expect(setup(65)).toBe(GNTST.general_error);
    const { bytes, view } = GnttabQuerySize.create({ dom: DOMID.SELF });
    expect(w.grantOp(user, GrantOp.query_size, bytes)).toBe(0);
    expect([view.nr_frames, view.max_nr_frames]).toEqual([64, 64]);
    const shared = w.grants.sharedFrame(user, 63);
    expect(w.update(user, pairL1(w, user), 3, pte(shared, P | RW))).toBe(0);
    expect(w.audit()).toEqual([]);
  });

  test('a mapped status frame keeps version 2 (XSA-255); reserved entries survive', () => {
    const { w, user, l1 } = pair();
    grant(w, user, 1, 0, 77);
    const version = (to: number): number => w.grantOp(user, GrantOp.set_version, GnttabSetVersion.create({ version: to }).bytes);
    expect(version(2)).toBe(0);
    const { bytes, view } = GnttabGetStatusFrames.create({ dom: DOMID.SELF, nr_frames: 1, frame_list: 0x6000n });
    expect(w.grantOp(user, GrantOp.get_status_frames, bytes)).toBe(0);
    expect(signed(view.status)).toBe(GNTST.okay);
    const status = w.grants.statusFrame(user, 0);
    expect(w.update(user, l1, 4, pte(status, P | RW))).toBe(0);
    expect(version(1)).toBe(-Errno.EBUSY);
    expect(w.update(user, l1, 4, 0n)).toBe(0);
    expect(version(1)).toBe(0);
    expect(flagsOf(w, user, 1)).toBe(GTF.permit_access);
    expect(w.memory.dv.getUint32(entryAt(w, user, 1) + 4, true)).toBe(77);
    expect(version(3)).toBe(-Errno.EINVAL);
    expect(w.audit()).toEqual([]);
  }); // prettier-ignore

  test('a version cannot change while entries are in use, nor can they be swapped', () => {
    const { w, granter, user, page } = pair();
    grant(w, granter, 8, 2, page);
    expect(map(w, user, { dom: 1 }).status).toBe(GNTST.okay);
    expect(w.grantOp(granter, GrantOp.set_version, GnttabSetVersion.create({ version: 2 }).bytes)).toBe(-Errno.EBUSY);
    const { bytes, view } = GnttabSwapGrantRef.create({ ref_a: 8, ref_b: 9 });
    expect(w.grantOp(granter, GrantOp.swap_grant_ref, bytes)).toBe(0);
    expect(signed(view.status)).toBe(GNTST.eagain);
  });
});

describe("Domain-0's backends and the end of domains", () => {
  test('access marks the entry and holds the frame', () => {
    const { w, granter, page } = pair();
    const dom0 = w.domain(0);
    grant(w, granter, 8, 0, page);
    expect(w.grants.openAccess(granter, dom0, 8, true)).toEqual({ kind: 'frame', mfn: page, offset: 0, length: 4096 });
    expect(flagsOf(w, granter, 8)).toBe(GTF.permit_access | GTF.reading | GTF.writing);
    expect(w.grants.openAccess(granter, dom0, 9, false)).toEqual({ kind: 'refused', status: GNTST.general_error });
    w.grants.closeAccess(granter, 8, true);
    expect(flagsOf(w, granter, 8)).toBe(GTF.permit_access);
    expect(w.audit()).toEqual([]);
  });

  test.each(['user first', 'granter first'])('destruction leaks nothing: %s', (order) => {
    const { w, granter, user, page } = pair();
    grant(w, granter, 8, 2, page);
    expect(map(w, user, { dom: 1, flags: GNTMAP.host_map | GNTMAP.device_map }).status).toBe(GNTST.okay);
    const [first, second] = order === 'user first' ? [user, granter] : [granter, user];
    w.destroy(first);
    w.destroy(second);
    for (const d of [first, second]) w.grants.freeDomain(d);
    expect([granter, user].map((d) => w.mm.isRelinquished(d))).toEqual([true, true]);
    for (const d of [first, second]) w.mm.freeDomain(d);
    // Two records of five frames are the lifecycle's; six frames were Xen's from the start.
    const { totalFrames, freeFrames } = w.mm.heapInfo();
    expect(totalFrames - freeFrames).toBe(
      new World().mm.heapInfo().totalFrames - new World().mm.heapInfo().freeFrames + 10,
    );
  });

  test('a granter whose frame is still mapped waits', () => {
    const { w, granter, user, page } = pair();
    grant(w, granter, 8, 2, page);
    const mapped = map(w, user, { dom: 1 });
    w.destroy(granter);
    expect(w.mm.isRelinquished(granter)).toBe(false);
    expect(granter.v.totalPages).toBe(1);
    expect(unmap(w, user, mapped.handle)).toBe(GNTST.okay);
    expect(granter.v.totalPages).toBe(0);
  });
});

/** The L1 behind address 0 of the domain's present tables. */
function pairL1(w: World, d: DomainRef): number {
  return Math.floor((w.mm.walk(w.vcpu(d).v.guestTable, 0n)?.entryAddress ?? 0) / 4096);
}
