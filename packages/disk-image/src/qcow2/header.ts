/**
 * The header of a qcow2 image, versions 2 and 3, as bytes; answers to QEMU's docs/interop/qcow2.txt. No I/O.
 * A header is hostile input: what passes here has every size and offset within the limits.
 */
import { ImageError } from '../errors.ts';
import { MAX_DISK_BYTES, MAX_L1_BYTES, MAX_REFCOUNT_TABLE_BYTES, MAX_SNAPSHOTS } from '../limits.ts';

export const QCOW2_MAGIC = 0x514649fb;

/** Where the fields are. */
export const Field = {
  magic: 0, version: 4, backingOffset: 8, backingBytes: 16, clusterBits: 20, sizeBytes: 24, cryptMethod: 32, l1Entries: 36,
  l1Offset: 40, refcountOffset: 48, refcountClusters: 56, nrSnapshots: 60, snapshotsOffset: 64, incompatible: 72,
  compatible: 80, autoclear: 88, refcountOrder: 96, headerBytes: 100, compression: 104,
} as const; // prettier-ignore

const V2_HEADER_BYTES = 72;
export const V3_HEADER_BYTES = 104;
const MAX_BACKING_NAME_BYTES = 1023;

/** Bits of the field of incompatible features. */
export const Incompatible = { dirty: 1n, corrupt: 2n, externalData: 4n, compression: 8n, extendedL2: 16n } as const;
const REFUSED: readonly (readonly [bigint, string])[] = [
  [Incompatible.externalData, 'an external data file'],
  [Incompatible.extendedL2, 'extended L2 entries (subclusters)'],
];
const HANDLED = Incompatible.dirty | Incompatible.corrupt | Incompatible.compression;

const Extension = { end: 0, backingFormat: 0xe2792aca, featureNames: 0x6803f857 } as const;
const FEATURE_NAME_BYTES = 48;

export type Compression = 'deflate' | 'zstd';

export interface Qcow2Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly sizeBytes: number;
  readonly l1Entries: number;
  readonly l1Offset: number;
  readonly refcountOffset: number;
  readonly refcountClusters: number;
  readonly refcountOrder: number;
  readonly nrSnapshots: number;
  readonly snapshotsOffset: number;
  readonly incompatible: bigint;
  readonly autoclear: bigint;
  readonly compression: Compression;
  readonly backing: { readonly name: string; readonly format: string | undefined } | undefined;
}

/** Entries of an L1 table that a disk needs. */
export function l1EntriesOf(sizeBytes: number, clusterBits: number): number {
  // A table of 2^(clusterBits - 3) entries of a cluster each.
  return Math.ceil(sizeBytes / 2 ** (2 * clusterBits - 3));
}

const corrupt = (what: string): ImageError => new ImageError('CORRUPT', `a qcow2 image with ${what}`);
const limit = (what: string): ImageError => new ImageError('LIMIT', `a qcow2 image with ${what}`);
const unsupported = (what: string): ImageError => new ImageError('UNSUPPORTED', `a qcow2 image with ${what}`);

/** Takes the first cluster of the file, or as much of it as there is. Throws ImageError. */
export function parseHeader(head: Buffer): Qcow2Header {
  if (head.length < V2_HEADER_BYTES || head.readUInt32BE(Field.magic) !== QCOW2_MAGIC) {
    throw new ImageError('NOT_AN_IMAGE', 'no qcow2 image');
  }
  const version = head.readUInt32BE(Field.version);
  if (version !== 2 && version !== 3) throw unsupported(`version ${version}`);
  const clusterBits = head.readUInt32BE(Field.clusterBits);
  if (clusterBits < 9 || clusterBits > 21) throw corrupt(`clusters of 2^${clusterBits} bytes`);
  if (head.readUInt32BE(Field.cryptMethod) !== 0) throw unsupported('encryption');
  const extra = version === 3 ? parseV3(head, clusterBits) : V2;
  refuseFeatures(head, extra);
  const sizeBytes = sizeIn(head, Field.sizeBytes, MAX_DISK_BYTES);
  if (sizeBytes === undefined) throw limit(`a disk of more than ${MAX_DISK_BYTES} bytes`);
  const l1Entries = head.readUInt32BE(Field.l1Entries);
  if (l1Entries * 8 > MAX_L1_BYTES) throw limit(`an L1 table of ${l1Entries} entries`);
  if (l1Entries < l1EntriesOf(sizeBytes, clusterBits)) throw corrupt('an L1 table that is too short');
  const refcountClusters = head.readUInt32BE(Field.refcountClusters);
  if (refcountClusters * 2 ** clusterBits > MAX_REFCOUNT_TABLE_BYTES) {
    throw limit(`a refcount table of ${refcountClusters} clusters`);
  }
  if (refcountClusters === 0) throw corrupt('no refcount table');
  const nrSnapshots = head.readUInt32BE(Field.nrSnapshots);
  if (nrSnapshots > MAX_SNAPSHOTS) throw limit(`${nrSnapshots} snapshots`);
  return {
    version,
    clusterBits,
    sizeBytes,
    l1Entries,
    l1Offset: tableOffset(head, Field.l1Offset, clusterBits, l1Entries > 0, 'L1 table'),
    refcountOffset: tableOffset(head, Field.refcountOffset, clusterBits, true, 'refcount table'),
    refcountClusters,
    refcountOrder: extra.refcountOrder,
    nrSnapshots,
    snapshotsOffset: tableOffset(head, Field.snapshotsOffset, clusterBits, nrSnapshots > 0, 'table of snapshots'),
    incompatible: extra.incompatible,
    autoclear: extra.autoclear,
    compression: extra.compression,
    backing: backingIn(head, extra, clusterBits),
  };
}

interface Extra {
  readonly incompatible: bigint;
  readonly autoclear: bigint;
  readonly refcountOrder: number;
  readonly headerBytes: number;
  readonly compression: Compression;
}

/** Version 2 ends before these fields; counts have 16 bits. */
const V2: Extra = {
  incompatible: 0n,
  autoclear: 0n,
  refcountOrder: 4,
  headerBytes: V2_HEADER_BYTES,
  compression: 'deflate',
};

function parseV3(head: Buffer, clusterBits: number): Extra {
  if (head.length < V3_HEADER_BYTES) throw corrupt('half a header');
  const headerBytes = head.readUInt32BE(Field.headerBytes);
  if (headerBytes < V3_HEADER_BYTES || headerBytes % 8 !== 0 || headerBytes > 2 ** clusterBits) {
    throw corrupt(`a header of ${headerBytes} bytes`);
  }
  const refcountOrder = head.readUInt32BE(Field.refcountOrder);
  if (refcountOrder > 6) throw corrupt(`counts of 2^${refcountOrder} bits`);
  const type = headerBytes > Field.compression && head.length > Field.compression ? head[Field.compression] : 0;
  const incompatible = head.readBigUInt64BE(Field.incompatible);
  if (type !== 0 && type !== 1) throw unsupported(`compression of type ${type}`);
  if ((type !== 0) !== ((incompatible & Incompatible.compression) !== 0n)) throw corrupt('an unclear compression type');
  return {
    incompatible,
    autoclear: head.readBigUInt64BE(Field.autoclear),
    refcountOrder,
    headerBytes,
    compression: type === 1 ? 'zstd' : 'deflate',
  };
}

function refuseFeatures(head: Buffer, extra: Extra): void {
  const refused = REFUSED.find(([bit]) => extra.incompatible & bit);
  if (refused) throw unsupported(refused[1]);
  const unknown = extra.incompatible & ~(HANDLED | Incompatible.externalData | Incompatible.extendedL2);
  if (unknown === 0n) return;
  const bit = unknown.toString(2).length - 1;
  throw unsupported(`the unknown feature ${featureName(head, extra.headerBytes, bit) ?? `bit ${bit}`}`);
}

/** Undefined when it is over the limit. */
function sizeIn(head: Buffer, field: number, most: number): number | undefined {
  const value = head.readBigUInt64BE(field);
  return value > BigInt(most) ? undefined : Number(value);
}

function tableOffset(head: Buffer, field: number, clusterBits: number, needed: boolean, name: string): number {
  if (!needed) return 0;
  const offset = sizeIn(head, field, Number.MAX_SAFE_INTEGER);
  if (offset === undefined || offset === 0 || offset % 2 ** clusterBits !== 0) throw corrupt(`a misplaced ${name}`);
  return offset;
}

function* extensions(head: Buffer, from: number): Generator<{ readonly type: number; readonly data: Buffer }> {
  for (let at = from; at + 8 <= head.length;) {
    const type = head.readUInt32BE(at);
    const length = head.readUInt32BE(at + 4);
    if (type === Extension.end || length > head.length - at - 8) return;
    yield { type, data: head.subarray(at + 8, at + 8 + length) };
    at += 8 + Math.ceil(length / 8) * 8;
  }
}

/** What the image itself calls a bit, in printable letters. */
function featureName(head: Buffer, headerBytes: number, bit: number): string | undefined {
  for (const { type, data } of extensions(head, headerBytes)) {
    if (type !== Extension.featureNames) continue;
    for (let at = 0; at + FEATURE_NAME_BYTES <= data.length; at += FEATURE_NAME_BYTES) {
      if (data[at] !== 0 || data[at + 1] !== bit) continue;
      return data.toString('latin1', at + 2, at + FEATURE_NAME_BYTES).replace(/[^ -~]/g, '');
    }
  }
  return undefined;
}

function backingIn(head: Buffer, extra: Extra, clusterBits: number): Qcow2Header['backing'] {
  const offset = sizeIn(head, Field.backingOffset, Number.MAX_SAFE_INTEGER) ?? Number.MAX_SAFE_INTEGER;
  if (offset === 0) return undefined;
  const length = head.readUInt32BE(Field.backingBytes);
  if (length === 0) return undefined;
  if (length > MAX_BACKING_NAME_BYTES || offset + length > Math.min(head.length, 2 ** clusterBits)) {
    throw corrupt('a misplaced name of a backing file');
  }
  const name = head.toString('utf8', offset, offset + length);
  if (name.includes('\0')) throw corrupt('a backing file with a zero byte in its name');
  let format: string | undefined;
  for (const { type, data } of extensions(head, extra.headerBytes)) {
    if (type === Extension.backingFormat) format = data.toString('latin1');
  }
  return { name, format };
}

export interface NewHeader extends Pick<
  Qcow2Header,
  | 'version'
  | 'clusterBits'
  | 'sizeBytes'
  | 'l1Entries'
  | 'l1Offset'
  | 'refcountOffset'
  | 'refcountClusters'
  | 'refcountOrder'
> {
  readonly backing: { readonly name: string; readonly format: string } | undefined;
}

/** The first cluster of a new image. Throws ImageError when the backing file's name does not fit in. */
export function encodeHeader(header: NewHeader): Buffer {
  const head = Buffer.alloc(2 ** header.clusterBits);
  head.writeUInt32BE(QCOW2_MAGIC, Field.magic);
  head.writeUInt32BE(header.version, Field.version);
  head.writeUInt32BE(header.clusterBits, Field.clusterBits);
  head.writeBigUInt64BE(BigInt(header.sizeBytes), Field.sizeBytes);
  head.writeUInt32BE(header.l1Entries, Field.l1Entries);
  head.writeBigUInt64BE(BigInt(header.l1Offset), Field.l1Offset);
  head.writeBigUInt64BE(BigInt(header.refcountOffset), Field.refcountOffset);
  head.writeUInt32BE(header.refcountClusters, Field.refcountClusters);
  let at = V2_HEADER_BYTES;
  if (header.version === 3) {
    head.writeUInt32BE(header.refcountOrder, Field.refcountOrder);
    head.writeUInt32BE(V3_HEADER_BYTES, Field.headerBytes);
    at = V3_HEADER_BYTES;
  }
  if (!header.backing) return head;
  const format = Buffer.from(header.backing.format, 'latin1');
  const name = Buffer.from(header.backing.name);
  const nameAt = at + 8 + Math.ceil(format.length / 8) * 8 + 8;
  if (name.length > MAX_BACKING_NAME_BYTES || nameAt + name.length > head.length) {
    throw new ImageError('BAD_NAME', 'the name of the backing file is too long');
  }
  head.writeUInt32BE(Extension.backingFormat, at);
  head.writeUInt32BE(format.length, at + 4);
  format.copy(head, at + 8);
  name.copy(head, nameAt);
  head.writeBigUInt64BE(BigInt(nameAt), Field.backingOffset);
  head.writeUInt32BE(name.length, Field.backingBytes);
  return head;
}
