/** A disk in memory whose accesses wait when a test wants them to, and fail where it wants. */
import type { Disk } from '../ring/disk.ts';

export interface Access {
  readonly what: 'read' | 'write' | 'flush' | 'discard';
  readonly offset: number;
  readonly length: number;
}

export class MemoryDisk implements Disk {
  readonly bytes: Uint8Array;
  readOnly = false;
  canDiscard = true;
  /** Every access in the order of its beginning. */
  readonly accesses: Access[] = [];
  /** Sectors that cannot be read or written. */
  readonly badSectors = new Set<number>();
  #held: (() => void)[] | undefined;

  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
  }

  get sizeBytes(): number {
    return this.bytes.length;
  }

  /** From now on accesses wait for `release`. */
  hold(): void {
    this.#held ??= [];
  }

  /** Lets go of what waits: all, or the one at `index`. */
  release(index?: number): void {
    const held = this.#held ?? [];
    if (index === undefined) this.#held = undefined;
    for (const resolve of index === undefined ? held : held.splice(index, 1)) resolve();
  }

  get waiting(): number {
    return this.#held?.length ?? 0;
  }

  read(offset: number, target: Uint8Array): Promise<void> {
    return this.#access({ what: 'read', offset, length: target.length }, () => {
      target.set(this.bytes.subarray(offset, offset + target.length));
    });
  }

  writev(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const length = pieces.reduce((sum, piece) => sum + piece.length, 0);
    return this.#access({ what: 'write', offset, length }, () => {
      let at = offset;
      for (const piece of pieces) {
        this.bytes.set(piece, at);
        at += piece.length;
      }
    });
  }

  flush(): Promise<void> {
    return this.#access({ what: 'flush', offset: 0, length: 0 }, () => undefined);
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#access({ what: 'discard', offset, length }, () => {
      this.bytes.fill(0, offset, offset + length);
    });
  }

  async #access(access: Access, body: () => void): Promise<void> {
    this.accesses.push(access);
    if (access.offset + access.length > this.sizeBytes) throw new RangeError('past the end of the disk');
    const held = this.#held;
    if (held) await new Promise<void>((resolve) => held.push(resolve));
    for (let at = access.offset; at < access.offset + access.length; at += 512) {
      if (this.badSectors.has(at / 512)) throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
    }
    body();
  }
}
