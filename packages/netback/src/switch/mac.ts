/** MAC addresses: as text for people, as numbers below 2^48 for tables. */

export const MAC_BYTES = 6;
/** The group bit of the first byte: broadcast and multicast (IEEE 802). */
const GROUP_BIT = 1;
const LOW = 2 ** 32;

/** A MAC as a number; the first byte is the highest. */
export type MacNumber = number;

/** The MAC that stands at `at`, as a number. */
export function macAt(bytes: Uint8Array, at: number): MacNumber {
  const high = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  const low =
    (((bytes[at + 2] ?? 0) << 24) |
      ((bytes[at + 3] ?? 0) << 16) |
      ((bytes[at + 4] ?? 0) << 8) |
      (bytes[at + 5] ?? 0)) >>>
    0;
  return high * LOW + low;
}

/** Broadcast or multicast: the destination of the frame that begins at `at`. */
export const isGroupAt = (bytes: Uint8Array, at: number): boolean => ((bytes[at] ?? 0) & GROUP_BIT) !== 0;

export const isGroup = (mac: MacNumber): boolean => (Math.floor(mac / 2 ** 40) & GROUP_BIT) !== 0;

const MAC_TEXT = /^[0-9a-f]{1,2}(?::[0-9a-f]{1,2}){5}$/i;

/** `aa:bb:cc:dd:ee:ff` as a number; undefined for anything else. */
export function parseMac(text: string): MacNumber | undefined {
  if (!MAC_TEXT.test(text)) return undefined;
  return text.split(':').reduce((sum, part) => sum * 256 + parseInt(part, 16), 0);
}

export const macText = (mac: MacNumber): string =>
  [...macBytes(mac)].map((byte) => byte.toString(16).padStart(2, '0')).join(':');

export function macBytes(mac: MacNumber): Uint8Array {
  const bytes = new Uint8Array(MAC_BYTES);
  for (let i = MAC_BYTES - 1, rest = mac; i >= 0; i -= 1, rest = Math.floor(rest / 256)) bytes[i] = rest % 256;
  return bytes;
}
