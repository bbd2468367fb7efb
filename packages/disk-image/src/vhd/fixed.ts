/** VHD images of fixed size: the disk, and a footer behind it. */
import { PIECE_BYTES } from '../limits.ts';
import { VhdImage } from './vhd-image.ts';

const ZEROS = new Uint8Array(PIECE_BYTES);

export class FixedVhd extends VhdImage {
  protected readRange(offset: number, targets: readonly Uint8Array[]): Promise<void> {
    return this.file.readv(offset, targets);
  }

  protected writeRange(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    return this.file.writev(offset, pieces);
  }

  protected async zeroRange(offset: number, length: number): Promise<void> {
    for (let at = 0; at < length; at += PIECE_BYTES) {
      await this.file.write(offset + at, ZEROS.subarray(0, Math.min(PIECE_BYTES, length - at)));
    }
  }
}
