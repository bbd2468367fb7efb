/** Tells a file's format by what stands in it. */
import type { ImageFile } from './file/image-file.ts';
import { QCOW2_MAGIC } from './qcow2/header.ts';
import { SECTOR_BYTES, type ImageFormat } from './types.ts';
import { VHD_COOKIE } from './vhd/format.ts';

/** A VHD of fixed size has its mark at the end only. */
export async function probeFormat(file: ImageFile): Promise<ImageFormat> {
  const head = Buffer.alloc(SECTOR_BYTES);
  await file.read(0, head);
  if (head.readUInt32BE(0) === QCOW2_MAGIC) return 'qcow2';
  if (hasCookie(head)) return 'vhd';
  if (file.sizeBytes < 2 * SECTOR_BYTES) return 'raw';
  await file.read(file.sizeBytes - SECTOR_BYTES, head);
  return hasCookie(head) ? 'vhd' : 'raw';
}

const hasCookie = (sector: Buffer): boolean => sector.toString('latin1', 0, VHD_COOKIE.length) === VHD_COOKIE;
