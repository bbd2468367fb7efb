/**
 * What all formats share: checks at the door, and the order of closing. A format gets only calls that lie in the disk, that are allowed,
 * and none after close.
 */
import { ImageError } from './errors.ts';
import { SECTOR_BYTES, type DiskImage, type ImageFormat } from './types.ts';
import { bytesOf } from './vector.ts';

export abstract class BaseImage implements DiskImage {
  abstract readonly format: ImageFormat;
  abstract readonly sizeBytes: number;
  abstract readonly readOnly: boolean;
  abstract readonly supportsDiscard: boolean;
  readonly sectorBytes = SECTOR_BYTES;
  #closed: Promise<void> | undefined;
  #underWay = 0;
  #idle: (() => void) | undefined;

  protected abstract readRange(offset: number, targets: readonly Uint8Array[], length: number): Promise<void>;
  protected abstract writeRange(offset: number, pieces: readonly Uint8Array[], length: number): Promise<void>;
  protected abstract discardRange(offset: number, length: number): Promise<void>;
  protected abstract zeroRange(offset: number, length: number): Promise<void>;
  protected abstract flushAll(): Promise<void>;
  protected abstract growTo(sizeBytes: number): Promise<void>;
  protected abstract lookAtSize(): Promise<number>;
  /** Gives everything back; with `clean` false after a flush that failed. */
  protected abstract release(clean: boolean): Promise<void>;

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.readv(offset, [target]);
  }

  readv(offset: number, targets: readonly Uint8Array[]): Promise<void> {
    return this.#run(async () => {
      const length = this.#inside(offset, bytesOf(targets));
      if (length > 0) await this.readRange(offset, targets, length);
    });
  }

  write(offset: number, data: Uint8Array): Promise<void> {
    return this.writev(offset, [data]);
  }

  writev(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    return this.#change(offset, bytesOf(pieces), (length) => this.writeRange(offset, pieces, length));
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#change(offset, length, () => this.discardRange(offset, length));
  }

  writeZeroes(offset: number, length: number): Promise<void> {
    return this.#change(offset, length, () => this.zeroRange(offset, length));
  }

  flush(): Promise<void> {
    return this.#run(async () => {
      if (!this.readOnly) await this.flushAll();
    });
  }

  grow(sizeBytes: number): Promise<void> {
    return this.#run(async () => {
      this.#writable();
      if (!Number.isSafeInteger(sizeBytes) || sizeBytes < this.sizeBytes) {
        throw new ImageError(
          'OUT_OF_RANGE',
          `a disk of ${this.sizeBytes} bytes cannot become ${sizeBytes}: it cannot shrink`,
        );
      }
      if (sizeBytes > this.sizeBytes) await this.growTo(sizeBytes);
    });
  }

  refreshSize(): Promise<number> {
    return this.#run(() => this.lookAtSize());
  }

  close(): Promise<void> {
    this.#closed ??= this.#finish();
    return this.#closed;
  }

  async #finish(): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
      });
    }
    let clean = false;
    try {
      if (!this.readOnly) await this.flushAll();
      clean = true;
    } finally {
      await this.release(clean);
    }
  }

  async #change(offset: number, length: number, work: (length: number) => Promise<void>): Promise<void> {
    await this.#run(async () => {
      this.#writable();
      if (this.#inside(offset, length) > 0) await work(length);
    });
  }

  async #run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new ImageError('CLOSED', 'the image is closed');
    this.#underWay += 1;
    try {
      return await work();
    } finally {
      this.#underWay -= 1;
      if (this.#underWay === 0) this.#idle?.();
    }
  }

  #writable(): void {
    if (this.readOnly) throw new ImageError('READ_ONLY', 'the disk is open for reading only');
  }

  #inside(offset: number, length: number): number {
    const ok = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (ok && length <= this.sizeBytes - offset) return length;
    throw new ImageError('OUT_OF_RANGE', `${length} bytes at ${offset} of a disk of ${this.sizeBytes} bytes`);
  }
}
