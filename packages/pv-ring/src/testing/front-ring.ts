/** The frontend's half of a ring, over the pages themselves: for fake frontends in tests. */
import { SRING, ringWrites, slotOffset } from '../shared-ring.ts';
import type { RingShape } from '../shared-ring.ts';

export class FrontRing {
  readonly shape: RingShape;
  readonly pages: readonly Uint8Array[];
  reqProd = 0;
  rspCons = 0;

  /** `pages`: as many as the shape has, 4096 bytes each; made an empty ring (XEN_FRONT_RING_INIT). */
  constructor(shape: RingShape, pages: readonly Uint8Array[], position = 0) {
    this.shape = shape;
    this.pages = pages;
    this.reqProd = this.rspCons = position >>> 0;
    this.setIndex('req_prod', this.reqProd);
    this.setIndex('rsp_prod', this.reqProd);
    this.setIndex('req_event', this.reqProd + 1);
    this.setIndex('rsp_event', this.reqProd + 1);
  }

  index(field: keyof typeof SRING): number {
    return this.#header().getUint32(SRING[field], true);
  }

  setIndex(field: keyof typeof SRING, value: number): void {
    this.#header().setUint32(SRING[field], value >>> 0, true);
  }

  get free(): number {
    return this.shape.entries - ((this.reqProd - this.rspCons) >>> 0);
  }

  /** Writes a request into the next slot; not visible until `push`. */
  request(bytes: Uint8Array): void {
    for (const write of ringWrites(slotOffset(this.shape, this.reqProd), bytes)) {
      this.pages[write.page]?.set(write.data, write.offset);
    }
    this.reqProd = (this.reqProd + 1) >>> 0;
  }

  /** Makes requests visible; tells whether the backend wants an event. */
  push(): boolean {
    const from = this.index('req_prod');
    this.setIndex('req_prod', this.reqProd);
    return (this.reqProd - this.index('req_event')) >>> 0 < (this.reqProd - from) >>> 0;
  }

  /** Takes all responses that are there, `bytes` of each slot, and asks for an event at the next one. */
  responses(bytes: number): Uint8Array[] {
    const taken: Uint8Array[] = [];
    for (const end = this.index('rsp_prod'); this.rspCons !== end; this.rspCons = (this.rspCons + 1) >>> 0) {
      taken.push(this.slot(this.rspCons).slice(0, bytes));
    }
    this.setIndex('rsp_event', this.rspCons + 1);
    return taken;
  }

  /** A copy of a slot. */
  slot(index: number): Uint8Array {
    const at = slotOffset(this.shape, index);
    return this.bytes().slice(at, at + this.shape.entryBytes);
  }

  /** A copy of all pages. */
  bytes(): Uint8Array {
    return Buffer.concat(this.pages);
  }

  #header(): DataView {
    const page = this.pages[0];
    if (!page) throw new Error('a ring without a page');
    return new DataView(page.buffer, page.byteOffset, page.byteLength);
  }
}
