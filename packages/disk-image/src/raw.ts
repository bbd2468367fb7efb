/**
 * Raw images: the file's bytes are the disk's (files with holes, block devices, CD images). A last sector of which the file has only a part goes
 * on with zeros, as in QEMU; beyond it, writing never makes the disk longer.
 */
import { BaseImage } from './base-image.ts';
import { ImageError } from './errors.ts';
import type { ImageFile } from './file/image-file.ts';
import { MAX_DISK_BYTES, PIECE_BYTES } from './limits.ts';
import { Mutex } from './range-locks.ts';
import { SECTOR_BYTES } from './types.ts';

/** A hole costs a command to make: fewer bytes are not worth it. */
const MIN_HOLE_BYTES = 64 * 1024;
const ZEROS = new Uint8Array(PIECE_BYTES);

const wholeSectors = (bytes: number): number => Math.ceil(bytes / SECTOR_BYTES) * SECTOR_BYTES;

export class RawImage extends BaseImage {
  readonly format = 'raw';
  readonly #file: ImageFile;
  readonly #holes = new Mutex();
  #sizeBytes: number;

  constructor(file: ImageFile) {
    super();
    this.#file = file;
    this.#sizeBytes = wholeSectors(file.sizeBytes);
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get readOnly(): boolean {
    return this.#file.readOnly;
  }

  get supportsDiscard(): boolean {
    return this.#file.canPunch;
  }

  protected readRange(offset: number, targets: readonly Uint8Array[]): Promise<void> {
    return this.#file.readv(offset, targets);
  }

  protected writeRange(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    return this.#file.writev(offset, pieces);
  }

  protected async discardRange(offset: number, length: number): Promise<void> {
    if (length >= MIN_HOLE_BYTES) await this.#punch(offset, length);
  }

  protected async zeroRange(offset: number, length: number): Promise<void> {
    if (length >= MIN_HOLE_BYTES && (await this.#punch(offset, length))) return;
    for (let at = 0; at < length; at += PIECE_BYTES) {
      await this.#file.write(offset + at, ZEROS.subarray(0, Math.min(PIECE_BYTES, length - at)));
    }
  }

  /** One at a time: a guest that discards a lot leaves others their turn. */
  #punch(offset: number, length: number): Promise<boolean> {
    if (!this.#file.canPunch) return Promise.resolve(false);
    return this.#holes.run(() => this.#file.punch(offset, length));
  }

  protected flushAll(): Promise<void> {
    return this.#file.sync();
  }

  protected async growTo(sizeBytes: number): Promise<void> {
    if (sizeBytes > MAX_DISK_BYTES) throw new ImageError('LIMIT', `a disk has ${MAX_DISK_BYTES} bytes at most`);
    if (this.#file.isDevice) throw new ImageError('UNSUPPORTED', 'a block device has the size that it has');
    await this.#file.truncate(sizeBytes);
    await this.#file.sync();
    this.#sizeBytes = wholeSectors(sizeBytes);
  }

  protected async lookAtSize(): Promise<number> {
    this.#sizeBytes = wholeSectors(await this.#file.refreshSize());
    return this.#sizeBytes;
  }

  protected release(): Promise<void> {
    return this.#file.close();
  }
}
