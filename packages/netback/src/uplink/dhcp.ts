/** A DHCP server's side of the protocol (RFC 2131, 2132): bytes in, an answer's bytes out. */
import { type Ipv4, ipv4Mask } from '../switch/ip.ts';
import { putU16, putU32, u16, u32 } from '../switch/headers.ts';
import { macAt, type MacNumber } from '../switch/mac.ts';
import type { Leases } from './leases.ts';
import { LEASE_SECONDS } from './limits.ts';

export const DHCP_PORT = { server: 67, client: 68 } as const;

const FIXED_BYTES = 240;
/** Clients may refuse shorter answers (RFC 1542 2.1). */
const MIN_REPLY_BYTES = 300;
const COOKIE = 0x6382_5363;
const BOOT_REQUEST = 1;
const BOOT_REPLY = 2;
const HARDWARE_ETHERNET = 1;
const BROADCAST_FLAG = 0x8000;
const OPTION = {
  pad: 0,
  subnetMask: 1,
  router: 3,
  dns: 6,
  mtu: 26,
  requestedAddress: 50,
  leaseTime: 51,
  messageType: 53,
  serverId: 54,
  end: 255,
} as const;
const MESSAGE = { discover: 1, offer: 2, request: 3, decline: 4, ack: 5, nak: 6, release: 7, inform: 8 } as const;

export interface DhcpOptions {
  readonly server: Ipv4;
  readonly bits: number;
  readonly router: Ipv4;
  readonly dns: Ipv4 | undefined;
  readonly mtu: number;
}

export interface DhcpReply {
  readonly payload: Uint8Array;
  /** Where it goes: 255.255.255.255, or the client's address. */
  readonly to: Ipv4;
  readonly broadcast: boolean;
  readonly mac: MacNumber;
}

interface Request {
  readonly message: number;
  readonly mac: MacNumber;
  readonly ciaddr: Ipv4;
  readonly wanted: Ipv4 | undefined;
  readonly serverId: Ipv4 | undefined;
  readonly broadcast: boolean;
}

/** The answer to what a client sent; undefined when there is none. */
export function answerDhcp(
  payload: Uint8Array,
  options: DhcpOptions,
  leases: Leases,
  nowMs: number,
): DhcpReply | undefined {
  const request = parseRequest(payload);
  if (!request) return undefined;
  const { mac, message, ciaddr, wanted, serverId } = request;
  switch (message) {
    case MESSAGE.discover: {
      const ip = leases.offer(mac, wanted, nowMs);
      return ip === undefined ? undefined : reply(payload, request, MESSAGE.offer, ip, options);
    }
    case MESSAGE.request: {
      if (serverId !== undefined && serverId !== options.server) return undefined;
      const ip = wanted ?? ciaddr;
      const taken = leases.take(mac, ip, nowMs);
      return reply(payload, request, taken ? MESSAGE.ack : MESSAGE.nak, taken ? ip : 0, options);
    }
    case MESSAGE.inform:
      return reply(payload, request, MESSAGE.ack, 0, options);
    case MESSAGE.release:
    case MESSAGE.decline:
      leases.release(mac);
      return undefined;
    default:
      return undefined;
  }
}

function parseRequest(payload: Uint8Array): Request | undefined {
  if (payload.length < FIXED_BYTES || payload[0] !== BOOT_REQUEST || payload[1] !== HARDWARE_ETHERNET) return undefined;
  if (u32(payload, 236) !== COOKIE) return undefined;
  let message: number | undefined;
  let wanted: Ipv4 | undefined;
  let serverId: Ipv4 | undefined;
  for (let at = FIXED_BYTES; at < payload.length && payload[at] !== OPTION.end;) {
    if (payload[at] === OPTION.pad) {
      at += 1;
      continue;
    }
    const length = payload[at + 1] ?? 0;
    if (at + 2 + length > payload.length) return undefined;
    if (payload[at] === OPTION.messageType && length === 1) message = payload[at + 2];
    if (payload[at] === OPTION.requestedAddress && length === 4) wanted = u32(payload, at + 2);
    if (payload[at] === OPTION.serverId && length === 4) serverId = u32(payload, at + 2);
    at += 2 + length;
  }
  if (message === undefined) return undefined;
  const broadcast = (u16(payload, 10) & BROADCAST_FLAG) !== 0;
  return { message, mac: macAt(payload, 28), ciaddr: u32(payload, 12), wanted, serverId, broadcast };
}

function reply(payload: Uint8Array, request: Request, message: number, ip: Ipv4, options: DhcpOptions): DhcpReply {
  const bytes = new Uint8Array(MIN_REPLY_BYTES);
  // Transaction, flags, relay, client hardware address: as asked.
  bytes.set(payload.subarray(0, 44));
  bytes[0] = BOOT_REPLY;
  bytes[3] = 0;
  putU16(bytes, 8, 0);
  if (message === MESSAGE.nak) putU32(bytes, 12, 0);
  putU32(bytes, 16, ip);
  putU32(bytes, 20, 0);
  putU32(bytes, 236, COOKIE);
  let at = FIXED_BYTES;
  const option = (code: number, length: 1 | 2 | 4, value: number): void => {
    bytes[at] = code;
    bytes[at + 1] = length;
    if (length === 4) putU32(bytes, at + 2, value);
    else if (length === 2) putU16(bytes, at + 2, value);
    else bytes[at + 2] = value;
    at += 2 + length;
  };
  option(OPTION.messageType, 1, message);
  option(OPTION.serverId, 4, options.server);
  if (message !== MESSAGE.nak) {
    if (request.message !== MESSAGE.inform) option(OPTION.leaseTime, 4, LEASE_SECONDS);
    option(OPTION.subnetMask, 4, ipv4Mask(options.bits));
    option(OPTION.router, 4, options.router);
    if (options.dns !== undefined) option(OPTION.dns, 4, options.dns);
    option(OPTION.mtu, 2, options.mtu);
  }
  bytes[at] = OPTION.end;
  const toClient = message !== MESSAGE.nak && request.ciaddr !== 0;
  const broadcast = !toClient && (request.broadcast || message === MESSAGE.nak);
  return {
    payload: bytes,
    to: toClient ? request.ciaddr : broadcast || ip === 0 ? 0xffff_ffff : ip,
    broadcast,
    mac: request.mac,
  };
}
