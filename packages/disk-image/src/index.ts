/** Disk images: raw files and devices, qcow2, VHD. */
export {
  applySnapshot,
  checkImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  listSnapshots,
  resizeImage,
} from './create.ts';
export { parseDiskName, type DiskName } from './disk-name.ts';
export { ImageError, type ImageErrorCode } from './errors.ts';
export { openImage } from './open.ts';
export type { CheckResult } from './qcow2/check.ts';
export {
  SECTOR_BYTES,
  type BackingFile,
  type CreateImageSpec,
  type DiskImage,
  type ImageFormat,
  type ImageSnapshot,
  type OpenImageSpec,
} from './types.ts';
