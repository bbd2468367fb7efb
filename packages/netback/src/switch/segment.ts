/**
 * Cuts a large TCP frame into segments that fit its receiver's link, as a network card with TSO does: IP lengths, IPv4 ids and
 * header checksums, sequence numbers, flags (CWR in the first only, FIN and PSH in the last only) and TCP checksums.
 * Not for fragments; IPv4 options, IPv6 extension headers and TCP options are repeated in every segment.
 */
import { internetChecksum, writeTransportChecksum } from './checksum.ts';
import type { Gso } from './frame.ts';
import { IP_PROTOCOL, ipPacket, type IpPacket, putU16, putU32, tcpHeaderBytes, u16, u32 } from './headers.ts';
import { MIN_SEGMENT_BYTES } from './limits.ts';

/** Byte 13 of a TCP header (RFC 9293, RFC 3168). */
const TCP_FLAG = { fin: 0x01, psh: 0x08, cwr: 0x80 } as const;

/** Whole frames; undefined when the frame is not what `gso` says or the segments would be too many. */
export function segmentFrame(frame: Uint8Array, gso: Gso): Uint8Array[] | undefined {
  const packet = ipPacket(frame);
  if (!packet || packet.fragment || packet.protocol !== IP_PROTOCOL.tcp) return undefined;
  if (packet.version !== (gso.type === 'tcpv4' ? 4 : 6) || gso.size < MIN_SEGMENT_BYTES) return undefined;
  const tcpBytes = tcpHeaderBytes(frame, packet);
  if (tcpBytes === undefined) return undefined;
  const payloadAt = packet.transportAt + tcpBytes;
  const segments: Uint8Array[] = [];
  let at = payloadAt;
  do {
    const to = Math.min(at + gso.size, packet.end);
    const bytes = new Uint8Array(payloadAt + (to - at));
    bytes.set(frame.subarray(0, payloadAt));
    bytes.set(frame.subarray(at, to), payloadAt);
    const part: IpPacket = { ...packet, end: bytes.length };
    writeIpHeader(bytes, part, segments.length);
    const { transportAt } = part;
    putU32(bytes, transportAt + 4, u32(frame, transportAt + 4) + (at - payloadAt));
    let flags = frame[transportAt + 13] ?? 0;
    if (at > payloadAt) flags &= ~TCP_FLAG.cwr;
    if (to < packet.end) flags &= ~(TCP_FLAG.fin | TCP_FLAG.psh);
    bytes[transportAt + 13] = flags;
    writeTransportChecksum(bytes, part, transportAt + 16);
    segments.push(bytes);
    at = to;
  } while (at < packet.end);
  return segments;
}

function writeIpHeader(bytes: Uint8Array, { version, ipAt, transportAt, end }: IpPacket, index: number): void {
  if (version === 6) {
    putU16(bytes, ipAt + 4, end - ipAt - 40);
    return;
  }
  putU16(bytes, ipAt + 2, end - ipAt);
  putU16(bytes, ipAt + 4, (u16(bytes, ipAt + 4) + index) & 0xffff);
  putU16(bytes, ipAt + 10, 0);
  putU16(bytes, ipAt + 10, internetChecksum(bytes, ipAt, transportAt));
}
