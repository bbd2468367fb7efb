/** Opens qcow2 files: as a disk, as a snapshot of one, or for work on the image as a whole. */
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';
import type { DiskImage, ImageSnapshot } from '../types.ts';
import { checkStore, repairStore, type CheckResult } from './check.ts';
import type { Qcow2Header } from './header.ts';
import { Qcow2Image } from './image.ts';
import { readTable } from './refcounts.ts';
import { findSnapshot } from './snapshot-table.ts';
import * as changes from './snapshots.ts';
import { Qcow2Store } from './store.ts';
import { Tables } from './tables.ts';

export interface Qcow2OpenOptions {
  readonly snapshot: string | undefined;
  /** Opens the file that the header names. */
  readonly openBacking: (backing: NonNullable<Qcow2Header['backing']>) => Promise<DiskImage>;
}

/** The disk takes the file over: it is closed with it, and when this throws. */
export async function openQcow2(file: ImageFile, options: Qcow2OpenOptions): Promise<DiskImage> {
  try {
    const store = await openStore(file);
    const { backing } = store.header;
    return await diskOf(store, options.snapshot, backing && (await options.openBacking(backing)));
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openStore(file: ImageFile): Promise<Qcow2Store> {
  const store = await Qcow2Store.open(file);
  if (file.readOnly) return store;
  if (file.isDevice)
    throw new ImageError('UNSUPPORTED', `${file.path}: a qcow2 image on a block device is read, not written`);
  if (store.isCorrupt) {
    throw new ImageError(
      'CORRUPT',
      `${file.path} is marked as corrupt: it is read, not written (qemu-img check -r all)`,
    );
  }
  await store.clearAutoclear();
  if (!store.isDirty) return store;
  await repairStore(store);
  // What the repair has changed of the file is read anew.
  return Qcow2Store.open(file);
}

async function diskOf(
  store: Qcow2Store,
  snapshot: string | undefined,
  backing: DiskImage | undefined,
): Promise<DiskImage> {
  const { file, layout } = store;
  const common = { file, layout, compression: store.header.compression, backing };
  try {
    if (snapshot !== undefined) {
      if (!file.readOnly) throw new ImageError('READ_ONLY', 'a snapshot can be opened for reading only');
      const { l1Offset, l1Entries, sizeBytes } = findSnapshot(store.snapshots.entries, snapshot);
      const l1 = { offset: l1Offset, table: await readTable(file, l1Offset, l1Entries) };
      return new Qcow2Image({
        ...common,
        sizeBytes,
        tables: new Tables(file, layout, l1, undefined),
        writing: undefined,
      });
    }
    const { refcounts, allocator, tables, sizeBytes } = store;
    const resize = (bytes: number): Promise<void> => store.resize(bytes);
    return new Qcow2Image({
      ...common,
      sizeBytes,
      tables,
      writing: file.readOnly ? undefined : { refcounts, allocator, resize },
    });
  } catch (error) {
    await backing?.close();
    throw error;
  }
}

/** Runs work on a qcow2 image as a whole; nobody else may have it open for writing. */
export async function withStore<T>(file: ImageFile, work: (store: Qcow2Store) => Promise<T>): Promise<T> {
  try {
    const store = await openStore(file);
    const result = await work(store);
    if (!file.readOnly) {
      await store.allocator.flush();
      await store.allocator.close();
    }
    return result;
  } finally {
    await file.close();
  }
}

export const listSnapshots = (file: ImageFile): Promise<ImageSnapshot[]> =>
  withStore(file, (store) => Promise.resolve(store.snapshots.entries.map(toSnapshot)));

export const createSnapshot = (file: ImageFile, name: string): Promise<ImageSnapshot> =>
  withStore(file, async (store) => toSnapshot(await changes.createSnapshot(store, name, new Date())));

export const applySnapshot = (file: ImageFile, idOrName: string): Promise<void> =>
  withStore(file, (store) => changes.applySnapshot(store, idOrName));

export const deleteSnapshot = (file: ImageFile, idOrName: string): Promise<void> =>
  withStore(file, (store) => changes.deleteSnapshot(store, idOrName));

export const checkQcow2 = (file: ImageFile): Promise<CheckResult> => withStore(file, checkStore);

const toSnapshot = ({ id, name, sizeBytes, takenAt }: ImageSnapshot): ImageSnapshot => ({
  id,
  name,
  sizeBytes,
  takenAt,
});
