/**
 * The heap: free frames as blocks of 2^order in lists by order, split and joined by the buddy rule (Xen's
 * `page_alloc.c`). Knows nothing of owners. Frames that had an owner are cleared when they are given out again, not
 * before, and memory never used stays untouched, so that the OS commits only what guests use.
 */
import type { MachineMemory } from '../state/machine-memory.ts';
import { FrameFlag } from './frame.ts';
import type { FrameTable } from './frame.ts';
import { MAX_ORDER } from './private.ts';
import type { HostWords } from './private.ts';

interface FreeCounter {
  freeFrames: number;
}

export class Heap {
  readonly #memory: MachineMemory;
  readonly #frames: FrameTable;
  readonly #host: HostWords;
  readonly #counter: FreeCounter;

  constructor(memory: MachineMemory, frames: FrameTable, host: HostWords, counter: FreeCounter) {
    this.#memory = memory;
    this.#frames = frames;
    this.#host = host;
    this.#counter = counter;
  }

  get freeFrames(): number {
    return this.#counter.freeFrames;
  }

  /** Gives a range that was never in the heap, in the largest aligned blocks. */
  addRange(first: number, end: number): void {
    // From the top down, so that the lists start with the lowest blocks.
    const blocks: [number, number][] = [];
    for (let mfn = first; mfn < end;) {
      let order = 0;
      while (order < MAX_ORDER && mfn % 2 ** (order + 1) === 0 && mfn + 2 ** (order + 1) <= end) order++;
      blocks.push([mfn, order]);
      mfn += 2 ** order;
    }
    for (const [mfn, order] of blocks.reverse()) this.#push(mfn, order);
    this.#counter.freeFrames += end - first;
  }

  /**
   * A block of 2^order frames, aligned to its size and zeroed; undefined when there is none. `settle` is called for each
   * frame before it is cleared: nobody may be able to write to it afterwards.
   */
  allocate(order: number, settle: (mfn: number) => void = () => undefined): number | undefined {
    let from = order;
    while (from <= MAX_ORDER && this.#host.freeHead(from) === 0) from++;
    if (from > MAX_ORDER) return undefined;
    const mfn = this.#host.freeHead(from);
    this.#remove(mfn, from);
    while (from > order) {
      from--;
      this.#push(mfn + 2 ** from, from);
    }
    const nr = 2 ** order;
    for (let i = mfn; i < mfn + nr; i++) {
      settle(i);
      if (this.#frames.has(i, FrameFlag.dirty)) this.#memory.clearFrame(i);
      this.#frames.reset(i);
    }
    this.#counter.freeFrames -= nr;
    return mfn;
  }

  /** Takes back one frame; it is cleared before it is given out again. */
  free(mfn: number): void {
    this.#frames.reset(mfn);
    this.#frames.raise(mfn, FrameFlag.dirty);
    this.#counter.freeFrames++;
    let block = mfn;
    let order = 0;
    for (; order < MAX_ORDER; order++) {
      const size = 2 ** order;
      const buddy = block % (2 * size) === 0 ? block + size : block - size;
      if (buddy >= this.#frames.nrFrames || !this.#frames.has(buddy, FrameFlag.freeBlock)) break;
      if (this.#frames.count(buddy) !== order) break;
      this.#remove(buddy, order);
      block = Math.min(block, buddy);
    }
    this.#push(block, order);
  }

  #push(mfn: number, order: number): void {
    const head = this.#host.freeHead(order);
    this.#frames.raise(mfn, FrameFlag.freeBlock);
    this.#frames.setCount(mfn, order);
    this.#frames.setNext(mfn, head);
    this.#frames.setPrev(mfn, 0);
    if (head !== 0) this.#frames.setPrev(head, mfn);
    this.#host.setFreeHead(order, mfn);
  }

  #remove(mfn: number, order: number): void {
    const next = this.#frames.next(mfn);
    const prev = this.#frames.prev(mfn);
    if (prev === 0) this.#host.setFreeHead(order, next);
    else this.#frames.setNext(prev, next);
    if (next !== 0) this.#frames.setPrev(next, prev);
    this.#frames.clear(mfn, FrameFlag.freeBlock);
    this.#frames.setCount(mfn, 0);
  }
}
