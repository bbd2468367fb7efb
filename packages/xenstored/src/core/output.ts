/**
 * What waits to be sent on one connection: whole packets in one buffer, taken as bytes by whichever transport. Packets count in the
 * domain's memory until they are taken, replies as outstanding requests until they and the events they caused are.
 */
import { XS_HEADER_SIZE, XS_PAYLOAD_MAX, XsOp } from '@xenhost/xs-wire';
import type { Account } from './accounts.ts';

/** A guest's request that caused events: outstanding until the reply and all events have been taken or dropped. */
export class Cause {
  readonly account: Account;
  /** Events that still wait, anywhere. */
  events = 0;
  /** The reply still waits, or does not exist yet. */
  replyWaits = true;

  constructor(account: Account) {
    this.account = account;
  }

  eventDone(): void {
    this.events--;
    if (this.events === 0 && !this.replyWaits) this.account.outstanding--;
  }
}

export interface QueuedPacket {
  /** With the header. */
  readonly size: number;
  readonly kind: 'reply' | 'event';
  /** Payload of an event that an equal one need not follow. */
  readonly key: string | undefined;
  readonly cause: Cause | undefined;
  /** Monotonic milliseconds; Infinity for never. */
  readonly expiresAt: number;
}

const EMPTY = Buffer.alloc(0);
/** Packets that have been taken are dropped from the front of the list once there are this many. */
const COMPACT_AFTER = 1024;

export class OutputQueue {
  readonly #account: Account;
  /** Whether replies count as outstanding: rings do. */
  readonly #counted: boolean;
  #packets: QueuedPacket[] = [];
  #first = 0;
  readonly #keys = new Set<string>();
  #buffer: Buffer = EMPTY;
  #start = 0;
  #end = 0;
  /** Bytes of the first packet already taken. */
  #taken = 0;
  #replies = 0;
  #timed = 0;

  constructor(account: Account, counted: boolean) {
    this.#account = account;
    this.#counted = counted;
  }

  /** Bytes waiting. */
  get bytes(): number {
    return this.#end - this.#start;
  }

  /** Replies waiting, events not counted. */
  get replies(): number {
    return this.#replies;
  }

  /** Whether some event waits that may expire. */
  get timed(): boolean {
    return this.#timed > 0;
  }

  reply(op: number, reqId: number, txId: number, payload: Uint8Array | string, cause?: Cause): void {
    this.#replies++;
    if (this.#counted) this.#account.outstanding++;
    this.#append(op, reqId, txId, payload);
    this.#push({ size: XS_HEADER_SIZE + payload.length, kind: 'reply', key: undefined, cause, expiresAt: Infinity });
  }

  /** Whether an event would be dropped: too long for a packet, or equal to one that waits (special ones never are). */
  needless(payload: string): boolean {
    return payload.length > XS_PAYLOAD_MAX || this.#keys.has(payload);
  }

  /** Queues a watch event that is not needless. */
  event(payload: string, cause: Cause | undefined, expiresAt: number): void {
    const key = payload.startsWith('@') ? undefined : payload;
    if (key !== undefined) this.#keys.add(key);
    if (cause) cause.events++;
    if (expiresAt !== Infinity) this.#timed++;
    this.#append(XsOp.WATCH_EVENT, 0, 0, payload);
    this.#push({ size: XS_HEADER_SIZE + payload.length, kind: 'event', key, cause, expiresAt });
  }

  /** Takes up to `max` bytes from the front. They are the caller's. */
  take(max = Number.MAX_SAFE_INTEGER): Buffer {
    const size = Math.min(max, this.#end - this.#start);
    const bytes = this.#buffer.subarray(this.#start, this.#start + size);
    this.#start += size;
    // What was handed out is not written again; the rest stays behind it.
    if (this.#start === this.#end) this.#release();
    let left = size;
    while (left > 0) {
      const packet = this.#packets[this.#first];
      if (packet === undefined) break;
      const rest = packet.size - this.#taken;
      if (rest > left) {
        this.#taken += left;
        break;
      }
      left -= rest;
      this.#taken = 0;
      this.#first++;
      this.#done(packet);
    }
    this.#compact();
    return bytes;
  }

  /** Drops everything that waits. */
  clear(): void {
    for (let i = this.#first; i < this.#packets.length; i++) {
      const packet = this.#packets[i];
      if (packet) this.#done(packet);
    }
    this.#packets = [];
    this.#first = 0;
    this.#taken = 0;
    this.#release();
  }

  /** Drops events of which no byte has been taken and whose time is over. Milliseconds until the next one's, if there is one. */
  expire(nowMs: number): number | undefined {
    if (this.#timed === 0) return undefined;
    let next = Infinity;
    let at = this.#start - this.#taken;
    const kept: QueuedPacket[] = [];
    const pieces: Buffer[] = [];
    for (let i = this.#first; i < this.#packets.length; i++) {
      const packet = this.#packets[i];
      if (!packet) continue;
      const begun = i === this.#first && this.#taken > 0;
      if (packet.expiresAt <= nowMs && !begun) {
        this.#done(packet);
      } else {
        if (!begun && packet.expiresAt < next) next = packet.expiresAt;
        kept.push(packet);
        pieces.push(this.#buffer.subarray(Math.max(at, this.#start), at + packet.size));
      }
      at += packet.size;
    }
    if (kept.length < this.#packets.length - this.#first) {
      this.#buffer = Buffer.concat(pieces);
      this.#start = 0;
      this.#end = this.#buffer.length;
      this.#packets = kept;
      this.#first = 0;
    }
    return next === Infinity ? undefined : next - nowMs;
  }

  /** What waits, for live update and for counting. `bytes` of the first leaves out those that have been taken. */
  *waiting(): Generator<{ readonly packet: QueuedPacket; readonly bytes: Buffer; readonly taken: number }> {
    let at = this.#start - this.#taken;
    for (let i = this.#first; i < this.#packets.length; i++) {
      const packet = this.#packets[i];
      if (!packet) continue;
      const taken = i === this.#first ? this.#taken : 0;
      yield { packet, bytes: this.#buffer.subarray(at + taken, at + packet.size), taken };
      at += packet.size;
    }
  }

  /** Puts back what waiting() gave, in its order, into an empty queue. */
  restore(packet: QueuedPacket, bytes: Uint8Array): void {
    if (this.#packets.length === 0) this.#taken = packet.size - bytes.length;
    if (packet.key !== undefined) this.#keys.add(packet.key);
    if (packet.expiresAt !== Infinity) this.#timed++;
    if (packet.kind === 'reply') {
      this.#replies++;
      if (this.#counted) this.#account.outstanding++;
    }
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
    this.#push(packet);
  }

  #push(packet: QueuedPacket): void {
    this.#packets.push(packet);
    this.#account.memory += packet.size;
  }

  #done({ size, kind, key, cause, expiresAt }: QueuedPacket): void {
    this.#account.memory -= size;
    if (expiresAt !== Infinity) this.#timed--;
    if (kind === 'event') {
      if (key !== undefined) this.#keys.delete(key);
      cause?.eventDone();
      return;
    }
    this.#replies--;
    if (cause) cause.replyWaits = false;
    if (this.#counted && !(cause && cause.events > 0)) this.#account.outstanding--;
  }

  #append(op: number, reqId: number, txId: number, payload: Uint8Array | string): void {
    const { length } = payload;
    this.#reserve(XS_HEADER_SIZE + length);
    const buffer = this.#buffer;
    let at = this.#end;
    at = buffer.writeUInt32LE(op, at);
    at = buffer.writeUInt32LE(reqId, at);
    at = buffer.writeUInt32LE(txId, at);
    at = buffer.writeUInt32LE(length, at);
    if (typeof payload === 'string') buffer.write(payload, at, length, 'latin1');
    else buffer.set(payload, at);
    this.#end = at + length;
  }

  #reserve(size: number): void {
    if (this.#end + size <= this.#buffer.length) return;
    const waiting = this.#end - this.#start;
    const bigger = Buffer.allocUnsafe(waiting === 0 ? size : 2 * (waiting + size));
    this.#buffer.copy(bigger, 0, this.#start, this.#end);
    this.#buffer = bigger;
    this.#start = 0;
    this.#end = waiting;
  }

  #release(): void {
    this.#buffer = EMPTY;
    this.#start = 0;
    this.#end = 0;
  }

  #compact(): void {
    if (this.#first === this.#packets.length) {
      if (this.#first > COMPACT_AFTER) this.#packets = [];
      else this.#packets.length = 0;
      this.#first = 0;
    } else if (this.#first > COMPACT_AFTER) {
      this.#packets.splice(0, this.#first);
      this.#first = 0;
    }
  }
}
