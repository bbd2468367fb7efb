/**
 * A qcow2 file with its header read: what an open disk (image.ts), its snapshots (snapshots.ts) and the checker (check.ts) stand on. Holds the
 * header's changing fields, and writes them.
 */
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';
import { MAX_L1_BYTES, MAX_SNAPSHOT_TABLE_BYTES } from '../limits.ts';
import { Allocator } from './allocator.ts';
import { Field, Incompatible, l1EntriesOf, parseHeader, type Qcow2Header } from './header.ts';
import { layoutOf, type Layout } from './layout.ts';
import { bigEndian, bigEndianTable, readTable, Refcounts } from './refcounts.ts';
import { parseSnapshots, type SnapshotEntry } from './snapshot-table.ts';
import { Tables, type L1Place } from './tables.ts';

const MAX_CLUSTER_BYTES = 2 ** 21;

export interface SnapshotsPlace {
  readonly offset: number;
  readonly entries: readonly SnapshotEntry[];
}

export class Qcow2Store {
  readonly file: ImageFile;
  readonly header: Qcow2Header;
  readonly layout: Layout;
  readonly refcounts: Refcounts;
  readonly allocator: Allocator;
  readonly tables: Tables;
  #sizeBytes: number;
  #incompatible: bigint;
  #snapshots: SnapshotsPlace;

  private constructor(
    file: ImageFile,
    header: Qcow2Header,
    parts: { readonly l1: L1Place; readonly refcountTable: BigUint64Array; readonly snapshots: SnapshotEntry[] },
  ) {
    this.file = file;
    this.header = header;
    this.layout = layoutOf(header);
    this.refcounts = new Refcounts(file, this.layout, { offset: header.refcountOffset, table: parts.refcountTable });
    this.allocator = new Allocator(file, this.layout, this.refcounts, header.sizeBytes);
    this.tables = new Tables(file, this.layout, parts.l1, this.allocator);
    this.#sizeBytes = header.sizeBytes;
    this.#incompatible = header.incompatible;
    this.#snapshots = { offset: header.snapshotsOffset, entries: parts.snapshots };
  }

  /** Throws ImageError. */
  static async open(file: ImageFile): Promise<Qcow2Store> {
    const head = Buffer.alloc(Math.min(file.sizeBytes, MAX_CLUSTER_BYTES));
    await file.read(0, head);
    const header = parseHeader(head);
    const layout = layoutOf(header);
    const inFile = (offset: number, bytes: number, name: string): void => {
      if (offset + bytes <= file.sizeBytes + layout.clusterBytes) return;
      throw new ImageError('CORRUPT', `a qcow2 image with ${name} behind the file's end`);
    };
    inFile(header.l1Offset, header.l1Entries * 8, 'an L1 table');
    inFile(header.refcountOffset, header.refcountClusters * layout.clusterBytes, 'a refcount table');
    const snapshots = Buffer.alloc(
      header.nrSnapshots === 0
        ? 0
        : Math.max(0, Math.min(MAX_SNAPSHOT_TABLE_BYTES, file.sizeBytes - header.snapshotsOffset)),
    );
    await file.read(header.snapshotsOffset, snapshots);
    return new Qcow2Store(file, header, {
      l1: { offset: header.l1Offset, table: await readTable(file, header.l1Offset, header.l1Entries) },
      refcountTable: await readTable(file, header.refcountOffset, header.refcountClusters * layout.l2Entries),
      snapshots: parseSnapshots(snapshots, header.nrSnapshots, layout, header.sizeBytes),
    });
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get isDirty(): boolean {
    return (this.#incompatible & Incompatible.dirty) !== 0n;
  }

  get isCorrupt(): boolean {
    return (this.#incompatible & Incompatible.corrupt) !== 0n;
  }

  get snapshots(): SnapshotsPlace {
    return this.#snapshots;
  }

  /**
   * While the counts are not to be trusted, a version 3 image says so, and whoever opens it counts anew. Version 2 cannot say it: what a crash
   * leaves there is counts that are too high.
   */
  async setDirty(dirty: boolean): Promise<void> {
    if (this.layout.version < 3) return;
    this.#incompatible = dirty ? this.#incompatible | Incompatible.dirty : this.#incompatible & ~Incompatible.dirty;
    await this.file.sync();
    await this.file.write(Field.incompatible, bigEndian(this.#incompatible));
    await this.file.sync();
  }

  /** What others keep in the image about its contents (bitmaps) is no longer right once we write. */
  async clearAutoclear(): Promise<void> {
    if (this.header.autoclear === 0n) return;
    await this.file.write(Field.autoclear, bigEndian(0n));
    await this.file.sync();
  }

  /** A row of clusters that holds these bytes, on stable storage. */
  async place(bytes: Buffer): Promise<number> {
    const { clusterBytes } = this.layout;
    const row = await this.allocator.takeRow(Math.max(1, Math.ceil(bytes.length / clusterBytes)));
    await this.file.write(row.offset, bytes);
    await this.file.sync();
    return row.offset;
  }

  /** The clusters of something that lies in a row. */
  row(offset: number, bytes: number): number[] {
    const { clusterBytes } = this.layout;
    const first = offset / clusterBytes;
    return Array.from({ length: Math.max(1, Math.ceil(bytes / clusterBytes)) }, (_, index) => first + index);
  }

  /** One write within one sector: the header has the old disk or the new one. */
  async setDisk(sizeBytes: number, l1: L1Place): Promise<void> {
    const fields = Buffer.alloc(Field.refcountOffset - Field.sizeBytes);
    fields.writeBigUInt64BE(BigInt(sizeBytes), 0);
    fields.writeUInt32BE(l1.table.length, Field.l1Entries - Field.sizeBytes);
    fields.writeBigUInt64BE(BigInt(l1.offset), Field.l1Offset - Field.sizeBytes);
    await this.file.sync();
    await this.file.write(Field.sizeBytes, fields);
    await this.file.sync();
    this.#sizeBytes = sizeBytes;
    this.tables.replace(l1);
  }

  async setSnapshots(entries: readonly SnapshotEntry[]): Promise<void> {
    const bytes = Buffer.concat(entries.map((entry) => entry.bytes));
    if (bytes.length > MAX_SNAPSHOT_TABLE_BYTES) throw new ImageError('LIMIT', 'too many snapshots in one image');
    const offset = entries.length === 0 ? 0 : await this.place(bytes);
    const fields = Buffer.alloc(12);
    fields.writeUInt32BE(entries.length, 0);
    fields.writeBigUInt64BE(BigInt(offset), 4);
    await this.file.write(Field.nrSnapshots, fields);
    await this.file.sync();
    const old = this.#snapshots;
    this.#snapshots = { offset, entries };
    if (old.entries.length > 0) this.allocator.free(this.row(old.offset, bytesOf(old.entries)));
  }

  /** Makes the disk larger: its L1 table moves when it no longer fits. */
  async resize(sizeBytes: number): Promise<void> {
    const { clusterBits, clusterBytes } = this.layout;
    if (this.layout.version < 3 && this.#snapshots.entries.length > 0) {
      throw new ImageError('UNSUPPORTED', 'a qcow2 image of version 2 with snapshots keeps its size');
    }
    const { l1 } = this.tables;
    const entries = Math.max(l1.table.length, l1EntriesOf(sizeBytes, clusterBits));
    if (entries * 8 > MAX_L1_BYTES) throw new ImageError('LIMIT', `a qcow2 disk of ${sizeBytes} bytes`);
    const table = new BigUint64Array(entries);
    table.set(l1.table);
    const room = Math.ceil((l1.table.length * 8) / clusterBytes) * clusterBytes;
    if (entries * 8 <= room) {
      // Behind the old entries the cluster may hold anything.
      await this.file.write(l1.offset, bigEndianTable(table));
      await this.setDisk(sizeBytes, { offset: l1.offset, table });
      return;
    }
    const old = l1.table.length > 0 ? this.row(l1.offset, l1.table.length * 8) : [];
    const offset = await this.place(bigEndianTable(table));
    await this.setDisk(sizeBytes, { offset, table });
    this.allocator.free(old);
  }
}

export const bytesOf = (entries: readonly SnapshotEntry[]): number =>
  entries.reduce((sum, entry) => sum + entry.bytes.length, 0);
