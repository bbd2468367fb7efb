/**
 * Trace buffers as Domain-0's tools control them (XEN_SYSCTL_tbuf_op, `xen/common/trace.c`): made once per boot, in frames
 * of Xen's own that tools may map as DOMID_XEN; the description of them (t_info) is read-only. Runs on the control plane,
 * with the hypervisor lock held.
 */
import { Errno } from '@xenhost/base';
import { DOMID, MAX_PROFILE_HZ, PAGE_SIZE, TraceClass, TraceInfo } from '@xenhost/xen-abi';
import type { Core } from '../state/core.ts';
import { Observing } from '../state/records.ts';

/** Pages of one pCPU's buffer at most; t_info's offsets are 16 bits wide. */
export const MAX_TRACE_PAGES = 1024;
const MAX_INFO_WORDS = 0xffff;
const NS_PER_S = 1_000_000_000n;

export interface TraceBufferModules {
  allocateXenFrame(): number | undefined;
  allocateXenFrames(nr: number): number | undefined;
  freeXenFrame(mfn: number): void;
  freeXenFrames(mfn: number, nr: number): void;
  log(text: string): void;
}

export class TraceBuffers {
  readonly #core: Core;
  readonly #m: TraceBufferModules;
  /** Frames that tools may write: those of the buffers. */
  readonly #writable = new Set<number>();

  constructor(core: Core, modules: TraceBufferModules) {
    this.#core = core;
    this.#m = modules;
  }

  /** What tools may map of DOMID_XEN. */
  maps(mfn: number, write: boolean): boolean {
    if (this.#writable.has(mfn)) return true;
    const { traceInfoMfn, traceInfoFrames } = this.#core.header;
    return !write && mfn >= traceInfoMfn && mfn < traceInfoMfn + traceInfoFrames;
  }

  info(): { readonly eventMask: number; readonly mfn: number; readonly sizeBytes: number } {
    const { traceEventMask, traceInfoMfn, traceInfoFrames } = this.#core.header;
    return { eventMask: traceEventMask, mfn: traceInfoMfn, sizeBytes: traceInfoFrames * PAGE_SIZE };
  }

  setEventMask(mask: number): number {
    this.#core.header.traceEventMask = mask;
    return 0;
  }

  setCpuMask(mask: bigint): number {
    this.#core.header.traceCpuMask = mask;
    return 0;
  }

  /** Makes the buffers, `pages` each, and starts tracing, as Xen does. Once per boot: -EBUSY or -EINVAL after that. */
  setSize(pages: number): number {
    const { header, map } = this.#core;
    const { nrPcpus } = map;
    if (header.traceInfoMfn !== 0) return pages === header.traceBufferFrames ? -Errno.EBUSY : -Errno.EINVAL;
    if (pages === 0) return -Errno.EINVAL;
    // The u16 of each pCPU comes behind tbuf_size; lists of u32 follow.
    const listsAt = Math.ceil((TraceInfo.offsets.mfn_offset + 2 * nrPcpus) / 4);
    const each = Math.min(pages, MAX_TRACE_PAGES, Math.floor((MAX_INFO_WORDS - listsAt) / nrPcpus));
    const infoFrames = Math.ceil(((listsAt + each * nrPcpus) * 4) / PAGE_SIZE);
    const info = this.#m.allocateXenFrames(infoFrames);
    if (info === undefined) return -Errno.ENOMEM;
    const frames = this.#allocate(each * nrPcpus);
    if (!frames) {
      this.#m.freeXenFrames(info, infoFrames);
      return -Errno.ENOMEM;
    }
    const { dv, u8 } = this.#core.memory;
    const at = info * PAGE_SIZE;
    u8.fill(0, at, at + infoFrames * PAGE_SIZE);
    dv.setUint16(at, each, true);
    for (let n = 0; n < nrPcpus; n++) dv.setUint16(at + TraceInfo.offsets.mfn_offset + 2 * n, listsAt + n * each, true);
    frames.forEach((mfn, i) => {
      u8.fill(0, mfn * PAGE_SIZE, (mfn + 1) * PAGE_SIZE);
      dv.setUint32(at + (listsAt + i) * 4, mfn, true);
      this.#writable.add(mfn);
    });
    header.traceBufferFrames = each;
    header.traceInfoFrames = infoFrames;
    header.traceInfoMfn = info;
    this.#m.log(`xentrace: ${each} pages for each of ${nrPcpus} CPUs`);
    return this.enable();
  }

  enable(): number {
    const { header } = this.#core;
    if (header.traceInfoMfn === 0) return -Errno.EINVAL;
    header.observing |= Observing.trace;
    return 0;
  }

  /** Ends sampling too. Records that were lost are forgotten. */
  disable(forget: (pcpu: number) => void): number {
    this.#core.header.observing = 0;
    for (let n = 0; n < this.#core.map.nrPcpus; n++) forget(n);
    return 0;
  }

  /** Samples a second of each pCPU, 0 for none; of one domain or, with DOMID.IDLE, of all. Needs buffers. */
  profile(hz: number, domid: number): number {
    const { header } = this.#core;
    if (hz > MAX_PROFILE_HZ || (domid >= DOMID.FIRST_RESERVED && domid !== DOMID.IDLE)) return -Errno.EINVAL;
    if (hz === 0) {
      header.observing &= ~Observing.profile;
      return 0;
    }
    if (header.traceInfoMfn === 0) return -Errno.EINVAL;
    header.profilePeriodNs = NS_PER_S / BigInt(hz);
    header.profileDomid = domid;
    header.observing |= Observing.profile;
    return 0;
  }

  #allocate(nr: number): number[] | undefined {
    const frames: number[] = [];
    for (let i = 0; i < nr; i++) {
      const mfn = this.#m.allocateXenFrame();
      if (mfn === undefined) {
        for (const taken of frames) this.#m.freeXenFrame(taken);
        return undefined;
      }
      frames.push(mfn);
    }
    return frames;
  }
}

/** What is traced until a tool says otherwise: all events, on all pCPUs. */
export function initTracing(core: Core): void {
  core.header.traceEventMask = TraceClass.ALL;
  core.header.traceCpuMask = (1n << 64n) - 1n;
  core.header.profileDomid = DOMID.IDLE;
}
