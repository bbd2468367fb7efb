/** Functions without a module, and methods of strings, lists and dicts. Nothing here touches the world. */
import { formatBraces } from './str-format.ts';
import {
  MAX_ITEMS,
  PyDict,
  PyError,
  PyFunction,
  PyList,
  PyTuple,
  checkedInt,
  checkedItems,
  checkedString,
  compare,
  dictKey,
  equal,
  indexOf,
  iterate,
  numberOf,
  repr,
  toStr,
  truth,
  typeName,
  type PyValue,
} from './values.ts';

type Call = (...args: PyValue[]) => PyValue;

const list = (items: PyValue[]): PyList => new PyList(checkedItems(items));
const number = (value: PyValue): bigint | number => {
  const found = numberOf(value);
  if (found === undefined) throw new PyError(`a number is required, not ${typeName(value)}`);
  return found;
};
const text = (value: PyValue | undefined): string => {
  if (typeof value !== 'string') throw new PyError(`expected a string, not ${typeName(value ?? null)}`);
  return value;
};

/** Wraps a function with the number of arguments it takes. */
function fn(name: string, min: number, max: number, call: Call): readonly [string, PyFunction] {
  return [
    name,
    new PyFunction(name, (args, keywords) => {
      if (keywords.size > 0) throw new PyError(`${name}() takes no keyword arguments`);
      if (args.length < min || args.length > max) {
        throw new PyError(`${name}() takes ${min === max ? min : `${min} to ${max}`} arguments (${args.length} given)`);
      }
      return call(...args);
    }),
  ];
}

function range(first: PyValue, second?: PyValue, third?: PyValue): PyList {
  const [start, stop] = second === undefined ? [0, indexOf(first)] : [indexOf(first), indexOf(second)];
  const step = third === undefined ? 1 : indexOf(third);
  if (step === 0) throw new PyError('range() step argument must not be zero');
  if ((stop - start) / step > MAX_ITEMS) throw new PyError('list too long');
  const items: PyValue[] = [];
  for (let i = start; step > 0 ? i < stop : i > stop; i += step) items.push(BigInt(i));
  return new PyList(items);
}

function called(call: PyValue, item: PyValue): PyValue {
  if (!(call instanceof PyFunction)) throw new PyError(`'${typeName(call)}' object is not callable`);
  return call.call([item], new Map());
}

function toInt(value: PyValue, base?: PyValue): bigint {
  if (typeof value !== 'string') {
    const n = number(value);
    return typeof n === 'bigint' ? n : BigInt(Math.trunc(n));
  }
  const radix = base === undefined ? 10 : indexOf(base);
  const match = /^\s*([-+]?)(0[xX]|0[oO]|0[bB])?([0-9a-zA-Z]{1,1000})[lL]?\s*$/.exec(value);
  const digits = match?.[3] ?? '';
  const prefixBase = { '0x': 16, '0o': 8, '0b': 2 }[(match?.[2] ?? '').toLowerCase()];
  const actual =
    prefixBase !== undefined && (radix === prefixBase || radix === 0) ? prefixBase : radix === 0 ? 10 : radix;
  const valid = Array.from(digits.toLowerCase()).every((char) => Number.parseInt(char, 36) < actual);
  if (!match || !valid || (prefixBase !== undefined && prefixBase !== actual)) {
    throw new PyError(`invalid literal for int() with base ${radix}: ${repr(value)}`);
  }
  let result = 0n;
  for (const char of digits.toLowerCase())
    result = checkedInt(result * BigInt(actual) + BigInt(Number.parseInt(char, 36)));
  return match[1] === '-' ? -result : result;
}

function toFloat(value: PyValue): number {
  if (typeof value !== 'string') return Number(number(value));
  const parsed = value.trim() === '' ? Number.NaN : Number(value);
  if (Number.isNaN(parsed)) throw new PyError(`invalid literal for float(): ${value}`);
  return parsed;
}

function length(value: PyValue): bigint {
  if (value instanceof PyDict) return BigInt(value.entries.size);
  if (typeof value === 'string') return BigInt(value.length);
  if (value instanceof PyList || value instanceof PyTuple) return BigInt(value.items.length);
  throw new PyError(`object of type '${typeName(value)}' has no len()`);
}

const extreme = (name: string, sign: number): readonly [string, PyFunction] =>
  fn(name, 1, 1000, (...args) => {
    const items = args.length === 1 ? iterate(args[0] ?? null) : args;
    const first = items[0];
    if (first === undefined) throw new PyError(`${name}() arg is an empty sequence`);
    return items.reduce((best, item) => (compare(item, best) * sign > 0 ? item : best), first);
  });

function dictOf(pairs: readonly PyValue[]): PyDict {
  const dict = new PyDict();
  for (const pair of pairs) {
    const [key = null, item = null] = iterate(pair);
    dict.entries.set(dictKey(key), [key, item]);
  }
  return dict;
}

/** `dict(pairs)`, `dict(other)`, `dict(key=value)`. */
function makeDict(args: readonly PyValue[], keywords: ReadonlyMap<string, PyValue>): PyDict {
  if (args.length > 1) throw new PyError(`dict expected at most 1 arguments, got ${args.length}`);
  const [from = ''] = args;
  const pairs = from instanceof PyDict ? [...from.entries.values()].map((pair) => new PyTuple(pair)) : iterate(from);
  return dictOf([...pairs, ...[...keywords].map(([key, value]) => new PyTuple([key, value]))]);
}

export const builtins: ReadonlyMap<string, PyValue> = new Map<string, PyValue>([
  fn('len', 1, 1, (value = null) => length(value)),
  fn('range', 1, 3, (first = null, ...more) => range(first, ...more)),
  fn('xrange', 1, 3, (first = null, ...more) => range(first, ...more)),
  fn('str', 0, 1, (value = '') => toStr(value)),
  fn('repr', 1, 1, (value = null) => repr(value)),
  fn('int', 0, 2, (value = 0n, base) => toInt(value, base)),
  fn('long', 0, 2, (value = 0n, base) => toInt(value, base)),
  fn('float', 0, 1, (value = 0) => toFloat(value)),
  fn('bool', 0, 1, (value = false) => truth(value)),
  fn('list', 0, 1, (value = '') => list([...iterate(value)])),
  fn('tuple', 0, 1, (value = '') => new PyTuple([...iterate(value)])),
  ['dict', new PyFunction('dict', makeDict)],
  fn('abs', 1, 1, (value = null) => {
    const n = number(value);
    if (typeof n === 'bigint') return n < 0n ? -n : n;
    return Math.abs(n);
  }),
  extreme('min', -1),
  extreme('max', 1),
  fn('sum', 1, 2, (items = null, start = 0n) =>
    iterate(items).reduce<bigint | number>((total, item) => {
      const n = number(item);
      return typeof total === 'bigint' && typeof n === 'bigint' ? checkedInt(total + n) : Number(total) + Number(n);
    }, number(start)),
  ),
  fn('sorted', 1, 1, (items = null) => list([...iterate(items)].sort((a, b) => compare(a, b)))),
  fn('reversed', 1, 1, (items = null) => list([...iterate(items)].reverse())),
  fn('enumerate', 1, 2, (items = null, start = 0n) =>
    list(iterate(items).map((item, i) => new PyTuple([BigInt(indexOf(start) + i), item]))),
  ),
  fn('zip', 0, 16, (...columns) => {
    const all = columns.map((column) => iterate(column));
    const rows = Math.min(...all.map((column) => column.length), MAX_ITEMS);
    return list(
      all.length === 0 ? [] : Array.from({ length: rows }, (_, i) => new PyTuple(all.map((c) => c[i] ?? null))),
    );
  }),
  fn('map', 2, 2, (call = null, items = null) => list(iterate(items).map((item) => called(call, item)))),
  fn('filter', 2, 2, (call = null, items = null) =>
    list(iterate(items).filter((item) => truth(call === null ? item : called(call, item)))),
  ),
  fn('any', 1, 1, (items = null) => iterate(items).some(truth)),
  fn('all', 1, 1, (items = null) => iterate(items).every(truth)),
  fn('hex', 1, 1, (value = null) => `0x${BigInt(indexOf(value)).toString(16)}`),
  fn('oct', 1, 1, (value = null) => `0${BigInt(indexOf(value)).toString(8)}`),
  fn('chr', 1, 1, (value = null) => String.fromCharCode(indexOf(value) & 0xff)),
  fn('ord', 1, 1, (value = null) => {
    if (text(value).length !== 1) throw new PyError('ord() expected a character');
    return BigInt(text(value).charCodeAt(0));
  }),
  fn('round', 1, 2, (value = null, digits = 0n) =>
    Number(Number(number(value)).toFixed(Math.min(20, Math.max(0, indexOf(digits))))),
  ),
]);

const strip = (value: string, chars: PyValue | undefined, left: boolean, right: boolean): string => {
  const set = chars === undefined || chars === null ? ' \t\n\r\v\f' : text(chars);
  let from = 0;
  let to = value.length;
  while (left && from < to && set.includes(value.charAt(from))) from += 1;
  while (right && to > from && set.includes(value.charAt(to - 1))) to -= 1;
  return value.slice(from, to);
};

function split(value: string, separator: PyValue | undefined, limit: PyValue | undefined): PyList {
  const most = limit === undefined || indexOf(limit) < 0 ? Number.POSITIVE_INFINITY : indexOf(limit);
  const parts: string[] = [];
  let rest = value;
  if (separator === undefined || separator === null) {
    rest = rest.trimStart();
    while (rest !== '') {
      const match = parts.length < most ? /^(\S+)\s*/.exec(rest) : null;
      parts.push(match?.[1] ?? rest.trimEnd());
      rest = match ? rest.slice(match[0].length) : '';
    }
  } else {
    if (separator === '') throw new PyError('empty separator');
    const all = rest.split(text(separator));
    parts.push(...(all.length - 1 <= most ? all : [...all.slice(0, most), all.slice(most).join(text(separator))]));
  }
  return list(parts);
}

/** Methods of a string by name; also the functions of module string. */
export const stringMethods: Readonly<Record<string, (self: string, ...args: PyValue[]) => PyValue>> = {
  join: (self, items = null) =>
    checkedString(
      iterate(items)
        .map((item) => text(item))
        .join(self),
    ),
  split: (self, separator, limit) => split(self, separator, limit),
  splitlines: (self) => list(self.replace(/\n$/, '').split(/\r?\n/)),
  strip: (self, chars) => strip(self, chars, true, true),
  lstrip: (self, chars) => strip(self, chars, true, false),
  rstrip: (self, chars) => strip(self, chars, false, true),
  upper: (self) => self.toUpperCase(),
  lower: (self) => self.toLowerCase(),
  capitalize: (self) => self.charAt(0).toUpperCase() + self.slice(1).toLowerCase(),
  replace: (self, from, to) => checkedString(from === '' ? self : self.slice(0).split(text(from)).join(text(to))),
  startswith: (self, prefix) => self.startsWith(text(prefix)),
  endswith: (self, suffix) => self.endsWith(text(suffix)),
  find: (self, part) => BigInt(self.indexOf(text(part))),
  rfind: (self, part) => BigInt(self.lastIndexOf(text(part))),
  index: (self, part) => {
    const at = self.indexOf(text(part));
    if (at < 0) throw new PyError('substring not found');
    return BigInt(at);
  },
  count: (self, part) => BigInt(text(part) === '' ? self.length + 1 : self.split(text(part)).length - 1),
  isdigit: (self) => /^\d+$/.test(self),
  isalpha: (self) => /^[A-Za-z]+$/.test(self),
  isalnum: (self) => /^[A-Za-z0-9]+$/.test(self),
  zfill: (self, width = 0n) => checkedString(self.padStart(width_(width), '0')),
  ljust: (self, width = 0n, fill = ' ') => checkedString(self.padEnd(width_(width), filler(fill))),
  rjust: (self, width = 0n, fill = ' ') => checkedString(self.padStart(width_(width), filler(fill))),
  center: (self, width = 0n, fill = ' ') => {
    const wanted = width_(width);
    const gap = Math.max(0, wanted - self.length);
    // Python 2: the odd one goes left when the width is odd too.
    const left = Math.floor(gap / 2) + (gap & wanted & 1);
    return checkedString(filler(fill).repeat(left) + self + filler(fill).repeat(gap - left));
  },
};

function filler(value: PyValue): string {
  if (typeof value !== 'string' || value.length !== 1) throw new PyError('the fill character must be one character');
  return value;
}

function width_(value: PyValue): number {
  const width = indexOf(value);
  if (width > MAX_ITEMS) throw new PyError('string too long');
  return width;
}

const listMethods: Readonly<Record<string, (self: PyList, ...args: PyValue[]) => PyValue>> = {
  append: (self, item = null) => void_(() => checkedItems(self.items).push(item)),
  extend: (self, items = null) => void_(() => (self.items = checkedItems([...self.items, ...iterate(items)]))),
  insert: (self, at = 0n, item = null) => void_(() => self.items.splice(indexOf(at), 0, item)),
  pop: (self, at = -1n) => {
    const index = indexOf(at) < 0 ? indexOf(at) + self.items.length : indexOf(at);
    const [gone] = index < 0 ? [] : self.items.splice(index, 1);
    if (gone === undefined) throw new PyError('pop index out of range');
    return gone;
  },
  remove: (self, item = null) => {
    const at = self.items.findIndex((other) => equal(item, other));
    if (at < 0) throw new PyError('list.remove(x): x not in list');
    return void_(() => self.items.splice(at, 1));
  },
  reverse: (self) => void_(() => self.items.reverse()),
  sort: (self) => void_(() => self.items.sort((a, b) => compare(a, b))),
  index: (self, item = null) => {
    const at = self.items.findIndex((other) => equal(item, other));
    if (at < 0) throw new PyError(`${repr(item)} is not in list`);
    return BigInt(at);
  },
  count: (self, item = null) => BigInt(self.items.filter((other) => equal(item, other)).length),
};

const dictMethods: Readonly<Record<string, (self: PyDict, ...args: PyValue[]) => PyValue>> = {
  get: (self, key = null, fallback = null) => self.entries.get(dictKey(key))?.[1] ?? fallback,
  has_key: (self, key = null) => self.entries.has(dictKey(key)),
  keys: (self) => list(self.inOrder().map(([key]) => key)),
  values: (self) => list(self.inOrder().map(([, item]) => item)),
  items: (self) => list(self.inOrder().map((pair) => new PyTuple(pair))),
  update: (self, other = null) => {
    if (!(other instanceof PyDict)) throw new PyError('update() wants a dict');
    for (const [key, pair] of other.entries) self.entries.set(key, pair);
    return null;
  },
};

function void_(work: () => unknown): null {
  work();
  return null;
}

/** The method of a value, bound to it. Throws PyError when there is none of that name. */
export function methodOf(self: PyValue, name: string): PyFunction {
  const own = <T>(
    table: Readonly<Record<string, (self: T, ...args: PyValue[]) => PyValue>>,
    value: T,
  ): PyFunction | undefined => {
    const method = Object.hasOwn(table, name) ? table[name] : undefined;
    if (!method) return undefined;
    return new PyFunction(name, (args, keywords) => {
      if (keywords.size > 0) throw new PyError(`${name}() takes no keyword arguments`);
      return method(value, ...args);
    });
  };
  if (typeof self === 'string' && name === 'format') {
    return new PyFunction(name, (args, keywords) => formatBraces(self, args, keywords));
  }
  const found =
    typeof self === 'string'
      ? own(stringMethods, self)
      : self instanceof PyList
        ? own(listMethods, self)
        : self instanceof PyDict
          ? own(dictMethods, self)
          : undefined;
  if (!found) throw new PyError(`'${typeName(self)}' object has no attribute '${name}'`);
  return found;
}
