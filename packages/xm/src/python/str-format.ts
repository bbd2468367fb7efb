/** `'{0} {name:>5}'.format(...)`: Python 2.7's other string formatting, without attributes of fields. */
import { floating, radix } from './format.ts';
import {
  MAX_ITEMS,
  PyDict,
  PyError,
  checkedString,
  dictKey,
  indexOf,
  iterate,
  meter,
  numberOf,
  repr,
  toStr,
  typeName,
  type PyValue,
} from './values.ts';

const PART = /\{\{|\}\}|\{([^{}]*)\}|[{}]/g;
const FIELD = /^(\w*)((?:\[[^\]]+\])*)(?:!([rs]))?(?::(.*))?$/s;
const SPEC = /^(?:(.)?([<>=^]))?([-+ ])?(#)?(0)?(\d{1,5})?(,)?(?:\.(\d{1,3}))?([bcdeEfFgGnosxX%])?$/s;
const BASES: Readonly<Record<string, number>> = { b: 2, o: 8, x: 16, X: 16 };

/** Throws PyError as Python raises: wrong fields, specifications and arguments. */
export function formatBraces(
  template: string,
  args: readonly PyValue[],
  keywords: ReadonlyMap<string, PyValue>,
): string {
  let next = 0;
  const text = template.replace(PART, (match, inside: string | undefined) => {
    if (match === '{{' || match === '}}') return match.charAt(0);
    if (inside === undefined) throw new PyError(`Single '${match}' encountered in format string`);
    const field = FIELD.exec(inside);
    if (!field) throw new PyError(`the replacement field {${inside}} is not supported`);
    const [, name = '', indexes = '', conversion, spec = ''] = field;
    if (name === '') next += 1;
    let value = argument(name === '' ? String(next - 1) : name, args, keywords);
    for (const [, key = ''] of indexes.matchAll(/\[([^\]]+)\]/g)) value = item(value, key);
    if (conversion !== undefined) value = conversion === 'r' ? repr(value) : toStr(value);
    return formatted(value, spec);
  });
  return checkedString(text);
}

function argument(name: string, args: readonly PyValue[], keywords: ReadonlyMap<string, PyValue>): PyValue {
  const value = /^\d+$/.test(name) ? args[Number(name)] : keywords.get(name);
  if (value === undefined) throw new PyError(/^\d+$/.test(name) ? 'tuple index out of range' : `KeyError: '${name}'`);
  return value;
}

function item(value: PyValue, key: string): PyValue {
  const numeric = /^\d{1,6}$/.test(key);
  if (value instanceof PyDict) {
    const entry = value.entries.get(dictKey(numeric ? BigInt(key) : key));
    if (!entry) throw new PyError(`KeyError: ${numeric ? key : `'${key}'`}`);
    return entry[1];
  }
  if (!numeric) throw new PyError(`${typeName(value)} indices must be integers`);
  const found = iterate(value)[indexOf(BigInt(key))];
  if (found === undefined) throw new PyError(`${typeName(value)} index out of range`);
  return found;
}

function formatted(value: PyValue, spec: string): string {
  if (spec === '') return toStr(value);
  const match = SPEC.exec(spec);
  if (!match) throw new PyError('Invalid conversion specification');
  const [, fill, align, sign = '-', hash, zero, width = '0', comma, precision, kind] = match;
  if (Number(width) > MAX_ITEMS) throw new PyError('string too long');
  meter.charge(Number(width) >> 4);
  const number = typeof value === 'string' ? undefined : numberOf(value);
  const isNumber = number !== undefined && typeof value !== 'boolean' && kind !== 's';
  const places = precision === undefined ? undefined : Number(precision);
  let body = isNumber ? digits(number, kind ?? '', hash !== undefined, places) : plainText(value, kind, places);
  if (comma !== undefined) body = body.replace(/^-?\d+/, (whole) => whole.replace(/\B(?=(\d{3})+$)/g, ','));
  const minus = body.startsWith('-') ? '-' : isNumber && sign !== '-' ? sign : '';
  if (body.startsWith('-')) body = body.slice(1);
  return aligned(minus, body, fill ?? (zero === undefined ? ' ' : '0'), align ?? (zero === undefined ? (isNumber ? '>' : '<') : '='), Number(width)); // prettier-ignore
}

function plainText(value: PyValue, kind: string | undefined, places: number | undefined): string {
  if (kind !== undefined && kind !== 's') {
    throw new PyError(`Unknown format code '${kind}' for object of type '${typeName(value)}'`);
  }
  return toStr(value).slice(0, places);
}

function digits(number: bigint | number, kind: string, hash: boolean, places: number | undefined): string {
  if (kind === '%') return `${floating(Number(number) * 100, 'f', places ?? 6)}%`;
  const base = BASES[kind];
  if (typeof number === 'bigint') {
    if (kind === 'c') return String.fromCharCode(Number(number) & 0xff);
    if (base !== undefined) {
      const text = radix(number, base, hash ? `0${kind.toLowerCase()}` : '');
      return kind === 'X' ? text.toUpperCase() : text;
    }
    if (kind === '' || kind === 'd' || kind === 'n') return number.toString();
  }
  if (kind === '' && places === undefined) return toStr(Number(number));
  if (base !== undefined || 'cd'.includes(kind || 'g')) {
    throw new PyError(`Unknown format code '${kind}' for object of type 'float'`);
  }
  return floating(Number(number), kind === '' || kind === 'n' ? 'g' : kind, places ?? (kind === '' ? 12 : 6));
}

function aligned(sign: string, body: string, fill: string, align: string, width: number): string {
  const gap = Math.max(0, width - sign.length - body.length);
  switch (align) {
    case '<':
      return sign + body + fill.repeat(gap);
    case '^':
      return fill.repeat(gap >> 1) + sign + body + fill.repeat(gap - (gap >> 1));
    case '=':
      return sign + fill.repeat(gap) + body;
    default:
      return fill.repeat(gap) + sign + body;
  }
}
