/**
 * Counts the clusters of a qcow2 image anew and compares: a count that is too high is a leak (space that nothing uses), one that is too
 * low, and a COPIED that is wrong, is an error. Repairs an image that was left dirty.
 */
import { ImageError } from '../errors.ts';
import { MAX_CHECKED_CLUSTERS } from '../limits.ts';
import { COPIED, hostOffset } from './layout.ts';
import { readTable } from './refcounts.ts';
import { bytesOf, type Qcow2Store } from './store.ts';
import { clustersOfTable, countedOnce, l2Tables, setCopied, withCopied } from './tree.ts';

export interface CheckResult {
  readonly leaks: number;
  readonly errors: number;
  /** What is wrong, the first few. */
  readonly details: readonly string[];
}

const MAX_DETAILS = 20;

/** How often each cluster of the file is used. Throws ImageError CORRUPT. */
async function countUses(store: Qcow2Store): Promise<Uint32Array> {
  const { file, layout, refcounts } = store;
  const nrClusters = Math.ceil(file.sizeBytes / layout.clusterBytes);
  if (nrClusters > MAX_CHECKED_CLUSTERS) {
    throw new ImageError('LIMIT', `a qcow2 image of ${nrClusters} clusters: too large to be checked here`);
  }
  const uses = new Uint32Array(nrClusters);
  const use = (clusters: readonly number[]): void => {
    for (const cluster of clusters) {
      if (cluster >= nrClusters)
        throw new ImageError('CORRUPT', `a qcow2 image with cluster ${cluster} behind its end`);
      uses[cluster] = (uses[cluster] ?? 0) + 1;
    }
  };
  use([0]);
  use(store.row(refcounts.tableOffset, refcounts.tableBytes));
  for (let block = 0; block < refcounts.nrBlocks; block += 1) {
    if (refcounts.hasBlock(block)) use([refcounts.blockOffset(block) / layout.clusterBytes]);
  }
  const { offset, entries } = store.snapshots;
  if (entries.length > 0) use(store.row(offset, bytesOf(entries)));
  const { l1 } = store.tables;
  const places = [{ offset: l1.offset, table: l1.table }];
  for (const { l1Offset, l1Entries } of entries) {
    places.push({ offset: l1Offset, table: await readTable(file, l1Offset, l1Entries) });
  }
  for (const place of places) {
    if (place.offset !== 0) use(store.row(place.offset, place.table.length * 8));
    for await (const table of l2Tables(file, layout, place.table)) use(clustersOfTable(table, layout));
  }
  return uses;
}

export async function checkStore(store: Qcow2Store): Promise<CheckResult> {
  const { layout, refcounts } = store;
  const uses = await countUses(store);
  const details: string[] = [];
  let [leaks, errors] = [0, 0];
  const tell = (text: string): void => {
    if (details.length < MAX_DETAILS) details.push(text);
  };
  for (const [cluster, used] of uses.entries()) {
    const count = refcounts.countNow(cluster) ?? (await refcounts.count(cluster));
    if (count === used) continue;
    if (count > used) leaks += 1;
    else errors += 1;
    tell(`cluster ${cluster}: counted ${count}, used ${used}`);
  }
  const isOne = (cluster: number): boolean => refcounts.countNow(cluster) === 1;
  const isRight = async (entry: bigint): Promise<boolean> => {
    await refcounts.count(hostOffset(entry, layout) / layout.clusterBytes);
    return withCopied(entry, layout, isOne) === entry;
  };
  for await (const table of l2Tables(store.file, layout, store.tables.l1.table)) {
    const pointer = store.tables.l1.table[table.l1Index] ?? 0n;
    if (!(await isRight(pointer))) {
      errors += 1;
      tell(`L1 entry ${table.l1Index}: COPIED is ${(pointer & COPIED) !== 0n}`);
    }
    for (let index = 0; index < layout.l2Entries; index += 1) {
      const entry = table.view.getBigUint64(index * 8);
      if (entry === 0n || (await isRight(entry))) continue;
      errors += 1;
      tell(`L2 entry ${index} at ${table.offset}: COPIED is ${(entry & COPIED) !== 0n}`);
    }
  }
  return { leaks, errors, details };
}

/** Makes the counts of an image that was left dirty what they have to be, and says that it is clean. Throws ImageError CORRUPT. */
export async function repairStore(store: Qcow2Store): Promise<void> {
  await addMissingBlocks(store);
  const uses = await countUses(store);
  const lower: [number, number][] = [];
  // First what is too low: a repair that is cut short must not have freed what is used.
  for (const [cluster, used] of uses.entries()) {
    const count = store.refcounts.countNow(cluster) ?? (await store.refcounts.count(cluster));
    if (count < used) await store.refcounts.set(cluster, used);
    else if (count > used) lower.push([cluster, used]);
  }
  await store.file.sync();
  for (const [cluster, used] of lower) await store.refcounts.set(cluster, used);
  await setCopied(store.file, store.layout, store.tables.l1, countedOnce(store.refcounts));
  store.tables.forget();
  await store.setDirty(false);
}

/** Every cluster of the file gets a place where it is counted. */
async function addMissingBlocks(store: Qcow2Store): Promise<void> {
  const { layout, refcounts } = store;
  for (let block = 0; ; block += 1) {
    let end = Math.ceil(store.file.sizeBytes / layout.clusterBytes);
    if (block * layout.blockCounts >= end) return;
    if (block >= refcounts.nrBlocks) {
      throw new ImageError(
        'CORRUPT',
        'a qcow2 image left dirty, with a table of counts that is too short: qemu-img check -r all',
      );
    }
    if (refcounts.hasBlock(block)) continue;
    // Its own count is set by the repair, whichever block that is in.
    await store.file.truncate((end += 1) * layout.clusterBytes);
    await refcounts.addBlock(block, end - 1);
  }
}
