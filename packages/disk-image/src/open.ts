/** Opens a disk image of any format. */
import { HostFile } from './file/host-file.ts';
import { ImageError } from './errors.ts';
import { RawImage } from './raw.ts';
import type { DiskImage, OpenImageSpec } from './types.ts';

/** Throws ImageError, and errors of the file system with their `code`. */
export async function openImage(spec: OpenImageSpec): Promise<DiskImage> {
  const format = spec.format ?? 'raw';
  if (format !== 'raw') throw new ImageError('UNSUPPORTED', `no reader of ${format} images yet`);
  return new RawImage(await HostFile.open(spec.path, { readOnly: spec.readOnly }));
}
