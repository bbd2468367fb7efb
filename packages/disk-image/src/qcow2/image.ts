/**
 * An open qcow2 image. Answers to QEMU's docs/interop/qcow2.txt.
 *
 * Order of writes, which is what keeps a cut-off image whole: data, then counts (allocator.ts makes them ahead), then the entry that points
 * to it. An entry is written before the write that needed it is answered, so that a killed process loses nothing; where a power failure could
 * show something else than the old data or the new (an old cluster's place, a copy of a part of the cluster), data is synced before the entry.
 */
import { BaseImage } from '../base-image.ts';
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';
import { MAX_DISK_BYTES, PIECE_BYTES } from '../limits.ts';
import { RangeLocks } from '../range-locks.ts';
import type { DiskImage } from '../types.ts';
import { allDone, fillZero, slicePieces } from '../vector.ts';
import type { Allocator, Run } from './allocator.ts';
import { CompressedReader } from './compressed.ts';
import type { Compression } from './header.ts';
import { clustersOf, COPIED, NONE, ZERO, type Layout, type Mapping } from './layout.ts';
import type { Refcounts } from './refcounts.ts';
import type { Tables } from './tables.ts';

export interface Qcow2Parts {
  readonly file: ImageFile;
  readonly layout: Layout;
  readonly sizeBytes: number;
  readonly compression: Compression;
  readonly tables: Tables;
  readonly backing: DiskImage | undefined;
  /** What writing needs; undefined for an image that is only read. */
  readonly writing: Writing | undefined;
}

export interface Writing {
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  /** Enlarges the L1 table and writes the new size down. */
  readonly resize: (sizeBytes: number) => Promise<void>;
}

const EVERYTHING = Number.MAX_SAFE_INTEGER;
const ZEROS = new Uint8Array(PIECE_BYTES);

/** A run of the disk that is read in one go. */
interface Extent {
  readonly mapping: Mapping;
  readonly offset: number;
  length: number;
}

export class Qcow2Image extends BaseImage {
  readonly format = 'qcow2';
  readonly supportsDiscard: boolean;
  readonly #parts: Qcow2Parts;
  readonly #file: ImageFile;
  readonly #layout: Layout;
  readonly #tables: Tables;
  readonly #compressed: CompressedReader;
  readonly #locks = new RangeLocks();
  #sizeBytes: number;

  constructor(parts: Qcow2Parts) {
    super();
    this.#parts = parts;
    this.#file = parts.file;
    this.#layout = parts.layout;
    this.#tables = parts.tables;
    this.#sizeBytes = parts.sizeBytes;
    this.#compressed = new CompressedReader(parts.file, parts.layout.clusterBytes, parts.compression);
    this.supportsDiscard = parts.writing !== undefined;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get readOnly(): boolean {
    return this.#parts.writing === undefined;
  }

  get #writing(): Writing {
    if (!this.#parts.writing) throw new ImageError('READ_ONLY', 'the image is open for reading only');
    return this.#parts.writing;
  }

  /** Runs work with nothing else under way: snapshots, which change the map as a whole. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#locked(0, EVERYTHING, true, work);
  }

  async #locked<T>(offset: number, length: number, exclusive: boolean, work: () => Promise<T>): Promise<T> {
    const { clusterBytes } = this.#layout;
    const start = offset - (offset % clusterBytes);
    const end = Math.ceil((offset + length) / clusterBytes) * clusterBytes;
    const lock = this.#locks.tryAcquire(start, end, exclusive) ?? (await this.#locks.acquire(start, end, exclusive));
    try {
      return await work();
    } finally {
      this.#locks.release(lock);
    }
  }

  protected readRange(offset: number, targets: readonly Uint8Array[], length: number): Promise<void> {
    return this.#locked(offset, length, false, () => this.#read(offset, targets, length));
  }

  async #read(offset: number, targets: readonly Uint8Array[], length: number): Promise<void> {
    const extents = await this.#extents(offset, length);
    const only = extents.length === 1 ? extents[0] : undefined;
    if (only) return this.#readExtent(only, targets);
    await allDone(
      extents.map((extent) => this.#readExtent(extent, slicePieces(targets, extent.offset - offset, extent.length))),
    );
  }

  /** Clusters that lie in a row in the file too are one. */
  async #extents(offset: number, length: number): Promise<Extent[]> {
    const { clusterBytes } = this.#layout;
    const first = Math.floor(offset / clusterBytes);
    const count = Math.floor((offset + length - 1) / clusterBytes) - first + 1;
    const extents: Extent[] = [];
    let last: Extent | undefined;
    for (const [index, mapping] of (await this.#tables.lookUp(first, count)).entries()) {
      const start = Math.max(offset, (first + index) * clusterBytes);
      const bytes = Math.min(offset + length, (first + index + 1) * clusterBytes) - start;
      if (last && continues(last, mapping, start, clusterBytes)) last.length += bytes;
      else extents.push((last = { mapping, offset: start, length: bytes }));
    }
    return extents;
  }

  async #readExtent({ mapping, offset, length }: Extent, targets: readonly Uint8Array[]): Promise<void> {
    const within = offset % this.#layout.clusterBytes;
    switch (mapping.kind) {
      case 'data':
        return this.#file.readv(mapping.host + within, targets);
      case 'zero':
        fillZero(targets);
        return;
      case 'none':
        return this.#readBacking(offset, targets, length);
      case 'compressed': {
        const cluster = await this.#compressed.read(mapping.host, mapping.bytes);
        let at = within;
        for (const target of targets) {
          cluster.copy(target, 0, at, at + target.length);
          at += target.length;
        }
      }
    }
  }

  async #readBacking(offset: number, targets: readonly Uint8Array[], length: number): Promise<void> {
    const { backing } = this.#parts;
    const there = backing ? Math.max(0, Math.min(length, backing.sizeBytes - offset)) : 0;
    if (backing && there > 0) await backing.readv(offset, slicePieces(targets, 0, there));
    if (there < length) fillZero(slicePieces(targets, there, length - there));
  }

  protected async writeRange(offset: number, pieces: readonly Uint8Array[], length: number): Promise<void> {
    const inPlace = await this.#locked(offset, length, false, () => this.#writeInPlace(offset, pieces, length));
    if (!inPlace) await this.#locked(offset, length, true, () => this.#write(offset, pieces, length));
    await this.#relieve();
  }

  /** False, and nothing is done, where some cluster has no place that is this disk's alone. */
  async #writeInPlace(offset: number, pieces: readonly Uint8Array[], length: number): Promise<boolean> {
    const extents = await this.#extents(offset, length);
    if (!extents.every(({ mapping }) => mapping.kind === 'data' && mapping.writable)) return false;
    await allDone(
      extents.map((extent) => this.#writeExtent(extent, slicePieces(pieces, extent.offset - offset, extent.length))),
    );
    return true;
  }

  async #writeExtent({ mapping, offset, length }: Extent, pieces: readonly Uint8Array[]): Promise<void> {
    if (mapping.kind !== 'data') throw new Error('a write in place without a place');
    const host = mapping.host + (offset % this.#layout.clusterBytes);
    this.#refuseMetadata(host, length);
    await this.#file.writev(host, pieces);
  }

  /** A damaged map must not lead a guest's bytes over the tables, or far behind the file (the header's place, 0, means nowhere). */
  #refuseMetadata(host: number, length: number): void {
    const { clusterBytes } = this.#layout;
    const { refcounts } = this.#writing;
    const { l1 } = this.#tables;
    const hits = (start: number, bytes: number): boolean => host < start + bytes && start < host + length;
    const bad =
      hits(l1.offset, l1.table.length * 8) ||
      hits(refcounts.tableOffset, refcounts.tableBytes) ||
      host + length > this.#file.sizeBytes + clusterBytes;
    if (bad) throw new ImageError('CORRUPT', `a qcow2 image with data where it cannot be, at ${host}`);
  }

  /** With the range locked exclusively. */
  async #write(offset: number, pieces: readonly Uint8Array[], length: number): Promise<void> {
    const { clusterBytes, l2Entries } = this.#layout;
    let at = offset;
    const end = offset + length;
    while (at < end) {
      const cluster = Math.floor(at / clusterBytes);
      // As far as one L2 table goes, in runs that are all new or all in place.
      const tableEnd = (cluster - (cluster % l2Entries) + l2Entries) * clusterBytes;
      const [extent] = await this.#extents(at, Math.min(end, tableEnd) - at);
      if (!extent) break;
      if (extent.mapping.kind === 'data' && extent.mapping.writable) {
        await this.#writeExtent(extent, slicePieces(pieces, at - offset, extent.length));
        at += extent.length;
      } else {
        const most = Math.ceil((at + extent.length) / clusterBytes) - cluster;
        at += await this.#writeNew(at, slicePieces(pieces, at - offset, extent.length), extent.length, most);
      }
    }
  }

  /** Writes what fits into one run of new clusters, and returns how many bytes that was. */
  async #writeNew(offset: number, pieces: readonly Uint8Array[], length: number, most: number): Promise<number> {
    const { clusterBytes } = this.#layout;
    const { allocator } = this.#writing;
    const cluster = Math.floor(offset / clusterBytes);
    const run = await allocator.take(most);
    let old: Mapping[];
    const bytes = Math.min(length, (cluster + run.clusters) * clusterBytes - offset);
    try {
      old = await this.#tables.lookUp(cluster, run.clusters);
      await this.#fill(run, offset, slicePieces(pieces, 0, bytes), bytes, old);
    } catch (error) {
      allocator.giveBack(run);
      throw error;
    }
    const entries = old.map((_, index) => BigInt(run.offset + index * clusterBytes) | COPIED);
    await this.#tables.setEntries(cluster, entries);
    this.#free(old);
    return bytes;
  }

  /** Puts data into new clusters, with what they held around it. */
  async #fill(
    run: Run,
    offset: number,
    pieces: readonly Uint8Array[],
    bytes: number,
    old: readonly Mapping[],
  ): Promise<void> {
    const { clusterBytes } = this.#layout;
    const before = offset % clusterBytes;
    const after = run.clusters * clusterBytes - before - bytes;
    const wasZero = old.every((mapping) => this.#readsAsZero(mapping));
    // What is new and around zeros is right as it is.
    if (wasZero && run.fresh) return this.#file.writev(run.offset + before, pieces);
    const head = await this.#old(offset - before, before);
    const tail = await this.#old(offset + bytes, after);
    await this.#file.writev(
      run.offset,
      [head, ...pieces, tail].filter((piece) => piece.length > 0),
    );
    await this.#file.sync();
  }

  #readsAsZero(mapping: Mapping): boolean {
    return mapping.kind === 'zero' || (mapping.kind === 'none' && !this.#parts.backing);
  }

  /** What the disk holds there now; zeros behind its end. */
  async #old(offset: number, length: number): Promise<Uint8Array> {
    const bytes = Buffer.alloc(length);
    const there = Math.max(0, Math.min(length, this.#sizeBytes - offset));
    if (there > 0) await this.#read(offset, [bytes.subarray(0, there)], there);
    return bytes;
  }

  #free(old: readonly Mapping[]): void {
    const { allocator } = this.#writing;
    for (const mapping of old) {
      if (mapping.kind === 'compressed') this.#compressed.forget();
      allocator.free(clustersOf(mapping, this.#layout));
    }
  }

  /** A guest that frees and never flushes does not make the list of what is free grow for ever. */
  async #relieve(): Promise<void> {
    if (this.#writing.allocator.hasManyFreed) await this.#writing.allocator.flush();
  }

  protected async discardRange(offset: number, length: number): Promise<void> {
    // Over a backing file, only a cluster that says zero hides what is below; version 2 has none.
    if (this.#parts.backing && this.#layout.version < 3) return;
    await this.#unmap(offset, length, (mapping) => mapping.kind !== 'none');
  }

  protected async zeroRange(offset: number, length: number): Promise<void> {
    const { clusterBytes } = this.#layout;
    const start = Math.ceil(offset / clusterBytes) * clusterBytes;
    const atEnd = offset + length === this.#sizeBytes;
    const end = atEnd ? offset + length : offset + length - ((offset + length) % clusterBytes);
    if (start >= end || (this.#parts.backing && this.#layout.version < 3)) {
      await this.#writeZeros(offset, length);
      return;
    }
    await this.#writeZeros(offset, start - offset);
    await this.#unmap(start, end - start, (mapping) => !this.#readsAsZero(mapping));
    await this.#writeZeros(end, offset + length - end);
  }

  async #writeZeros(offset: number, length: number): Promise<void> {
    for (let at = offset; at < offset + length;) {
      const piece = Math.min(PIECE_BYTES, offset + length - at);
      const extents = await this.#locked(at, piece, false, () => this.#extents(at, piece));
      const first = extents[0];
      if (first && this.#readsAsZero(first.mapping)) at += first.length;
      else {
        const bytes = first?.length ?? piece;
        await this.writeRange(at, [ZEROS.subarray(0, bytes)], bytes);
        at += bytes;
      }
    }
  }

  /** Makes the whole clusters within a range read as zero, those that `which` picks, and frees their space. */
  async #unmap(offset: number, length: number, which: (mapping: Mapping) => boolean): Promise<void> {
    const { clusterBytes, l2Entries } = this.#layout;
    const first = Math.ceil(offset / clusterBytes);
    const end = offset + length;
    const last = end === this.#sizeBytes ? Math.ceil(end / clusterBytes) : Math.floor(end / clusterBytes);
    for (let cluster = first; cluster < last;) {
      const next = Math.min(last, cluster - (cluster % l2Entries) + l2Entries);
      const count = next - cluster;
      await this.#locked(cluster * clusterBytes, count * clusterBytes, true, () =>
        this.#unmapInTable(cluster, count, which),
      );
      await this.#relieve();
      cluster = next;
    }
  }

  async #unmapInTable(first: number, count: number, which: (mapping: Mapping) => boolean): Promise<void> {
    if (!which(NONE) && !(await this.#tables.table(Math.floor(first / this.#layout.l2Entries)))) return;
    const old = await this.#tables.lookUp(first, count);
    const empty = this.#parts.backing ? ZERO : 0n;
    for (let from = 0; from < count;) {
      const start = old.findIndex((mapping, index) => index >= from && which(mapping));
      if (start < 0) return;
      const stop = old.findIndex((mapping, index) => index > start && !which(mapping));
      from = stop < 0 ? count : stop;
      const entries = new Array<bigint>(from - start).fill(empty);
      await this.#tables.setEntries(first + start, entries);
      this.#free(old.slice(start, from));
    }
  }

  protected flushAll(): Promise<void> {
    return this.#writing.allocator.flush();
  }

  protected async growTo(sizeBytes: number): Promise<void> {
    if (sizeBytes > MAX_DISK_BYTES) throw new ImageError('LIMIT', `a disk has ${MAX_DISK_BYTES} bytes at most`);
    const before = this.#sizeBytes;
    await this.alone(() => this.#writing.resize(sizeBytes));
    this.#sizeBytes = sizeBytes;
    // What was behind the end comes into view: the rest of the last cluster, and the backing file's.
    const { clusterBytes } = this.#layout;
    const rest = Math.ceil(before / clusterBytes) * clusterBytes;
    const visible = Math.min(sizeBytes, Math.max(rest, this.#parts.backing?.sizeBytes ?? 0));
    if (visible > before) await this.zeroRange(before, visible - before);
    await this.flushAll();
  }

  protected lookAtSize(): Promise<number> {
    return Promise.resolve(this.#sizeBytes);
  }

  protected async release(clean: boolean): Promise<void> {
    try {
      if (clean) await this.#parts.writing?.allocator.close();
    } finally {
      await this.#file.close();
      await this.#parts.backing?.close();
    }
  }
}

/** Whether a cluster goes on where an extent ends. */
function continues(last: Extent, mapping: Mapping, start: number, clusterBytes: number): boolean {
  if (mapping.kind !== last.mapping.kind || mapping.kind === 'compressed') return false;
  if (mapping.kind !== 'data' || last.mapping.kind !== 'data') return true;
  const within = start - (last.offset - (last.offset % clusterBytes));
  return mapping.writable === last.mapping.writable && mapping.host === last.mapping.host + within;
}
