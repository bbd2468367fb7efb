/** The incremental packet codec. Sans-I/O: bytes in, packets out; used on sockets and on rings alike. */
import { XS_HEADER_SIZE, XS_PAYLOAD_MAX } from './protocol.ts';

export interface XsPacket {
  readonly op: number;
  /** Chosen by the requester, echoed in the reply. */
  readonly reqId: number;
  /** 0 outside transactions. */
  readonly txId: number;
  /** A view of the parsed chunk: copy what has to outlive it. */
  readonly payload: Buffer;
}

const EMPTY = Buffer.alloc(0);
/** Where a header has its payload's length. */
const LENGTH_OFFSET = 12;

/**
 * A byte stream cut into packets, one at a time: what is not taken yet stays bytes. A header that announces more than
 * XS_PAYLOAD_MAX bytes is a protocol violation: `violated` becomes true, and nothing more comes (the stream cannot be resynchronised).
 */
export class XsPacketReader {
  #bytes: Buffer = EMPTY;
  #at = 0;
  #end = 0;
  /** `#bytes` are somebody else's, until `keep()`. */
  #lent = false;
  #violated = false;

  get violated(): boolean {
    return this.#violated;
  }

  /** Bytes that no packet has been made of. */
  get pendingBytes(): number {
    return this.#end - this.#at;
  }

  /** Bytes that no packet has been made of; a view. */
  get rest(): Buffer {
    return this.#bytes.subarray(this.#at, this.#end);
  }

  /** Appends. Keeps views into `chunk`, which must not be overwritten later. */
  push(chunk: Uint8Array): void {
    if (this.#violated) return;
    const fresh = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    if (this.#at === this.#end) this.#become(fresh, fresh.length);
    else this.#append(fresh);
  }

  /** Appends the first `length` bytes of `buffer`, which may be overwritten once `keep()` has been called. Packets are views of it. */
  lend(buffer: Buffer, length: number): void {
    if (this.#violated) return;
    if (this.#at === this.#end) {
      this.#become(buffer, length);
      this.#lent = true;
    } else {
      this.#append(buffer.subarray(0, length));
    }
  }

  /** What is left of bytes that were lent is copied. */
  keep(): void {
    if (!this.#lent) return;
    const rest = this.#at === this.#end ? EMPTY : Buffer.from(this.rest);
    this.#become(rest, rest.length);
  }

  /** Whether `next()` has something to give. */
  get ready(): boolean {
    const at = this.#at;
    const rest = this.#end - at;
    if (rest < XS_HEADER_SIZE) return false;
    const length = this.#bytes.readUInt32LE(at + LENGTH_OFFSET);
    return length > XS_PAYLOAD_MAX || rest >= XS_HEADER_SIZE + length;
  }

  /** The next whole packet; undefined when there is none yet, or never again. */
  next(): XsPacket | undefined {
    const bytes = this.#bytes;
    const at = this.#at;
    if (this.#end - at < XS_HEADER_SIZE) {
      this.#incomplete();
      return;
    }
    const length = bytes.readUInt32LE(at + LENGTH_OFFSET);
    if (length > XS_PAYLOAD_MAX) {
      this.#violated = true;
      this.#become(EMPTY, 0);
      return undefined;
    }
    const end = at + XS_HEADER_SIZE + length;
    if (end > this.#end) {
      this.#incomplete();
      return;
    }
    this.#at = end;
    return {
      op: bytes.readUInt32LE(at),
      reqId: bytes.readUInt32LE(at + 4),
      txId: bytes.readUInt32LE(at + 8),
      payload: bytes.subarray(at + XS_HEADER_SIZE, end),
    };
  }

  #become(bytes: Buffer, length: number): void {
    this.#bytes = bytes;
    this.#at = 0;
    this.#end = length;
    this.#lent = false;
  }

  #append(fresh: Buffer): void {
    const all = Buffer.concat([this.rest, fresh]);
    this.#become(all, all.length);
  }

  /** A copy of what is left, so that a trickle of bytes does not keep whole chunks alive. */
  #incomplete(): void {
    if (this.#at === 0 || this.#lent) return;
    const rest = this.#at === this.#end ? EMPTY : Buffer.from(this.rest);
    this.#become(rest, rest.length);
  }
}

/** As XsPacketReader, all whole packets of a chunk at once. */
export class XsPacketParser {
  readonly #reader = new XsPacketReader();

  get violated(): boolean {
    return this.#reader.violated;
  }

  /** Bytes of an unfinished packet; at most a header and a full payload. */
  get pendingBytes(): number {
    return this.#reader.pendingBytes;
  }

  /** Every packet that is complete with this chunk, in order. Keeps views into `chunk`, which must not be overwritten later. */
  push(chunk: Uint8Array): XsPacket[] {
    const packets: XsPacket[] = [];
    this.#reader.push(chunk);
    for (let packet = this.#reader.next(); packet; packet = this.#reader.next()) packets.push(packet);
    return packets;
  }
}

/** One packet as bytes. Strings are written as latin1: the daemon treats names and tokens as bytes. Throws RangeError over the payload limit. */
export function encodeXsPacket(op: number, reqId: number, txId: number, payload: Uint8Array | string): Buffer {
  const length = payload.length;
  if (length > XS_PAYLOAD_MAX) throw new RangeError(`xenstore payload of ${length} bytes is over ${XS_PAYLOAD_MAX}`);
  const packet = Buffer.allocUnsafe(XS_HEADER_SIZE + length);
  packet.writeUInt32LE(op, 0);
  packet.writeUInt32LE(reqId, 4);
  packet.writeUInt32LE(txId, 8);
  packet.writeUInt32LE(length, 12);
  if (typeof payload === 'string') packet.write(payload, XS_HEADER_SIZE, 'latin1');
  else packet.set(payload, XS_HEADER_SIZE);
  return packet;
}

/** Splits a payload of NUL-terminated strings. A last piece without its NUL is returned as `rest`. */
export function splitStrings(payload: Buffer): { readonly strings: string[]; readonly rest: Buffer } {
  const strings: string[] = [];
  let at = 0;
  for (;;) {
    const nul = payload.indexOf(0, at);
    if (nul < 0) return { strings, rest: payload.subarray(at) };
    strings.push(payload.toString('latin1', at, nul));
    at = nul + 1;
  }
}

/** NUL-terminates and joins. */
export const joinStrings = (strings: readonly string[]): string => strings.map((s) => s + '\0').join('');
