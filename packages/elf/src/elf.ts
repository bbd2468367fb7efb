/**
 * Reader of ELF images, 32 and 64 bit little-endian (System V ABI, chapters 4 and 5). The input is hostile: every offset
 * and count is checked against the file before use. Any machine is accepted in any class (an x86-64 kernel may come in
 * an ELFCLASS32 container, as HVM guests do); whether it fits is for the caller. Not a linker, no relocations;
 * symbols are symtab.ts.
 */

/** What is wrong with an image; the text names the part and the number. */
export class ElfError extends Error {
  override readonly name = 'ElfError';
}

export const ElfMachine = { I386: 3, X86_64: 62 } as const;
export const SegmentType = { NULL: 0, LOAD: 1, DYNAMIC: 2, INTERP: 3, NOTE: 4 } as const;
export const SectionFlag = { WRITE: 1, ALLOC: 2, EXECINSTR: 4 } as const;
export const SectionType = { NULL: 0, PROGBITS: 1, SYMTAB: 2, STRTAB: 3, NOTE: 7, NOBITS: 8 } as const;

/** One program header. `bytes` is the part of the file that it names, all of it inside the file. */
export interface ElfSegment {
  readonly type: number;
  readonly flags: number;
  readonly vaddr: bigint;
  readonly paddr: bigint;
  readonly memsz: bigint;
  readonly bytes: Uint8Array;
  /** 0 when old binutils left it out; such a segment has no contents to trust. */
  readonly offset: number;
}

export interface ElfSection {
  readonly name: string;
  readonly type: number;
  /** SectionFlag bits. */
  readonly flags: number;
  readonly addr: bigint;
  /** sh_link: of a symbol table, the index of its strings. */
  readonly link: number;
  readonly bytes: Uint8Array;
}

export interface ElfImage {
  readonly bits: 32 | 64;
  readonly machine: number;
  readonly type: number;
  readonly entry: bigint;
  readonly segments: readonly ElfSegment[];
  readonly sections: readonly ElfSection[];
}

const MAGIC = [0x7f, 0x45, 0x4c, 0x46];
const CLASS = 4;
const DATA = 5;
const LITTLE_ENDIAN = 1;
/** More than this is an attack, not a kernel. */
export const MAX_SEGMENTS = 256;
export const MAX_SECTIONS = 4096;
/** Linux kernels keep names short. */
const MAX_NAME = 256;

export const isElf = (file: Uint8Array): boolean => MAGIC.every((byte, i) => file[i] === byte);

/** The two widths: where fields are. Words are read by `word`. */
const WIDTHS = {
  32: {
    word: 4, ehsize: 52, entry: 24, phoff: 28, shoff: 32, phentsize: 42, phdr: 32, shdr: 40,
    p: { flags: 24, offset: 4, vaddr: 8, paddr: 12, filesz: 16, memsz: 20 },
    s: { flags: 8, addr: 12, offset: 16, size: 20, link: 24 },
  },
  64: {
    word: 8, ehsize: 64, entry: 24, phoff: 32, shoff: 40, phentsize: 54, phdr: 56, shdr: 64,
    p: { flags: 4, offset: 8, vaddr: 16, paddr: 24, filesz: 32, memsz: 40 },
    s: { flags: 8, addr: 16, offset: 24, size: 32, link: 40 },
  },
} as const; // prettier-ignore

/** @throws ElfError */
export function parseElf(file: Uint8Array): ElfImage {
  if (!isElf(file)) throw new ElfError('not an ELF image: no ELF magic');
  if (file[DATA] !== LITTLE_ENDIAN)
    throw new ElfError(`ELF data encoding ${file[DATA] ?? 'missing'}: only little-endian`);
  if (file[CLASS] !== 1 && file[CLASS] !== 2)
    throw new ElfError(`ELF class ${file[CLASS] ?? 'missing'}: neither 32 nor 64 bit`);
  const bits = file[CLASS] === 1 ? 32 : 64;
  const w = WIDTHS[bits];
  if (file.length < w.ehsize) throw new ElfError(`ELF header cut off: file of ${file.length} bytes`);
  const dv = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const u16 = (at: number): number => dv.getUint16(at, true);
  const u32 = (at: number): number => dv.getUint32(at, true);
  const word = (at: number): bigint => (bits === 64 ? dv.getBigUint64(at, true) : BigInt(u32(at)));

  /** A part of the file, or an error that names it. */
  const slice = (offset: bigint, size: bigint, what: string): Uint8Array => {
    if (offset + size > BigInt(file.length)) {
      throw new ElfError(`${what} at ${offset} of ${size} bytes lies outside of the file (${file.length} bytes)`);
    }
    return file.subarray(Number(offset), Number(offset + size));
  };

  /** Offsets of the entries of a header table. */
  const table = (offAt: number, sizeAt: number, minimum: number, maximum: number, what: string): number[] => {
    const offset = word(offAt);
    const entrySize = u16(sizeAt);
    const count = u16(sizeAt + 2);
    if (offset === 0n || count === 0) return [];
    if (entrySize < minimum) throw new ElfError(`${what} entries of ${entrySize} bytes, need ${minimum}`);
    if (count > maximum) throw new ElfError(`${count} ${what} entries, limit ${maximum}`);
    slice(offset, BigInt(entrySize) * BigInt(count), what);
    return Array.from({ length: count }, (_, i) => Number(offset) + i * entrySize);
  };

  const segments = table(w.phoff, w.phentsize, w.phdr, MAX_SEGMENTS, 'program header').map((at, i): ElfSegment => {
    const { p } = w;
    const offset = word(at + p.offset);
    const memsz = word(at + p.memsz);
    const filesz = word(at + p.filesz);
    const type = u32(at);
    if (type === SegmentType.LOAD && filesz > memsz)
      throw new ElfError(`segment ${i}: ${filesz} bytes in the file, ${memsz} in memory`);
    const bytes = slice(offset, filesz, `segment ${i}`);
    return { type, flags: u32(at + p.flags), vaddr: word(at + p.vaddr), paddr: word(at + p.paddr), memsz, bytes, offset: Number(offset) }; // prettier-ignore
  });

  const shdrs = table(w.shoff, w.phentsize + 4, w.shdr, MAX_SECTIONS, 'section header');
  const contents = shdrs.map((at, i) => {
    const type = u32(at + 4);
    if (type === SectionType.NULL || type === SectionType.NOBITS) return new Uint8Array(0);
    return slice(word(at + w.s.offset), word(at + w.s.size), `section ${i}`);
  });
  const names = contents[u16(w.phentsize + 8)] ?? new Uint8Array(0);
  const sections = shdrs.map((at, i): ElfSection => {
    const bytes = contents[i] ?? new Uint8Array(0);
    return {
      name: cString(names, u32(at)), type: u32(at + 4), flags: u32(at + w.s.flags), addr: word(at + w.s.addr),
      link: u32(at + w.s.link), bytes,
    }; // prettier-ignore
  });

  return { bits, machine: u16(18), type: u16(16), entry: word(w.entry), segments, sections };
}

/** Text up to a NUL, the end of the bytes, or `MAX_NAME`. */
export function cString(bytes: Uint8Array, at = 0, maximum = MAX_NAME): string {
  const part = bytes.subarray(Math.min(at, bytes.length), Math.min(at + maximum, bytes.length));
  const end = part.indexOf(0);
  return Array.from(end < 0 ? part : part.subarray(0, end), (byte) => String.fromCharCode(byte)).join('');
}

/** What a loader puts into memory: PT_LOAD with any access right. */
export const loadable = (image: ElfImage): readonly ElfSegment[] =>
  image.segments.filter((s) => s.type === SegmentType.LOAD && (s.flags & 7) !== 0 && s.memsz > 0n);
