/**
 * What RFB clients send after the handshake (RFC 6143, 7.5), cut out of a stream. Sans-I/O and bounded: texts of clipboards are
 * dropped as they come, lists of encodings are cut, and no message makes more than its own few bytes wait.
 */
import { MAX_CUT_TEXT_BYTES, MAX_ENCODINGS } from '../limits.ts';
import type { Rect } from '../screen.ts';
import { PIXEL_FORMAT_BYTES } from './pixel-format.ts';

export type ClientMessage =
  /** Still on the wire. */
  | { readonly kind: 'setPixelFormat'; readonly format: Uint8Array }
  | { readonly kind: 'setEncodings'; readonly encodings: readonly number[] }
  | { readonly kind: 'updateRequest'; readonly incremental: boolean; readonly rect: Rect }
  | { readonly kind: 'key'; readonly down: boolean; readonly keysym: number; readonly scancode?: number }
  | { readonly kind: 'pointer'; readonly buttons: number; readonly x: number; readonly y: number }
  | { readonly kind: 'violation'; readonly reason: string };

const Type = {
  setPixelFormat: 0,
  setEncodings: 2,
  updateRequest: 3,
  key: 4,
  pointer: 5,
  cutText: 6,
  qemu: 255,
} as const;

/** Bytes of each message, or of the head of one whose length is in it. */
const LENGTHS: Readonly<Record<number, number>> = {
  [Type.setPixelFormat]: 4 + PIXEL_FORMAT_BYTES,
  [Type.setEncodings]: 4,
  [Type.updateRequest]: 10,
  [Type.key]: 8,
  [Type.pointer]: 6,
  [Type.cutText]: 8,
  [Type.qemu]: 12,
};
/** Of QEMU's own messages the one that tells scancodes. */
const QEMU_KEY = 0;

/** Bytes that have come and not been taken. */
export class ByteQueue {
  #bytes: Buffer = Buffer.alloc(0);

  push(bytes: Uint8Array): void {
    this.#bytes = this.#bytes.length === 0 ? Buffer.from(bytes) : Buffer.concat([this.#bytes, bytes]);
  }

  get length(): number {
    return this.#bytes.length;
  }

  /** The byte at an index, without taking it. */
  peek(index: number): number | undefined {
    return this.#bytes[index];
  }

  /** Undefined when there are fewer. */
  take(count: number): Buffer | undefined {
    if (this.#bytes.length < count) return undefined;
    const taken = this.#bytes.subarray(0, count);
    this.#bytes = this.#bytes.subarray(count);
    return taken;
  }

  /** Takes up to so many; how many there were. */
  drop(count: number): number {
    const dropped = Math.min(count, this.#bytes.length);
    this.#bytes = this.#bytes.subarray(dropped);
    return dropped;
  }
}

export class ClientMessages {
  readonly #queue: ByteQueue;
  /** Bytes of a clipboard's text that are to come. */
  #toDrop = 0;
  /** A list of encodings under way: how many are to come, and those that are looked at. */
  #encodings: { left: number; readonly list: number[] } | undefined;

  constructor(queue: ByteQueue) {
    this.#queue = queue;
  }

  /** The next message, undefined while it is not all there. After a violation the stream makes no sense any more. */
  next(): ClientMessage | undefined {
    for (;;) {
      this.#toDrop -= this.#queue.drop(this.#toDrop);
      if (this.#toDrop > 0) return undefined;
      if (this.#encodings) return this.#moreEncodings(this.#encodings);
      const type = this.#queue.peek(0);
      if (type === undefined) return undefined;
      const length = LENGTHS[type];
      if (length === undefined) return { kind: 'violation', reason: `message type ${type}` };
      const bytes = this.#queue.take(length);
      if (!bytes) return undefined;
      const message = this.#decode(type, bytes);
      if (message) return message;
    }
  }

  /** Undefined when nothing follows from it, or more has to come. */
  #decode(type: number, bytes: Buffer): ClientMessage | undefined {
    switch (type) {
      case Type.setPixelFormat:
        return { kind: 'setPixelFormat', format: Uint8Array.from(bytes.subarray(4)) };
      case Type.setEncodings:
        this.#encodings = { left: bytes.readUInt16BE(2), list: [] };
        return undefined;
      case Type.updateRequest: {
        const [x, y, width, height] = [2, 4, 6, 8].map((at) => bytes.readUInt16BE(at)) as [
          number,
          number,
          number,
          number,
        ];
        return { kind: 'updateRequest', incremental: bytes[1] !== 0, rect: { x, y, width, height } };
      }
      case Type.key:
        return { kind: 'key', down: bytes[1] !== 0, keysym: bytes.readUInt32BE(4) };
      case Type.pointer:
        return { kind: 'pointer', buttons: bytes[1] ?? 0, x: bytes.readUInt16BE(2), y: bytes.readUInt16BE(4) };
      case Type.cutText: {
        const length = bytes.readUInt32BE(4);
        if (length > MAX_CUT_TEXT_BYTES) return { kind: 'violation', reason: `a clipboard of ${length} bytes` };
        this.#toDrop = length;
        return undefined;
      }
      default:
        if (bytes[1] !== QEMU_KEY) return { kind: 'violation', reason: `QEMU message ${bytes[1] ?? 0}` };
        return {
          kind: 'key',
          down: bytes.readUInt16BE(2) !== 0,
          keysym: bytes.readUInt32BE(4),
          scancode: bytes.readUInt32BE(8),
        };
    }
  }

  #moreEncodings(under: { left: number; readonly list: number[] }): ClientMessage | undefined {
    while (under.left > 0) {
      const bytes = this.#queue.take(4);
      if (!bytes) return undefined;
      under.left--;
      if (under.list.length < MAX_ENCODINGS) under.list.push(bytes.readInt32BE(0));
    }
    this.#encodings = undefined;
    return { kind: 'setEncodings', encodings: under.list };
  }
}
