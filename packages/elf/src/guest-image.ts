/**
 * A kernel as a PV domain builder needs it: notes judged, addresses worked out (`xen/common/libelf/libelf-dominfo.c`).
 */
import { ElfError, ElfMachine, loadable, parseElf } from './elf.ts';
import type { ElfImage, ElfSegment } from './elf.ts';
import { parseXenNotes } from './xen-notes.ts';
import type { XenNotes } from './xen-notes.ts';

export interface PvGuestImage {
  readonly image: ElfImage;
  readonly notes: XenNotes;
  readonly addressBits: 32 | 64;
  /** VA of pfn 0. */
  readonly virtBase: bigint;
  /** VA = p_paddr + virtOffset. */
  readonly virtOffset: bigint;
  /** Ends of the loaded image. */
  readonly virtStart: bigint;
  readonly virtEnd: bigint;
  readonly virtEntry: bigint;
  readonly segments: readonly ElfSegment[];
}

/** Bit of XENFEAT_dom0: a kernel that requires it is no guest. */
const FEATURE_DOM0 = 1 << 11;
const SPACE = 1n << 64n;

/** @throws ElfError with the words of Xen's own loader where it has some */
export function parsePvGuest(file: Uint8Array): PvGuestImage {
  const image = parseElf(file);
  const notes = parseXenNotes(image);
  if (!notes) throw new ElfError("Not a Xen-ELF image: No ELF notes or '__xen_guest' section found");
  checkNotes(notes);
  if (notes.paddrOffset !== undefined && notes.virtBase === undefined) {
    throw new ElfError('ELF_PADDR_OFFSET set, VIRT_BASE unset');
  }
  const virtBase = notes.virtBase ?? 0n;
  const paddrOffset = notes.paddrOffset ?? (notes.source === '__xen_guest' ? virtBase : 0n);
  const virtOffset = BigInt.asUintN(64, virtBase - paddrOffset);

  const segments = loadable(image);
  const [first] = segments;
  if (!first) throw new ElfError('no segment to load');
  let start = first.paddr;
  let end = 0n;
  for (const { paddr, memsz } of segments) {
    if (paddr + memsz > SPACE) throw new ElfError('a segment runs over the end of the address space');
    if (paddr < start) start = paddr;
    if (paddr + memsz > end) end = paddr + memsz;
  }
  const virtStart = BigInt.asUintN(64, start + virtOffset);
  const virtEnd = BigInt.asUintN(64, end + virtOffset);
  const virtEntry = notes.entry ?? image.entry;
  if (virtStart > virtEnd || virtEntry < virtStart || virtEntry > virtEnd || virtBase > virtStart) {
    throw new ElfError('ELF start or entries are out of bounds');
  }
  if (notes.initP2m !== undefined && notes.initP2m >= virtStart && notes.initP2m < virtEnd) {
    throw new ElfError('P->M table base is out of bounds');
  }
  return { image, notes, addressBits: guestBits(image), virtBase, virtOffset, virtStart, virtEnd, virtEntry, segments };
}

function checkNotes({ loader, guestOs, xenVersion, unknownRequired, required }: XenNotes): void {
  if (!loader.startsWith('generic') && !guestOs.startsWith('linux')) {
    throw new ElfError(
      `Will only load images built for the generic loader or Linux images (Not '${loader}' and '${guestOs}')`,
    );
  }
  if (!xenVersion.startsWith('xen-3.0')) {
    throw new ElfError(`Xen will only load images built for Xen v3.0 (Not '${xenVersion}')`);
  }
  if (unknownRequired.length > 0) throw new ElfError(`kernel requires unknown features: ${unknownRequired.join(', ')}`);
  if (required & FEATURE_DOM0) throw new ElfError('Kernel does not support unprivileged (DomU) operation');
}

function guestBits(image: ElfImage): 32 | 64 {
  if (image.machine === ElfMachine.X86_64 && image.bits === 64) return 64;
  if (image.machine === ElfMachine.I386 && image.bits === 32) return 32;
  throw new ElfError(`no PV guest type for ELF machine ${image.machine} in class ${image.bits}`);
}
