/**
 * The counts of a qcow2 image's clusters: a table of blocks of counts. Changes are written when they are made; all run one at a time.
 * Which clusters are given out and when they come back is allocator.ts's.
 */
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';
import { MAX_REFCOUNT_TABLE_BYTES, TABLE_CACHE_BYTES } from '../limits.ts';
import { countBytes, maxCount, readCount, writeCount } from './counts.ts';
import { Field } from './header.ts';
import { hostOffset, type Layout } from './layout.ts';
import { TableCache, type Table } from './table-cache.ts';

export class Refcounts {
  readonly #file: ImageFile;
  readonly #layout: Layout;
  readonly #blocks: TableCache;
  #offset: number;
  #table: BigUint64Array;

  constructor(file: ImageFile, layout: Layout, place: { readonly offset: number; readonly table: BigUint64Array }) {
    this.#file = file;
    this.#layout = layout;
    this.#blocks = new TableCache(file, layout.clusterBytes, TABLE_CACHE_BYTES / 4);
    this.#offset = place.offset;
    this.#table = place.table;
  }

  get tableOffset(): number {
    return this.#offset;
  }

  get tableBytes(): number {
    return this.#table.length * 8;
  }

  /** Offsets of the blocks; 0 = none. Throws ImageError CORRUPT. */
  blockOffset(block: number): number {
    const offset = hostOffset(this.#table[block] ?? 0n, this.#layout);
    if (offset === 0 || offset < this.#file.sizeBytes) return offset;
    throw new ImageError('CORRUPT', `a qcow2 image with counts behind the file's end, at ${offset}`);
  }

  get nrBlocks(): number {
    return this.#table.length;
  }

  async count(cluster: number): Promise<number> {
    const { blockCounts, refcountOrder } = this.#layout;
    const block = await this.#block(Math.floor(cluster / blockCounts));
    return block ? readCount(block.view, refcountOrder, cluster % blockCounts) : 0;
  }

  /** The count when its block is in memory. */
  countNow(cluster: number): number | undefined {
    const { blockCounts, refcountOrder } = this.#layout;
    const offset = this.blockOffset(Math.floor(cluster / blockCounts));
    if (offset === 0) return 0;
    const block = this.#blocks.peek(offset);
    return block && readCount(block.view, refcountOrder, cluster % blockCounts);
  }

  async #block(index: number): Promise<Table | undefined> {
    const offset = this.blockOffset(index);
    return offset === 0 ? undefined : this.#blocks.load(offset);
  }

  /**
   * The first run of clusters of no count from `from` on within from's block, at most `most` of them; undefined when the block has none. A block
   * that is not there has nothing but such.
   */
  async freeRun(from: number, most: number): Promise<{ readonly first: number; readonly length: number } | undefined> {
    const { blockCounts, refcountOrder } = this.#layout;
    const index = Math.floor(from / blockCounts);
    const block = await this.#block(index);
    const last = (index + 1) * blockCounts;
    if (!block) return { first: from, length: Math.min(most, last - from) };
    const isFree = (cluster: number): boolean => readCount(block.view, refcountOrder, cluster % blockCounts) === 0;
    let first = from;
    while (first < last && !isFree(first)) first += 1;
    if (first === last) return undefined;
    let end = first + 1;
    while (end < last && end - first < most && isFree(end)) end += 1;
    return { first, length: end - first };
  }

  /**
   * Adds to the counts of clusters, which are in ascending order and may come more than once, and returns those that have come down to
   * none. Throws ImageError LIMIT, with nothing changed, where a count would not fit; a count that is none stays so.
   */
  async change(clusters: readonly number[], delta: 1 | -1): Promise<number[]> {
    const { blockCounts, refcountOrder } = this.#layout;
    if (delta > 0) await this.#refuseOverflow(clusters);
    const freed: number[] = [];
    for (const { block, mine } of await this.#byBlock(clusters)) {
      const before = Buffer.from(block.bytes);
      for (const cluster of mine) {
        const count = readCount(block.view, refcountOrder, cluster % blockCounts);
        if (count === 0 && delta < 0) continue;
        writeCount(block.view, refcountOrder, cluster % blockCounts, count + delta);
        if (count + delta === 0) freed.push(cluster);
      }
      await this.#writeBack(block, before, (mine[0] ?? 0) % blockCounts, (mine.at(-1) ?? 0) % blockCounts);
    }
    return freed;
  }

  async #refuseOverflow(clusters: readonly number[]): Promise<void> {
    const most = maxCount(this.#layout.refcountOrder);
    let times = 0;
    for (const [index, cluster] of clusters.entries()) {
      times = clusters[index - 1] === cluster ? times + 1 : 1;
      const count = this.countNow(cluster) ?? (await this.count(cluster));
      if (!this.hasBlock(Math.floor(cluster / this.#layout.blockCounts))) {
        throw new ImageError('CORRUPT', 'a qcow2 image with a cluster that is used and not counted');
      }
      if (count + times > most) {
        throw new ImageError('LIMIT', `a qcow2 image whose counts end at ${most}: it can have no more snapshots`);
      }
    }
  }

  /** The clusters block by block; those of blocks that are not there are left out. */
  async #byBlock(clusters: readonly number[]): Promise<{ readonly block: Table; readonly mine: number[] }[]> {
    const rows = new Map<number, number[]>();
    for (const cluster of clusters) {
      const index = Math.floor(cluster / this.#layout.blockCounts);
      const row = rows.get(index);
      if (row) row.push(cluster);
      else rows.set(index, [cluster]);
    }
    const found: { block: Table; mine: number[] }[] = [];
    for (const [index, mine] of rows) {
      const block = await this.#block(index);
      if (block) found.push({ block, mine });
    }
    return found;
  }

  /** Sets one count, for repairs. */
  async set(cluster: number, count: number): Promise<void> {
    const { blockCounts, refcountOrder } = this.#layout;
    const block = await this.#block(Math.floor(cluster / blockCounts));
    if (!block) throw new ImageError('CORRUPT', 'a qcow2 image with a cluster that is used and not counted');
    const before = Buffer.from(block.bytes);
    writeCount(block.view, refcountOrder, cluster % blockCounts, count);
    await this.#writeBack(block, before, cluster % blockCounts, cluster % blockCounts);
  }

  async #writeBack(block: Table, before: Buffer, first: number, last: number): Promise<void> {
    const { start, end } = countBytes(this.#layout.refcountOrder, first, last);
    block.pins += 1;
    try {
      await this.#file.write(block.offset + start, block.bytes.subarray(start, end));
    } catch (error) {
      block.bytes.set(before);
      throw error;
    } finally {
      block.pins -= 1;
    }
  }

  /** Whether the block of a cluster is there. */
  hasBlock(block: number): boolean {
    return (this.#table[block] ?? 0n) !== 0n;
  }

  /**
   * Makes a block out of the cluster `at`, which must be free, and lie in the block itself or be counted already. The counts of
   * `at` (in the first case) are 1, all others none.
   */
  async addBlock(block: number, at: number): Promise<void> {
    const { clusterBytes, blockCounts, refcountOrder } = this.#layout;
    const bytes = Buffer.alloc(clusterBytes);
    if (Math.floor(at / blockCounts) === block) {
      writeCount(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), refcountOrder, at % blockCounts, 1);
    }
    await this.#file.write(at * clusterBytes, bytes);
    await this.#file.sync();
    const entry = BigInt(at * clusterBytes);
    await this.#file.write(this.#offset + block * 8, bigEndian(entry));
    this.#table[block] = entry;
    this.#blocks.put(at * clusterBytes, bytes);
    await this.#file.sync();
  }

  /**
   * Moves the table to `end`, the first cluster behind all that is used, with room for `nrBlocks` blocks at least, and returns the new first
   * unused cluster and the clusters of the old table. What the new table needs of new blocks comes right behind it.
   */
  async moveTable(end: number, nrBlocks: number): Promise<{ readonly end: number; readonly old: readonly number[] }> {
    const { clusterBytes, l2Entries, blockCounts, refcountOrder } = this.#layout;
    const plan = this.#planTable(end, nrBlocks);
    if (plan.tableClusters * clusterBytes > MAX_REFCOUNT_TABLE_BYTES) {
      throw new ImageError('LIMIT', 'a qcow2 image that has become too large for its table of counts');
    }
    const table = new BigUint64Array(plan.tableClusters * l2Entries);
    table.set(this.#table);
    const last = end + plan.tableClusters + plan.newBlocks.length;
    const blocks = new Map<number, Buffer>();
    for (const [order, block] of plan.newBlocks.entries()) {
      blocks.set(block, Buffer.alloc(clusterBytes));
      table[block] = BigInt((end + plan.tableClusters + order) * clusterBytes);
    }
    for (let cluster = end; cluster < last; cluster += 1) {
      const bytes = blocks.get(Math.floor(cluster / blockCounts));
      if (bytes) writeCount(new DataView(bytes.buffer, bytes.byteOffset), refcountOrder, cluster % blockCounts, 1);
      else await this.set(cluster, 1);
    }
    for (const [block, bytes] of blocks) await this.#file.write(Number(table[block] ?? 0n), bytes);
    await this.#file.write(end * clusterBytes, bigEndianTable(table));
    await this.#file.sync();
    // One write within one sector: the header has the old table or the new one.
    const fields = Buffer.alloc(12);
    fields.writeBigUInt64BE(BigInt(end * clusterBytes), 0);
    fields.writeUInt32BE(plan.tableClusters, 8);
    await this.#file.write(Field.refcountOffset, fields);
    await this.#file.sync();
    const oldFirst = this.#offset / clusterBytes;
    const old = Array.from({ length: this.tableBytes / clusterBytes }, (_, index) => oldFirst + index);
    this.#offset = end * clusterBytes;
    this.#table = table;
    return { end: last, old };
  }

  /** How long the new table is, and which blocks have to be made for it and for themselves. */
  #planTable(end: number, nrBlocks: number): { readonly tableClusters: number; readonly newBlocks: readonly number[] } {
    const { l2Entries, blockCounts } = this.#layout;
    let newBlocks: number[] = [];
    let tableClusters = 0;
    for (;;) {
      const needed = Math.max(nrBlocks, Math.floor((end + tableClusters + newBlocks.length) / blockCounts) + 1);
      // Half as much again, so that it moves seldom.
      tableClusters = Math.max(tableClusters, Math.ceil((needed * 1.5) / l2Entries));
      const last = end + tableClusters + newBlocks.length - 1;
      const missing: number[] = [];
      for (let block = Math.floor(end / blockCounts); block <= Math.floor(last / blockCounts); block += 1) {
        if (!this.hasBlock(block)) missing.push(block);
      }
      if (missing.length === newBlocks.length) return { tableClusters, newBlocks };
      newBlocks = missing;
    }
  }
}

export function bigEndian(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}

/** The bytes of a table of 64-bit entries. */
export function bigEndianTable(table: BigUint64Array): Buffer {
  const bytes = Buffer.alloc(table.length * 8);
  for (const [index, entry] of table.entries()) if (entry !== 0n) bytes.writeBigUInt64BE(entry, index * 8);
  return bytes;
}

/** Reads a table of 64-bit entries. */
export async function readTable(file: ImageFile, offset: number, entries: number): Promise<BigUint64Array> {
  const bytes = Buffer.alloc(entries * 8);
  if (entries > 0) await file.read(offset, bytes);
  const table = new BigUint64Array(entries);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let index = 0; index < entries; index += 1) table[index] = view.getBigUint64(index * 8);
  return table;
}
