import { bytesOf, Errno } from '@xenhost/base';
import { DOMID, GNTST, GnttabSetVersion, GnttabTransfer, GrantOp, GTF, MmuExt } from '@xenhost/xen-abi';
import { FrameType, INVALID_M2P_ENTRY } from '../mm/api.ts';
import { P, pte, World } from '../mm/world.test-kit.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';

const signed = (status: number): number => (status << 16) >> 16;
const DONE = GTF.accept_transfer | GTF.transfer_committed | GTF.transfer_completed;
const PFN = 0x77;

/** Domain 1 gives `page`; domain 2 has room. */
function pair(version = 1): { w: World; giver: DomainRef; taker: DomainRef; page: number } {
  const w = new World();
  const [giver, taker] = [w.domain(1), w.domain(2)];
  const [page = 0] = w.frames(giver, 1);
  w.memory.frame(page).set([1, 2, 3, 4], 100);
  if (version === 2)
    expect(w.grantOp(taker, GrantOp.set_version, GnttabSetVersion.create({ version: 2 }).bytes)).toBe(0);
  return { w, giver, taker, page };
}

const entryAt = (w: World, d: DomainRef, ref: number): number =>
  w.grants.sharedFrame(d, 0) * 4096 + ref * (d.v.grantVersion === 2 ? 16 : 8);
const headerOf = (w: World, d: DomainRef, ref: number): number => w.memory.dv.getUint32(entryAt(w, d, ref), true);
const frameOf = (w: World, d: DomainRef, ref: number): bigint =>
  d.v.grantVersion === 2
    ? w.memory.dv.getBigUint64(entryAt(w, d, ref) + 8, true)
    : BigInt(w.memory.dv.getUint32(entryAt(w, d, ref) + 4, true));

function offer(w: World, d: DomainRef, ref: number, to: number, flags: number = GTF.accept_transfer): void {
  const at = entryAt(w, d, ref);
  if (d.v.grantVersion === 2) w.memory.dv.setBigUint64(at + 8, BigInt(PFN), true);
  else w.memory.dv.setUint32(at + 4, PFN, true);
  w.memory.dv.setUint32(at, ((to << 16) | flags) >>> 0, true);
}

function transfer(w: World, d: DomainRef, mfn: number | bigint, fields: { domid?: number; ref?: number } = {}): number {
  const { bytes, view } = GnttabTransfer.create({
    mfn: BigInt(mfn), domid: fields.domid ?? 2, ref: fields.ref ?? 8, status: 0x5555,
  }); // prettier-ignore
  expect(w.grantOp(d, GrantOp.transfer, bytes)).toBe(0);
  return signed(view.status);
}

const listed = (w: World, d: DomainRef): number[] => {
  const frames: number[] = [];
  w.mm.forEachFrame(d, (mfn) => void frames.push(mfn));
  return frames;
};
const used = (w: World): number => w.mm.heapInfo().totalFrames - w.mm.heapInfo().freeFrames;

describe('a transfer', () => {
  test.each([1, 2])('moves the frame with its bytes, version %d', (version) => {
    const { w, giver, taker, page } = pair(version);
    const before = used(w);
    offer(w, taker, 8, 1);
    w.flushes.length = 0;
    expect(transfer(w, giver, page)).toBe(GNTST.okay);
    expect(w.flushes).toEqual(['all']);
    expect(headerOf(w, taker, 8)).toBe((1 << 16) | DONE);
    expect(frameOf(w, taker, 8)).toBe(BigInt(page));
    expect([...w.memory.frame(page).subarray(100, 104)]).toEqual([1, 2, 3, 4]);
    expect([giver.v.totalPages, taker.v.totalPages]).toEqual([0, 1]);
    expect([listed(w, giver), listed(w, taker)]).toEqual([[], [page]]);
    expect(w.mm.own.ownerOf(page)).toBe(2);
    expect(w.mm.pfnOf(page)).toBe(PFN);
    expect([w.mm.frames.count(page), w.mm.frames.typeCount(page), w.mm.frames.type(page)]).toEqual([1, 0, 0]);
    expect(used(w)).toBe(before);
    expect(w.audit()).toEqual([]);
    // Nothing of it is the giver's any more, nor does the entry serve again.
    expect(transfer(w, giver, page)).toBe(GNTST.bad_page);
    const [next = 0] = w.frames(giver, 1);
    expect(transfer(w, giver, next)).toBe(GNTST.general_error);
    expect(w.audit()).toEqual([]);
  });

  test('the frame was flushed and its number written before completion shows', () => {
    const { w, giver, taker, page } = pair();
    offer(w, taker, 8, 1);
    w.flushes.length = 0;
    const { or } = Atomics;
    const seen: unknown[] = [];
    const watched = jest.spyOn(Atomics, 'or').mockImplementation(((array: Uint32Array, i: number, value: number) => {
      if (array === w.memory.u32 && i === entryAt(w, taker, 8) / 4) seen.push(w.flushes[0], frameOf(w, taker, 8), value);
      return or(array, i, value);
    }) as typeof Atomics.or); // prettier-ignore
    expect(transfer(w, giver, page)).toBe(GNTST.okay);
    watched.mockRestore();
    expect(seen).toEqual(['all', BigInt(page), GTF.transfer_completed]);
  });

  test('the new owner may use it as it likes, and give it back', () => {
    const { w, giver, taker, page } = pair();
    offer(w, taker, 8, 1);
    expect(transfer(w, giver, page)).toBe(GNTST.okay);
    w.memory.frame(page).fill(0);
    expect(w.ext(taker, MmuExt.PIN_L1_TABLE, page)).toBe(0);
    expect(w.mm.frames.type(page)).toBe(FrameType.l1);
    offer(w, giver, 9, 2);
    expect(transfer(w, taker, page, { domid: 1, ref: 9 })).toBe(GNTST.bad_page);
    expect(w.ext(taker, MmuExt.UNPIN_TABLE, page)).toBe(0);
    expect(transfer(w, taker, page, { domid: 1, ref: 9 })).toBe(GNTST.okay);
    expect(listed(w, giver)).toEqual([page]);
    expect(w.audit()).toEqual([]);
  });

  test('to oneself needs no room of its own', () => {
    const { w, giver, page } = pair();
    giver.v.maxPages = 1;
    offer(w, giver, 8, 1);
    expect(transfer(w, giver, page, { domid: 1 })).toBe(GNTST.okay);
    expect([giver.v.totalPages, listed(w, giver)]).toEqual([1, [page]]);
    expect(w.audit()).toEqual([]);
  });

  test('batches are continued, each entry with a status of its own', () => {
    const { w, giver, taker } = pair();
    const pages = w.frames(giver, 4);
    const requests = pages.map((mfn, i) => {
      if (i !== 2) offer(w, taker, 8 + i, 1);
      return GnttabTransfer.create({ mfn: BigInt(mfn), domid: 2, ref: 8 + i, status: 1 }).bytes;
    });
    for (const [i, bytes] of requests.entries()) w.arena.write(0x1000n + BigInt(i * bytes.length), bytes);
    w.patience = 1;
    expect(w.run(w.grants.hypercall, giver, [BigInt(GrantOp.transfer), 0x1000n, 4n])).toBe(0);
    expect(w.continuations).toBeGreaterThan(0);
    const statuses = requests.map((bytes, i) =>
      signed(GnttabTransfer.view(bytesOf(w.arena.bytes), i * bytes.length).status),
    );
    expect(statuses).toEqual([GNTST.okay, GNTST.okay, GNTST.general_error, GNTST.okay]);
    expect([giver.v.totalPages, taker.v.totalPages]).toEqual([1, 3]);
    expect(w.run(w.grants.hypercall, giver, [BigInt(GrantOp.transfer), 0n, 1n])).toBe(-Errno.EFAULT);
    expect(w.audit()).toEqual([]);
  });
});

describe('refused, the frame stays', () => {
  function refused(w: World, giver: DomainRef, taker: DomainRef, mfn: number | bigint): void {
    const before = [used(w), giver.v.totalPages, giver.v.xenHeapPages];
    expect(transfer(w, giver, mfn)).toBe(GNTST.bad_page);
    expect([used(w), giver.v.totalPages, giver.v.xenHeapPages]).toEqual(before);
    expect(headerOf(w, taker, 8)).toBe((1 << 16) | GTF.accept_transfer);
    expect(frameOf(w, taker, 8)).toBe(BigInt(PFN));
    expect(taker.v.totalPages).toBe(0);
  }

  test.each([
    ['beyond memory', 1n << 30n],
    ['beyond 32 bits, its low bits a frame', 1n << 32n],
    ['all ones', (1n << 64n) - 1n],
    ['of Xen', 0n],
  ])('no frame: %s', (_, mfn) => {
    const { w, giver, taker, page } = pair();
    offer(w, taker, 8, 1);
    refused(w, giver, taker, mfn === 1n << 32n ? mfn | BigInt(page) : mfn);
    expect(w.audit()).toEqual([]);
  });

  test("somebody else's, a free one, Xen's shared with the domain", () => {
    const { w, giver, taker } = pair();
    const third = w.domain(3);
    const [theirs = 0, free = 0] = w.frames(third, 2);
    w.mm.own.getAgain(free);
    expect(w.mm.own.dropAllocation(free)).toBe(true);
    w.mm.own.put(free);
    offer(w, taker, 8, 1);
    for (const mfn of [theirs, free, w.grants.sharedFrame(giver, 0)]) refused(w, giver, taker, mfn);
    expect(w.audit()).toEqual([]);
  });

  test('mapped, read-only mapped, a page table, pinned, granted and in use', () => {
    const { w, giver, taker, page } = pair();
    const [readOnly = 0, granted = 0] = w.frames(giver, 2);
    const t = w.tables(giver, [page]);
    w.poke(t.l1, 1, pte(readOnly, P));
    expect(w.ext(giver, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    const at = entryAt(w, giver, 8);
    w.memory.dv.setUint32(at + 4, granted, true);
    w.memory.dv.setUint32(at, (2 << 16) | GTF.permit_access, true);
    expect(w.grants.openAccess(giver, taker, 8, false)).toMatchObject({ kind: 'frame', mfn: granted });
    offer(w, taker, 8, 1);
    for (const mfn of [page, readOnly, t.l1, t.l2, t.l4, granted]) refused(w, giver, taker, mfn);
    w.grants.closeAccess(giver, 8, false);
    expect(w.update(giver, t.l1, 0, pte(page, P))).toBe(0);
    refused(w, giver, taker, page);
    expect(w.update(giver, t.l1, 0, 0n)).toBe(0);
    expect(transfer(w, giver, page)).toBe(GNTST.okay);
    expect(w.audit()).toEqual([]);
  });
});

describe('refused by the target, the frame is freed', () => {
  function lost(w: World, giver: DomainRef, page: number, fields: { domid?: number; ref?: number }): number {
    const before = used(w);
    const status = transfer(w, giver, page, fields);
    expect([used(w), giver.v.totalPages]).toEqual([before - 1, 0]);
    expect(w.mm.own.ownerOf(page)).toBeUndefined();
    expect(w.mm.own.m2p(page)).toBe(INVALID_M2P_ENTRY);
    expect(w.audit()).toEqual([]);
    return status;
  }

  test.each([9, DOMID.SELF, DOMID.XEN, DOMID.IO])('no such domain: %d', (domid) => {
    const { w, giver, page } = pair();
    expect(lost(w, giver, page, { domid })).toBe(GNTST.bad_domain);
  });

  test.each([1, 2])('no entry, or none for the caller, version %d', (version) => {
    const refusals: [ref: number, to: number, flags: number][] = [
      [100_000, 1, GTF.accept_transfer],
      [8, 3, GTF.accept_transfer],
      [8, 1, GTF.invalid],
      [8, 1, GTF.permit_access],
      [8, 1, GTF.transitive],
      [8, 1, GTF.accept_transfer | GTF.transfer_committed],
      [8, 1, DONE],
      [8, 1, GTF.accept_transfer | GTF.sub_page],
    ];
    for (const [ref, to, flags] of refusals) {
      const { w, giver, taker, page } = pair(version);
      offer(w, taker, 8, to, flags);
      expect(lost(w, giver, page, { ref })).toBe(GNTST.general_error);
      expect(headerOf(w, taker, 8)).toBe((to << 16) | flags);
      expect(frameOf(w, taker, 8)).toBe(BigInt(PFN));
    }
  });

  test('an offer that lies beyond the table', () => {
    const { w, giver, taker, page } = pair(2);
    // Where 128 shared frames of 256 entries would end, the status frames are listed, which the target may write.
    w.memory.dv.setUint32(w.grants.statusFrame(taker, 0) * 4096, (1 << 16) | GTF.accept_transfer, true);
    expect(lost(w, giver, page, { ref: 128 * 256 })).toBe(GNTST.general_error);
  });

  test('no room, or dying', () => {
    for (const spoil of [
      (taker: DomainRef) => void (taker.v.maxPages = 0),
      (taker: DomainRef) => void (taker.v.flags |= DomainFlag.dying),
    ]) {
      const { w, giver, taker, page } = pair();
      offer(w, taker, 8, 1);
      spoil(taker);
      expect(lost(w, giver, page, {})).toBe(GNTST.general_error);
      expect(headerOf(w, taker, 8)).toBe((1 << 16) | GTF.accept_transfer);
      expect(taker.v.totalPages).toBe(0);
    }
  });
});

describe('a target that changes its entry meanwhile', () => {
  /** Runs `body` with `flip` applied to the header before each of its first `times` exchanges. */
  function hostile(w: World, taker: DomainRef, times: number, flip: (header: number) => number, body: () => void): void {
    const { compareExchange } = Atomics;
    let left = times;
    const spy = jest.spyOn(Atomics, 'compareExchange').mockImplementation(((array: Uint32Array, i: number, old: number, value: number) => {
      if (array === w.memory.u32 && i === entryAt(w, taker, 8) / 4 && left-- > 0) array[i] = flip(array[i] ?? 0);
      return compareExchange(array, i, old, value);
    }) as typeof Atomics.compareExchange);
    try {
      body();
    } finally {
      spy.mockRestore();
    }
  } // prettier-ignore

  test.each([1, 2])('withdrawn or for another: nothing is given, version %d', (version) => {
    for (const header of [0, (3 << 16) | GTF.accept_transfer, (1 << 16) | GTF.permit_access]) {
      const { w, giver, taker, page } = pair(version);
      offer(w, taker, 8, 1);
      hostile(w, taker, 1, () => header, () => {
        expect(transfer(w, giver, page)).toBe(GNTST.general_error);
      }); // prettier-ignore
      expect(headerOf(w, taker, 8)).toBe(header);
      expect([giver.v.totalPages, taker.v.totalPages]).toEqual([0, 0]);
      expect(w.audit()).toEqual([]);
    }
  });

  test('flags that come and go at every look are no offer', () => {
    const { w, giver, taker, page } = pair();
    offer(w, taker, 8, 1);
    hostile(w, taker, Infinity, (header) => header ^ GTF.PCD, () => {
      expect(transfer(w, giver, page)).toBe(GNTST.general_error);
    }); // prettier-ignore
    expect(headerOf(w, taker, 8) & GTF.transfer_committed).toBe(0);
    expect(taker.v.totalPages).toBe(0);
    expect(w.audit()).toEqual([]);
  });

  test('after the commitment: the frame is given all the same, once', () => {
    const { w, giver, taker, page } = pair();
    offer(w, taker, 8, 1);
    const { or } = Atomics;
    const spy = jest.spyOn(Atomics, 'or').mockImplementation(((array: Uint32Array, i: number, value: number) => {
      if (array === w.memory.u32 && i === entryAt(w, taker, 8) / 4) array[i] = 0;
      return or(array, i, value);
    }) as typeof Atomics.or);
    expect(transfer(w, giver, page)).toBe(GNTST.okay);
    spy.mockRestore();
    expect(headerOf(w, taker, 8)).toBe(GTF.transfer_completed);
    expect([listed(w, giver), listed(w, taker)]).toEqual([[], [page]]);
    expect(w.audit()).toEqual([]);
  }); // prettier-ignore
});

test.each(['giver first', 'taker first'])('destruction leaks nothing: %s', (order) => {
  const { w, giver, taker, page } = pair();
  const [refused = 0] = w.frames(giver, 1);
  offer(w, taker, 8, 1);
  expect(transfer(w, giver, page)).toBe(GNTST.okay);
  expect(transfer(w, giver, refused, { domid: 9 })).toBe(GNTST.bad_domain);
  const domains = order === 'giver first' ? [giver, taker] : [taker, giver];
  for (const d of domains) w.destroy(d);
  for (const d of domains) w.grants.freeDomain(d);
  expect(domains.map((d) => w.mm.isRelinquished(d))).toEqual([true, true]);
  for (const d of domains) w.mm.freeDomain(d);
  // Two records of five frames are the lifecycle's.
  expect(used(w)).toBe(used(new World()) + 10);
});
