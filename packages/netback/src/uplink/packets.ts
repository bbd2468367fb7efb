/** Packets that the gateway itself makes: ARP (RFC 826), UDP in IPv4, echo replies (RFC 792). */
import { adjusted, internetChecksum, writeTransportChecksum } from '../switch/checksum.ts';
import {
  ETHERNET_HEADER_BYTES,
  ETHERTYPE,
  IP_PROTOCOL,
  type IpPacket,
  putU16,
  putU32,
  u16,
  u32,
} from '../switch/headers.ts';
import type { Ipv4 } from '../switch/ip.ts';
import { MAC_BYTES, macBytes, type MacNumber } from '../switch/mac.ts';

export const BROADCAST_MAC: MacNumber = 2 ** 48 - 1;
const ARP_BYTES = 28;
const IPV4_BYTES = 20;
const UDP_BYTES = 8;
const TTL = 64;
const DONT_FRAGMENT = 0x4000;
const MIN_FRAME_BYTES = 60;
export const ARP = { request: 1, reply: 2 } as const;
export const ICMP_ECHO = { reply: 0, request: 8 } as const;

export interface Station {
  readonly mac: MacNumber;
  readonly ip: Ipv4;
}

export function writeEthernet(bytes: Uint8Array, to: MacNumber, from: MacNumber): void {
  bytes.set(macBytes(to));
  bytes.set(macBytes(from), MAC_BYTES);
}

function ethernet(to: MacNumber, from: MacNumber, type: number, payloadBytes: number): Uint8Array {
  const bytes = new Uint8Array(Math.max(MIN_FRAME_BYTES, ETHERNET_HEADER_BYTES + payloadBytes));
  writeEthernet(bytes, to, from);
  putU16(bytes, 12, type);
  return bytes;
}

export function arpFrame(operation: number, from: Station, to: Station): Uint8Array {
  const request = operation === ARP.request;
  const bytes = ethernet(request ? BROADCAST_MAC : to.mac, from.mac, ETHERTYPE.arp, ARP_BYTES);
  const at = ETHERNET_HEADER_BYTES;
  // Ethernet, IPv4, their address lengths.
  bytes.set([0, 1, 8, 0, 6, 4, 0, operation], at);
  bytes.set(macBytes(from.mac), at + 8);
  putU32(bytes, at + 14, from.ip);
  if (!request) bytes.set(macBytes(to.mac), at + 18);
  putU32(bytes, at + 24, to.ip);
  return bytes;
}

export interface ArpPacket {
  readonly operation: number;
  readonly sender: Station;
  readonly target: Ipv4;
}

/** ARP for IPv4 over Ethernet in an untagged frame; undefined for anything else. */
export function parseArp(
  frame: Uint8Array,
): (Omit<ArpPacket, 'sender'> & { senderMacAt: number; senderIp: Ipv4 }) | undefined {
  const at = ETHERNET_HEADER_BYTES;
  if (frame.length < at + ARP_BYTES || u32(frame, at) !== 0x0001_0800 || u16(frame, at + 4) !== 0x0604)
    return undefined;
  return {
    operation: u16(frame, at + 6),
    senderMacAt: at + 8,
    senderIp: u32(frame, at + 14),
    target: u32(frame, at + 24),
  };
}

export function udpFrame(
  from: Station,
  to: Station,
  ports: readonly [from: number, to: number],
  payload: Uint8Array,
): Uint8Array {
  const ipBytes = IPV4_BYTES + UDP_BYTES + payload.length;
  const bytes = ethernet(to.mac, from.mac, ETHERTYPE.ipv4, ipBytes);
  const ipAt = ETHERNET_HEADER_BYTES;
  bytes[ipAt] = 0x45;
  putU16(bytes, ipAt + 2, ipBytes);
  putU16(bytes, ipAt + 6, DONT_FRAGMENT);
  bytes[ipAt + 8] = TTL;
  bytes[ipAt + 9] = IP_PROTOCOL.udp;
  putU32(bytes, ipAt + 12, from.ip);
  putU32(bytes, ipAt + 16, to.ip);
  putU16(bytes, ipAt + 10, internetChecksum(bytes, ipAt, ipAt + IPV4_BYTES));
  const transportAt = ipAt + IPV4_BYTES;
  putU16(bytes, transportAt, ports[0]);
  putU16(bytes, transportAt + 2, ports[1]);
  putU16(bytes, transportAt + 4, UDP_BYTES + payload.length);
  bytes.set(payload, transportAt + UDP_BYTES);
  const end = ipAt + ipBytes;
  const packet: IpPacket = { version: 4, ipAt, protocol: IP_PROTOCOL.udp, transportAt, end, fragment: false };
  writeTransportChecksum(bytes, packet, transportAt + 6);
  return bytes;
}

/** The answer to an echo request: a copy with both pairs of addresses swapped. */
export function echoReply(frame: Uint8Array, { ipAt, transportAt }: IpPacket): Uint8Array {
  const bytes = new Uint8Array(frame);
  bytes.set(frame.subarray(MAC_BYTES, 2 * MAC_BYTES), 0);
  bytes.set(frame.subarray(0, MAC_BYTES), MAC_BYTES);
  bytes.set(frame.subarray(ipAt + 12, ipAt + 16), ipAt + 16);
  bytes.set(frame.subarray(ipAt + 16, ipAt + 20), ipAt + 12);
  bytes[transportAt] = ICMP_ECHO.reply;
  const before = u16(frame, transportAt);
  putU16(bytes, transportAt + 2, adjusted(u16(frame, transportAt + 2), before, before & 0xff));
  return bytes;
}

/** Cuts an IPv4 packet whose checksums are complete into fragments for a link of `mtu` bytes (RFC 791 3.2). */
export function fragments(frame: Uint8Array, { ipAt, transportAt, end }: IpPacket, mtu: number): Uint8Array[] {
  const headerBytes = transportAt - ipAt;
  const room = Math.floor((mtu - headerBytes) / 8) * 8;
  const parts: Uint8Array[] = [];
  for (let at = transportAt; at < end; at += room) {
    const to = Math.min(at + room, end);
    const bytes = new Uint8Array(transportAt + (to - at));
    bytes.set(frame.subarray(0, transportAt));
    bytes.set(frame.subarray(at, to), transportAt);
    putU16(bytes, ipAt + 2, headerBytes + (to - at));
    putU16(bytes, ipAt + 6, ((at - transportAt) >>> 3) | (to < end ? 0x2000 : 0));
    putU16(bytes, ipAt + 10, 0);
    putU16(bytes, ipAt + 10, internetChecksum(bytes, ipAt, transportAt));
    parts.push(bytes);
  }
  return parts;
}
