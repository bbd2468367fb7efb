/** The table of internal snapshots, as bytes. A snapshot is another L1 table; answers to QEMU's docs/interop/qcow2.txt, "Snapshots". */
import { ImageError } from '../errors.ts';
import { MAX_DISK_BYTES, MAX_L1_BYTES } from '../limits.ts';
import type { ImageSnapshot } from '../types.ts';
import { l1EntriesOf } from './header.ts';
import type { Layout } from './layout.ts';

const At = {
  l1Offset: 0,
  l1Entries: 8,
  idBytes: 12,
  nameBytes: 14,
  seconds: 16,
  nanoseconds: 20,
  extraBytes: 36,
} as const;
const FIXED_BYTES = 40;
/** In the extra data: where the disk's size is, and how long that makes it. */
const EXTRA_DISK_BYTES = 8;
const EXTRA_BYTES = 16;
const MAX_TEXT_BYTES = 255;

export interface SnapshotEntry extends ImageSnapshot {
  readonly l1Offset: number;
  readonly l1Entries: number;
  /** The entry as it stands in the table, padded. */
  readonly bytes: Buffer;
}

const corrupt = (what: string): ImageError => new ImageError('CORRUPT', `a qcow2 image with a snapshot with ${what}`);

/** Takes bytes from the table's start on, at least as many as it has. Throws ImageError CORRUPT. */
export function parseSnapshots(bytes: Buffer, count: number, layout: Layout, diskBytes: number): SnapshotEntry[] {
  const entries: SnapshotEntry[] = [];
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    const entry = parseSnapshot(bytes.subarray(at), layout, diskBytes);
    at += entry.bytes.length;
    entries.push(entry);
  }
  return entries;
}

function parseSnapshot(bytes: Buffer, layout: Layout, diskBytes: number): SnapshotEntry {
  if (bytes.length < FIXED_BYTES) throw corrupt('half an entry');
  const extraBytes = bytes.readUInt32BE(At.extraBytes);
  const idBytes = bytes.readUInt16BE(At.idBytes);
  const nameBytes = bytes.readUInt16BE(At.nameBytes);
  const end = FIXED_BYTES + extraBytes + idBytes + nameBytes;
  if (end > bytes.length) throw corrupt('half an entry');
  const l1Entries = bytes.readUInt32BE(At.l1Entries);
  if (l1Entries * 8 > MAX_L1_BYTES) throw corrupt(`an L1 table of ${l1Entries} entries`);
  const l1Offset = bytes.readBigUInt64BE(At.l1Offset);
  if (l1Offset % BigInt(layout.clusterBytes) !== 0n || l1Offset > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw corrupt('a misplaced L1 table');
  }
  const size = extraBytes >= EXTRA_BYTES ? bytes.readBigUInt64BE(FIXED_BYTES + EXTRA_DISK_BYTES) : BigInt(diskBytes);
  if (size > BigInt(MAX_DISK_BYTES) || l1EntriesOf(Number(size), layout.clusterBits) > l1Entries) {
    throw corrupt(`a disk of ${size} bytes`);
  }
  const text = (from: number, length: number): string => bytes.toString('utf8', from, from + length);
  return {
    l1Offset: Number(l1Offset),
    l1Entries,
    id: text(FIXED_BYTES + extraBytes, idBytes),
    name: text(FIXED_BYTES + extraBytes + idBytes, nameBytes),
    sizeBytes: Number(size),
    takenAt: new Date(bytes.readUInt32BE(At.seconds) * 1000 + Math.floor(bytes.readUInt32BE(At.nanoseconds) / 1e6)),
    bytes: Buffer.concat([bytes.subarray(0, end)], Math.min(Math.ceil(end / 8) * 8, bytes.length)),
  };
}

export interface NewSnapshot {
  readonly id: string;
  readonly name: string;
  readonly takenAt: Date;
  readonly sizeBytes: number;
  readonly l1Offset: number;
  readonly l1Entries: number;
}

/** One entry, padded. Throws ImageError BAD_NAME. */
export function encodeSnapshot(snapshot: NewSnapshot): Buffer {
  const id = Buffer.from(snapshot.id);
  const name = Buffer.from(snapshot.name);
  if (id.length > MAX_TEXT_BYTES || name.length === 0 || name.length > MAX_TEXT_BYTES) {
    throw new ImageError('BAD_NAME', `the name of a snapshot has 1 to ${MAX_TEXT_BYTES} bytes`);
  }
  const end = FIXED_BYTES + EXTRA_BYTES + id.length + name.length;
  const bytes = Buffer.alloc(Math.ceil(end / 8) * 8);
  bytes.writeBigUInt64BE(BigInt(snapshot.l1Offset), At.l1Offset);
  bytes.writeUInt32BE(snapshot.l1Entries, At.l1Entries);
  bytes.writeUInt16BE(id.length, At.idBytes);
  bytes.writeUInt16BE(name.length, At.nameBytes);
  const ms = snapshot.takenAt.getTime();
  bytes.writeUInt32BE(Math.floor(ms / 1000) >>> 0, At.seconds);
  bytes.writeUInt32BE((ms % 1000) * 1e6, At.nanoseconds);
  bytes.writeUInt32BE(EXTRA_BYTES, At.extraBytes);
  bytes.writeBigUInt64BE(BigInt(snapshot.sizeBytes), FIXED_BYTES + EXTRA_DISK_BYTES);
  id.copy(bytes, FIXED_BYTES + EXTRA_BYTES);
  name.copy(bytes, FIXED_BYTES + EXTRA_BYTES + id.length);
  return bytes;
}

/** By id, or else by name. */
export function findSnapshot<T extends ImageSnapshot>(entries: readonly T[], idOrName: string): T {
  const found = entries.find(({ id }) => id === idOrName) ?? entries.find(({ name }) => name === idOrName);
  if (!found) throw new ImageError('BAD_NAME', `the image has no snapshot '${idOrName}'`);
  return found;
}

export function nextId(entries: readonly ImageSnapshot[]): string {
  let most = 0;
  for (const { id } of entries) if (/^[0-9]{1,9}$/.test(id)) most = Math.max(most, Number(id));
  return String(most + 1);
}
