/** Numbers and strings as Python 2 writes them. */
import { PyError, checkedInt, checkedString, type PyValue } from './values.ts';

export function parseNumber(text: string): PyValue {
  const digits = text.replaceAll('_', '');
  if (/^0[xX][0-9a-fA-F]+$|^0[oO][0-7]+$|^0[bB][01]+$/.test(digits)) return checkedInt(BigInt(digits.toLowerCase()));
  if (/^0[0-7]+$/.test(digits)) return checkedInt(BigInt(`0o${digits.slice(1)}`));
  if (/^\d+$/.test(digits)) {
    if (digits.length > 1200) throw new PyError('number too large');
    return checkedInt(BigInt(digits));
  }
  const value = Number(digits);
  if (!/^[\d.]+(?:[eE][-+]?\d+)?$/.test(digits) || !Number.isFinite(value)) throw new PyError(`bad number ${text}`);
  return value;
}

const ESCAPES: Readonly<Record<string, string>> = {
  n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b', f: '\f', v: '\v', '\\': '\\', "'": "'", '"': '"', '\n': '',
}; // prettier-ignore

export function parseString(text: string): string {
  const match = /^([a-zA-Z]*)('''|"""|'|")([\s\S]*)$/.exec(text);
  const [, prefix = '', quote = '', rest = ''] = match ?? [];
  if (!match || !rest.endsWith(quote) || (quote.length === 1 && /[^\\]?\n/.test(unescapedLines(rest)))) {
    throw new PyError('string without an end');
  }
  const inside = rest.slice(0, -quote.length);
  if (/[^rRuUbB]/.test(prefix)) throw new PyError(`string prefix ${prefix} is not supported`);
  if (/[rR]/.test(prefix)) return checkedString(inside);
  return checkedString(
    inside.replace(
      /\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|([\s\S]))/g,
      (whole, hex: string, octal: string, simple: string) => {
        if (hex) return String.fromCharCode(Number.parseInt(hex, 16));
        if (octal) return String.fromCharCode(Number.parseInt(octal, 8) & 0xff);
        return ESCAPES[simple] ?? whole;
      },
    ),
  );
}

/** The text without its escaped line ends. */
const unescapedLines = (text: string): string => text.replaceAll('\\\n', '');
