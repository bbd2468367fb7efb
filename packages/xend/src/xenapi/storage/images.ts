/** Disk images as files: raw ones with holes, and qcow2. Made under another name first, so that what has its name is whole. */
import { constants, type BigIntStats } from 'node:fs';
import { copyFile, open, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { CLUSTER_BYTES, Qcow2Image } from './qcow2.ts';

export type ImageFormat = 'raw' | 'qcow2';

/** The name that an image has while it is being made. */
export const MAKING_SUFFIX = '.making';

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
  await making(path, async (temporary) => {
    if (format === 'qcow2') {
      await (await Qcow2Image.create(temporary, sizeBytes)).close();
      return;
    }
    await withFile(temporary, 'wx', async (file) => {
      await file.truncate(sizeBytes);
      await file.sync();
    });
  });
}

/** Makes the disk in a file larger. */
export async function growImage(path: string, format: ImageFormat, sizeBytes: number): Promise<void> {
  if (format === 'qcow2') {
    const image = await Qcow2Image.open(path);
    try {
      await image.grow(sizeBytes);
    } finally {
      await image.close();
    }
    return;
  }
  await withFile(path, 'r+', async (file) => {
    await file.truncate(sizeBytes);
    await file.sync();
  });
}

export interface ImageFile {
  readonly path: string;
  readonly format: ImageFormat;
}

/** Copies a disk into a new file, from one format into the other where they differ. */
export async function copyImage(from: ImageFile, to: ImageFile, sizeBytes: number, progress: Progress): Promise<void> {
  await making(to.path, async (temporary) => {
    if (from.format === to.format) {
      if (await cloneFile(from.path, temporary)) return;
      const { size } = await stat(from.path);
      await withFile(from.path, 'r', (source) =>
        writeRaw(temporary, size, (index, length) => readPiece(source, index, length), progress),
      );
    } else if (to.format === 'qcow2') {
      await withFile(from.path, 'r', (source) => rawToQcow2(source, temporary, sizeBytes, progress));
    } else {
      const source = await Qcow2Image.open(from.path);
      try {
        await writeRaw(temporary, sizeBytes, (index) => source.read(index), progress);
      } finally {
        await source.close();
      }
    }
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

const ZEROS = Buffer.alloc(CLUSTER_BYTES);
const isZero = (piece: Buffer): boolean =>
  piece.equals(piece.length === CLUSTER_BYTES ? ZEROS : ZEROS.subarray(0, piece.length));

/** Writes a raw file from pieces of a cluster each; undefined and zero ones become holes. */
async function writeRaw(
  path: string,
  sizeBytes: number,
  read: (index: number, length: number) => Promise<Buffer | undefined>,
  progress: Progress,
): Promise<void> {
  await withFile(path, 'wx', async (file) => {
    await file.truncate(sizeBytes);
    for (let offset = 0; offset < sizeBytes; offset += CLUSTER_BYTES) {
      const length = Math.min(CLUSTER_BYTES, sizeBytes - offset);
      const piece = (await read(offset / CLUSTER_BYTES, length))?.subarray(0, length);
      if (piece && !isZero(piece)) await file.write(piece, 0, length, offset);
      progress((offset * 100) / sizeBytes);
    }
    await file.sync();
  });
}

async function readPiece(file: FileHandle, index: number, length: number): Promise<Buffer> {
  const piece = Buffer.alloc(length);
  await file.read(piece, 0, length, index * CLUSTER_BYTES);
  return piece;
}

async function rawToQcow2(source: FileHandle, path: string, sizeBytes: number, progress: Progress): Promise<void> {
  const image = await Qcow2Image.create(path, sizeBytes);
  try {
    for (let offset = 0; offset < sizeBytes; offset += CLUSTER_BYTES) {
      const piece = await readPiece(source, offset / CLUSTER_BYTES, CLUSTER_BYTES);
      // What the file holds beyond the disk's end is not the disk's.
      if (offset + CLUSTER_BYTES > sizeBytes) piece.fill(0, sizeBytes - offset);
      if (!isZero(piece)) await image.write(offset / CLUSTER_BYTES, piece);
      progress((offset * 100) / sizeBytes);
    }
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

const BLOCK_BYTES = 512n;

/** Bytes that a file takes of its file system; 0 when it is not there. */
export async function allocatedBytes(path: string): Promise<number> {
  const found: BigIntStats | undefined = await stat(path, { bigint: true }).catch(() => undefined);
  return found ? Number(found.blocks * BLOCK_BYTES) : 0;
}
