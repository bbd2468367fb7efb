/** Hextile (RFC 6143, 7.7.4): tiles of 16 by 16 with a background, one colour or many in front of it, or plain pixels. */
import type { Rect } from '../screen.ts';
import type { Region } from './encodings.ts';
import type { PixelWriter } from './pixel-format.ts';

const TILE = 16;
const Flag = { raw: 1, background: 2, foreground: 4, subrects: 8, coloured: 16 } as const;
const MAX_SUBRECTS = 255;

interface Subrect {
  readonly value: number;
  /** x and y, then width - 1 and height - 1, four bits each. */
  readonly place: number;
  readonly size: number;
}

export function hextile(rect: Rect, region: Region, writer: PixelWriter): Uint8Array {
  const tiles = Math.ceil(rect.width / TILE) * Math.ceil(rect.height / TILE);
  // A tile is written as plain pixels rather than as anything that is longer.
  const bytes = new Uint8Array(tiles + rect.width * rect.height * writer.bytesPerPixel);
  let at = 0;
  for (let y = 0; y < rect.height; y += TILE) {
    for (let x = 0; x < rect.width; x += TILE) {
      const width = Math.min(TILE, rect.width - x);
      const height = Math.min(TILE, rect.height - y);
      const values = writer.values(region({ x: rect.x + x, y: rect.y + y, width, height }));
      at = writeTile(values, width, bytes, at, writer);
    }
  }
  return bytes.subarray(0, at);
}

function writeTile(values: Uint32Array, width: number, bytes: Uint8Array, start: number, writer: PixelWriter): number {
  const pixel = writer.bytesPerPixel;
  const background = mostFrequent(values);
  const subrects = subrectsOf(values, width, background);
  const colours = new Set(subrects.map(({ value }) => value));
  const coloured = colours.size > 1;
  const size =
    pixel +
    (subrects.length > 0 ? 1 : 0) +
    (colours.size === 1 ? pixel : 0) +
    subrects.length * (2 + (coloured ? pixel : 0));
  let at = start;
  const put = (...pixels: readonly number[]): void => {
    at = writer.write(Uint32Array.from(pixels), bytes, at);
  };
  if (subrects.length > MAX_SUBRECTS || size >= values.length * pixel) {
    bytes[at++] = Flag.raw;
    return writer.write(values, bytes, at);
  }
  const front = subrects.length === 0 ? 0 : Flag.subrects | (coloured ? Flag.coloured : Flag.foreground);
  bytes[at++] = Flag.background | front;
  put(background);
  if (subrects.length === 0) return at;
  if (!coloured) put(...colours);
  bytes[at++] = subrects.length;
  for (const { value, place, size: extent } of subrects) {
    if (coloured) put(value);
    bytes[at++] = place;
    bytes[at++] = extent;
  }
  return at;
}

/** Text has two colours, most tiles one: they are counted without a map. */
function mostFrequent(values: Uint32Array): number {
  const first = values[0] ?? 0;
  let second = first;
  let lead = 0;
  for (const value of values) {
    if (value === first) lead++;
    else if (second === first || value === second) {
      second = value;
      lead--;
    } else return mostFrequentOfMany(values);
  }
  return lead >= 0 ? first : second;
}

function mostFrequentOfMany(values: Uint32Array): number {
  const counts = new Map<number, number>();
  let best = values[0] ?? 0;
  for (const value of values) {
    const count = (counts.get(value) ?? 0) + 1;
    counts.set(value, count);
    if (count > (counts.get(best) ?? 0)) best = value;
  }
  return best;
}

/** Rectangles that cover what is not background; stops when there are more than a tile may have. */
function subrectsOf(values: Uint32Array, width: number, background: number): Subrect[] {
  const height = values.length / width;
  const done = new Uint8Array(values.length);
  const subrects: Subrect[] = [];
  for (let i = 0; i < values.length && subrects.length <= MAX_SUBRECTS; i++) {
    const value = values[i] ?? 0;
    if (value === background || done[i]) continue;
    const [x, y] = [i % width, Math.floor(i / width)];
    let right = x;
    while (right < width && values[y * width + right] === value && !done[y * width + right]) right++;
    let bottom = y + 1;
    const isRow = (row: number): boolean => {
      for (let each = x; each < right; each++) {
        if (values[row * width + each] !== value || done[row * width + each]) return false;
      }
      return true;
    };
    while (bottom < height && isRow(bottom)) bottom++;
    for (let row = y; row < bottom; row++) done.fill(1, row * width + x, row * width + right);
    subrects.push({ value, place: (x << 4) | y, size: ((right - x - 1) << 4) | (bottom - y - 1) });
  }
  return subrects;
}
