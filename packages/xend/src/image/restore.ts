/**
 * Builds a PV guest from what save wrote (Xen 4.4 `xc_domain_restore.c`). Pages come last, so that all of them have
 * frames when the page tables that name them come. Nothing in an image is believed unchecked.
 */
import { bytesOf, evtchnPort } from '@xenhost/base';
import type { BuildPvOptions, BuiltDomain, ExtendedState } from '@xenhost/libxenctrl';
import {
  ArchSharedInfo, CpuUserRegs, GRANT_RESERVED_CONSOLE, GRANT_RESERVED_XENSTORE, GrantEntryV1, GTF, PAGE_SIZE, Pfinfo,
  SharedInfo, StartInfo, VcpuGuestContext,
} from '@xenhost/xen-abi'; // prettier-ignore
import { INVALID_MFN } from '../domain/guest-memory.ts';
import { XendError } from '../errors.ts';
import { MAX_GUEST_PFNS, MAX_VCPUS } from '../limits.ts';
import type { Hypervisor } from '../ports.ts';
import {
  BATCH_PAGES, EXTENDED_CONTEXT_BYTES, EXTENDED_INFO, EXTENDED_STATE_HEAD, SaveId, VALID_ASSISTS, type ImageSource,
} from './format.ts'; // prettier-ignore
import { hasPage, tableLevel, translateTable } from './tables.ts';

const AT = VcpuGuestContext.offsets;
const ENTRIES_PER_PAGE = PAGE_SIZE / 8;
const MAX_EXTENDED_INFO = 1 << 16;
const MAX_EXTENDED_STATE = 1 << 16;
const PFN_MASK = 0x0fff_ffff;
/** A type is the four bits above a pfn. */
const TYPE_SHIFT = 28;
const NO_FRAME = 0xff;
const MAX_GDT_FRAMES = 16;
/** Numbers of frames that are not there are read so many at a time. */
const UNMAPPED_AT_ONCE = 1 << 16;
const VCPU_INFO_BYTES = 64;
const LEGACY_VCPUS = 32;
/** `evtchn_pending_sel` in vcpu_info. */
const PENDING_SEL = 8;

interface Batch {
  readonly pfns: Uint32Array;
  readonly types: Uint32Array;
  /** Where its pages are. */
  readonly position: number;
}

/** Type of each pfn that there is: a byte a frame, as whoever sends an image says how many there are. */
class FrameTypes {
  readonly #types: Uint8Array;

  constructor(size: number) {
    this.#types = new Uint8Array(size).fill(NO_FRAME);
  }

  get(pfn: number): number | undefined {
    const type = this.#types[pfn] ?? NO_FRAME;
    return type === NO_FRAME ? undefined : (type << TYPE_SHIFT) >>> 0;
  }

  set(pfn: number, type: number): void {
    this.#types[pfn] = type >>> TYPE_SHIFT;
  }

  *[Symbol.iterator](): Generator<readonly [pfn: number, type: number]> {
    for (const [pfn, type] of this.#types.entries()) if (type !== NO_FRAME) yield [pfn, (type << TYPE_SHIFT) >>> 0];
  }
}

/** All of an image but its pages, checked. */
export interface ImageIndex {
  readonly p2mSize: number;
  readonly p2mFramePfns: readonly number[];
  readonly batches: readonly Batch[];
  readonly types: FrameTypes;
  readonly contexts: ReadonlyMap<number, Uint8Array>;
  readonly extendedContexts: ReadonlyMap<number, Uint8Array>;
  readonly extended: ReadonlyMap<number, ExtendedState>;
  readonly tsc: { readonly mode: number; readonly gtscKhz: number; readonly incarnation: number; readonly elapsedNs: bigint }; // prettier-ignore
  readonly sharedInfo: Uint8Array;
}

/** Memory, tables and vCPUs into a domain that was just created; `index` is what `source` was read for. */
export async function restoreGuestImage(
  xc: Hypervisor,
  source: ImageSource,
  index: ImageIndex,
  { domid, storePort = 0, consolePort = 0 }: Pick<BuildPvOptions, 'domid' | 'storePort' | 'consolePort'>,
): Promise<BuiltDomain> {
  const p2m = new Uint32Array(index.p2mSize).fill(INVALID_MFN);
  const pfns = framesWithPages(index.types);
  const mfns = await xc.domainPopulatePhysmap(domid, pfns);
  for (const [i, pfn] of pfns.entries()) p2m[pfn] = mfns[i] ?? INVALID_MFN;
  const mfnOf = (pfn: number): number => p2m[pfn] ?? INVALID_MFN;
  await writePages(xc, domid, source, index.batches, mfnOf);
  const { storeMfn, consoleMfn } = await writeStartInfo(xc, domid, index, mfnOf, { storePort, consolePort });
  await writeP2m(xc, domid, index, p2m);
  await writeSharedInfo(xc, domid, index);
  await seedGrants(xc, domid, storeMfn, consoleMfn);
  for (const [pfn, type] of index.types) {
    const level = tableLevel(type);
    if (level > 0 && type & Pfinfo.LPINTAB) await xc.mmuextPin(domid, level as 1 | 2 | 3 | 4, mfnOf(pfn));
  }
  await xc.domainSetTscInfo(domid, index.tsc);
  for (const [vcpu, context] of index.contexts) {
    localContext(context, vcpu, index, mfnOf);
    await xc.vcpuSetcontext(domid, vcpu, context);
    const callbacks = index.extendedContexts.get(vcpu);
    if (callbacks) await xc.vcpuSetextcontext(domid, vcpu, callbacks);
    const extended = index.extended.get(vcpu);
    if (extended) await xc.vcpuSetextstate(domid, vcpu, extended);
  }
  return {
    kernel: { guestOs: '', guestVersion: '', xenVersion: '', loader: '', features: '', guestType: '', addressBits: 64 },
    storeMfn,
    storePort: evtchnPort(storePort),
    consoleMfn,
    consolePort: evtchnPort(consolePort),
    nrPages: pfns.length,
  };
}

function framesWithPages(types: FrameTypes): Uint32Array {
  const pfns: number[] = [];
  for (const [pfn, type] of types) if (hasPage(type)) pfns.push(pfn);
  return Uint32Array.from(pfns);
}

const bad = (what: string): XendError => new XendError(`the guest state file is damaged: ${what}`);

/** Reads what follows the configuration. Throws XendError when it is damaged. */
export async function readImageIndex(source: ImageSource): Promise<ImageIndex> {
  const p2mSize = Number(await source.word());
  if (p2mSize === 0 || p2mSize > MAX_GUEST_PFNS) throw bad(`${p2mSize} frames of memory`);
  if ((await source.word()) !== EXTENDED_INFO) throw bad('no extended information');
  const { hasExtendedContexts, extendedBytes } = await readExtendedInfo(source);
  const nrP2mFrames = Math.ceil(p2mSize / ENTRIES_PER_PAGE);
  const list = await source.bytes(nrP2mFrames * 8);
  const p2mFramePfns = Array.from({ length: nrP2mFrames }, (_, i) => Number(list.readBigUInt64LE(i * 8)));
  const batches: Batch[] = [];
  const types = new FrameTypes(p2mSize);
  let vcpus: readonly number[] = [0];
  let tsc: ImageIndex['tsc'] = { mode: 0, gtscKhz: 0, incarnation: 0, elapsedNs: 0n };
  for (let id = await source.int(); id !== 0; id = await source.int()) {
    if (id > 0) {
      const batch = await readBatch(source, id, p2mSize);
      batches.push(batch);
      for (const [i, pfn] of batch.pfns.entries()) {
        // Whoever sends more than there can be would fill memory and disk.
        if (types.get(pfn) !== undefined) throw bad(`frame ${pfn} comes twice`);
        types.set(pfn, batch.types[i] ?? 0);
      }
    } else if (id === SaveId.vcpuInfo) vcpus = await readVcpus(source);
    else if (id === SaveId.tscInfo) {
      const [mode, elapsedNs] = [await source.int(), await source.word()];
      tsc = { mode, elapsedNs, gtscKhz: (await source.int()) >>> 0, incarnation: (await source.int()) >>> 0 };
    } else if (id !== SaveId.lastCheckpoint) throw bad(`a chunk of an unknown kind, ${id}`);
  }
  const nrUnmapped = await source.int();
  if (nrUnmapped < 0 || nrUnmapped > p2mSize) throw bad(`${nrUnmapped} frames that are not there`);
  for (let left = nrUnmapped; left > 0; left -= UNMAPPED_AT_ONCE) {
    await source.bytes(Math.min(left, UNMAPPED_AT_ONCE) * 8);
  }
  const contexts = new Map<number, Uint8Array>();
  const extendedContexts = new Map<number, Uint8Array>();
  const extended = new Map<number, ExtendedState>();
  for (const vcpu of vcpus) {
    contexts.set(vcpu, await source.bytes(VcpuGuestContext.size));
    if (hasExtendedContexts) extendedContexts.set(vcpu, await source.bytes(EXTENDED_CONTEXT_BYTES));
    if (extendedBytes === 0) continue;
    const [featureMask, size] = [await source.word(), await source.word()];
    if (size > BigInt(extendedBytes - EXTENDED_STATE_HEAD)) throw bad(`XSAVE state of vCPU ${vcpu}`);
    extended.set(vcpu, { featureMask, data: await source.bytes(Number(size)) });
  }
  const sharedInfo = await source.bytes(PAGE_SIZE);
  return { p2mSize, p2mFramePfns, batches, types, contexts, extendedContexts, extended, tsc, sharedInfo };
}

interface ExtendedInfo {
  readonly hasExtendedContexts: boolean;
  /** Most bytes of a vCPU's XSAVE state with what stands before it; 0 for none. */
  readonly extendedBytes: number;
}

/** Blocks of four letters and a length; the size of a context tells 64-bit guests. */
async function readExtendedInfo(source: ImageSource): Promise<ExtendedInfo> {
  const total = await source.int();
  if (total < 8 || total > MAX_EXTENDED_INFO) throw bad('extended information without end');
  const block = await source.bytes(total);
  let extendedBytes = 0;
  let hasExtendedContexts = false;
  for (let at = 0; at + 8 <= total;) {
    const name = block.toString('latin1', at, at + 4);
    const size = block.readUInt32LE(at + 4);
    if (name === 'vcpu' && size !== VcpuGuestContext.size) throw new XendError('only 64-bit guests can be restored');
    if (name === 'xcnt' && size === 4 && at + 12 <= total) extendedBytes = block.readUInt32LE(at + 8);
    else if (name === 'extv') hasExtendedContexts = true;
    else if (name !== 'vcpu') throw bad(`a block of an unknown kind, ${JSON.stringify(name)}`);
    at += 8 + size;
  }
  if (extendedBytes !== 0 && (extendedBytes < EXTENDED_STATE_HEAD || extendedBytes > MAX_EXTENDED_STATE)) {
    throw bad(`XSAVE state of ${extendedBytes} bytes`);
  }
  return { hasExtendedContexts, extendedBytes };
}

async function readBatch(source: ImageSource, count: number, p2mSize: number): Promise<Batch> {
  if (count > BATCH_PAGES) throw bad(`a batch of ${count} pages`);
  const entries = await source.bytes(count * 8);
  const pfns = new Uint32Array(count);
  const types = new Uint32Array(count);
  for (let i = 0; i < count; i += 1) {
    const entry = entries.readUInt32LE(i * 8);
    pfns[i] = entry & PFN_MASK;
    types[i] = entry & ~PFN_MASK;
  }
  if (pfns.some((pfn) => pfn >= p2mSize)) throw bad('a page beyond its memory');
  const position = await source.pagesLater(types.filter(hasPage).length * PAGE_SIZE);
  return { pfns, types, position };
}

async function readVcpus(source: ImageSource): Promise<number[]> {
  const maxId = await source.int();
  if (maxId < 0 || maxId >= MAX_VCPUS) throw bad(`vCPU ${maxId}`);
  const map = await source.bytes((Math.floor(maxId / 64) + 1) * 8);
  return Array.from({ length: maxId + 1 }, (_, vcpu) => vcpu).filter(
    (vcpu) => ((map[vcpu >> 3] ?? 0) >> (vcpu & 7)) & 1,
  );
}

async function writePages(
  xc: Hypervisor,
  domid: number,
  source: ImageSource,
  batches: readonly Batch[],
  mfnOf: (pfn: number) => number,
): Promise<void> {
  for (const { pfns, types, position } of batches) {
    const present = Array.from(pfns).flatMap((pfn, i) =>
      hasPage(types[i] ?? 0) ? [{ pfn, level: tableLevel(types[i] ?? 0) }] : [],
    );
    if (present.length === 0) continue;
    const pages = await source.pagesAt(position, present.length * PAGE_SIZE);
    for (const [n, { level }] of present.entries()) {
      if (level > 0) translateTable(pages.subarray(n * PAGE_SIZE, (n + 1) * PAGE_SIZE), level, mfnOf);
    }
    await xc.writeFrames(domid, Uint32Array.from(present, ({ pfn }) => mfnOf(pfn)), pages); // prettier-ignore
  }
}

/** A frame that the guest named and that is a page without a role in page tables. Throws XendError. */
function plainFrame(pfn: number, index: ImageIndex, mfnOf: (pfn: number) => number, what: string): number {
  const type = index.types.get(pfn);
  if (type === undefined || (type & Pfinfo.LTAB_MASK) >>> 0 !== Pfinfo.NOTAB) throw bad(`${what} in frame ${pfn}`);
  return mfnOf(pfn);
}

async function writeStartInfo(
  xc: Hypervisor,
  domid: number,
  index: ImageIndex,
  mfnOf: (pfn: number) => number,
  ports: { readonly storePort: number; readonly consolePort: number },
): Promise<{ storeMfn: number; consoleMfn: number }> {
  const context = index.contexts.get(0);
  if (!context) throw bad('no vCPU 0');
  const pfn = Number(bytesOf(context).dv.getBigUint64(AT.user_regs + CpuUserRegs.offsets.rdx, true));
  const mfn = plainFrame(pfn, index, mfnOf, 'the suspend record');
  const page = await xc.readFrames(domid, Uint32Array.of(mfn));
  const info = StartInfo.view(bytesOf(page), 0);
  const storeMfn = plainFrame(Number(info.store_mfn), index, mfnOf, "xenstore's ring");
  const consoleMfn = plainFrame(Number(info.console_mfn), index, mfnOf, "the console's ring");
  const domain = await xc.domainGetinfo(domid);
  if (!domain) throw new XendError('the domain is gone');
  Object.assign(info, {
    nr_pages: BigInt(index.p2mSize),
    shared_info: BigInt(domain.sharedInfoFrame) * BigInt(PAGE_SIZE),
    flags: 0,
    store_mfn: BigInt(storeMfn),
    store_evtchn: ports.storePort,
    console_mfn: BigInt(consoleMfn),
    console_evtchn: ports.consolePort,
  });
  await xc.writeFrames(domid, Uint32Array.of(mfn), page);
  return { storeMfn, consoleMfn };
}

/** New frames into the guest's own list; what was no frame stays as the guest wrote it. */
async function writeP2m(xc: Hypervisor, domid: number, index: ImageIndex, p2m: Uint32Array): Promise<void> {
  for (const [n, pfn] of index.p2mFramePfns.entries()) {
    const first = n * ENTRIES_PER_PAGE;
    const part = p2m.subarray(first, first + ENTRIES_PER_PAGE);
    if (part.every((mfn) => mfn === INVALID_MFN)) continue;
    const mfn = plainFrame(pfn, index, (known) => p2m[known] ?? INVALID_MFN, 'its list of memory');
    const page = await xc.readFrames(domid, Uint32Array.of(mfn));
    const { dv } = bytesOf(page);
    for (const [i, frame] of part.entries()) if (frame !== INVALID_MFN) dv.setBigUint64(i * 8, BigInt(frame), true);
    await xc.writeFrames(domid, Uint32Array.of(mfn), page);
  }
}

/** vcpu_info and arch of the saved one; no event is pending, all are masked; time is the hypervisor's. */
async function writeSharedInfo(xc: Hypervisor, domid: number, index: ImageIndex): Promise<void> {
  const domain = await xc.domainGetinfo(domid);
  if (!domain) throw new XendError('the domain is gone');
  const frame = Uint32Array.of(domain.sharedInfoFrame);
  const page = await xc.readFrames(domid, frame);
  const { offsets } = SharedInfo;
  page.set(index.sharedInfo.subarray(offsets.vcpu_info, offsets.evtchn_pending), offsets.vcpu_info);
  page.set(index.sharedInfo.subarray(offsets.arch, offsets.arch + ArchSharedInfo.size), offsets.arch);
  for (let vcpu = 0; vcpu < LEGACY_VCPUS; vcpu += 1) {
    bytesOf(page).dv.setBigUint64(vcpu * VCPU_INFO_BYTES + PENDING_SEL, 0n, true);
  }
  page.fill(0, offsets.evtchn_pending, offsets.evtchn_mask);
  page.fill(0xff, offsets.evtchn_mask, offsets.wc_version);
  await xc.writeFrames(domid, frame, page);
}

/** The grants that exist before the guest runs: its console and xenstore rings, for their daemons. */
async function seedGrants(xc: Hypervisor, domid: number, storeMfn: number, consoleMfn: number): Promise<void> {
  const [table] = await xc.gnttabSetupTable(domid, 1);
  if (table === undefined) throw new XendError('the domain has no grant table');
  const seed = async (gref: number, frame: number): Promise<void> => {
    const entry = GrantEntryV1.create({ flags: GTF.permit_access, domid: 0, frame });
    await xc.writeFrame(domid, table, gref * GrantEntryV1.size, entry.bytes);
  };
  await seed(GRANT_RESERVED_CONSOLE, consoleMfn);
  await seed(GRANT_RESERVED_XENSTORE, storeMfn);
}

/** Frames of this machine into a vCPU's registers. */
function localContext(context: Uint8Array, vcpu: number, index: ImageIndex, mfnOf: (pfn: number) => number): void {
  const { dv } = bytesOf(context);
  const view = VcpuGuestContext.view(bytesOf(context), 0);
  const set = (at: number, value: number, shift = 0n): void => {
    dv.setBigUint64(at, BigInt(value) << shift, true);
  };
  view.vm_assist &= VALID_ASSISTS;
  if (vcpu === 0) {
    const at = AT.user_regs + CpuUserRegs.offsets.rdx;
    set(at, plainFrame(Number(dv.getBigUint64(at, true)), index, mfnOf, 'the suspend record'));
  }
  const nrGdtFrames = Math.min(MAX_GDT_FRAMES, Math.ceil(Number(view.gdt_ents) / 512));
  for (let n = 0; n < nrGdtFrames; n += 1) {
    const at = AT.gdt_frames + n * 8;
    set(at, plainFrame(Number(dv.getBigUint64(at, true)), index, mfnOf, 'a GDT'));
  }
  const baseTable = (at: number, what: string): void => {
    const pfn = Number(dv.getBigUint64(at, true) >> 12n);
    if (tableLevel(index.types.get(pfn) ?? 0) !== 4) throw bad(`${what} in frame ${pfn}`);
    set(at, mfnOf(pfn), 12n);
  };
  baseTable(AT.ctrlreg + 3 * 8, 'a page table');
  if (dv.getBigUint64(AT.ctrlreg + 8, true) & 1n) baseTable(AT.ctrlreg + 8, 'a user page table');
}
