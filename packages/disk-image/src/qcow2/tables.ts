/**
 * The map of a qcow2 disk: the L1 table, in memory whole, and the L2 tables behind it. A table that a snapshot points to as well is copied
 * before it is changed. What of the disk is looked at or changed is locked by the image.
 */
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';
import { TABLE_CACHE_BYTES } from '../limits.ts';
import { Mutex } from '../range-locks.ts';
import type { Allocator } from './allocator.ts';
import { COPIED, hostOffset, mappingOf, NONE, type Layout, type Mapping } from './layout.ts';
import { bigEndian } from './refcounts.ts';
import { TableCache, type Table } from './table-cache.ts';

export interface L1Place {
  offset: number;
  table: BigUint64Array;
}

export class Tables {
  readonly #file: ImageFile;
  readonly #layout: Layout;
  readonly #allocator: Allocator | undefined;
  readonly #cache: TableCache;
  readonly #mutex = new Mutex();
  readonly l1: L1Place;

  constructor(file: ImageFile, layout: Layout, l1: L1Place, allocator: Allocator | undefined) {
    this.#file = file;
    this.#layout = layout;
    this.l1 = l1;
    this.#allocator = allocator;
    this.#cache = new TableCache(file, layout.clusterBytes, TABLE_CACHE_BYTES);
  }

  /** The L2 table of an L1 entry when there is one. */
  async table(l1Index: number): Promise<Table | undefined> {
    const offset = this.#l2Offset(this.l1.table[l1Index] ?? 0n);
    return offset === 0 ? undefined : (this.#cache.peek(offset) ?? (await this.#cache.load(offset)));
  }

  /** Throws ImageError CORRUPT for a table that is not in the file. */
  #l2Offset(entry: bigint): number {
    const offset = hostOffset(entry, this.#layout);
    if (offset < this.#file.sizeBytes) return offset;
    throw new ImageError('CORRUPT', `a qcow2 image with an L2 table behind the file's end, at ${offset}`);
  }

  /** What the disk's clusters [first, first + count) are; `count` may cross tables. */
  async lookUp(first: number, count: number): Promise<Mapping[]> {
    const { l2Entries } = this.#layout;
    const found: Mapping[] = [];
    let table: Table | undefined;
    for (let cluster = first; cluster < first + count; cluster += 1) {
      const index = cluster % l2Entries;
      if (cluster === first || index === 0) table = await this.table(Math.floor(cluster / l2Entries));
      found.push(table ? mappingOf(table.view.getBigUint64(index * 8), this.#layout) : NONE);
    }
    return found;
  }

  /** Points entries of one L2 table, from that of the disk's cluster `first` on, to other places. */
  async setEntries(first: number, entries: readonly bigint[]): Promise<void> {
    const { l2Entries } = this.#layout;
    const table = await this.#writableTable(Math.floor(first / l2Entries));
    try {
      const bytes = Buffer.alloc(entries.length * 8);
      for (const [index, entry] of entries.entries()) bytes.writeBigUInt64BE(entry, index * 8);
      const at = (first % l2Entries) * 8;
      await this.#file.write(table.offset + at, bytes);
      table.bytes.set(bytes, at);
    } finally {
      table.pins -= 1;
    }
  }

  /** The table for changes, pinned. */
  async #writableTable(l1Index: number): Promise<Table> {
    const entry = this.l1.table[l1Index] ?? 0n;
    if (entry & COPIED) return this.#pinned(this.#l2Offset(entry));
    return this.#mutex.run(async () => {
      const now = this.l1.table[l1Index] ?? 0n;
      if (now & COPIED) return this.#pinned(this.#l2Offset(now));
      return this.#ownTable(l1Index, this.#l2Offset(now));
    });
  }

  async #pinned(offset: number): Promise<Table> {
    const table = this.#cache.peek(offset) ?? (await this.#cache.load(offset));
    table.pins += 1;
    return table;
  }

  /** Gives an L1 entry a table of its own: an empty one, or a copy of the one that it shares. */
  async #ownTable(l1Index: number, shared: number): Promise<Table> {
    if (!this.#allocator) throw new ImageError('READ_ONLY', 'the image is open for reading only');
    const { clusterBytes } = this.#layout;
    const run = await this.#allocator.take(1);
    const bytes = Buffer.alloc(clusterBytes);
    try {
      if (shared !== 0) (await this.#cache.load(shared)).bytes.copy(bytes);
      // A fresh cluster is an empty table already, whatever of it has reached the disk.
      if (shared !== 0 || !run.fresh) {
        await this.#file.write(run.offset, bytes);
        await this.#file.sync();
      }
    } catch (error) {
      this.#allocator.giveBack(run);
      throw error;
    }
    // In the cache before others can find it.
    const table = this.#cache.put(run.offset, bytes);
    table.pins += 1;
    try {
      await this.setL1Entry(l1Index, BigInt(run.offset) | COPIED);
    } catch (error) {
      table.pins -= 1;
      throw error;
    }
    if (shared !== 0) this.#allocator.free([shared / clusterBytes]);
    return table;
  }

  async setL1Entry(l1Index: number, entry: bigint): Promise<void> {
    await this.#file.write(this.l1.offset + l1Index * 8, bigEndian(entry));
    this.l1.table[l1Index] = entry;
  }

  /** Takes another L1 table; what was changed behind the cache's back is read anew. */
  replace(l1: L1Place): void {
    this.l1.offset = l1.offset;
    this.l1.table = l1.table;
    this.#cache.clear();
  }

  forget(): void {
    this.#cache.clear();
  }
}
