/**
 * One ring of a vif in a page that the frontend granted: copies of the page in, steps of a batch out. The frontend's producer
 * index is checked when a copy is taken; what it says is there was written before it, so the index is read first.
 */
import type { Domid, EvtchnPort, GrantRef } from '@xenhost/base';
import type { MemoryOp, MemoryResult, PageRange, RemotePage } from '@xenhost/privcmd';
import { BackRing, SRING, ringIndex, slotOffset } from '@xenhost/pv-ring';
import type { RingShape } from '@xenhost/pv-ring';

/** The index is past what the ring can hold, or behind what was taken. */
export interface WildIndex {
  readonly kind: 'wild';
  readonly reason: string;
}

export class GrantedRing {
  readonly #page: RemotePage;
  readonly #ring: BackRing;
  readonly #name: string;
  /** The newest copy of the page, and its producer index. */
  #bytes = new Uint8Array(0);
  #reqProd: number;
  /** Copies that came with events: a copy asked for before one may be older. */
  #eventCopies = 0;

  constructor(options: {
    readonly name: string;
    readonly domid: Domid;
    readonly gref: GrantRef;
    readonly shape: RingShape;
    /** The shared rsp_prod. */
    readonly position: number;
  }) {
    this.#name = options.name;
    this.#page = { space: 'grant', domid: options.domid, gref: options.gref };
    this.#ring = new BackRing(options.shape, options.position);
    this.#reqProd = options.position;
  }

  /** The two reads that make a copy. */
  get reads(): readonly PageRange[] {
    const { entries, entryBytes } = this.#ring.shape;
    return [
      { page: this.#page, offset: 0, length: SRING.ring },
      { page: this.#page, offset: SRING.ring, length: entries * entryBytes },
    ];
  }

  get readOps(): readonly MemoryOp[] {
    return this.reads.map((read): MemoryOp => ({ kind: 'read', ...read }));
  }

  /** Requests that wait in the newest copy. */
  get waiting(): number {
    return this.#ring.unconsumed(this.#reqProd) ?? 0;
  }

  get unanswered(): number {
    return this.#ring.unanswered;
  }

  get eventCopies(): number {
    return this.#eventCopies;
  }

  /**
   * Takes a copy that came with an event. False when it is no use: it may be older than what has been taken, or wild; the
   * ring has to be read then.
   */
  offerFromEvent(results: readonly MemoryResult[]): boolean {
    const bytes = joined(results);
    if (!bytes) return false;
    const reqProd = ringIndex(bytes, 'req_prod');
    const waiting = this.#ring.unconsumed(reqProd);
    if (waiting === undefined) return false;
    if (waiting > this.waiting) {
      this.#bytes = bytes;
      this.#reqProd = reqProd;
      this.#eventCopies += 1;
    }
    return true;
  }

  /** Takes a copy that was asked for when there were `eventCopies`. */
  offer(results: readonly MemoryResult[], eventCopies: number): WildIndex | 'taken' | 'old' {
    const bytes = joined(results);
    if (!bytes) return { kind: 'wild', reason: `${this.#name} ring cannot be read` };
    const reqProd = ringIndex(bytes, 'req_prod');
    const back = ((reqProd - this.#reqProd) | 0) < 0;
    if (back && eventCopies !== this.#eventCopies) return 'old';
    if (back || this.#ring.unconsumed(reqProd) === undefined) {
      return {
        kind: 'wild',
        reason:
          `${this.#name} ring: impossible number of requests: req_prod ${reqProd}, req_cons ${this.#ring.reqCons}, ` +
          `size ${this.#ring.shape.entries}`,
      };
    }
    this.#bytes = bytes;
    this.#reqProd = reqProd;
    return 'taken';
  }

  /** A view of the request `ahead` places after the next one; it is there (`waiting`). */
  peek(ahead = 0): Uint8Array {
    const { shape, reqCons } = this.#ring;
    const at = slotOffset(shape, (reqCons + ahead) >>> 0);
    return this.#bytes.subarray(at, at + shape.entryBytes);
  }

  take(count: number): void {
    this.#ring.take(count);
  }

  respond(response: Uint8Array): void {
    this.#ring.respond(response);
  }

  /** Steps that publish the responses so far and tell the frontend, if it wants to know; none when there are none. */
  push(port: EvtchnPort): MemoryOp[] {
    const push = this.#ring.push();
    if (!push) return [];
    const page = this.#page;
    const ops = push.writes.map(({ offset, data }): MemoryOp => ({ kind: 'write', page, offset, data }));
    const { from, to } = push;
    ops.push({ kind: 'notify', port, push: { page, offset: SRING.rsp_event, from, to } });
    return ops;
  }

  /** The step that asks for an event at the request `ahead` places on; the ring must be read after it. */
  askEvent(ahead = 1): MemoryOp {
    const { offset, data } = this.#ring.askEvent(ahead);
    return { kind: 'write', page: this.#page, offset, data };
  }
}

function joined([head, entries]: readonly MemoryResult[]): Uint8Array<ArrayBuffer> | undefined {
  if (head?.data === undefined || entries?.data === undefined) return undefined;
  const bytes = new Uint8Array(head.data.length + entries.data.length);
  bytes.set(head.data);
  bytes.set(entries.data, head.data.length);
  return bytes;
}
