/**
 * Internal snapshots of a qcow2 image: another L1 table over the same clusters, each counted once more. Every change runs alone on the image and
 * under its dirty mark, so that one cut short is counted anew when the image is opened next.
 */
import { ImageError } from '../errors.ts';
import { MAX_SNAPSHOTS } from '../limits.ts';
import { bigEndianTable, readTable } from './refcounts.ts';
import { encodeSnapshot, findSnapshot, nextId, type SnapshotEntry } from './snapshot-table.ts';
import type { Qcow2Store } from './store.ts';
import { clustersOfTable, countedOnce, l2Tables, setCopied } from './tree.ts';
import type { L1Place } from './tables.ts';

export async function createSnapshot(store: Qcow2Store, name: string, takenAt: Date): Promise<SnapshotEntry> {
  const { entries } = store.snapshots;
  if (entries.length >= MAX_SNAPSHOTS) throw new ImageError('LIMIT', `an image has ${MAX_SNAPSHOTS} snapshots at most`);
  const { l1 } = store.tables;
  const request = { id: nextId(entries), name, takenAt, sizeBytes: store.sizeBytes, l1Entries: l1.table.length };
  // A name that is refused must not leave anything behind.
  encodeSnapshot({ ...request, l1Offset: 0 });
  return changing(store, async () => {
    await setCopied(store.file, store.layout, l1, () => false);
    store.tables.forget();
    await countTree(store, l1.table);
    const l1Offset = await store.place(bigEndianTable(l1.table));
    const entry: SnapshotEntry = { ...request, l1Offset, bytes: encodeSnapshot({ ...request, l1Offset }) };
    await store.setSnapshots([...entries, entry]);
    return entry;
  });
}

export async function deleteSnapshot(store: Qcow2Store, idOrName: string): Promise<void> {
  const { entries } = store.snapshots;
  const gone = findSnapshot(entries, idOrName);
  await changing(store, async () => {
    const table = await readTable(store.file, gone.l1Offset, gone.l1Entries);
    await store.setSnapshots(entries.filter((entry) => entry !== gone));
    await freeTree(store, table);
    store.allocator.free(store.row(gone.l1Offset, gone.l1Entries * 8));
  });
}

/** Makes the disk what it was when the snapshot was taken. */
export async function applySnapshot(store: Qcow2Store, idOrName: string): Promise<void> {
  const chosen = findSnapshot(store.snapshots.entries, idOrName);
  await changing(store, async () => {
    const old: L1Place = { ...store.tables.l1 };
    const table = await readTable(store.file, chosen.l1Offset, chosen.l1Entries);
    await countTree(store, table);
    const offset = await store.place(bigEndianTable(table));
    await store.setDisk(chosen.sizeBytes, { offset, table });
    await freeTree(store, old.table);
    if (old.table.length > 0) store.allocator.free(store.row(old.offset, old.table.length * 8));
  });
}

/** Runs a change under the dirty mark, and leaves COPIED and counts right whether it succeeds or not. */
async function changing<T>(store: Qcow2Store, work: () => Promise<T>): Promise<T> {
  await store.allocator.flush();
  await store.setDirty(true);
  try {
    return await work();
  } finally {
    await store.allocator.flush();
    await setCopied(store.file, store.layout, store.tables.l1, countedOnce(store.refcounts));
    store.tables.forget();
    await store.setDirty(false);
  }
}

/** Counts once more what an L1 table points to; all of it or, when it throws, nothing. */
async function countTree(store: Qcow2Store, l1: BigUint64Array): Promise<void> {
  let counted = 0;
  try {
    for await (const table of l2Tables(store.file, store.layout, l1)) {
      await store.allocator.count(clustersOfTable(table, store.layout));
      counted = table.l1Index + 1;
    }
  } catch (error) {
    await freeTree(store, l1.slice(0, counted));
    throw error;
  }
}

/** What an L1 table points to is used once less, as of the next flush. */
async function freeTree(store: Qcow2Store, l1: BigUint64Array): Promise<void> {
  for await (const table of l2Tables(store.file, store.layout, l1)) {
    store.allocator.free(clustersOfTable(table, store.layout));
    if (store.allocator.hasManyFreed) await store.allocator.flush();
  }
}
