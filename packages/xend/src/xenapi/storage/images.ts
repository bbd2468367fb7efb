/** Disk images as files of a repository. Made under another name first, so that what has its name is whole. */
import { constants, type BigIntStats } from 'node:fs';
import { copyFile, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import {
  createImage as createEmpty,
  openImage,
  resizeImage,
  type DiskImage,
  type ImageFormat,
} from '@xenhost/disk-image';

export type { ImageFormat };

/** The name that an image has while it is being made. */
export const MAKING_SUFFIX = '.making';

/** Largest disk that we make as qcow2. */
export const MAX_QCOW2_BYTES = 8 * 2 ** 40;

/** What a copy moves at a time, and what it looks at for zeros. */
const PIECE_BYTES = 1 << 20;
const BLOCK_BYTES = 1 << 16;

export type Progress = (percent: number) => void;

/** Runs `make` for a file under another name, gives it its name when it is done, removes it otherwise. */
async function making(path: string, make: (path: string) => Promise<void>): Promise<void> {
  const temporary = `${path}${MAKING_SUFFIX}`;
  await rm(temporary, { force: true });
  try {
    await make(temporary);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

export async function createImage(path: string, format: ImageFormat, sizeBytes: number): Promise<void> {
  await making(path, (temporary) => createEmpty({ path: temporary, format, sizeBytes }));
}

/** Makes the disk in a file larger. */
export async function growImage(path: string, format: ImageFormat, sizeBytes: number): Promise<void> {
  await resizeImage(path, format, sizeBytes);
}

export interface ImageFile {
  readonly path: string;
  readonly format: ImageFormat;
}

/** Copies a disk into a new file, from one format into the other where they differ. */
export async function copyImage(from: ImageFile, to: ImageFile, sizeBytes: number, progress: Progress): Promise<void> {
  await making(to.path, async (temporary) => {
    if (from.format === to.format) await copyBytes(from.path, temporary, progress);
    else await convert(from, { path: temporary, format: to.format }, sizeBytes, progress);
  });
}

/** Copies a file as it is. */
async function copyBytes(from: string, to: string, progress: Progress): Promise<void> {
  if (await cloneFile(from, to)) return;
  await withFile(from, 'r', async (source) => {
    const { size } = await source.stat();
    await withFile(to, 'wx', async (target) => {
      // What is not written stays a hole.
      await target.truncate(size);
      const read = async (offset: number, piece: Buffer): Promise<void> => {
        await source.read(piece, 0, piece.length, offset);
      };
      const write = async (offset: number, piece: Buffer): Promise<void> => {
        await target.write(piece, 0, piece.length, offset);
      };
      await pump({ read, write }, size, progress);
      await target.sync();
    });
  });
}

/** A copy that shares the blocks, where the file system can do it. */
async function cloneFile(from: string, to: string): Promise<boolean> {
  try {
    await copyFile(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE_FORCE);
    return true;
  } catch {
    await rm(to, { force: true });
    return false;
  }
}

async function convert(from: ImageFile, to: ImageFile, sizeBytes: number, progress: Progress): Promise<void> {
  await withImage({ ...from, readOnly: true }, async (source) => {
    await createEmpty({ ...to, sizeBytes });
    await withImage({ ...to, readOnly: false }, async (target) => {
      // What the source holds beyond the disk's end is not the disk's.
      await pump(
        { read: (offset, piece) => source.read(offset, piece), write: (offset, piece) => target.write(offset, piece) },
        Math.min(sizeBytes, source.sizeBytes),
        progress,
      );
    });
  });
}

interface Ends {
  readonly read: (offset: number, piece: Buffer) => Promise<void>;
  readonly write: (offset: number, piece: Buffer) => Promise<void>;
}

/** Moves everything but what is zero. */
async function pump({ read, write }: Ends, sizeBytes: number, progress: Progress): Promise<void> {
  const buffer = Buffer.alloc(Math.min(PIECE_BYTES, sizeBytes));
  for (let offset = 0; offset < sizeBytes; offset += PIECE_BYTES) {
    const piece = buffer.subarray(0, Math.min(PIECE_BYTES, sizeBytes - offset));
    await read(offset, piece);
    for (let at = 0; at < piece.length; at += BLOCK_BYTES) {
      const block = piece.subarray(at, at + BLOCK_BYTES);
      if (!isZero(block)) await write(offset + at, block);
    }
    progress((offset * 100) / sizeBytes);
  }
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);
const isZero = (block: Buffer): boolean =>
  block.equals(block.length === BLOCK_BYTES ? ZEROS : ZEROS.subarray(0, block.length));

async function withImage<T>(
  spec: ImageFile & { readonly readOnly: boolean },
  work: (image: DiskImage) => Promise<T>,
): Promise<T> {
  const image = await openImage(spec);
  try {
    return await work(image);
  } finally {
    await image.close();
  }
}

async function withFile<T>(path: string, flags: string, work: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, flags, 0o600);
  try {
    return await work(file);
  } finally {
    await file.close();
  }
}

const STAT_BLOCK_BYTES = 512n;

/** Bytes that a file takes of its file system; 0 when it is not there. */
export async function allocatedBytes(path: string): Promise<number> {
  const found: BigIntStats | undefined = await stat(path, { bigint: true }).catch(() => undefined);
  return found ? Number(found.blocks * STAT_BLOCK_BYTES) : 0;
}
