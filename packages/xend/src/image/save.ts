/** Writes a suspended PV guest (Xen 4.4 `xc_domain_save.c`, without its live rounds: the guest stands still). */
import { bytesOf } from '@xenhost/base';
import type { ExtendedState } from '@xenhost/libxenctrl';
import { ArchSharedInfo, CpuUserRegs, PAGE_SIZE, SharedInfo, VcpuGuestContext } from '@xenhost/xen-abi';
import { INVALID_MFN, readGuestMemory, type GuestMemory } from '../domain/guest-memory.ts';
import { XendError } from '../errors.ts';
import type { Hypervisor } from '../ports.ts';
import {
  BATCH_PAGES, EXTENDED_CONTEXT_BYTES, EXTENDED_INFO, EXTENDED_STATE_HEAD, SaveId, type ImageSink,
} from './format.ts'; // prettier-ignore
import { hasPage, tableLevel, translateTable } from './tables.ts';

const AT = VcpuGuestContext.offsets;

/** Throws XendError when the guest's own tables are nonsense, XenError when the hypervisor refuses. */
export async function writeGuestImage(xc: Hypervisor, domid: number, sink: ImageSink): Promise<void> {
  const info = await xc.domainGetinfo(domid);
  if (!info) throw new XendError('the domain is gone');
  const memory = await readGuestMemory(xc, info);
  if (memory.bits !== 64) throw new XendError('only 64-bit guests can be saved');
  const pfnOf = reverse(memory.p2m);
  const contexts = new Map<number, SavedVcpu>();
  for (let vcpu = 0; vcpu <= info.maxVcpuId; vcpu += 1) {
    if (!(await xc.vcpuGetinfo(domid, vcpu)).online) continue;
    const context = await xc.vcpuGetcontext(domid, vcpu);
    const extendedContext = await xc.vcpuGetextcontext(domid, vcpu);
    const extended = await xc.vcpuGetextstate(domid, vcpu);
    canonicalContext(context, vcpu, pfnOf);
    contexts.set(vcpu, { context, extendedContext, extended });
  }
  const first = contexts.get(0);
  if (!first) throw new XendError('its first vCPU is offline');
  await writeHead(sink, memory, pfnOf, contexts);
  const unmapped = await writePages(xc, domid, sink, memory, pfnOf);
  await writeTail(xc, domid, sink, memory, { maxVcpuId: info.maxVcpuId, contexts, unmapped });
}

interface SavedVcpu {
  readonly context: Uint8Array;
  /** Callbacks of 32-bit system calls. */
  readonly extendedContext: Uint8Array;
  /** XSAVE state; undefined where the hypervisor has none. */
  readonly extended: ExtendedState | undefined;
}

/** Frame of the machine to frame of the guest. */
function reverse(p2m: Uint32Array): (mfn: number) => number {
  const pfns = new Map<number, number>();
  for (const [pfn, mfn] of p2m.entries()) if (mfn !== INVALID_MFN) pfns.set(mfn, pfn);
  return (mfn) => pfns.get(mfn) ?? INVALID_MFN;
}

/** start_info (in RDX of the call that suspended), descriptor tables and page tables by pfns. */
function canonicalContext(context: Uint8Array, vcpu: number, pfnOf: (mfn: number) => number): void {
  const view = VcpuGuestContext.view(bytesOf(context), 0);
  const { dv } = bytesOf(context);
  const translate = (at: number, shift: bigint, what: string): void => {
    const pfn = pfnOf(Number(dv.getBigUint64(at, true) >> shift));
    if (pfn === INVALID_MFN) throw new XendError(`vCPU ${vcpu}: its ${what} is not the guest's memory`);
    dv.setBigUint64(at, BigInt(pfn) << shift, true);
  };
  if (vcpu === 0) translate(AT.user_regs + CpuUserRegs.offsets.rdx, 0n, 'suspend record');
  const nrGdtFrames = Math.ceil(Number(view.gdt_ents) / 512);
  for (let n = 0; n < Math.min(nrGdtFrames, 16); n += 1) translate(AT.gdt_frames + n * 8, 0n, 'GDT');
  translate(AT.ctrlreg + 3 * 8, 12n, 'page table');
  if (dv.getBigUint64(AT.ctrlreg + 8, true) !== 0n) {
    translate(AT.ctrlreg + 8, 12n, 'user page table');
    // Bit 0 says that there is one: pfn 0 might be it.
    dv.setBigUint64(AT.ctrlreg + 8, dv.getBigUint64(AT.ctrlreg + 8, true) | 1n, true);
  }
}

const bytesOfInt = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

async function writeHead(
  sink: ImageSink,
  memory: GuestMemory,
  pfnOf: (mfn: number) => number,
  contexts: ReadonlyMap<number, SavedVcpu>,
): Promise<void> {
  const context = contexts.get(0)?.context ?? new Uint8Array(0);
  const extended = [...contexts.values()].flatMap((vcpu) => (vcpu.extended ? [vcpu.extended.data.length] : []));
  const blocks: Uint8Array[] = [];
  const block = (name: string, data: Uint8Array): void => {
    blocks.push(Buffer.from(name, 'latin1'), bytesOfInt(data.length), data);
  };
  block('vcpu', context);
  block('extv', new Uint8Array(0));
  if (extended.length > 0) block('xcnt', bytesOfInt(Math.max(...extended) + EXTENDED_STATE_HEAD));
  await sink.words(BigInt(memory.p2m.length), EXTENDED_INFO);
  await sink.int(blocks.reduce((total, { length }) => total + length, 0));
  for (const bytes of blocks) await sink.bytes(bytes);
  await sink.words(
    ...Array.from(memory.p2mFrames, (mfn) => {
      const pfn = pfnOf(mfn);
      if (pfn === INVALID_MFN) throw new XendError("the guest's list of its memory is not in its memory");
      return BigInt(pfn);
    }),
  );
}

/** Resolves to the pfns without a frame. */
async function writePages(
  xc: Hypervisor,
  domid: number,
  sink: ImageSink,
  { p2m }: GuestMemory,
  pfnOf: (mfn: number) => number,
): Promise<number[]> {
  const unmapped: number[] = [];
  let batch: number[] = [];
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    await writeBatch(xc, domid, sink, batch, p2m, pfnOf);
    batch = [];
  };
  for (const [pfn, mfn] of p2m.entries()) {
    if (mfn === INVALID_MFN) unmapped.push(pfn);
    else if (batch.push(pfn) === BATCH_PAGES) await flush();
  }
  await flush();
  return unmapped;
}

async function writeBatch(
  xc: Hypervisor,
  domid: number,
  sink: ImageSink,
  pfns: readonly number[],
  p2m: Uint32Array,
  pfnOf: (mfn: number) => number,
): Promise<void> {
  const mfns = Uint32Array.from(pfns, (pfn) => p2m[pfn] ?? INVALID_MFN);
  const types = await xc.getPageframeInfo(domid, mfns);
  const typeOf = (index: number): number => ((types[index] ?? 0) & 0xf000_0000) >>> 0;
  await sink.int(pfns.length);
  await sink.words(...pfns.map((pfn, index) => BigInt(typeOf(index)) | BigInt(pfn)));
  const present = pfns.flatMap((_, index) => (hasPage(typeOf(index)) ? [index] : []));
  if (present.length === 0) return;
  const pages = Buffer.from(
    await xc.readFrames(
      domid,
      Uint32Array.from(present, (index) => mfns[index] ?? 0),
    ),
  );
  for (const [n, index] of present.entries()) {
    const level = tableLevel(typeOf(index));
    if (level > 0) translateTable(pages.subarray(n * PAGE_SIZE, (n + 1) * PAGE_SIZE), level, pfnOf);
  }
  await sink.bytes(pages);
}

interface Tail {
  readonly maxVcpuId: number;
  readonly contexts: ReadonlyMap<number, SavedVcpu>;
  readonly unmapped: readonly number[];
}

async function writeTail(
  xc: Hypervisor,
  domid: number,
  sink: ImageSink,
  memory: GuestMemory,
  { maxVcpuId, contexts, unmapped }: Tail,
): Promise<void> {
  await sink.int(SaveId.vcpuInfo);
  await sink.int(maxVcpuId);
  const map = new BigUint64Array(Math.floor(maxVcpuId / 64) + 1);
  for (const vcpu of contexts.keys()) map[vcpu >> 6] = (map[vcpu >> 6] ?? 0n) | (1n << BigInt(vcpu & 63));
  await sink.words(...map);
  const tsc = await xc.domainGetTscInfo(domid);
  await sink.int(SaveId.tscInfo);
  await sink.int(tsc.mode);
  await sink.words(tsc.elapsedNs);
  await sink.int(tsc.gtscKhz);
  await sink.int(tsc.incarnation);
  await sink.int(SaveId.lastCheckpoint);
  await sink.int(0);
  await sink.int(unmapped.length);
  await sink.words(...unmapped.map(BigInt));
  for (const { context, extendedContext, extended } of contexts.values()) {
    await sink.bytes(context);
    const union = new Uint8Array(EXTENDED_CONTEXT_BYTES);
    union.set(extendedContext.subarray(0, EXTENDED_CONTEXT_BYTES));
    await sink.bytes(union);
    if (!extended) continue;
    await sink.words(extended.featureMask, BigInt(extended.data.length));
    await sink.bytes(extended.data);
  }
  const shared = Uint8Array.from(memory.sharedInfo);
  // The guest's list of lists is another one when it is back: it says so itself.
  ArchSharedInfo.view(bytesOf(shared), SharedInfo.offsets.arch).pfn_to_mfn_frame_list_list = 0n;
  await sink.bytes(shared);
}
