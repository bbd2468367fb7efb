/** System.map of a Linux kernel, and /proc/kallsyms: lines of address, type and name, as nm prints them. */
import { MAX_SYMBOL_NAME, MAX_SYMBOLS } from './table.ts';
import type { CodeSymbol } from './table.ts';

export class SystemMapError extends Error {
  override readonly name = 'SystemMapError';
}

/** Types of nm that are code. */
const CODE = 'tTwW';
const LINE = /^([\da-f]{1,16}) ([A-Za-z]) (\S+)(?:\t\[\S+\])?$/;

/** @throws SystemMapError when it is something else, or Debian's file that only says where the real one is */
export function parseSystemMap(text: string): CodeSymbol[] {
  const symbols: CodeSymbol[] = [];
  let number = 0;
  for (const line of text.split('\n')) {
    number++;
    if (line === '') continue;
    if (number === 1 && /The real System\.map/.test(line))
      throw new SystemMapError(
        'this System.map is a placeholder: give the kernel image itself, or that of the -dbg package',
      );
    const match = LINE.exec(line);
    const [, address = '', type = '', name = ''] = match ?? [];
    if (!match || name.length > MAX_SYMBOL_NAME) throw new SystemMapError(`line ${number} is no symbol`);
    if (symbols.length === MAX_SYMBOLS) throw new SystemMapError(`more than ${MAX_SYMBOLS} symbols`);
    symbols.push({ address: BigInt(`0x${address}`), name, isCode: CODE.includes(type) });
  }
  return symbols;
}
