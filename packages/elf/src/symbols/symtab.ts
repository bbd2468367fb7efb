/** Symbols of an ELF image (System V ABI, chapter 4, Symbol Table). The input is hostile: all is bounded. */
import { cString, ElfError, SectionFlag, SectionType } from '../elf.ts';
import type { ElfImage } from '../elf.ts';
import { MAX_SYMBOL_NAME, MAX_SYMBOLS } from './table.ts';
import type { CodeSymbol } from './table.ts';

const STT = { NOTYPE: 0, FUNC: 2 } as const;
const SHN_UNDEF = 0;
/** Size of an entry, and where its fields are. */
const ENTRY = {
  32: { size: 16, value: 4, info: 12, section: 14 },
  64: { size: 24, value: 8, info: 4, section: 6 },
} as const;

/**
 * Functions and assembler labels of the first symbol table; none when the image is stripped. The end of each section with
 * code is a mark. @throws ElfError
 */
export function elfSymbols(image: ElfImage): CodeSymbol[] {
  const table = image.sections.find((section) => section.type === SectionType.SYMTAB);
  if (!table) return [];
  const names = image.sections[table.link];
  if (names?.type !== SectionType.STRTAB) throw new ElfError(`symbol table: section ${table.link} is no string table`);
  const entry = ENTRY[image.bits];
  const count = Math.floor(table.bytes.length / entry.size);
  if (count > MAX_SYMBOLS) throw new ElfError(`${count} symbols, limit ${MAX_SYMBOLS}`);
  const dv = new DataView(table.bytes.buffer, table.bytes.byteOffset, table.bytes.byteLength);
  const isExecutable = image.sections.map(({ flags }) => (flags & SectionFlag.EXECINSTR) !== 0);
  const symbols: CodeSymbol[] = [];
  for (let i = 1; i < count; i++) {
    const at = i * entry.size;
    const section = dv.getUint16(at + entry.section, true);
    const type = dv.getUint8(at + entry.info) & 0xf;
    if (section === SHN_UNDEF || (type !== STT.FUNC && type !== STT.NOTYPE)) continue;
    const name = cString(names.bytes, dv.getUint32(at, true), MAX_SYMBOL_NAME);
    if (name === '') continue;
    const address =
      image.bits === 64 ? dv.getBigUint64(at + entry.value, true) : BigInt(dv.getUint32(at + entry.value, true));
    symbols.push({ address, name, isCode: type === STT.FUNC || isExecutable[section] === true });
  }
  for (const [i, section] of image.sections.entries())
    if (isExecutable[i])
      symbols.push({
        address: section.addr + BigInt(section.bytes.length),
        name: `end of ${section.name}`,
        isCode: false,
      });
  return symbols;
}
