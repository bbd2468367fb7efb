import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bytesOf } from '@xenhost/base';
import { parsePvGuest, XenNote } from '@xenhost/elf';
import { buildElf, concat, xenNote } from '@xenhost/elf/testing';
import { localPrivcmd } from '@xenhost/privcmd';
import { CpuUserRegs, StartInfo, VcpuGuestContext } from '@xenhost/xen-abi';
import type { Xenctrl } from '../api.ts';
import { FakeXen } from '../testing/fake-xen.ts';
import type { FakeDomain } from '../testing/fake-xen.ts';
import { openXenctrl } from '../xenctrl.ts';
import { buildPvDomain } from './build-pv.ts';
import type { BuiltDomain, BuildPvOptions } from './types.ts';
import { unpackKernel } from './unpack/index.ts';

const UUID = '01020304-0506-0708-090a-0b0c0d0e0f10';
const MIB = 1024;

let xen: FakeXen;
let xc: Xenctrl;
beforeEach(() => {
  xen = new FakeXen();
  xc = openXenctrl(localPrivcmd({}, xen).open());
});

const usual = [
  xenNote(XenNote.LOADER, 'generic'),
  xenNote(XenNote.XEN_VERSION, 'xen-3.0'),
  xenNote(XenNote.GUEST_OS, 'test'),
];
const code = Uint8Array.from({ length: 5000 }, (_, i) => (i % 250) + 1);

function kernel(
  notes: readonly Uint8Array[] = [],
  bits: 32 | 64 = 64,
  paddr = 0x100000n,
  entry = 0x100000n,
): Uint8Array {
  return buildElf({
    bits,
    entry,
    segments: [
      { paddr, bytes: code, memsz: 0x3000n },
      { type: 4, paddr: 0n, bytes: concat(...usual, ...notes) },
    ],
  });
}

const KERNEL_BASE = 0xffffffff80000000n;
const linuxLike = (...more: Uint8Array[]): Uint8Array =>
  kernel([
    xenNote(XenNote.VIRT_BASE, KERNEL_BASE),
    xenNote(XenNote.ENTRY, KERNEL_BASE + 0x101000n),
    xenNote(XenNote.INIT_P2M, 0x8000000000n),
    xenNote(XenNote.MOD_START_PFN, 1n),
    ...more,
  ]);

async function build(
  options: Partial<BuildPvOptions> & { kernel: Uint8Array },
): Promise<{ domain: FakeDomain; built: BuiltDomain }> {
  const memoryKiB = options.memoryKiB ?? 32 * MIB;
  const domid = await xc.domainCreate({ uuid: UUID, maxVcpus: 2 });
  await xc.domainSetmaxmem(domid, memoryKiB);
  await xc.domainMaxVcpus(domid, 2);
  const built = await buildPvDomain(xc, { domid, memoryKiB, ...options });
  return { domain: xen.domain(domid), built };
}

/** Bytes that the guest reads at a virtual address. */
function read(domain: FakeDomain, va: bigint, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => {
    const at = xen.walk(domain, va + BigInt(i));
    if (!at) throw new Error(`0x${(va + BigInt(i)).toString(16)} is not mapped`);
    return domain.frames.get(at.mfn)?.[at.offset] ?? 0;
  });
}

function registers(domain: FakeDomain) {
  const bytes = bytesOf(domain.context ?? new Uint8Array(0));
  const regs = CpuUserRegs.view(bytes, VcpuGuestContext.offsets.user_regs);
  return {
    regs,
    cr3: bytes.dv.getBigUint64(VcpuGuestContext.offsets.ctrlreg + 24, true),
    context: VcpuGuestContext.view(bytes, 0),
  };
}

function startInfo(domain: FakeDomain) {
  const { regs } = registers(domain);
  const page = read(domain, regs.rsi, 4096);
  const text = (at: number): string => Buffer.from(page.subarray(at, page.indexOf(0, at))).toString();
  return { info: StartInfo.view(bytesOf(page), 0), magic: text(0), cmdline: text(StartInfo.offsets.cmd_line) };
}

describe('a 64-bit PV guest with nothing but the usual notes', () => {
  test('starts at its entry with everything mapped where it is told', async () => {
    const { domain, built } = await build({ kernel: kernel(), cmdline: 'hello world' });
    const { regs, cr3, context } = registers(domain);
    expect(regs).toMatchObject({ rip: 0x100000n, cs: 0xe033, ss: 0xe02b, rflags: 0x200n, ds: 0, es: 0, fs: 0, gs: 0 });
    expect([context.flags, context.kernel_ss, context.kernel_sp]).toEqual([36n, 0xe02bn, regs.rsp]);
    expect(cr3).toBe(BigInt(domain.pinned ?? 0) << 12n);
    expect(read(domain, 0x100000n, 5000)).toEqual(code);
    expect(read(domain, 0x100000n + 5000n, 100)).toEqual(new Uint8Array(100));

    const { info, magic, cmdline } = startInfo(domain);
    expect([magic, cmdline]).toEqual(['xen-3.0-x86_64', 'hello world']);
    expect(info).toMatchObject({
      nr_pages: 8192n,
      flags: 0,
      shared_info: BigInt(domain.sharedInfo) << 12n,
      store_mfn: BigInt(built.storeMfn),
      store_evtchn: built.storePort,
      console_mfn: BigInt(built.consoleMfn),
      console_evtchn: built.consolePort,
      mod_start: 0n,
      mod_len: 0n,
      first_p2m_pfn: 0n,
    });
    expect(built.storePort).not.toBe(built.consolePort);
    expect(built.kernel).toMatchObject({ guestOs: 'test', guestType: 'xen-3.0-x86_64' });
  });

  test('has the layout of libxenguest: image, p2m, start_info, xenstore, console, tables, stack, padding', async () => {
    const { domain, built } = await build({ kernel: kernel() });
    const { info } = startInfo(domain);
    const { regs } = registers(domain);
    const p2m = 0x103000n;
    const after = p2m + 16n * 4096n; // 8192 pages of 8 bytes
    expect([info.mfn_list, regs.rsi, info.pt_base]).toEqual([p2m, after, after + 3n * 4096n]);
    expect(xen.walk(domain, after + 4096n)?.mfn).toBe(built.storeMfn);
    expect(xen.walk(domain, after + 2n * 4096n)?.mfn).toBe(built.consoleMfn);
    expect(regs.rsp).toBe(info.pt_base + (info.nr_pt_frames + 1n) * 4096n);
    expect(info.nr_pt_frames).toBe(5n); // L4, L3, L2, two L1s for 4 MiB
    expect(xen.walk(domain, 0x3ff000n)).toBeDefined();
    expect(xen.walk(domain, 0x400000n)).toBeUndefined();
    expect(0x400000n - regs.rsp).toBeGreaterThanOrEqual(512n * 1024n);
  });

  test('has its p2m, and maps tables read-only', async () => {
    const { domain } = await build({ kernel: kernel() });
    const { info } = startInfo(domain);
    const list = bytesOf(read(domain, info.mfn_list, 8192 * 8)).dv;
    for (let pfn = 0; pfn < 8192; pfn += 97) expect(xen.m2p.get(list.getUint32(pfn * 8, true))).toBe(pfn);
    const writable = Array.from({ length: 5 }, (_, i) => xen.walk(domain, info.pt_base + BigInt(i) * 4096n)?.writable);
    expect([...writable, xen.walk(domain, info.mfn_list)?.writable]).toEqual([false, false, false, false, false, true]);
  });

  test('finds its rings granted and events masked', async () => {
    const { domain, built } = await build({ kernel: kernel(), consoleDomid: 3 });
    const table = bytesOf(domain.frames.get(domain.grantTable) ?? new Uint8Array(0)).dv;
    const entry = (ref: number) => [
      table.getUint16(ref * 8, true),
      table.getUint16(ref * 8 + 2, true),
      table.getUint32(ref * 8 + 4, true),
    ];
    expect([entry(0), entry(1), entry(2)]).toEqual([
      [1, 3, built.consoleMfn],
      [1, 0, built.storeMfn],
      [0, 0, 0],
    ]);
    const shared = domain.frames.get(domain.sharedInfo);
    expect(Array.from({ length: 32 }, (_, i) => shared?.[i * 64 + 1])).toEqual(Array.from({ length: 32 }, () => 1));
  });

  test('a hypercall page is filled, a mapped initrd lies behind the image', async () => {
    const ramdisk = Uint8Array.from({ length: 5001 }, (_, i) => i % 251);
    const { domain } = await build({ kernel: kernel([xenNote(XenNote.HYPERCALL_PAGE, 0x102000n)]), ramdisk });
    expect(domain.hypercallPage).toBe(xen.walk(domain, 0x102000n)?.mfn);
    const { info } = startInfo(domain);
    expect([info.mod_start, info.mod_len, info.flags]).toEqual([0x103000n, 5001n, 0]);
    expect(read(domain, info.mod_start, 5001)).toEqual(ramdisk);
  });
});

describe('a guest like Linux', () => {
  test('gets its p2m outside and its initrd by pfn', async () => {
    const ramdisk = new Uint8Array(10_000).fill(7);
    const { domain } = await build({ kernel: linuxLike(), ramdisk, memoryKiB: 64 * MIB, flags: 2 });
    const { regs } = registers(domain);
    const { info } = startInfo(domain);
    expect(regs.rip).toBe(KERNEL_BASE + 0x101000n);
    expect(regs.rsi).toBe(KERNEL_BASE + 0x103000n);
    expect([info.flags, info.mod_len]).toEqual([8 | 2, 3n * 4096n]);
    const [initrdMfn] = [...xen.m2p].find(([, pfn]) => BigInt(pfn) === info.mod_start) ?? [];
    expect(domain.frames.get(initrdMfn ?? 0)?.[0]).toBe(7);

    expect([info.mfn_list, info.first_p2m_pfn]).toEqual([0x8000000000n, info.mod_start + 3n]);
    expect(info.nr_p2m_frames).toBe(32n + 3n); // 16384 * 8 bytes, and L3, L2, L1 of their own
    const list = bytesOf(read(domain, info.mfn_list, 16384 * 8)).dv;
    for (let pfn = 0; pfn < 16384; pfn += 131) expect(xen.m2p.get(list.getUint32(pfn * 8, true))).toBe(pfn);
    expect(xen.walk(domain, KERNEL_BASE)?.mfn).toBe(list.getUint32(0, true));
  });
});

describe('a 32-bit PAE guest', () => {
  test('starts in ring 1 with three levels', async () => {
    const { domain, built } = await build({ kernel: kernel([], 32) });
    const dv = bytesOf(domain.context ?? new Uint8Array(0)).dv;
    expect([domain.bits, dv.byteLength]).toEqual([32, 2800]);
    const at = (offset: number): number => dv.getUint32(offset, true);
    expect([at(516 + 32), at(516 + 36), at(516 + 48), at(516 + 40)]).toEqual([0x100000, 0xe019, 0xe021, 0x200]);
    expect(at(2716 + 12)).toBe((domain.pinned ?? 0) * 4096);
    const page = bytesOf(read(domain, BigInt(at(516 + 12)), 4096)).dv;
    expect([page.getUint32(32, true), page.getUint32(52, true)]).toEqual([8192, built.consoleMfn]);
    expect(built.kernel.guestType).toBe('xen-3.0-x86_32p');
    const l3 = bytesOf(domain.frames.get(domain.pinned ?? 0) ?? new Uint8Array(0)).dv;
    expect(l3.getBigUint64(24, true) & 1n).toBe(1n); // the L2 of the last GiB is always there
  });
});

describe('what cannot be built', () => {
  const badP2m = kernel([
    xenNote(XenNote.VIRT_BASE, 0x100000n),
    xenNote(XenNote.ENTRY, 0x200000n),
    xenNote(XenNote.INIT_P2M, 0xff000n),
  ]);
  test.each<[string, Partial<BuildPvOptions> & { kernel: Uint8Array }, string, string]>([
    ['an empty file', { kernel: new Uint8Array(0) }, 'invalidKernel', 'no kernel image loaded'],
    ['a text file', { kernel: Buffer.from('#!/bin/sh\necho hello\n'.repeat(50)) }, 'invalidKernel', 'no loader found'],
    [
      'a plain ELF',
      { kernel: buildElf({ segments: [{ paddr: 0n, bytes: code }] }) },
      'invalidKernel',
      'Not a Xen-ELF image',
    ],
    [
      'broken gzip',
      { kernel: Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0) },
      'invalidKernel',
      'unable to GZIP decompress kernel',
    ],
    [
      'too little memory for the kernel',
      { kernel: kernel(), memoryKiB: 1024 },
      'outOfMemory',
      'segment kernel too large',
    ],
    ['too little memory for the mapping', { kernel: kernel(), memoryKiB: 2 * MIB }, 'outOfMemory', 'initial mapping'],
    [
      'too little memory for the initrd',
      { kernel: linuxLike(), memoryKiB: 8 * MIB, ramdisk: new Uint8Array(8 << 20).fill(1) },
      'outOfMemory',
      'segment ramdisk',
    ],
    ['a long command line', { kernel: kernel(), cmdline: 'x'.repeat(1024) }, 'invalidParameter', '1024 bytes'],
    [
      'a hypercall page outside',
      { kernel: kernel([xenNote(XenNote.HYPERCALL_PAGE, 1n << 40n)]) },
      'invalidKernel',
      'hypercall page',
    ],
    ['a p2m over the kernel', { kernel: badP2m }, 'internal', 'overlapping mappings'],
  ])('%s', async (_, options, kind, message) => {
    const failure = await build(options).then(
      () => undefined,
      (error: unknown) => error as Error,
    );
    expect(failure).toMatchObject({ name: 'DomBuildError', kind });
    expect(failure?.message).toContain(message);
  });

  test('a command line of 1023 bytes fits', async () => {
    const { domain } = await build({ kernel: kernel(), cmdline: 'x'.repeat(1023) });
    expect(startInfo(domain).cmdline).toHaveLength(1023);
  });

  test('more memory than the domain may have', async () => {
    const domid = await xc.domainCreate({ uuid: UUID, maxVcpus: 1 });
    await xc.domainSetmaxmem(domid, 16 * MIB);
    await xc.domainMaxVcpus(domid, 1);
    await expect(buildPvDomain(xc, { domid, kernel: kernel(), memoryKiB: 32 * MIB })).rejects.toMatchObject({
      code: 'ENOMEM',
    });
  });
});

const guests = process.env['XENHOST_GUESTS'] ?? '';
describe('real kernels', () => {
  const real = (name: string) => (existsSync(join(guests, name)) && guests !== '' ? test : test.skip);
  for (const name of ['vmlinuz-cloud', 'vmlinuz-amd64']) {
    real(name)(
      `Debian's ${name} (XENHOST_GUESTS names its folder)`,
      async () => {
        const file = readFileSync(join(guests, name));
        const { domain, built } = await build({
          kernel: file,
          memoryKiB: 256 * MIB,
          ramdisk: new Uint8Array(5000).fill(1),
        });
        const guest = parsePvGuest(await unpackKernel(file));
        expect(built.kernel).toMatchObject({ guestOs: 'linux', addressBits: 64 });
        expect(registers(domain).regs.rip).toBe(guest.virtEntry);
        expect(guest.notes.hypercallPage).toBeUndefined();
        for (const segment of guest.segments) {
          const va = segment.paddr + guest.virtOffset;
          const length = Math.min(segment.bytes.length, 64);
          expect(read(domain, va, length)).toEqual(Uint8Array.from(segment.bytes.subarray(0, length)));
        }
        expect(startInfo(domain).info.mfn_list).toBe(0x8000000000n);
      },
      60_000,
    );
  }
});
