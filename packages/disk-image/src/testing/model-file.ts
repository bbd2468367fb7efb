/**
 * A file that remembers the order of its changes, so that a test can look at what a crash would have left: the first n changes (a killed
 * process), or of those after the last sync any that a power failure let through.
 */
import type { ImageFile } from '../file/image-file.ts';
import { bytesOf } from '../vector.ts';

export type Change =
  | { readonly kind: 'write'; readonly offset: number; readonly data: Uint8Array }
  | { readonly kind: 'truncate'; readonly sizeBytes: number }
  | { readonly kind: 'sync' };

export class ModelFile implements ImageFile {
  readonly path = '/model';
  readonly readOnly: boolean;
  readonly isDevice = false;
  readonly canPunch = false;
  readonly changes: Change[] = [];
  #bytes: Buffer;

  constructor(bytes: Uint8Array, options: { readonly readOnly?: boolean } = {}) {
    this.#bytes = Buffer.from(bytes);
    this.readOnly = options.readOnly ?? false;
  }

  get sizeBytes(): number {
    return this.#bytes.length;
  }

  get bytes(): Buffer {
    return this.#bytes;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    await Promise.resolve();
    target.fill(0);
    const there = Math.max(0, Math.min(target.length, this.#bytes.length - offset));
    if (there > 0) target.set(this.#bytes.subarray(offset, offset + there));
  }

  async readv(offset: number, targets: readonly Uint8Array[]): Promise<void> {
    let at = offset;
    for (const target of targets) {
      await this.read(at, target);
      at += target.length;
    }
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    await Promise.resolve();
    if (this.readOnly) throw new Error('a write to a file that is open for reading');
    const change: Change = { kind: 'write', offset, data: Uint8Array.from(data) };
    this.changes.push(change);
    this.#bytes = after(this.#bytes, change);
  }

  async writev(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    const data = Buffer.concat(pieces, bytesOf(pieces));
    await this.write(offset, data);
  }

  async sync(): Promise<void> {
    this.changes.push({ kind: 'sync' });
    // Others get their turn meanwhile, as they do on a disk.
    for (let turn = 0; turn < 3; turn += 1) await Promise.resolve();
  }

  punch(): Promise<boolean> {
    return Promise.resolve(false);
  }

  async truncate(sizeBytes: number): Promise<void> {
    await Promise.resolve();
    const change: Change = { kind: 'truncate', sizeBytes };
    this.changes.push(change);
    this.#bytes = after(this.#bytes, change);
  }

  refreshSize(): Promise<number> {
    return Promise.resolve(this.sizeBytes);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** The file's bytes after one more change. */
export function after(bytes: Buffer, change: Change): Buffer {
  if (change.kind === 'sync') return bytes;
  const size =
    change.kind === 'truncate' ? change.sizeBytes : Math.max(bytes.length, change.offset + change.data.length);
  let next = bytes;
  if (size !== bytes.length) {
    next = Buffer.alloc(size);
    bytes.copy(next);
  }
  if (change.kind === 'write') next.set(change.data, change.offset);
  return next;
}

/** What is left of a file whose changes end after the first `count`, of which a power failure took those that `lost` picks and no sync kept. */
export function cutOff(
  start: Uint8Array,
  changes: readonly Change[],
  count: number,
  lost: (index: number) => boolean,
): Buffer {
  const kept = changes.slice(0, count);
  const lastSync = kept.findLastIndex((change) => change.kind === 'sync');
  let bytes: Buffer = Buffer.from(start);
  for (const [index, change] of kept.entries()) {
    // The order of what is lost is free, the file's length is not: it is written down with the data.
    if (index > lastSync && change.kind === 'write' && lost(index)) continue;
    bytes = after(bytes, change);
  }
  return bytes;
}
