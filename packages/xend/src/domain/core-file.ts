/**
 * Xen's core format: an ELF64 file of sections (`docs/misc/dump-core-format.txt`, `tools/libxc/xc_core.h`). Pure: builds
 * the bytes before the pages, given what is known of the domain.
 */
import { bytesOf } from '@xenhost/base';
import type { VersionInfo } from '@xenhost/libxenctrl';
import { PAGE_SIZE } from '@xenhost/xen-abi';

const EHDR_SIZE = 64;
const SHDR_SIZE = 64;
const ET_CORE = 4;
const EM_386 = 3;
const EM_X86_64 = 62;
const SHT = { null: 0, progbits: 1, strtab: 3, note: 7 } as const;
/** `elfnote.h`: XEN_ELFNOTE_DUMPCORE_*. */
export const DUMPCORE_NOTE = { none: 0x200_0000, header: 0x200_0001, xenVersion: 0x200_0002, formatVersion: 0x200_0003 } as const; // prettier-ignore
/** XC_CORE_MAGIC: a paravirtual domain. */
export const CORE_MAGIC_PV = 0xf00febedn;
const FORMAT_VERSION = 1n;

export interface CoreContents {
  readonly bits: 32 | 64;
  readonly version: VersionInfo;
  /** One `vcpu_guest_context` after the other. */
  readonly contexts: readonly Uint8Array[];
  readonly sharedInfo: Uint8Array;
  /** Pairs of pfn and frame, pfns ascending. */
  readonly p2m: readonly (readonly [pfn: number, mfn: number])[];
}

/** Everything of the file but the pages, which follow, in the order of `p2m`, at `pagesOffset`. */
export function coreHead(contents: CoreContents): { readonly head: Uint8Array; readonly pagesOffset: number } {
  const prstatus = Buffer.concat(contents.contexts);
  const p2m = new Uint8Array(contents.p2m.length * 16);
  const p2mView = bytesOf(p2m).dv;
  for (const [i, [pfn, mfn]] of contents.p2m.entries()) {
    p2mView.setBigUint64(i * 16, BigInt(pfn), true);
    p2mView.setBigUint64(i * 16 + 8, BigInt(mfn), true);
  }
  const notes = coreNotes(contents);
  const names = ['', '.shstrtab', '.note.Xen', '.xen_prstatus', '.xen_shared_info', '.xen_p2m', '.xen_pages'];
  const strings = Buffer.from(names.map((name) => `${name}\0`).join(''), 'latin1');
  const data = [strings, notes, prstatus, contents.sharedInfo, p2m];
  const offsets: number[] = [];
  let offset = EHDR_SIZE + names.length * SHDR_SIZE;
  for (const part of data) {
    offsets.push(offset);
    offset += align(part.length, 8);
  }
  const pagesOffset = align(offset, PAGE_SIZE);
  const head = new Uint8Array(pagesOffset);
  writeElfHeader(head, contents.bits, names.length);
  const sizes = [...data.map((part) => part.length), contents.p2m.length * PAGE_SIZE];
  const types = [SHT.strtab, SHT.note, SHT.progbits, SHT.progbits, SHT.progbits, SHT.progbits];
  const entrySizes = [0, 0, contents.contexts[0]?.length ?? 0, PAGE_SIZE, 16, PAGE_SIZE];
  const view = bytesOf(head).dv;
  let nameAt = 1;
  for (const [i, size] of sizes.entries()) {
    const at = EHDR_SIZE + (i + 1) * SHDR_SIZE;
    view.setUint32(at, nameAt, true);
    view.setUint32(at + 4, types[i] ?? SHT.null, true);
    view.setBigUint64(at + 24, BigInt(offsets[i] ?? pagesOffset), true);
    view.setBigUint64(at + 32, BigInt(size), true);
    view.setBigUint64(at + 48, i === sizes.length - 1 ? BigInt(PAGE_SIZE) : 8n, true);
    view.setBigUint64(at + 56, BigInt(entrySizes[i] ?? 0), true);
    nameAt += (names[i + 1]?.length ?? 0) + 1;
  }
  for (const [i, part] of data.entries()) head.set(part, offsets[i]);
  return { head, pagesOffset };
}

const align = (value: number, to: number): number => Math.ceil(value / to) * to;

function writeElfHeader(head: Uint8Array, bits: 32 | 64, nrSections: number): void {
  const view = bytesOf(head).dv;
  // ELFCLASS64, little endian, version 1, OSABI_SYSV.
  head.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]);
  view.setUint16(16, ET_CORE, true);
  view.setUint16(18, bits === 32 ? EM_386 : EM_X86_64, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(40, BigInt(EHDR_SIZE), true);
  view.setUint16(52, EHDR_SIZE, true);
  view.setUint16(58, SHDR_SIZE, true);
  view.setUint16(60, nrSections, true);
  view.setUint16(62, 1, true);
}

function coreNotes({ contexts, p2m, version }: CoreContents): Uint8Array {
  const header = quads(CORE_MAGIC_PV, BigInt(contexts.length), BigInt(p2m.length), BigInt(PAGE_SIZE));
  // xen_dumpcore_elfnote_xen_version_desc: the results of xen_version in their own sizes (`version.h`).
  const xenVersion = Buffer.concat([
    quads(BigInt(version.major), BigInt(version.minor)),
    fixed(version.extra, 16),
    fixed(version.compiler, 64),
    fixed(version.compileBy, 16),
    fixed(version.compileDomain, 32),
    fixed(version.compileDate, 32),
    fixed(version.capabilities, 1024),
    fixed(version.changeset, 64),
    quads(BigInt.asUintN(64, version.virtStart), BigInt(version.pagesize)),
  ]);
  return Buffer.concat([
    note(DUMPCORE_NOTE.none, new Uint8Array(0)),
    note(DUMPCORE_NOTE.header, header),
    note(DUMPCORE_NOTE.xenVersion, xenVersion),
    note(DUMPCORE_NOTE.formatVersion, quads(FORMAT_VERSION)),
  ]);
}

function note(type: number, description: Uint8Array): Uint8Array {
  const head = Buffer.alloc(16);
  head.writeUInt32LE(4, 0);
  head.writeUInt32LE(description.length, 4);
  head.writeUInt32LE(type, 8);
  head.write('Xen\0', 12, 'latin1');
  return Buffer.concat([head, description, Buffer.alloc(align(description.length, 4) - description.length)]);
}

function quads(...values: readonly bigint[]): Uint8Array {
  const out = Buffer.alloc(values.length * 8);
  for (const [i, value] of values.entries()) out.writeBigUInt64LE(value, i * 8);
  return out;
}

function fixed(text: string, size: number): Uint8Array {
  const out = Buffer.alloc(size);
  out.write(text, 0, size - 1, 'latin1');
  return out;
}
