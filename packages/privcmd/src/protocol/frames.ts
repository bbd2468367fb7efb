/**
 * Framing: u32 header length, u32 payload length (little-endian), header (protobuf), payload (raw bytes). Sizes are
 * checked before anything is allocated, and what is allocated grows with what was really received: a peer that
 * announces much and sends little costs little. No I/O: bytes in, frames out.
 */

export interface Frame {
  readonly header: Uint8Array;
  readonly payload: Uint8Array;
}

export interface FrameLimits {
  readonly maxHeaderBytes: number;
  readonly maxPayloadBytes: number;
}

const PREFIX = 8;
/** Copying so much is cheaper than a second piece for the kernel. */
const COPIED_PAYLOAD_BYTES = 16 * 1024;
/** Pages of it that nothing was received for cost nothing: the system gives them when they are written. */
const FIRST_ALLOCATION = 1024 * 1024 + 64 * 1024;

/** Frames that are worth to be used again. */
const MIN_SPARE = 32 * 1024;
const MAX_SPARE = 4 * 1024 * 1024;

/** The peer broke the framing; the connection cannot go on. */
export class FrameError extends Error {
  override readonly name = 'FrameError';
}

/** The chunks of one frame, ready to be written one after the other. A small one is one chunk; a large `payload` is not copied. */
export function encodeFrame(header: Uint8Array, payload: readonly Uint8Array[] = []): Uint8Array[] {
  const size = payload.reduce((sum, part) => sum + part.length, 0);
  const isSmall = size <= COPIED_PAYLOAD_BYTES;
  const head = Buffer.allocUnsafe(PREFIX + header.length + (isSmall ? size : 0));
  head.writeUInt32LE(header.length, 0);
  head.writeUInt32LE(size, 4);
  head.set(header, PREFIX);
  if (!isSmall) return [head, ...merged(payload)];
  let at = PREFIX + header.length;
  for (const part of payload) {
    head.set(part, at);
    at += part.length;
  }
  return [head];
}

/** Neighbours in memory become one part: a batch of page writes from one image is one write to the socket. */
function merged(parts: readonly Uint8Array[]): Uint8Array[] {
  const out: Uint8Array[] = [];
  let last: Uint8Array | undefined;
  for (const part of parts) {
    if (part.length === 0) continue;
    if (last?.buffer === part.buffer && last.byteOffset + last.length === part.byteOffset) {
      last = new Uint8Array(last.buffer, last.byteOffset, last.length + part.length);
      out[out.length - 1] = last;
      continue;
    }
    last = part;
    out.push(part);
  }
  return out;
}

/** Memory that is a frame's alone. Small frames lie in the pool that all of Node's buffers share. */
const ownMemory = new WeakSet<ArrayBufferLike>();

/** Bytes that will all be overwritten before anybody sees them. */
function fresh(length: number): Uint8Array<ArrayBuffer> {
  if (length < MIN_SPARE) return Buffer.allocUnsafe(length);
  const bytes = Buffer.allocUnsafeSlow(length);
  ownMemory.add(bytes.buffer);
  return bytes;
}

export class FrameReader {
  readonly #limits: FrameLimits;
  readonly #prefix = new Uint8Array(PREFIX);
  #prefixFill = 0;
  #headerLength = 0;
  #total = 0;
  #body = new Uint8Array(0);
  #fill = 0;
  /** Of a frame that was done with. */
  #spare: Uint8Array<ArrayBuffer> | undefined;

  constructor(limits: FrameLimits) {
    this.#limits = limits;
  }

  /** Bytes held of a frame that is not complete. */
  get buffered(): number {
    return this.#body.length;
  }

  /**
   * Frames completed by `chunk`. Their bytes are theirs: nothing is shared with the chunk.
   * @throws FrameError when a length is over its limit
   */
  push(chunk: Uint8Array): Frame[] {
    const frames: Frame[] = [];
    let at = 0;
    while (at < chunk.length) {
      if (this.#prefixFill < PREFIX) {
        const n = Math.min(PREFIX - this.#prefixFill, chunk.length - at);
        this.#prefix.set(chunk.subarray(at, at + n), this.#prefixFill);
        this.#prefixFill += n;
        at += n;
        if (this.#prefixFill < PREFIX) break;
        this.#begin();
      }
      const n = Math.min(this.#total - this.#fill, chunk.length - at);
      this.#reserve(this.#fill + n);
      this.#body.set(chunk.subarray(at, at + n), this.#fill);
      this.#fill += n;
      at += n;
      if (this.#fill === this.#total) frames.push(this.#finish());
    }
    return frames;
  }

  /** Nobody holds bytes of this frame any more: a later one may take its place. Large ones would keep the garbage collector busy. */
  recycle({ header, payload }: Frame): void {
    const { buffer } = header;
    if (!(buffer instanceof ArrayBuffer) || buffer !== payload.buffer || !ownMemory.has(buffer)) return;
    const length = buffer.byteLength;
    if (length > MAX_SPARE || length <= (this.#spare?.length ?? 0)) return;
    this.#spare = new Uint8Array(buffer);
  }

  #begin(): void {
    const dv = new DataView(this.#prefix.buffer);
    const header = dv.getUint32(0, true);
    const payload = dv.getUint32(4, true);
    const { maxHeaderBytes, maxPayloadBytes } = this.#limits;
    if (header > maxHeaderBytes) throw new FrameError(`header of ${header} bytes, limit ${maxHeaderBytes}`);
    if (payload > maxPayloadBytes) throw new FrameError(`payload of ${payload} bytes, limit ${maxPayloadBytes}`);
    if (header === 0) throw new FrameError('frame without a header');
    this.#headerLength = header;
    this.#total = header + payload;
    this.#fill = 0;
    const spare = this.#total >= MIN_SPARE && this.#total <= (this.#spare?.length ?? 0) ? this.#spare : undefined;
    if (spare) this.#spare = undefined;
    this.#body = spare ?? fresh(Math.min(this.#total, FIRST_ALLOCATION));
  }

  #reserve(size: number): void {
    if (size <= this.#body.length) return;
    const grown = fresh(Math.min(this.#total, Math.max(size, this.#body.length * 4)));
    grown.set(this.#body.subarray(0, this.#fill));
    this.#body = grown;
  }

  #finish(): Frame {
    const frame = {
      header: this.#body.subarray(0, this.#headerLength),
      payload: this.#body.subarray(this.#headerLength, this.#total),
    };
    this.#prefixFill = 0;
    this.#body = new Uint8Array(0);
    this.#fill = 0;
    return frame;
  }
}
