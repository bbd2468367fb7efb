/** What both kinds of VHD images have in common: a size that stays, and no space to give back. */
import { BaseImage } from '../base-image.ts';
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';

export abstract class VhdImage extends BaseImage {
  readonly format = 'vhd';
  readonly supportsDiscard = false;
  readonly sizeBytes: number;
  protected readonly file: ImageFile;

  constructor(file: ImageFile, sizeBytes: number) {
    super();
    this.file = file;
    this.sizeBytes = sizeBytes;
  }

  get readOnly(): boolean {
    return this.file.readOnly;
  }

  protected discardRange(): Promise<void> {
    return Promise.resolve();
  }

  protected flushAll(): Promise<void> {
    return this.file.sync();
  }

  protected growTo(): Promise<void> {
    return Promise.reject(new ImageError('UNSUPPORTED', 'a VHD image keeps its size'));
  }

  protected lookAtSize(): Promise<number> {
    return Promise.resolve(this.sizeBytes);
  }

  protected release(): Promise<void> {
    return this.file.close();
  }
}
