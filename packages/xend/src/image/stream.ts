/** An image on its way between two hosts: a socket read by bytes and lines, written at the other end's pace. */
import type { FileHandle } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { XendError } from '../errors.ts';
import { ImageSink, ImageSource } from './format.ts';

/** Pages are put aside in pieces of so many bytes. */
const PIECE_BYTES = 1 << 20;
const NEWLINE = 0x0a;
const NOTHING = Buffer.alloc(0);

/** Reads as much as is asked for and no more: what is not read stays with the sender. One read at a time. */
export class SocketReader {
  readonly #chunks: AsyncIterator<Buffer, unknown>;
  #rest: Buffer = NOTHING;
  #broke: { readonly error: unknown } | undefined;

  constructor(socket: Socket) {
    this.#chunks = socket.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer, unknown>;
  }

  /** Rejects with the socket's error, and with a XendError when it ends before. */
  async bytes(length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(length);
    for (let done = 0; done < length;) {
      if (this.#rest.length === 0 && !(await this.#more())) throw new XendError('the connection ended too soon');
      const part = this.#rest.subarray(0, length - done);
      buffer.set(part, done);
      this.#rest = this.#rest.subarray(part.length);
      done += part.length;
    }
    return buffer;
  }

  /** A line without its end; undefined at the end of the stream. Rejects when it is longer than `limit` bytes. */
  async line(limit: number): Promise<string | undefined> {
    let line = NOTHING;
    for (;;) {
      const end = this.#rest.indexOf(NEWLINE);
      line = Buffer.concat([line, this.#rest.subarray(0, end < 0 ? undefined : end)]);
      if (line.length > limit) throw new XendError('a line without end');
      this.#rest = end < 0 ? NOTHING : this.#rest.subarray(end + 1);
      if (end >= 0) return line.toString();
      if (!(await this.#more())) return line.length > 0 ? line.toString() : undefined;
    }
  }

  /** Reads on and forgets it, so that the sender sees what was said to it. Never rejects. */
  async discard(limit: number): Promise<void> {
    try {
      for (let left = limit; left > 0; left -= this.#rest.length) if (!(await this.#more())) return;
    } catch {
      // It is gone: nobody is left to be told.
    } finally {
      this.#rest = NOTHING;
    }
  }

  async #more(): Promise<boolean> {
    // Asked again after its error, the iterator would say that the stream ended.
    if (this.#broke) throw this.#broke.error;
    try {
      const { done, value } = await this.#chunks.next();
      if (done) return false;
      this.#rest = value;
      return true;
    } catch (error) {
      this.#broke = { error };
      throw error;
    }
  }
}

/** An image that comes in: its pages are put aside in a file until all that follows them is known. */
export class StreamSource extends ImageSource {
  readonly #reader: SocketReader;
  readonly #spool: FileHandle;
  /** Bytes of pages that are taken at most. */
  limit = 0;
  #length = 0;

  constructor(reader: SocketReader, spool: FileHandle) {
    super();
    this.#reader = reader;
    this.#spool = spool;
  }

  bytes(length: number): Promise<Buffer> {
    return this.#reader.bytes(length);
  }

  async pagesLater(length: number): Promise<number> {
    const position = this.#length;
    if (position + length > this.limit) throw new XendError('the guest has more memory than its configuration says');
    for (let left = length; left > 0; left -= PIECE_BYTES) {
      const piece = await this.#reader.bytes(Math.min(left, PIECE_BYTES));
      await this.#spool.writeFile(piece);
    }
    this.#length += length;
    return position;
  }

  async pagesAt(position: number, length: number): Promise<Buffer> {
    const buffer = Buffer.alloc(length);
    for (let done = 0; done < length;) {
      const { bytesRead } = await this.#spool.read(buffer, done, length - done, position + done);
      if (bytesRead === 0) throw new XendError('pages that were put aside are gone');
      done += bytesRead;
    }
    return buffer;
  }
}

/** Resolves when the kernel has taken the bytes. Rejects with the socket's error. */
export const send = (socket: Socket, bytes: Uint8Array | string): Promise<void> =>
  new Promise((resolve, reject) => {
    socket.write(bytes, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });

/** An image that goes out. */
export class SocketSink extends ImageSink {
  readonly #socket: Socket;
  readonly #over: AbortSignal;

  /** When `over` is aborted nothing more is sent. */
  constructor(socket: Socket, over: AbortSignal) {
    super();
    this.#socket = socket;
    this.#over = over;
  }

  bytes(bytes: Uint8Array): Promise<void> {
    if (this.#over.aborted) return Promise.reject(new XendError('the other host broke off'));
    return send(this.#socket, bytes);
  }
}
