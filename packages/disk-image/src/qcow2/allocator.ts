/**
 * Gives out clusters of a qcow2 file and takes them back, so that a crash at any point costs space at worst.
 *
 * Clusters are counted as used before anything points to them, a stretch at a time: the count of a whole stretch is on stable storage before its
 * first cluster is given out, so that giving out needs no further write. What is left of the stretch goes back on close.
 * What has lost its last pointer is uncounted only after the next flush: only then has the pointer gone from stable storage
 * as well, and only then may the cluster become something else.
 */
import type { ImageFile } from '../file/image-file.ts';
import { Mutex } from '../range-locks.ts';
import type { Layout } from './layout.ts';
import type { Refcounts } from './refcounts.ts';

export interface Run {
  readonly offset: number;
  readonly clusters: number;
  /** Never written: reads as zero even after a power failure. */
  readonly fresh: boolean;
}

/** Counted ahead: as many clusters as this has, but no more than a part of the disk, and within the bounds. */
const STRETCH_BYTES = 8 * 2 ** 20;
const STRETCH_PART = 16;
const MIN_STRETCH = 4;
const MAX_STRETCH = 1024;
/** Clusters that wait for a flush before they are uncounted; one more and we flush. */
const MAX_FREED = 8192;
/** A hole costs a command to make: of this length, and so many for one flush. */
const MIN_HOLE_BYTES = 2 ** 20;
const MAX_HOLES = 64;

interface Stretch {
  first: number;
  length: number;
  readonly fresh: boolean;
}

export class Allocator {
  readonly #file: ImageFile;
  readonly #layout: Layout;
  readonly #refcounts: Refcounts;
  readonly #mutex = new Mutex();
  readonly #stretch: number;
  #spare: Stretch[] = [];
  #freed: number[] = [];
  #spareClusters = 0;
  #refilling: Promise<void> | undefined;
  /** No cluster below it is free, but for those that have not been seen. */
  #scanFrom = 0;
  /** The first cluster behind the file. */
  #end: number;

  constructor(file: ImageFile, layout: Layout, refcounts: Refcounts, diskBytes: number) {
    this.#file = file;
    this.#layout = layout;
    this.#refcounts = refcounts;
    this.#end = Math.ceil(file.sizeBytes / layout.clusterBytes);
    const wanted = Math.floor(Math.min(STRETCH_BYTES, diskBytes / STRETCH_PART) / layout.clusterBytes);
    this.#stretch = Math.min(MAX_STRETCH, Math.max(MIN_STRETCH, wanted));
  }

  /** Up to `most` clusters in a row, counted once. */
  async take(most: number): Promise<Run> {
    for (;;) {
      const run = this.#takeSpare(most);
      // The next stretch is made while this one is used up.
      if (this.#spareClusters <= this.#stretch / 2) this.#refilling ??= this.#refillOnce();
      if (run) {
        // Whoever needs what could not be had tries again and hears why.
        this.#refilling?.catch(() => undefined);
        return run;
      }
      await this.#refilling;
    }
  }

  #takeSpare(most: number): Run | undefined {
    const stretch = this.#spare[0];
    if (!stretch) return undefined;
    const clusters = Math.min(most, stretch.length);
    const offset = stretch.first * this.#layout.clusterBytes;
    stretch.first += clusters;
    stretch.length -= clusters;
    this.#spareClusters -= clusters;
    if (stretch.length === 0) this.#spare.shift();
    return { offset, clusters, fresh: stretch.fresh };
  }

  #addSpare(stretch: Stretch): void {
    this.#spare.push(stretch);
    this.#spareClusters += stretch.length;
  }

  async #refillOnce(): Promise<void> {
    try {
      await this.#mutex.run(() => this.#refill());
    } finally {
      this.#refilling = undefined;
    }
  }

  /** Takes back what was given out and has never been pointed to. */
  giveBack(run: Run): void {
    this.#addSpare({ first: run.offset / this.#layout.clusterBytes, length: run.clusters, fresh: false });
  }

  /** Clusters that one pointer less points to, as of writes that have been made. */
  free(clusters: readonly number[]): void {
    for (const cluster of clusters) this.#freed.push(cluster);
  }

  /** Whether it is time for a flush. */
  get hasManyFreed(): boolean {
    return this.#freed.length > MAX_FREED;
  }

  /** Everything written so far on stable storage; then what it has freed is uncounted. */
  async flush(): Promise<void> {
    const freed = this.#freed;
    this.#freed = [];
    try {
      await this.#file.sync();
    } catch (error) {
      this.#freed = freed.concat(this.#freed);
      throw error;
    }
    if (freed.length === 0) return;
    // Nobody gets one of them before it is a hole: what comes there is written afterwards.
    await this.#mutex.run(async () => {
      await this.#makeHoles(await this.#uncount(freed));
    });
  }

  /** Gives the space of long runs of free clusters back to the file system. */
  async #makeHoles(clusters: readonly number[]): Promise<void> {
    const { clusterBytes } = this.#layout;
    let holes = 0;
    for (let at = 0; at < clusters.length && this.#file.canPunch;) {
      const first = clusters[at] ?? 0;
      let length = 1;
      while (clusters[at + length] === first + length) length += 1;
      at += length;
      if (length * clusterBytes < MIN_HOLE_BYTES) continue;
      await this.#file.punch(first * clusterBytes, length * clusterBytes);
      if ((holes += 1) === MAX_HOLES) return;
    }
  }

  /** Returns those that nothing uses any more, in ascending order. */
  async #uncount(clusters: readonly number[]): Promise<number[]> {
    const ascending = [...clusters].sort((a, b) => a - b);
    const gone = await this.#refcounts.change(ascending, -1);
    for (const cluster of gone) this.#scanFrom = Math.min(this.#scanFrom, cluster);
    return gone;
  }

  /** Counts each of the clusters once more: a snapshot points to them too. Ascending order. */
  count(clusters: readonly number[]): Promise<void> {
    return this.#mutex.run(async () => {
      await this.#refcounts.change(clusters, 1);
    });
  }

  /** Clusters in a row, however many, at the file's end. */
  takeRow(clusters: number): Promise<Run> {
    return this.#mutex.run(async () => {
      for (;;) {
        const first = await this.#unusedEnd(clusters);
        // What was made for the counts has moved the end: look again.
        if (first !== this.#end) continue;
        await this.#lengthen(first + clusters);
        const row = Array.from({ length: clusters }, (_, index) => first + index);
        await this.#refcounts.change(row, 1);
        await this.#file.sync();
        return { offset: first * this.#layout.clusterBytes, clusters, fresh: true };
      }
    });
  }

  /** Gives back what was counted ahead, and the end of the file with it. The image is not used afterwards. */
  async close(): Promise<void> {
    await this.#mutex.run(async () => {
      const spare = this.#spare.flatMap(({ first, length }) => Array.from({ length }, (_, index) => first + index));
      this.#spare = [];
      this.#spareClusters = 0;
      if (spare.length === 0) return;
      await this.#uncount(spare);
      let end = this.#end;
      const gone = new Set(spare);
      while (gone.has(end - 1)) end -= 1;
      if (end < this.#end) await this.#file.truncate(end * this.#layout.clusterBytes);
      await this.#file.sync();
    });
  }

  async #refill(): Promise<void> {
    const { blockCounts } = this.#layout;
    while (this.#scanFrom < this.#end) {
      const from = this.#scanFrom;
      const last = Math.min(this.#end, (Math.floor(from / blockCounts) + 1) * blockCounts);
      const run = await this.#refcounts.freeRun(from, Math.min(this.#stretch, last - from));
      this.#scanFrom = run ? Math.min(last, run.first + run.length) : last;
      if (!run || run.first >= last) continue;
      return this.#reserve(run.first, Math.min(run.length, last - run.first), false);
    }
    const first = await this.#unusedEnd(1);
    const run = await this.#refcounts.freeRun(first, this.#stretch);
    if (!run || run.first !== first) return;
    await this.#lengthen(first + run.length);
    await this.#reserve(first, run.length, true);
  }

  async #reserve(first: number, length: number, fresh: boolean): Promise<void> {
    const { blockCounts } = this.#layout;
    const block = Math.floor(first / blockCounts);
    if (!this.#refcounts.hasBlock(block)) {
      // Within the file and never counted: its first cluster becomes the block.
      await this.#refcounts.addBlock(block, first);
      if (length === 1) return;
      await this.#reserve(first + 1, length - 1, fresh);
      return;
    }
    const row = Array.from({ length }, (_, index) => first + index);
    await this.#refcounts.change(row, 1);
    await this.#file.sync();
    this.#addSpare({ first, length, fresh });
    this.#scanFrom = Math.max(this.#scanFrom, first + length);
  }

  async #lengthen(end: number): Promise<void> {
    await this.#file.truncate(end * this.#layout.clusterBytes);
    this.#end = end;
    this.#scanFrom = Math.max(this.#scanFrom, end);
  }

  /**
   * A cluster at the end of the file, with `clusters - 1` more behind it, that nothing is counted for, and whose blocks of counts are there. May
   * make blocks, or a longer table of them, which moves the end.
   */
  async #unusedEnd(clusters: number): Promise<number> {
    const { blockCounts } = this.#layout;
    for (;;) {
      // A crash may have left counts for clusters that the file does not reach.
      let first = this.#end;
      for (let at = first; at < first + clusters;) {
        const block = Math.floor(at / blockCounts);
        if (!this.#refcounts.hasBlock(block)) break;
        const most = Math.min(first + clusters - at, (block + 1) * blockCounts - at);
        const run = await this.#refcounts.freeRun(at, most);
        if (run?.first === at && run.length === most) at += most;
        else first = at = run ? (run.first === at ? at + run.length : run.first) : (block + 1) * blockCounts;
      }
      if (first !== this.#end) {
        await this.#lengthen(first);
        continue;
      }
      const missing = this.#missingBlock(first, clusters);
      if (missing === undefined) return first;
      await this.#makeBlock(missing);
    }
  }

  #missingBlock(first: number, clusters: number): number | undefined {
    const { blockCounts } = this.#layout;
    for (let block = Math.floor(first / blockCounts); block * blockCounts < first + clusters; block += 1) {
      if (!this.#refcounts.hasBlock(block)) return block;
    }
    return undefined;
  }

  /** Makes a block of counts out of the file's next cluster. */
  async #makeBlock(block: number): Promise<void> {
    const { blockCounts } = this.#layout;
    if (block >= this.#refcounts.nrBlocks) {
      const moved = await this.#refcounts.moveTable(this.#end, block + 1);
      this.#end = moved.end;
      await this.#uncount(moved.old);
      return;
    }
    const at = this.#end;
    const own = Math.floor(at / blockCounts);
    if (own !== block) {
      if (!this.#refcounts.hasBlock(own)) {
        await this.#makeBlock(own);
        return;
      }
      await this.#refcounts.change([at], 1);
    }
    await this.#lengthen(at + 1);
    await this.#refcounts.addBlock(block, at);
  }
}
