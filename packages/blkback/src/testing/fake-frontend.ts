/**
 * A frontend of a made-up guest, driven by hand: what blkfront is in Linux without a kernel around it, and as wrong as a test
 * wants.
 */
import { bytesOf, domid as domidOf, grantRef } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { FakeBackend } from '@xenhost/privcmd/testing';
import { fakeGrant } from '@xenhost/privcmd/testing';
import { ringShape } from '@xenhost/pv-ring';
import { FrontRing } from '@xenhost/pv-ring/testing';
import { BLKIF_ABI, BLKIF_OP, BLKIF_SEGMENTS_PER_INDIRECT_PAGE, BlkifRequestSegment } from '@xenhost/xen-abi';
import type { AbiWidth } from '../ring/requests.ts';

const PAGE_BYTES = 4096;
const FIRST_RING_GREF = 8;
const FIRST_BUFFER_GREF = 100;

export interface SegmentSpec {
  readonly gref: number;
  readonly first: number;
  readonly last: number;
}

export interface RequestSpec {
  readonly operation: number;
  readonly id: bigint;
  readonly sector?: bigint;
  readonly segments?: readonly SegmentSpec[];
  /** Instead of the number of segments. */
  readonly count?: number;
  /** Of an indirect request. */
  readonly indirect?: { readonly operation: number; readonly grefs: readonly number[]; readonly count: number };
  /** Of a discard. */
  readonly sectors?: bigint;
  readonly flag?: number;
}

export interface Response {
  readonly id: bigint;
  readonly operation: number;
  readonly status: number;
}

export interface FrontendOptions {
  readonly width?: AbiWidth;
  readonly pages?: number;
  /** Where its indices begin. */
  readonly position?: number;
}

export class FakeFrontend {
  readonly domid: Domid;
  readonly width: AbiWidth;
  readonly port: EvtchnPort;
  readonly ring: FrontRing;
  readonly ringRefs: readonly number[];
  readonly #backend: FakeBackend;
  readonly #guest: ReturnType<FakeBackend['addGuest']>;
  #next: number;

  /** A second frontend of one domain is another of its rings. */
  constructor(backend: FakeBackend, domid: number, { width = 64, pages = 1, position = 0 }: FrontendOptions = {}) {
    this.#backend = backend;
    this.domid = domidOf(domid);
    this.width = width;
    this.#guest = backend.guests.get(domid) ?? backend.addGuest(this.domid);
    this.port = backend.guestOffer(this.domid);
    const first = FIRST_RING_GREF + this.#guest.grants.size;
    this.#next = FIRST_BUFFER_GREF + this.#guest.grants.size * 1000;
    const memory = Array.from({ length: pages }, () => new Uint8Array(PAGE_BYTES));
    this.ringRefs = memory.map((page, i) => {
      this.#grant(first + i, page);
      return first + i;
    });
    this.ring = new FrontRing(ringShape(BLKIF_ABI[width].request.size, pages), memory, position);
  }

  /** A new granted page. */
  page(contents?: Uint8Array, readonly = false): { readonly gref: number; readonly bytes: Uint8Array } {
    const bytes = new Uint8Array(PAGE_BYTES);
    bytes.set(contents ?? []);
    const gref = this.#next++;
    this.#grant(gref, bytes, readonly);
    return { gref, bytes };
  }

  revoke(gref: number): void {
    this.#guest.grants.delete(grantRef(gref));
  }

  /** Puts requests into the ring, makes them visible and sends an event if it is wanted. */
  send(...requests: readonly RequestSpec[]): void {
    for (const request of requests) this.ring.request(this.encode(request));
    if (this.ring.push()) this.notify();
  }

  notify(): void {
    this.#backend.guestSend(this.domid, this.port);
  }

  /** Responses that have come. */
  responses(): Response[] {
    const { response } = BLKIF_ABI[this.width];
    return this.ring.responses(response.size).map((bytes) => {
      const { id, operation, status } = response.view(bytesOf(bytes), 0);
      return { id, operation, status: (status << 16) >> 16 };
    });
  }

  /** Whether an event came since the last call. */
  notified(): boolean {
    return this.#guest.received.delete(this.port);
  }

  /** Segments written into a page of its own, as indirect requests have them. */
  indirectPages(segments: readonly SegmentSpec[]): number[] {
    const pages: number[] = [];
    for (let at = 0; at < segments.length; at += BLKIF_SEGMENTS_PER_INDIRECT_PAGE) {
      const bytes = new Uint8Array(PAGE_BYTES);
      writeSegments(bytes, 0, segments.slice(at, at + BLKIF_SEGMENTS_PER_INDIRECT_PAGE));
      pages.push(this.page(bytes).gref);
    }
    return pages;
  }

  encode({ operation, id, sector = 0n, segments = [], count, indirect, sectors, flag }: RequestSpec): Uint8Array {
    const abi = BLKIF_ABI[this.width];
    const bytes = new Uint8Array(abi.request.size);
    if (indirect) {
      const view = abi.indirect.view(bytesOf(bytes), 0);
      Object.assign(view, {
        ...{ operation, id, sector_number: sector, indirect_op: indirect.operation, nr_segments: indirect.count },
      });
      const dv = new DataView(bytes.buffer);
      for (const [i, gref] of indirect.grefs.entries()) {
        dv.setUint32(abi.indirect.offsets.indirect_grefs + i * 4, gref, true);
      }
    } else if (operation === BLKIF_OP.DISCARD) {
      Object.assign(abi.discard.view(bytesOf(bytes), 0), {
        ...{ operation, id, sector_number: sector, nr_sectors: sectors ?? 0n, flag: flag ?? 0 },
      });
    } else {
      Object.assign(abi.request.view(bytesOf(bytes), 0), {
        ...{ operation, id, sector_number: sector, nr_segments: count ?? segments.length },
      });
      writeSegments(bytes, abi.request.offsets.seg, segments);
    }
    return bytes;
  }

  #grant(gref: number, bytes: Uint8Array, readonly = false): void {
    const gfn = 0x1000 + gref;
    this.#guest.frames.set(gfn, bytes);
    fakeGrant(this.#guest, grantRef(gref), gfn, readonly);
  }
}

function writeSegments(bytes: Uint8Array, at: number, segments: readonly SegmentSpec[]): void {
  for (const [i, { gref, first, last }] of segments.entries()) {
    const view = BlkifRequestSegment.view(bytesOf(bytes), at + i * BlkifRequestSegment.size);
    view.gref = gref;
    view.first_sect = first;
    view.last_sect = last;
  }
}
