/** One zlib stream for the life of a connection, each piece flushed so that it can be read at once. */
import { constants, createDeflate } from 'node:zlib';

/** Screens are mostly flat: more effort buys little. */
const LEVEL = 3;

export class ZlibStream {
  readonly #deflate = createDeflate({ level: LEVEL });
  #pieces: Buffer[] = [];
  #failed: Error | undefined;

  constructor() {
    this.#deflate.on('data', (piece: Buffer) => this.#pieces.push(piece));
    this.#deflate.on('error', (error) => {
      this.#failed = error;
    });
  }

  /** One call at a time. Rejects after `close`. */
  compress(bytes: Uint8Array): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      this.#deflate.once('close', () => {
        reject(this.#failed ?? new Error('the stream is closed'));
      });
      this.#deflate.write(bytes);
      this.#deflate.flush(constants.Z_SYNC_FLUSH, () => {
        this.#deflate.removeAllListeners('close');
        const pieces = this.#pieces;
        this.#pieces = [];
        resolve(Buffer.concat(pieces));
      });
    });
  }

  close(): void {
    this.#deflate.destroy();
  }
}
