/**
 * The uplink with a real passt, and servers on this machine's loopback. It is looked for in XENHOST_PASST and in PATH.
 */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { createLogger } from '@xenhost/daemon-kit';
import { parseNetworkConfig } from '../switch/config.ts';
import type { EthernetFrame } from '../switch/frame.ts';
import { Network } from '../switch/network.ts';
import { findPasst, isImpatient } from './passt.ts';
import { ip, mac, Station } from './testing/station.ts';

const program = findPasst();
const withPasst = program === undefined ? test.skip : test;
const why = program === undefined ? ' (skipped: no passt in XENHOST_PASST or PATH)' : '';
const offloads = { checksumPartial: true, gso: new Set(['tcpv4'] as const) };
const plain = { checksumPartial: false, gso: new Set([]) };
jest.setTimeout(30_000);
const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

test.each([
  ['passt 0.0~git20230309.7c7625d-1', true],
  ['passt 0.0~git20230627.289301b-1', false],
  ['passt 2023_03_09.7c7625d', true],
  ['passt unknown version', true],
  ['passt 2024_12_11.09478d5', false],
  ['', false],
])('%p: impatient %p', (version, impatient) => {
  expect(isImpatient(version)).toBe(impatient);
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** passt may still be starting: it listens a moment later. */
async function connected(port: number): Promise<Socket> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const open = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    if (open) {
      closing.push(() => socket.destroy());
      return socket;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function network(
  rows = '',
  loopback = 'yes',
): { guest: (n: number, accepts?: typeof offloads | typeof plain) => Station; it: Network } {
  const log = createLogger('netback', { level: 'silent' });
  const it = new Network(
    parseNetworkConfig(`(bridge xenbr0 (uplink passt (host-loopback ${loopback}) ${rows}))`, 'network.sxp'),
    { log },
  );
  closing.push(() => it.close());
  const guest = (n: number, accepts: typeof offloads | typeof plain = offloads): Station => {
    const text = `00:16:3e:00:00:0${n}`;
    return new Station(it.attach({ bridge: '', name: `vif${n}.0`, mac: text, accepts }), text);
  };
  return { guest, it };
}

async function online(station: Station): Promise<Station> {
  await station.dhcp();
  await station.findRouter();
  return station;
}

/** Sends `greeting` bytes to whoever connects, then everything back. */
async function echoServer(greeting: number): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.write(Buffer.alloc(greeting, 'g'));
    socket.pipe(socket);
    closing.push(() => socket.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => server.close());
  return (server.address() as AddressInfo).port;
}

async function udpServer(): Promise<{ port: number; socket: UdpSocket }> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  closing.push(() => socket.close());
  socket.on('message', (message, from) => {
    socket.send(Buffer.concat([Buffer.from('echo '), message]), from.port, from.address);
  });
  return { port: socket.address().port, socket };
}

withPasst(`several guests get addresses, ping, and talk TCP and UDP to this machine at a time${why}`, async () => {
  const { guest } = network();
  const guests = await Promise.all([online(guest(1)), online(guest(2, plain)), online(guest(3))]);
  expect(new Set(guests.map((station) => station.ip)).size).toBe(3);
  const port = await echoServer(200_000);
  const udp = await udpServer();
  await Promise.all(
    guests.map(async (station, i) => {
      const text = Buffer.from(`guest ${i}`);
      expect(await station.ping(station.router, text)).toEqual(text);
      // All from the same port: the gateway tells them apart.
      station.udp(station.router, [5000, udp.port], text);
      expect(String(await station.takeUdp(5000))).toBe(`echo guest ${i}`);
      const connection = await station.connect(station.router, port, 40_000);
      connection.write(text);
      const got = await connection.read(200_000 + text.length);
      expect(got.length).toBe(200_000 + text.length);
      expect(got.subarray(200_000)).toEqual(text);
      connection.close();
      if (i === 1) expect([connection.largest, [...connection.gsoSizes]]).toEqual([1460, []]);
      else expect([connection.largest > 1460, [...connection.gsoSizes]]).toEqual([true, [1460]]);
    }),
  );
});

withPasst(`a large frame whose checksum and segments were left to the switch arrives${why}`, async () => {
  const { guest } = network();
  const station = await online(guest(1));
  const connection = await station.connect(station.router, await echoServer(0), 40_000);
  const data = Buffer.from(Array.from({ length: 50_000 }, (_, i) => i % 251));
  const rest: Partial<EthernetFrame> = { checksum: 'partial', gso: { type: 'tcpv4', size: 1460 } };
  connection.write(data, rest);
  expect(await connection.read(data.length)).toEqual(data);
});

withPasst(`of the machine itself guests reach only what is opened to them${why}`, async () => {
  const [open, shut] = [await echoServer(5), await echoServer(5)];
  const { guest } = network('', String(open));
  const station = await online(guest(1));
  const [loopback, own] = [ip('127.0.0.1'), ip('10.0.2.4')];
  const refused = [
    station.connect(station.router, shut, 40_001, 500),
    station.connect(loopback, open, 40_002, 500),
    station.connect(own, open, 40_003, 500),
    station.connect(0, open, 40_004, 500),
  ];
  const connection = await station.connect(station.router, open, 40_000);
  expect(String(await connection.read(5))).toBe('ggggg');
  for (const attempt of refused) await expect(attempt).rejects.toThrow('no such frame');
});

withPasst(`UDP larger than the link comes in fragments${why}`, async () => {
  const { guest } = network();
  const station = await online(guest(1));
  const { port, socket } = await udpServer();
  socket.removeAllListeners('message');
  socket.on('message', (_message, from) => {
    socket.send(Buffer.alloc(4000, 'x'), from.port, from.address);
  });
  station.udp(station.router, [5000, port], Buffer.from('large, please'));
  const offsets: number[] = [];
  for (let i = 0; i < 3; i += 1) {
    const { bytes } = await station.take((frame) => frame.bytes.length > 100 && frame.bytes[23] === 17);
    const view = Buffer.from(bytes);
    expect(view.readUInt16BE(16)).toBeLessThanOrEqual(1500);
    offsets.push((view.readUInt16BE(20) & 0x1fff) * 8);
  }
  expect(offsets).toEqual([0, 1480, 2960]);
});

withPasst(`ports of this machine lead to guests, by MAC and by address, and answers go back${why}`, async () => {
  const [tcp, udp, byAddress] = [await freePort(), await freePort(), await freePort()];
  const { guest } = network(
    `(forward tcp ${tcp} 00:16:3e:00:00:01 22) (forward udp ${udp} 00:16:3e:00:00:02 53) (forward tcp 127.0.0.1:${byAddress} 10.0.2.99 80)`,
    'no',
  );
  const [first, second] = [await online(guest(1)), await online(guest(2))];
  const client = await connected(tcp);
  const accepted = await first.accept(22);
  client.write('question');
  expect(String(await accepted.read(8))).toBe('question');
  accepted.write(Buffer.from('answer'));
  expect(String((await once(client, 'data'))[0])).toBe('answer');

  const asking = createSocket('udp4');
  closing.push(() => asking.close());
  asking.send('name?', udp, '127.0.0.1');
  const { bytes } = await second.take((frame) => frame.bytes[23] === 17 && String(frame.bytes.slice(-5)) !== '');
  expect(String(Buffer.from(bytes).subarray(42))).toBe('name?');
  second.udp(second.router, [53, Buffer.from(bytes).readUInt16BE(34)], Buffer.from('127.0.0.1'));
  expect(String((await once(asking, 'message'))[0])).toBe('127.0.0.1');

  // A guest with an address of its own choice, which the gateway has to ask for.
  const third = guest(3);
  third.ip = (first.ip & 0xffff_ff00) + 99;
  const late = await connected(byAddress);
  const web = await third.accept(80);
  late.write('GET');
  expect(String(await web.read(3))).toBe('GET');
});

withPasst(`passt is started again when it dies, and is gone when the network is closed${why}`, async () => {
  const { guest, it } = network();
  const station = await online(guest(1));
  const port = await echoServer(5);
  const pid = it.uplinkPids[0] ?? 0;
  expect(pid).toBeGreaterThan(0);
  process.kill(pid, 'SIGKILL');
  let connection;
  for (let from = 40_001; !connection; from += 1)
    connection = await station.connect(station.router, port, from, 300).catch(() => undefined);
  expect(String(await connection.read(5))).toBe('ggggg');
  const next = it.uplinkPids[0] ?? 0;
  expect(next).not.toBe(pid);
  await it.close();
  expect(() => readFileSync(`/proc/${next}/stat`)).toThrow();
});

withPasst(`names go to the resolver of the machine's side${why}`, async () => {
  const socket = createSocket('udp4');
  const resolver = `127.77.${process.pid % 250}.53`;
  const bound = await new Promise<boolean>((resolve) => {
    socket.once('error', () => {
      resolve(false);
    });
    socket.bind(53, resolver, () => {
      resolve(true);
    });
  });
  closing.push(() => socket.close());
  // Port 53 belongs to root: elsewhere there is nothing to ask.
  if (!bound) return;
  socket.on('message', (message, from) => {
    socket.send(Buffer.concat([message.subarray(0, 12), Buffer.from('answer')]), from.port, from.address);
  });
  const { guest } = network(`(resolver ${resolver})`);
  const station = await online(guest(1));
  station.routerMac = await station.arp(station.dns);
  expect(station.routerMac).toBe(mac('00:16:3e:ff:ff:fe'));
  station.udp(station.dns, [5353, 53], Buffer.from('12-header-12 example'));
  expect(String(await station.takeUdp(5353))).toBe('12-header-12answer');
});
