/**
 * Who owns a frame and who refers to it: allocation to domains, general references, Xen's own frames, the M2P, and
 * translation flushes before a frame changes hands (Xen's `page_alloc.c`, `get_page`, `put_page`, `steal_page`).
 */
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { DomainFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { FrameType, INVALID_M2P_ENTRY } from './api.ts';
import type { MemoryModules } from './api.ts';
import { FrameFlag, STAMP_MASK } from './frame.ts';
import type { FrameTable } from './frame.ts';
import type { Heap } from './heap.ts';
import { DomainWords } from './private.ts';
import type { HostWords } from './private.ts';

export interface OwnershipOptions {
  readonly memory: MachineMemory;
  readonly map: MemoryMap;
}

export class Ownership {
  readonly #memory: MachineMemory;
  readonly #map: MemoryMap;
  readonly #frames: FrameTable;
  readonly #heap: Heap;
  readonly #host: HostWords;
  readonly #modules: MemoryModules;
  readonly #settle = (mfn: number): void => {
    this.flushIfStale(mfn);
  };

  constructor(options: OwnershipOptions, frames: FrameTable, heap: Heap, host: HostWords, modules: MemoryModules) {
    this.#memory = options.memory;
    this.#map = options.map;
    this.#frames = frames;
    this.#heap = heap;
    this.#host = host;
    this.#modules = modules;
  }

  /* ---- references ---- */

  /** A live frame of machine memory, with an owner. */
  isLive(mfn: number): boolean {
    return (
      mfn >= this.#map.heap &&
      mfn < this.#frames.nrFrames &&
      this.#frames.count(mfn) > 0 &&
      !this.#frames.has(mfn, FrameFlag.freeBlock)
    );
  }

  /** The owner of a live frame, else undefined. */
  ownerOf(mfn: number): number | undefined {
    return this.isLive(mfn) ? this.#frames.owner(mfn) : undefined;
  }

  /** Takes a reference when the frame belongs to `domid`. */
  get(mfn: number, domid: number): boolean {
    if (this.ownerOf(mfn) !== domid) return false;
    this.#frames.setCount(mfn, this.#frames.count(mfn) + 1);
    return true;
  }

  /** One more reference to a frame that has one. */
  getAgain(mfn: number): void {
    const count = this.#frames.count(mfn);
    if (count === 0) throw new Error(`mm: reference to the free frame ${mfn}`);
    this.#frames.setCount(mfn, count + 1);
  }

  put(mfn: number): void {
    const count = this.#frames.count(mfn) - 1;
    if (count < 0) throw new Error(`mm: reference count of frame ${mfn} below 0`);
    this.#frames.setCount(mfn, count);
    if (count === 0) this.#release(mfn);
  }

  /** Gives up the owner's claim; true when there was one. The caller holds a reference. */
  dropAllocation(mfn: number): boolean {
    if (!this.#frames.has(mfn, FrameFlag.allocated)) return false;
    this.#frames.clear(mfn, FrameFlag.allocated);
    this.put(mfn);
    return true;
  }

  #release(mfn: number): void {
    const owner = this.#modules.domain(this.#frames.owner(mfn));
    if (owner) {
      if (this.#frames.has(mfn, FrameFlag.xenHeap)) owner.v.xenHeapPages--;
      else {
        this.#unlink(owner, mfn);
        owner.v.totalPages--;
      }
    }
    this.#toHeap(mfn);
  }

  #toHeap(mfn: number): void {
    this.stamp(mfn);
    this.setM2p(mfn, INVALID_M2P_ENTRY);
    this.#heap.free(mfn);
  }

  /* ---- translation caches ---- */

  /** Notes that translations of this frame may be cached from now on until the next flush of everything. */
  stamp(mfn: number): void {
    this.#frames.setStamp(mfn, this.#host.flushGeneration & STAMP_MASK);
  }

  /** Flushes all translation caches unless that was done since the frame was stamped. */
  flushIfStale(mfn: number): void {
    if (this.#frames.stamp(mfn) === (this.#host.flushGeneration & STAMP_MASK)) this.flushAll();
  }

  flushAll(): void {
    this.#host.flushGeneration++;
    this.#modules.tlb.flushAll();
  }

  /** The hypervisor changed bytes of the frame. */
  changed(mfn: number): void {
    this.#modules.code.frameChanged(mfn);
  }

  /* ---- M2P ---- */

  setM2p(mfn: number, pfn: bigint): void {
    this.#memory.u64[this.#map.m2p * (PAGE_SIZE / 8) + mfn] = pfn;
  }
  m2p(mfn: number): bigint {
    return this.#memory.u64[this.#map.m2p * (PAGE_SIZE / 8) + mfn] ?? INVALID_M2P_ENTRY;
  }

  /* ---- domains' frames ---- */

  /** True when the domain may own `nr` more frames. */
  mayGrow(domain: DomainRef, nr: number): boolean {
    return (domain.v.flags & DomainFlag.dying) === 0 && domain.v.totalPages + nr <= domain.v.maxPages;
  }

  /** Allocates 2^order contiguous zeroed frames to the domain; the first, or undefined (limit, memory). */
  allocate(domain: DomainRef, order: number): number | undefined {
    const nr = 2 ** order;
    if (!this.mayGrow(domain, nr) || !this.#claimsPermit(domain, nr)) return undefined;
    const mfn = this.#heap.allocate(order, this.#settle);
    if (mfn === undefined) return undefined;
    for (let i = mfn; i < mfn + nr; i++) {
      this.changed(i);
      this.#assign(domain, i);
    }
    const words = new DomainWords(this.#memory, domain);
    const claimed = words.claimedPages;
    if (claimed > 0) {
      const used = Math.min(claimed, nr);
      words.claimedPages = claimed - used;
      this.#host.claimedFrames -= used;
    }
    return mfn;
  }

  #claimsPermit(domain: DomainRef, nr: number): boolean {
    if (nr > this.#heap.freeFrames) return false;
    const own = new DomainWords(this.#memory, domain).claimedPages;
    return nr <= own || nr <= this.#heap.freeFrames - this.outstandingClaims() + own;
  }

  /** Frames that domains have claimed and not yet allocated. */
  outstandingClaims(): number {
    return this.#host.claimedFrames;
  }

  /** XENMEM_claim_pages: sets the claim to what `total` needs beyond the present frames; false when memory is short. */
  claim(domain: DomainRef, total: number): boolean {
    const words = new DomainWords(this.#memory, domain);
    const others = this.#host.claimedFrames - words.claimedPages;
    const wanted = Math.max(0, total - domain.v.totalPages);
    if (wanted > this.#heap.freeFrames - others) return false;
    words.claimedPages = total === 0 ? 0 : wanted;
    this.#host.claimedFrames = others + words.claimedPages;
    return true;
  }

  #assign(domain: DomainRef, mfn: number): void {
    this.#frames.setOwner(mfn, domain.domid, FrameFlag.allocated);
    this.#frames.setCount(mfn, 1);
    const head = domain.v.pageListHead;
    this.#frames.setNext(mfn, head);
    this.#frames.setPrev(mfn, 0);
    if (head !== 0) this.#frames.setPrev(head, mfn);
    domain.v.pageListHead = mfn;
    domain.v.totalPages++;
  }

  #unlink(domain: DomainRef, mfn: number): void {
    const next = this.#frames.next(mfn);
    const prev = this.#frames.prev(mfn);
    if (prev === 0) domain.v.pageListHead = next;
    else this.#frames.setNext(prev, next);
    if (next !== 0) this.#frames.setPrev(next, prev);
  }

  /**
   * Takes a frame out of the domain's hands: it must hold only the owner's own reference and no type. It is then free of
   * owner and contents are kept; `give` or `discard` it.
   */
  steal(domain: DomainRef, mfn: number): boolean {
    if (this.ownerOf(mfn) !== domain.domid) return false;
    if (this.#frames.has(mfn, FrameFlag.xenHeap) || !this.#frames.has(mfn, FrameFlag.allocated)) return false;
    if (this.#frames.count(mfn) !== 1 || this.#frames.typeCount(mfn) !== 0) return false;
    this.stamp(mfn);
    this.#unlink(domain, mfn);
    domain.v.totalPages--;
    this.#frames.reset(mfn);
    return true;
  }

  /** Gives a stolen frame to a domain. */
  give(domain: DomainRef, mfn: number): void {
    this.flushIfStale(mfn);
    this.#assign(domain, mfn);
  }

  discard(mfn: number): void {
    this.#toHeap(mfn);
  }

  /* ---- Xen's frames ---- */

  allocateXen(nr: number): number | undefined {
    const order = Math.ceil(Math.log2(nr));
    const mfn = this.#heap.allocate(order, this.#settle);
    if (mfn === undefined) return undefined;
    for (let i = mfn; i < mfn + 2 ** order; i++) {
      if (i < mfn + nr) this.changed(i);
      else this.#toHeap(i);
    }
    return mfn;
  }

  freeXen(mfn: number, nr: number): void {
    for (let i = mfn; i < mfn + nr; i++) this.#toHeap(i);
  }

  share(domain: DomainRef, mfn: number, writable: boolean): void {
    this.#frames.setOwner(mfn, domain.domid, FrameFlag.allocated | FrameFlag.xenHeap | FrameFlag.validated);
    this.#frames.setType(mfn, writable ? FrameType.writable : FrameType.none);
    // The extra type count keeps the frame from becoming anything else.
    this.#frames.setTypeCount(mfn, 1);
    this.#frames.setCount(mfn, 1);
    domain.v.xenHeapPages++;
  }

  /** True when the frame went back to the heap. */
  unshare(mfn: number): boolean {
    const last = this.#frames.count(mfn) === 1;
    this.dropAllocation(mfn);
    return last;
  }
}
