/**
 * .xz files of kernels. The decoder (xz-decompress: xz-embedded in WebAssembly) knows LZMA2 only, kernels are packed with
 * the x86 filter in front of it: each block is wrapped anew as a plain LZMA2 file, and filter and check are done here.
 * Follows the .xz file format 1.1.0 (tukaani.org); CRC64 and SHA-256 checks of filtered blocks are not verified.
 */
import { crc32 } from 'node:zlib';
import { unfilterX86 } from './bcj-x86.ts';

const HEADER_MAGIC = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00];
const HEADER_SIZE = 12;
const FOOTER_SIZE = 12;
const FILTER_X86 = 0x04;
const FILTER_LZMA2 = 0x21;
const CHECK_NONE = 0;
const CHECK_CRC32 = 1;
/** Bytes of a check, by its id. */
const CHECK_SIZES = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64];
const MAX_BLOCKS = 4096;

/** Unpacks a plain .xz file: the library's part. */
export type PlainUnxz = (file: Uint8Array) => Promise<Uint8Array>;

interface Block {
  /** Block header, data, padding, check. */
  readonly bytes: Uint8Array;
  readonly unpaddedSize: number;
  readonly uncompressedSize: number;
}

/**
 * `file` may have up to 4 bytes after its end. Resolves to at most `maxBytes`.
 * @throws RangeError for what is no .xz file, or one with filters that nobody knows
 */
export async function unxz(file: Uint8Array, maxBytes: number, plain: PlainUnxz): Promise<Uint8Array> {
  const stream = trim(file);
  const check = (stream[7] ?? 0) & 15;
  const blocks = blocksOf(stream);
  const total = blocks.reduce((sum, block) => sum + block.uncompressedSize, 0);
  if (total > maxBytes) throw new RangeError(`xz: ${total} bytes unpacked, limit ${maxBytes}`);
  const out = new Uint8Array(total);
  let at = 0;
  for (const block of blocks) {
    const bytes = await unpackBlock(block, check, plain);
    if (bytes.length !== block.uncompressedSize) throw new RangeError('xz: block of another size than its index says');
    out.set(bytes, at);
    at += bytes.length;
  }
  return out;
}

/** Cuts what follows the stream footer. */
function trim(file: Uint8Array): Uint8Array {
  if (!HEADER_MAGIC.every((byte, i) => file[i] === byte)) throw new RangeError('xz: no .xz file');
  for (const extra of [0, 4]) {
    const end = file.length - extra;
    if (end >= HEADER_SIZE + FOOTER_SIZE && file[end - 2] === 0x59 && file[end - 1] === 0x5a)
      return file.subarray(0, end);
  }
  throw new RangeError('xz: no stream footer');
}

/** A multibyte integer; at most 9 bytes in the format, 7 here: 2^49 is enough. */
function readVarint(bytes: Uint8Array, at: number): { value: number; next: number } {
  let value = 0;
  for (let i = 0; i < 7; i++) {
    const byte = bytes[at + i] ?? 0;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80) return { value, next: at + i + 1 };
  }
  throw new RangeError('xz: number too large');
}

function writeVarint(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  return [...bytes, rest];
}

const padded = (n: number): number => Math.ceil(n / 4) * 4;

function blocksOf(stream: Uint8Array): Block[] {
  const dv = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  const footer = stream.length - FOOTER_SIZE;
  const indexSize = (dv.getUint32(footer + 4, true) + 1) * 4;
  const index = footer - indexSize;
  if (index < HEADER_SIZE || stream[index] !== 0) throw new RangeError('xz: no index');
  const count = readVarint(stream, index + 1);
  if (count.value > MAX_BLOCKS) throw new RangeError(`xz: ${count.value} blocks, limit ${MAX_BLOCKS}`);
  let next = count.next;
  let at = HEADER_SIZE;
  const blocks: Block[] = [];
  for (let i = 0; i < count.value; i++) {
    const unpadded = readVarint(stream, next);
    const uncompressed = readVarint(stream, unpadded.next);
    next = uncompressed.next;
    const end = at + padded(unpadded.value);
    if (end > index) throw new RangeError('xz: block outside of the file');
    blocks.push({
      bytes: stream.subarray(at, end),
      unpaddedSize: unpadded.value,
      uncompressedSize: uncompressed.value,
    });
    at = end;
  }
  if (at !== index) throw new RangeError('xz: blocks and index disagree');
  return blocks;
}

async function unpackBlock(block: Block, check: number, plain: PlainUnxz): Promise<Uint8Array> {
  const { bytes } = block;
  const headerSize = ((bytes[0] ?? 0) + 1) * 4;
  const flags = bytes[1] ?? 0;
  const filters = filtersOf(bytes.subarray(0, headerSize), flags);
  const lzma2 = filters.at(-1);
  if (lzma2?.id !== FILTER_LZMA2 || lzma2.properties.length !== 1) throw new RangeError('xz: last filter is not LZMA2');
  const others = filters.slice(0, -1);
  if (!others.every(({ id, properties }) => id === FILTER_X86 && properties.length === 0)) {
    throw new RangeError(`xz: filter ${others.map(({ id }) => id).join(', ')} is not supported`);
  }
  const checkSize = CHECK_SIZES[check] ?? 0;
  const data = bytes.subarray(headerSize, block.unpaddedSize - checkSize);
  const out = await plain(wrap(data, lzma2.properties[0] ?? 0, block.uncompressedSize));
  for (let i = 0; i < others.length; i++) unfilterX86(out);
  if (check === CHECK_CRC32) {
    const at = padded(block.unpaddedSize - checkSize);
    const expected = new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0, true);
    if (crc32(out) !== expected) throw new RangeError('xz: data is corrupt (CRC32)');
  }
  return out;
}

function filtersOf(header: Uint8Array, flags: number): { id: number; properties: Uint8Array }[] {
  let at = 2;
  if (flags & 0x40) at = readVarint(header, at).next;
  if (flags & 0x80) at = readVarint(header, at).next;
  return Array.from({ length: (flags & 3) + 1 }, () => {
    const id = readVarint(header, at);
    const size = readVarint(header, id.next);
    at = size.next + size.value;
    if (at > header.length) throw new RangeError('xz: filter outside of its header');
    return { id: id.value, properties: header.subarray(size.next, at) };
  });
}

/** A complete .xz file of one LZMA2 block without check. */
function wrap(data: Uint8Array, dictionary: number, uncompressedSize: number): Uint8Array {
  const streamFlags = [0, CHECK_NONE];
  const header = withCrc([2, 0, FILTER_LZMA2, 1, dictionary, 0, 0, 0]);
  const unpadded = header.length + data.length;
  const record = [0, 1, ...writeVarint(unpadded), ...writeVarint(uncompressedSize)];
  while (record.length % 4 !== 0) record.push(0);
  const index = withCrc(record);
  const backward = index.length / 4 - 1;
  const footer = [backward & 255, (backward >> 8) & 255, 0, 0, ...streamFlags];
  const out = new Uint8Array(HEADER_SIZE + padded(unpadded) + index.length + FOOTER_SIZE);
  out.set([...HEADER_MAGIC, ...streamFlags, ...crcBytes(streamFlags)]);
  out.set(header, HEADER_SIZE);
  out.set(data, HEADER_SIZE + header.length);
  out.set(index, HEADER_SIZE + padded(unpadded));
  out.set([...crcBytes(footer), ...footer, 0x59, 0x5a], out.length - FOOTER_SIZE);
  return out;
}

function crcBytes(bytes: readonly number[]): number[] {
  const crc = crc32(Uint8Array.from(bytes));
  return [crc & 255, (crc >>> 8) & 255, (crc >>> 16) & 255, crc >>> 24];
}

const withCrc = (bytes: readonly number[]): Uint8Array => Uint8Array.from([...bytes, ...crcBytes(bytes)]);
