/** The pixels that a client wants (RFC 6143, 7.4), and 0x00RRGGBB words made into them. */

export interface PixelFormat {
  readonly bitsPerPixel: 8 | 16 | 32;
  readonly depth: number;
  readonly bigEndian: boolean;
  /** False: one byte a pixel, looked up in the map that the server sends. */
  readonly trueColour: boolean;
  readonly max: readonly [red: number, green: number, blue: number];
  readonly shift: readonly [red: number, green: number, blue: number];
}

/** Bytes of the structure on the wire. */
export const PIXEL_FORMAT_BYTES = 16;

/** What is offered: the screen's own. */
export const serverFormat: PixelFormat = {
  bitsPerPixel: 32,
  depth: 24,
  bigEndian: false,
  trueColour: true,
  max: [255, 255, 255],
  shift: [16, 8, 0],
};

/** Pixels of clients without true colour: RGB 3:3:2, as the map says. */
const mappedFormat: PixelFormat = {
  bitsPerPixel: 8,
  depth: 8,
  bigEndian: false,
  trueColour: false,
  max: [7, 7, 3],
  shift: [5, 2, 0],
};

export function encodePixelFormat(format: PixelFormat): Uint8Array {
  const bytes = new Uint8Array(PIXEL_FORMAT_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set([format.bitsPerPixel, format.depth, format.bigEndian ? 1 : 0, format.trueColour ? 1 : 0]);
  for (const i of [0, 1, 2] as const) {
    view.setUint16(4 + 2 * i, format.max[i]);
    bytes[10 + i] = format.shift[i];
  }
  return bytes;
}

/** A sentence where pixels cannot be made so. */
export function decodePixelFormat(bytes: Uint8Array): PixelFormat | string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [bitsPerPixel = 0, depth = 0, bigEndian = 0, trueColour = 0] = bytes;
  if (bitsPerPixel !== 8 && bitsPerPixel !== 16 && bitsPerPixel !== 32) return `${bitsPerPixel} bits a pixel`;
  if (trueColour === 0) return bitsPerPixel === 8 ? mappedFormat : `a colour map for ${bitsPerPixel} bits a pixel`;
  const max = [view.getUint16(4), view.getUint16(6), view.getUint16(8)] as const;
  const shift = [bytes[10] ?? 0, bytes[11] ?? 0, bytes[12] ?? 0] as const;
  for (const i of [0, 1, 2] as const) {
    if (max[i] * 2 ** shift[i] >= 2 ** bitsPerPixel)
      return `colours of ${max[i]} << ${shift[i]} in ${bitsPerPixel} bits`;
  }
  return { bitsPerPixel, depth, bigEndian: bigEndian !== 0, trueColour: true, max, shift };
}

/** The message that tells a client of `mappedFormat` its colours (SetColourMapEntries). */
export function colourMap(): Uint8Array {
  const bytes = new Uint8Array(6 + 256 * 6);
  const view = new DataView(bytes.buffer);
  bytes[0] = 1;
  view.setUint16(4, 256);
  for (let pixel = 0; pixel < 256; pixel++) {
    for (const i of [0, 1, 2] as const) {
      const value = (pixel >> mappedFormat.shift[i]) & mappedFormat.max[i];
      view.setUint16(6 + pixel * 6 + 2 * i, Math.round((value * 0xffff) / mappedFormat.max[i]));
    }
  }
  return bytes;
}

const isServerFormat = ({ bitsPerPixel, trueColour, max, shift }: PixelFormat): boolean =>
  bitsPerPixel === 32 &&
  trueColour &&
  max.every((value) => value === 255) &&
  shift.every((value, i) => value === serverFormat.shift[i]);

/** Makes a client's pixels. This machine is little-endian, as every one that Node runs on here. */
export class PixelWriter {
  readonly format: PixelFormat;
  readonly bytesPerPixel: 1 | 2 | 4;
  /** Bytes of ZRLE's compressed pixels: one less where a byte of four is never used. */
  readonly compressedBytes: 1 | 2 | 3 | 4;
  readonly #tables: readonly [Uint32Array, Uint32Array, Uint32Array] | undefined;
  /** Where the three bytes of a compressed pixel begin in its value. */
  readonly #compressedShift: 0 | 8;

  constructor(format: PixelFormat) {
    this.format = format;
    this.bytesPerPixel = (format.bitsPerPixel / 8) as 1 | 2 | 4;
    const table = (i: 0 | 1 | 2): Uint32Array =>
      Uint32Array.from({ length: 256 }, (_, v) => (Math.round((v * format.max[i]) / 255) << format.shift[i]) >>> 0);
    this.#tables = isServerFormat(format) ? undefined : [table(0), table(1), table(2)];
    const used = [0, 1, 2].reduce((bits, i) => bits | ((format.max[i] ?? 0) << (format.shift[i] ?? 0)), 0) >>> 0;
    const compresses = this.bytesPerPixel === 4 && format.depth <= 24;
    const low = compresses && used < 2 ** 24;
    const high = compresses && (used & 0xff) === 0;
    this.compressedBytes = low || high ? 3 : this.bytesPerPixel;
    this.#compressedShift = low ? 0 : 8;
  }

  /** Pixel values of `source`, in place of it where they are the same. */
  values(source: Uint32Array): Uint32Array {
    if (!this.#tables) return source;
    const [red, green, blue] = this.#tables;
    return source.map((p) => (red[(p >> 16) & 255] ?? 0) | (green[(p >> 8) & 255] ?? 0) | (blue[p & 255] ?? 0));
  }

  /** Writes pixel values; returns where the next goes. */
  write(values: Uint32Array, into: Uint8Array, at: number): number {
    const { bigEndian } = this.format;
    let i = at;
    switch (this.bytesPerPixel) {
      case 1:
        into.set(values, at);
        return at + values.length;
      case 2:
        for (const value of values) {
          into[i + (bigEndian ? 0 : 1)] = value >> 8;
          into[i + (bigEndian ? 1 : 0)] = value;
          i += 2;
        }
        return i;
      case 4:
        if (!bigEndian) {
          into.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), at);
          return at + values.byteLength;
        }
        for (const value of values) {
          into[i] = value >>> 24;
          into[i + 1] = value >>> 16;
          into[i + 2] = value >>> 8;
          into[i + 3] = value;
          i += 4;
        }
        return i;
    }
  }

  /** As `write`, in ZRLE's compressed pixels. */
  writeCompressed(values: Uint32Array, into: Uint8Array, at: number): number {
    if (this.compressedBytes !== 3) return this.write(values, into, at);
    const { bigEndian } = this.format;
    let i = at;
    for (const value of values) {
      const three = value >>> this.#compressedShift;
      into[i] = bigEndian ? three >>> 16 : three;
      into[i + 1] = three >>> 8;
      into[i + 2] = bigEndian ? three : three >>> 16;
      i += 3;
    }
    return i;
  }
}
