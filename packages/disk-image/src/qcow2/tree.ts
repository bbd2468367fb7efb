/** Walks what an L1 table points to, as the file holds it. */
import type { ImageFile } from '../file/image-file.ts';
import { clustersOf, COMPRESSED, COPIED, hostOffset, mappingOf, type Layout } from './layout.ts';
import type { Refcounts } from './refcounts.ts';

export interface L2Visit {
  readonly l1Index: number;
  readonly offset: number;
  readonly bytes: Buffer;
  readonly view: DataView;
}

/** Throws ImageError CORRUPT. The table's buffer is used again for the next. */
export async function* l2Tables(file: ImageFile, layout: Layout, l1: BigUint64Array): AsyncGenerator<L2Visit> {
  const bytes = Buffer.alloc(layout.clusterBytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const [l1Index, entry] of l1.entries()) {
    const offset = hostOffset(entry, layout);
    if (offset === 0) continue;
    await file.read(offset, bytes);
    yield { l1Index, offset, bytes, view };
  }
}

/** The clusters that one L2 table uses, itself included, in ascending order, as often as it uses them. */
export function clustersOfTable(table: L2Visit, layout: Layout): number[] {
  const found = [table.offset / layout.clusterBytes];
  for (let index = 0; index < layout.l2Entries; index += 1) {
    const entry = table.view.getBigUint64(index * 8);
    if (entry !== 0n) found.push(...clustersOf(mappingOf(entry, layout), layout));
  }
  return found.sort((a, b) => a - b);
}

/** The entry with COPIED as the count says, which `count` tells of its cluster. */
export function withCopied(entry: bigint, layout: Layout, isOne: (cluster: number) => boolean): bigint {
  if (entry & COMPRESSED) return entry & ~COPIED;
  const offset = hostOffset(entry, layout);
  if (offset === 0) return entry & ~COPIED;
  return isOne(offset / layout.clusterBytes) ? entry | COPIED : entry & ~COPIED;
}

/**
 * Makes COPIED of every entry of an L1 table and of its L2 tables what `isOne` says of the cluster; changes the file, and the L1 table in
 * memory.
 */
export async function setCopied(
  file: ImageFile,
  layout: Layout,
  l1: { readonly offset: number; readonly table: BigUint64Array },
  isOne: (cluster: number) => boolean | Promise<boolean>,
): Promise<void> {
  for await (const table of l2Tables(file, layout, l1.table)) {
    const known = new Map<number, boolean>();
    for (const cluster of clustersOfTable(table, layout)) {
      const one = isOne(cluster);
      known.set(cluster, typeof one === 'boolean' ? one : await one);
    }
    const isKnownOne = (cluster: number): boolean => known.get(cluster) === true;
    let changed = false;
    for (let index = 0; index < layout.l2Entries; index += 1) {
      const entry = table.view.getBigUint64(index * 8);
      if (entry === 0n) continue;
      const right = withCopied(entry, layout, isKnownOne);
      if (right === entry) continue;
      table.view.setBigUint64(index * 8, right);
      changed = true;
    }
    if (changed) await file.write(table.offset, table.bytes);
    l1.table[table.l1Index] = withCopied(l1.table[table.l1Index] ?? 0n, layout, isKnownOne);
  }
  const bytes = Buffer.alloc(l1.table.length * 8);
  for (const [index, entry] of l1.table.entries()) bytes.writeBigUInt64BE(entry, index * 8);
  if (bytes.length > 0) await file.write(l1.offset, bytes);
}

/** What a count says of COPIED. */
export function countedOnce(refcounts: Refcounts): (cluster: number) => boolean | Promise<boolean> {
  return (cluster) => {
    const now = refcounts.countNow(cluster);
    return now === undefined ? refcounts.count(cluster).then((count) => count === 1) : now === 1;
  };
}
