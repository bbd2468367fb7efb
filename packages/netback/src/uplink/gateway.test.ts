/** The gateway without passt behind it: what guests may make it do. */
import { FakeClock } from '@xenhost/base';
import { createLogger } from '@xenhost/daemon-kit';
import fc from 'fast-check';
import { Bridge } from '../switch/bridge.ts';
import { ipPacket, u16, u32 } from '../switch/headers.ts';
import { Gateway } from './gateway.ts';
import { MAX_WAITING_PACKETS } from './limits.ts';
import { ARP, arpFrame, udpFrame } from './packets.ts';
import { ip, mac, Station } from './testing/station.ts';

const GATEWAY = { mac: mac('00:16:3e:ff:ff:fe'), ip: ip('10.0.2.2') };
const OUTSIDE = ip('192.0.2.80');

function scene(forwardTo?: string) {
  const clock = new FakeClock();
  const log = createLogger('netback', { level: 'silent' });
  const options = { name: 'xenbr0', macAgeMs: 300_000, maxMacs: 1000, stormFramesPerSecond: 1e6, antispoof: false };
  const bridge = new Bridge(options, { clock, log });
  const accepts = { checksumPartial: true, gso: new Set(['tcpv4'] as const) };
  const port = bridge.attach({ kind: 'uplink', name: 'passt', mac: '00:16:3e:ff:ff:fe', accepts });
  const out: Buffer[] = [];
  const asked: Buffer[] = [];
  const forwards =
    forwardTo === undefined
      ? []
      : [
          {
            protocol: 'udp',
            address: '127.0.0.1',
            port: 5,
            to: { ip: ip(forwardTo) },
            guestPort: 53,
            innerPort: 1,
          } as const,
        ];
  const gateway = new Gateway(
    {
      mac: GATEWAY.mac,
      network: { address: ip('10.0.2.0'), bits: 24 },
      address: GATEWAY.ip,
      dns: ip('10.0.2.3'),
      natAddress: ip('10.0.2.4'),
      range: [ip('10.0.2.15'), ip('10.0.2.254')],
      mtu: 1500,
      forwards,
      hostLoopback: new Set([80]),
    },
    {
      port,
      clock,
      send: (...parts) => {
        out.push(Buffer.concat(parts));
        return true;
      },
      dns: {
        ask: (query, answer) => {
          asked.push(Buffer.from(query));
          answer(Buffer.from('answer'));
        },
      },
    },
  );
  const guest = (n: number): Station => {
    const text = `00:16:3e:00:00:0${n}`;
    return new Station(bridge.attach({ kind: 'guest', name: `vif${n}.0`, mac: text, accepts }), text);
  };
  return { gateway, guest, out, asked, clock };
}

const outer = (frame: Buffer): unknown => {
  const packet = ipPacket(frame);
  return packet && [u32(frame, packet.ipAt + 12), u32(frame, packet.ipAt + 16), u16(frame, packet.transportAt + 2)];
};

async function online(station: Station): Promise<Station> {
  await station.dhcp();
  await station.findRouter();
  return station;
}

test('only what leads out, and what is opened, is handed to passt', async () => {
  const { guest, out } = scene();
  const station = await online(guest(1));
  const sent: [string, number][] = [
    ['192.0.2.80', 443],
    ['10.0.2.2', 80],
    ['10.0.2.2', 81],
    ['10.0.2.4', 80],
    ['10.0.2.77', 80],
    ['127.0.0.1', 80],
    ['0.0.0.0', 80],
    ['224.0.0.1', 80],
    ['255.255.255.255', 80],
  ];
  for (const [to, port] of sent) station.udp(ip(to), [7, port], Buffer.from('x'));
  expect(out.map(outer)).toEqual([
    [ip('10.0.2.4'), OUTSIDE, 443],
    [ip('10.0.2.4'), GATEWAY.ip, 80],
  ]);
});

test("a guest is not heard with another's address, the gateway's, or one of another network", async () => {
  const { guest, out } = scene();
  const [victim, thief] = [await online(guest(1)), await online(guest(2))];
  for (const address of [victim.ip, GATEWAY.ip, ip('10.0.2.3'), ip('10.0.2.4'), ip('10.9.9.9')]) {
    thief.ip = address;
    thief.udp(OUTSIDE, [7, 7], Buffer.from('x'));
  }
  thief.ip = victim.ip;
  thief.send(arpFrame(ARP.reply, { mac: thief.mac, ip: victim.ip }, GATEWAY));
  expect(out).toEqual([]);
  victim.udp(OUTSIDE, [7, 7], Buffer.from('x'));
  expect(out).toHaveLength(1);
});

test("a guest cannot give up another's lease", async () => {
  const { guest, gateway } = scene();
  const [victim, thief] = [await online(guest(1)), await online(guest(2))];
  const release = new Uint8Array(300);
  release.set([1, 1, 6, 0]);
  release.set([0, 0x16, 0x3e, 0, 0, 1], 28);
  release.set([0x63, 0x82, 0x53, 0x63, 53, 1, 7, 255], 236);
  thief.send(udpFrame({ mac: thief.mac, ip: 0 }, GATEWAY, [68, 67], release));
  expect(gateway.leases.holderOf(victim.ip, 0)).toBe(victim.mac);
});

test('names are asked for, and the answer comes from the name server', async () => {
  const { guest, asked } = scene();
  const station = await online(guest(1));
  station.udp(station.dns, [5353, 53], Buffer.from('query'));
  expect(String(await station.takeUdp(5353))).toBe('answer');
  expect(asked.map(String)).toEqual(['query']);
});

test('packets for a guest that is not known wait for its answer to ARP, so many and not more', async () => {
  const { gateway, guest } = scene('10.0.2.99');
  const station = guest(1);
  const toForward = (text: string): Uint8Array =>
    udpFrame(GATEWAY, { mac: 0, ip: ip('10.0.2.4') }, [9, 1], Buffer.from(text));
  for (let i = 0; i < MAX_WAITING_PACKETS + 5; i += 1) gateway.fromOutside(toForward(`packet ${i}`));
  expect(station.frames.filter(({ bytes }) => u16(bytes, 12) === 0x0806)).toHaveLength(MAX_WAITING_PACKETS + 5);
  station.ip = ip('10.0.2.99');
  gateway.fromOutside(toForward('one more'));
  for (let i = 0; i < MAX_WAITING_PACKETS; i += 1) expect(String(await station.takeUdp(53))).toBe(`packet ${i}`);
});

test('a forwarded port may answer who called, and reach nobody else of this machine', async () => {
  const { gateway, guest, out } = scene('10.0.2.99');
  const station = await online(guest(1));
  station.ip = ip('10.0.2.99');
  station.udp(GATEWAY.ip, [53, 999], Buffer.from('x'));
  await station.arp(GATEWAY.ip);
  gateway.fromOutside(udpFrame(GATEWAY, { mac: 0, ip: ip('10.0.2.4') }, [999, 1], Buffer.from('question')));
  expect(String(await station.takeUdp(53))).toBe('question');
  station.udp(GATEWAY.ip, [53, 998], Buffer.from('x'));
  station.udp(GATEWAY.ip, [54, 999], Buffer.from('x'));
  expect(out).toEqual([]);
  station.udp(GATEWAY.ip, [53, 999], Buffer.from('answer'));
  expect(out.map(outer)).toEqual([[ip('10.0.2.4'), GATEWAY.ip, 999]]);
});

test('no frame of a guest and none of passt makes it throw', async () => {
  const { gateway, guest } = scene();
  const station = await online(guest(1));
  const samples = [
    udpFrame(station, { mac: GATEWAY.mac, ip: OUTSIDE }, [7, 7], Buffer.from('payload')),
    udpFrame(station, GATEWAY, [68, 67], new Uint8Array(300)),
    arpFrame(ARP.request, station, GATEWAY),
    station.packet(GATEWAY.ip, 1, Uint8Array.of(8, 0, 0, 0, 0, 1, 0, 1)),
    station.packet(
      OUTSIDE,
      6,
      Uint8Array.of(0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0x60, 2, 255, 255, 0, 0, 0, 0, 2, 4, 0, 0),
    ),
  ];
  fc.assert(
    fc.property(
      fc.constantFrom(...samples),
      fc.array(fc.tuple(fc.integer({ min: 12, max: 70 }), fc.nat(255)), { maxLength: 5 }),
      fc.integer({ min: 14, max: 400 }),
      fc.boolean(),
      (sample, changes, length, inbound) => {
        const bytes = Uint8Array.from(sample.subarray(0, length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        if (inbound) gateway.fromOutside(bytes);
        else station.send(bytes);
        station.frames.length = 0;
      },
    ),
    { numRuns: 2000 },
  );
});
