/** Buffers for data on its way, used again: new ones cost a page fault for each page. */

const SMALLEST = 4096;

export class BufferPool {
  readonly #free = new Map<number, Buffer[]>();
  readonly #maxBytes: number;
  #heldBytes = 0;

  /** `maxBytes`: of buffers that nobody uses. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** A buffer of at least `bytes`, with anything in it. */
  take(bytes: number): Buffer {
    const size = Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(bytes)));
    const buffer = this.#free.get(size)?.pop();
    if (!buffer) return Buffer.allocUnsafeSlow(size);
    this.#heldBytes -= size;
    return buffer;
  }

  /** Gives back a buffer of this pool; nobody else may know of it any more. */
  give(buffer: Buffer): void {
    if (this.#heldBytes + buffer.length > this.#maxBytes) return;
    this.#heldBytes += buffer.length;
    const list = this.#free.get(buffer.length);
    if (list) list.push(buffer);
    else this.#free.set(buffer.length, [buffer]);
  }
}
