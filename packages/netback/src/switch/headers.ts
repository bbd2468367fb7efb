/**
 * Where the headers of a frame lie: Ethernet (with VLAN tags), IPv4 and IPv6 with their options and extension headers, TCP
 * and UDP. Every length is checked against the frame; what does not fit is no packet. RFC 791, 8200, 9293, 768; IEEE 802.1Q.
 */
import { MAX_EXTENSION_HEADERS } from './limits.ts';

export const ETHERNET_HEADER_BYTES = 14;
export const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, vlan: 0x8100, ipv6: 0x86dd, qinq: 0x88a8 } as const;
export const IP_PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;
/** IPv6 next headers that another header follows, but for the fragment header: hop-by-hop, routing, destination. */
const EXTENSIONS: ReadonlySet<number> = new Set([0, 43, 60]);
const IPV6_FRAGMENT = 44;
const IPV6_HEADER_BYTES = 40;
const IPV4_MIN_HEADER_BYTES = 20;
const TCP_MIN_HEADER_BYTES = 20;
const UDP_HEADER_BYTES = 8;
const MAX_VLAN_TAGS = 2;
/** Flags and offset of an IPv4 header: more fragments, or not the first. */
const FRAGMENT_MASK = 0x3fff;

export interface EthernetHeader {
  readonly type: number;
  /** Where the payload begins. */
  readonly payloadAt: number;
}

export interface IpPacket {
  readonly version: 4 | 6;
  /** Where the IP header begins. */
  readonly ipAt: number;
  /** TCP, UDP, ICMP, ...: the header after all extension headers. */
  readonly protocol: number;
  /** Where that header begins, and where the IP packet ends (a frame may be padded). */
  readonly transportAt: number;
  readonly end: number;
  /** Part of a fragmented packet: the transport header may be missing. */
  readonly fragment: boolean;
}

export const u16 = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);

export const u32 = (bytes: Uint8Array, at: number): number =>
  (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0;

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** The Ethernet header of a frame of at least 14 bytes, past its VLAN tags. */
export function ethernetHeader(frame: Uint8Array): EthernetHeader {
  let at = ETHERNET_HEADER_BYTES;
  let type = u16(frame, at - 2);
  for (let tags = 0; tags < MAX_VLAN_TAGS && (type === ETHERTYPE.vlan || type === ETHERTYPE.qinq); tags += 1) {
    if (at + 4 > frame.length) break;
    type = u16(frame, at + 2);
    at += 4;
  }
  return { type, payloadAt: at };
}

/**
 * The IP packet in a frame; undefined when there is none or its lengths are wrong. `length`: of the whole frame, when only its
 * beginning is at hand.
 */
export function ipPacket(frame: Uint8Array, length = frame.length): IpPacket | undefined {
  const { type, payloadAt } = ethernetHeader(frame);
  if (type === ETHERTYPE.ipv4) return ipv4Packet(frame, payloadAt, length);
  return type === ETHERTYPE.ipv6 ? ipv6Packet(frame, payloadAt, length) : undefined;
}

function ipv4Packet(frame: Uint8Array, ipAt: number, length: number): IpPacket | undefined {
  if (ipAt + IPV4_MIN_HEADER_BYTES > frame.length) return undefined;
  const first = frame[ipAt] ?? 0;
  const headerBytes = (first & 0xf) * 4;
  const totalBytes = u16(frame, ipAt + 2);
  const end = ipAt + totalBytes;
  if (first >> 4 !== 4 || headerBytes < IPV4_MIN_HEADER_BYTES || totalBytes < headerBytes || end > length) {
    return undefined;
  }
  return {
    version: 4,
    ipAt,
    protocol: frame[ipAt + 9] ?? 0,
    transportAt: ipAt + headerBytes,
    end,
    fragment: (u16(frame, ipAt + 6) & FRAGMENT_MASK) !== 0,
  };
}

function ipv6Packet(frame: Uint8Array, ipAt: number, length: number): IpPacket | undefined {
  if (ipAt + IPV6_HEADER_BYTES > frame.length || (frame[ipAt] ?? 0) >> 4 !== 6) return undefined;
  const end = ipAt + IPV6_HEADER_BYTES + u16(frame, ipAt + 4);
  if (end > length) return undefined;
  let protocol = frame[ipAt + 6] ?? 0;
  let at = ipAt + IPV6_HEADER_BYTES;
  for (let walked = 0; EXTENSIONS.has(protocol); walked += 1) {
    if (walked === MAX_EXTENSION_HEADERS || at + 8 > end) return undefined;
    protocol = frame[at] ?? 0;
    at += ((frame[at + 1] ?? 0) + 1) * 8;
  }
  if (at > end) return undefined;
  return { version: 6, ipAt, protocol, transportAt: at, end, fragment: protocol === IPV6_FRAGMENT };
}

/** Bytes of the TCP header of a packet; undefined when it does not fit. */
export function tcpHeaderBytes(frame: Uint8Array, { transportAt, end }: IpPacket): number | undefined {
  if (transportAt + TCP_MIN_HEADER_BYTES > end) return undefined;
  const bytes = ((frame[transportAt + 12] ?? 0) >> 4) * 4;
  return bytes < TCP_MIN_HEADER_BYTES || transportAt + bytes > end ? undefined : bytes;
}

/** Where the checksum of a whole TCP or UDP packet stands; undefined when it has none or the header does not fit. */
export function checksumAt(frame: Uint8Array, packet: IpPacket): number | undefined {
  if (packet.fragment) return undefined;
  if (packet.protocol === IP_PROTOCOL.tcp) {
    return tcpHeaderBytes(frame, packet) === undefined ? undefined : packet.transportAt + 16;
  }
  if (packet.protocol !== IP_PROTOCOL.udp || packet.transportAt + UDP_HEADER_BYTES > packet.end) return undefined;
  return packet.transportAt + 6;
}
