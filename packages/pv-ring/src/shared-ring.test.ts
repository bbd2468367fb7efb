import fc from 'fast-check';
import { BackRing, ringIndex, ringShape, slotOffset } from './index.ts';
import type { RingWrite } from './index.ts';
import { FrontRing } from './testing/index.ts';

/** Entries as Xen's `__CONST_RING_SIZE` gives them: blkif, netif tx and rx, and blkif over several pages. */
test.each([
  [112, 1, 32],
  [108, 1, 32],
  [112, 2, 64],
  [112, 4, 128],
  [112, 16, 512],
  [12, 1, 256],
  [8, 1, 256],
])('ringShape(%i bytes, %i pages) has %i entries', (entryBytes, pages, entries) => {
  expect(ringShape(entryBytes, pages).entries).toBe(entries);
});

const page = (): Uint8Array => new Uint8Array(4096);
const apply = (front: FrontRing, writes: readonly RingWrite[]): void => {
  for (const { page: number, offset, data } of writes) {
    expect(offset + data.length).toBeLessThanOrEqual(4096);
    front.pages[number]?.set(data, offset);
  }
};
const wrap = (n: number): number => n >>> 0;

test.each([
  ['none', 0, 0],
  ['a full ring', 32, 32],
  ['one more than the ring holds', 33, undefined],
  ['an older copy of the page', -1, 0],
  ['a whole ring back', -32, 0],
  ['further back', -33, undefined],
  ['far away', 0x8000_0000, undefined],
])('unconsumed: %s', (_, ahead, expected) => {
  for (const position of [0, 7, 0xffff_fff0]) {
    const ring = new BackRing(ringShape(112), position);
    expect(ring.unconsumed(wrap(position + ahead))).toBe(expected);
  }
});

test('requests taken but unanswered take room', () => {
  const ring = new BackRing(ringShape(112), 100);
  ring.take(10);
  expect(ring.unconsumed(110)).toBe(0);
  expect(ring.unconsumed(132)).toBe(22);
  expect(ring.unconsumed(133)).toBeUndefined();
  ring.respond(new Uint8Array(16));
  expect(ring.unconsumed(133)).toBe(23);
});

test('our own mistakes throw', () => {
  const ring = new BackRing(ringShape(12));
  expect(() => {
    ring.respond(new Uint8Array(4));
  }).toThrow(RangeError);
  ring.take(1);
  expect(() => {
    ring.respond(new Uint8Array(13));
  }).toThrow(RangeError);
  expect(ring.push()).toBeUndefined();
});

/** Both halves play at random; what arrives, in which order, and who is notified is compared with plain queues. */
test('every request arrives once and in order, every response too, at any index and ring size', () => {
  const action = fc.oneof(
    fc.record({ do: fc.constant('request' as const), count: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ do: fc.constant('take' as const), count: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ do: fc.constant('respond' as const), count: fc.integer({ min: 1, max: 20 }) }),
    fc.record({ do: fc.constant('collect' as const), count: fc.constant(0) }),
  );
  const shapes = fc.constantFrom(ringShape(112), ringShape(112, 2), ringShape(108, 4), ringShape(12), ringShape(8));
  fc.assert(
    fc.property(shapes, fc.nat(0xffff_ffff), fc.array(action, { maxLength: 60 }), (shape, position, actions) => {
      const front = new FrontRing(shape, Array.from({ length: shape.pages }, page), position);
      const back = new BackRing(shape, ringIndex(front.bytes(), 'rsp_prod'));
      let sent = 0;
      let taken = 0;
      let answered = 0;
      let collected = 0;
      const entry = (n: number): Buffer => Buffer.alloc(shape.entryBytes, (n % 255) + 1);
      const answer = (n: number): Uint8Array => Uint8Array.of(n & 0xff, (n >> 8) & 0xff, 0xaa, 0x55);
      for (const { do: what, count } of actions) {
        if (what === 'request') {
          for (let i = 0; i < count && front.free > 0; i++) front.request(entry(sent++));
          front.push();
        } else if (what === 'take') {
          const ring = front.bytes();
          const waiting = back.unconsumed(ringIndex(ring, 'req_prod'));
          expect(waiting).toBe(sent - taken);
          const n = Math.min(count, waiting ?? 0);
          for (let i = 0; i < n; i++) expect(entry(taken + i).equals(back.peek(ring, i))).toBe(true);
          back.take(n);
          taken += n;
        } else if (what === 'respond') {
          for (let i = 0; i < count && answered < taken; i++) back.respond(answer(answered++));
          const before = front.index('rsp_prod');
          const push = back.push();
          if (!push) continue;
          apply(front, push.writes);
          expect(push.from).toBe(before);
          expect(push.to).toBe(front.index('rsp_prod'));
          expect(push.to).toBe(wrap(position + answered));
          // ring.h: notify when (new - rsp_event) < (new - old)
          const event = front.index('rsp_event');
          const wanted = wrap(push.to - event) < wrap(push.to - push.from);
          const inside = wrap(event - push.from - 1) < wrap(push.to - push.from);
          expect(inside).toBe(wanted);
        } else {
          for (const response of front.responses(4)) expect(response).toEqual(answer(collected++));
          expect(collected).toBe(answered);
        }
        expect(back.unanswered).toBe(taken - answered);
        // What has no answer yet is still whole in the ring: a successor could begin at rsp_prod.
        for (let i = answered; i < sent; i++)
          if (!entry(i).equals(front.slot(wrap(position + i)))) throw new Error(`slot ${i}`);
      }
    }),
    { numRuns: 300 },
  );
});

test('the final check asks for an event at the next request', () => {
  const front = new FrontRing(ringShape(112), [page()], 0xffff_ffff);
  const back = new BackRing(front.shape, 0xffff_ffff);
  apply(front, [back.askEvent()]);
  front.request(new Uint8Array(112));
  expect(front.push()).toBe(true);
  // Nobody asked again: later ones are silent.
  front.request(new Uint8Array(112));
  expect(front.push()).toBe(false);
  back.take(2);
  apply(front, [back.askEvent()]);
  expect(front.index('req_event')).toBe(2);
});

test('a slot may lie across the boundary of two pages', () => {
  const shape = ringShape(108, 2);
  expect(slotOffset(shape, 37)).toBe(4060);
  const back = new BackRing(shape);
  back.take(40);
  for (let i = 0; i < 40; i++) back.respond(new Uint8Array(108).fill(i + 1));
  const front = new FrontRing(shape, [page(), page()]);
  apply(front, back.push()?.writes ?? []);
  const bytes = front.bytes();
  for (let i = 0; i < 40; i++) expect(bytes[slotOffset(shape, i) + 107]).toBe(i + 1);
  expect(ringIndex(bytes, 'rsp_prod')).toBe(40);
});
