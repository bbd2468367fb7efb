/**
 * Values of the subset of Python 2 that config files are written in. int is bigint, float is number, str is string, bool
 * and None are boolean and null; lists, tuples and dicts are the classes here. Every value is bounded in size.
 */
import { dictOrder, float as sxpFloat, intHash, stringHash } from '@xenhost/sxp';

export class PyList {
  items: PyValue[];
  constructor(items: PyValue[]) {
    this.items = items;
  }
}

export class PyTuple {
  readonly items: readonly PyValue[];
  constructor(items: readonly PyValue[]) {
    this.items = items;
  }
}

export class PyDict {
  /** By `dictKey` of the key; entries in the order in which they were added. */
  readonly entries = new Map<string, readonly [PyValue, PyValue]>();
  /** How many pairs the literal had that made it. */
  readonly #literal: number;

  constructor(literal = 0) {
    this.#literal = literal;
  }

  /** The entries in the order in which Python 2 goes through them; in the order added where a key's hash is not known. */
  inOrder(): readonly (readonly [PyValue, PyValue])[] {
    const all = [...this.entries.values()];
    const hashes = new Map<PyValue, bigint>();
    for (const [key] of all) {
      meter.charge(sizeOf(key));
      const hash = hashOf(key);
      if (hash === undefined) return all;
      hashes.set(key, hash);
    }
    return dictOrder(all, ([key]) => hashes.get(key) ?? 0n, this.#literal);
  }
}

function hashOf(key: PyValue): bigint | undefined {
  if (typeof key === 'string') return stringHash(key);
  const number = numberOf(key);
  if (number === undefined || (typeof number === 'number' && !Number.isSafeInteger(number))) return undefined;
  const whole = BigInt(number);
  return BigInt.asIntN(64, whole) === whole ? intHash(whole) : undefined;
}

/** Something that can be called with values only: in the tables of builtins.ts and modules.ts, or defined by the file itself. */
export class PyFunction {
  readonly name: string;
  readonly call: (args: readonly PyValue[], keywords: ReadonlyMap<string, PyValue>) => PyValue;
  constructor(name: string, call: PyFunction['call']) {
    this.name = name;
    this.call = call;
  }
}

/** A name space with a fixed set of members. */
export class PyModule {
  readonly name: string;
  readonly members: ReadonlyMap<string, PyValue>;
  constructor(name: string, members: ReadonlyMap<string, PyValue>) {
    this.name = name;
    this.members = members;
  }
}

export type PyValue = null | boolean | bigint | number | string | PyList | PyTuple | PyDict | PyFunction | PyModule;

/** What Python would raise: the message of an error at some line. */
export class PyError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PyError';
  }
}

/**
 * Counts the work that a file causes, so that it ends: one unit is about one element or one character touched. Reset
 * for each evaluation (evaluations do not overlap: they are synchronous).
 */
const MAX_CALLS = 40;

export class Meter {
  #left = 0;
  #calls = 0;
  reset(units: number): void {
    this.#left = units;
    this.#calls = 0;
  }
  /** Throws PyError when all is used up. */
  charge(units: number): void {
    this.#left -= units;
    if (this.#left < 0) throw new PyError('the file takes too long to evaluate');
  }
  /** Runs the body of a function. Throws PyError when functions call one another too deep. */
  within<T>(body: () => T): T {
    if (this.#calls >= MAX_CALLS) throw new PyError('maximum recursion depth exceeded');
    this.#calls += 1;
    try {
      return body();
    } finally {
      this.#calls -= 1;
    }
  }
}

export const meter = new Meter();

/** What it costs to go over a value once, not counting what its elements hold. */
export function sizeOf(value: PyValue): number {
  if (typeof value === 'string') return 1 + (value.length >> 4);
  if (typeof value === 'bigint') return 1 + (value.toString(16).length >> 4);
  if (value instanceof PyList || value instanceof PyTuple) return 1 + value.items.length;
  return value instanceof PyDict ? 1 + value.entries.size : 1;
}

/** Characters of a string, elements of a list, bits of an int. */
const MAX_STRING = 1 << 20;
export const MAX_ITEMS = 100_000;
const MAX_INT_BITS = 4096;
const INT_LIMIT = 1n << BigInt(MAX_INT_BITS);

export function checkedInt(value: bigint): bigint {
  if (value > INT_LIMIT || value < -INT_LIMIT) throw new PyError('number too large');
  return value;
}

export function checkedString(value: string): string {
  meter.charge(value.length >> 4);
  if (value.length > MAX_STRING) throw new PyError('string too long');
  return value;
}

export function checkedItems<T extends readonly PyValue[]>(items: T): T {
  if (items.length > MAX_ITEMS) throw new PyError('list too long');
  return items;
}

export function typeName(value: PyValue): string {
  if (value === null) return 'NoneType';
  switch (typeof value) {
    case 'boolean':
      return 'bool';
    case 'bigint':
      return 'int';
    case 'number':
      return 'float';
    case 'string':
      return 'str';
    default:
      if (value instanceof PyList) return 'list';
      if (value instanceof PyTuple) return 'tuple';
      if (value instanceof PyDict) return 'dict';
      return value instanceof PyFunction ? 'function' : 'module';
  }
}

export function truth(value: PyValue): boolean {
  if (value instanceof PyList || value instanceof PyTuple) return value.items.length > 0;
  if (value instanceof PyDict) return value.entries.size > 0;
  if (typeof value === 'bigint') return value !== 0n;
  return Boolean(value);
}

/** The number behind an int, a float or a bool. */
export function numberOf(value: PyValue): bigint | number | undefined {
  if (typeof value === 'boolean') return value ? 1n : 0n;
  return typeof value === 'bigint' || typeof value === 'number' ? value : undefined;
}

/** An int small enough to be an index or a count. Throws PyError. */
export function indexOf(value: PyValue): number {
  const number = numberOf(value);
  if (typeof number !== 'bigint') throw new PyError('an integer is required');
  if (number > BigInt(Number.MAX_SAFE_INTEGER) || number < -BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new PyError('number too large');
  }
  return Number(number);
}

const MAX_NESTING = 64;

function enter(depth: number): void {
  meter.charge(1);
  if (depth > MAX_NESTING) throw new PyError('value nested too deep');
}

/** `str(value)`. */
export function toStr(value: PyValue): string {
  return typeof value === 'string' ? value : repr(value);
}

/** `repr(value)`. */
export function repr(value: PyValue, depth = 0): string {
  enter(depth);
  const inner = (items: readonly PyValue[]): string => items.map((item) => repr(item, depth + 1)).join(', ');
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'bigint') return value.toString();
  if (typeof value === 'number') return sxpFloat(value).toString();
  if (typeof value === 'string') return quote(value);
  if (value instanceof PyList) return checkedString(`[${inner(value.items)}]`);
  if (value instanceof PyTuple) return checkedString(`(${inner(value.items)}${value.items.length === 1 ? ',' : ''})`);
  if (value instanceof PyDict) {
    const pairs = value.inOrder().map(([key, item]) => `${repr(key, depth + 1)}: ${repr(item, depth + 1)}`);
    return checkedString(`{${pairs.join(', ')}}`);
  }
  return `<${typeName(value)} ${value.name}>`;
}

function quote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(
    /[\\\n\r\t]/g,
    (char) => ({ '\\': '\\\\', '\n': '\\n', '\r': '\\r', '\t': '\\t' })[char] ?? char,
  );
  return mark + (mark === "'" ? escaped.replaceAll("'", "\\'") : escaped) + mark;
}

/** What makes two keys of a dict the same. Throws PyError for what cannot be one. */
export function dictKey(value: PyValue, depth = 0): string {
  enter(depth);
  const number = numberOf(value);
  if (number !== undefined) return `n${Number(number)}`;
  if (typeof value === 'string') return `s${value}`;
  if (value === null) return 'None';
  if (value instanceof PyTuple) {
    const parts = value.items.map((item) => dictKey(item, depth + 1));
    return checkedString(`t${parts.map((part) => `${part.length}:${part}`).join('')}`);
  }
  throw new PyError(`unhashable type: '${typeName(value)}'`);
}

export function equal(a: PyValue, b: PyValue, depth = 0): boolean {
  enter(depth);
  const [x, y] = [numberOf(a), numberOf(b)];
  // bigint and number compare by value with ==.
  // eslint-disable-next-line eqeqeq -- === would never find 1 and 1.0 equal
  if (x !== undefined && y !== undefined) return x == y;
  if ((a instanceof PyList && b instanceof PyList) || (a instanceof PyTuple && b instanceof PyTuple)) {
    return a.items.length === b.items.length && a.items.every((item, i) => equal(item, b.items[i] ?? null, depth + 1));
  }
  if (a instanceof PyDict && b instanceof PyDict) {
    if (a.entries.size !== b.entries.size) return false;
    return [...a.entries].every(([key, [, item]]) => {
      const other = b.entries.get(key);
      return other !== undefined && equal(item, other[1], depth + 1);
    });
  }
  return a === b;
}

/** Negative, zero, positive. Numbers, strings and sequences of them have an order here; nothing else does. */
export function compare(a: PyValue, b: PyValue, depth = 0): number {
  enter(depth);
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== undefined && y !== undefined) return x < y ? -1 : x > y ? 1 : 0;
  if (typeof a === 'string' && typeof b === 'string') return a < b ? -1 : a > b ? 1 : 0;
  if ((a instanceof PyList && b instanceof PyList) || (a instanceof PyTuple && b instanceof PyTuple)) {
    for (let i = 0; i < Math.min(a.items.length, b.items.length); i += 1) {
      const order = compare(a.items[i] ?? null, b.items[i] ?? null, depth + 1);
      if (order !== 0) return order;
    }
    return a.items.length - b.items.length;
  }
  throw new PyError(`cannot order '${typeName(a)}' and '${typeName(b)}'`);
}

/** The elements of anything that a loop may go over. Throws PyError. */
export function iterate(value: PyValue): readonly PyValue[] {
  if (value instanceof PyList) return [...value.items];
  if (value instanceof PyTuple) return value.items;
  if (value instanceof PyDict) return value.inOrder().map(([key]) => key);
  if (typeof value === 'string') return checkedItems(Array.from(value));
  throw new PyError(`'${typeName(value)}' object is not iterable`);
}
