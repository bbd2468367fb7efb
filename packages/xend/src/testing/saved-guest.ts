/** A guest in the memory of the fake hypervisor that suspends itself when it is asked, for tests of its image. */
import { bytesOf } from '@xenhost/base';
import { ArchSharedInfo, CpuUserRegs, Pfinfo, SharedInfo, StartInfo, VcpuGuestContext } from '@xenhost/xen-abi';
import type { XendFixture } from './xend-fixture.ts';

const PAGE = 4096;
const NR_PAGES = 9;
/** Frames of the guest: what is where. Page 8 is not there. */
export const PFN = { text: 0, store: 1, startInfo: 2, l4: 3, gdt: 4, p2m: 5, list: 6, listList: 7 } as const;
const mfnOf = (pfn: number): number => 0x1000 - pfn;
const AT = VcpuGuestContext.offsets;
/** As it is after the call that suspended it. */
const context = new Uint8Array(VcpuGuestContext.size);

/** The guest needs a moment, which the fixture's clock does not give it. */
export function letTimePass(host: XendFixture): void {
  const ports = host.xend.manager.ports as { sleep: (ms: number) => Promise<void> };
  ports.sleep = () => new Promise((resolve) => setTimeout(resolve, 1));
}

/** Lays out a 64-bit guest's memory and its vCPU; vCPUs that are set are added to `contexts`. */
export function layOutGuest(host: XendFixture, domid: number, contexts: Uint8Array[] = []): void {
  letTimePass(host);
  const domain = host.xc.domains.get(domid);
  if (!domain) throw new Error('no domain');
  const page = (frame: number, words: Readonly<Record<number, bigint>>): void => {
    const bytes = new Uint8Array(PAGE);
    for (const [slot, word] of Object.entries(words)) bytesOf(bytes).dv.setBigUint64(Number(slot) * 8, word, true);
    domain.frames.set(frame, bytes);
  };
  for (let pfn = 0; pfn < NR_PAGES - 1; pfn += 1) page(mfnOf(pfn), { 0: BigInt(pfn) });
  page(mfnOf(PFN.l4), { 0: BigInt(mfnOf(PFN.text)) << 12n | 0x67n, 1: 0xdead_0000_0067n, 256: 0x1067n, 511: BigInt(mfnOf(PFN.gdt)) << 12n | 0x25n }); // prettier-ignore
  page(mfnOf(PFN.p2m), Object.fromEntries(Array.from({ length: NR_PAGES }, (_, pfn) => [pfn, pfn === 8 ? 2n ** 64n - 1n : BigInt(mfnOf(pfn))]))); // prettier-ignore
  page(mfnOf(PFN.list), { 0: BigInt(mfnOf(PFN.p2m)) });
  page(mfnOf(PFN.listList), { 0: BigInt(mfnOf(PFN.list)) });
  const info = StartInfo.create({ store_mfn: BigInt(PFN.store), console_mfn: BigInt(PFN.store), flags: 3 });
  domain.frames.get(mfnOf(PFN.startInfo))?.set(info.bytes);
  domain.sharedInfoFrame = 0x2000;
  page(0x2000, {});
  const shared = bytesOf(domain.frames.get(0x2000) ?? new Uint8Array(0));
  const arch = { max_pfn: BigInt(NR_PAGES), pfn_to_mfn_frame_list_list: BigInt(mfnOf(PFN.listList)) };
  Object.assign(ArchSharedInfo.view(shared, SharedInfo.offsets.arch), arch);
  shared.u8[0] = 1;
  host.xc.frameTypes.set(mfnOf(PFN.l4), Pfinfo.L4TAB | Pfinfo.LPINTAB);
  const { dv } = bytesOf(context);
  dv.setBigUint64(AT.user_regs + CpuUserRegs.offsets.rdx, BigInt(mfnOf(PFN.startInfo)), true);
  dv.setBigUint64(AT.gdt_frames, BigInt(mfnOf(PFN.gdt)), true);
  dv.setBigUint64(AT.gdt_ents, 16n, true);
  dv.setBigUint64(AT.ctrlreg + 24, BigInt(mfnOf(PFN.l4)) << 12n, true);
  host.xc.vcpuGetcontext = () => Promise.resolve(Uint8Array.from(context));
  host.xc.vcpuSetcontext = (_, __, given?: Uint8Array) => {
    contexts.push(Uint8Array.from(given ?? []));
    return Promise.resolve();
  };
}

/** Plays the guest's side: it obeys control/shutdown. */
export async function obeySuspend(host: XendFixture, domid: number): Promise<void> {
  const path = `/local/domain/${domid}/control/shutdown`;
  for (let i = 0; i < 500 && (await host.store.tryRead(path)) !== 'suspend'; i += 1);
  host.xc.shutDown(domid, 2);
  // xend hears of it otherwise, before save looks.
  await host.xend.manager.refresh();
}
