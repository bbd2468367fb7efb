/** Makes disk images, and works on qcow2 images as a whole (snapshots). Nobody else may have the image open for writing meanwhile. */
import { rm } from 'node:fs/promises';
import { isAbsolute, dirname, resolve } from 'node:path';
import { ImageError } from './errors.ts';
import { HostFile } from './file/host-file.ts';
import type { ImageFile } from './file/image-file.ts';
import { MAX_DISK_BYTES } from './limits.ts';
import { openImage } from './open.ts';
import type { CheckResult } from './qcow2/check.ts';
import { writeEmptyQcow2 } from './qcow2/create.ts';
import * as qcow2 from './qcow2/open.ts';
import { SECTOR_BYTES, type CreateImageSpec, type ImageFormat, type ImageSnapshot } from './types.ts';
import { writeEmptyVhd } from './vhd/open.ts';

const DEFAULT_CLUSTER_BYTES = 64 * 1024;
const DEFAULT_REFCOUNT_BITS = 16;

/** Makes an empty disk in a file that must not be there. Throws ImageError, and errors of the file system with their `code`. */
export async function createImage(spec: CreateImageSpec): Promise<void> {
  if (spec.backing && spec.format !== 'qcow2') {
    throw new ImageError('UNSUPPORTED', `a ${spec.format} image has no backing file`);
  }
  const sizeBytes = spec.sizeBytes ?? (await sizeOfBacking(spec));
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes > MAX_DISK_BYTES) {
    throw new ImageError('LIMIT', `a disk of ${sizeBytes} bytes: at most ${MAX_DISK_BYTES} are possible`);
  }
  const file = await HostFile.open(spec.path, { readOnly: false, create: true });
  try {
    await fill(file, spec, sizeBytes);
  } catch (error) {
    await rm(spec.path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

async function fill(file: ImageFile, spec: CreateImageSpec, sizeBytes: number): Promise<void> {
  switch (spec.format) {
    case 'raw':
      await file.truncate(Math.ceil(sizeBytes / SECTOR_BYTES) * SECTOR_BYTES);
      await file.sync();
      return;
    case 'vhd':
      return writeEmptyVhd(file, { sizeBytes, type: spec.vhdType ?? 'dynamic' });
    case 'qcow2':
      return writeEmptyQcow2(file, {
        sizeBytes,
        backing: spec.backing && { name: spec.backing.path, format: QEMU_NAMES[spec.backing.format] },
        clusterBytes: spec.clusterBytes ?? DEFAULT_CLUSTER_BYTES,
        version: spec.version ?? 3,
        refcountBits: spec.refcountBits ?? DEFAULT_REFCOUNT_BITS,
      });
  }
}

const QEMU_NAMES: Readonly<Record<ImageFormat, string>> = { raw: 'raw', qcow2: 'qcow2', vhd: 'vpc' };

async function sizeOfBacking(spec: CreateImageSpec): Promise<number> {
  if (!spec.backing) throw new ImageError('OUT_OF_RANGE', 'a new image needs a size');
  const { path, format } = spec.backing;
  const below = isAbsolute(path) ? path : resolve(dirname(spec.path), path);
  const image = await openImage({ path: below, format, readOnly: true });
  await image.close();
  return image.sizeBytes;
}

/** Makes the disk in a file larger. Throws ImageError OUT_OF_RANGE when it would shrink. */
export async function resizeImage(path: string, format: ImageFormat, sizeBytes: number): Promise<void> {
  const image = await openImage({ path, format, readOnly: false });
  try {
    await image.grow(sizeBytes);
  } finally {
    await image.close();
  }
}

const forWriting = (path: string): Promise<ImageFile> => HostFile.open(path, { readOnly: false });

/** The internal snapshots of a qcow2 image. */
export const listSnapshots = async (path: string): Promise<ImageSnapshot[]> =>
  qcow2.listSnapshots(await HostFile.open(path, { readOnly: true }));

export const createSnapshot = async (path: string, name: string): Promise<ImageSnapshot> =>
  qcow2.createSnapshot(await forWriting(path), name);

/** Makes the disk what it was when the snapshot was taken. By id, or else by name. */
export const applySnapshot = async (path: string, idOrName: string): Promise<void> =>
  qcow2.applySnapshot(await forWriting(path), idOrName);

export const deleteSnapshot = async (path: string, idOrName: string): Promise<void> =>
  qcow2.deleteSnapshot(await forWriting(path), idOrName);

/** Counts a qcow2 image's clusters and tells what is wrong with it; changes nothing. */
export const checkImage = async (path: string): Promise<CheckResult> =>
  qcow2.checkQcow2(await HostFile.open(path, { readOnly: true }));
