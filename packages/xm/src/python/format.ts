/** `text % values`: Python's string formatting. */
import {
  PyDict,
  PyError,
  PyTuple,
  checkedString,
  dictKey,
  meter,
  numberOf,
  repr,
  toStr,
  typeName,
  type PyValue,
} from './values.ts';

const SPEC = /%(?:\(([^)]*)\))?([-+ #0]*)(\d{1,4})?(?:\.(\d{1,3}))?([diouxXeEfFgGcrs%])|%/g;

/** Throws PyError as Python raises: too few, too many or wrong arguments. */
export function formatPercent(template: string, values: PyValue): string {
  const args = values instanceof PyTuple ? values.items : [values];
  let used = 0;
  let named = 0;
  const text = template.replace(
    SPEC,
    (
      match,
      key: string | undefined,
      flags: string | undefined,
      width: string | undefined,
      precision: string | undefined,
      kind: string,
    ) => {
      if (match === '%') throw new PyError('unsupported format character');
      if (kind === '%') return '%';
      let value: PyValue;
      if (key === undefined) {
        if (used >= args.length) throw new PyError('not enough arguments for format string');
        value = args[used] ?? null;
        used += 1;
      } else {
        named += 1;
        if (!(values instanceof PyDict)) throw new PyError('format requires a mapping');
        const entry = values.entries.get(dictKey(key));
        if (!entry) throw new PyError(`KeyError: '${key}'`);
        value = entry[1];
      }
      return pad(
        formatOne(value, kind, flags ?? '', precision === undefined ? undefined : Number(precision)),
        flags ?? '',
        Number(width ?? 0),
        kind,
      );
    },
  );
  if (named === 0 && used < args.length && !(values instanceof PyDict)) {
    throw new PyError('not all arguments converted during string formatting');
  }
  return checkedString(text);
}

function formatOne(value: PyValue, kind: string, flags: string, precision: number | undefined): string {
  switch (kind) {
    case 's':
      return toStr(value).slice(0, precision);
    case 'r':
      return repr(value).slice(0, precision);
    case 'c':
      if (typeof value === 'string' && value.length === 1) return value;
      return String.fromCharCode(Number(integer(value, kind)) & 0xff);
    case 'd':
    case 'i':
    case 'u':
      return signed(integer(value, kind).toString().padStart(0), flags);
    case 'o':
      return signed(radix(integer(value, kind), 8, flags.includes('#') ? '0' : ''), flags);
    case 'x':
      return signed(radix(integer(value, kind), 16, flags.includes('#') ? '0x' : ''), flags);
    case 'X':
      return signed(radix(integer(value, kind), 16, flags.includes('#') ? '0x' : '').toUpperCase(), flags);
    default:
      return signed(floating(value, kind, precision ?? 6), flags);
  }
}

function integer(value: PyValue, kind: string): bigint {
  const number = numberOf(value);
  if (number === undefined) throw new PyError(`%${kind} format: a number is required, not ${typeName(value)}`);
  return typeof number === 'bigint' ? number : BigInt(Math.trunc(number));
}

export const radix = (value: bigint, base: number, prefix: string): string =>
  value < 0n ? `-${prefix}${(-value).toString(base)}` : prefix + value.toString(base);

/** `%e`, `%f`, `%g` and their capitals. Throws PyError. */
export function floating(value: PyValue, kind: string, precision: number): string {
  const number = numberOf(value);
  if (number === undefined) throw new PyError('float argument required');
  const n = Number(number);
  const digits = Math.min(precision, 100);
  const exponent = (text: string): string => text.replace(/e([-+])(\d)$/, 'e$10$2');
  const lower = kind.toLowerCase();
  const text =
    lower === 'f'
      ? n.toFixed(digits)
      : lower === 'e'
        ? exponent(n.toExponential(digits))
        : general(n, digits, exponent);
  return kind === lower ? text : text.toUpperCase();
}

/** C's %g: its exponent is the one after rounding; JavaScript's toPrecision has another lower bound. */
function general(n: number, precision: number, exponent: (text: string) => string): string {
  const digits = Math.max(1, precision);
  const scientific = n.toExponential(digits - 1);
  const power = Number(scientific.slice(scientific.indexOf('e') + 1));
  const plain = power >= -4 && power < digits;
  const text = plain ? n.toFixed(Math.min(100, digits - 1 - power)) : scientific;
  const trimmed = text.includes('.') ? text.replace(/\.?0+(e|$)/, '$1') : text;
  return exponent(trimmed);
}

function signed(text: string, flags: string): string {
  if (text.startsWith('-')) return text;
  return flags.includes('+') ? `+${text}` : flags.includes(' ') ? ` ${text}` : text;
}

function pad(text: string, flags: string, width: number, kind: string): string {
  meter.charge((text.length + width) >> 4);
  if (flags.includes('-')) return text.padEnd(width);
  if (!flags.includes('0') || 'src'.includes(kind)) return text.padStart(width);
  const sign = /^[-+ ]?/.exec(text)?.[0] ?? '';
  return sign + text.slice(sign.length).padStart(width - sign.length, '0');
}
