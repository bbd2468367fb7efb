import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { ElfError, ElfMachine, parseElf, SectionType, SegmentType } from './elf.ts';
import { parsePvGuest } from './guest-image.ts';
import { buildElf, concat, note, xenNote } from './testing/build-elf.ts';
import { parseXenNotes, XenNote } from './xen-notes.ts';

const code = new Uint8Array(64).fill(0x90);
const usual = concat(
  xenNote(XenNote.LOADER, 'generic'),
  xenNote(XenNote.XEN_VERSION, 'xen-3.0'),
  xenNote(XenNote.GUEST_OS, 'test'),
);
const noteSegment = (bytes: Uint8Array) => ({ type: SegmentType.NOTE, paddr: 0n, bytes });
const load = { paddr: 0x100000n, bytes: code, memsz: 0x2000n };
const withNotes = (...notes: Uint8Array[]): Uint8Array =>
  buildElf({ entry: 0x100000n, segments: [load, noteSegment(concat(usual, ...notes))] });

describe('ELF reader', () => {
  test.each([32, 64] as const)('reads a %d-bit image', (bits) => {
    const image = parseElf(buildElf({ bits, entry: 0x1234n, segments: [load] }));
    expect(image).toMatchObject({ bits, entry: 0x1234n, type: 2, sections: [] });
    expect(image.segments).toMatchObject([{ type: 1, flags: 7, paddr: 0x100000n, memsz: 0x2000n, bytes: code }]);
  });

  test('an x86-64 machine in a 32-bit class is an image like any other', () => {
    const image = parseElf(buildElf({ bits: 32, machine: ElfMachine.X86_64, segments: [load] }));
    expect([image.bits, image.machine]).toEqual([32, ElfMachine.X86_64]);
  });

  const patched = (at: number, ...bytes: number[]): Uint8Array => {
    const file = buildElf({ segments: [load] });
    file.set(bytes, at);
    return file;
  };
  test.each([
    ['no magic', new Uint8Array(64), 'not an ELF image'],
    ['an empty file', new Uint8Array(0), 'not an ELF image'],
    ['a cut header', buildElf({}).subarray(0, 40), 'ELF header cut off'],
    ['a big-endian image', patched(5, 2), 'ELF data encoding 2'],
    ['an unknown class', patched(4, 3), 'ELF class 3'],
    ['a program header outside', patched(32, 0xff, 0xff, 0xff), 'program header at 16777215'],
    ['small program header entries', patched(54, 8), 'program header entries of 8 bytes'],
    ['too many program headers', patched(56, 0x01, 0x01), '257 program header entries'],
    ['a segment outside of the file', patched(64 + 8, 0, 0, 0, 0, 1), 'segment 0 at 4294967296'],
    [
      'a segment larger in the file',
      patched(64 + 40, 1, 0, 0, 0, 0, 0, 0, 0),
      'segment 0: 64 bytes in the file, 1 in memory',
    ],
  ])('%s is refused by name', (_, file, message) => {
    expect(() => parseElf(file)).toThrow(ElfError);
    expect(() => parseElf(file)).toThrow(message);
  });

  test('bytes of any kind give an image or an ElfError', () => {
    const good = withNotes(xenNote(XenNote.VIRT_BASE, 0n));
    const mutation = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { maxLength: 12 });
    fc.assert(
      fc.property(mutation, fc.nat(good.length), (changes, length) => {
        const file = Uint8Array.from(good);
        for (const [at, byte] of changes) file[at] = byte;
        for (const bytes of [file, file.subarray(0, length)]) {
          try {
            parsePvGuest(bytes);
          } catch (error) {
            expect((error as Error).name).toBe('ElfError');
          }
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('Xen notes', () => {
  test('are read from segments', () => {
    const file = withNotes(
      note('GNU', 1, 0),
      xenNote(XenNote.VIRT_BASE, 0xffffffff80000000n),
      xenNote(XenNote.HYPERCALL_PAGE, 0x101000),
      xenNote(XenNote.FEATURES, '!writable_page_tables|pae_pgdir_above_4gb|news'),
      xenNote(XenNote.SUPPORTED_FEATURES, 0x8801),
      xenNote(XenNote.MOD_START_PFN, 1n),
      xenNote(XenNote.PAE_MODE, 'yes'),
      xenNote(XenNote.PHYS32_ENTRY, 0x1000850),
      xenNote(99, 'unknown'),
    );
    expect(parseXenNotes(parseElf(file))).toMatchObject({
      source: 'segments',
      guestOs: 'test',
      virtBase: 0xffffffff80000000n,
      hypercallPage: 0x101000n,
      supported: 0x8811,
      required: 1,
      unknownRequired: [],
      modStartPfn: true,
      paeMode: 'extended-cr3',
      phys32Entry: 0x1000850,
    });
  });

  test('are read from sections when no segment has any', () => {
    const file = buildElf({
      segments: [load],
      sections: [{ name: '.note.Xen', type: SectionType.NOTE, bytes: usual }],
    });
    expect(parseXenNotes(parseElf(file))).toMatchObject({ source: 'sections', loader: 'generic' });
  });

  test('the old __xen_guest section still counts, with its own defaults', () => {
    const text =
      'GUEST_OS=linux,GUEST_VER=2.6,XEN_VER=xen-3.0,VIRT_BASE=0xC0000000,HYPERCALL_PAGE=0x101,PAE=yes,LOADER=generic';
    const bytes = new TextEncoder().encode(`${text}\0`);
    const file = buildElf({
      bits: 32,
      entry: 0xc0100000n,
      segments: [{ ...load, paddr: 0xc0100000n }],
      sections: [{ name: '__xen_guest', type: SectionType.PROGBITS, bytes }],
    });
    const guest = parsePvGuest(file);
    expect(guest.notes).toMatchObject({ source: '__xen_guest', hypercallPage: 0xc0101000n, paeMode: 'yes' });
    expect(guest).toMatchObject({ virtBase: 0xc0000000n, virtOffset: 0n, virtStart: 0xc0100000n, addressBits: 32 });
  });

  test.each([
    ['no notes', buildElf({ segments: [load] }), 'Not a Xen-ELF image'],
    ['a foreign loader', withNotes(xenNote(XenNote.LOADER, 'other')), 'generic loader or Linux images'],
    ['another Xen', withNotes(xenNote(XenNote.XEN_VERSION, 'xen-2.0')), 'Xen v3.0'],
    ['a feature nobody knows', withNotes(xenNote(XenNote.FEATURES, '!teleport')), 'unknown features: teleport'],
    ['a dom0-only kernel', withNotes(xenNote(XenNote.FEATURES, '!dom0')), 'unprivileged (DomU)'],
    ['an offset without a base', withNotes(xenNote(XenNote.PADDR_OFFSET, 0n)), 'VIRT_BASE unset'],
    ['an entry outside', withNotes(xenNote(XenNote.ENTRY, 0x200000n)), 'out of bounds'],
    ['a p2m inside the image', withNotes(xenNote(XenNote.INIT_P2M, 0x101000n)), 'P->M table base'],
    ['nothing to load', buildElf({ segments: [noteSegment(usual)] }), 'no segment to load'],
    [
      'a 32-bit container of 64-bit code',
      buildElf({ bits: 32, machine: 62, entry: 0x100000n, segments: [load, noteSegment(usual)] }),
      'no PV guest type',
    ],
  ])('%s: refused', (_, file, message) => {
    expect(() => parsePvGuest(file)).toThrow(message);
  });

  test('addresses follow p_paddr, VIRT_BASE and PADDR_OFFSET', () => {
    const guest = parsePvGuest(
      buildElf({
        segments: [
          { paddr: 0x1000000n, bytes: code, memsz: 0x1000n },
          { paddr: 0x1200000n, vaddr: 0n, bytes: code, memsz: 0x800n },
          noteSegment(
            concat(usual, xenNote(XenNote.VIRT_BASE, 0xffffffff80000000n), xenNote(XenNote.ENTRY, 0xffffffff81000000n)),
          ),
        ],
      }),
    );
    expect([guest.virtStart, guest.virtEnd]).toEqual([0xffffffff81000000n, 0xffffffff81200800n]);
  });
});

const xtf = process.env['XENHOST_XTF'];
const miniOs = process.env['XENHOST_MINIOS'];

describe('real images', () => {
  const has = xtf !== undefined && existsSync(xtf);
  (has ? test : test.skip)('XTF binaries (XENHOST_XTF names the built tree)', () => {
    const read = (name: string) => readFileSync(join(xtf ?? '', 'tests/example', name));
    const pv = parsePvGuest(read('test-pv64-example'));
    expect(pv).toMatchObject({ virtBase: 0n, virtEntry: 0x100000n, addressBits: 64 });
    expect(pv.notes).toMatchObject({ guestOs: 'XTF', loader: 'generic' });
    expect(pv.notes.hypercallPage).toBeDefined();
    expect(parsePvGuest(read('test-pv32pae-example')).addressBits).toBe(32);
    const hvm = parseElf(read('test-hvm64-example'));
    expect([hvm.bits, hvm.machine]).toEqual([32, ElfMachine.X86_64]);
    expect(parseXenNotes(hvm)?.phys32Entry).toBeGreaterThan(0x100000);
  });

  (miniOs !== undefined && existsSync(miniOs) ? test : test.skip)('Mini-OS (XENHOST_MINIOS names its .gz file)', () => {
    const guest = parsePvGuest(gunzipSync(readFileSync(miniOs ?? '')));
    expect(guest.notes).toMatchObject({ source: 'sections', guestOs: 'Mini-OS' });
  });
});
