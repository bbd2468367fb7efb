/**
 * The order in which Python 2 goes through a dict: what `xm create -n` shows of key=value texts, and what a loop over a
 * dict sees (CPython 2.7 `Objects/dictobject.c`, 64 bits, no hash randomisation).
 */

const MASK = (1n << 64n) - 1n;
const MULTIPLIER = 1_000_003n;
const FIRST_SIZE = 8;
const PERTURB_SHIFT = 5n;
const SMALL_LITERAL = 5;
/** Beyond this many keys a table grows by two, not by four. */
const LARGE = 50_000;

/** `hash(text)` as an unsigned number; of the UTF-8 bytes. */
export function stringHash(text: string): bigint {
  const bytes = new TextEncoder().encode(text);
  const [first] = bytes;
  if (first === undefined) return 0n;
  let hash = BigInt(first) << 7n;
  for (const byte of bytes) hash = ((hash * MULTIPLIER) & MASK) ^ BigInt(byte);
  hash ^= BigInt(bytes.length);
  return hash === MASK ? MASK - 1n : hash;
}

/** `hash(number)` for the ints that are small enough to be their own. */
export const intHash = (value: bigint): bigint => (value === -1n ? MASK - 1n : BigInt.asUintN(64, value));

/**
 * The keys in the order of their places in the table, when put in one after the other. `literal`: how many pairs the
 * literal had that made the dict; one of more than five starts with a table of that size.
 */
export function dictOrder<T>(keys: readonly T[], hashOf: (key: T) => bigint, literal = 0): T[] {
  let size = FIRST_SIZE;
  while (literal > SMALL_LITERAL && size <= literal) size *= 2;
  let table = new Map<number, T>();
  const place = (key: T): void => {
    const hash = hashOf(key);
    const mask = BigInt(size - 1);
    let slot = hash & mask;
    let perturb = hash;
    while (table.has(Number(slot & mask))) {
      slot = (slot << 2n) + slot + perturb + 1n;
      perturb >>= PERTURB_SHIFT;
    }
    table.set(Number(slot & mask), key);
  };
  for (const key of keys) {
    place(key);
    if (table.size * 3 < size * 2) continue;
    const held = inOrder(table);
    const wanted = table.size * (table.size > LARGE ? 2 : 4);
    while (size <= wanted) size *= 2;
    table = new Map();
    held.forEach(place);
  }
  return inOrder(table);
}

const inOrder = <T>(table: ReadonlyMap<number, T>): T[] => [...table].sort(([a], [b]) => a - b).map(([, key]) => key);
