/**
 * Collects a thread's garbage while it has nothing to do. Left to itself V8 collects when memory is asked for, which an idle
 * thread does not: what the last guest's start left would stay for as long as the host rests.
 */

/** The garbage collector of this thread, as the process's entry knows it. */
export interface ThreadHeap {
  /** What is used, garbage included. */
  usedBytes(): number;
  /** Collects all there is and gives free pages back: some 40 ms. */
  collect(): void;
}

/** So much more than after the last collection is worth another. */
const WORTH_BYTES = 4 << 20;
/** A thread whose heap has grown by more since the last look is at work. */
const AT_WORK_BYTES = 64 << 10;

export class IdleCollector {
  readonly #heap: ThreadHeap;
  #usedAfter = 0;
  #usedBefore = 0;

  constructor(heap: ThreadHeap) {
    this.#heap = heap;
  }

  /** The thread rests: collects if that is worth it. */
  rest(): void {
    if (this.#heap.usedBytes() - this.#usedAfter < WORTH_BYTES) return;
    this.#heap.collect();
    this.#usedAfter = this.#heap.usedBytes();
  }

  /** For a thread that cannot tell by itself whether it rests; to be called now and then. */
  look(): void {
    const used = this.#heap.usedBytes();
    const grown = Math.abs(used - this.#usedBefore);
    this.#usedBefore = used;
    if (grown > AT_WORK_BYTES) return;
    this.rest();
    this.#usedBefore = this.#heap.usedBytes();
  }
}
