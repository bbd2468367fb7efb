import fc from 'fast-check';
import { putU32, u32 } from '../switch/headers.ts';
import { ipv4Text } from '../switch/ip.ts';
import { macBytes } from '../switch/mac.ts';
import { answerDhcp, type DhcpReply } from './dhcp.ts';
import { Leases } from './leases.ts';
import { LEASE_SECONDS, OFFER_MS } from './limits.ts';
import { ip, mac } from './testing/station.ts';

const options = { server: ip('10.0.2.2'), bits: 24, router: ip('10.0.2.2'), dns: ip('10.0.2.3'), mtu: 1400 };
const range = [ip('10.0.2.15'), ip('10.0.2.17')] as const;
const A = mac('00:16:3e:00:00:0a');
const B = mac('00:16:3e:00:00:0b');
const C = mac('00:16:3e:00:00:0c');
const D = mac('00:16:3e:00:00:0d');
const DISCOVER = 1;
const OFFER = 2;
const REQUEST = 3;
const ACK = 5;
const NAK = 6;
const RELEASE = 7;

interface Sent {
  readonly ciaddr?: number;
  readonly wanted?: number;
  readonly server?: number;
  readonly broadcast?: boolean;
}

function request(
  message: number,
  from: number,
  { ciaddr = 0, wanted, server, broadcast = false }: Sent = {},
): Uint8Array {
  const bytes = new Uint8Array(300);
  bytes.set([1, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
  if (broadcast) bytes[10] = 0x80;
  putU32(bytes, 12, ciaddr);
  bytes.set(macBytes(from), 28);
  putU32(bytes, 236, 0x6382_5363);
  const four = (code: number, value: number | undefined): number[] =>
    value === undefined ? [] : [code, 4, value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  bytes.set([53, 1, message, ...four(50, wanted), ...four(54, server), 0, 255], 240);
  return bytes;
}

/** Message, address, options of an answer. */
function read(reply: DhcpReply | undefined): Record<string, unknown> | undefined {
  if (!reply) return undefined;
  const { payload } = reply;
  const found: Record<number, number[]> = {};
  for (let at = 240; payload[at] !== 255; at += 2 + (payload[at + 1] ?? 0)) {
    found[payload[at] ?? 0] = [...payload.subarray(at + 2, at + 2 + (payload[at + 1] ?? 0))];
  }
  return { message: found[53]?.[0], address: ipv4Text(u32(payload, 16)), options: found, to: ipv4Text(reply.to) };
}

const leasesOf = (): Leases => new Leases({ range });
const ask = (leases: Leases, bytes: Uint8Array, nowMs = 0): Record<string, unknown> | undefined =>
  read(answerDhcp(bytes, options, leases, nowMs));

test('a discover is offered an address, a request for it acknowledged, with all that a guest needs', () => {
  const leases = leasesOf();
  const offer = ask(leases, request(DISCOVER, A));
  expect(offer).toMatchObject({ message: OFFER, to: offer?.['address'] });
  const wanted = ip(String(offer?.['address']));
  expect(ask(leases, request(REQUEST, A, { wanted, server: options.server, broadcast: true }))).toEqual({
    message: ACK,
    address: offer?.['address'],
    to: '255.255.255.255',
    options: {
      1: [255, 255, 255, 0],
      3: [10, 0, 2, 2],
      6: [10, 0, 2, 3],
      26: [1400 >> 8, 1400 & 255],
      51: [0, 1, 81, 128],
      53: [ACK],
      54: [10, 0, 2, 2],
    },
  });
  // Renewed, to the address it has.
  expect(ask(leases, request(REQUEST, A, { ciaddr: wanted }))).toMatchObject({ message: ACK, to: ipv4Text(wanted) });
  const answer = answerDhcp(request(DISCOVER, A), options, leases, 0);
  expect([...(answer?.payload.subarray(0, 8) ?? [])]).toEqual([2, 1, 6, 0, 0xde, 0xad, 0xbe, 0xef]);
});

test('the same MAC gets the same address of a new server; nobody gets that of another', () => {
  const address = (leases: Leases, from: number): unknown => ask(leases, request(DISCOVER, from))?.['address'];
  expect(address(leasesOf(), A)).toBe(address(leasesOf(), A));
  const leases = leasesOf();
  expect(new Set([A, B, C].map((from) => address(leases, from))).size).toBe(3);
  expect(ask(leases, request(DISCOVER, D))?.['address']).toBeDefined();
  const taken = leasesOf();
  leases.know(A, 1);
  for (const from of [A, B, C]) taken.know(from, 1);
  for (const from of [A, B, C]) ask(taken, request(DISCOVER, from));
  // All belong to guests that are here.
  expect(ask(taken, request(DISCOVER, D))).toBeUndefined();
});

test.each([
  ['an address outside the range', { wanted: ip('10.0.2.99') }],
  ["another's address", { wanted: ip('10.0.2.16') }],
  ['an address of another network', { wanted: ip('192.168.0.1') }],
])('refused: %s', (_name, sent) => {
  const leases = leasesOf();
  expect(leases.take(B, ip('10.0.2.16'), 0)).toBe(true);
  expect(ask(leases, request(REQUEST, A, sent))).toMatchObject({
    message: NAK,
    address: '0.0.0.0',
    to: '255.255.255.255',
  });
});

test('a request to another server is not ours to answer', () => {
  expect(ask(leasesOf(), request(REQUEST, A, { wanted: range[0], server: ip('10.0.2.99') }))).toBeUndefined();
});

test('offers that nobody takes and leases that run out are free again, released ones at once', () => {
  const leases = leasesOf();
  leases.offer(A, range[0], 0);
  expect(leases.take(B, range[0], OFFER_MS - 1)).toBe(false);
  expect(leases.take(B, range[0], OFFER_MS)).toBe(true);
  expect(leases.holderOf(range[0], OFFER_MS)).toBe(B);
  const end = OFFER_MS + LEASE_SECONDS * 1000;
  expect(leases.take(A, range[0], end - 1)).toBe(false);
  expect(leases.take(A, range[0], end)).toBe(true);
  ask(leases, request(RELEASE, A), end);
  expect([leases.holderOf(range[0], end), leases.addressOf(A, end)]).toEqual([undefined, undefined]);
});

test('a reserved address is for its MAC alone, whoever had it', () => {
  const leases = leasesOf();
  leases.take(A, range[0], 0);
  leases.reserve(B, range[0]);
  expect(leases.take(A, range[0], 0)).toBe(false);
  expect(leases.offer(B, range[1], 0)).toBe(range[0]);
  expect(leases.holderOf(range[0], 1e12)).toBe(B);
  // Outside the range as well: it is what the vif's configuration says.
  leases.reserve(C, ip('10.0.2.200'));
  expect(ask(leases, request(DISCOVER, C))?.['address']).toBe('10.0.2.200');
  leases.unreserve(B, range[0]);
  expect(leases.take(A, range[0], 0)).toBe(true);
});

test('no bytes make it throw, and no lease is held twice', () => {
  const leases = leasesOf();
  const message = fc.constantFrom(DISCOVER, REQUEST, 4, RELEASE, 8);
  const address = fc.constantFrom(...[0, 1, 2, 3].map((i) => range[0] + i));
  fc.assert(
    fc.property(
      message,
      fc.constantFrom(A, B, C, D),
      address,
      fc.nat(310),
      fc.nat(255),
      (kind, from, wanted, at, value) => {
        const bytes = request(kind, from, { wanted });
        if (at < 300) bytes[at] = value;
        answerDhcp(bytes.subarray(0, Math.min(300, at + 200)), options, leases, 0);
        const held = [A, B, C, D].map((each) => leases.addressOf(each, 0)).filter((each) => each !== undefined);
        expect(new Set(held).size).toBe(held.length);
      },
    ),
  );
});
