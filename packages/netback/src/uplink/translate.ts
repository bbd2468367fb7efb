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
import { MIN_SEGMENT_BYTES } from '../switch/limits.ts';
import type { NatEntry, NatProtocol } from './nat.ts';
import { ICMP_ECHO } from './packets.ts';

const TCP = { fin: 0x01, syn: 0x02, rst: 0x04, windowAt: 14, optionsAt: 20 } as const;
const TCP_OPTION = { end: 0, nop: 1, mss: 2, windowScale: 3 } as const;
/** The largest shift of a window (RFC 7323 2.3). */
const MAX_WINDOW_SHIFT = 14;
/**
 * What a guest may have on its way from passt. passt drops what its socket does not take at once, 208 KiB by Linux' default: a larger
 * window costs more in retransmissions than it gains (docs/RATIONALE.md).
 */
const MAX_WINDOW_BYTES = 128 << 10;
/** What an IPv4 packet of 65,535 bytes holds behind headers without options. */
const LARGEST_MSS = 65_495;
const UDP_HEADER_BYTES = 8;
const ICMP_HEADER_BYTES = 8;

/** Where a packet's port (or echo identifier) stands, seen from the guest. */
export interface Flow {
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
    if (((head[packet.transportAt + 13] ?? 0) & TCP.syn) !== 0) rewriteSyn(head, packet, flow, entry);
    else rewriteWindow(head, packet, flow, entry);
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

function rewriteSyn(head: Uint8Array, { transportAt }: IpPacket, flow: Flow, entry: NatEntry): void {
  const scaleAt = optionAt(head, transportAt, TCP_OPTION.windowScale, 3);
  entry.windowShift = scaleAt === undefined ? 0 : Math.min(head[scaleAt] ?? 0, MAX_WINDOW_SHIFT);
  const at = optionAt(head, transportAt, TCP_OPTION.mss, 4);
  if (at === undefined) return;
  const announced = u16(head, at);
  entry.mss = Math.max(announced, MIN_SEGMENT_BYTES);
  // Padding may put the option at an odd place, where the sum sees its bytes swapped.
  const odd = ((at - transportAt) & 1) !== 0;
  const [before, after] = odd ? [swapped(announced), swapped(LARGEST_MSS)] : [announced, LARGEST_MSS];
  putU16(head, flow.checksumAt, adjusted(u16(head, flow.checksumAt), before, after));
  putU16(head, at, LARGEST_MSS);
}

function rewriteWindow(head: Uint8Array, { transportAt }: IpPacket, flow: Flow, { windowShift }: NatEntry): void {
  const at = transportAt + TCP.windowAt;
  const window = u16(head, at);
  const most = MAX_WINDOW_BYTES >>> windowShift;
  if (window <= most) return;
  putU16(head, flow.checksumAt, adjusted(u16(head, flow.checksumAt), window, most));
  putU16(head, at, most);
}

/** Where the value of an option of `bytes` bytes stands in a TCP header that ends with `head` (RFC 9293 3.2). */
function optionAt(head: Uint8Array, transportAt: number, kind: number, bytes: number): number | undefined {
  for (let at = transportAt + TCP.optionsAt; at + 1 < head.length && head[at] !== TCP_OPTION.end;) {
    if (head[at] === TCP_OPTION.nop) {
      at += 1;
      continue;
    }
    const length = head[at + 1] ?? 0;
    if (length < 2 || at + length > head.length) return undefined;
    if (head[at] === kind) return length === bytes ? at + 2 : undefined;
    at += length;
  }
  return undefined;
}
