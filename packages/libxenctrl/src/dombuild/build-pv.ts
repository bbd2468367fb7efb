/**
 * Builds a PV guest into a created domain: memory, image, page tables, start_info, first vCPU (`xg_dom_core.c`,
 * `xg_dom_boot.c`). Leaves it paused. On failure the domain is half built: its creator destroys it.
 */
import { evtchnPort } from '@xenhost/base';
import { ElfError, parsePvGuest } from '@xenhost/elf';
import type { PvGuestImage } from '@xenhost/elf';
import {
  GRANT_RESERVED_CONSOLE, GRANT_RESERVED_XENSTORE, GrantEntryV1, GTF, MAX_GUEST_CMDLINE, PAGE_SIZE, Sif,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { Xenctrl } from '../api.ts';
import { DomBuildError } from './errors.ts';
import { planPvLayout } from './layout.ts';
import type { PvLayout } from './layout.ts';
import { fillTables } from './page-tables.ts';
import { PageWriter } from './page-writer.ts';
import type { BuildPvOptions, BuiltDomain, KernelDescription } from './types.ts';
import { unpackKernel } from './unpack/index.ts';
import { firstVcpuContext, sharedInfoPage, startInfoPage } from './vcpu-context.ts';

const KIB_PER_PAGE = PAGE_SIZE / 1024;
const GUEST_TYPE = { 64: 'xen-3.0-x86_64', 32: 'xen-3.0-x86_32p' } as const;
/** DR of the L3 of a 32-bit guest without extended-cr3: below 4 GiB. */
const FRAMES_BELOW_4G = 0x10_0000;

/** @throws DomBuildError for a kernel or configuration that cannot be, XenError when the hypervisor refuses */
export async function buildPvDomain(xc: Xenctrl, options: BuildPvOptions): Promise<BuiltDomain> {
  const { domid } = options;
  const guest = parseGuest(await unpackKernel(options.kernel));
  const cmdline = new TextEncoder().encode(options.cmdline ?? '');
  if (cmdline.length >= MAX_GUEST_CMDLINE) {
    throw new DomBuildError(
      'invalidParameter',
      `kernel command line of ${cmdline.length} bytes, limit ${MAX_GUEST_CMDLINE - 1}`,
    );
  }
  const totalPages = Math.floor(options.memoryKiB / KIB_PER_PAGE);
  const layout = planPvLayout(guest, totalPages, options.ramdisk?.length ?? 0);

  await xc.domainSetAddressSize(domid, guest.addressBits);
  const p2m = await xc.domainPopulatePhysmap(
    domid,
    Uint32Array.from({ length: totalPages }, (_, pfn) => pfn),
  );
  const storePort = options.storePort ?? (await xc.evtchnAllocUnbound(domid, options.storeDomid ?? 0));
  const consolePort = options.consolePort ?? (await xc.evtchnAllocUnbound(domid, options.consoleDomid ?? 0));
  const sharedInfoFrame = await findSharedInfo(xc, domid);

  const writer = new PageWriter(xc, domid, p2m);
  await writeImage(writer, guest);
  if (layout.initrd && options.ramdisk) await writer.write(layout.initrd.pfn * PAGE_SIZE, options.ramdisk);
  const { firstP2mPfn, nrP2mFrames } = layout.p2mOutside
    ? { firstP2mPfn: layout.p2m.pfn, nrP2mFrames: layout.p2m.pages }
    : { firstP2mPfn: 0, nrP2mFrames: 0 };
  await writer.write(layout.p2m.pfn * PAGE_SIZE, p2mList(p2m, guest.addressBits));
  await writer.write(
    layout.startInfo.pfn * PAGE_SIZE,
    startInfoPage(guest.addressBits, {
      magic: GUEST_TYPE[guest.addressBits],
      nrPages: totalPages,
      sharedInfo: BigInt(sharedInfoFrame) * BigInt(PAGE_SIZE),
      flags: (options.flags ?? 0) | (layout.initrdUnmapped ? Sif.MOD_START_PFN : 0),
      storeMfn: p2m[layout.xenstore.pfn] ?? 0,
      storePort,
      consoleMfn: p2m[layout.console.pfn] ?? 0,
      consolePort,
      ptBase: layout.pageTables.va,
      nrPtFrames: layout.pageTables.pages,
      mfnList: layout.p2m.va,
      ...initrdPlace(layout, options.ramdisk?.length ?? 0),
      cmdline,
      firstP2mPfn,
      nrP2mFrames,
    }),
  );
  for (const [pfn, table] of fillTables(layout.tables, p2m)) await writer.write(pfn * PAGE_SIZE, table);
  writer.writeFrame(sharedInfoFrame, 0, sharedInfoPage());
  await seedGrants(xc, options, writer, layout, p2m);
  await writer.flush();

  const rootMfn = p2m[layout.tables.root] ?? 0;
  if (guest.addressBits === 32 && guest.notes.paeMode === 'yes' && rootMfn >= FRAMES_BELOW_4G) {
    throw new DomBuildError('internal', 'L3 above 4 GiB and extended-cr3 not supported by guest');
  }
  await initHypercallPage(xc, domid, guest, p2m);
  await xc.mmuextPin(domid, guest.addressBits === 64 ? 4 : 3, rootMfn);
  const context = firstVcpuContext(guest.addressBits, {
    entry: guest.virtEntry,
    stackTop: layout.bootStack.va + BigInt(PAGE_SIZE),
    startInfo: layout.startInfo.va,
    rootMfn,
  });
  await xc.vcpuSetcontext(domid, 0, context);
  return {
    kernel: describe(guest),
    storeMfn: p2m[layout.xenstore.pfn] ?? 0,
    storePort: evtchnPort(storePort),
    consoleMfn: p2m[layout.console.pfn] ?? 0,
    consolePort: evtchnPort(consolePort),
    nrPages: totalPages,
  };
}

/** What a kernel file says of itself, without a domain. @throws DomBuildError */
export async function describeKernel(file: Uint8Array): Promise<KernelDescription> {
  return describe(parseGuest(await unpackKernel(file)));
}

function parseGuest(kernel: Uint8Array): PvGuestImage {
  try {
    return parsePvGuest(kernel);
  } catch (error) {
    if (error instanceof ElfError) throw new DomBuildError('invalidKernel', error.message, { cause: error });
    throw error;
  }
}

function describe({ notes, addressBits }: PvGuestImage): KernelDescription {
  const { guestOs, guestVersion, xenVersion, loader, features } = notes;
  return { guestOs, guestVersion, xenVersion, loader, features, guestType: GUEST_TYPE[addressBits], addressBits };
}

async function findSharedInfo(xc: Xenctrl, domid: number): Promise<number> {
  const info = await xc.domainGetinfo(domid);
  if (!info) throw new DomBuildError('internal', `domain ${domid} is gone`);
  return info.sharedInfoFrame;
}

async function writeImage(writer: PageWriter, guest: PvGuestImage): Promise<void> {
  const base = guest.virtBase - guest.virtOffset;
  for (const { paddr, bytes } of guest.segments) await writer.write(Number(BigInt.asUintN(64, paddr - base)), bytes);
}

function p2mList(p2m: Uint32Array, bits: 32 | 64): Uint8Array {
  if (bits === 32) return new Uint8Array(p2m.buffer, p2m.byteOffset, p2m.byteLength);
  const words = new Uint32Array(p2m.length * 2);
  for (let i = 0; i < p2m.length; i++) words[i * 2] = p2m[i] ?? 0;
  return new Uint8Array(words.buffer);
}

/** A mapped initrd by address and exact length, an unmapped one by pfn and whole pages, as libxenguest gives them. */
function initrdPlace({ initrd, initrdUnmapped }: PvLayout, length: number): { modStart: bigint; modLen: number } {
  if (!initrd) return { modStart: 0n, modLen: 0 };
  if (initrdUnmapped) return { modStart: BigInt(initrd.pfn), modLen: initrd.pages * PAGE_SIZE };
  return { modStart: initrd.va, modLen: length };
}

async function initHypercallPage(xc: Xenctrl, domid: number, guest: PvGuestImage, p2m: Uint32Array): Promise<void> {
  const va = guest.notes.hypercallPage;
  if (va === undefined) return;
  const pfn = va < guest.virtBase ? -1 : Number((va - guest.virtBase) / BigInt(PAGE_SIZE));
  const mfn = p2m[pfn];
  if (mfn === undefined)
    throw new DomBuildError('invalidKernel', `hypercall page at 0x${va.toString(16)} is outside of memory`);
  await xc.domainHypercallInit(domid, mfn);
}

/** Entries of the grant table that exist before the guest runs: its console and xenstore rings, for their daemons. */
async function seedGrants(
  xc: Xenctrl,
  { domid, consoleDomid = 0, storeDomid = 0 }: BuildPvOptions,
  writer: PageWriter,
  layout: PvLayout,
  p2m: Uint32Array,
): Promise<void> {
  const [table] = await xc.gnttabSetupTable(domid, 1);
  if (table === undefined) throw new DomBuildError('internal', `domain ${domid} has no grant table`);
  const seed = (gref: number, backend: number, pfn: number): void => {
    const entry = GrantEntryV1.create({ flags: GTF.permit_access, domid: backend, frame: p2m[pfn] ?? 0 });
    writer.writeFrame(table, gref * GrantEntryV1.size, entry.bytes);
  };
  seed(GRANT_RESERVED_CONSOLE, consoleDomid, layout.console.pfn);
  seed(GRANT_RESERVED_XENSTORE, storeDomid, layout.xenstore.pfn);
}
