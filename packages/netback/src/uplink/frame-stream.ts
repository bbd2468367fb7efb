/**
 * Frames over a byte stream: each behind its length as a 4-byte big-endian number. It is what QEMU's stream sockets and passt
 * speak, and what our tap helper and TCP links do.
 */
import type { Duplex } from 'node:stream';
import { MAX_QUEUED_BYTES } from './limits.ts';

const LENGTH_BYTES = 4;

/** Cuts a stream into frames. Pure: bytes in, frames out. */
export class FrameDecoder {
  readonly #maxBytes: number;
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Calls `frame` for each frame that is whole now. Throws RangeError for a length above the maximum: the stream is lost then. */
  push(chunk: Uint8Array, frame: (bytes: Uint8Array) => void): void {
    let bytes = chunk;
    if (this.#pendingBytes > 0) {
      this.#pending.push(chunk);
      this.#pendingBytes += chunk.length;
      const wanted = this.#wanted();
      if (wanted === undefined || this.#pendingBytes < wanted) return;
      bytes = Buffer.concat(this.#pending);
      this.#pending = [];
      this.#pendingBytes = 0;
    }
    let at = 0;
    while (at + LENGTH_BYTES <= bytes.length) {
      const to = at + this.#frameBytes(bytes, at);
      if (to > bytes.length) break;
      frame(bytes.subarray(at + LENGTH_BYTES, to));
      at = to;
    }
    if (at === bytes.length) return;
    this.#pending = [bytes.subarray(at)];
    this.#pendingBytes = bytes.length - at;
  }

  /** Bytes of the first frame with its length; undefined when even the length has not come. */
  #wanted(): number | undefined {
    if (this.#pendingBytes < LENGTH_BYTES) return undefined;
    const [first = new Uint8Array(0)] = this.#pending;
    return first.length >= LENGTH_BYTES ? this.#frameBytes(first, 0) : LENGTH_BYTES;
  }

  #frameBytes(bytes: Uint8Array, at: number): number {
    const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);
    if (length > this.#maxBytes) throw new RangeError(`a frame of ${length} bytes`);
    return LENGTH_BYTES + length;
  }
}

export interface FrameStreamEnds {
  readonly frame: (bytes: Uint8Array) => void;
  /** Once, when the stream has ended, for whatever reason. */
  readonly closed: (reason: string) => void;
}

/** One stream of frames both ways, with a bound on what waits to be sent. */
export class FrameStream {
  readonly #stream: Duplex;
  #corked = false;
  #open = true;

  constructor(stream: Duplex, maxBytes: number, ends: FrameStreamEnds) {
    this.#stream = stream;
    const decoder = new FrameDecoder(maxBytes);
    let reason = 'the stream ended';
    stream.on('data', (chunk: Uint8Array) => {
      if (!this.#open) return;
      try {
        decoder.push(chunk, ends.frame);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        reason = error.message;
        stream.destroy();
      }
    });
    stream.on('error', (error) => {
      reason = error.message;
    });
    stream.on('close', () => {
      this.#open = false;
      ends.closed(reason);
    });
    stream.on('end', () => stream.destroy());
  }

  /** Sends one frame, given in parts; false when too much waits already and it was dropped. */
  send(...parts: readonly Uint8Array[]): boolean {
    if (!this.#open || this.#stream.writableLength > MAX_QUEUED_BYTES) return false;
    if (!this.#corked) {
      // All frames of one turn go with one system call.
      this.#corked = true;
      this.#stream.cork();
      process.nextTick(() => {
        this.#corked = false;
        this.#stream.uncork();
      });
    }
    const length = new Uint8Array(LENGTH_BYTES);
    new DataView(length.buffer).setUint32(
      0,
      parts.reduce((sum, part) => sum + part.length, 0),
    );
    this.#stream.write(length);
    for (const part of parts) this.#stream.write(part);
    return true;
  }

  close(): void {
    this.#open = false;
    this.#stream.destroy();
  }
}
