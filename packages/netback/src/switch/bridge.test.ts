import { FakeClock } from '@xenhost/base';
import { createLogger } from '@xenhost/daemon-kit';
import { Bridge, type BridgeOptions, type BridgePortOptions } from './bridge.ts';
import type { EthernetFrame, SwitchPort } from './frame.ts';
import { FLAP_HOLD_MS, FLAP_MOVES, MAX_MACS_PER_GUEST } from './limits.ts';

const all = { checksumPartial: true, gso: new Set(['tcpv4', 'tcpv6'] as const) };
const MS = 1_000_000n;
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const A = '00:16:3e:00:00:0a';
const B = '00:16:3e:00:00:0b';
const C = '00:16:3e:00:00:0c';
const stranger = (n: number): string => `02:00:00:00:${(n >> 8).toString(16)}:${(n & 0xff).toString(16)}`;

function scene(options: Partial<BridgeOptions> = {}) {
  const clock = new FakeClock();
  const warnings: string[] = [];
  const destination = { write: (line: string) => warnings.push((JSON.parse(line) as { msg: string }).msg) };
  const log = createLogger('netback', { level: 'warn', destination });
  const defaults = { name: 'xenbr0', macAgeMs: 300_000, maxMacs: 1000, stormFramesPerSecond: 1e6, antispoof: false };
  const bridge = new Bridge({ ...defaults, ...options }, { clock, log });
  const attach = (name: string, more: Partial<BridgePortOptions> = {}): { port: SwitchPort; got: EthernetFrame[] } => {
    const got: EthernetFrame[] = [];
    const port = bridge.attach({ kind: 'guest', name, accepts: all, ...more });
    port.setReceiver((frame) => {
      got.push(frame);
      return true;
    });
    return { port, got };
  };
  return { bridge, clock, warnings, attach };
}

const macBytes = (text: string): number[] => text.split(':').map((part) => parseInt(part, 16));

function frame(to: string, from: string, type = 0x88b5): EthernetFrame {
  const bytes = Uint8Array.from([...macBytes(to), ...macBytes(from), type >> 8, type & 0xff, 1, 2, 3, 4]);
  return { bytes, checksum: 'complete' };
}

function ipv4(to: string, from: string, source: number[], protocol = 17, ports = [1, 1]): EthernetFrame {
  const bytes = Buffer.alloc(42);
  bytes.set([...macBytes(to), ...macBytes(from), 8, 0, 0x45, 0, 0, 28]);
  bytes[23] = protocol;
  bytes.set(source, 26);
  bytes.writeUInt16BE(ports[0] ?? 0, 34);
  bytes.writeUInt16BE(ports[1] ?? 0, 36);
  return { bytes, checksum: 'complete' };
}

function arp(from: string, sender: number[], senderMac = from): EthernetFrame {
  const bytes = Buffer.alloc(42);
  bytes.set([
    ...macBytes(BROADCAST),
    ...macBytes(from),
    8,
    6,
    0,
    1,
    8,
    0,
    6,
    4,
    0,
    1,
    ...macBytes(senderMac),
    ...sender,
  ]);
  return { bytes, checksum: 'complete' };
}

const drops = (bridge: Bridge, name: string) => bridge.ports().find((port) => port.name === name)?.counters.dropped;

test('what nobody is known to have goes to all, what somebody has goes to that one, nothing goes back', () => {
  const { attach } = scene();
  const [a, b, c] = [attach('a'), attach('b'), attach('c')];
  a.port.send(frame(B, A));
  expect([a.got, b.got, c.got].map((got) => got.length)).toEqual([0, 1, 1]);
  b.port.send(frame(A, B));
  a.port.send(frame(B, A));
  expect([a.got, b.got, c.got].map((got) => got.length)).toEqual([1, 2, 1]);
  a.port.send(frame(BROADCAST, A));
  a.port.send(frame('01:00:5e:00:00:fb', A));
  expect([a.got, b.got, c.got].map((got) => got.length)).toEqual([1, 4, 3]);
  a.port.send(frame(A, A));
  expect([a.got, b.got, c.got].map((got) => got.length)).toEqual([1, 4, 3]);
});

test('an address that moves is followed, one that is silent is forgotten', () => {
  const { attach, clock } = scene({ macAgeMs: 1000 });
  const [a, b, c] = [attach('a'), attach('b'), attach('c')];
  b.port.send(frame(BROADCAST, B));
  a.port.send(frame(B, A));
  c.port.send(frame(BROADCAST, B));
  a.port.send(frame(B, A));
  expect([b.got.length, c.got.length]).toEqual([2, 2]);
  clock.advance(1001n * MS);
  a.port.send(frame(B, A));
  expect([b.got.length, c.got.length]).toEqual([3, 3]);
});

test("a guest's own address cannot be taken over, and goes when the guest goes", () => {
  const { bridge, attach } = scene();
  const [a, b, c] = [attach('a', { mac: A }), attach('b', { mac: B }), attach('c')];
  b.port.send(frame(BROADCAST, A));
  expect(drops(bridge, 'b')?.spoofed).toBe(1);
  expect([a.got.length, c.got.length]).toEqual([0, 0]);
  c.port.send(frame(A, C));
  expect([a.got.length, b.got.length]).toEqual([1, 0]);
  a.port.close();
  a.port.send(frame(BROADCAST, A));
  b.port.send(frame(BROADCAST, A));
  expect(c.got).toHaveLength(1);
  // It comes again, and has the address at once.
  const again = attach('a2', { mac: A });
  c.port.send(frame(A, C));
  expect([again.got.length, b.got.length]).toEqual([1, 0]);
});

test('a guest that invents addresses does not push out those of others', () => {
  const { bridge, attach } = scene({ maxMacs: 100 });
  const [flood, b, c] = [attach('flood'), attach('b'), attach('c')];
  b.port.send(frame(BROADCAST, B));
  for (let i = 0; i < 1000; i += 1) flood.port.send(frame(B, stranger(i)));
  expect(bridge.macs().filter(({ port }) => port === 'flood')).toHaveLength(MAX_MACS_PER_GUEST);
  c.port.send(frame(B, C));
  expect(b.got).toHaveLength(1001);
  expect(flood.got).toHaveLength(1);
});

test('the table has a bound, also for links', () => {
  const { bridge, attach, clock } = scene({ maxMacs: 100, macAgeMs: 60_000 });
  const link = attach('link', { kind: 'link' });
  for (let i = 0; i < 1000; i += 1) link.port.send(frame(BROADCAST, stranger(i)));
  expect(bridge.macs()).toHaveLength(100);
  clock.advance(60_001n * MS);
  link.port.send(frame(BROADCAST, stranger(2000)));
  expect(bridge.macs().map(({ mac }) => mac)).toEqual(['02:00:00:00:07:d0']);
});

test('storms are cut at their port, and unicast goes on', () => {
  const { bridge, attach, clock } = scene({ stormFramesPerSecond: 1000 });
  const [a, b] = [attach('a', { mac: A }), attach('b', { mac: B })];
  for (let i = 0; i < 10_000; i += 1) a.port.send(frame(BROADCAST, A));
  expect(b.got).toHaveLength(4000);
  expect(drops(bridge, 'a')?.storm).toBe(6000);
  a.port.send(frame(B, A));
  expect(b.got).toHaveLength(4001);
  clock.advance(500n * MS);
  for (let i = 0; i < 1000; i += 1) a.port.send(frame(BROADCAST, A));
  expect(b.got).toHaveLength(4501);
  b.port.send(frame(BROADCAST, B));
  expect(a.got).toHaveLength(1);
});

test('frames pass between guests and all, never between links, between links and uplinks only with transit', () => {
  const { attach } = scene();
  const guest = attach('guest');
  const links = [
    attach('l1', { kind: 'link' }),
    attach('l2', { kind: 'link' }),
    attach('l3', { kind: 'link', transit: true }),
  ];
  const uplink = attach('tap', { kind: 'uplink' });
  const ports = [guest, ...links, uplink];
  const reached = ports.map((from, i) => {
    for (const port of ports) port.got.length = 0;
    from.port.send(frame(BROADCAST, stranger(i)));
    return ports.map(({ got }) => got.length).join('');
  });
  expect(reached).toEqual(['01111', '10000', '10000', '10001', '10010']);
});

test('an address that moves between links again and again is heard on one only for a while', () => {
  const { attach, clock, warnings, bridge } = scene();
  const guest = attach('guest');
  const links = [attach('l1', { kind: 'link' }), attach('l2', { kind: 'link' })];
  for (let i = 0; i < 100; i += 1) links[i % 2]?.port.send(frame(BROADCAST, A));
  // The first is learned, then FLAP_MOVES moves; from then on every other frame is dropped.
  expect(warnings).toHaveLength(1);
  expect(guest.got).toHaveLength(1 + FLAP_MOVES + Math.floor((99 - FLAP_MOVES) / 2));
  expect((drops(bridge, 'l1')?.held ?? 0) + (drops(bridge, 'l2')?.held ?? 0)).toBe(100 - guest.got.length);
  links[0]?.port.send(frame(BROADCAST, B));
  links[1]?.port.send(frame(BROADCAST, C));
  expect(guest.got.at(-1)?.bytes).toEqual(frame(BROADCAST, C).bytes);
  clock.advance(BigInt(FLAP_HOLD_MS) * MS);
  guest.got.length = 0;
  for (const link of links) link.port.send(frame(BROADCAST, A));
  expect(guest.got).toHaveLength(2);
});

test('what bridges say to each other stays here; runts, giants and group sources are dropped', () => {
  const { bridge, attach } = scene();
  const [a, b] = [attach('a'), attach('b')];
  a.port.send(frame('01:80:c2:00:00:00', A));
  a.port.send(frame('01:80:c2:00:00:0e', A));
  a.port.send(frame(B, BROADCAST));
  a.port.send({ bytes: new Uint8Array(13), checksum: 'complete' });
  a.port.send({ bytes: new Uint8Array(70_000), checksum: 'complete' });
  expect(b.got).toHaveLength(0);
  expect(drops(bridge, 'a')?.malformed).toBe(3);
  a.port.send(frame('01:80:c2:00:00:10', A));
  expect(b.got).toHaveLength(1);
});

test('with antispoof a guest sends from its own address only, in ARP too', () => {
  const { bridge, attach } = scene({ antispoof: true });
  const [a, b, link] = [attach('a', { mac: A }), attach('b', { mac: B }), attach('l', { kind: 'link' })];
  a.port.send(frame(BROADCAST, C));
  a.port.send(arp(A, [10, 0, 0, 1], B));
  expect([b.got.length, drops(bridge, 'a')?.spoofed]).toEqual([0, 2]);
  a.port.send(frame(BROADCAST, A));
  a.port.send(arp(A, [10, 0, 0, 1]));
  link.port.send(frame(BROADCAST, C));
  expect(b.got).toHaveLength(3);
});

const own = [10, 0, 0, 5];
const other = [10, 0, 0, 6];

test.each([
  ['its own address', ipv4(B, A, own), true],
  ["another's address", ipv4(B, A, other), false],
  ['an address of its network', ipv4(B, A, [192, 168, 7, 9]), true],
  ['a DHCP request without an address', ipv4(BROADCAST, A, [0, 0, 0, 0], 17, [68, 67]), true],
  ['a DHCP answer without an address', ipv4(BROADCAST, A, [0, 0, 0, 0], 17, [67, 68]), false],
  ['TCP with the ports of DHCP', ipv4(BROADCAST, A, other, 6, [68, 67]), false],
  ['ARP for itself', arp(A, own), true],
  ['an ARP probe', arp(A, [0, 0, 0, 0]), true],
  ['ARP for another', arp(A, other), false],
  ['IPv6', frame(B, A, 0x86dd), true],
  ['no IP', frame(B, A), true],
] as const)('with addresses given: %s', (_name, sent, passes) => {
  const { attach } = scene();
  const a = attach('a', { mac: A, filter: { ips: ['10.0.0.5', '192.168.7.0/24'] } });
  const b = attach('b');
  a.port.send(sent);
  expect(b.got).toHaveLength(passes ? 1 : 0);
});

test('with an IPv6 address given, other IPv6 addresses are refused', () => {
  const { attach } = scene();
  const a = attach('a', { mac: A, filter: { ips: ['fd00::5', '10.0.0.5'] } });
  const b = attach('b');
  const ipv6 = (source: string): EthernetFrame => {
    const bytes = Buffer.alloc(54);
    bytes.set([...macBytes(B), ...macBytes(A), 0x86, 0xdd, 0x60]);
    bytes[20] = 59;
    bytes.set(Buffer.from(source, 'hex'), 22);
    return { bytes, checksum: 'complete' };
  };
  a.port.send(ipv6('fd000000000000000000000000000005'));
  a.port.send(ipv6('fe800000000000000000000000000001'));
  expect(b.got).toHaveLength(2);
  a.port.send(ipv6('fd000000000000000000000000000006'));
  expect(b.got).toHaveLength(2);
});

test('a filter that cannot be read is refused', () => {
  const { attach } = scene();
  expect(() => attach('a', { filter: { ips: ['10.0.0.5/33'] } })).toThrow('not an IP address or network: 10.0.0.5/33');
  expect(() => attach('a', { mac: BROADCAST })).toThrow('not a MAC address of one station');
});

test('a receiver without room, and none yet, count as drops', () => {
  const { bridge, attach } = scene();
  const a = attach('a');
  bridge.attach({ kind: 'guest', name: 'late', accepts: all });
  const full = attach('full');
  full.port.setReceiver(() => false);
  a.port.send(frame(BROADCAST, A));
  expect([drops(bridge, 'late')?.full, drops(bridge, 'full')?.full]).toEqual([1, 1]);
});

test('large frames are cut for ports that do not take them, and left whole for those that do', () => {
  const { attach } = scene();
  const payload = Buffer.alloc(3000, 7);
  const bytes = Buffer.concat([
    Buffer.from(ipv4(BROADCAST, A, own, 6).bytes).subarray(0, 34),
    Buffer.alloc(20),
    payload,
  ]);
  bytes.writeUInt16BE(bytes.length - 14, 16);
  bytes[46] = 0x50;
  const a = attach('a');
  const whole = attach('whole');
  const plain = attach('plain', { accepts: { checksumPartial: false, gso: new Set() } });
  const noGso = attach('no gso', { accepts: { checksumPartial: true, gso: new Set(['tcpv6']) } });
  a.port.send({ bytes, checksum: 'partial', gso: { type: 'tcpv4', size: 1460 } });
  expect(whole.got.map(({ gso, checksum }) => [gso?.size, checksum])).toEqual([[1460, 'partial']]);
  for (const { got } of [plain, noGso]) {
    expect(got.map((part) => [part.bytes.length - 54, part.checksum, part.gso])).toEqual([
      [1460, 'complete', undefined],
      [1460, 'complete', undefined],
      [80, 'complete', undefined],
    ]);
  }
  a.port.send({ bytes: frame(BROADCAST, A).bytes, checksum: 'partial', gso: { type: 'tcpv4', size: 1460 } });
  expect(plain.got).toHaveLength(3);
});

test('observers see frames of the bridge once, of a port both ways, and none after they leave', () => {
  const { bridge, attach } = scene();
  const [a, b] = [attach('a'), attach('b')];
  const seen: string[] = [];
  const stops = [
    bridge.observe(() => seen.push('bridge')),
    bridge.observe(() => seen.push('a'), 'a'),
    bridge.observe(() => seen.push('b'), 'b'),
  ];
  expect(bridge.observe(() => undefined, 'nobody')).toBeUndefined();
  a.port.send(frame(B, A));
  b.port.send(frame(A, B));
  expect(seen).toEqual(['a', 'bridge', 'b', 'b', 'bridge', 'a']);
  for (const stop of stops) stop?.();
  a.port.send(frame(B, A));
  expect(seen).toHaveLength(6);
});
