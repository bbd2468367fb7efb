/**
 * Records of the journal as bytes, both ways (docs/xenstore-journal.md). A record is one thing that happened as a whole: what one
 * operation or one commit changed, or what a guest's session has become. Sans-I/O.
 */
import { crc32 } from 'node:zlib';
import type { StoreConnection } from '../core/connection.ts';
import type { StoreChange } from '../core/journal.ts';
import type { StoredPerm } from '../core/perms.ts';
import type { RingState } from '../server/ring.ts';
import { RECORD_MAX_BYTES } from './limits.ts';

/** First bytes of a journal; the last is the format's version. */
export const MAGIC = Buffer.from('XENSTJ\0\x01', 'latin1');

/** Length and checksum in front of each record's payload, u32 little-endian each. */
export const FRAME_BYTES = 8;

/** A watch of a guest. */
export interface WatchRecord {
  readonly path: string;
  readonly token: string;
  readonly relative: boolean;
}

/** What is told besides changes of the store. */
export type SessionChange =
  /** Which hypervisor's domains these are. The first change of a journal, and there only. */
  | { readonly op: 'incarnation'; readonly id: string }
  /** All watches of a guest from now on. */
  | { readonly op: 'watches'; readonly domid: number; readonly watches: readonly WatchRecord[] }
  /** A guest's request has been run, and changed something: its last byte is in front of this index. */
  | { readonly op: 'done'; readonly domid: number; readonly reqCons: number }
  /** What the ring's page does not tell (server/ring.ts, RingState); empty `head` and `tail`: nothing. Strings are latin1. */
  | {
      readonly op: 'ring';
      readonly domid: number;
      readonly reqCons: number;
      readonly rspProd: number;
      readonly head: string;
      readonly tail: string;
    };

export type JournalChange = StoreChange | SessionChange;

type RingChange = Extract<SessionChange, { op: 'ring' }>;

export const ringChange = (domid: number, { reqCons, rspProd, head, tail }: RingState): RingChange => ({
  op: 'ring', domid, reqCons, rspProd, head: head.toString('latin1'), tail: tail.toString('latin1'),
}); // prettier-ignore

export const ringStateOf = ({ reqCons, rspProd, head, tail }: RingChange): RingState => ({
  reqCons, rspProd, head: Buffer.from(head, 'latin1'), tail: Buffer.from(tail, 'latin1'),
}); // prettier-ignore

export const watchRecords = ({ watches }: StoreConnection): WatchRecord[] =>
  Array.from(watches, ({ path, token, relative }) => ({ path, token, relative }));

// prettier-ignore
const CODE = {
  incarnation: 1, reset: 2, create: 3, write: 4, perms: 5, rm: 6, special: 7, introduce: 8, release: 9, target: 10, watches: 11, ring: 12, done: 13,
} as const satisfies Record<JournalChange['op'], number>;
const OP_OF = new Map<number, JournalChange['op']>(
  Object.entries(CODE).map(([op, code]) => [code, op as JournalChange['op']]),
);
const ACCESS = ['none', 'read', 'write', 'both'] as const;
/** Bit of a right's access byte. */
const STALE = 0x80;
const FIRST_BUFFER_BYTES = 64 * 1024;

/** Appends records to a buffer that grows. */
export class RecordWriter {
  #buffer = Buffer.allocUnsafe(FIRST_BUFFER_BYTES);
  #end = 0;

  get length(): number {
    return this.#end;
  }

  /** What has been appended; a view that the next `append` may overwrite after `clear`. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#end);
  }

  clear(): void {
    this.#end = 0;
    if (this.#buffer.length > 16 * FIRST_BUFFER_BYTES) this.#buffer = Buffer.allocUnsafe(FIRST_BUFFER_BYTES);
  }

  append(changes: readonly JournalChange[]): void {
    const start = this.#end;
    this.#reserve(FRAME_BYTES);
    this.#end += FRAME_BYTES;
    for (const change of changes) this.#change(change);
    const payload = this.#buffer.subarray(start + FRAME_BYTES, this.#end);
    this.#buffer.writeUInt32LE(payload.length, start);
    this.#buffer.writeUInt32LE(checksum(payload), start + 4);
  }

  #change(change: JournalChange): void {
    this.#u8(CODE[change.op]);
    switch (change.op) {
      case 'reset':
        return;
      case 'incarnation':
        this.#text(change.id);
        return;
      case 'create':
        this.#text(change.path);
        this.#text(change.value);
        this.#perms(change.perms);
        return;
      case 'write':
        this.#text(change.path);
        this.#text(change.value);
        return;
      case 'perms':
        this.#text(change.path);
        this.#perms(change.perms);
        return;
      case 'rm':
        this.#text(change.path);
        return;
      case 'special':
        this.#text(change.name);
        this.#perms(change.perms);
        return;
      case 'introduce':
        this.#u32(change.domid);
        this.#text(change.mfn);
        this.#u32(change.port);
        return;
      case 'release':
        this.#u32(change.domid);
        return;
      case 'target':
        this.#u32(change.domid);
        this.#u32(change.target);
        return;
      case 'watches':
        this.#u32(change.domid);
        this.#u32(change.watches.length);
        for (const { path, token, relative } of change.watches) {
          this.#text(path);
          this.#text(token);
          this.#u8(relative ? 1 : 0);
        }
        return;
      case 'done':
        this.#u32(change.domid);
        this.#u32(change.reqCons);
        return;
      case 'ring':
        this.#u32(change.domid);
        this.#u32(change.reqCons);
        this.#u32(change.rspProd);
        this.#text(change.head);
        this.#text(change.tail);
    }
  }

  #perms(perms: readonly StoredPerm[]): void {
    this.#u32(perms.length);
    for (const { domid, access, stale } of perms) {
      this.#u8(ACCESS.indexOf(access) | (stale ? STALE : 0));
      this.#reserve(8);
      this.#end = this.#buffer.writeDoubleLE(domid, this.#end);
    }
  }

  #text(text: string): void {
    this.#u32(text.length);
    this.#reserve(text.length);
    this.#end += this.#buffer.write(text, this.#end, text.length, 'latin1');
  }

  #u8(value: number): void {
    this.#reserve(1);
    this.#buffer[this.#end++] = value;
  }

  #u32(value: number): void {
    this.#reserve(4);
    this.#end = this.#buffer.writeUInt32LE(value, this.#end);
  }

  #reserve(bytes: number): void {
    if (this.#end + bytes <= this.#buffer.length) return;
    const bigger = Buffer.allocUnsafe(2 * (this.#end + bytes));
    this.#buffer.copy(bigger, 0, 0, this.#end);
    this.#buffer = bigger;
  }
}

/** The changes of a payload whose checksum is right. Throws RangeError for what no writer made. */
export function* changesOf(payload: Buffer): Generator<JournalChange> {
  const reader = new PayloadReader(payload);
  while (!reader.atEnd) yield readChange(reader);
}

/**
 * The payload of the record at `at`; undefined where there is none that is whole and undamaged: the end of the log, or a write
 * that was cut off.
 */
export function payloadAt(bytes: Buffer, at: number): Buffer | undefined {
  if (bytes.length - at < FRAME_BYTES) return undefined;
  const length = bytes.readUInt32LE(at);
  const start = at + FRAME_BYTES;
  if (length > RECORD_MAX_BYTES || bytes.length - start < length) return undefined;
  const payload = bytes.subarray(start, start + length);
  return bytes.readUInt32LE(at + 4) === checksum(payload) ? payload : undefined;
}

/** Begun with the length, so that a run of zeros is no record. */
const checksum = (payload: Uint8Array): number => crc32(payload, ~payload.length >>> 0);

function readChange(reader: PayloadReader): JournalChange {
  const op = OP_OF.get(reader.u8());
  switch (op) {
    case 'reset':
      return { op };
    case 'incarnation':
      return { op, id: reader.text() };
    case 'create':
      return { op, path: reader.text(), value: reader.text(), perms: reader.perms() };
    case 'write':
      return { op, path: reader.text(), value: reader.text() };
    case 'perms':
      return { op, path: reader.text(), perms: reader.perms() };
    case 'rm':
      return { op, path: reader.text() };
    case 'special':
      return { op, name: reader.text(), perms: reader.perms() };
    case 'introduce':
      return { op, domid: reader.u32(), mfn: reader.text(), port: reader.u32() };
    case 'release':
      return { op, domid: reader.u32() };
    case 'target':
      return { op, domid: reader.u32(), target: reader.u32() };
    case 'watches':
      return { op, domid: reader.u32(), watches: reader.watches() };
    case 'done':
      return { op, domid: reader.u32(), reqCons: reader.u32() };
    case 'ring':
      return {
        ...{ op, domid: reader.u32(), reqCons: reader.u32(), rspProd: reader.u32() },
        ...{ head: reader.text(), tail: reader.text() },
      };
    case undefined:
      throw new RangeError('journal: a change of an unknown kind');
  }
}

class PayloadReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  u8(): number {
    const value = this.#bytes.readUInt8(this.#at);
    this.#at++;
    return value;
  }

  u32(): number {
    const value = this.#bytes.readUInt32LE(this.#at);
    this.#at += 4;
    return value;
  }

  text(): string {
    const length = this.u32();
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new RangeError('journal: a string is longer than its record');
    const text = this.#bytes.toString('latin1', this.#at, end);
    this.#at = end;
    return text;
  }

  perms(): StoredPerm[] {
    const perms: StoredPerm[] = [];
    for (let left = this.u32(); left > 0; left--) {
      const byte = this.u8();
      const access = ACCESS[byte & 3] ?? 'none';
      const domid = this.#bytes.readDoubleLE(this.#at);
      this.#at += 8;
      perms.push(byte & STALE ? { domid, access, stale: true } : { domid, access });
    }
    return perms;
  }

  watches(): WatchRecord[] {
    const watches: WatchRecord[] = [];
    for (let left = this.u32(); left > 0; left--) {
      watches.push({ path: this.text(), token: this.text(), relative: this.u8() === 1 });
    }
    return watches;
  }
}
