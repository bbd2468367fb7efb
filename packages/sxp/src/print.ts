/**
 * SXP as text, on one line or set out over 80 columns, character by character as `xm list --long` shows it
 * (Xen 4.4 `sxp.py` show, `PrettyPrint.py`).
 */
import { Float, isList, type Sxp } from './value.ts';

/** `xm` prints to this width. */
export const PRETTY_WIDTH = 80;
/** Children of a broken list stand this far right of it. */
export const PRETTY_INDENT = 4;

const BARE = /^(?:[A-Za-z0-9.\-_:/~]+|@)$/;

/** One line of text. */
export function printSxp(value: Sxp): string {
  if (isList(value)) return `(${value.map(printSxp).join(' ')})`;
  if (typeof value === 'number' || value instanceof Float) return String(value);
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (value === null) return "'None'";
  return BARE.test(value) ? value : pythonRepr(value);
}

/** A string as Python 2's `repr` shows its UTF-8 bytes, quotes included. */
export function pythonRepr(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  let out = quote;
  for (const byte of new TextEncoder().encode(text)) {
    const char = String.fromCharCode(byte);
    if (char === quote || char === '\\') out += `\\${char}`;
    else if (char === '\n') out += '\\n';
    else if (char === '\r') out += '\\r';
    else if (char === '\t') out += '\\t';
    else if (byte < 0x20 || byte >= 0x7f) out += `\\x${byte.toString(16).padStart(2, '0')}`;
    else out += char;
  }
  return out + quote;
}

/** Undoes `pythonRepr` on the inside of such a string (without its quotes). Unknown escapes stay as they are. */
export function pythonUnescape(inside: string): string {
  if (!inside.includes('\\')) return inside;
  const bytes: number[] = [];
  const encoder = new TextEncoder();
  const pattern = /\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|([\\'"nrtabvf]))|[^\\]+|\\/gs;
  for (const [token, hex, octal, simple] of inside.matchAll(pattern)) {
    if (hex !== undefined) bytes.push(Number.parseInt(hex, 16));
    else if (octal !== undefined) bytes.push(Number.parseInt(octal, 8) & 0xff);
    else if (simple !== undefined) bytes.push(SIMPLE_ESCAPES[simple] ?? simple.charCodeAt(0));
    else for (const byte of encoder.encode(token)) bytes.push(byte);
  }
  return new TextDecoder().decode(Uint8Array.from(bytes));
}

const SIMPLE_ESCAPES: Readonly<Record<string, number>> = { n: 10, r: 13, t: 9, a: 7, b: 8, v: 11, f: 12 };

/**
 * Set out over lines: a list that fits in what is left of the line stays on it; another puts each element after its
 * tag on a line of its own and its `)` too. Ends without a line feed.
 */
export function prettySxp(value: Sxp, width: number = PRETTY_WIDTH): string {
  const out: string[] = [];
  pretty(value, 0, width, out);
  return out.join('');
}

/** Writes `value` at column `column`; gives the column after it. */
function pretty(value: Sxp, column: number, width: number, out: string[]): number {
  const flat = printSxp(value);
  if (!isList(value) || flat.length <= Math.max(0, width - column)) {
    out.push(flat);
    return column + flat.length;
  }
  out.push('(');
  value.forEach((item, index) => {
    if (index > 0) out.push('\n', ' '.repeat(column + PRETTY_INDENT));
    pretty(item, index === 0 ? column + 1 : column + PRETTY_INDENT, width, out);
  });
  out.push('\n', ' '.repeat(column), ')');
  return column + 1;
}
