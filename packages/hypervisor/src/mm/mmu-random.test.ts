import fc from 'fast-check';
import { MmuExt } from '@xenhost/xen-abi';
import { P, pte, RW, US, World } from './world.test-kit.ts';

/** Frames of a domain that a hostile guest plays with, and the steps it takes. */
const NR_FRAMES = 12;
type Step =
  | { readonly kind: 'update'; readonly table: number; readonly slot: number; readonly target: number; readonly flags: number }
  | { readonly kind: 'pin' | 'base' | 'user'; readonly frame: number; readonly level: number }
  | { readonly kind: 'unpin' | 'clear' | 'balloon' | 'gdt'; readonly frame: number }
  | { readonly kind: 'write'; readonly slot: number; readonly target: number; readonly flags: number }; // prettier-ignore

const frame = fc.nat(NR_FRAMES - 1);
const flags = fc.constantFrom(0, 1, 3, 5, 7, 0x87, 0x17);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('update' as const), table: frame, slot: fc.constantFrom(0, 1, 2, 256, 260, 511), target: frame, flags }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('pin' as const, 'base' as const, 'user' as const), frame, level: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom('unpin' as const, 'clear' as const, 'balloon' as const, 'gdt' as const), frame }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('write' as const), slot: fc.constantFrom(0, 1, 2), target: frame, flags }) },
); // prettier-ignore

/** What lies in the frames before: entries that may or may not do. */
const contents = fc.array(
  fc.record({ table: frame, slot: fc.nat(3), target: frame, flags: fc.constantFrom(1, 1, 3, 5, 7, 0x87) }),
  { minLength: 12, maxLength: 24 },
);

function take(w: World, frames: readonly number[], s: Step, impatient: boolean): void {
  const d = w.domains.get(1);
  if (!d) throw new Error('no domain');
  const mfn = (i: number): number => frames[i] ?? 0;
  if (impatient) w.patience = 1;
  switch (s.kind) {
    case 'update':
      w.update(d, mfn(s.table), s.slot, pte(mfn(s.target), BigInt(s.flags)));
      break;
    case 'pin':
      w.ext(d, MmuExt.PIN_L1_TABLE + s.level - 1, mfn(s.frame));
      break;
    case 'base':
      w.ext(d, MmuExt.NEW_BASEPTR, mfn(s.frame));
      break;
    case 'user':
      w.ext(d, MmuExt.NEW_USER_BASEPTR, s.level === 1 ? 0 : mfn(s.frame));
      break;
    case 'unpin':
      w.ext(d, MmuExt.UNPIN_TABLE, mfn(s.frame));
      break;
    case 'clear':
      w.ext(d, MmuExt.CLEAR_PAGE, mfn(s.frame));
      break;
    case 'balloon': {
      const bytes = new Uint8Array(32);
      const dv = new DataView(bytes.buffer);
      dv.setBigUint64(0, 0x3000n, true);
      dv.setBigUint64(8, 1n, true);
      dv.setUint16(24, 0x7ff0, true);
      const list = new Uint8Array(8);
      new DataView(list.buffer).setBigUint64(0, BigInt(mfn(s.frame)), true);
      w.arena.write(0x3000n, list);
      w.memoryOp(d, 1, bytes);
      break;
    }
    case 'gdt':
      w.mm.setGdt(w.vcpu(d), [BigInt(mfn(s.frame))], 512);
      break;
    case 'write':
      w.mm.ptWrite(w.vcpu(d), w.engine(), BigInt(s.slot * 8), 8, pte(mfn(s.target), BigInt(s.flags)));
  }
}

test.each([['at leisure', false], ['always interrupted', true]])('no sequence of requests unbalances the counts, %s', (_, impatient) => {
  fc.assert(
    fc.property(contents, fc.array(step, { minLength: 40, maxLength: 80 }), (before, steps) => {
      const w = new World(256 + 1024);
      const free = w.mm.heapInfo().freeFrames;
      const d = w.domain(1);
      const t = w.tables(d);
      // The first address maps the L1 itself read-only, for stores to it.
      w.poke(t.l1, 0, pte(t.l1, P | US));
      const frames = [t.l4, t.l3, t.l2, t.l1, ...w.frames(d, NR_FRAMES - 4)];
      expect(w.ext(d, MmuExt.PIN_L4_TABLE, t.l4)).toBe(0);
      expect(w.ext(d, MmuExt.NEW_BASEPTR, t.l4)).toBe(0);
      for (const { table, slot, target, flags: bits } of before)
        if (table > 3) w.poke(frames[table] ?? 0, slot, pte(frames[target] ?? 0, BigInt(bits)));
      for (const s of steps) {
        take(w, frames, s, impatient);
        const problems = w.audit();
        if (problems.length > 0) throw new Error(problems.join('\n'));
      }
      w.destroy(d);
      w.grants.freeDomain(d);
      expect(w.mm.isRelinquished(d)).toBe(true);
      w.mm.freeDomain(d);
      // The records of the domain and its vCPU are the lifecycle's to free.
      expect(w.mm.heapInfo().freeFrames).toBe(free - 5);
    }),
    { numRuns: 100 },
  );
}); // prettier-ignore

test('writable mappings never reach a table in use', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 30, maxLength: 60 }), (steps) => {
      const w = new World(256 + 1024);
      const d = w.domain(1);
      const t = w.tables(d);
      const frames = [t.l4, t.l3, t.l2, t.l1, ...w.frames(d, NR_FRAMES - 4)];
      w.poke(t.l1, 1, pte(frames[5] ?? 0, P | RW));
      w.ext(d, MmuExt.PIN_L4_TABLE, t.l4);
      for (const s of steps) take(w, frames, s, false);
      for (const table of frames) {
        if (!w.mm.types.isTableInUse(table) || w.mm.frames.type(table) !== 1) continue;
        for (let slot = 0; slot < 512; slot++) {
          const entry = w.peek(table, slot);
          if ((entry & (P | RW)) !== (P | RW)) continue;
          expect(w.mm.types.isTableInUse(Number((entry >> 12n) & 0xffffffn))).toBe(false);
        }
      }
    }),
    { numRuns: 100 },
  );
});
