/** How a picture lies in a framebuffer: what a guest says of it (`xenfb_page`, `xenfb_resize`), checked. */
import { MAX_PIXELS, MAX_SIDE } from '../limits.ts';

export interface Geometry {
  readonly width: number;
  readonly height: number;
  /** Bytes from a row to the next. */
  readonly stride: number;
  /** Bits of a pixel: 8 (RGB 3:3:2), 16 (5:6:5), 24 or 32 (0x00RRGGBB in a word). */
  readonly depth: number;
  /** Of the first row. */
  readonly offset: number;
}

export const bytesPerPixel = (depth: number): number | undefined => ({ 8: 1, 16: 2, 24: 4, 32: 4 })[depth];

/** The part that lies inside the `length` bytes of the framebuffer; a sentence where there is none. */
export function fitGeometry(wanted: Geometry, length: number): Geometry | string {
  const { stride, depth, offset } = wanted;
  const bytes = bytesPerPixel(depth);
  if (bytes === undefined) return `a depth of ${depth} bits`;
  if (stride <= 0 || stride > length) return `rows of ${stride} bytes in a framebuffer of ${length}`;
  if (offset < 0 || offset >= length) return `an offset of ${offset} in a framebuffer of ${length} bytes`;
  const width = Math.min(wanted.width, Math.floor(stride / bytes), MAX_SIDE);
  const height = Math.min(wanted.height, Math.floor((length - offset) / stride), MAX_SIDE);
  if (width <= 0 || height <= 0) return `${wanted.width} by ${wanted.height} pixels in ${length} bytes`;
  if (width * height > MAX_PIXELS) return `${width} by ${height} pixels, more than ${MAX_PIXELS}`;
  return { width, height, stride, depth, offset };
}
