/** Rectangles of the screen as clients want them (RFC 6143, 7.7): Raw, Hextile, ZRLE. What they hold comes from `region`. */
import type { Rect } from '../screen.ts';
import { hextile } from './hextile.ts';
import type { PixelWriter } from './pixel-format.ts';
import { zrleTiles } from './zrle.ts';
import type { ZlibStream } from './zlib-stream.ts';

/** Numbers on the wire; pseudo-encodings tell what a client can do. */
export const Encoding = { raw: 0, hextile: 5, zrle: 16, desktopSize: -223, extendedKeyEvent: -258 } as const;

export type PictureEncoding = typeof Encoding.raw | typeof Encoding.hextile | typeof Encoding.zrle;

export const pictureEncodings: readonly number[] = [Encoding.raw, Encoding.hextile, Encoding.zrle];

/** Pixels of a part of the screen, 0x00RRGGBB. */
export type Region = (rect: Rect) => Uint32Array;

/** Makes one rectangle's data; ZRLE's is complete only after compression. */
export function encodeRect(encoding: PictureEncoding, rect: Rect, region: Region, writer: PixelWriter): Uint8Array {
  switch (encoding) {
    case Encoding.raw: {
      const bytes = new Uint8Array(rect.width * rect.height * writer.bytesPerPixel);
      writer.write(writer.values(region(rect)), bytes, 0);
      return bytes;
    }
    case Encoding.hextile:
      return hextile(rect, region, writer);
    case Encoding.zrle:
      return zrleTiles(rect, region, writer);
  }
}

/** ZRLE: the tiles' bytes through the connection's one stream, after their length. */
export async function compressed(tiles: Uint8Array, stream: ZlibStream): Promise<Uint8Array> {
  const data = await stream.compress(tiles);
  const bytes = new Uint8Array(4 + data.length);
  new DataView(bytes.buffer).setUint32(0, data.length);
  bytes.set(data, 4);
  return bytes;
}

/** The head of a rectangle in an update. */
export function rectHead({ x, y, width, height }: Rect, encoding: number): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of [x, y, width, height].entries()) view.setUint16(2 * i, value);
  view.setInt32(8, encoding);
  return bytes;
}

/** The head of an update of so many rectangles. */
export function updateHead(count: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint16(2, count);
  return bytes;
}
