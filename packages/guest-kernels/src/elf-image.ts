/** An ELF64 executable with Xen's notes around assembled bytes (System V ABI; `xen/include/public/elfnote.h`). */

export interface XenNotes {
  readonly guestOs: string;
  readonly entry: bigint;
  readonly hypercallPage: bigint;
}

const PAGE = 4096;
const EHDR_SIZE = 64;
const PHDR_SIZE = 56;
const PT_LOAD = 1;
const PT_NOTE = 4;
const EM_X86_64 = 62;

/** `XEN_ELFNOTE_*` numbers. */
const NOTE = {
  entry: 1, hypercallPage: 2, virtBase: 3, paddrOffset: 4, xenVersion: 5, guestOs: 6, guestVersion: 7, loader: 8,
  paeMode: 9, features: 10,
} as const; // prettier-ignore

function note(type: number, value: string | bigint): Buffer {
  const data = typeof value === 'string' ? Buffer.from(`${value}\0`) : Buffer.alloc(8);
  if (typeof value === 'bigint') data.writeBigUInt64LE(value);
  const out = Buffer.alloc(16 + Math.ceil(data.length / 4) * 4);
  out.writeUInt32LE(4, 0);
  out.writeUInt32LE(data.length, 4);
  out.writeUInt32LE(type, 8);
  out.write('Xen\0', 12, 'latin1');
  data.copy(out, 16);
  return out;
}

/** One loadable segment at `address` (virtual = physical: the virtual base is 0). */
export function elfImage(bytes: Uint8Array, address: bigint, xen: XenNotes): Uint8Array {
  const notes = Buffer.concat([
    note(NOTE.guestOs, xen.guestOs),
    note(NOTE.guestVersion, '1'),
    note(NOTE.loader, 'generic'),
    note(NOTE.xenVersion, 'xen-3.0'),
    note(NOTE.paeMode, 'yes'),
    note(NOTE.features, '!writable_page_tables|pae_pgdir_above_4gb'),
    note(NOTE.virtBase, 0n),
    note(NOTE.paddrOffset, 0n),
    note(NOTE.entry, xen.entry),
    note(NOTE.hypercallPage, xen.hypercallPage),
  ]);
  const noteOffset = EHDR_SIZE + 2 * PHDR_SIZE;
  const header = Buffer.alloc(PAGE);
  header.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1], 0);
  header.writeUInt16LE(2, 16);
  header.writeUInt16LE(EM_X86_64, 18);
  header.writeUInt32LE(1, 20);
  header.writeBigUInt64LE(xen.entry, 24);
  header.writeBigUInt64LE(BigInt(EHDR_SIZE), 32);
  header.writeUInt16LE(EHDR_SIZE, 52);
  header.writeUInt16LE(PHDR_SIZE, 54);
  header.writeUInt16LE(2, 56);
  const program = (
    n: number,
    type: number,
    flags: number,
    offset: number,
    at: bigint,
    size: number,
    align: number,
  ): void => {
    const base = EHDR_SIZE + n * PHDR_SIZE;
    header.writeUInt32LE(type, base);
    header.writeUInt32LE(flags, base + 4);
    header.writeBigUInt64LE(BigInt(offset), base + 8);
    header.writeBigUInt64LE(at, base + 16);
    header.writeBigUInt64LE(at, base + 24);
    header.writeBigUInt64LE(BigInt(size), base + 32);
    header.writeBigUInt64LE(BigInt(size), base + 40);
    header.writeBigUInt64LE(BigInt(align), base + 48);
  };
  program(0, PT_LOAD, 7, PAGE, address, bytes.length, PAGE);
  program(1, PT_NOTE, 4, noteOffset, 0n, notes.length, 4);
  notes.copy(header, noteOffset);
  return Buffer.concat([header, bytes]);
}
