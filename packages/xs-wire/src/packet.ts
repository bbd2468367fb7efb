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

/**
 * Cuts a byte stream into packets. A header that announces more than XS_PAYLOAD_MAX bytes is a protocol violation:
 * `violated` becomes true, and this and all later bytes yield nothing (the stream cannot be resynchronised).
 */
export class XsPacketParser {
  #pending: Buffer = EMPTY;
  #violated = false;

  get violated(): boolean {
    return this.#violated;
  }

  /** Bytes of an unfinished packet; at most a header and a full payload. */
  get pendingBytes(): number {
    return this.#pending.length;
  }

  /** Every packet that is complete with this chunk, in order. Keeps views into `chunk`, which must not be overwritten later. */
  push(chunk: Uint8Array): XsPacket[] {
    const packets: XsPacket[] = [];
    if (this.#violated) return packets;
    const fresh = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const bytes = this.#pending.length === 0 ? fresh : Buffer.concat([this.#pending, fresh]);
    let at = 0;
    while (bytes.length - at >= XS_HEADER_SIZE) {
      const length = bytes.readUInt32LE(at + 12);
      if (length > XS_PAYLOAD_MAX) {
        this.#violated = true;
        this.#pending = EMPTY;
        return packets;
      }
      const end = at + XS_HEADER_SIZE + length;
      if (end > bytes.length) break;
      packets.push({
        op: bytes.readUInt32LE(at),
        reqId: bytes.readUInt32LE(at + 4),
        txId: bytes.readUInt32LE(at + 8),
        payload: bytes.subarray(at + XS_HEADER_SIZE, end),
      });
      at = end;
    }
    // A copy, so that a trickle of bytes does not keep the whole chunk alive.
    this.#pending = at === bytes.length ? EMPTY : Buffer.from(bytes.subarray(at));
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
