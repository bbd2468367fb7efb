/**
 * Rings of requests and responses in one or more shared pages (`xen/include/public/io/ring.h`), the backend's half of the
 * macros, over copies of the pages. Sans-I/O: the frontend's producer index is checked here, once; what is to be done
 * comes out as writes of one batch. Pages count from 0 in the order in which the frontend granted them.
 */
import { u32Bytes } from './byte-ring.ts';

const PAGE_BYTES = 4096;

/** Byte offsets in the first page (`struct sring`); entries begin at `ring`. */
export const SRING = { req_prod: 0, req_event: 4, rsp_prod: 8, rsp_event: 12, ring: 64 } as const;

export interface RingShape {
  readonly pages: number;
  /** Bytes of one slot: the larger of request and response. */
  readonly entryBytes: number;
  /** Slots: the largest power of two that fits. */
  readonly entries: number;
}

export function ringShape(entryBytes: number, pages = 1): RingShape {
  const fit = Math.floor((pages * PAGE_BYTES - SRING.ring) / entryBytes);
  return { pages, entryBytes, entries: 2 ** Math.floor(Math.log2(fit)) };
}

/** A write to one page of the ring. */
export interface RingWrite {
  readonly page: number;
  readonly offset: number;
  readonly data: Uint8Array;
}

/** Responses on their way: do the writes in this order, then notify if the frontend's rsp_event lies in (from, to]. */
export interface RingPush {
  readonly writes: readonly RingWrite[];
  readonly from: number;
  readonly to: number;
}

/** Where in the ring's bytes (all pages, one after the other) the slot of an index begins. */
export const slotOffset = ({ entries, entryBytes }: RingShape, index: number): number =>
  SRING.ring + (index & (entries - 1)) * entryBytes;

/** Cuts a write at offset `at` of the ring's bytes where pages end. */
export function ringWrites(at: number, data: Uint8Array): RingWrite[] {
  const writes: RingWrite[] = [];
  for (let done = 0; done < data.length;) {
    const offset = (at + done) % PAGE_BYTES;
    const length = Math.min(data.length - done, PAGE_BYTES - offset);
    writes.push({ page: Math.floor((at + done) / PAGE_BYTES), offset, data: data.subarray(done, done + length) });
    done += length;
  }
  return writes;
}

/** Puts responses into slots from index `from` on; those in adjoining slots become one write, with zeros in between. */
export function responseWrites(shape: RingShape, from: number, responses: readonly Uint8Array[]): RingWrite[] {
  const { entries, entryBytes } = shape;
  const writes: RingWrite[] = [];
  for (let done = 0; done < responses.length;) {
    const first = (from + done) >>> 0;
    const run = responses.slice(done, done + entries - (first & (entries - 1)));
    const bytes = new Uint8Array((run.length - 1) * entryBytes + (run.at(-1)?.length ?? 0));
    for (const [i, response] of run.entries()) bytes.set(response, i * entryBytes);
    writes.push(...ringWrites(slotOffset(shape, first), bytes));
    done += run.length;
  }
  return writes;
}

/** A u32 of a copy of the ring. */
export const ringIndex = (ring: Uint8Array, field: keyof typeof SRING): number => {
  const at = SRING[field];
  return (
    ((ring[at] ?? 0) | ((ring[at + 1] ?? 0) << 8) | ((ring[at + 2] ?? 0) << 16) | ((ring[at + 3] ?? 0) << 24)) >>> 0
  );
};

/**
 * The backend's half of one ring. Requests are taken in order with `take`; a response goes into the next response slot, whichever
 * request it answers, and `push` makes the staged ones visible.
 */
export class BackRing {
  readonly shape: RingShape;
  /** Index of the next request to take. */
  #reqCons: number;
  /** Index of the next response slot. */
  #rspProd: number;
  /** What the shared rsp_prod holds. */
  #pushed: number;
  #staged: Uint8Array[] = [];

  /** `position`: the shared rsp_prod, from which requests are unanswered; 0 in a new ring (BACK_RING_ATTACH). */
  constructor(shape: RingShape, position = 0) {
    this.shape = shape;
    this.#reqCons = this.#rspProd = this.#pushed = position >>> 0;
  }

  get reqCons(): number {
    return this.#reqCons;
  }

  /** Index of the next response, staged ones counted. */
  get rspProd(): number {
    return this.#rspProd;
  }

  /** Requests taken and not answered. */
  get unanswered(): number {
    return (this.#reqCons - this.#rspProd) >>> 0;
  }

  /**
   * Requests that wait. 0 when the index lies behind what was taken, by no more than a ring: copies of the page may come out of order.
   * Undefined when it is wild: more requests without an answer than slots (RING_REQUEST_PROD_OVERFLOW), or further behind.
   */
  unconsumed(reqProd: number): number | undefined {
    const { entries } = this.shape;
    const waiting = (reqProd - this.#reqCons) | 0;
    if (waiting < 0) return waiting >= -entries ? 0 : undefined;
    return waiting + this.unanswered > entries ? undefined : waiting;
  }

  /** The bytes of a request that waits, `ahead` after the next one, in `ring`: a copy of all pages. */
  peek(ring: Uint8Array, ahead = 0): Uint8Array {
    const at = slotOffset(this.shape, (this.#reqCons + ahead) >>> 0);
    return ring.subarray(at, at + this.shape.entryBytes);
  }

  /** Counts `count` requests as taken. */
  take(count: number): void {
    this.#reqCons = (this.#reqCons + count) >>> 0;
  }

  /** Stages a response. There must be an unanswered request for it. */
  respond(response: Uint8Array): void {
    if (this.unanswered === 0) throw new RangeError('a response without a request');
    if (response.length > this.shape.entryBytes) throw new RangeError('a response larger than its slot');
    this.#staged.push(response);
    this.#rspProd = (this.#rspProd + 1) >>> 0;
  }

  /** The staged responses and the new rsp_prod (RING_PUSH_RESPONSES_AND_CHECK_NOTIFY); undefined when there are none. */
  push(): RingPush | undefined {
    if (this.#staged.length === 0) return undefined;
    const from = this.#pushed;
    const writes = responseWrites(this.shape, from, this.#staged);
    writes.push({ page: 0, offset: SRING.rsp_prod, data: u32Bytes(this.#rspProd) });
    this.#staged = [];
    this.#pushed = this.#rspProd;
    return { writes, from, to: this.#rspProd };
  }

  /** Asks for an event at the next request; read req_prod after it (RING_FINAL_CHECK_FOR_REQUESTS). `ahead` 1: the very next. */
  askEvent(ahead = 1): RingWrite {
    return { page: 0, offset: SRING.req_event, data: u32Bytes((this.#reqCons + ahead) >>> 0) };
  }
}
