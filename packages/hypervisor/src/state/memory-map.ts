/**
 * Who owns which machine frames, from the bottom up. All figures follow from the size of memory and the number of
 * pCPUs, so every thread computes the same map.
 */
import { PAGE_SIZE } from '@xenhost/xen-abi';

export const MAX_PCPUS = 64;
export const MAX_VCPUS_PER_DOMAIN = 32;
export const NR_DOMIDS = 0x7ff0;
/** Bytes of one record in the frame table (`state/frame.ts`). */
export const FRAME_RECORD_SIZE = 32;
export const PCPU_RECORD_SIZE = 2048;
export const POOL_RECORD_SIZE = 64;
/** As in Xen: CPU pools of a host, for each pCPU. */
const POOLS_PER_PCPU = 2;
export const CONSOLE_RING_SIZE = 64 * 1024;

export interface MemoryMap {
  readonly nrFrames: number;
  readonly nrPcpus: number;
  readonly maxPools: number;
  /** First frame of each area. */
  readonly header: number;
  readonly pcpus: number;
  readonly pools: number;
  /** u32 for each domid: frame of its domain record, 0 for none. */
  readonly domainIndex: number;
  readonly consoleRing: number;
  /** A frame of counters for each pCPU and one for the control plane (`trace/counters.ts`). */
  readonly counters: number;
  /** For each pCPU one bit for each frame: set while its engine may hold decoded code of it. */
  readonly codeFrames: number;
  /** Frames of one pCPU's part. */
  readonly codeFramesPerPcpu: number;
  readonly frameTable: number;
  /** The machine-to-phys table guests read: u64 for each frame. */
  readonly m2p: number;
  /** First frame given to the heap; all above are heap. */
  readonly heap: number;
}

const framesFor = (bytes: number): number => Math.ceil(bytes / PAGE_SIZE);

export function memoryMap(nrFrames: number, nrPcpus: number): MemoryMap {
  let next = 1;
  const take = (frames: number): number => {
    const first = next;
    next += frames;
    return first;
  };
  const header = take(1);
  const pcpus = take(framesFor(MAX_PCPUS * PCPU_RECORD_SIZE));
  const maxPools = POOLS_PER_PCPU * nrPcpus;
  const pools = take(framesFor(maxPools * POOL_RECORD_SIZE));
  const domainIndex = take(framesFor(NR_DOMIDS * 4));
  const consoleRing = take(framesFor(CONSOLE_RING_SIZE));
  const counters = take(nrPcpus + 1);
  const codeFramesPerPcpu = framesFor(nrFrames / 8);
  const codeFrames = take(codeFramesPerPcpu * nrPcpus);
  const frameTable = take(framesFor(nrFrames * FRAME_RECORD_SIZE));
  const m2p = take(framesFor(nrFrames * 8));
  if (next >= nrFrames) throw new RangeError(`machine memory of ${nrFrames} frames is too small for a host`);
  return {
    nrFrames,
    nrPcpus,
    maxPools,
    header,
    pcpus,
    pools,
    domainIndex,
    consoleRing,
    counters,
    codeFrames,
    codeFramesPerPcpu,
    frameTable,
    m2p,
    heap: next,
  };
}
