/**
 * A kernel file as it is on disk, unpacked to its ELF image: gzip around anything, bzImage with a gzip, xz, lz4 or zstd
 * payload. bzip2, lzma and lzo are named and refused. Long work runs in zlib's threads or in a worker.
 */
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { gunzip, zstdDecompress } from 'node:zlib';
import { DomBuildError } from '../errors.ts';
import { bzImagePayload, compressionOf } from './bzimage.ts';
import type { Compression } from './bzimage.ts';
import type { SlowRequest } from './slow.ts';

/** Unpacked kernels over this are refused (libxenguest: 1 GiB by default). */
const MAX_KERNEL_BYTES = 512 * 1024 * 1024;

const ELF_MAGIC = [0x7f, 0x45, 0x4c, 0x46];

/** @throws DomBuildError */
export async function unpackKernel(file: Uint8Array): Promise<Uint8Array> {
  if (file.length === 0) throw new DomBuildError('invalidKernel', 'no kernel image loaded: the file is empty');
  const outer = compressionOf(file) === 'gzip' ? await unpack('gzip', file) : file;
  const payload = bzImagePayload(outer);
  const inner = payload ? await unpackPayload(payload) : outer;
  if (!ELF_MAGIC.every((byte, i) => inner[i] === byte)) {
    throw new DomBuildError('invalidKernel', 'xc_dom_find_loader: no loader found: neither an ELF image nor a bzImage');
  }
  return inner;
}

function unpackPayload(payload: Uint8Array): Promise<Uint8Array> | Uint8Array {
  if (ELF_MAGIC.every((byte, i) => payload[i] === byte)) return payload;
  const compression = compressionOf(payload);
  if (!compression) throw new DomBuildError('invalidKernel', 'bzImage: unknown compression format');
  return unpack(compression, payload);
}

async function unpack(compression: Compression, payload: Uint8Array): Promise<Uint8Array> {
  const maxOutputLength = MAX_KERNEL_BYTES;
  try {
    switch (compression) {
      case 'gzip':
        return await promisify(gunzip)(payload, { maxOutputLength });
      case 'zstd':
        return await promisify(zstdDecompress)(payload.subarray(0, payload.length - 4), { maxOutputLength });
      case 'xz':
      case 'lz4':
        return await inWorker({ compression, payload, maxBytes: MAX_KERNEL_BYTES });
      default:
        throw new DomBuildError('invalidKernel', `${compression.toUpperCase()} decompress support unavailable`);
    }
  } catch (error) {
    if (error instanceof DomBuildError) throw error;
    const reason = typeof error === 'object' && error !== null && 'message' in error ? String(error.message) : '';
    throw new DomBuildError('invalidKernel', `unable to ${compression.toUpperCase()} decompress kernel: ${reason}`, {
      cause: error,
    });
  }
}

function inWorker(request: SlowRequest): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(workerEntry(import.meta.url), { workerData: request });
    worker.once('message', (message: Uint8Array) => {
      resolve(message);
    });
    worker.once('error', reject);
    worker.once('exit', (code) => {
      reject(new Error(`the unpacking worker ended with ${code}`));
    });
  });
}

/** In sources beside this file; in a bundle (`tools/build.mjs`) an entry of its own, above the folder of shared chunks. */
export function workerEntry(here: string): URL {
  if (here.endsWith('.ts')) return new URL('./worker.ts', here);
  return new URL(/\/chunks\/[^/]*$/.test(here) ? '../unpack-worker.mjs' : './unpack-worker.mjs', here);
}
