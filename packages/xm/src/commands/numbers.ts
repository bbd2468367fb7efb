/** Numbers as words of a command line (Python 2's int, xm's memory sizes). */
import { InvalidArgument } from '../errors.ts';
import { print, type World } from '../world.ts';

/** Python's int() of a word. Throws InvalidArgument. */
export function wholeNumber(text: string): number {
  const value = /^\s*[-+]?\d{1,15}\s*$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new InvalidArgument();
  return value;
}

const UNITS: Readonly<Record<string, number>> = { g: 2 ** 30, m: 2 ** 20, k: 2 ** 10 };

/**
 * `64`, `64m`, `1G` in units of `scale` bytes, rounded down; a bare number is in those units already. Throws
 * InvalidArgument, for a unit that is none too (Xen 4.4 says that it ignores it, and takes the number for bytes).
 */
export function memoryIn(scale: number, text: string, world: World): number {
  const unit = /[a-zA-Z]$/.exec(text)?.[0].toLowerCase();
  if (unit === undefined) return wholeNumber(text);
  const base = UNITS[unit];
  if (base === undefined) {
    print(world, 'ignoring unknown unit');
    throw new InvalidArgument();
  }
  return Math.floor((wholeNumber(text.slice(0, -1)) * base) / scale);
}

export const MIB = 2 ** 20;
export const KIB = 2 ** 10;
