/** VHD images of fixed size: the disk, and a footer behind it. */
import { BaseImage } from '../base-image.ts';
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';
import { PIECE_BYTES } from '../limits.ts';

const ZEROS = new Uint8Array(PIECE_BYTES);

export class FixedVhd extends BaseImage {
  readonly format = 'vhd';
  readonly supportsDiscard = false;
  readonly sizeBytes: number;
  readonly #file: ImageFile;

  constructor(file: ImageFile, sizeBytes: number) {
    super();
    this.#file = file;
    this.sizeBytes = sizeBytes;
  }

  get readOnly(): boolean {
    return this.#file.readOnly;
  }

  protected readRange(offset: number, targets: readonly Uint8Array[]): Promise<void> {
    return this.#file.readv(offset, targets);
  }

  protected writeRange(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    return this.#file.writev(offset, pieces);
  }

  protected discardRange(): Promise<void> {
    return Promise.resolve();
  }

  protected async zeroRange(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += PIECE_BYTES) {
      await this.#file.write(offset + at, ZEROS.subarray(0, Math.min(PIECE_BYTES, length - at)));
    }
  }

  protected flushAll(): Promise<void> {
    return this.#file.sync();
  }

  protected growTo(): Promise<void> {
    return Promise.reject(new ImageError('UNSUPPORTED', 'a VHD image keeps its size'));
  }

  protected lookAtSize(): Promise<number> {
    return Promise.resolve(this.sizeBytes);
  }

  protected release(): Promise<void> {
    return this.#file.close();
  }
}
