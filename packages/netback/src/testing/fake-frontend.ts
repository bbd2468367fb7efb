/**
 * The guest's half of a vif, for tests: rings, buffers and event channels in a made-up guest's frames, driven by hand. What netfront
 * is in Linux, without a network stack; it can be as wrong as a test wants.
 */
import { bytesOf, domid as domidOf, grantRef } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { FakeBackend } from '@xenhost/privcmd/testing';
import { fakeGrant } from '@xenhost/privcmd/testing';
import { SRING, ringShape, slotOffset } from '@xenhost/pv-ring';
import type { RingShape } from '@xenhost/pv-ring';
import {
  NETRXF,
  NETTXF,
  NetifExtraGso,
  NetifRxRequest,
  NetifRxResponse,
  NetifTxRequest,
  NetifTxResponse,
} from '@xenhost/xen-abi';

const PAGE_BYTES = 4096;
const TX_RING_GREF = 8;
const RX_RING_GREF = 9;
const FIRST_BUFFER_GREF = 64;
/** Grants between the buffers of two queues. */
const QUEUE_GREFS = 100_000;

/** One end of a ring, the frontend's. */
class FrontRing {
  readonly shape: RingShape;
  readonly page = new Uint8Array(PAGE_BYTES);
  readonly view = bytesOf(this.page);
  prod = 0;
  cons = 0;

  constructor(entryBytes: number) {
    this.shape = ringShape(entryBytes);
    this.set('req_event', 1);
    this.set('rsp_event', 1);
  }

  get(field: 'req_prod' | 'req_event' | 'rsp_prod' | 'rsp_event'): number {
    return this.view.dv.getUint32(SRING[field], true);
  }

  set(field: 'req_prod' | 'req_event' | 'rsp_prod' | 'rsp_event', value: number): void {
    this.view.dv.setUint32(SRING[field], value, true);
  }

  put(request: Uint8Array): void {
    this.page.set(request, slotOffset(this.shape, this.prod));
    this.prod = (this.prod + 1) >>> 0;
  }

  /** Publishes requests; whether the backend wants an event. */
  push(): boolean {
    const old = this.get('req_prod');
    this.set('req_prod', this.prod);
    return (this.prod - this.get('req_event')) >>> 0 < (this.prod - old) >>> 0;
  }

  /** Offsets of the responses that have come. */
  take(): number[] {
    const offsets: number[] = [];
    for (; this.cons !== this.get('rsp_prod'); this.cons = (this.cons + 1) >>> 0) {
      offsets.push(slotOffset(this.shape, this.cons));
    }
    this.set('rsp_event', (this.cons + 1) >>> 0);
    return offsets;
  }
}

export interface TxPart {
  readonly offset?: number;
  readonly data: Uint8Array;
  /** Instead of the grant of a page with `data`. */
  readonly gref?: number;
  /** Instead of what is right. */
  readonly size?: number;
  readonly flags?: number;
}

export interface TxPacket {
  readonly parts: readonly TxPart[];
  readonly flags?: number;
  readonly extras?: readonly Uint8Array[];
}

export interface RxPacket {
  readonly bytes: Uint8Array;
  readonly flags: number;
  readonly status: readonly number[];
  readonly gso?: { readonly type: number; readonly size: number };
}

export class FakeFrontend {
  readonly domid: Domid;
  readonly tx = new FrontRing(NetifTxRequest.size);
  readonly rx = new FrontRing(NetifRxRequest.size);
  readonly port: EvtchnPort;
  readonly #backend: FakeBackend;
  readonly #guest: ReturnType<FakeBackend['addGuest']>;
  readonly #rxBuffers = new Map<number, number>();
  readonly #queue: number;
  #nextGref: number;
  #nextId = 0;

  /** A further `queue` belongs to the guest of the first. */
  constructor(backend: FakeBackend, domid: number, queue = 0) {
    this.domid = domidOf(domid);
    this.#backend = backend;
    this.#queue = queue;
    this.#nextGref = FIRST_BUFFER_GREF + queue * QUEUE_GREFS;
    this.#guest = backend.guests.get(domid) ?? backend.addGuest(this.domid);
    this.port = backend.guestOffer(this.domid);
    this.#grant(TX_RING_GREF + 2 * queue, this.tx.page);
    this.#grant(RX_RING_GREF + 2 * queue, this.rx.page);
  }

  /** The nodes of its queue. */
  get queueKeys(): Record<string, string> {
    return {
      'tx-ring-ref': String(TX_RING_GREF + 2 * this.#queue),
      'rx-ring-ref': String(RX_RING_GREF + 2 * this.#queue),
      'event-channel': String(this.port),
    };
  }

  /** The nodes that the backend reads of a frontend of one queue. */
  get keys(): Record<string, string> {
    return {
      ...this.queueKeys,
      'request-rx-copy': '1',
      'feature-rx-notify': '1',
      'feature-sg': '1',
      'feature-gso-tcpv4': '1',
      'feature-gso-tcpv6': '1',
      'feature-ipv6-csum-offload': '1',
    };
  }

  /** Events that came since the last call. */
  events(): number {
    const had = this.#guest.received.has(this.port) ? 1 : 0;
    this.#guest.received.delete(this.port);
    return had;
  }

  notify(): void {
    this.#backend.guestSend(this.domid, this.port);
  }

  /** Takes a grant back. */
  revoke(gref: number): void {
    this.#guest.grants.delete(gref);
  }

  /** Puts packets on the ring; their ids, a list for each packet. Tells the backend if it wants to know. */
  send(...packets: readonly TxPacket[]): number[][] {
    const ids = packets.map((packet) => this.#put(packet));
    if (this.tx.push()) this.notify();
    return ids;
  }

  /** `[id, status]` of each response, in order. */
  answers(): [number, number][] {
    return this.tx.take().map((at) => {
      const { id, status } = NetifTxResponse.view(this.tx.view, at);
      return [id, (status << 16) >> 16];
    });
  }

  /** Offers so many receive buffers; `bad` ones without a grant. */
  offer(count: number, bad = false): number[] {
    const grefs: number[] = [];
    for (let i = 0; i < count; i += 1) {
      const id = this.rx.prod % this.rx.shape.entries;
      const gref = bad ? this.#newGref() : this.#page(new Uint8Array(0));
      this.#rxBuffers.set(id, gref);
      this.rx.put(NetifRxRequest.create({ id, gref }).bytes);
      grefs.push(gref);
    }
    if (this.rx.push()) this.notify();
    return grefs;
  }

  /** Whole packets that have come. */
  received(): RxPacket[] {
    const packets: RxPacket[] = [];
    const offsets = this.rx.take();
    for (let at = offsets.shift(); at !== undefined; at = offsets.shift()) {
      const pieces: Uint8Array[] = [];
      const status: number[] = [];
      let gso: RxPacket['gso'];
      const first = NetifRxResponse.view(this.rx.view, at).flags;
      for (let place: number | undefined = at, more = true; more && place !== undefined;) {
        const { id, offset, flags, status: length } = NetifRxResponse.view(this.rx.view, place);
        const gfn = this.#guest.grants.get(this.#rxBuffers.get(id) ?? -1)?.gfn ?? -1;
        const size = (length << 16) >> 16;
        status.push(size);
        if (size > 0) pieces.push((this.#guest.frames.get(gfn) ?? new Uint8Array(0)).slice(offset, offset + size));
        if (place === at && (flags & NETRXF.extra_info) !== 0) {
          const extra = NetifExtraGso.view(this.rx.view, offsets.shift() ?? 0);
          gso = { type: extra.gso_type, size: extra.size };
        }
        more = (flags & NETRXF.more_data) !== 0;
        if (more) place = offsets.shift();
      }
      packets.push({ bytes: new Uint8Array(Buffer.concat(pieces)), flags: first, status, ...(gso ? { gso } : {}) });
    }
    return packets;
  }

  #put({ parts, flags = 0, extras = [] }: TxPacket): number[] {
    const total = parts.reduce((sum, { data, size }) => sum + (size ?? data.length), 0);
    return parts.map((part, index) => {
      const { data, offset = 0 } = part;
      const gref = part.gref ?? this.#page(data, offset);
      const more = index < parts.length - 1 ? NETTXF.more_data : 0;
      const extra = index === 0 && extras.length > 0 ? NETTXF.extra_info : 0;
      const id = this.#nextId++ & 0xffff;
      this.tx.put(
        NetifTxRequest.create({
          gref,
          offset,
          flags: part.flags ?? (index === 0 ? flags : 0) | more | extra,
          id,
          size: index === 0 ? total : (part.size ?? data.length),
        }).bytes,
      );
      if (index === 0) for (const info of extras) this.tx.put(info);
      return id;
    });
  }

  /** A new granted page that holds `data`. */
  #page(data: Uint8Array, offset = 0): number {
    const gref = this.#newGref();
    const page = new Uint8Array(PAGE_BYTES);
    page.set(data.subarray(0, PAGE_BYTES - offset), offset);
    this.#grant(gref, page);
    return gref;
  }

  #newGref(): number {
    return this.#nextGref++;
  }

  #grant(gref: number, page: Uint8Array): void {
    this.#guest.frames.set(gref, page);
    fakeGrant(this.#guest, grantRef(gref), gref);
  }
}
