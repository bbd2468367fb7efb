/** Links between networks of this process over loopback. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '@xenhost/daemon-kit';
import { parseNetworkConfig } from '../switch/config.ts';
import type { EthernetFrame, SwitchPort } from '../switch/frame.ts';
import { Network } from '../switch/network.ts';

const folder = mkdtempSync(join(tmpdir(), 'xh-'));
const log = createLogger('netback', { level: 'silent' });
const open: { close(): unknown }[] = [];

beforeAll(() => {
  writeFileSync(join(folder, 'secret'), 'correct horse battery staple\n');
  writeFileSync(join(folder, 'wrong'), 'wrong horse battery staple\n');
  writeFileSync(join(folder, 'short'), 'short\n');
  for (const name of ['secret', 'wrong', 'short']) chmodSync(join(folder, name), 0o600);
});

afterEach(async () => {
  for (const one of open.splice(0).reverse()) await one.close();
});

afterAll(() => {
  rmSync(folder, { recursive: true });
});

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  const ports = await Promise.all(
    servers.map(async (server) => {
      await once(server, 'listening');
      return (server.address() as AddressInfo).port;
    }),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function host(links: string): Network {
  const network = new Network(parseNetworkConfig(`(bridge xenbr0 ${links})`, join(folder, 'network.sxp')), { log });
  open.push(network);
  return network;
}

function guest(
  network: Network,
  n: number,
): { port: SwitchPort; got: EthernetFrame[]; next(): Promise<EthernetFrame> } {
  const got: EthernetFrame[] = [];
  const waiting: ((frame: EthernetFrame) => void)[] = [];
  const accepts = { checksumPartial: true, gso: new Set(['tcpv4', 'tcpv6'] as const) };
  const port = network.attach({ bridge: 'xenbr0', name: `vif${n}.0`, mac: macOf(n), accepts });
  port.setReceiver((frame) => {
    got.push(frame);
    waiting.shift()?.(frame);
    return true;
  });
  return { port, got, next: () => new Promise((resolve) => waiting.push(resolve)) };
}

const macOf = (n: number): string => `00:16:3e:00:00:0${n}`;

async function working(network: Network, names: readonly string[]): Promise<void> {
  while (String(network.linksOf('xenbr0')?.working) !== String(names)) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function frame(from: number, length = 60, text = ''): EthernetFrame {
  const bytes = Buffer.alloc(length);
  bytes.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0x16, 0x3e, 0, 0, from, 0x88, 0xb5]);
  bytes.write(text, 14);
  return { bytes, checksum: 'complete' };
}

const udpLink = (name: string, own: number, other: number, secret = 'secret'): string =>
  `(link ${name} (listen 127.0.0.1:${own}) (peer 127.0.0.1:${other}) (secret-file ${secret}))`;

describe.each(['udp', 'tcp'] as const)('over %s', (protocol) => {
  async function pair(secret = 'secret'): Promise<[Network, Network]> {
    const [first = 0, second = 0] = await freePorts(2);
    if (protocol === 'udp') return [host(udpLink('ab', first, second)), host(udpLink('ab', second, first, secret))];
    const a = host(`(link ab (protocol tcp) (listen 127.0.0.1:${first}) (secret-file secret))`);
    await a.linksOf('xenbr0')?.ports();
    return [a, host(`(link ab (protocol tcp) (peer 127.0.0.1:${first}) (secret-file ${secret}))`)];
  }

  test('guests of two hosts share a network', async () => {
    const [a, b] = await pair();
    await Promise.all([working(a, ['ab']), working(b, ['ab'])]);
    const [one, two] = [guest(a, 1), guest(b, 2)];
    const broadcast = two.next();
    one.port.send(frame(1));
    expect(Buffer.from((await broadcast).bytes)).toEqual(frame(1).bytes);
    // Unicast back, larger than a datagram.
    const large = Buffer.from(frame(2, 3000, 'large').bytes);
    large.set([0, 0x16, 0x3e, 0, 0, 1]);
    const answer = one.next();
    two.port.send({ bytes: large, checksum: 'partial' });
    const got = await answer;
    expect([Buffer.from(got.bytes), got.checksum]).toEqual([large, 'partial']);
    expect(b.bridges[0]?.macs()).toContainEqual(expect.objectContaining({ mac: macOf(1), port: 'ab' }));
  });

  test('an end with another secret is not heard', async () => {
    const [a, b] = await pair('wrong');
    const [one, two] = [guest(a, 1), guest(b, 2)];
    await new Promise((resolve) => setTimeout(resolve, 300));
    one.port.send(frame(1));
    two.port.send(frame(2));
    expect([a.linksOf('xenbr0')?.working, b.linksOf('xenbr0')?.working]).toEqual([[], []]);
    expect([one.got, two.got]).toEqual([[], []]);
  });
});

test('a large TCP frame crosses a TCP link whole', async () => {
  const [port = 0] = await freePorts(1);
  const a = host(`(link ab (protocol tcp) (listen 127.0.0.1:${port}) (secret-file secret))`);
  const b = host(`(link ab (protocol tcp) (peer 127.0.0.1:${port}) (secret-file secret))`);
  await Promise.all([working(a, ['ab']), working(b, ['ab'])]);
  const [one, two] = [guest(a, 1), guest(b, 2)];
  const came = two.next();
  one.port.send({ ...frame(1, 60_000), checksum: 'partial', gso: { type: 'tcpv6', size: 1440 } });
  const { bytes, ...rest } = await came;
  expect([bytes.length, rest]).toEqual([60_000, { checksum: 'partial', gso: { type: 'tcpv6', size: 1440 } }]);
});

test('a TCP link comes back when the other end does', async () => {
  const [port = 0] = await freePorts(1);
  const listening = `(link ab (protocol tcp) (listen 127.0.0.1:${port}) (secret-file secret))`;
  const b = host(`(link ab (protocol tcp) (peer 127.0.0.1:${port}) (secret-file secret))`);
  const a = host(listening);
  await working(b, ['ab']);
  await a.close();
  await working(b, []);
  const again = host(listening);
  await Promise.all([working(again, ['ab']), working(b, ['ab'])]);
});

test('of two links to one bridge one rests: a broadcast comes once and does not go round', async () => {
  const [p1 = 0, p2 = 0, p3 = 0, p4 = 0] = await freePorts(4);
  const a = host(udpLink('l1', p1, p2) + udpLink('l2', p3, p4));
  const b = host(udpLink('l1', p2, p1) + udpLink('l2', p4, p3));
  await Promise.all([working(a, ['l1']), working(b, ['l1'])]);
  const [one, two] = [guest(a, 1), guest(b, 2)];
  for (let i = 0; i < 20; i += 1) one.port.send(frame(1, 60, `frame ${i}`));
  const last = one.next();
  while (two.got.length < 20) await new Promise((resolve) => setTimeout(resolve, 10));
  two.port.send(frame(2));
  await last;
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([one.got.length, two.got.length]).toEqual([1, 20]);
});

test('three hosts in a ring: every guest hears a broadcast once', async () => {
  const p = await freePorts(6);
  const at = (i: number): number => p[i] ?? 0;
  const a = host(udpLink('ab', at(0), at(1)) + udpLink('ca', at(5), at(4)));
  const b = host(udpLink('ab', at(1), at(0)) + udpLink('bc', at(2), at(3)));
  const c = host(udpLink('bc', at(3), at(2)) + udpLink('ca', at(4), at(5)));
  await Promise.all([working(a, ['ab', 'ca']), working(b, ['ab', 'bc']), working(c, ['bc', 'ca'])]);
  const guests = [guest(a, 1), guest(b, 2), guest(c, 3)];
  guests.forEach(({ port }, i) => {
    port.send(frame(i + 1));
  });
  while (guests.some(({ got }) => got.length < 2)) await new Promise((resolve) => setTimeout(resolve, 10));
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(guests.map(({ got }) => got.map(({ bytes }) => bytes[11]).sort())).toEqual([
    [2, 3],
    [1, 3],
    [1, 2],
  ]);
});

test('strangers who speak to a link change nothing', async () => {
  const [own = 0, other = 0, tcp = 0] = await freePorts(3);
  const a = host(`${udpLink('ab', own, other)} (link t (protocol tcp) (listen 127.0.0.1:${tcp}) (secret-file secret))`);
  await a.linksOf('xenbr0')?.ports();
  const { got } = guest(a, 1);
  const stranger = createSocket('udp4');
  open.push(stranger);
  for (let i = 0; i < 50; i += 1) stranger.send(Buffer.alloc(i * 20, i), own, '127.0.0.1');
  const sockets = Array.from({ length: 12 }, () => connect(tcp, '127.0.0.1'));
  const ends = sockets.map((socket) => {
    open.push({ close: () => socket.destroy() });
    socket.on('error', () => undefined);
    socket.resume();
    // A length that no packet has.
    socket.write(Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 2, 3]));
    return once(socket, 'close');
  });
  await Promise.all(ends);
  expect([got.length, a.linksOf('xenbr0')?.working]).toEqual([0, []]);
});

test('a secret that is missing or too short is refused', () => {
  expect(() => host('(link x (protocol tcp) (listen 127.0.0.1:1) (secret-file none))')).toThrow(/ENOENT/);
  expect(() => host('(link x (protocol tcp) (listen 127.0.0.1:1) (secret-file short))')).toThrow('shorter than 16');
});
