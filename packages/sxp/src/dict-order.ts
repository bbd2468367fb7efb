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

/** A dict's table: which key is in which place. */
class Table<T> {
  #size: number;
  #places = new Map<number, T>();
  readonly #hashOf: (key: T) => bigint;

  constructor(hashOf: (key: T) => bigint, literal: number) {
    this.#hashOf = hashOf;
    this.#size = FIRST_SIZE;
    while (literal > SMALL_LITERAL && this.#size <= literal) this.#size *= 2;
  }

  /** Puts a key in that is not there. */
  add(key: T): void {
    this.#place(key);
    const used = this.#places.size;
    if (used * 3 >= this.#size * 2) this.#grow(used * (used > LARGE ? 2 : 4));
  }

  /** Makes room for as many keys at once as update() is about to put in. */
  reserve(count: number): void {
    const wanted = this.#places.size + count;
    if (wanted * 3 >= this.#size * 2) this.#grow(wanted * 2);
  }

  inOrder(): T[] {
    return [...this.#places].sort(([a], [b]) => a - b).map(([, key]) => key);
  }

  #place(key: T): void {
    const hash = this.#hashOf(key);
    const mask = BigInt(this.#size - 1);
    let slot = hash & mask;
    let perturb = hash;
    while (this.#places.has(Number(slot & mask))) {
      slot = (slot << 2n) + slot + perturb + 1n;
      perturb >>= PERTURB_SHIFT;
    }
    this.#places.set(Number(slot & mask), key);
  }

  #grow(wanted: number): void {
    const held = this.inOrder();
    this.#size = FIRST_SIZE;
    while (this.#size <= wanted) this.#size *= 2;
    this.#places = new Map();
    for (const key of held) this.#place(key);
  }
}

/**
 * The keys in the order of their places in the table, when put in one after the other. `literal`: how many pairs the
 * literal had that made the dict; one of more than five starts with a table of that size.
 */
export function dictOrder<T>(keys: readonly T[], hashOf: (key: T) => bigint, literal = 0): T[] {
  const table = new Table(hashOf, literal);
  for (const key of keys) table.add(key);
  return table.inOrder();
}

/** The same after `dict.update({...})` with a literal of these keys, of which the dict has none. */
export function updatedOrder<T>(keys: readonly T[], more: readonly T[], hashOf: (key: T) => bigint): T[] {
  const table = new Table(hashOf, 0);
  for (const key of keys) table.add(key);
  table.reserve(more.length);
  for (const key of dictOrder(more, hashOf, more.length)) table.add(key);
  return table.inOrder();
}
