/**
 * VHD images that grow: blocks of sectors, each with a bitmap of those it has, found by the block table (BAT); a footer at the end and its
 * copy at the start. A block once there stays, and a block that is written has all its sectors from then on.
 *
 * Order of writes: the footer behind the new block, the block's bitmap and data, and when these are on stable storage, the table's entry: what is
 * cut off is an image without that block.
 */
import type { ImageFile } from '../file/image-file.ts';
import { PIECE_BYTES } from '../limits.ts';
import { Mutex, RangeLocks } from '../range-locks.ts';
import { SECTOR_BYTES } from '../types.ts';
import { fillZero, slicePieces } from '../vector.ts';
import { bitmapBytesOf, hasSector, isFull, NO_BLOCK, type VhdHeader } from './format.ts';
import { VhdImage } from './vhd-image.ts';

export interface DynamicParts {
  readonly sizeBytes: number;
  readonly header: VhdHeader;
  readonly footer: Buffer;
  /** Sectors where blocks begin, or NO_BLOCK; every one lies in the file, behind the table. */
  readonly table: Uint32Array;
  /** Where the next block comes, and until then the footer is. */
  readonly end: number;
}

const ZEROS = new Uint8Array(PIECE_BYTES);

export class DynamicVhd extends VhdImage {
  readonly #parts: DynamicParts;
  readonly #bitmapBytes: number;
  readonly #blockBytes: number;
  readonly #locks = new RangeLocks();
  readonly #growing = new Mutex();
  /** Blocks that are known to have all their sectors. */
  readonly #full: Uint8Array;
  #end: number;

  constructor(file: ImageFile, parts: DynamicParts) {
    super(file, parts.sizeBytes);
    this.#parts = parts;
    this.#blockBytes = parts.header.blockBytes;
    this.#bitmapBytes = bitmapBytesOf(this.#blockBytes);
    this.#full = new Uint8Array(parts.table.length);
    this.#end = parts.end;
  }

  /** Calls `work` for the part of each block that the range touches. */
  async #eachBlock(
    offset: number,
    length: number,
    work: (block: number, within: number, from: number, bytes: number) => Promise<void>,
  ): Promise<void> {
    for (let at = offset; at < offset + length;) {
      const block = Math.floor(at / this.#blockBytes);
      const within = at - block * this.#blockBytes;
      const bytes = Math.min(this.#blockBytes - within, offset + length - at);
      await work(block, within, at - offset, bytes);
      at += bytes;
    }
  }

  /** Where a block's bitmap is; undefined when the block is not there. */
  #place(block: number): number | undefined {
    const sector = this.#parts.table[block] ?? NO_BLOCK;
    return sector === NO_BLOCK ? undefined : sector * SECTOR_BYTES;
  }

  async #bitmap(place: number): Promise<Buffer> {
    const bitmap = Buffer.alloc(this.#bitmapBytes);
    await this.file.read(place, bitmap);
    return bitmap;
  }

  /** The bitmap of a block that lacks sectors, or undefined for one that has all. */
  async #gaps(block: number, place: number): Promise<Buffer | undefined> {
    if (this.#full[block] === 1) return undefined;
    const bitmap = await this.#bitmap(place);
    if (!isFull(bitmap, this.#blockBytes)) return bitmap;
    this.#full[block] = 1;
    return undefined;
  }

  protected readRange(offset: number, targets: readonly Uint8Array[], length: number): Promise<void> {
    return this.#eachBlock(offset, length, async (block, within, from, bytes) => {
      const mine = slicePieces(targets, from, bytes);
      const place = this.#place(block);
      if (place === undefined) {
        fillZero(mine);
        return;
      }
      const gaps = await this.#gaps(block, place);
      await this.file.readv(place + this.#bitmapBytes + within, mine);
      if (gaps) zeroGaps(gaps, within, bytes, mine);
    });
  }

  protected writeRange(offset: number, pieces: readonly Uint8Array[], length: number): Promise<void> {
    return this.#eachBlock(offset, length, async (block, within, from, bytes) => {
      const mine = slicePieces(pieces, from, bytes);
      if (this.#full[block] !== 1) return this.#writeAlone(block, within, mine);
      await this.file.writev((this.#place(block) ?? 0) + this.#bitmapBytes + within, mine);
    });
  }

  async #writeAlone(block: number, within: number, pieces: readonly Uint8Array[]): Promise<void> {
    const lock = await this.#locks.acquire(block, block + 1, true);
    try {
      const place = this.#place(block);
      if (place === undefined) {
        await this.#addBlock(block, within, pieces);
        return;
      }
      const gaps = await this.#gaps(block, place);
      if (gaps) await this.#complete(block, place, gaps);
      await this.file.writev(place + this.#bitmapBytes + within, pieces);
    } finally {
      this.#locks.release(lock);
    }
  }

  /** Writes the zeros that a block's bitmap stands for, then says that they are there. */
  async #complete(block: number, place: number, bitmap: Buffer): Promise<void> {
    const sectors = this.#blockBytes / SECTOR_BYTES;
    for (let sector = 0; sector < sectors;) {
      let end = sector;
      while (end < sectors && !hasSector(bitmap, end) && end - sector < PIECE_BYTES / SECTOR_BYTES) end += 1;
      if (end > sector) {
        const zeros = ZEROS.subarray(0, (end - sector) * SECTOR_BYTES);
        await this.file.write(place + this.#bitmapBytes + sector * SECTOR_BYTES, zeros);
      }
      sector = Math.max(end, sector + 1);
    }
    await this.file.sync();
    await this.file.write(place, Buffer.alloc(this.#bitmapBytes, 0xff));
    this.#full[block] = 1;
  }

  async #addBlock(block: number, within: number, pieces: readonly Uint8Array[]): Promise<void> {
    const place = await this.#growing.run(async () => {
      const at = this.#end;
      const end = at + this.#bitmapBytes + this.#blockBytes;
      await this.file.write(end, this.#parts.footer);
      // Over the footer that was at the end so far.
      await this.file.write(at, Buffer.alloc(this.#bitmapBytes, 0xff));
      this.#end = end;
      return at;
    });
    await this.file.writev(place + this.#bitmapBytes + within, pieces);
    await this.file.sync();
    const entry = Buffer.alloc(4);
    entry.writeUInt32BE(place / SECTOR_BYTES);
    await this.file.write(this.#parts.header.tableOffset + block * 4, entry);
    this.#parts.table[block] = place / SECTOR_BYTES;
    this.#full[block] = 1;
  }

  protected zeroRange(offset: number, length: number): Promise<void> {
    return this.#eachBlock(offset, length, async (block, _within, from, bytes) => {
      if (this.#place(block) === undefined) return;
      for (let at = 0; at < bytes; at += PIECE_BYTES) {
        const piece = ZEROS.subarray(0, Math.min(PIECE_BYTES, bytes - at));
        await this.writeRange(offset + from + at, [piece], piece.length);
      }
    });
  }
}

/** Zeroes what of a part of a block belongs to sectors that are not there. */
function zeroGaps(bitmap: Buffer, within: number, bytes: number, pieces: readonly Uint8Array[]): void {
  for (let at = within; at < within + bytes;) {
    const sector = Math.floor(at / SECTOR_BYTES);
    const end = Math.min((sector + 1) * SECTOR_BYTES, within + bytes);
    if (!hasSector(bitmap, sector)) fillZero(slicePieces(pieces, at - within, end - at));
    at = end;
  }
}
