import { Errno } from '@xenhost/base';
import { DOMID, MemoryExchange, MemoryOp, MemoryReservation, MmuExt } from '@xenhost/xen-abi';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { INVALID_M2P_ENTRY } from './api.ts';
import { P, pte, RW, view64, World } from './world.test-kit.ts';

const LIST = 0x4000n;

function putList(w: World, values: readonly number[], at = LIST): void {
  const bytes = new Uint8Array(values.length * 8);
  const dv = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) dv.setBigUint64(i * 8, BigInt(value), true);
  w.arena.write(at, bytes);
}
const getList = (w: World, nr: number, at = LIST): number[] =>
  Array.from({ length: nr }, (_, i) => Number(view64(w.arena.read(at, nr * 8) ?? new Uint8Array(), i * 8)));

function reserve(w: World, d: DomainRef, op: number, nr: number, options: { order?: number; flags?: number; of?: number; tool?: boolean; list?: bigint } = {}): number {
  const { bytes } = MemoryReservation.create({
    extent_start: options.list ?? LIST, nr_extents: BigInt(nr), extent_order: options.order ?? 0, mem_flags: options.flags ?? 0,
    domid: options.of ?? DOMID.SELF,
  });
  return w.memoryOp(d, op, bytes, options.tool ?? false);
} // prettier-ignore

describe('reservations', () => {
  test('populate tells frames and writes the M2P; decrease gives them back', () => {
    const w = new World();
    const d = w.domain(1);
    putList(w, [100, 200, 300]);
    const free = w.mm.heapInfo().freeFrames;
    expect(reserve(w, d, MemoryOp.populate_physmap, 3)).toBe(3);
    const mfns = getList(w, 3);
    expect(mfns.map((mfn) => w.mm.pfnOf(mfn))).toEqual([100, 200, 300]);
    expect(d.v.totalPages).toBe(3);
    expect(reserve(w, d, MemoryOp.decrease_reservation, 3)).toBe(3);
    expect(mfns.map((mfn) => w.mm.own.m2p(mfn))).toEqual([INVALID_M2P_ENTRY, INVALID_M2P_ENTRY, INVALID_M2P_ENTRY]);
    expect(w.mm.heapInfo().freeFrames).toBe(free);
    expect(w.audit()).toEqual([]);
  });

  test('populate stops where its list does, and takes no frame beyond', () => {
    const w = new World();
    const d = w.domain(1);
    const end = 0x1000n + BigInt(w.arena.bytes.length);
    const list = end - 80n * 8n;
    putList(
      w,
      Array.from({ length: 80 }, (_, i) => 1000 + i),
      list,
    );
    expect(reserve(w, d, MemoryOp.populate_physmap, 100, { list })).toBe(80);
    expect(getList(w, 80, list).map((mfn) => w.mm.pfnOf(mfn))).toEqual(Array.from({ length: 80 }, (_, i) => 1000 + i));
    expect(d.v.totalPages).toBe(80);
    expect(w.audit()).toEqual([]);
  });

  test('the limit of the domain holds to the frame', () => {
    const w = new World();
    const d = w.domain(1, { maxPages: 4 });
    putList(w, [1, 2, 3, 4, 5]);
    expect(reserve(w, d, MemoryOp.populate_physmap, 5)).toBe(4);
    expect(reserve(w, d, MemoryOp.increase_reservation, 1)).toBe(0);
  });

  test("orders: a guest's largest is 9, the tools' 18", () => {
    const w = new World(8192);
    const d = w.domain(1, { maxPages: 4096 });
    const dom0 = w.domain(0, { flags: DomainFlag.privileged });
    putList(w, [0]);
    expect(reserve(w, d, MemoryOp.populate_physmap, 1, { order: 9 })).toBe(1);
    expect((getList(w, 1)[0] ?? 1) % 512).toBe(0);
    expect(reserve(w, d, MemoryOp.populate_physmap, 1, { order: 10 })).toBe(0);
    putList(w, [512]);
    expect(reserve(w, dom0, MemoryOp.populate_physmap, 1, { order: 10, of: 1, tool: true })).toBe(1);
  });

  test('of another domain: not for guests', () => {
    const w = new World();
    const [d, other] = [w.domain(1), w.domain(2)];
    putList(w, [1]);
    expect(reserve(w, d, MemoryOp.populate_physmap, 1, { of: other.domid })).toBe(0);
    putList(w, w.frames(other, 1));
    expect(reserve(w, d, MemoryOp.decrease_reservation, 1)).toBe(0);
  });

  test('a frame that is still mapped goes when the mapping does', () => {
    const w = new World();
    const d = w.domain(1);
    const [page = 0] = w.frames(d, 1);
    const t = w.tables(d, [page]);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    putList(w, [page]);
    expect(reserve(w, d, MemoryOp.decrease_reservation, 1)).toBe(1);
    expect(w.mm.own.isLive(page)).toBe(true);
    expect(w.audit()).toEqual([]);
    expect(w.update(d, t.l1, 0, 0n)).toBe(0);
    expect(w.mm.own.isLive(page)).toBe(false);
    expect(d.v.totalPages).toBe(4);
  });

  test('freed frames come back zeroed, after a flush', () => {
    const w = new World();
    const [a, b] = [w.domain(1), w.domain(2)];
    const [page = 0] = w.frames(a, 1);
    w.memory.frame(page).fill(0x5a);
    putList(w, [page]);
    expect(reserve(w, a, MemoryOp.decrease_reservation, 1)).toBe(1);
    w.flushes.length = 0;
    expect(w.frames(b, 1)).toEqual([page]);
    expect(w.flushes).toEqual(['all']);
    expect(w.memory.frame(page).every((byte) => byte === 0)).toBe(true);
  });

  test.each([0x0101, 0x20101, 0xff00, 0x2ff00, 12])('node and address flags 0x%s survive', (flags) => {
    const w = new World();
    const d = w.domain(1);
    expect([0, 1]).toContain(reserve(w, d, MemoryOp.increase_reservation, 1, { flags }));
    expect(w.audit()).toEqual([]);
  });
});

describe('exchange', () => {
  const exchange = (w: World, d: DomainRef, fields: { nr: bigint; list: bigint; out: bigint; done?: bigint; order?: number }): { result: number; done: bigint } => {
    const bytes = new Uint8Array(MemoryExchange.size);
    const reservation = (list: bigint, nr: bigint, order: number) =>
      MemoryReservation.create({ extent_start: list, nr_extents: nr, extent_order: order, domid: DOMID.SELF }).bytes;
    const order = fields.order ?? 0;
    bytes.set(reservation(fields.list, fields.nr << BigInt(order), 0), MemoryExchange.offsets.in);
    bytes.set(reservation(fields.out, fields.nr, order), MemoryExchange.offsets.out);
    new DataView(bytes.buffer).setBigUint64(MemoryExchange.offsets.nr_exchanged, fields.done ?? 0n, true);
    const result = w.memoryOp(d, MemoryOp.exchange, bytes);
    return { result, done: view64(bytes, MemoryExchange.offsets.nr_exchanged) };
  }; // prettier-ignore

  test('single frames for a contiguous extent', () => {
    const w = new World();
    const d = w.domain(1);
    const pages = w.frames(d, 4);
    putList(w, pages);
    putList(w, [40], 0x5000n);
    expect(exchange(w, d, { nr: 1n, list: LIST, out: 0x5000n, order: 2 })).toEqual({ result: 0, done: 4n });
    const [first = 0] = getList(w, 1, 0x5000n);
    expect([0, 1, 2, 3].map((i) => w.mm.pfnOf(first + i))).toEqual([40, 41, 42, 43]);
    expect(d.v.totalPages).toBe(4);
    expect(w.audit()).toEqual([]);
  });

  test('a mapped frame refuses the chunk and nothing is lost', () => {
    const w = new World();
    const d = w.domain(1);
    const pages = w.frames(d, 2);
    const t = w.tables(d, [pages[1] ?? 0]);
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    putList(w, pages);
    putList(w, [7], 0x5000n);
    const total = d.v.totalPages;
    expect(exchange(w, d, { nr: 1n, list: LIST, out: 0x5000n, order: 1 })).toEqual({ result: -Errno.EINVAL, done: 0n });
    expect(d.v.totalPages).toBe(total);
    expect(w.audit()).toEqual([]);
  });

  test.each([
    ['a list that is not there', { nr: 1n, list: 1n << 60n, out: LIST }, -Errno.EFAULT],
    ['an answer that cannot be written (XSA-212)', { nr: 1n, list: LIST, out: 0xffff800000000000n }, -Errno.EFAULT],
    ['more done than asked for', { nr: 1n, list: LIST, out: LIST, done: 2n }, -Errno.EINVAL],
    ['counts that overflow', { nr: 1n << 62n, list: LIST, out: LIST }, -Errno.EINVAL],
    ['too large an order', { nr: 1n, list: LIST, out: LIST, order: 19 }, -Errno.EPERM],
  ])('%s', (_, fields, errno) => {
    const w = new World();
    const d = w.domain(1);
    putList(w, w.frames(d, 1));
    expect(exchange(w, d, fields).result).toBe(errno);
    expect(d.v.totalPages).toBe(1);
    expect(w.audit()).toEqual([]);
  });
});

describe('writable page tables', () => {
  test('a store is checked like an update; a compare-and-exchange tells what is there', () => {
    const w = new World();
    const d = w.domain(1);
    const [page = 0] = w.frames(d, 1);
    const t = w.tables(d);
    w.poke(t.l1, 0, pte(t.l1, P));
    expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
    expect(w.ext(d, MmuExt.NEW_BASEPTR, t.l4)).toBe(0);
    const store = (slot: number, value: bigint, expected?: bigint) =>
      w.mm.ptWrite(w.vcpu(d), w.engine(), BigInt(slot * 8), 8, value, expected);
    expect(store(1, pte(page, P | RW))).toEqual({ kind: 'stored' });
    expect(store(2, pte(t.l1, P | RW))).toEqual({ kind: 'refused' });
    const held = w.peek(t.l1, 1);
    expect(store(1, 0n, pte(page, P))).toEqual({ kind: 'mismatch', current: held });
    expect(store(1, 0n, held)).toEqual({ kind: 'stored' });
    expect(w.mm.frames.typeCount(page)).toBe(0);
    expect(w.audit()).toEqual([]);
  });
});
