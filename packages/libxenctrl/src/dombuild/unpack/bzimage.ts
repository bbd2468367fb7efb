/**
 * The outside of a Linux bzImage: where its compressed payload is, and how it is compressed (Linux
 * `Documentation/arch/x86/boot.rst`, protocol 2.08 and later).
 */
import { DomBuildError } from '../errors.ts';

const SETUP_SECTS = 0x1f1;
const MAGIC_AT = 0x202;
const MAGIC = 0x53726448; // "HdrS"
const VERSION_AT = 0x206;
/** The first protocol whose header tells about the payload. */
const MIN_VERSION = 0x0208;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const HEADER_END = 0x250;
const SECTOR = 512;
/** `setup_sects` 0 means this. */
const DEFAULT_SETUP_SECTS = 4;

/** The payload, or undefined for a file that is no bzImage. @throws DomBuildError for one that is broken */
export function bzImagePayload(file: Uint8Array): Uint8Array | undefined {
  if (file.length < HEADER_END) return undefined;
  const dv = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (dv.getUint32(MAGIC_AT, true) !== MAGIC) return undefined;
  const version = dv.getUint16(VERSION_AT, true);
  if (version < MIN_VERSION) {
    throw new DomBuildError(
      'invalidKernel',
      `bzImage: boot protocol too old (${version.toString(16).padStart(4, '0')})`,
    );
  }
  const setupSects = dv.getUint8(SETUP_SECTS) || DEFAULT_SETUP_SECTS;
  const start = (setupSects + 1) * SECTOR + dv.getUint32(PAYLOAD_OFFSET, true);
  const length = dv.getUint32(PAYLOAD_LENGTH, true);
  if (start > file.length) throw new DomBuildError('invalidKernel', 'bzImage: payload offset overflow');
  if (start + length > file.length) throw new DomBuildError('invalidKernel', 'bzImage: payload length overflow');
  return file.subarray(start, start + length);
}

export type Compression = 'gzip' | 'xz' | 'lz4' | 'zstd' | 'bzip2' | 'lzma' | 'lzo';

const MAGICS: readonly (readonly [Compression, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['bzip2', [0x42, 0x5a, 0x68]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['lzma', [0x5d, 0x00]],
  ['lzo', [0x89, 0x4c, 0x5a, 0x4f]],
  ['lz4', [0x02, 0x21, 0x4c, 0x18]],
];

export const compressionOf = (bytes: Uint8Array): Compression | undefined =>
  MAGICS.find(([, magic]) => magic.every((byte, i) => bytes[i] === byte))?.[0];
