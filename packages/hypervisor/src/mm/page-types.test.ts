import { Errno } from '@xenhost/base';
import { MmuExt } from '@xenhost/xen-abi';
import { FrameType } from './api.ts';
import { A, D, P, pte, RW, US, World } from './world.test-kit.ts';

const GUEST_KERNEL = 1n << 52n;
const GLOBAL = 0x100n;

describe('pin and unpin', () => {
  test('an L4 is validated down to its pages, and let go again', () => {
    const w = new World();
    const d = w.domain(1);
    const data = w.frames(d, 3);
    const { l4, l3, l2, l1 } = w.tables(d, data);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, l4)).toBe(0);
    expect([l4, l3, l2, l1, data[0] ?? 0].map((mfn) => w.mm.frames.type(mfn))).toEqual([
      4,
      3,
      2,
      1,
      FrameType.writable,
    ]);
    expect(w.audit()).toEqual([]);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, l4)).toBe(-Errno.EINVAL);
    expect(w.ext(d, MmuExt.UNPIN_TABLE, l4)).toBe(0);
    expect([l4, l3, l2, l1].map((mfn) => w.mm.frames.typeCount(mfn))).toEqual([0, 0, 0, 0]);
    expect(w.ext(d, MmuExt.UNPIN_TABLE, l4)).toBe(-Errno.EINVAL);
    expect(w.audit()).toEqual([]);
  });

  test('what Xen adds to entries', () => {
    const w = new World();
    const d = w.domain(1);
    const [kernel = 0, user = 0] = w.frames(d, 2);
    const { l4, l3, l1 } = w.tables(d);
    w.poke(l1, 0, pte(kernel, P | RW));
    w.poke(l1, 1, pte(user, P | US));
    w.poke(l4, 1, pte(l3, P));
    w.poke(l4, 300, pte(l3, P | RW));
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, l4)).toBe(0);
    expect(w.peek(l1, 0)).toBe(pte(kernel, P | RW | US | GUEST_KERNEL));
    expect(w.peek(l1, 1)).toBe(pte(user, P | US | GLOBAL));
    expect(w.peek(l4, 1)).toBe(pte(l3, P | US | A));
    expect((w.peek(l4, 256) >> 12n) & 0xffffffn).toBe(BigInt(w.core.header.m2pL3));
    expect(Number((w.peek(l4, 260) >> 12n) & 0xffffffn)).toBe(d.v.perDomainL3);
    expect(w.audit()).toEqual([]);
  });

  type Tables = ReturnType<World['tables']>;
  test.each<[string, number, (w: World, t: Tables) => void]>([
    ['a page table mapped writable', Errno.EBUSY, (w, t) => { w.poke(t.l1, 5, pte(t.l2, P | RW)); }],
    ['a large page', Errno.EINVAL, (w, t) => { w.poke(t.l2, 1, pte(t.l1, P | RW | US | 0x80n)); }],
    ['cache attributes', Errno.EINVAL, (w, t) => { w.poke(t.l1, 5, pte(t.l2, P | 0x10n)); }],
    ['a table of the wrong level', Errno.EINVAL, (w, t) => { w.poke(t.l4, 1, pte(t.l1, P | US)); }],
    ["a frame of Xen's", Errno.EBUSY, (w, t) => { w.poke(t.l1, 5, pte(w.core.header.m2pL3, P)); }],
    ['a frame beyond memory', Errno.EPERM, (w, t) => { w.poke(t.l1, 5, pte(1 << 24, P)); }],
    ['the M2P', Errno.EBUSY, (w, t) => { w.poke(t.l1, 5, pte(w.map.m2p, P | RW)); }],
  ])('%s is refused and leaves nothing behind', (_, errno, spoil) => {
    const w = new World();
    const d = w.domain(1);
    const t = w.tables(d, w.frames(d, 2));
    spoil(w, t);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(-errno);
    expect(w.ext(d, MmuExt.TLB_FLUSH_LOCAL, 0)).toBe(0);
    expect([t.l4, t.l3, t.l2, t.l1].map((mfn) => w.mm.frames.typeCount(mfn))).toEqual([0, 0, 0, 0]);
    expect(w.audit()).toEqual([]);
  }); // prettier-ignore

  test("another domain's frame is refused", () => {
    const w = new World();
    const [d, other] = [w.domain(1), w.domain(2)];
    const [foreign = 0] = w.frames(other, 1);
    const t = w.tables(d, [foreign]);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(-Errno.EBUSY);
    expect(w.ext(d, MmuExt.PIN_L1_TABLE, foreign)).toBe(-Errno.EINVAL);
    expect(w.audit()).toEqual([]);
  });

  test('a long validation and its release are cut into steps', () => {
    const w = new World(8192);
    const d = w.domain(1);
    const t = w.tables(d);
    for (let i = 1; i < 200; i++) w.poke(t.l2, i, pte(w.frames(d, 1)[0] ?? 0, P | RW | US));
    w.patience = 1;
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    expect(w.continuations).toBeGreaterThan(5);
    expect(w.audit()).toEqual([]);
    w.patience = 1;
    expect(w.ext(d, MmuExt.UNPIN_TABLE, t.l4)).toBe(0);
    expect(w.continuations).toBeGreaterThan(5);
    expect(w.mm.frames.typeCount(t.l1)).toBe(0);
    expect(w.audit()).toEqual([]);
  });

  test('an interrupted validation that nobody resumes costs nothing at destruction', () => {
    const w = new World(8192);
    const free = w.mm.heapInfo().freeFrames;
    const d = w.domain(1);
    const t = w.tables(d);
    for (let i = 1; i < 200; i++) w.poke(t.l2, i, pte(w.frames(d, 1)[0] ?? 0, P | RW | US));
    w.patience = 1;
    const { bytes } = { bytes: new Uint8Array(24) };
    new DataView(bytes.buffer).setUint32(0, MmuExt.PIN_L4_TABLE, true);
    new DataView(bytes.buffer).setBigUint64(8, BigInt(t.l4), true);
    w.arena.write(0x1000n, bytes);
    expect(w.mm.hypercalls.mmuext_op(w.call(d, [0x1000n, 1n, 0n, 0x7ff0n]))).toBe('continue');
    expect(w.audit()).toEqual([]);
    // The table is taken: no other type, no writes.
    expect(w.mm.foreignFrame(d, t.l4, true)).toBe(-Errno.EBUSY);
    w.destroy(d);
    w.grants.freeDomain(d);
    expect(w.mm.isRelinquished(d)).toBe(true);
    w.mm.freeDomain(d);
    expect(w.mm.heapInfo().freeFrames).toBe(free - 1 - 4);
  });
});

describe('exclusive types', () => {
  test('a table in use cannot be mapped writable, a writable page cannot be a table', () => {
    const w = new World();
    const d = w.domain(1);
    const [page = 0, other = 0] = w.frames(d, 2);
    const t = w.tables(d, [page]);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    expect(w.update(d, t.l1, 1, pte(t.l1, P | RW))).toBe(-Errno.EBUSY);
    expect(w.update(d, t.l1, 1, pte(t.l1, P))).toBe(0);
    expect(w.ext(d, MmuExt.PIN_L1_TABLE, page)).toBe(-Errno.EINVAL);
    expect(w.update(d, t.l1, 0, pte(page, P))).toBe(0);
    w.flushes.length = 0;
    expect(w.ext(d, MmuExt.PIN_L1_TABLE, page)).toBe(0);
    // Writable translations may still have been cached.
    expect(w.flushes).toContain('all');
    expect(w.update(d, t.l1, 0, pte(page, P | RW))).toBe(-Errno.EBUSY);
    expect(w.update(d, t.l2, 1, pte(other, P | RW | US))).toBe(0);
    expect(w.mm.frames.type(other)).toBe(FrameType.l1);
    expect(w.audit()).toEqual([]);
  });

  test('one flush serves all frames that were let go before it', () => {
    const w = new World();
    const d = w.domain(1);
    const pages = w.frames(d, 4);
    const t = w.tables(d, pages);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    for (const [slot] of pages.entries()) expect(w.update(d, t.l1, slot, 0n)).toBe(0);
    w.flushes.length = 0;
    for (const page of pages) expect(w.ext(d, MmuExt.PIN_L1_TABLE, page)).toBe(0);
    expect(w.flushes.filter((flush) => flush === 'all')).toHaveLength(1);
  });
});

describe('linear page tables', () => {
  test('read-only to itself, as XSA-182 demands', () => {
    const w = new World();
    const d = w.domain(1);
    const t = w.tables(d);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    expect(w.update(d, t.l4, 1, pte(t.l4, P | US | A | D))).toBe(0);
    expect(w.update(d, t.l4, 1, pte(t.l4, P | RW | US | A | D))).toBe(-Errno.EINVAL);
    expect(w.update(d, t.l4, 2, pte(t.l4, P | RW | US))).toBe(-Errno.EINVAL);
    expect(w.audit()).toEqual([]);
    expect(w.ext(d, MmuExt.UNPIN_TABLE, t.l4)).toBe(0);
    expect(w.audit()).toEqual([]);
  });

  test('one level deep, as XSA-240 demands', () => {
    const w = new World();
    const d = w.domain(1);
    const [a, b, c] = [w.tables(d), w.tables(d), w.tables(d)];
    for (const t of [a, b, c]) expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    expect(w.update(d, a.l4, 1, pte(b.l4, P | US))).toBe(0);
    expect(w.update(d, b.l4, 1, pte(c.l4, P | US))).toBe(-Errno.EINVAL);
    expect(w.update(d, c.l4, 1, pte(a.l4, P | US))).toBe(-Errno.EINVAL);
    expect(w.audit()).toEqual([]);
    expect(w.ext(d, MmuExt.UNPIN_TABLE, b.l4)).toBe(0);
    expect(w.mm.frames.typeCount(b.l4)).toBe(1);
    expect(w.ext(d, MmuExt.UNPIN_TABLE, a.l4)).toBe(0);
    expect(w.mm.frames.typeCount(b.l4)).toBe(0);
    expect(w.audit()).toEqual([]);
  });
});

describe('Xen slots', () => {
  test.each([256, 260, 271])('slot %d of an L4 cannot be changed', (slot) => {
    const w = new World();
    const d = w.domain(1);
    const t = w.tables(d);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    const before = w.peek(t.l4, slot);
    expect(w.update(d, t.l4, slot, pte(t.l3, P | RW | US))).toBe(-Errno.EINVAL);
    expect(w.update(d, t.l4, slot, 0n)).toBe(-Errno.EINVAL);
    expect(w.peek(t.l4, slot)).toBe(before);
    expect(w.update(d, t.l4, slot === 271 ? 272 : 255, pte(t.l3, P | RW | US))).toBe(0);
  });
});
