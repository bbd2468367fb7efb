/** Compressed clusters of qcow2 images: raw deflate (RFC 1951) or zstd (RFC 8878); read, never written. */
import { promisify } from 'node:util';
import { createZstdDecompress, inflateRaw } from 'node:zlib';
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';
import type { Compression } from './header.ts';

const inflate = promisify(inflateRaw);
/** Clusters that stay unpacked: a guest reads a cluster in several pieces. */
const KEPT = 4;

const damaged = (): ImageError => new ImageError('CORRUPT', 'a qcow2 image with a compressed cluster that is damaged');

export class CompressedReader {
  readonly #file: ImageFile;
  readonly #clusterBytes: number;
  readonly #compression: Compression;
  readonly #kept = new Map<number, Buffer>();

  constructor(file: ImageFile, clusterBytes: number, compression: Compression) {
    this.#file = file;
    this.#clusterBytes = clusterBytes;
    this.#compression = compression;
  }

  /** The cluster that is packed in these bytes of the file. Throws ImageError CORRUPT. */
  async read(host: number, bytes: number): Promise<Buffer> {
    const kept = this.#kept.get(host);
    if (kept) return kept;
    const packed = Buffer.alloc(bytes);
    await this.#file.read(host, packed);
    const cluster = await (this.#compression === 'zstd' ? this.#unzstd(packed) : this.#inflate(packed));
    if (cluster.length !== this.#clusterBytes) throw damaged();
    this.#kept.set(host, cluster);
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= KEPT) break;
      this.#kept.delete(oldest);
    }
    return cluster;
  }

  /** The place of a packed cluster may become something else. */
  forget(): void {
    this.#kept.clear();
  }

  async #inflate(packed: Buffer): Promise<Buffer> {
    try {
      return await inflate(packed, { maxOutputLength: this.#clusterBytes });
    } catch {
      throw damaged();
    }
  }

  /** Behind the frame stands what belongs to others: the stream ends where the cluster is whole. */
  #unzstd(packed: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const pieces: Buffer[] = [];
      let length = 0;
      const stream = createZstdDecompress();
      stream.on('data', (piece: Buffer) => {
        pieces.push(piece);
        length += piece.length;
        if (length < this.#clusterBytes) return;
        stream.destroy();
        if (length === this.#clusterBytes) resolve(Buffer.concat(pieces));
        else reject(damaged());
      });
      const fail = (): void => {
        reject(damaged());
      };
      stream.on('error', fail);
      stream.on('end', fail);
      stream.end(packed);
    });
  }
}
