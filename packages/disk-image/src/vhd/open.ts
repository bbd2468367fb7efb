/** Opens VHD files, and makes empty ones. */
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';
import { SECTOR_BYTES, type DiskImage } from '../types.ts';
import { DynamicVhd } from './dynamic.ts';
import { FixedVhd } from './fixed.ts';
import {
  bitmapBytesOf,
  DEFAULT_BLOCK_BYTES,
  encodeFooter,
  encodeHeader,
  FOOTER_BYTES,
  HEADER_BYTES,
  MAX_VHD_BYTES,
  NO_BLOCK,
  parseFooter,
  parseHeader,
  type VhdFooter,
  type VhdHeader,
} from './format.ts';

/** The disk takes the file over: it is closed with it, and when this throws. */
export async function openVhd(file: ImageFile): Promise<DiskImage> {
  try {
    return await readVhd(file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function readVhd(file: ImageFile): Promise<DiskImage> {
  const { footer, bytes } = await findFooter(file);
  if (footer.type === 'fixed') {
    if (footer.sizeBytes > file.sizeBytes - FOOTER_BYTES) throw corrupt('a file shorter than its disk');
    return new FixedVhd(file, footer.sizeBytes);
  }
  if (!file.readOnly && file.isDevice) {
    throw new ImageError('UNSUPPORTED', `${file.path}: a VHD image on a block device is read, not written`);
  }
  const head = Buffer.alloc(HEADER_BYTES);
  await file.read(footer.headerOffset, head);
  const header = parseHeader(head, footer.sizeBytes);
  const { table, end } = await readBlocks(file, header, footer);
  if (!file.readOnly && file.sizeBytes !== end + FOOTER_BYTES) {
    // A block that was cut off before it was in the table: what comes there must begin as zeros.
    await file.truncate(end);
    await file.write(end, bytes);
    await file.sync();
  }
  return new DynamicVhd(file, { sizeBytes: footer.sizeBytes, header, footer: bytes, table, end });
}

/** At the end, or, of a disk that grows, at the start. */
async function findFooter(file: ImageFile): Promise<{ readonly footer: VhdFooter; readonly bytes: Buffer }> {
  const bytes = Buffer.alloc(FOOTER_BYTES);
  for (const at of [file.sizeBytes - FOOTER_BYTES, 0]) {
    if (at < 0) continue;
    await file.read(at, bytes);
    const footer = parseFooter(bytes);
    if (footer && (at > 0 || footer.type === 'dynamic')) return { footer, bytes };
  }
  throw new ImageError('NOT_AN_IMAGE', 'no VHD image');
}

async function readBlocks(
  file: ImageFile,
  header: VhdHeader,
  footer: VhdFooter,
): Promise<{ readonly table: Uint32Array; readonly end: number }> {
  const bytes = Buffer.alloc(header.entries * 4);
  await file.read(header.tableOffset, bytes);
  const used = Math.ceil(footer.sizeBytes / header.blockBytes);
  const start = Math.max(
    header.tableOffset + Math.ceil(bytes.length / SECTOR_BYTES) * SECTOR_BYTES,
    footer.headerOffset + HEADER_BYTES,
    FOOTER_BYTES,
  );
  const blockBytes = bitmapBytesOf(header.blockBytes) + header.blockBytes;
  const table = new Uint32Array(used);
  let end = start;
  for (let block = 0; block < used; block += 1) {
    const sector = bytes.readUInt32BE(block * 4);
    table[block] = sector;
    if (sector === NO_BLOCK) continue;
    const place = sector * SECTOR_BYTES;
    if (place < start || place + bitmapBytesOf(header.blockBytes) > file.sizeBytes) throw corrupt('a misplaced block');
    end = Math.max(end, place + blockBytes);
  }
  return { table, end };
}

const corrupt = (what: string): ImageError => new ImageError('CORRUPT', `a VHD image with ${what}`);

/** Writes a whole image into an empty file. Throws ImageError. */
export async function writeEmptyVhd(
  file: ImageFile,
  image: { readonly sizeBytes: number; readonly type: 'fixed' | 'dynamic' },
): Promise<void> {
  const sizeBytes = Math.ceil(image.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
  if (sizeBytes > MAX_VHD_BYTES) throw new ImageError('LIMIT', `a VHD image of more than ${MAX_VHD_BYTES} bytes`);
  const footer = encodeFooter(image.type, sizeBytes, new Date());
  if (image.type === 'fixed') {
    await file.truncate(sizeBytes);
    await file.write(sizeBytes, footer);
  } else {
    const entries = Math.max(1, Math.ceil(sizeBytes / DEFAULT_BLOCK_BYTES));
    const tableOffset = FOOTER_BYTES + HEADER_BYTES;
    const header = encodeHeader({ tableOffset, entries, blockBytes: DEFAULT_BLOCK_BYTES });
    const table = Buffer.alloc(Math.ceil((entries * 4) / SECTOR_BYTES) * SECTOR_BYTES, 0xff);
    await file.writev(0, [footer, header, table, footer]);
  }
  await file.sync();
}
