/**
 * qcow2 images, version 3 without extensions: made, grown, read and written by whole clusters. One file, no backing file, no
 * compression, no internal snapshots. Answers to QEMU's docs/interop/qcow2.txt. A crash at any point leaves an image that
 * is consistent, with at worst clusters that nothing uses.
 */
import { open, type FileHandle } from 'node:fs/promises';

const MAGIC = 0x514649fb;
const VERSION = 3;
const HEADER_BYTES = 104;
export const CLUSTER_BITS = 16;
export const CLUSTER_BYTES = 1 << CLUSTER_BITS;
const ENTRIES = CLUSTER_BYTES / 8;
/** Bytes of disk behind one entry of the L1 table. */
const L2_SPAN = ENTRIES * CLUSTER_BYTES;
/** Counts of 16 bits each. */
const REFCOUNT_ORDER = 4;
const COUNTS = CLUSTER_BYTES / 2;
/** What one cluster of the refcount table can count, which bounds the file; a disk stays well below it. */
export const MAX_QCOW2_BYTES = 8 * 2 ** 40;

const COPIED = 1n << 63n;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const ZERO = 1n;
const COMPRESSED = 1n << 62n;

/** Where the fields of the header are. */
const Header = {
  magic: 0, version: 4, backingOffset: 8, clusterBits: 20, size: 24, cryptMethod: 32, l1Size: 36, l1Offset: 40,
  refcountOffset: 48, refcountClusters: 56, nrSnapshots: 60, incompatible: 72, refcountOrder: 96, headerLength: 100,
} as const; // prettier-ignore

/** The file is no qcow2 image, or one with what we do not read. */
export class Qcow2Error extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'Qcow2Error';
  }
}

const clustersOf = (bytes: number): number => Math.ceil(bytes / CLUSTER_BYTES);
const l1EntriesOf = (size: number): number => Math.max(1, Math.ceil(size / L2_SPAN));

export class Qcow2Image {
  readonly #file: FileHandle;
  #size: number;
  #l1Offset: number;
  #l1: BigUint64Array;
  readonly #refcountOffset: number;
  /** Offsets of the blocks of counts; 0 = none yet. */
  readonly #refcountTable: BigUint64Array;
  /** Length of the file, in clusters. */
  #nrClusters: number;
  /** The last L2 table that was used: reading and writing go through a disk in order. */
  #l2: { readonly index: number; readonly offset: number; readonly table: BigUint64Array } | undefined;

  private constructor(
    file: FileHandle,
    parts: {
      size: number;
      l1Offset: number;
      l1: BigUint64Array;
      refcountOffset: number;
      refcountTable: BigUint64Array;
      nrClusters: number;
    },
  ) {
    this.#file = file;
    this.#size = parts.size;
    this.#l1Offset = parts.l1Offset;
    this.#l1 = parts.l1;
    this.#refcountOffset = parts.refcountOffset;
    this.#refcountTable = parts.refcountTable;
    this.#nrClusters = parts.nrClusters;
  }

  /** Bytes of the disk. */
  get size(): number {
    return this.#size;
  }

  /** Makes an empty image; the file must not be there. */
  static async create(path: string, size: number): Promise<Qcow2Image> {
    checkSize(size);
    const l1Entries = l1EntriesOf(size);
    const l1Clusters = clustersOf(l1Entries * 8);
    const nrClusters = 3 + l1Clusters;
    const [refcountOffset, blockOffset, l1Offset] = [1, 2, 3].map((cluster) => cluster * CLUSTER_BYTES) as [
      number,
      number,
      number,
    ];
    const file = await open(path, 'wx+', 0o600);
    try {
      const head = Buffer.alloc(nrClusters * CLUSTER_BYTES);
      head.writeUInt32BE(MAGIC, Header.magic);
      head.writeUInt32BE(VERSION, Header.version);
      head.writeUInt32BE(CLUSTER_BITS, Header.clusterBits);
      head.writeBigUInt64BE(BigInt(size), Header.size);
      head.writeUInt32BE(l1Entries, Header.l1Size);
      head.writeBigUInt64BE(BigInt(l1Offset), Header.l1Offset);
      head.writeBigUInt64BE(BigInt(refcountOffset), Header.refcountOffset);
      head.writeUInt32BE(1, Header.refcountClusters);
      head.writeUInt32BE(REFCOUNT_ORDER, Header.refcountOrder);
      head.writeUInt32BE(HEADER_BYTES, Header.headerLength);
      head.writeBigUInt64BE(BigInt(blockOffset), refcountOffset);
      for (let cluster = 0; cluster < nrClusters; cluster += 1) head.writeUInt16BE(1, blockOffset + cluster * 2);
      await file.write(head, 0, head.length, 0);
      const refcountTable = new BigUint64Array(ENTRIES);
      refcountTable[0] = BigInt(blockOffset);
      const l1 = new BigUint64Array(l1Entries);
      return new Qcow2Image(file, { size, l1Offset, l1, refcountOffset, refcountTable, nrClusters });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** Throws Qcow2Error. */
  static async open(path: string): Promise<Qcow2Image> {
    const file = await open(path, 'r+');
    try {
      const head = await readAt(file, 0, HEADER_BYTES);
      if (head.readUInt32BE(Header.magic) !== MAGIC) throw new Qcow2Error('no qcow2 image');
      const version = head.readUInt32BE(Header.version);
      const refused: [boolean, string][] = [
        [version !== VERSION, `version ${version}`],
        [head.readUInt32BE(Header.clusterBits) !== CLUSTER_BITS, 'clusters of another size'],
        [head.readBigUInt64BE(Header.backingOffset) !== 0n, 'a backing file'],
        [head.readUInt32BE(Header.cryptMethod) !== 0, 'encryption'],
        [head.readUInt32BE(Header.nrSnapshots) !== 0, 'internal snapshots'],
        [head.readBigUInt64BE(Header.incompatible) !== 0n, 'incompatible features'],
        [head.readUInt32BE(Header.refcountOrder) !== REFCOUNT_ORDER, 'counts of another size'],
        [head.readUInt32BE(Header.refcountClusters) !== 1, 'a long refcount table'],
      ];
      const found = refused.find(([yes]) => yes);
      if (found) throw new Qcow2Error(`a qcow2 image with ${found[1]}`);
      const size = offsetIn(head, Header.size);
      checkSize(size);
      const l1Entries = head.readUInt32BE(Header.l1Size);
      if (l1Entries < l1EntriesOf(size) || l1Entries > l1EntriesOf(MAX_QCOW2_BYTES)) {
        throw new Qcow2Error('a qcow2 image with an L1 table of the wrong size');
      }
      const l1Offset = offsetIn(head, Header.l1Offset);
      const refcountOffset = offsetIn(head, Header.refcountOffset);
      return new Qcow2Image(file, {
        size,
        l1Offset,
        l1: await readTable(file, l1Offset, l1Entries),
        refcountOffset,
        refcountTable: await readTable(file, refcountOffset, ENTRIES),
        nrClusters: clustersOf((await file.stat()).size),
      });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** One cluster of the disk, or undefined when it is all zero. Throws Qcow2Error. */
  async read(index: number): Promise<Buffer | undefined> {
    const l1Index = Math.floor(index / ENTRIES);
    const l2Offset = hostOffset(this.#l1[l1Index] ?? 0n);
    if (l2Offset === 0) return undefined;
    const l2 = await this.#l2Of(l1Index, l2Offset);
    const entry = l2.table[index % ENTRIES] ?? 0n;
    if (entry & COMPRESSED) throw new Qcow2Error('a qcow2 image with compressed clusters');
    const offset = hostOffset(entry);
    return offset === 0 || entry & ZERO ? undefined : readAt(this.#file, offset, CLUSTER_BYTES);
  }

  /** Writes one cluster of the disk for the first time; its bytes beyond the disk's end must be 0. */
  async write(index: number, data: Uint8Array): Promise<void> {
    const l1Index = Math.floor(index / ENTRIES);
    if (l1Index >= this.#l1.length || data.length !== CLUSTER_BYTES) throw new Qcow2Error('a write beyond the disk');
    let l2Offset = hostOffset(this.#l1[l1Index] ?? 0n);
    if (l2Offset === 0) {
      l2Offset = await this.#allocate(1);
      await this.#file.write(new Uint8Array(CLUSTER_BYTES), 0, CLUSTER_BYTES, l2Offset);
      this.#l1[l1Index] = BigInt(l2Offset) | COPIED;
      await writeEntry(this.#file, this.#l1Offset + l1Index * 8, this.#l1[l1Index] ?? 0n);
      this.#l2 = { index: l1Index, offset: l2Offset, table: new BigUint64Array(ENTRIES) };
    }
    const l2 = await this.#l2Of(l1Index, l2Offset);
    if (hostOffset(l2.table[index % ENTRIES] ?? 0n) !== 0) throw new Qcow2Error('a cluster that is already written');
    const offset = await this.#allocate(1);
    await this.#file.write(data, 0, CLUSTER_BYTES, offset);
    l2.table[index % ENTRIES] = BigInt(offset) | COPIED;
    await writeEntry(this.#file, l2Offset + (index % ENTRIES) * 8, BigInt(offset) | COPIED);
  }

  /** Makes the disk larger. */
  async grow(size: number): Promise<void> {
    checkSize(size);
    if (size < this.#size) throw new Qcow2Error('a disk cannot shrink');
    const entries = l1EntriesOf(size);
    const oldOffset = this.#l1Offset;
    const oldClusters = clustersOf(this.#l1.length * 8);
    const newClusters = clustersOf(entries * 8);
    const l1 = new BigUint64Array(Math.max(entries, this.#l1.length));
    l1.set(this.#l1);
    if (newClusters > oldClusters) {
      this.#l1Offset = await this.#allocate(newClusters);
      const table = Buffer.alloc(newClusters * CLUSTER_BYTES);
      for (const [index, entry] of l1.entries()) table.writeBigUInt64BE(entry, index * 8);
      await this.#file.write(table, 0, table.length, this.#l1Offset);
    }
    this.#l1 = l1;
    this.#size = size;
    await this.#file.sync();
    // One write within one sector: the header has the old values or the new ones.
    const fields = Buffer.alloc(Header.refcountOffset - Header.size);
    fields.writeBigUInt64BE(BigInt(size), 0);
    fields.writeUInt32BE(l1.length, Header.l1Size - Header.size);
    fields.writeBigUInt64BE(BigInt(this.#l1Offset), Header.l1Offset - Header.size);
    await this.#file.write(fields, 0, fields.length, Header.size);
    await this.#file.sync();
    if (newClusters > oldClusters) {
      for (let cluster = 0; cluster < oldClusters; cluster += 1) {
        await this.#setCount(oldOffset / CLUSTER_BYTES + cluster, 0);
      }
    }
  }

  /** Puts everything on the disk and closes the file. */
  async close(): Promise<void> {
    try {
      await this.#file.truncate(this.#nrClusters * CLUSTER_BYTES);
      await this.#file.sync();
    } finally {
      await this.#file.close();
    }
  }

  async #l2Of(index: number, offset: number) {
    if (this.#l2?.index !== index || this.#l2.offset !== offset) {
      this.#l2 = { index, offset, table: await readTable(this.#file, offset, ENTRIES) };
    }
    return this.#l2;
  }

  /** Clusters at the end of the file, one after another and counted. */
  async #allocate(count: number): Promise<number> {
    // A block of counts that is missing takes the next cluster, before what is asked for.
    let first = this.#nrClusters;
    while (!this.#hasBlocks(first, count)) {
      await this.#addBlock(first);
      first = this.#nrClusters;
    }
    this.#nrClusters = first + count;
    for (let cluster = first; cluster < first + count; cluster += 1) await this.#setCount(cluster, 1);
    return first * CLUSTER_BYTES;
  }

  #hasBlocks(first: number, count: number): boolean {
    for (let block = Math.floor(first / COUNTS); block <= Math.floor((first + count - 1) / COUNTS); block += 1) {
      if (block >= ENTRIES) throw new Qcow2Error('an image that is full');
      if (this.#refcountTable[block] === 0n) return false;
    }
    return true;
  }

  /** Adds the first missing block of counts from a cluster on. */
  async #addBlock(from: number): Promise<void> {
    let block = Math.floor(from / COUNTS);
    while (this.#refcountTable[block] !== 0n) block += 1;
    const cluster = this.#nrClusters;
    const counts = Buffer.alloc(CLUSTER_BYTES);
    const inItself = Math.floor(cluster / COUNTS) === block;
    if (inItself) counts.writeUInt16BE(1, (cluster % COUNTS) * 2);
    await this.#file.write(counts, 0, CLUSTER_BYTES, cluster * CLUSTER_BYTES);
    this.#nrClusters += 1;
    this.#refcountTable[block] = BigInt(cluster * CLUSTER_BYTES);
    await writeEntry(this.#file, this.#refcountOffset + block * 8, BigInt(cluster * CLUSTER_BYTES));
    if (!inItself) await this.#setCount(cluster, 1);
  }

  async #setCount(cluster: number, count: number): Promise<void> {
    const block = hostOffset(this.#refcountTable[Math.floor(cluster / COUNTS)] ?? 0n);
    const value = Buffer.alloc(2);
    value.writeUInt16BE(count);
    await this.#file.write(value, 0, 2, block + (cluster % COUNTS) * 2);
  }
}

const hostOffset = (entry: bigint): number => Number(entry & OFFSET_MASK);

function checkSize(size: number): void {
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_QCOW2_BYTES) {
    throw new Qcow2Error(`a disk of ${size} bytes is not supported`);
  }
}

function offsetIn(head: Buffer, at: number): number {
  const value = head.readBigUInt64BE(at);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new Qcow2Error('a qcow2 image with offsets out of range');
  return Number(value);
}

async function readAt(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  const { bytesRead } = await file.read(buffer, 0, length, offset);
  // The last cluster may end with the file: the rest of it is 0.
  return bytesRead === length ? buffer : buffer.fill(0, bytesRead);
}

async function readTable(file: FileHandle, offset: number, entries: number): Promise<BigUint64Array> {
  const bytes = await readAt(file, offset, entries * 8);
  return BigUint64Array.from({ length: entries }, (_, index) => bytes.readBigUInt64BE(index * 8));
}

async function writeEntry(file: FileHandle, offset: number, entry: bigint): Promise<void> {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(entry);
  await file.write(bytes, 0, 8, offset);
}
