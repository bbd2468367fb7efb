import fc from 'fast-check';
import { ElfError, parseElf, SectionFlag, SectionType } from '../elf.ts';
import { buildElf, concat } from '../testing/index.ts';
import { kallsyms } from './kallsyms.ts';
import { elfSymbols } from './symtab.ts';
import { parseSystemMap } from './system-map.ts';
import { SymbolTable } from './table.ts';

const BASE = 0xffff_ffff_8100_0000n;
const text = (s: string): Uint8Array => new TextEncoder().encode(s);

describe('a symbol table', () => {
  const table = new SymbolTable([
    { address: 0x300n, name: 'data', isCode: false },
    { address: 0x200n, name: 'alias', isCode: false },
    { address: 0x200n, name: 'second', isCode: true },
    { address: 0x100n, name: 'first', isCode: true },
    { address: 0x400n, name: 'last', isCode: true },
    { address: 0x500n, name: '_end', isCode: false },
  ]);
  test.each([
    [0xffn, undefined],
    [0x100n, 'first+0'],
    [0x1ffn, 'first+255'],
    [0x2ffn, 'second+255'],
    [0x300n, undefined],
    [0x4ffn, 'last+255'],
    [0x500n, undefined],
  ])('%# finds %i', (address, expected) => {
    const found = table.lookup(address);
    expect(found && `${found.name}+${found.offset}`).toBe(expected);
  });
  test('may be empty', () => expect(new SymbolTable([]).lookup(5n)).toBeUndefined());
});

describe('System.map', () => {
  test('lines of nm, and of /proc/kallsyms with modules', () => {
    expect(parseSystemMap('ffffffff81000000 T _text\nffffffff81000010 d x\nffffffffc0000000 t f\t[mod]\n')).toEqual([
      { address: BASE, name: '_text', isCode: true },
      { address: BASE + 0x10n, name: 'x', isCode: false },
      { address: 0xffff_ffff_c000_0000n, name: 'f', isCode: true },
    ]);
  });
  test.each([
    ['ffffffffffffffff B The real System.map is in the linux-image-6.1.0-dbg package\n', 'placeholder'],
    ['ffffffff81000000 T a\nhello\n', 'line 2'],
    [`ffffffff81000000 T ${'a'.repeat(513)}\n`, 'line 1'],
  ])('%j is refused', (map, why) => expect(() => parseSystemMap(map)).toThrow(why));
});

/** Symbols {name offset in the strings, type, section, value}. */
function symtab(bits: 32 | 64, symbols: readonly (readonly [number, number, number, bigint])[]): Uint8Array {
  const size = bits === 64 ? 24 : 16;
  const bytes = new Uint8Array(size * (symbols.length + 1));
  const dv = new DataView(bytes.buffer);
  symbols.forEach(([name, type, section, value], i) => {
    const at = (i + 1) * size;
    dv.setUint32(at, name, true);
    dv.setUint8(at + (bits === 64 ? 4 : 12), type);
    dv.setUint16(at + (bits === 64 ? 6 : 14), section, true);
    if (bits === 64) dv.setBigUint64(at + 8, value, true);
    else dv.setUint32(at + 4, Number(value), true);
  });
  return bytes;
}

describe('symbols of ELF', () => {
  const image = (bits: 32 | 64, link: number) =>
    parseElf(
      buildElf({
        bits,
        sections: [
          { name: '.text', type: SectionType.PROGBITS, flags: SectionFlag.EXECINSTR, addr: 0x1000n, bytes: new Uint8Array(64) },
          { name: '.data', type: SectionType.PROGBITS, flags: SectionFlag.WRITE, addr: 0x2000n, bytes: new Uint8Array(64) },
          {
            name: '.symtab', type: SectionType.SYMTAB, link,
            bytes: symtab(bits, [[1, 2, 1, 0x1000n], [5, 0, 1, 0x1010n], [11, 1, 2, 0x2000n], [1, 2, 0, 0n], [0, 2, 1, 0x1020n], [900, 2, 1, 5n]]),
          },
          { name: '.strtab', type: SectionType.STRTAB, bytes: text('\0foo\0label\0object\0') },
        ],
      }),
    ); // prettier-ignore
  test.each([32, 64] as const)('of %i bits: functions and labels, and where code ends', (bits) => {
    expect(elfSymbols(image(bits, 4))).toEqual([
      { address: 0x1000n, name: 'foo', isCode: true },
      { address: 0x1010n, name: 'label', isCode: true },
      { address: 0x1040n, name: 'end of .text', isCode: false },
    ]);
  });
  test('names must be in a string table', () => {
    for (const link of [0, 1, 99]) expect(() => elfSymbols(image(64, link))).toThrow(ElfError);
  });
  test('a stripped image has none', () => expect(elfSymbols(parseElf(buildElf({})))).toEqual([]));
});

interface KallsymsShape {
  /** Offsets behind the tokens (since 6.4) or before the names. */
  readonly offsetsLast: boolean;
  /** Three bytes for each symbol between marks and tokens (6.2 to 6.3). */
  readonly sequences: boolean;
}

/** What `scripts/kallsyms.c` makes, with one token a character but for a long one. */
function buildKallsyms(symbols: readonly (readonly [bigint, string])[], shape: KallsymsShape): Uint8Array {
  const pad = (bytes: Uint8Array): Uint8Array => concat(bytes, new Uint8Array(-bytes.length & 7));
  const u32s = (values: readonly number[]): Uint8Array => pad(new Uint8Array(Uint32Array.from(values).buffer));
  const u64 = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);
  const LONG = 200;
  const strings = Array.from({ length: 256 }, (_, i) =>
    i === LONG ? 'Tlong_' : String.fromCharCode(i < 33 || i > 126 ? 33 + (i % 13) : i),
  );
  const coded = symbols.map(([, name]) => {
    const codes = name.startsWith('Tlong_') ? [LONG, ...text(name.slice(6))] : [...text(name)];
    const head = codes.length < 0x80 ? [codes.length] : [(codes.length & 0x7f) | 0x80, codes.length >> 7];
    return Uint8Array.from([...head, ...codes]);
  });
  const marks: number[] = [];
  let at = 0;
  coded.forEach((bytes, i) => {
    if (i % 256 === 0) marks.push(at);
    at += bytes.length;
  });
  const offsets: number[] = [];
  at = 0;
  for (const s of strings) {
    offsets.push(at);
    at += s.length + 1;
  }
  const relative = u32s(
    symbols.map(([address]) => Number(address < 0x10000n ? address : BigInt.asUintN(32, BASE - 1n - address))),
  );
  const addresses = [relative, u64(BASE)];
  return concat(
    new Uint8Array(48).fill(0x31),
    ...(shape.offsetsLast ? [] : addresses),
    u64(BigInt(symbols.length)),
    pad(concat(...coded)),
    u32s(marks),
    shape.sequences ? pad(new Uint8Array(symbols.length * 3).fill(7)) : new Uint8Array(0),
    pad(text(strings.map((s) => `${s}\0`).join(''))),
    pad(new Uint8Array(Uint16Array.from(offsets).buffer)),
    ...(shape.offsetsLast ? addresses : []),
    new Uint8Array(64).fill(0xcc),
  );
}

describe('kallsyms', () => {
  const symbols = Array.from({ length: 700 }, (_, i): readonly [bigint, string] =>
    i === 0 ? [0n, 'Afixed'] : [BASE + BigInt(i * 16), i === 5 ? `t${'y'.repeat(200)}` : i % 3 ? `Tlong_${i}` : `dvar_${i}`],
  ); // prettier-ignore
  test.each([
    [{ offsetsLast: false, sequences: false }],
    [{ offsetsLast: false, sequences: true }],
    [{ offsetsLast: true, sequences: true }],
  ])('are found and read: %j', (shape) => {
    const expected = symbols.map(([address, name]) => ({ address, name: name.slice(1), isCode: /^[tT]/.test(name) }));
    expect(kallsyms(buildKallsyms(symbols, shape))).toEqual(expected);
  });
  test('an image without them has none', () => expect(kallsyms(new Uint8Array(4096))).toBeUndefined());
  test('no bytes make it fail', () => {
    const good = buildKallsyms(symbols, { offsetsLast: false, sequences: false });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 20 }), fc.nat(good.length), (edits, cut) => {
        const bytes = good.slice(0, cut % 3 === 0 ? cut : good.length);
        for (const [at, value] of edits) bytes[at] = value;
        kallsyms(bytes);
      }),
      { numRuns: 50 },
    ); // prettier-ignore
  });
});
