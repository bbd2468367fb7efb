import fc from 'fast-check';
import type { EthernetFrame } from '../switch/frame.ts';
import { PART_HEADER_BYTES, partsOf, Reassembly } from './fragments.ts';
import { MAX_REASSEMBLIES, REASSEMBLY_MS } from './limits.ts';

const frames: fc.Arbitrary<EthernetFrame> = fc
  .tuple(
    fc.uint8Array({ minLength: 14, maxLength: 5000 }),
    fc.constantFrom('complete' as const, 'partial' as const),
    fc.option(
      fc.record({
        type: fc.constantFrom('tcpv4' as const, 'tcpv6' as const),
        size: fc.integer({ min: 1, max: 65_535 }),
      }),
      { nil: undefined },
    ),
  )
  .map(([bytes, checksum, gso]) => (gso ? { bytes, checksum, gso } : { bytes, checksum }));

test('frames come out as they went in, whatever the order of their parts', () => {
  fc.assert(
    fc.property(
      fc.array(frames, { maxLength: 6 }),
      fc.integer({ min: PART_HEADER_BYTES + 100, max: 2000 }),
      fc.infiniteStream(fc.nat()),
      (sent, room, order) => {
        const parts = sent.flatMap((frame, i) => partsOf(frame, i, room));
        for (const part of parts) expect(part.length).toBeLessThanOrEqual(room);
        const shuffled = parts
          .map((part) => [order.next().value, part] as const)
          .sort(([a], [b]) => a - b)
          .map(([, part]) => part);
        const reassembly = new Reassembly();
        const got = shuffled.flatMap((part) => reassembly.add(part, 0) ?? []);
        const text = (frame: EthernetFrame): string => JSON.stringify({ ...frame, bytes: [...frame.bytes] });
        expect(got.map(text).sort()).toEqual(sent.map(text).sort());
        expect(reassembly.waiting).toBe(0);
      },
    ),
  );
});

test('frames that never become whole have a bound and an age', () => {
  const reassembly = new Reassembly();
  const frame: EthernetFrame = { bytes: new Uint8Array(3000), checksum: 'complete' };
  const first = (number: number): Uint8Array => partsOf(frame, number, 1000)[0] ?? new Uint8Array(0);
  for (let i = 0; i < 10 * MAX_REASSEMBLIES; i += 1) reassembly.add(first(i), 0);
  expect(reassembly.waiting).toBe(MAX_REASSEMBLIES);
  reassembly.add(first(99_999), REASSEMBLY_MS + 1);
  expect(reassembly.waiting).toBe(1);
});

test('no bytes make it throw or hold more than a frame', () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 60 }), { maxLength: 20 }), (parts) => {
      const reassembly = new Reassembly();
      for (const part of parts) reassembly.add(part, 0);
      expect(reassembly.waiting).toBeLessThanOrEqual(parts.length);
    }),
  );
  const huge = Uint8Array.from([0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1]);
  expect(new Reassembly().add(huge, 0)).toBeUndefined();
});
