/**
 * A PV guest's memory as it names it itself: its list of frames (p2m), found through shared_info as libxc does
 * (`xc_core_x86.c`). The guest wrote these numbers: each is checked before it is followed.
 */
import { bytesOf } from '@xenhost/base';
import type { DomainInfo } from '@xenhost/libxenctrl';
import { ArchSharedInfo, PAGE_SIZE, SharedInfo } from '@xenhost/xen-abi';
import { XendError } from '../errors.ts';
import { MAX_GUEST_PFNS } from '../limits.ts';
import type { Hypervisor } from '../ports.ts';

/** No frame behind a pfn. */
export const INVALID_MFN = 0xffff_ffff;
/** Where `arch` is in a 32-bit guest's shared_info: 32 vcpu_info of 64 bytes, two sets of 32 words, the wall clock. */
const SHARED_INFO_ARCH_32 = 32 * 64 + 2 * 32 * 4 + 12;

export interface GuestMemory {
  readonly bits: 32 | 64;
  readonly sharedInfo: Uint8Array;
  /** Machine frame of each pfn, or INVALID_MFN. */
  readonly p2m: Uint32Array;
  /** Frames that hold the p2m itself, in order. */
  readonly p2mFrames: Uint32Array;
  /** Frames that list those, in order. */
  readonly p2mListFrames: Uint32Array;
}

/** Throws XendError when the guest has not said where its p2m is, or said nonsense. */
export async function readGuestMemory(xc: Hypervisor, info: DomainInfo): Promise<GuestMemory> {
  const { domid } = info;
  const bits = (await xc.domainGetAddressSize(domid)) === 32 ? 32 : 64;
  const sharedInfo = await xc.readFrames(domid, Uint32Array.of(info.sharedInfoFrame));
  const { dv } = bytesOf(sharedInfo);
  const arch64 = ArchSharedInfo.view(bytesOf(sharedInfo), SharedInfo.offsets.arch);
  const [maxPfn, listList] =
    bits === 64
      ? [Number(arch64.max_pfn), Number(arch64.pfn_to_mfn_frame_list_list)]
      : [dv.getUint32(SHARED_INFO_ARCH_32, true), dv.getUint32(SHARED_INFO_ARCH_32 + 4, true)];
  if (maxPfn === 0 || listList === 0) throw new XendError('the guest has not told where its memory is');
  if (maxPfn > MAX_GUEST_PFNS) throw new XendError(`the guest claims ${maxPfn} frames of memory`);
  const entriesPerPage = PAGE_SIZE / (bits / 8);
  const nrFrames = Math.ceil(maxPfn / entriesPerPage);
  const nrLists = Math.ceil(nrFrames / entriesPerPage);
  if (nrLists > entriesPerPage) throw new XendError(`the guest claims ${maxPfn} frames of memory`);
  const p2mListFrames = words(await read(xc, domid, Uint32Array.of(listList)), bits, nrLists);
  const p2mFrames = words(await read(xc, domid, p2mListFrames), bits, nrFrames);
  const p2m = words(await read(xc, domid, p2mFrames), bits, maxPfn);
  return { bits, sharedInfo, p2m, p2mFrames, p2mListFrames };
}

async function read(xc: Hypervisor, domid: number, frames: Uint32Array): Promise<Uint8Array> {
  if (frames.includes(INVALID_MFN)) throw new XendError("the guest's list of its memory has holes");
  return xc.readFrames(domid, frames);
}

/** Frame numbers: whatever does not fit 32 bits is no frame; 64-bit guests mark foreign frames in the top bits. */
function words(bytes: Uint8Array, bits: 32 | 64, count: number): Uint32Array {
  const { dv } = bytesOf(bytes);
  const out = new Uint32Array(count);
  for (let i = 0; i < count; i += 1) {
    const low = dv.getUint32(i * (bits / 8), true);
    const high = bits === 64 ? dv.getUint32(i * 8 + 4, true) : 0;
    out[i] = high === 0 ? low : INVALID_MFN;
  }
  return out;
}
