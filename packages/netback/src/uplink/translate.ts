/**
 * Rewrites packets on their way through the gateway (RFC 3022): addresses, ports, echo identifiers and the checksums over them.
 *
 * passt carries frames of up to 64 KiB, where a guest's link has 1500 bytes. A guest's SYN is given the largest MSS on its way out, so
 * that passt answers in large frames, which go to the guest marked to be cut at the MSS that it announced: what a network card
 * with receive offload would make of them.
 */
import { adjusted, fold, pseudoHeaderSum } from '../switch/checksum.ts';
import type { EthernetFrame } from '../switch/frame.ts';
import { IP_PROTOCOL, type IpPacket, putU16, putU32, tcpHeaderBytes, u16, u32 } from '../switch/headers.ts';
import type { Ipv4 } from '../switch/ip.ts';
import type { NatEntry, NatProtocol } from './nat.ts';
import { ICMP_ECHO } from './packets.ts';

const TCP = { fin: 0x01, syn: 0x02, rst: 0x04, optionsAt: 20, mssOption: 2, nop: 1, end: 0 } as const;
/** What an IPv4 packet of 65,535 bytes holds behind headers without options. */
const LARGEST_MSS = 65_495;
const UDP_HEADER_BYTES = 8;
const ICMP_HEADER_BYTES = 8;

/** Where a packet's port (or echo identifier) stands, seen from the guest. */
interface Flow {
  readonly protocol: NatProtocol;
  /** Bytes of the transport header. */
  readonly headerBytes: number;
  readonly sourceAt: number;
  readonly destinationAt: number;
  readonly checksumAt: number;
}

/** Undefined for what the gateway does not carry. */
export function flowOf(frame: Uint8Array, packet: IpPacket): Flow | undefined {
  const { protocol, transportAt: at, end } = packet;
  if (packet.version !== 4 || packet.fragment) return undefined;
  switch (protocol) {
    case IP_PROTOCOL.tcp: {
      const headerBytes = tcpHeaderBytes(frame, packet);
      if (headerBytes === undefined) return undefined;
      return { protocol: 'tcp', headerBytes, sourceAt: at, destinationAt: at + 2, checksumAt: at + 16 };
    }
    case IP_PROTOCOL.udp:
      if (at + UDP_HEADER_BYTES > end) return undefined;
      return {
        protocol: 'udp',
        headerBytes: UDP_HEADER_BYTES,
        sourceAt: at,
        destinationAt: at + 2,
        checksumAt: at + 6,
      };
    case IP_PROTOCOL.icmp: {
      const type = frame[at];
      if (at + ICMP_HEADER_BYTES > end || (type !== ICMP_ECHO.request && type !== ICMP_ECHO.reply)) return undefined;
      return {
        protocol: 'icmp',
        headerBytes: ICMP_HEADER_BYTES,
        sourceAt: at + 4,
        destinationAt: at + 4,
        checksumAt: at + 2,
      };
    }
    default:
      return undefined;
  }
}

/** The frame as passt gets it, in two parts: a rewritten head, and the payload as it came. */
export function outboundParts(
  frame: Uint8Array,
  packet: IpPacket,
  flow: Flow,
  entry: NatEntry,
  natAddress: Ipv4,
): [Uint8Array, Uint8Array] {
  const payloadAt = packet.transportAt + flow.headerBytes;
  const head = new Uint8Array(frame.subarray(0, payloadAt));
  rewrite(head, packet, flow, {
    addressAt: packet.ipAt + 12,
    address: natAddress,
    portAt: flow.sourceAt,
    port: entry.port,
  });
  if (flow.protocol === 'tcp') {
    noteFlags(head, packet, entry);
    const at = mssAt(head, packet, payloadAt);
    if (at !== undefined) {
      entry.mss = u16(head, at);
      // Padding may put the option at an odd place, where the sum sees its bytes swapped.
      const odd = ((at - packet.transportAt) & 1) !== 0;
      const [before, after] = odd ? [swapped(entry.mss), swapped(LARGEST_MSS)] : [entry.mss, LARGEST_MSS];
      putU16(head, flow.checksumAt, adjusted(u16(head, flow.checksumAt), before, after));
      putU16(head, at, LARGEST_MSS);
    }
  }
  return [head, frame.subarray(payloadAt, packet.end)];
}

/** The frame as the guest gets it, rewritten in place; its MACs are the caller's. */
export function inboundFrame(bytes: Uint8Array, packet: IpPacket, flow: Flow, entry: NatEntry): EthernetFrame {
  const address = { addressAt: packet.ipAt + 16, address: entry.guestIp, portAt: flow.destinationAt };
  rewrite(bytes, packet, flow, { ...address, port: entry.guestPort });
  if (flow.protocol === 'icmp') return { bytes, checksum: 'complete' };
  // It came over a socket of this machine: there is nothing that the guest would have to check.
  putU16(bytes, flow.checksumAt, fold(pseudoHeaderSum(bytes, packet)));
  if (flow.protocol === 'udp') return { bytes, checksum: 'partial' };
  noteFlags(bytes, packet, entry);
  const payloadBytes = packet.end - packet.transportAt - flow.headerBytes;
  if (payloadBytes <= entry.mss) return { bytes, checksum: 'partial' };
  return { bytes, checksum: 'partial', gso: { type: 'tcpv4', size: entry.mss } };
}

interface Rewritten {
  readonly addressAt: number;
  readonly address: Ipv4;
  readonly portAt: number;
  readonly port: number;
}

function rewrite(bytes: Uint8Array, { ipAt }: IpPacket, flow: Flow, to: Rewritten): void {
  const { addressAt, address, portAt, port } = to;
  const before = u32(bytes, addressAt);
  const change = (checksum: number): number =>
    adjusted(adjusted(checksum, before >>> 16, address >>> 16), before & 0xffff, address & 0xffff);
  putU16(bytes, ipAt + 10, change(u16(bytes, ipAt + 10)));
  const sum = u16(bytes, flow.checksumAt);
  // A UDP packet without a checksum stays so; an echo's covers no addresses.
  if (flow.protocol !== 'udp' || sum !== 0) {
    const withAddress = flow.protocol === 'icmp' ? sum : change(sum);
    putU16(bytes, flow.checksumAt, adjusted(withAddress, u16(bytes, portAt), port));
  }
  putU32(bytes, addressAt, address);
  putU16(bytes, portAt, port);
}

const swapped = (word: number): number => ((word & 0xff) << 8) | (word >>> 8);

function noteFlags(bytes: Uint8Array, { transportAt }: IpPacket, entry: NatEntry): void {
  const flags = bytes[transportAt + 13] ?? 0;
  if ((flags & (TCP.fin | TCP.rst)) !== 0) entry.closing = true;
  else if ((flags & TCP.syn) !== 0) entry.closing = false;
}

/** Where the MSS stands in a SYN's options (RFC 9293 3.2). */
function mssAt(bytes: Uint8Array, { transportAt }: IpPacket, end: number): number | undefined {
  if (((bytes[transportAt + 13] ?? 0) & TCP.syn) === 0) return undefined;
  for (let at = transportAt + TCP.optionsAt; at + 1 < end && bytes[at] !== TCP.end;) {
    if (bytes[at] === TCP.nop) {
      at += 1;
      continue;
    }
    const length = bytes[at + 1] ?? 0;
    if (length < 2 || at + length > end) return undefined;
    if (bytes[at] === TCP.mssOption) return length === 4 ? at + 2 : undefined;
    at += length;
  }
  return undefined;
}
