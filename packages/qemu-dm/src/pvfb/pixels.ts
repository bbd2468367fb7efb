/** Rows of a guest's framebuffer as 0x00RRGGBB words. */

const widen = (value: number, bits: number): number => Math.round((value * 255) / ((1 << bits) - 1));

const FROM_332 = Uint32Array.from(
  { length: 256 },
  (_, p) => (widen(p >> 5, 3) << 16) | (widen((p >> 2) & 7, 3) << 8) | widen(p & 3, 2),
);
const FROM_565 = Uint32Array.from(
  { length: 65536 },
  (_, p) => (widen(p >> 11, 5) << 16) | (widen((p >> 5) & 63, 6) << 8) | widen(p & 31, 5),
);

/** Reads rows of `width` pixels of `depth` bits; the row is good until the next call. */
export class RowReader {
  readonly #row: Uint32Array;
  readonly #bytes: Uint8Array;
  readonly #width: number;
  readonly #depth: number;

  constructor({ width, depth }: { readonly width: number; readonly depth: number }) {
    this.#width = width;
    this.#depth = depth;
    this.#row = new Uint32Array(width);
    this.#bytes = new Uint8Array(this.#row.buffer);
  }

  read(source: Uint8Array, at: number): Uint32Array {
    const row = this.#row;
    const width = this.#width;
    switch (this.#depth) {
      case 8:
        for (let x = 0; x < width; x++) row[x] = FROM_332[source[at + x] ?? 0] ?? 0;
        return row;
      case 16:
        for (let x = 0; x < width; x++) {
          const i = at + 2 * x;
          row[x] = FROM_565[(source[i] ?? 0) | ((source[i + 1] ?? 0) << 8)] ?? 0;
        }
        return row;
      default:
        this.#bytes.set(source.subarray(at, at + 4 * width));
        for (let x = 0; x < width; x++) row[x] = (row[x] ?? 0) & 0xffffff;
        return row;
    }
  }
}
