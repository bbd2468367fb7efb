/**
 * The other side of the comparison is Linux: frames were sent into a veth pair with a virtio header that asks for segmentation or a
 * checksum (AF_PACKET, PACKET_VNET_HDR), offloads off, and recorded at the other end: testing/kernel-segments.json.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { completeChecksum } from './checksum.ts';
import { segmentFrame } from './segment.ts';

interface Recorded {
  readonly name: string;
  readonly frame: string;
  readonly size: number;
  /** VIRTIO_NET_HDR_GSO_*: 0 none, 1 TCPv4, 4 TCPv6. */
  readonly gso: 0 | 1 | 4;
  readonly segments: readonly string[];
}

const recorded = JSON.parse(
  readFileSync(join(__dirname, 'testing', 'kernel-segments.json'), 'utf8'),
) as readonly Recorded[];
const hex = (bytes: Uint8Array | undefined): string | undefined => bytes && Buffer.from(bytes).toString('hex');
const cases = recorded.map((row) => [row.name, row] as const);
const named = (name: string): Uint8Array => Buffer.from(recorded.find((row) => row.name === name)?.frame ?? '', 'hex');

test.each(cases)('as the kernel does it: %s', (_name, { frame, size, gso, segments }) => {
  const bytes = Buffer.from(frame, 'hex');
  const before = hex(bytes);
  const got =
    gso === 0 ? [completeChecksum(bytes)] : segmentFrame(bytes, { type: gso === 1 ? 'tcpv4' : 'tcpv6', size });
  expect(got?.map(hex)).toEqual(segments);
  expect(hex(bytes)).toBe(before);
});

/** One's complement sum the slow way: over an array of 16-bit words with an end-around carry each. */
function slowSum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

function tcp4(payload: Uint8Array, tcpOptions: Uint8Array, ipOptions: Uint8Array, flags: number): Buffer {
  const ipBytes = 20 + ipOptions.length + 20 + tcpOptions.length + payload.length;
  const bytes = Buffer.alloc(14 + ipBytes);
  bytes.writeUInt16BE(0x0800, 12);
  bytes[14] = 0x45 + ipOptions.length / 4;
  bytes.writeUInt16BE(ipBytes, 16);
  bytes[22] = 64;
  bytes[23] = 6;
  bytes.writeUInt32BE(0x0a00020f, 26);
  bytes.writeUInt32BE(0x0a000202, 30);
  bytes.set(ipOptions, 34);
  const at = 34 + ipOptions.length;
  bytes.writeUInt32BE(0xffff_ff00, at + 4);
  bytes[at + 12] = ((20 + tcpOptions.length) / 4) << 4;
  bytes[at + 13] = flags;
  bytes.set(tcpOptions, at + 20);
  bytes.set(payload, at + 20 + tcpOptions.length);
  return bytes;
}

const words = (max: number): fc.Arbitrary<Uint8Array> =>
  fc.integer({ min: 0, max }).map((count) => new Uint8Array(count * 4).fill(1));

test('segments of any frame put together are the frame, each with right lengths, flags and checksums', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 3000 }),
      words(10),
      words(10),
      fc.integer({ min: 0, max: 255 }),
      fc.integer({ min: 48, max: 1500 }),
      (payload, tcpOptions, ipOptions, flags, size) => {
        const frame = tcp4(payload, tcpOptions, ipOptions, flags);
        const segments = segmentFrame(frame, { type: 'tcpv4', size }) ?? [];
        const tcpAt = 34 + ipOptions.length;
        const payloadAt = tcpAt + 20 + tcpOptions.length;
        expect(Buffer.concat(segments.map((bytes) => bytes.subarray(payloadAt)))).toEqual(Buffer.from(payload));
        expect(segments).toHaveLength(Math.max(1, Math.ceil(payload.length / size)));
        segments.forEach((bytes, i) => {
          const view = Buffer.from(bytes);
          const last = i === segments.length - 1;
          expect(view.readUInt16BE(16)).toBe(bytes.length - 14);
          expect(view.readUInt16BE(18)).toBe(i);
          expect(view.readUInt32BE(tcpAt + 4)).toBe((0xffff_ff00 + i * size) % 2 ** 32);
          expect(bytes[tcpAt + 13]).toBe(flags & (i === 0 ? 0xff : 0x7f) & (last ? 0xff : 0xf6));
          expect(slowSum([...bytes.subarray(14, tcpAt)])).toBe(0xffff);
          const length = bytes.length - tcpAt;
          const pseudo = [...bytes.subarray(26, 34), 0, 6, length >> 8, length & 0xff];
          expect(slowSum([...pseudo, ...bytes.subarray(tcpAt)])).toBe(0xffff);
        });
      },
    ),
    { numRuns: 60 },
  );
});

test('no bytes of a guest make it throw, read outside, or cut small pieces', () => {
  const frames = recorded.map(({ frame }) => Buffer.from(frame, 'hex'));
  fc.assert(
    fc.property(
      fc.constantFrom(...frames),
      fc.array(fc.tuple(fc.integer({ min: 12, max: 70 }), fc.integer({ min: 0, max: 255 })), { maxLength: 4 }),
      fc.integer({ min: 14, max: 200 }),
      fc.constantFrom('tcpv4' as const, 'tcpv6' as const),
      (frame, changes, length, type) => {
        const bytes = Uint8Array.from(frame.subarray(0, length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        const segments = segmentFrame(bytes, { type, size: 48 }) ?? [];
        expect(segments.reduce((sum, { length: part }) => sum + part, 0)).toBeLessThanOrEqual(6 * bytes.length);
        const complete = completeChecksum(bytes);
        expect(complete?.length ?? bytes.length).toBe(bytes.length);
      },
    ),
    { numRuns: 2000 },
  );
});

test.each([
  ['a segment size of 1: thousands of frames', named('TCP over IPv4, last segment odd'), 'tcpv4', 1],
  ['UDP marked as TCP', named('UDP over IPv4'), 'tcpv4', 100],
  ['IPv6 marked as IPv4', named('TCP over IPv6'), 'tcpv4', 100],
  ['no packet', new Uint8Array(64), 'tcpv4', 100],
] as const)('refused: %s', (_name, frame, type, size) => {
  expect(segmentFrame(frame, { type, size })).toBeUndefined();
});

test('a fragment and a packet of another protocol have no checksum that we could complete', () => {
  const fragment = Buffer.from(named('UDP over IPv4'));
  fragment.writeUInt16BE(0x2000, 20);
  expect(completeChecksum(fragment)).toBeUndefined();
  const sctp = Buffer.from(named('UDP over IPv4'));
  sctp[23] = 132;
  expect(completeChecksum(sctp)).toBeUndefined();
});

test('padding behind a packet is neither summed nor cut', () => {
  const frame = named('TCP over IPv4, last segment odd');
  const padded = Buffer.concat([frame, Buffer.alloc(7, 0xff)]);
  const gso = { type: 'tcpv4', size: 100 } as const;
  expect(segmentFrame(padded, gso)?.map(hex)).toEqual(segmentFrame(frame, gso)?.map(hex));
});

test('packets in a VLAN are found behind its tag', () => {
  const frame = named('UDP over IPv4');
  const tagged = Buffer.concat([frame.subarray(0, 12), Buffer.from([0x81, 0, 0, 5]), frame.subarray(12)]);
  const plain = completeChecksum(frame);
  expect(hex(completeChecksum(tagged)?.subarray(18))).toBe(hex(plain?.subarray(14)));
});
