/**
 * Values of the Xen-API: kinds of fields and parameters, how a caller's value becomes one, and how ours go out. Integers
 * travel as strings, references are UUIDs, nothing at all is the empty string (Xen 4.4 `xmlrpclib2.py`, stringify).
 */
import { Float } from '@xenhost/sxp';
import { UNSENDABLE, type XmlRpcStruct, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { valueNotSupported } from './errors.ts';
import { MAX_STORED_ENTRIES, MAX_STORED_TEXT } from './limits.ts';

export interface KindValues {
  string: string;
  int: number;
  bool: boolean;
  double: Float;
  datetime: Date;
  ref: string;
  /** Strings by strings. */
  map: Readonly<Record<string, string>>;
  /** Strings. */
  set: readonly string[];
  struct: XmlRpcStruct;
  any: XmlRpcValue;
}

export type Kind = keyof KindValues;

/** What handlers answer with: numbers are integers and go out as strings; undefined goes out as ''. */
export type Answer =
  | string | number | bigint | boolean | null | undefined | Float | Date
  | readonly Answer[] | { readonly [member: string]: Answer }; // prettier-ignore

const EVERY_UNSENDABLE = new RegExp(UNSENDABLE, 'g');

/**
 * As it goes out. Guests and log files bring characters that no document can carry, and one such would spoil the whole
 * answer: they are shown as `?`.
 */
export function toWire(answer: Answer): XmlRpcValue {
  if (answer === null || answer === undefined) return '';
  if (typeof answer === 'string') return UNSENDABLE.test(answer) ? answer.replace(EVERY_UNSENDABLE, '?') : answer;
  if (typeof answer === 'number' || typeof answer === 'bigint') return String(answer);
  if (typeof answer !== 'object') return answer;
  if (answer instanceof Float || answer instanceof Date) return answer;
  if (Array.isArray(answer)) return (answer as readonly Answer[]).map(toWire);
  return Object.fromEntries(
    Object.entries(answer)
      .filter(([key]) => key !== FORBIDDEN_KEY)
      .map(([key, value]) => [key.replace(EVERY_UNSENDABLE, '?'), toWire(value)]),
  );
}

/** A name that no struct of ours carries, either way. */
const FORBIDDEN_KEY = '__proto__';

/** A caller's value as what the parameter wants. Throws VALUE_NOT_SUPPORTED. */
export function convert<K extends Kind>(kind: K, value: XmlRpcValue, what: string): KindValues[K] {
  return CONVERTERS[kind](value, (why) => valueNotSupported(what, shown(value), why));
}

type Refuse = (why: string) => Error;

const CONVERTERS: { readonly [K in Kind]: (value: XmlRpcValue, refuse: Refuse) => KindValues[K] } = {
  string(value, refuse) {
    const text = textOf(value);
    if (text === undefined) throw refuse('a string is required');
    if (text.length > MAX_STORED_TEXT) throw refuse(`at most ${MAX_STORED_TEXT} characters are allowed`);
    return text;
  },
  ref(value, refuse) {
    if (typeof value !== 'string') throw refuse('a reference is required');
    return value;
  },
  int(value, refuse) {
    const number = numberOf(value);
    if (number === undefined || !Number.isSafeInteger(number)) throw refuse('an integer is required');
    return number;
  },
  double(value, refuse) {
    const number = numberOf(value);
    if (number === undefined) throw refuse('a number is required');
    return new Float(number);
  },
  bool(value, refuse) {
    if (typeof value === 'boolean') return value;
    if (value === null || value === '') return false;
    const word = typeof value === 'string' ? value.toLowerCase() : '';
    if (word === 'true' || word === 'false') return word === 'true';
    const number = numberOf(value);
    if (number === undefined) throw refuse('a boolean is required');
    return number !== 0;
  },
  datetime(value, refuse) {
    if (!(value instanceof Date)) throw refuse('a date is required');
    return value;
  },
  map(value, refuse) {
    const entries = Object.entries(structOf(value, refuse));
    if (entries.length > MAX_STORED_ENTRIES) throw refuse(`at most ${MAX_STORED_ENTRIES} entries are allowed`);
    if (entries.some(([key]) => key === FORBIDDEN_KEY)) throw refuse(`${FORBIDDEN_KEY} is no key`);
    return Object.fromEntries(entries.map(([key, item]) => [key, CONVERTERS.string(item, refuse)]));
  },
  set(value, refuse) {
    // Some clients send nothing at all for an empty set.
    const items = value === '' || value === null ? [] : value;
    if (!Array.isArray(items)) throw refuse('a list is required');
    if (items.length > MAX_STORED_ENTRIES) throw refuse(`at most ${MAX_STORED_ENTRIES} items are allowed`);
    return (items as readonly XmlRpcValue[]).map((item) => CONVERTERS.string(item, refuse));
  },
  struct: structOf,
  any: (value) => value,
};

function textOf(value: XmlRpcValue): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || value instanceof Float) return String(value);
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return value === null ? '' : undefined;
}

function numberOf(value: XmlRpcValue): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value === 'boolean') return Number(value);
  if (value instanceof Float) return value.value;
  if (typeof value === 'string' && /^\s*-?\d{1,18}(\.\d{1,18})?\s*$/.test(value)) return Number(value);
  return undefined;
}

function structOf(value: XmlRpcValue, refuse: Refuse): XmlRpcStruct {
  const atom = value === null || typeof value !== 'object' || Array.isArray(value);
  if (atom || value instanceof Date || value instanceof Float || value instanceof Uint8Array) {
    throw refuse('a struct is required');
  }
  return value as XmlRpcStruct;
}

const SHOWN_LENGTH = 100;
const shown = (value: XmlRpcValue): string =>
  (textOf(value) ?? (Array.isArray(value) ? 'a list' : 'a struct')).slice(0, SHOWN_LENGTH);
