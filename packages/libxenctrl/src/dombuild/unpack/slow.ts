/** The compressions that Node has no native decoder for; run in a worker by `worker.ts`, directly by tests. */
import * as xz from 'xz-decompress';
import { unlz4 } from './lz4.ts';
import { unxz } from './xz.ts';

/** The package is CommonJS: Node's modules show it as the default export, a CommonJS transform as the namespace. */
const { XzReadableStream } = 'default' in xz ? xz.default : xz;

export interface SlowRequest {
  readonly compression: 'xz' | 'lz4';
  /** Compressed bytes with the unpacked size in the last four, as kernels have it. */
  readonly payload: Uint8Array;
  readonly maxBytes: number;
}

async function plainUnxz(file: Uint8Array): Promise<Uint8Array> {
  const source = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(file);
      controller.close();
    },
  });
  const parts: Uint8Array[] = [];
  const reader = new XzReadableStream(source).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return Buffer.concat(parts);
    parts.push(value);
  }
}

/** @throws RangeError or the decoder's error for broken input */
export function slowUnpack({ compression, payload, maxBytes }: SlowRequest): Promise<Uint8Array> {
  if (compression === 'xz') return unxz(payload, maxBytes, plainUnxz);
  return Promise.resolve(unlz4(payload.subarray(0, payload.length - 4), trailingSize(payload, maxBytes)));
}

/** The unpacked size that Linux appends to its payload. */
function trailingSize(payload: Uint8Array, maxBytes: number): number {
  if (payload.length < 4) throw new RangeError('insufficient input data');
  const size = new DataView(payload.buffer, payload.byteOffset + payload.length - 4, 4).getUint32(0, true);
  if (size > maxBytes) throw new RangeError(`${size} bytes unpacked, limit ${maxBytes}`);
  return size;
}
