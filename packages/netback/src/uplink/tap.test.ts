/** A tap device of this machine, where we may have one: the kernel's own network is the other side. */
import { spawnSync } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { accessSync, constants, readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { createLogger } from '@xenhost/daemon-kit';
import { parseNetworkConfig } from '../switch/config.ts';
import type { EthernetFrame } from '../switch/frame.ts';
import { Network } from '../switch/network.ts';
import { frameOfTap, vnetHeader } from './tap-frames.ts';
import { ip, Station } from './testing/station.ts';

interface Recorded {
  readonly name: string;
  readonly frame: string;
  readonly size: number;
  readonly gso: 0 | 1 | 4;
}

const recorded = JSON.parse(
  readFileSync(`${__dirname}/../switch/testing/kernel-segments.json`, 'utf8'),
) as readonly Recorded[];

test.each(recorded.map((row) => [row.name, row] as const))('header of %s', (_name, { frame, size, gso }) => {
  const bytes = Buffer.from(frame, 'hex');
  const sent: EthernetFrame =
    gso === 0
      ? { bytes, checksum: 'partial' }
      : { bytes, checksum: 'partial', gso: { type: gso === 1 ? 'tcpv4' : 'tcpv6', size } };
  const header = vnetHeader(sent) ?? new Uint8Array(0);
  const view = Buffer.from(header);
  expect([view[0], view[1], view.readUInt16LE(4)]).toEqual([1, gso, gso === 0 ? 0 : size]);
  // The checksum field holds the sum of the pseudo header: never zero in these.
  expect(bytes.readUInt16BE(view.readUInt16LE(6) + view.readUInt16LE(8))).not.toBe(0);
  const back = frameOfTap(Buffer.concat([header, bytes]));
  expect({ ...back, bytes: Buffer.from(back?.bytes ?? []) }).toEqual(sent);
});

test('a frame that is not what it says has no header', () => {
  const gso = { type: 'tcpv4', size: 1000 } as const;
  expect(vnetHeader({ bytes: new Uint8Array(60), checksum: 'partial' })).toBeUndefined();
  const udp = Buffer.from(recorded.find(({ name }) => name === 'UDP over IPv4')?.frame ?? '', 'hex');
  expect(vnetHeader({ bytes: udp, checksum: 'partial', gso })).toBeUndefined();
  expect(frameOfTap(new Uint8Array(5))).toBeUndefined();
});

/** Whether this process may make devices: by trying. */
function mayHaveTap(): boolean {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
  } catch {
    return false;
  }
  const device = `xt${process.pid % 100_000}`;
  const made = spawnSync('ip', ['tuntap', 'add', 'dev', device, 'mode', 'tap']).status === 0;
  if (made) spawnSync('ip', ['tuntap', 'del', 'dev', device, 'mode', 'tap']);
  return made && spawnSync('perl', ['-e', '1']).status === 0;
}

const withTap = mayHaveTap() ? test : test.skip;
const why = withTap === test ? '' : ' (skipped: no right to make tap devices here)';
const closing: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

withTap(
  `a guest reaches the machine through a tap device, with TCP frames of any size${why}`,
  async () => {
    const device = `xh${process.pid % 100_000}`;
    const third = process.pid % 250;
    const text = `(bridge xenbr0 (uplink tap (device ${device}) (address 10.213.${third}.1/24)))`;
    const log = createLogger('netback', { level: 'silent' });
    const network = new Network(parseNetworkConfig(text, 'network.sxp'), { log });
    closing.push(() => network.close());
    const accepts = { checksumPartial: true, gso: new Set(['tcpv4', 'tcpv6'] as const) };
    const port = network.attach({ bridge: 'xenbr0', name: 'vif1.0', mac: '00:16:3e:00:00:01', accepts });
    const station = new Station(port, '00:16:3e:00:00:01');
    station.ip = ip(`10.213.${third}.2`);
    station.router = ip(`10.213.${third}.1`);
    for (let tries = 0; tries < 20; tries += 1) {
      const found = await station.arp(station.router).catch(() => undefined);
      if (found === undefined) continue;
      station.routerMac = found;
      break;
    }
    expect(await station.ping(station.router, Buffer.from('ping'))).toEqual(Buffer.from('ping'));
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
      closing.push(() => socket.destroy());
    }).listen(0, `10.213.${third}.1`);
    await once(server, 'listening');
    closing.push(() => server.close());
    const connection = await station.connect(station.router, (server.address() as AddressInfo).port, 40_000);
    // The kernel is told to take the checksum for granted, and this as if it had come in segments.
    const data = Buffer.from(Array.from({ length: 20_000 }, (_, i) => i % 251));
    connection.write(data, { checksum: 'partial', gso: { type: 'tcpv4', size: 1460 } });
    expect(await connection.read(data.length)).toEqual(data);
    expect(connection.largest).toBeGreaterThan(1460);
    const udp = createSocket('udp4').bind(0, `10.213.${third}.1`);
    await once(udp, 'listening');
    closing.push(() => udp.close());
    udp.on('message', (message, from) => {
      udp.send(Buffer.concat([Buffer.from('echo '), message]), from.port, from.address);
    });
    station.udp(station.router, [5000, udp.address().port], Buffer.from('hello'));
    expect(String(await station.takeUdp(5000))).toBe('echo hello');
    await network.close();
    expect(spawnSync('ip', ['link', 'show', 'dev', device]).status).not.toBe(0);
  },
  30_000,
);
