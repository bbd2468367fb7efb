/** Symbols from a file, whatever of these it is: System.map, ELF image with symbols, kernel image with kallsyms, packed or not. */
import { readFile } from 'node:fs/promises';
import { elfSymbols, isElf, kallsyms, parseElf, parseSystemMap } from '@xenhost/elf';
import type { CodeSymbol } from '@xenhost/elf';
import { unpackKernel } from '@xenhost/libxenctrl';

const BZIMAGE_MAGIC_AT = 0x202;
const BZIMAGE_MAGIC = 'HdrS';
const GZIP_MAGIC = [0x1f, 0x8b];

/** @throws Error that names the file */
export async function loadSymbols(path: string): Promise<CodeSymbol[]> {
  try {
    const file = await readFile(path);
    const symbols =
      isElf(file) || isPacked(file) ? await symbolsOfImage(file) : parseSystemMap(file.toString('latin1'));
    if (symbols.length === 0) throw new Error('no symbols in it');
    return symbols;
  } catch (error) {
    throw new Error(`${path}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

const isPacked = (file: Buffer): boolean =>
  GZIP_MAGIC.every((byte, i) => file[i] === byte) ||
  file.toString('latin1', BZIMAGE_MAGIC_AT, BZIMAGE_MAGIC_AT + BZIMAGE_MAGIC.length) === BZIMAGE_MAGIC;

async function symbolsOfImage(file: Uint8Array): Promise<CodeSymbol[]> {
  const image = isElf(file) ? file : await unpackKernel(file);
  const symbols = elfSymbols(parseElf(image));
  return symbols.some(({ isCode }) => isCode) ? symbols : (kallsyms(image) ?? []);
}
