/** ELF notes: {namesz, descsz, type, name padded to 4, desc padded to 4}, in segments and sections alike. */
import { cString, ElfError, SectionType, SegmentType } from './elf.ts';
import type { ElfImage } from './elf.ts';

export interface ElfNote {
  readonly name: string;
  readonly type: number;
  readonly desc: Uint8Array;
}

const HEADER = 12;
/** Over all note areas of an image (as libelf's ELF_MAX_TOTAL_NOTE_COUNT). */
export const MAX_NOTES = 65536;

const padded = (n: number): number => (n + 3) & ~3;

/** Notes of one area. @throws ElfError for one that does not fit in it */
export function parseNotes(area: Uint8Array): ElfNote[] {
  const dv = new DataView(area.buffer, area.byteOffset, area.byteLength);
  const notes: ElfNote[] = [];
  for (let at = 0; at + HEADER <= area.length;) {
    const namesz = dv.getUint32(at, true);
    const descsz = dv.getUint32(at + 4, true);
    const type = dv.getUint32(at + 8, true);
    if (namesz > area.length || descsz > area.length)
      throw new ElfError(`note at ${at}: sizes ${namesz} and ${descsz}`);
    const desc = at + HEADER + padded(namesz);
    if (desc + descsz > area.length) throw new ElfError(`note at ${at} runs over its area of ${area.length} bytes`);
    if (notes.length >= MAX_NOTES) throw new ElfError('too many ELF notes');
    notes.push({
      name: cString(area.subarray(at + HEADER, at + HEADER + namesz)),
      type,
      desc: area.subarray(desc, desc + descsz),
    });
    at = desc + padded(descsz);
  }
  return notes;
}

/** Notes of the PT_NOTE segments (those that have an offset: some binutils leave it 0). */
export const segmentNotes = (image: ElfImage): ElfNote[] =>
  image.segments.filter((s) => s.type === SegmentType.NOTE && s.offset !== 0).flatMap((s) => parseNotes(s.bytes));

export const sectionNotes = (image: ElfImage): ElfNote[] =>
  image.sections.filter((s) => s.type === SectionType.NOTE).flatMap((s) => parseNotes(s.bytes));
