/**
 * The value that SXP text and xend's XML-RPC both carry: atoms and lists, where a list's first atom is its tag.
 * Answers to Xen 4.4 `tools/python/xen/xend/sxp.py`. Not the text form: see print.ts and parse.ts.
 */

/**
 * A number that is a float even where its value is whole: Python shows `0.0`, and XML-RPC sends a double.
 * Plain numbers are integers.
 */
export class Float {
  readonly value: number;
  constructor(value: number) {
    this.value = value;
  }
  /** As Python 2's `str(float)`: 12 significant digits, at least one decimal. */
  toString(): string {
    return floatText(this.value);
  }
}

export const float = (value: number): Float => new Float(value);

export type Sxp = string | number | boolean | null | Float | readonly Sxp[];
export type SxpList = readonly Sxp[];

const SIGNIFICANT_DIGITS = 12;

function floatText(value: number): string {
  if (Number.isNaN(value)) return 'nan';
  if (!Number.isFinite(value)) return value > 0 ? 'inf' : '-inf';
  if (Object.is(value, -0)) return '-0.0';
  if (value === 0) return '0.0';
  const [mantissa = '0', exponentText = '0'] = value.toExponential(SIGNIFICANT_DIGITS - 1).split('e');
  const exponent = Number(exponentText);
  if (exponent < -4 || exponent >= SIGNIFICANT_DIGITS) {
    const digits = mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa;
    const sign = exponent < 0 ? '-' : '+';
    return `${digits}e${sign}${String(Math.abs(exponent)).padStart(2, '0')}`;
  }
  const text = value.toFixed(Math.max(0, SIGNIFICANT_DIGITS - 1 - exponent));
  const trimmed = text.includes('.') ? text.replace(/0+$/, '') : `${text}.`;
  return trimmed.endsWith('.') ? `${trimmed}0` : trimmed;
}

export const isList = (value: Sxp | undefined): value is SxpList => Array.isArray(value);

/** The tag of a list, or the atom itself when it is a string. */
export function tagOf(value: Sxp | undefined): string | undefined {
  if (typeof value === 'string') return value;
  if (!isList(value)) return undefined;
  const first = value[0];
  return typeof first === 'string' ? first : undefined;
}

/** The sublists with this tag, in order. */
export function childrenOf(list: Sxp | undefined, tag: string): readonly SxpList[] {
  if (!isList(list)) return [];
  return list.filter((item): item is SxpList => isList(item) && item[0] === tag);
}

/** The first sublist with this tag. */
export function childOf(list: Sxp | undefined, tag: string): SxpList | undefined {
  if (!isList(list)) return undefined;
  return list.find((item): item is SxpList => isList(item) && item[0] === tag);
}

/** The second element of the first sublist with this tag: `childValue([vm, [name, x]], 'name')` is `x`. */
export function childValue(list: Sxp | undefined, tag: string): Sxp | undefined {
  return childOf(list, tag)?.[1];
}

/** An atom as text: what Python's `str` shows; lists and absent values give `undefined`. */
export function atomText(value: Sxp | undefined): string | undefined {
  if (value === undefined || value === null || isList(value)) return undefined;
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return String(value);
}

/** An atom as a number, whether it came as int, float, boolean or digits; `undefined` when it is none of these. */
export function atomNumber(value: Sxp | undefined): number | undefined {
  if (typeof value === 'number') return value;
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (value instanceof Float) return value.value;
  if (typeof value !== 'string' || value.trim() === '') return undefined;
  const number = Number(value);
  return Number.isFinite(number) ? number : undefined;
}
