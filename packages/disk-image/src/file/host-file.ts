/** A file or block device of this machine. */
import fs from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { ImageError } from '../errors.ts';
import { MAX_DISK_BYTES, MAX_VECTOR } from '../limits.ts';
import { bytesOf } from '../vector.ts';
import type { ImageFile } from './image-file.ts';
import { Pace } from './pace.ts';
import { puncher } from './puncher.ts';

/** Once the `fallocate` command or the file system has said no, it is not asked again. */
type Punching = 'untried' | 'works' | 'no';

export class HostFile implements ImageFile {
  readonly path: string;
  readonly readOnly: boolean;
  readonly isDevice: boolean;
  readonly #fd: number;
  readonly #reading = new Pace(performance);
  readonly #writing = new Pace(performance);
  #sizeBytes: number;
  #punching: Punching;
  /** The sync that calls may still join, since it has not begun. */
  #nextSync: Promise<void> | undefined;
  #sync: Promise<void> = Promise.resolve();

  private constructor(fd: number, found: { path: string; readOnly: boolean; isDevice: boolean; sizeBytes: number }) {
    this.#fd = fd;
    this.path = found.path;
    this.readOnly = found.readOnly;
    this.isDevice = found.isDevice;
    this.#sizeBytes = found.sizeBytes;
    this.#punching = found.readOnly || found.isDevice ? 'no' : 'untried';
  }

  /** Throws errors of the file system, and ImageError for what is neither a file nor a block device. */
  static async open(
    path: string,
    options: { readonly readOnly: boolean; readonly create?: boolean },
  ): Promise<HostFile> {
    // Asked first: opening a pipe or a terminal line may wait or have effects.
    if (!options.create) checkKind(await stat(path), path);
    const flags = options.create ? 'wx+' : options.readOnly ? 'r' : 'r+';
    const fd = await new Promise<number>((resolve, reject) => {
      fs.open(path, flags, 0o600, (error, opened) => {
        if (error) reject(error);
        else resolve(opened);
      });
    });
    try {
      const found = fs.fstatSync(fd);
      checkKind(found, path);
      const isDevice = found.isBlockDevice();
      const sizeBytes = checkSize(isDevice ? await deviceSize(path) : found.size, path);
      return new HostFile(fd, { path, readOnly: options.readOnly, isDevice, sizeBytes });
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async read(offset: number, target: Uint8Array): Promise<void> {
    let done = 0;
    while (done < target.length) {
      const direct = this.#reading.direct;
      const start = performance.now();
      const length = target.length - done;
      const got = direct
        ? fs.readSync(this.#fd, target, done, length, offset + done)
        : await pooled(fs.read, this.#fd, target, done, length, offset + done);
      this.#reading.done(direct, start, got);
      if (got === 0) target.fill(0, done);
      done += got === 0 ? length : got;
    }
  }

  async readv(offset: number, targets: readonly Uint8Array[]): Promise<void> {
    if (targets.length === 1 && targets[0]) return this.read(offset, targets[0]);
    for (let first = 0, at = offset; first < targets.length; first += MAX_VECTOR) {
      const some = targets.slice(first, first + MAX_VECTOR);
      const length = bytesOf(some);
      const direct = this.#reading.direct;
      const start = performance.now();
      const got = direct ? fs.readvSync(this.#fd, some, at) : await pooledVector(fs.readv, this.#fd, some, at);
      this.#reading.done(direct, start, got);
      if (got < length) await eachAfter(some, got, (piece, skipped) => this.read(at + skipped, piece));
      at += length;
    }
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    let done = 0;
    while (done < data.length) {
      const direct = this.#writing.direct;
      const start = performance.now();
      const length = data.length - done;
      const put = direct
        ? fs.writeSync(this.#fd, data, done, length, offset + done)
        : await pooled(fs.write, this.#fd, data, done, length, offset + done);
      this.#writing.done(direct, start, put);
      done += put;
    }
    this.#wrote(offset + data.length);
  }

  async writev(offset: number, pieces: readonly Uint8Array[]): Promise<void> {
    if (pieces.length === 1 && pieces[0]) return this.write(offset, pieces[0]);
    for (let first = 0, at = offset; first < pieces.length; first += MAX_VECTOR) {
      const some = pieces.slice(first, first + MAX_VECTOR);
      const length = bytesOf(some);
      const direct = this.#writing.direct;
      const start = performance.now();
      const put = direct ? fs.writevSync(this.#fd, some, at) : await pooledVector(fs.writev, this.#fd, some, at);
      this.#writing.done(direct, start, put);
      if (put < length) await eachAfter(some, put, (piece, skipped) => this.write(at + skipped, piece));
      at += length;
      this.#wrote(at);
    }
  }

  #wrote(end: number): void {
    if (!this.isDevice && end > this.#sizeBytes) this.#sizeBytes = end;
  }

  /** Calls that come while one runs share the next one. */
  sync(): Promise<void> {
    if (this.#nextSync) return this.#nextSync;
    const begin = (): Promise<void> => {
      this.#nextSync = undefined;
      return new Promise((resolve, reject) => {
        fs.fdatasync(this.#fd, (error) => {
          if (error) reject(error);
          else resolve();
        });
      });
    };
    const next = this.#sync.then(begin, begin);
    this.#nextSync = next;
    this.#sync = next;
    return next;
  }

  async punch(offset: number, length: number): Promise<boolean> {
    if (this.#punching === 'no') return false;
    const ok = await puncher.punch(this.#fd, offset, length);
    this.#punching = ok ? 'works' : 'no';
    return ok;
  }

  /** Whether punch() may do something. */
  get canPunch(): boolean {
    return this.#punching !== 'no';
  }

  async truncate(sizeBytes: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      fs.ftruncate(this.#fd, sizeBytes, (error) => {
        if (error) reject(error);
        else resolve();
      });
    });
    this.#sizeBytes = sizeBytes;
  }

  async refreshSize(): Promise<number> {
    const now = this.isDevice ? await deviceSize(this.path) : fs.fstatSync(this.#fd).size;
    this.#sizeBytes = checkSize(now, this.path);
    return this.#sizeBytes;
  }

  async close(): Promise<void> {
    await this.#sync.catch(() => undefined);
    fs.closeSync(this.#fd);
  }
}

function checkKind(found: fs.Stats, path: string): void {
  if (found.isFile() || found.isBlockDevice()) return;
  throw new ImageError('NOT_AN_IMAGE', `${path} is neither a file nor a block device`);
}

function checkSize(sizeBytes: number, path: string): number {
  if (sizeBytes <= MAX_DISK_BYTES) return sizeBytes;
  throw new ImageError('LIMIT', `${path} has ${sizeBytes} bytes, more than ${MAX_DISK_BYTES}`);
}

/** stat() knows no size of a device: where its end is, is found by reading, as no ioctl can be asked. */
async function deviceSize(path: string): Promise<number> {
  const device = await open(path, 'r');
  try {
    const byte = Buffer.alloc(1);
    const has = async (offset: number): Promise<boolean> =>
      (await device.read(byte, 0, 1, offset).catch(() => ({ bytesRead: 0 }))).bytesRead === 1;
    if (!(await has(0))) return 0;
    // The last byte that can be read lies in [low, high).
    let [low, high] = [0, 1];
    while (high <= MAX_DISK_BYTES && (await has(high))) [low, high] = [high, high * 2];
    while (high - low > 1) {
      const middle = Math.floor((low + high) / 2);
      if (await has(middle)) low = middle;
      else high = middle;
    }
    return high;
  } finally {
    await device.close();
  }
}

/** What is left of the pieces after their first `skip` bytes, one by one, with how far each is from the first. */
async function eachAfter(
  pieces: readonly Uint8Array[],
  skip: number,
  work: (piece: Uint8Array, offset: number) => Promise<void>,
): Promise<void> {
  let at = 0;
  for (const piece of pieces) {
    const cut = Math.max(0, Math.min(piece.length, skip - at));
    if (cut < piece.length) await work(piece.subarray(cut), at + cut);
    at += piece.length;
  }
}

type Transfer = (
  fd: number,
  buffer: Uint8Array,
  offset: number,
  length: number,
  position: number,
  done: (error: NodeJS.ErrnoException | null, bytes: number) => void,
) => void;

const pooled = (call: Transfer, fd: number, data: Uint8Array, at: number, length: number, position: number) =>
  new Promise<number>((resolve, reject) => {
    call(fd, data, at, length, position, (error, bytes) => {
      if (error) reject(error);
      else resolve(bytes);
    });
  });

type VectorTransfer = (
  fd: number,
  buffers: readonly Uint8Array[],
  position: number,
  done: (error: NodeJS.ErrnoException | null, bytes: number) => void,
) => void;

const pooledVector = (call: VectorTransfer, fd: number, data: readonly Uint8Array[], position: number) =>
  new Promise<number>((resolve, reject) => {
    call(fd, data, position, (error, bytes) => {
      if (error) reject(error);
      else resolve(bytes);
    });
  });
