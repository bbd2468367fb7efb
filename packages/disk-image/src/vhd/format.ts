/**
 * The footer, the header and the bitmaps of a VHD file, as bytes; answers to Microsoft's "Virtual Hard Disk Image Format Specification" 1.0.
 * All numbers are big-endian. No I/O.
 */
import { randomBytes } from 'node:crypto';
import { ImageError } from '../errors.ts';
import { MAX_BAT_ENTRIES } from '../limits.ts';
import { SECTOR_BYTES } from '../types.ts';

export const VHD_COOKIE = 'conectix';
const HEADER_COOKIE = 'cxsparse';
export const FOOTER_BYTES = 512;
export const HEADER_BYTES = 1024;
/** A block that is not there. */
export const NO_BLOCK = 0xffff_ffff;
/** The format's own limit for disks that grow; a BAT's entry could reach no further. */
export const MAX_VHD_BYTES = 2040 * 2 ** 30;
export const DEFAULT_BLOCK_BYTES = 2 * 2 ** 20;
const MIN_BLOCK_BYTES = 4096;
const MAX_BLOCK_BYTES = 256 * 2 ** 20;
const VERSION = 0x0001_0000;
const EPOCH_SECONDS = Date.UTC(2000, 0, 1) / 1000;

const Footer = {
  features: 8, version: 12, dataOffset: 16, time: 24, creator: 28, creatorVersion: 32, creatorHost: 36, originalBytes: 40,
  currentBytes: 48, cylinders: 56, heads: 58, sectors: 59, type: 60, checksum: 64, uuid: 68,
} as const; // prettier-ignore
const Header = { nextOffset: 8, tableOffset: 16, version: 24, entries: 28, blockBytes: 32, checksum: 36 } as const;

const TYPES = { fixed: 2, dynamic: 3, differencing: 4 } as const;
/** Readers take the size of disks of this creator, blktap's own, from the size and not from the geometry. */
const CREATOR = 'tap\0';
const ALL_ONES = 0xffff_ffff_ffff_ffffn;

export interface VhdFooter {
  readonly type: 'fixed' | 'dynamic';
  readonly sizeBytes: number;
  /** Of the header; a disk that grows has one. */
  readonly headerOffset: number;
}

export interface VhdHeader {
  readonly tableOffset: number;
  readonly entries: number;
  readonly blockBytes: number;
}

const corrupt = (what: string): ImageError => new ImageError('CORRUPT', `a VHD image with ${what}`);

/** Ones' complement of the sum of all bytes but the checksum's. */
function checksumOf(bytes: Buffer, at: number): number {
  let sum = 0;
  for (const [index, byte] of bytes.entries()) if (index < at || index >= at + 4) sum += byte;
  return ~sum >>> 0;
}

/** Undefined when these bytes are no footer. Throws ImageError for one with what is not handled. */
export function parseFooter(bytes: Buffer): VhdFooter | undefined {
  if (bytes.toString('latin1', 0, VHD_COOKIE.length) !== VHD_COOKIE) return undefined;
  if (bytes.readUInt32BE(Footer.checksum) !== checksumOf(bytes, Footer.checksum)) return undefined;
  const type = bytes.readUInt32BE(Footer.type);
  if (type === TYPES.differencing) throw new ImageError('UNSUPPORTED', 'a differencing VHD image (one with a parent)');
  if (type !== TYPES.fixed && type !== TYPES.dynamic)
    throw new ImageError('UNSUPPORTED', `a VHD image of type ${type}`);
  const size = bytes.readBigUInt64BE(Footer.currentBytes);
  if (size > BigInt(MAX_VHD_BYTES)) throw new ImageError('LIMIT', `a VHD image of more than ${MAX_VHD_BYTES} bytes`);
  const headerOffset = bytes.readBigUInt64BE(Footer.dataOffset);
  if (type === TYPES.dynamic && headerOffset > BigInt(MAX_VHD_BYTES)) throw corrupt('a misplaced header');
  return {
    type: type === TYPES.fixed ? 'fixed' : 'dynamic',
    sizeBytes: Number(size) - (Number(size) % SECTOR_BYTES),
    headerOffset: type === TYPES.fixed ? 0 : Number(headerOffset),
  };
}

/** Throws ImageError CORRUPT. */
export function parseHeader(bytes: Buffer, sizeBytes: number): VhdHeader {
  const isHeader =
    bytes.toString('latin1', 0, HEADER_COOKIE.length) === HEADER_COOKIE &&
    bytes.readUInt32BE(Header.checksum) === checksumOf(bytes, Header.checksum);
  if (!isHeader) throw corrupt('a damaged header');
  const blockBytes = bytes.readUInt32BE(Header.blockBytes);
  const isSize =
    blockBytes >= MIN_BLOCK_BYTES && blockBytes <= MAX_BLOCK_BYTES && Number.isInteger(Math.log2(blockBytes));
  if (!isSize) throw corrupt(`blocks of ${blockBytes} bytes`);
  const entries = bytes.readUInt32BE(Header.entries);
  if (entries > MAX_BAT_ENTRIES) throw new ImageError('LIMIT', `a VHD image of ${entries} blocks`);
  if (entries * blockBytes < sizeBytes) throw corrupt('a block table that is too short');
  const tableOffset = bytes.readBigUInt64BE(Header.tableOffset);
  if (tableOffset % BigInt(SECTOR_BYTES) !== 0n || tableOffset > BigInt(MAX_VHD_BYTES)) {
    throw corrupt('a misplaced block table');
  }
  return { tableOffset: Number(tableOffset), entries, blockBytes };
}

export function encodeFooter(type: 'fixed' | 'dynamic', sizeBytes: number, createdAt: Date): Buffer {
  const bytes = Buffer.alloc(FOOTER_BYTES);
  bytes.write(VHD_COOKIE, 0, 'latin1');
  bytes.writeUInt32BE(2, Footer.features);
  bytes.writeUInt32BE(VERSION, Footer.version);
  bytes.writeBigUInt64BE(type === 'fixed' ? ALL_ONES : BigInt(FOOTER_BYTES), Footer.dataOffset);
  bytes.writeUInt32BE(Math.max(0, Math.floor(createdAt.getTime() / 1000) - EPOCH_SECONDS) >>> 0, Footer.time);
  bytes.write(CREATOR, Footer.creator, 'latin1');
  bytes.writeUInt32BE(VERSION, Footer.creatorVersion);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), Footer.originalBytes);
  bytes.writeBigUInt64BE(BigInt(sizeBytes), Footer.currentBytes);
  const { cylinders, heads, sectors } = geometryOf(sizeBytes / SECTOR_BYTES);
  bytes.writeUInt16BE(cylinders, Footer.cylinders);
  bytes.writeUInt8(heads, Footer.heads);
  bytes.writeUInt8(sectors, Footer.sectors);
  bytes.writeUInt32BE(TYPES[type], Footer.type);
  randomBytes(16).copy(bytes, Footer.uuid);
  bytes.writeUInt32BE(checksumOf(bytes, Footer.checksum), Footer.checksum);
  return bytes;
}

export function encodeHeader(header: VhdHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.write(HEADER_COOKIE, 0, 'latin1');
  bytes.writeBigUInt64BE(ALL_ONES, Header.nextOffset);
  bytes.writeBigUInt64BE(BigInt(header.tableOffset), Header.tableOffset);
  bytes.writeUInt32BE(VERSION, Header.version);
  bytes.writeUInt32BE(header.entries, Header.entries);
  bytes.writeUInt32BE(header.blockBytes, Header.blockBytes);
  bytes.writeUInt32BE(checksumOf(bytes, Header.checksum), Header.checksum);
  return bytes;
}

interface Geometry {
  readonly cylinders: number;
  readonly heads: number;
  readonly sectors: number;
}

const MAX_CYLINDERS = 65535;
const MAX_HEADS = 16;

/** The geometry that an old BIOS would see (appendix "CHS Calculation"): the smallest track that keeps to 1024 cylinders, or the largest. */
export function geometryOf(nrSectors: number): Geometry {
  const total = Math.min(nrSectors, MAX_CYLINDERS * MAX_HEADS * 255);
  const of = (heads: number, sectors: number): Geometry => ({
    cylinders: Math.floor(Math.floor(total / sectors) / heads),
    heads,
    sectors,
  });
  if (total >= MAX_CYLINDERS * MAX_HEADS * 63) return of(MAX_HEADS, 255);
  const tracks = Math.floor(total / 17);
  const heads = Math.max(4, Math.ceil(tracks / 1024));
  if (heads <= MAX_HEADS && tracks < heads * 1024) return of(heads, 17);
  return Math.floor(total / 31) < MAX_HEADS * 1024 ? of(MAX_HEADS, 31) : of(MAX_HEADS, 63);
}

/** Bytes of the bitmap in front of a block: whole sectors. */
export const bitmapBytesOf = (blockBytes: number): number =>
  Math.ceil(blockBytes / SECTOR_BYTES / 8 / SECTOR_BYTES) * SECTOR_BYTES;

/** Whether a block's sector is there: bits from the highest of each byte on. */
export const hasSector = (bitmap: Uint8Array, sector: number): boolean =>
  ((bitmap[sector >> 3] ?? 0) & (0x80 >> (sector & 7))) !== 0;

/** Whether a block has all its sectors. */
export function isFull(bitmap: Uint8Array, blockBytes: number): boolean {
  const sectors = blockBytes / SECTOR_BYTES;
  for (let index = 0; index < sectors / 8; index += 1) if (bitmap[index] !== 0xff) return false;
  return true;
}
