import fc from 'fast-check';
import { SILENCE_MS, REPLAY_WINDOW } from './limits.ts';
import { LinkSession, ReplayWindow, SEAL_BYTES, type SessionEvent } from './session.ts';

const secret = 'correct horse battery staple';

/** Two ends whose packets wait to be carried, recorded, changed or lost. */
function ends(other: Partial<{ secret: string; name: string }> = {}) {
  const wires: [Uint8Array[], Uint8Array[]] = [[], []];
  const id = (n: number): Uint8Array => new Uint8Array(16).fill(n);
  const a = new LinkSession({ secret, name: 'ab', id: id(1) }, (packet) => wires[0].push(packet));
  const b = new LinkSession({ secret, name: 'ab', id: id(2), ...other }, (packet) => wires[1].push(packet));
  const carry = (nowMs = 0): SessionEvent[] => {
    const events: SessionEvent[] = [];
    for (let round = 0; round < 20 && wires.some((wire) => wire.length > 0); round += 1) {
      for (const packet of wires[0].splice(0)) pushEvent(events, b.receive(packet, nowMs));
      for (const packet of wires[1].splice(0)) pushEvent(events, a.receive(packet, nowMs));
    }
    expect(wires).toEqual([[], []]);
    return events;
  };
  return { a, b, wires, carry };
}

function pushEvent(events: SessionEvent[], event: SessionEvent | undefined): void {
  if (event) events.push(event);
}

test('two ends with one secret come up, whoever speaks first, and what one seals the other opens', () => {
  for (const first of ['a', 'b', 'both']) {
    const { a, b, carry } = ends();
    expect(a.seal(Uint8Array.of(1))).toBe(false);
    if (first !== 'b') a.tick(0);
    if (first !== 'a') b.tick(0);
    expect(carry().map(({ kind }) => kind)).toEqual(['up', 'up']);
    expect([a.peer, b.peer]).toEqual(['02'.repeat(16), '01'.repeat(16)]);
    a.seal(Buffer.from('to b'));
    b.seal(Buffer.from('to a'));
    expect(carry().map((event) => event.kind === 'data' && String(event.bytes))).toEqual(['to b', 'to a']);
  }
});

test.each([
  ['another secret', { secret: 'wrong horse battery staple' }],
  ['another name', { name: 'ac' }],
])('with %s they stay strangers', (_name, other) => {
  const { a, b, carry } = ends(other);
  a.tick(0);
  b.tick(0);
  expect(carry()).toEqual([]);
  expect([a.peer, b.peer]).toEqual([undefined, undefined]);
});

test('nothing sealed shows what it holds, and no bit of it can be changed', () => {
  const { a, b, wires, carry } = ends();
  a.tick(0);
  carry();
  const text = Buffer.from('a frame of a guest that nobody else should read');
  fc.assert(
    fc.property(fc.nat(text.length + SEAL_BYTES - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      a.seal(text);
      const [packet = new Uint8Array(0)] = wires[0].splice(0);
      expect(Buffer.from(packet).includes(text.subarray(0, 8))).toBe(false);
      const changed = Uint8Array.from(packet);
      changed[at] = (changed[at] ?? 0) ^ flip;
      expect(b.receive(changed, 0)).toBeUndefined();
      expect(b.receive(packet, 0)?.kind).toBe('data');
    }),
    { numRuns: 200 },
  );
});

test('what was recorded and is sent again does nothing: frames, greetings, and greetings after a restart', () => {
  const { a, b, wires } = ends();
  const recorded: Uint8Array[] = [];
  const carry = (): void => {
    for (let round = 0; round < 10; round += 1) {
      for (const packet of wires[0].splice(0)) {
        recorded.push(packet);
        b.receive(packet, 0);
      }
      for (const packet of wires[1].splice(0)) a.receive(packet, 0);
    }
  };
  a.tick(0);
  b.tick(0);
  carry();
  a.seal(Buffer.from('once'));
  carry();
  const peer = b.peer;
  for (const packet of recorded.slice()) expect(b.receive(packet, 0)).toBeUndefined();
  wires[1].length = 0;
  // Still the same session: what A seals now is opened.
  a.seal(Buffer.from('twice'));
  expect(wires[0].map((packet) => b.receive(packet, 0)?.kind)).toEqual(['data']);
  expect(b.peer).toBe(peer);
});

test('an end that starts anew is known again, and what it sealed before is not', () => {
  const { a, b, wires, carry } = ends();
  a.tick(0);
  carry();
  a.seal(Buffer.from('old'));
  const [old = new Uint8Array(0)] = wires[0].splice(0);
  const again = new LinkSession({ secret, name: 'ab', id: new Uint8Array(16).fill(1) }, (packet) =>
    wires[0].push(packet),
  );
  again.tick(0);
  const events: SessionEvent[] = [];
  for (let round = 0; round < 10; round += 1) {
    for (const packet of wires[0].splice(0)) pushEvent(events, b.receive(packet, 0));
    for (const packet of wires[1].splice(0)) pushEvent(events, again.receive(packet, 0));
  }
  expect(events.map(({ kind }) => kind)).toEqual(['up', 'up']);
  expect(b.receive(old, 0)).toBeUndefined();
  b.seal(Buffer.from('new'));
  expect(wires[1].map((packet) => again.receive(packet, 0)?.kind)).toEqual(['data']);
});

test('silence takes the link down, and words keep it up', () => {
  const { a, b, carry } = ends();
  a.tick(0);
  carry(0);
  for (let now = 0; now <= SILENCE_MS * 3; now += 1000) {
    a.tick(now);
    b.tick(now);
    carry(now);
  }
  expect(a.peer).toBeDefined();
  a.tick(SILENCE_MS * 5);
  expect([a.peer, a.seal(Uint8Array.of(1))]).toEqual([undefined, false]);
});

test('a link to ourselves does not come up', () => {
  const packets: Uint8Array[] = [];
  const self = new LinkSession({ secret, name: 'ab', id: new Uint8Array(16) }, (packet) => packets.push(packet));
  self.tick(0);
  for (let i = 0; i < 10; i += 1) for (const packet of packets.splice(0)) self.receive(packet, 0);
  expect(self.peer).toBeUndefined();
});

test('no bytes of a stranger make a session throw', () => {
  const { a, wires, carry } = ends();
  a.tick(0);
  const samples = [wires[0][0] ?? new Uint8Array(0)];
  carry();
  a.seal(new Uint8Array(100));
  samples.push(wires[0].pop() ?? new Uint8Array(0));
  fc.assert(
    fc.property(fc.constantFrom(...samples), fc.nat(200), fc.uint8Array({ maxLength: 40 }), (sample, length, tail) => {
      const packet = Buffer.concat([sample.subarray(0, length), tail]);
      expect(a.receive(packet, 0)?.kind).not.toBe('up');
    }),
  );
});

test('the replay window is a set of the last counters', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 300 }), (counters) => {
      const window = new ReplayWindow();
      const seen = new Set<number>();
      let next = 0;
      for (const counter of counters) {
        expect(window.isNew(counter)).toBe(!seen.has(counter) && counter >= next - REPLAY_WINDOW);
        if (!window.isNew(counter)) continue;
        window.note(counter);
        seen.add(counter);
        next = Math.max(next, counter + 1);
      }
    }),
  );
});
