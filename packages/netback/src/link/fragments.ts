/** Frames in parts that fit a datagram, each behind a header that says which part of which frame it is. Pure: docs/NETWORK.md. */
import type { EthernetFrame } from '../switch/frame.ts';
import { MAX_FRAME_BYTES } from '../switch/limits.ts';
import { MAX_REASSEMBLIES, REASSEMBLY_MS } from './limits.ts';

/** Flags, GSO size, frame number, bytes of the whole frame, where this part begins. */
export const PART_HEADER_BYTES = 1 + 2 + 4 + 4 + 4;
const FLAG = { partial: 1, tcpv4: 2, tcpv6: 4 } as const;

/** The parts of a frame, of at most `room` bytes with their headers. */
export function partsOf(frame: EthernetFrame, number: number, room: number): Uint8Array[] {
  const { bytes, checksum, gso } = frame;
  const most = room - PART_HEADER_BYTES;
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += most) {
    const to = Math.min(at + most, bytes.length);
    const part = new Uint8Array(PART_HEADER_BYTES + (to - at));
    const view = new DataView(part.buffer);
    view.setUint8(0, (checksum === 'partial' ? FLAG.partial : 0) | (gso ? FLAG[gso.type] : 0));
    view.setUint16(1, gso?.size ?? 0);
    view.setUint32(3, number >>> 0);
    view.setUint32(7, bytes.length);
    view.setUint32(11, at);
    part.set(bytes.subarray(at, to), PART_HEADER_BYTES);
    parts.push(part);
  }
  return parts;
}

interface Incomplete {
  readonly bytes: Uint8Array;
  readonly sinceMs: number;
  /** Where parts began, so that none counts twice. */
  readonly begun: Set<number>;
  received: number;
}

/** Puts parts together again; parts of different frames may be mixed, and come in any order. */
export class Reassembly {
  readonly #incomplete = new Map<number, Incomplete>();

  get waiting(): number {
    return this.#incomplete.size;
  }

  /** The frame that this part completes; undefined for others, and for what is no part. */
  add(part: Uint8Array, nowMs: number): EthernetFrame | undefined {
    if (part.length <= PART_HEADER_BYTES) return undefined;
    const view = new DataView(part.buffer, part.byteOffset, part.length);
    const total = view.getUint32(7);
    const at = view.getUint32(11);
    const bytes = part.subarray(PART_HEADER_BYTES);
    if (total > MAX_FRAME_BYTES || at + bytes.length > total) return undefined;
    if (bytes.length === total) return frameOf(view, bytes);
    const number = view.getUint32(3);
    let frame = this.#incomplete.get(number);
    if (frame && frame.bytes.length !== total) {
      this.#incomplete.delete(number);
      frame = undefined;
    }
    if (!frame) {
      this.#forget(nowMs);
      frame = { bytes: new Uint8Array(total), sinceMs: nowMs, begun: new Set(), received: 0 };
      this.#incomplete.set(number, frame);
    }
    if (frame.begun.has(at)) return undefined;
    frame.begun.add(at);
    frame.bytes.set(bytes, at);
    frame.received += bytes.length;
    if (frame.received < total) return undefined;
    this.#incomplete.delete(number);
    return frameOf(view, frame.bytes);
  }

  /** Makes room: what is too old goes, or else the oldest. */
  #forget(nowMs: number): void {
    for (const [number, { sinceMs }] of this.#incomplete) {
      if (nowMs - sinceMs <= REASSEMBLY_MS && this.#incomplete.size < MAX_REASSEMBLIES) break;
      this.#incomplete.delete(number);
    }
  }
}

function frameOf(view: DataView, bytes: Uint8Array): EthernetFrame {
  const flags = view.getUint8(0);
  const size = view.getUint16(1);
  const checksum = (flags & FLAG.partial) !== 0 ? 'partial' : 'complete';
  const type = (flags & FLAG.tcpv4) !== 0 ? 'tcpv4' : (flags & FLAG.tcpv6) !== 0 ? 'tcpv6' : undefined;
  return type === undefined || size === 0 ? { bytes, checksum } : { bytes, checksum, gso: { type, size } };
}
