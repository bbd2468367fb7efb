/** Makes small ELF images for tests: segments, notes in a segment or in a section, nothing else. */
import { ElfMachine, SectionType, SegmentType } from '../elf.ts';

export interface TestSegment {
  readonly vaddr?: bigint;
  readonly paddr: bigint;
  readonly bytes: Uint8Array;
  readonly memsz?: bigint;
  readonly type?: number;
  readonly flags?: number;
}

export interface TestElf {
  readonly bits?: 32 | 64;
  readonly machine?: number;
  readonly entry?: bigint;
  readonly segments?: readonly TestSegment[];
  readonly sections?: readonly TestSection[];
}

export interface TestSection {
  readonly name: string;
  readonly type: number;
  readonly bytes: Uint8Array;
  readonly flags?: number;
  readonly addr?: bigint;
  readonly link?: number;
}

/** One note of name "Xen"; a bigint becomes 8 bytes, a number 4, text gets its NUL. */
export function xenNote(type: number, value: bigint | number | string): Uint8Array {
  return note('Xen', type, value);
}

export function note(name: string, type: number, value: bigint | number | string): Uint8Array {
  const desc = noteValue(value);
  const padded = (n: number): number => (n + 3) & ~3;
  const out = new Uint8Array(12 + padded(name.length + 1) + padded(desc.length));
  const dv = new DataView(out.buffer);
  dv.setUint32(0, name.length + 1, true);
  dv.setUint32(4, desc.length, true);
  dv.setUint32(8, type, true);
  out.set(new TextEncoder().encode(name), 12);
  out.set(desc, 12 + padded(name.length + 1));
  return out;
}

function noteValue(value: bigint | number | string): Uint8Array {
  if (typeof value === 'string') return new TextEncoder().encode(`${value}\0`);
  const dv = new DataView(new ArrayBuffer(typeof value === 'bigint' ? 8 : 4));
  if (typeof value === 'bigint') dv.setBigUint64(0, value, true);
  else dv.setUint32(0, value, true);
  return new Uint8Array(dv.buffer);
}

export const concat = (...parts: readonly Uint8Array[]): Uint8Array => {
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
};

export function buildElf(elf: TestElf): Uint8Array {
  const bits = elf.bits ?? 64;
  const machine = elf.machine ?? (bits === 64 ? ElfMachine.X86_64 : ElfMachine.I386);
  const wide = bits === 64;
  const [eh, ph, sh] = wide ? [64, 56, 64] : [52, 32, 40];
  const segments = elf.segments ?? [];
  const nameBytes = new TextEncoder().encode(`\0${(elf.sections ?? []).map((s) => s.name).join('\0')}\0.shstrtab\0`);
  const sections: readonly TestSection[] = elf.sections
    ? [
        { name: '', type: 0, bytes: new Uint8Array(0) },
        ...elf.sections,
        { name: '.shstrtab', type: SectionType.STRTAB, bytes: nameBytes },
      ]
    : [];
  const size =
    eh + ph * segments.length + sh * sections.length +
    [...segments, ...sections].reduce((n, part) => n + part.bytes.length, 0); // prettier-ignore
  const out = new Uint8Array(size);
  const dv = new DataView(out.buffer);
  const word = (at: number, value: bigint): void => {
    if (wide) dv.setBigUint64(at, value, true);
    else dv.setUint32(at, Number(value & 0xffff_ffffn), true);
  };
  out.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  dv.setUint16(16, 2, true);
  dv.setUint16(18, machine, true);
  dv.setUint32(20, 1, true);
  word(24, elf.entry ?? 0n);
  word(wide ? 32 : 28, BigInt(segments.length ? eh : 0));
  const shoff = eh + ph * segments.length;
  word(wide ? 40 : 32, BigInt(sections.length ? shoff : 0));
  const counts = wide ? 52 : 40;
  for (const [i, value] of [eh, ph, segments.length, sh, sections.length, Math.max(0, sections.length - 1)].entries()) {
    dv.setUint16(counts + i * 2, value, true);
  }
  let at = shoff + sh * sections.length;
  const place = (bytes: Uint8Array): bigint => {
    out.set(bytes, at);
    at += bytes.length;
    return BigInt(at - bytes.length);
  };
  for (const [i, segment] of segments.entries()) {
    const base = eh + i * ph;
    const offset = place(segment.bytes);
    const [flagsAt, offsetAt, vaddrAt, paddrAt, fileszAt, memszAt] = wide
      ? [4, 8, 16, 24, 32, 40]
      : [24, 4, 8, 12, 16, 20];
    dv.setUint32(base, segment.type ?? SegmentType.LOAD, true);
    dv.setUint32(base + flagsAt, segment.flags ?? 7, true);
    word(base + offsetAt, offset);
    word(base + vaddrAt, segment.vaddr ?? segment.paddr);
    word(base + paddrAt, segment.paddr);
    word(base + fileszAt, BigInt(segment.bytes.length));
    word(base + memszAt, segment.memsz ?? BigInt(segment.bytes.length));
  }
  let nameAt = 0;
  for (const [i, section] of sections.entries()) {
    const base = shoff + i * sh;
    dv.setUint32(base, nameAt, true);
    nameAt += i === 0 ? 1 : section.name.length + 1;
    dv.setUint32(base + 4, section.type, true);
    word(base + 8, BigInt(section.flags ?? 0));
    word(base + (wide ? 16 : 12), section.addr ?? 0n);
    dv.setUint32(base + (wide ? 40 : 24), section.link ?? 0, true);
    word(base + (wide ? 24 : 16), place(section.bytes));
    word(base + (wide ? 32 : 20), BigInt(section.bytes.length));
  }
  return out;
}
