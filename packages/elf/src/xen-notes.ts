/**
 * What a Xen-aware kernel says of itself: ELF notes of name "Xen" (`xen/include/public/elfnote.h`) in PT_NOTE segments,
 * else in SHT_NOTE sections, else the old `__xen_guest` section of text pairs. Only reads; `guest-image.ts` judges.
 */
import { cString } from './elf.ts';
import type { ElfImage } from './elf.ts';
import { sectionNotes, segmentNotes } from './notes.ts';
import type { ElfNote } from './notes.ts';

export const XenNote = {
  INFO: 0, ENTRY: 1, HYPERCALL_PAGE: 2, VIRT_BASE: 3, PADDR_OFFSET: 4, XEN_VERSION: 5, GUEST_OS: 6, GUEST_VERSION: 7,
  LOADER: 8, PAE_MODE: 9, FEATURES: 10, BSD_SYMTAB: 11, HV_START_LOW: 12, L1_MFN_VALID: 13, SUSPEND_CANCEL: 14,
  INIT_P2M: 15, MOD_START_PFN: 16, SUPPORTED_FEATURES: 17, PHYS32_ENTRY: 18, PHYS32_RELOC: 19,
} as const; // prettier-ignore

/** Names in FEATURES, by bit of `xen_version`'s features (`features.h`). */
const FEATURE_NAMES: Readonly<Record<string, number>> = {
  writable_page_tables: 0, writable_descriptor_tables: 1, auto_translated_physmap: 2, supervisor_mode_kernel: 3,
  pae_pgdir_above_4gb: 4, dom0: 11,
}; // prettier-ignore

/** PAE_MODE: whether a 32-bit guest's L3 may lie above 4 GiB. */
export type PaeMode = 'no' | 'yes' | 'extended-cr3' | 'bimodal';

export interface XenNotes {
  readonly source: 'segments' | 'sections' | '__xen_guest';
  readonly guestOs: string;
  readonly guestVersion: string;
  readonly xenVersion: string;
  readonly loader: string;
  /** The FEATURES text as it stands. */
  readonly features: string;
  /** Bits of features the kernel can use, and of those it cannot do without (`!name`). */
  readonly supported: number;
  readonly required: number;
  /** `!` names that nobody knows: such a kernel cannot be loaded. */
  readonly unknownRequired: readonly string[];
  readonly paeMode: PaeMode;
  readonly bsdSymtab: boolean;
  readonly suspendCancel: boolean;
  /** The initrd need not be mapped: start_info gets its pfn. */
  readonly modStartPfn: boolean;
  readonly entry?: bigint;
  readonly hypercallPage?: bigint;
  readonly virtBase?: bigint;
  readonly paddrOffset?: bigint;
  readonly hvStartLow?: bigint;
  readonly initP2m?: bigint;
  readonly l1MfnValid?: { readonly mask: bigint; readonly value: bigint };
  /** PVH entry, physical. */
  readonly phys32Entry?: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

const blank = (source: XenNotes['source']): Mutable<XenNotes> => ({
  source, guestOs: '', guestVersion: '', xenVersion: '', loader: '', features: '', supported: 0, required: 0,
  unknownRequired: [], paeMode: 'no', bsdSymtab: false, suspendCancel: false, modStartPfn: false,
}); // prettier-ignore

/** Undefined when the image says nothing to Xen. @throws ElfError for notes that are broken */
export function parseXenNotes(image: ElfImage): XenNotes | undefined {
  const xen = (note: ElfNote): boolean => note.name === 'Xen';
  const inSegments = segmentNotes(image).filter(xen);
  if (inSegments.length > 0) return fromNotes('segments', inSegments);
  const inSections = sectionNotes(image).filter(xen);
  if (inSections.length > 0) return fromNotes('sections', inSections);
  const legacy = image.sections.find((section) => section.name === '__xen_guest');
  return legacy && fromGuestInfo(cString(legacy.bytes, 0, legacy.bytes.length));
}

/** Numbers come in 1, 2, 4 or 8 bytes; any other size reads as 0. */
function numeric(desc: Uint8Array): bigint {
  const dv = new DataView(desc.buffer, desc.byteOffset, desc.byteLength);
  switch (desc.length) {
    case 1:
      return BigInt(dv.getUint8(0));
    case 2:
      return BigInt(dv.getUint16(0, true));
    case 4:
      return BigInt(dv.getUint32(0, true));
    case 8:
      return dv.getBigUint64(0, true);
    default:
      return 0n;
  }
}

function fromNotes(source: XenNotes['source'], list: readonly ElfNote[]): XenNotes {
  const notes = blank(source);
  for (const { type, desc } of list) applyNote(notes, type, desc);
  return notes;
}

/** A later note of the same type wins. */
function applyNote(notes: Mutable<XenNotes>, type: number, desc: Uint8Array): void {
  switch (type) {
    case XenNote.ENTRY:
      notes.entry = numeric(desc);
      break;
    case XenNote.HYPERCALL_PAGE:
      notes.hypercallPage = numeric(desc);
      break;
    case XenNote.VIRT_BASE:
      notes.virtBase = numeric(desc);
      break;
    case XenNote.PADDR_OFFSET:
      notes.paddrOffset = numeric(desc);
      break;
    case XenNote.XEN_VERSION:
      notes.xenVersion = cString(desc);
      break;
    case XenNote.GUEST_OS:
      notes.guestOs = cString(desc);
      break;
    case XenNote.GUEST_VERSION:
      notes.guestVersion = cString(desc);
      break;
    case XenNote.LOADER:
      notes.loader = cString(desc);
      break;
    case XenNote.PAE_MODE:
      notes.paeMode = paeMode(cString(desc));
      break;
    case XenNote.FEATURES:
      applyFeatures(notes, cString(desc, 0, desc.length));
      break;
    case XenNote.BSD_SYMTAB:
      notes.bsdSymtab = cString(desc) === 'yes';
      break;
    case XenNote.HV_START_LOW:
      notes.hvStartLow = numeric(desc);
      break;
    case XenNote.L1_MFN_VALID:
      notes.l1MfnValid = l1MfnValid(desc);
      break;
    case XenNote.SUSPEND_CANCEL:
      notes.suspendCancel = numeric(desc) !== 0n;
      break;
    case XenNote.INIT_P2M:
      notes.initP2m = numeric(desc);
      break;
    case XenNote.MOD_START_PFN:
      notes.modStartPfn = numeric(desc) !== 0n;
      break;
    case XenNote.SUPPORTED_FEATURES:
      notes.supported |= Number(numeric(desc) & 0xffff_ffffn);
      break;
    case XenNote.PHYS32_ENTRY:
      notes.phys32Entry = Number(numeric(desc) & 0xffff_ffffn);
      break;
  }
}

/** In the notes "yes" means extended CR3, as libelf reads it. */
function paeMode(text: string): PaeMode {
  if (text.includes('bimodal')) return 'bimodal';
  return text === 'yes' || text.includes('extended-cr3') ? 'extended-cr3' : 'no';
}

function l1MfnValid(desc: Uint8Array): { mask: bigint; value: bigint } {
  const half = desc.length >> 1;
  return { mask: numeric(desc.subarray(0, half)), value: numeric(desc.subarray(half, half * 2)) };
}

function applyFeatures(notes: Mutable<XenNotes>, text: string): void {
  notes.features = text;
  const unknown: string[] = [];
  for (const word of text.split(/[|,]/)) {
    const required = word.startsWith('!');
    const bit = FEATURE_NAMES[required ? word.slice(1) : word];
    if (bit === undefined) {
      if (required) unknown.push(word.slice(1));
      continue;
    }
    notes.supported |= 1 << bit;
    if (required) notes.required |= 1 << bit;
  }
  notes.unknownRequired = unknown;
}

/** `LOADER=generic,GUEST_OS=linux,VIRT_BASE=0xC0000000,...`; the hypercall page is a page number above VIRT_BASE. */
function fromGuestInfo(text: string): XenNotes {
  const notes = blank('__xen_guest');
  for (const pair of text.split(',')) {
    const [name = '', value = ''] = pair.split('=', 2);
    switch (name) {
      case 'LOADER':
        notes.loader = value;
        break;
      case 'GUEST_OS':
        notes.guestOs = value;
        break;
      case 'GUEST_VER':
        notes.guestVersion = value;
        break;
      case 'XEN_VER':
        notes.xenVersion = value;
        break;
      case 'PAE':
        notes.paeMode = value === 'yes[extended-cr3]' ? 'extended-cr3' : value.startsWith('yes') ? 'yes' : 'no';
        break;
      case 'BSD_SYMTAB':
        notes.bsdSymtab = true;
        break;
      case 'FEATURES':
        applyFeatures(notes, value);
        break;
      case 'VIRT_BASE':
        notes.virtBase = parseNumber(value);
        break;
      case 'VIRT_ENTRY':
        notes.entry = parseNumber(value);
        break;
      case 'ELF_PADDR_OFFSET':
        notes.paddrOffset = parseNumber(value);
        break;
      case 'HYPERCALL_PAGE':
        notes.hypercallPage = BigInt.asUintN(64, parseNumber(value) << 12n);
        break;
    }
  }
  if (notes.virtBase !== undefined && notes.hypercallPage !== undefined) {
    notes.hypercallPage = BigInt.asUintN(64, notes.hypercallPage + notes.virtBase);
  }
  return notes;
}

/** As strtoull with base 0, for hexadecimal and decimal; 0 for what is no number. */
function parseNumber(text: string): bigint {
  const digits = /^\s*(0[xX][0-9a-fA-F]+|\d+)/.exec(text)?.[1];
  return digits === undefined ? 0n : BigInt.asUintN(64, BigInt(digits));
}
