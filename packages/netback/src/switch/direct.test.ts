import { FakeClock } from '@xenhost/base';
import { createLogger } from '@xenhost/daemon-kit';
import { Bridge } from './bridge.ts';
import type { BridgePortOptions } from './bridge.ts';
import type { FrameHead, FrameReceiver, SwitchPort } from './frame.ts';

const A = '00:16:3e:00:00:0a';
const B = '00:16:3e:00:00:0b';
const all = { checksumPartial: true, gso: new Set(['tcpv4'] as const) };
const macBytes = (text: string): number[] => text.split(':').map((part) => parseInt(part, 16));

const head = (to: string, from: string, more: Partial<FrameHead> = {}): FrameHead => ({
  bytes: Uint8Array.from([...macBytes(to), ...macBytes(from), 0x88, 0xb5, 0, 0]),
  length: 60_000,
  checksum: 'complete',
  ...more,
});

function scene(to: Partial<BridgePortOptions> = {}) {
  const log = createLogger('netback', { level: 'silent' });
  const options = { name: 'xenbr0', macAgeMs: 300_000, maxMacs: 1000, stormFramesPerSecond: 1e6, antispoof: false };
  const bridge = new Bridge(options, { clock: new FakeClock(), log });
  const from = bridge.attach({ kind: 'guest', name: 'a', accepts: all, mac: A });
  const receiver: FrameReceiver = () => true;
  bridge.attach({ kind: 'guest', name: 'b', accepts: all, mac: B, ...to }).setReceiver(receiver);
  return { bridge, from, receiver };
}

/** Whom the port was told to hand it to. */
function handed(from: SwitchPort, frame: FrameHead, taken = true): FrameReceiver | undefined {
  let to: FrameReceiver | undefined;
  const done = from.direct?.(frame, (receiver) => {
    to = receiver;
    return taken;
  });
  expect(done).toBe(to !== undefined && taken);
  return to;
}

test('a frame to another guest goes straight to it, and counts as passed when it was taken', () => {
  const { bridge, from, receiver } = scene();
  expect(handed(from, head(B, A), false)).toBe(receiver);
  expect(bridge.ports().map(({ counters }) => [counters.inFrames, counters.outFrames])).toEqual([[0, 0], [0, 0]]); // prettier-ignore
  expect(handed(from, head(B, A))).toBe(receiver);
  expect(bridge.ports().map(({ counters }) => [counters.inBytes, counters.outBytes])).toEqual([[60_000, 0], [0, 60_000]]); // prettier-ignore
});

test.each([
  ['to all', head('ff:ff:ff:ff:ff:ff', A)],
  ['to nobody known', head('00:16:3e:00:00:77', A)],
  ['to itself', head(A, A)],
  ['with the address of another guest', head(B, B)],
  ['of a length that no frame has', head(B, A, { length: 70_000 })],
  ['of segments that the other does not take', head(B, A, { checksum: 'partial', gso: { type: 'tcpv6', size: 1000 } })],
  ['without a whole header', head(B, A, { bytes: new Uint8Array(13) })],
])('a frame %s has to come whole', (_, frame) => {
  expect(handed(scene().from, frame)).toBeUndefined();
});

test.each([
  ['an uplink', { kind: 'uplink' as const }],
  ['a guest that computes no checksums', { accepts: { checksumPartial: false, gso: new Set<never>() } }],
])('a frame to %s has to come whole', (_, to) => {
  expect(handed(scene(to).from, head(B, A, { checksum: 'partial' }))).toBeUndefined();
});

test.each(['a', 'b', undefined])('while someone looks at port %p, frames come whole', (port) => {
  const { bridge, from, receiver } = scene();
  const stop = bridge.observe(() => undefined, port);
  expect(handed(from, head(B, A))).toBeUndefined();
  stop?.();
  expect(handed(from, head(B, A))).toBe(receiver);
});
