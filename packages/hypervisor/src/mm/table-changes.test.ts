/** Every way in which a present entry of a page table in use goes or allows less is told to the engines' side. */
import { MmuCommand, MmuExt, UVMF } from '@xenhost/xen-abi';
import { FrameType } from './api.ts';
import { A, D, P, RW, US, World, pte } from './world.test-kit.ts';

const NX = 1n << 63n;

/** A domain whose kernel runs on tables of its own, with two writable data pages in slots 0 and 1. */
function guest() {
  const world = new World();
  const domain = world.domain(1);
  const data = world.frames(domain, 3);
  const tables = world.tables(domain, data.slice(0, 2));
  expect(world.ext(domain, MmuExt.PIN_L4_TABLE, tables.l4)).toBe(0);
  expect(world.mm.setBaseTable(world.vcpu(domain), BigInt(tables.l4), false)).toBe(0);
  world.changes.length = 0;
  const [first = 0, , spare = 0] = data;
  return { world, domain, tables, first, spare };
}

test.each<[string, (mfn: number, spare: number) => bigint, boolean]>([
  ['taken away', () => 0n, true],
  ['to another frame', (_mfn, spare) => pte(spare, P | RW | US | A | D), true],
  ['made read-only', (mfn) => pte(mfn, P | US | A | D), true],
  ['without its dirty bit', (mfn) => pte(mfn, P | RW | US | A), true],
  ['without its accessed bit', (mfn) => pte(mfn, P | RW | US | D), true],
  ['made not executable', (mfn) => pte(mfn, P | RW | US | A | D | NX), true],
  ['as it was', (mfn) => pte(mfn, P | RW | US | A | D), false],
  ['with a bit of the guest’s own', (mfn) => pte(mfn, P | RW | US | A | D | 0x200n), false],
])('mmu_update of a leaf, %s', (_name, value, isTold) => {
  const { world, domain, tables, first, spare } = guest();
  expect(world.update(domain, tables.l1, 0, pte(first, P | RW | US | A | D))).toBe(0);
  world.changes.length = 0;
  expect(world.update(domain, tables.l1, 0, value(first, spare))).toBe(0);
  expect(world.changes).toEqual(isTold ? [`d1 leaf 0 ${first}`] : []);
});

test('a leaf that was not there, or that allows more now, tells nothing', () => {
  const { world, domain, tables, first } = guest();
  expect(world.update(domain, tables.l1, 7, pte(first, P | US))).toBe(0);
  expect(world.update(domain, tables.l1, 7, pte(first, P | RW | US | A | D))).toBe(0);
  expect(world.changes).toEqual([]);
});

test('update_va_mapping and preserved A and D bits', () => {
  const { world, domain, tables, first } = guest();
  const { update_va_mapping } = world.mm.hypercalls;
  expect(world.run(update_va_mapping, domain, [0n, 0n, BigInt(UVMF.NONE)])).toBe(0);
  expect(world.changes).toEqual([`d1 leaf 0 ${first}`]);
  expect(world.update(domain, tables.l1, 1, 0n, BigInt(MmuCommand.preserveAd))).toBe(0);
  expect(world.changes).toHaveLength(2);
});

test('an entry of an upper table, before anything is released', () => {
  const { world, domain, tables } = guest();
  expect(world.update(domain, tables.l2, 0, 0n)).toBe(0);
  expect(world.changes).toEqual(['d1 upper']);
  expect(world.flushes).toContain('d1 ffffffff');
});

test('a root that is unpinned and no longer used; one that is still used is not', () => {
  const { world, domain, tables } = guest();
  expect(world.ext(domain, MmuExt.UNPIN_TABLE, tables.l4)).toBe(0);
  expect(world.changes).toEqual([]);
  world.mm.resetVcpu(world.vcpu(domain));
  expect(world.changes).toEqual([`d1 root ${tables.l4}`]);
  expect(world.mm.frames.type(tables.l4)).toBe(FrameType.l4);
});
