/** IP addresses and networks as configurations write them. */
import { isIPv6 } from 'node:net';

/** An IPv4 address; the first byte is the highest. */
export type Ipv4 = number;

export function parseIpv4(text: string): Ipv4 | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (!match) return undefined;
  const parts = match.slice(1).map(Number);
  return parts.some((part) => part > 255) ? undefined : parts.reduce((sum, part) => sum * 256 + part, 0);
}

export const ipv4Text = (ip: Ipv4): string => [24, 16, 8, 0].map((shift) => (ip >>> shift) & 0xff).join('.');

export interface Ipv4Network {
  readonly address: Ipv4;
  readonly bits: number;
}

export const ipv4Mask = (bits: number): number => (bits === 0 ? 0 : (0xffff_ffff << (32 - bits)) >>> 0);

export const inIpv4Network = (ip: Ipv4, { address, bits }: Ipv4Network): boolean =>
  ((ip ^ address) & ipv4Mask(bits)) === 0;

/** `a.b.c.d/bits`; without bits the one address. */
export function parseIpv4Network(text: string): Ipv4Network | undefined {
  const [ip = '', bits, ...more] = text.split('/');
  const address = parseIpv4(ip);
  const length = prefixLength(bits, 32);
  return address === undefined || length === undefined || more.length > 0 ? undefined : { address, bits: length };
}

export interface Ipv6Network {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** `ADDRESS/bits`; without bits the one address. */
export function parseIpv6Network(text: string): Ipv6Network | undefined {
  const [ip = '', bits, ...more] = text.split('/');
  const bytes = parseIpv6(ip);
  const length = prefixLength(bits, 128);
  return bytes === undefined || length === undefined || more.length > 0 ? undefined : { bytes, bits: length };
}

/** Whether the 16 bytes at `at` lie in the network. */
export function inIpv6Network(frame: Uint8Array, at: number, { bytes, bits }: Ipv6Network): boolean {
  for (let i = 0; i * 8 < bits; i += 1) {
    const mask = bits - i * 8 >= 8 ? 0xff : (0xff << (8 - (bits - i * 8))) & 0xff;
    if ((((frame[at + i] ?? 0) ^ (bytes[i] ?? 0)) & mask) !== 0) return false;
  }
  return true;
}

function parseIpv6(text: string): Uint8Array | undefined {
  if (!isIPv6(text) || text.includes('%')) return undefined;
  const v4 = /(\d+\.\d+\.\d+\.\d+)$/.exec(text)?.[1];
  const low = v4 === undefined ? undefined : parseIpv4(v4);
  const plain =
    v4 === undefined || low === undefined
      ? text
      : `${text.slice(0, -v4.length)}${(low >>> 16).toString(16)}:${(low & 0xffff).toString(16)}`;
  const [head = '', tail] = plain.split('::');
  const words = (part: string): number[] => (part === '' ? [] : part.split(':').map((word) => parseInt(word, 16)));
  const first = words(head);
  const last = words(tail ?? '');
  const all = [...first, ...new Array<number>(8 - first.length - last.length).fill(0), ...last];
  return Uint8Array.from(all.flatMap((word) => [word >>> 8, word & 0xff]));
}

function prefixLength(text: string | undefined, max: number): number | undefined {
  if (text === undefined) return max;
  return /^\d{1,3}$/.test(text) && Number(text) <= max ? Number(text) : undefined;
}
