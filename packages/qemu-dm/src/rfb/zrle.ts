/** Tiles of ZRLE before their compression (RFC 6143, 7.7.6): one colour, a packed palette of up to 16, or plain pixels. */
import type { Rect } from '../screen.ts';
import type { Region } from './encodings.ts';
import type { PixelWriter } from './pixel-format.ts';

const TILE = 64;
const MAX_PALETTE = 16;
const RAW = 0;
const SOLID = 1;

export function zrleTiles(rect: Rect, region: Region, writer: PixelWriter): Uint8Array {
  const perTile = 1 + (MAX_PALETTE + TILE * TILE) * writer.compressedBytes;
  const tiles = Math.ceil(rect.width / TILE) * Math.ceil(rect.height / TILE);
  let bytes = new Uint8Array(
    Math.min(tiles * perTile, tiles + rect.width * rect.height * writer.compressedBytes + perTile),
  );
  let at = 0;
  for (let y = 0; y < rect.height; y += TILE) {
    for (let x = 0; x < rect.width; x += TILE) {
      const width = Math.min(TILE, rect.width - x);
      const height = Math.min(TILE, rect.height - y);
      const values = writer.values(region({ x: rect.x + x, y: rect.y + y, width, height }));
      if (at + perTile > bytes.length) bytes = grown(bytes, at + perTile);
      at = writeTile(values, width, bytes, at, writer);
    }
  }
  return bytes.subarray(0, at);
}

function grown(bytes: Uint8Array, needed: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(Math.max(needed, bytes.length * 2));
  larger.set(bytes);
  return larger;
}

function writeTile(values: Uint32Array, width: number, bytes: Uint8Array, start: number, writer: PixelWriter): number {
  const palette = paletteOf(values);
  let at = start;
  if (!palette) {
    bytes[at++] = RAW;
    return writer.writeCompressed(values, bytes, at);
  }
  bytes[at++] = palette.size === 1 ? SOLID : palette.size;
  at = writer.writeCompressed(Uint32Array.from(palette.keys()), bytes, at);
  if (palette.size === 1) return at;
  const bits = palette.size === 2 ? 1 : palette.size <= 4 ? 2 : 4;
  for (let row = 0; row < values.length; row += width) {
    let byte = 0;
    let free = 8;
    for (let x = 0; x < width; x++) {
      free -= bits;
      byte |= (palette.get(values[row + x] ?? 0) ?? 0) << free;
      if (free > 0) continue;
      bytes[at++] = byte;
      byte = 0;
      free = 8;
    }
    if (free < 8) bytes[at++] = byte;
  }
  return at;
}

/** Colours with their places in the palette; undefined when there are more than it holds. */
function paletteOf(values: Uint32Array): Map<number, number> | undefined {
  const palette = new Map<number, number>();
  let last: number | undefined;
  for (const value of values) {
    if (value === last || palette.has(value)) {
      last = value;
      continue;
    }
    if (palette.size === MAX_PALETTE) return undefined;
    palette.set(value, palette.size);
    last = value;
  }
  return palette;
}
