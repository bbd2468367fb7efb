/** The memory manager's own words in the shared records: `mmPrivate` of header, domain and vCPU as arrays of u32. */
import type { MachineMemory } from '../state/machine-memory.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { DomainLayout, HeaderLayout } from '../state/records.ts';

/** Orders of free blocks: 0 to 20 (all of a 4 GiB memory). */
export const MAX_ORDER = 20;

const HEADER = {
  freeHeads: 0,
  flushGeneration: 32,
  zeroFrame: 33,
  gdtFrame: 34,
  totalFrames: 35,
  claimedFrames: 36,
} as const;
const DOMAIN = { devalidationHead: 0, claimedPages: 1, relinquishCursor: 2, perDomainL2: 3 } as const;

/** Words of the host. */
export class HostWords {
  readonly #u32: Uint32Array;
  readonly #base: number;
  constructor(memory: MachineMemory, map: MemoryMap) {
    this.#u32 = memory.u32;
    this.#base = (map.header * 4096 + HeaderLayout.offsets.mmPrivate) / 4;
  }
  #get(i: number): number {
    return this.#u32[this.#base + i] ?? 0;
  }
  #set(i: number, v: number): void {
    this.#u32[this.#base + i] = v;
  }
  freeHead(order: number): number {
    return this.#get(HEADER.freeHeads + order);
  }
  setFreeHead(order: number, mfn: number): void {
    this.#set(HEADER.freeHeads + order, mfn);
  }
  /** Raised by every flush of all translation caches. */
  get flushGeneration(): number {
    return this.#get(HEADER.flushGeneration);
  }
  set flushGeneration(v: number) {
    this.#set(HEADER.flushGeneration, v);
  }
  /** A frame of zeros behind unused pages of GDT windows. */
  get zeroFrame(): number {
    return this.#get(HEADER.zeroFrame);
  }
  set zeroFrame(v: number) {
    this.#set(HEADER.zeroFrame, v);
  }
  /** Xen's descriptors at selector 0xe000. */
  get gdtFrame(): number {
    return this.#get(HEADER.gdtFrame);
  }
  set gdtFrame(v: number) {
    this.#set(HEADER.gdtFrame, v);
  }
  /** Frames that were given to the heap at boot. */
  get totalFrames(): number {
    return this.#get(HEADER.totalFrames);
  }
  set totalFrames(v: number) {
    this.#set(HEADER.totalFrames, v);
  }
  /** Sum of all domains' claims. */
  get claimedFrames(): number {
    return this.#get(HEADER.claimedFrames);
  }
  set claimedFrames(v: number) {
    this.#set(HEADER.claimedFrames, v);
  }
}

/** Words of one domain. */
export class DomainWords {
  readonly #u32: Uint32Array;
  readonly #base: number;
  constructor(memory: MachineMemory, domain: { readonly address: number }) {
    this.#u32 = memory.u32;
    this.#base = (domain.address + DomainLayout.offsets.mmPrivate) / 4;
  }
  #get(i: number): number {
    return this.#u32[this.#base + i] ?? 0;
  }
  #set(i: number, v: number): void {
    this.#u32[this.#base + i] = v;
  }
  /** Top of the stack of tables whose entries are still to be released. */
  get devalidationHead(): number {
    return this.#get(DOMAIN.devalidationHead);
  }
  set devalidationHead(v: number) {
    this.#set(DOMAIN.devalidationHead, v);
  }
  /** Frames set aside for this domain by XENMEM_claim_pages. */
  get claimedPages(): number {
    return this.#get(DOMAIN.claimedPages);
  }
  set claimedPages(v: number) {
    this.#set(DOMAIN.claimedPages, v);
  }
  /** Where the destruction of the domain goes on: 0 start, else phase. */
  get relinquishCursor(): number {
    return this.#get(DOMAIN.relinquishCursor);
  }
  set relinquishCursor(v: number) {
    this.#set(DOMAIN.relinquishCursor, v);
  }
  /** L2 of the per-domain area. */
  get perDomainL2(): number {
    return this.#get(DOMAIN.perDomainL2);
  }
  set perDomainL2(v: number) {
    this.#set(DOMAIN.perDomainL2, v);
  }
}
