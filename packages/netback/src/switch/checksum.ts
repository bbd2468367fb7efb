/** The Internet checksum (RFC 1071), whole and by difference (RFC 1624), and what an offload left of it to us. */
import { checksumAt, IP_PROTOCOL, ipPacket, type IpPacket, putU16 } from './headers.ts';

/** The sum of big-endian 16-bit words, an odd last byte padded; added to `sum`, not folded. Below 2^53 for any frame. */
export function sumWords(bytes: Uint8Array, from: number, to: number, sum = 0): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let high = 0;
  let low = 0;
  let at = from;
  // Two words a step: a frame's checksum is most of what completing it costs.
  for (; at + 4 <= to; at += 4) {
    const words = view.getUint32(at);
    high += words >>> 16;
    low += words & 0xffff;
  }
  if (at + 2 <= to) {
    high += view.getUint16(at);
    at += 2;
  }
  if (at < to) low += view.getUint8(at) << 8;
  return sum + high + low;
}

/** One's complement sum in 16 bits. */
export function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return folded;
}

export const internetChecksum = (bytes: Uint8Array, from: number, to: number): number =>
  ~fold(sumWords(bytes, from, to)) & 0xffff;

/** The sum of the pseudo header of a packet (RFC 9293 3.1, RFC 8200 8.1): addresses, protocol, transport length. */
export function pseudoHeaderSum(bytes: Uint8Array, packet: IpPacket): number {
  const { version, ipAt, protocol, transportAt, end } = packet;
  const [from, to] = version === 4 ? [ipAt + 12, ipAt + 20] : [ipAt + 8, ipAt + 40];
  return sumWords(bytes, from, to, protocol + (end - transportAt));
}

/** Writes the checksum of a TCP or UDP packet at `at` (see checksumAt). */
export function writeTransportChecksum(bytes: Uint8Array, packet: IpPacket, at: number): void {
  putU16(bytes, at, 0);
  const sum = ~fold(sumWords(bytes, packet.transportAt, packet.end, pseudoHeaderSum(bytes, packet))) & 0xffff;
  // A UDP checksum of zero would say that there is none (RFC 768).
  putU16(bytes, at, sum === 0 && packet.protocol === IP_PROTOCOL.udp ? 0xffff : sum);
}

/**
 * A copy of a frame whose transport checksum was left to us, with the checksum in place. The sum that the sender left is not
 * believed. Undefined when the frame holds no whole TCP or UDP packet.
 */
export function completeChecksum(frame: Uint8Array): Uint8Array | undefined {
  const packet = ipPacket(frame);
  const at = packet && checksumAt(frame, packet);
  if (packet === undefined || at === undefined) return undefined;
  const bytes = new Uint8Array(frame);
  writeTransportChecksum(bytes, packet, at);
  return bytes;
}

/** A checksum after one word under it has changed (RFC 1624, eqn. 3). */
export const adjusted = (checksum: number, before: number, after: number): number =>
  ~fold((~checksum & 0xffff) + (~before & 0xffff) + after) & 0xffff;
