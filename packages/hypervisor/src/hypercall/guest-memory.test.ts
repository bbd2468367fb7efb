/** What lies in one page is found by the TLB: it must come out as by a walk for every access. */
import type { Engine } from '@xenhost/cpu';
import fc from 'fast-check';
import { HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START } from '../mm/api.ts';
import { MachineMemory } from '../state/machine-memory.ts';
import { GuestMemory } from './guest-memory.ts';

const BASE = 0x7fff_f000n;
/** Frames behind the pages from BASE on, in no order; 0 is not mapped. Pages of odd number are read-only. */
const FRAMES = [5, 3, 4, 0, 7, 6];

/** A guest's address space over a machine memory of its own; without `tlb` only walks are answered. */
function guest(tlb: boolean) {
  const memory = MachineMemory.allocate(16 * 4096);
  memory.u8.forEach((_, i) => (memory.u8[i] = (i * 7) ^ (i >> 8)));
  const place = (address: bigint, isWrite: boolean): number => {
    // Xen's part has the same pages, which a guest must not reach.
    const inXen = address >= HYPERVISOR_VIRT_START && address < HYPERVISOR_VIRT_END;
    const page = Number((address - (inXen ? HYPERVISOR_VIRT_START : BASE)) >> 12n);
    const frame = FRAMES[page] ?? 0;
    return frame === 0 || (isWrite && page % 2 === 1) ? -1 : frame * 4096 + Number(address & 4095n);
  };
  const access = (address: bigint, bytes: Uint8Array, isWrite: boolean) => {
    const places = Array.from(bytes, (_, i) => place(address + BigInt(i), isWrite));
    if (places.includes(-1)) return { address, errorCode: 0 };
    for (const [i, at] of places.entries())
      if (isWrite) memory.u8[at] = bytes[i] ?? 0;
      else bytes[i] = memory.u8[at] ?? 0;
    return undefined;
  };
  const engine = {
    readVirtual: (address: bigint, into: Uint8Array) => access(address, into, false),
    writeVirtual: (address: bigint, from: Uint8Array) => access(address, from, true),
    hostAddress: (low: number, high: number, isWrite: boolean) =>
      tlb ? place((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0), isWrite) : -1,
  } as unknown as Engine;
  return { memory, guest: new GuestMemory(engine, memory) };
}

const address = fc.oneof(
  { weight: 6, arbitrary: fc.nat(6 * 4096).map((at) => BASE - 64n + BigInt(at)) },
  fc.nat(200).map((at) => HYPERVISOR_VIRT_START - 100n + BigInt(at)),
  fc.nat(200).map((at) => (1n << 64n) - BigInt(at + 1)),
);

test('reads and writes by the TLB are those by walks', () => {
  const [fast, slow] = [guest(true), guest(false)];
  fc.assert(
    fc.property(address, fc.uint8Array({ maxLength: 100 }), (at, bytes) => {
      expect(fast.guest.write(at, bytes)).toBe(slow.guest.write(at, bytes));
      expect(fast.guest.read(at, bytes.length)).toEqual(slow.guest.read(at, bytes.length));
    }),
    { numRuns: 2000 },
  );
  expect(fast.memory.u8).toEqual(slow.memory.u8);
});

test('words are what bytes are, where they can be had at once', () => {
  const { guest: memory } = guest(true);
  let had = 0;
  fc.assert(
    fc.property(address, fc.integer({ min: 1, max: 24 }), (at, nr) => {
      const words = new Uint32Array(24);
      const bytes = memory.read(at, nr * 4);
      if (!memory.readWords(at, nr, words)) {
        // Not there, over a page's edge or not aligned: nothing was given.
        expect(bytes === undefined || (at & 3n) !== 0n || (at & 4095n) + BigInt(nr * 4) > 4096n).toBe(true);
        return;
      }
      had++;
      expect(new Uint8Array(words.buffer, 0, nr * 4)).toEqual(bytes);
    }),
    { numRuns: 1000 },
  );
  expect(had).toBeGreaterThan(50);
});
