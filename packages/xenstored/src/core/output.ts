/** What waits to be sent on one connection: whole packets, taken as bytes by whichever transport. */
import { XS_PAYLOAD_MAX, XsOp, encodeXsPacket } from '@xenhost/xs-wire';

interface Queued {
  readonly bytes: Buffer;
  /** Key of a watch event, for dropping a duplicate of one that still waits. */
  readonly event: string | undefined;
}

export class OutputQueue {
  readonly #items: Queued[] = [];
  readonly #events = new Set<string>();
  #head = 0;
  /** Bytes of the first item already taken. */
  #offset = 0;
  #bytes = 0;
  #replies = 0;

  /** Bytes waiting. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Replies waiting, events not counted. */
  get replies(): number {
    return this.#replies;
  }

  reply(op: number, reqId: number, txId: number, payload: Uint8Array | string): void {
    this.#replies++;
    this.#push({ bytes: encodeXsPacket(op, reqId, txId, payload), event: undefined });
  }

  /** Queues a watch event. An equal one that still waits is enough, but for special (`@`) paths; one too long for a packet is dropped. */
  event(path: string, token: string): void {
    const payload = `${path}\0${token}\0`;
    if (payload.length > XS_PAYLOAD_MAX) return;
    const key = path.startsWith('@') ? undefined : payload;
    if (key !== undefined) {
      if (this.#events.has(key)) return;
      this.#events.add(key);
    }
    this.#push({ bytes: encodeXsPacket(XsOp.WATCH_EVENT, 0, 0, payload), event: key });
  }

  /** Takes up to `max` bytes from the front. */
  take(max = Number.MAX_SAFE_INTEGER): Buffer {
    const pieces: Buffer[] = [];
    let left = max;
    while (left > 0) {
      const item = this.#items[this.#head];
      if (item === undefined) break;
      const rest = item.bytes.length - this.#offset;
      const size = Math.min(rest, left);
      pieces.push(item.bytes.subarray(this.#offset, this.#offset + size));
      left -= size;
      this.#bytes -= size;
      if (size < rest) {
        this.#offset += size;
        break;
      }
      this.#offset = 0;
      this.#head++;
      if (item.event === undefined) this.#replies -= item.bytes.readUInt32LE(0) === XsOp.WATCH_EVENT ? 0 : 1;
      else this.#events.delete(item.event);
    }
    if (this.#head === this.#items.length) {
      this.#items.length = 0;
      this.#head = 0;
    } else if (this.#head > 1024) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    const [only] = pieces;
    return pieces.length === 1 && only !== undefined ? only : Buffer.concat(pieces);
  }

  clear(): void {
    this.#items.length = 0;
    this.#events.clear();
    this.#head = 0;
    this.#offset = 0;
    this.#bytes = 0;
    this.#replies = 0;
  }

  #push(item: Queued): void {
    this.#items.push(item);
    this.#bytes += item.bytes.length;
  }
}
