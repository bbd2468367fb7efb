import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@xenhost/base';
import { createLogger, type UnixListener } from '@xenhost/daemon-kit';
import { Bridge } from '../switch/bridge.ts';
import type { SwitchPort } from '../switch/frame.ts';
import { serveControl } from './control.ts';
import { MAX_CAPTURE_BYTES } from './limits.ts';

let folder: string;
let listener: UnixListener;
let a: SwitchPort;
let b: SwitchPort;
const WALL_NS = 1_700_000_000_123_456_789n;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'xh-'));
  const clock = new FakeClock(0n, WALL_NS);
  const log = createLogger('netback', { level: 'silent' });
  const options = { name: 'xenbr0', macAgeMs: 1000, maxMacs: 10, stormFramesPerSecond: 1e9, antispoof: false };
  const bridge = new Bridge(options, { clock, log });
  const accepts = { checksumPartial: true, gso: new Set([]) };
  a = bridge.attach({ kind: 'guest', name: 'vif1.0', mac: '00:16:3e:00:00:01', accepts });
  b = bridge.attach({ kind: 'guest', name: 'vif2.0', accepts });
  listener = await serveControl(join(folder, 'c.sock'), { networks: { bridges: [bridge] }, clock });
});

afterEach(async () => {
  await listener.close();
  rmSync(folder, { recursive: true });
});

interface Answer {
  readonly status: number;
  readonly body: Buffer;
  readonly missed: string | undefined;
}

/** `begun` runs when the first bytes of the answer are here. */
function get(path: string, begun: () => void = () => undefined): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: listener.path, path }, (response) => {
      const parts: Buffer[] = [];
      response.once('readable', begun);
      response.on('data', (part: Buffer) => parts.push(part));
      response.on('end', () => {
        resolve({
          status: response.statusCode ?? 0,
          body: Buffer.concat(parts),
          missed: response.trailers['x-missed'],
        });
      });
      response.on('error', reject);
    });
    asked.on('error', reject);
    asked.end();
  });
}

const frame = (n: number, length = 60): Uint8Array => {
  const bytes = new Uint8Array(length).fill(n);
  bytes.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, n]);
  return bytes;
};

test('frames come as pcap that names nanoseconds and Ethernet, cut at the snap length, and end at the count', async () => {
  const { status, body, missed } = await get('/capture?of=xenbr0&count=2&snaplen=20', () => {
    a.send({ bytes: frame(1), checksum: 'complete' });
    b.send({ bytes: frame(2, 30), checksum: 'complete' });
    b.send({ bytes: frame(3), checksum: 'complete' });
  });
  expect([status, missed]).toEqual([200, '0']);
  expect(body.subarray(0, 24).toString('hex')).toBe('4d3cb2a1020004000000000000000000' + '14000000' + '01000000');
  const record = (at: number): unknown => ({
    seconds: body.readUInt32LE(at),
    nanoseconds: body.readUInt32LE(at + 4),
    kept: body.readUInt32LE(at + 8),
    length: body.readUInt32LE(at + 12),
    first: body[at + 16 + 11],
  });
  expect(record(24)).toEqual({ seconds: 1_700_000_000, nanoseconds: 123_456_789, kept: 20, length: 60, first: 1 });
  expect(record(60)).toMatchObject({ kept: 20, length: 30, first: 2 });
  expect(body).toHaveLength(96);
});

test('a port shows what goes in and out of it only', async () => {
  const { body } = await get('/capture?of=vif2.0&count=2', () => {
    a.send({ bytes: frame(1), checksum: 'complete' });
    b.send({ bytes: frame(2), checksum: 'complete' });
  });
  expect([body[24 + 16 + 11], body[24 + 76 + 16 + 11]]).toEqual([1, 2]);
});

test('a reader that does not read costs a bounded queue, and the frames it missed are counted', async () => {
  const large = 60_000;
  let more: NodeJS.Timeout | undefined;
  const { missed, body } = await get('/capture?of=xenbr0&count=500', () => {
    for (let i = 0; i < 1000; i += 1) a.send({ bytes: frame(1, large), checksum: 'complete' });
    more = setInterval(() => {
      for (let i = 0; i < 50; i += 1) a.send({ bytes: frame(1), checksum: 'complete' });
    }, 5);
  });
  clearInterval(more);
  expect(Number(missed)).toBeGreaterThan(0);
  expect(body.length).toBeLessThan(2 * MAX_CAPTURE_BYTES + 500 * large);
});

test.each([
  ['/capture?of=xenbr7', 404, 'no bridge or port xenbr7; there are: xenbr0, vif1.0, vif2.0\n'],
  ['/capture?of=xenbr0&count=0', 400, 'count and snaplen are numbers above 0\n'],
  ['/capture?of=xenbr0&snaplen=9999999', 400, 'count and snaplen are numbers above 0\n'],
  ['/other', 404, 'here are /networks and /capture\n'],
])('%s: %i', async (path, status, text) => {
  const answer = await get(path);
  expect([answer.status, String(answer.body)]).toEqual([status, text]);
});

test('bridges, ports and addresses are told', async () => {
  a.send({ bytes: frame(7), checksum: 'complete' });
  const { body } = await get('/networks');
  expect(JSON.parse(String(body))).toMatchObject({
    bridges: [
      {
        name: 'xenbr0',
        ports: [
          { name: 'vif1.0', kind: 'guest', mac: '00:16:3e:00:00:01', counters: { inFrames: 1, outFrames: 0 } },
          { name: 'vif2.0', kind: 'guest', counters: { inFrames: 0 } },
        ],
        macs: [
          { mac: '00:16:3e:00:00:01', port: 'vif1.0', pinned: true },
          { mac: '02:00:00:00:00:07', port: 'vif1.0', pinned: false, ageMs: 0 },
        ],
      },
    ],
  });
});
