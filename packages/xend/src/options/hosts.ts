/** Who may connect: regular expressions for names and addresses (Xen 4.4 `connection.py` hostAllowed). */
import { lookupService } from 'node:dns/promises';

/** Patterns of a space-separated list; undefined for an empty one: everybody may connect. Throws Error. */
export function parseHostPatterns(text: string): readonly RegExp[] | undefined {
  const words = text.split(' ').filter((word) => word !== '');
  if (words.length === 0) return undefined;
  return words.map((word) => {
    try {
      // Python's match() looks at the beginning only.
      return new RegExp(`^(?:${word})`);
    } catch {
      throw new Error(`not a regular expression: ${word}`);
    }
  });
}

/** The full name of an address; the address itself when it has none. */
export type NameOf = (address: string) => Promise<string>;

export const nameOf: NameOf = async (address) => {
  try {
    return (await lookupService(address, 0)).hostname;
  } catch {
    return address;
  }
};

/** Whether a host with this address may connect; its name is looked up only when the address does not tell. */
export async function hostAllowed(
  patterns: readonly RegExp[] | undefined,
  address: string | undefined,
  lookup: NameOf = nameOf,
): Promise<boolean> {
  if (patterns === undefined) return true;
  if (address === undefined) return false;
  // An IPv4 host on a socket for both families.
  const plain = address.replace(/^::ffff:(?=\d+\.)/i, '');
  if (patterns.some((pattern) => pattern.test(plain))) return true;
  const name = await lookup(plain);
  return patterns.some((pattern) => pattern.test(name));
}
