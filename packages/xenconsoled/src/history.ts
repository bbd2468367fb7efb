/** The last bytes of a stream. */

export class History {
  readonly #limit: number;
  #chunks: Uint8Array[] = [];
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limit = limitBytes;
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    // Joined now and then, so that a guest that prints byte by byte does not leave a list of single bytes.
    if (this.#bytes > 2 * this.#limit || this.#chunks.length > 1024) this.#compact();
  }

  /** At most the limit, oldest first. */
  contents(): Uint8Array {
    this.#compact();
    return this.#chunks[0] ?? new Uint8Array(0);
  }

  #compact(): void {
    const joined = Buffer.concat(this.#chunks);
    // A copy: a view would keep the whole of what was dropped.
    const kept = joined.length > this.#limit ? Uint8Array.from(joined.subarray(joined.length - this.#limit)) : joined;
    this.#chunks = [kept];
    this.#bytes = kept.length;
  }
}
