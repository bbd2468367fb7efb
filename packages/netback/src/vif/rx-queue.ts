/**
 * One receive ring of a vif: frames of the switch into pages that the guest has offered, one batch for all that wait. The
 * responses go with the data while the frontend's grants are good; after the first bad one each response waits for the outcome
 * of its copy (xen/include/public/io/netif.h, "Guest receive").
 */
import { bytesOf, grantRef } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { MemoryOp, MemoryResult, RemotePage } from '@xenhost/privcmd';
import {
  NETIF_RSP,
  NETRXF,
  NetifExtraGso,
  NetifRxRequest,
  NetifRxResponse,
  XEN_NETIF_EXTRA_TYPE,
  XEN_NETIF_GSO_TYPE,
} from '@xenhost/xen-abi';
import type { EthernetFrame } from '../switch/frame.ts';
import type { Batches } from './batches.ts';
import type { QueueBudget, VifCounters } from './counters.ts';
import type { GrantedRing } from './granted-ring.ts';
import { RX_DRAIN_MS, RX_POLL_MS, RX_QUEUE_BYTES, RX_QUEUE_FRAMES, RX_TOTAL_BYTES } from './limits.ts';
import type { PagedFrame } from './paged-frame.ts';
import type { Timers } from './timers.ts';

const PAGE_BYTES = 4096;
/** With fewer buffers than this the ring is looked at in passing. */
const LOW_BUFFERS = 128;
const GSO_TYPES = { tcpv4: XEN_NETIF_GSO_TYPE.TCPV4, tcpv6: XEN_NETIF_GSO_TYPE.TCPV6 } as const;

export interface RxQueueOptions {
  readonly domid: Domid;
  readonly port: EvtchnPort;
  /** The frontend tells of new buffers (feature-rx-notify). */
  readonly notified: boolean;
}

export interface RxQueueModules {
  readonly ring: GrantedRing;
  readonly batches: Batches;
  readonly counters: VifCounters;
  readonly budget: QueueBudget;
  readonly timers: Timers;
  readonly onBadGrant: (gref: number) => void;
  /** The frontend is out of order; the queue has stopped. */
  readonly onFatal: (reason: string, error?: unknown) => void;
}

type Queued = EthernetFrame | PagedFrame;

/** A response in the making. */
interface Slot {
  readonly response: Uint8Array;
  /** Its data among the batch's steps, from..to; empty for an extra info. */
  readonly from: number;
  readonly to: number;
  readonly gref: number;
}

/** A frame from another guest's pages, and its slots among the others'. */
interface FilledPaged {
  readonly frame: PagedFrame;
  readonly slots: readonly Slot[];
}

interface Filled {
  readonly steps: MemoryOp[];
  readonly slots: Slot[];
  readonly paged: FilledPaged[];
}

/** A piece of a frame that fills one buffer: what puts it there, and its size. */
interface Piece {
  readonly size: number;
  readonly steps: (page: RemotePage) => readonly MemoryOp[];
}

const lengthOf = (frame: Queued): number => ('parts' in frame ? frame.length : frame.bytes.length);

/** Slots that a frame takes. */
const slotsOf = (frame: Queued): number =>
  ('parts' in frame ? frame.parts.length : Math.ceil(frame.bytes.length / PAGE_BYTES)) + (frame.gso ? 1 : 0);

export class RxQueue {
  readonly #options: RxQueueOptions;
  readonly #m: RxQueueModules;
  #open = true;
  #frames: Queued[] = [];
  /** Bytes in #frames, without those in other guests' pages; slots that all of them take. */
  #bytes = 0;
  #slots = 0;
  #scheduled = false;
  /** Batches on their way. */
  #underWay = new Set<Promise<void>>();
  /** A grant was bad: responses wait for copies. */
  #careful = false;
  /** An event was asked for when there are enough buffers for the first frame. */
  #armed = false;
  #cancelTimer: (() => void) | undefined;
  #starvedMs = 0;

  constructor(options: RxQueueOptions, modules: RxQueueModules) {
    this.#options = options;
    this.#m = modules;
  }

  /** Queues a frame; false when there is no room for it. */
  enqueue(frame: EthernetFrame): boolean {
    const size = frame.bytes.length;
    const { budget, counters } = this.#m;
    const full =
      this.#frames.length >= RX_QUEUE_FRAMES ||
      this.#bytes + size > RX_QUEUE_BYTES ||
      budget.bytes + size > RX_TOTAL_BYTES;
    if (full || !this.#open) {
      counters.txDropped += 1;
      return false;
    }
    this.#frames.push(frame);
    this.#bytes += size;
    this.#slots += slotsOf(frame);
    budget.bytes += size;
    this.#schedule();
    return true;
  }

  /** Queues a frame that is still in its sender's pages; false when it could not leave at once. */
  enqueuePaged(frame: PagedFrame): boolean {
    const slots = slotsOf(frame);
    if (!this.#open || this.#careful || this.#m.ring.waiting < this.#slots + slots) return false;
    this.#frames.push(frame);
    this.#slots += slots;
    this.#schedule();
    return true;
  }

  /** The frontend has sent an event, or the ring has to be looked at. */
  event(reads?: readonly MemoryResult[]): void {
    if (!this.#open) return;
    // What cannot be used has to be read anew.
    if (reads === undefined || !this.#m.ring.offerFromEvent(reads)) this.#armed = false;
    if (this.#frames.length > 0) this.#schedule();
  }

  /** Resolves when nothing is under way any more; what waits is dropped. */
  async stop(): Promise<void> {
    this.#open = false;
    this.#stopTimer();
    this.#drop();
    await Promise.all(this.#underWay);
  }

  /** In a turn of its own, so that all frames that the switch hands over together leave together. */
  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      if (!this.#open || (this.#careful && this.#underWay.size > 0)) return;
      const done = this.#flush()
        .catch((error: unknown) => {
          this.#fail('receive ring failed', error);
        })
        .finally(() => {
          this.#underWay.delete(done);
          if (this.#careful && this.#frames.length > 0) this.#schedule();
        });
      this.#underWay.add(done);
    });
  }

  async #flush(): Promise<void> {
    const { ring, batches } = this.#m;
    const { port } = this.#options;
    const filled = this.#fill();
    const [next] = this.#frames;
    const starved = next !== undefined;
    if (filled.slots.length === 0 && (!starved || this.#armed)) return;
    if (!starved || filled.slots.length > 0) this.#stopTimer();
    if (this.#careful) await this.#copyFirst(filled);
    else for (const { response } of filled.slots) ring.respond(response);
    const asking = starved ? [ring.askEvent(slotsOf(next))] : [];
    const reads = starved || ring.waiting < LOW_BUFFERS ? ring.readOps : [];
    const steps = this.#careful ? [] : filled.steps;
    if (starved) this.#armed = true;
    const { eventCopies } = ring;
    const results = await batches.submit([...steps, ...ring.push(port), ...asking, ...reads]);
    if (steps.length > 0) this.#check(filled, results);
    if (!this.#isOpen()) return;
    if (reads.length > 0) {
      const taken = ring.offer(results.slice(-reads.length), eventCopies);
      if (typeof taken === 'object') {
        this.#fail(taken.reason);
        return;
      }
    }
    this.#settle();
  }

  /** After a look at the ring: goes on, or waits for buffers. */
  #settle(): void {
    const [next] = this.#frames;
    if (!next) return;
    if (this.#m.ring.waiting >= slotsOf(next)) this.#schedule();
    else this.#startTimer();
  }

  /** Takes the frames for which there are buffers. */
  #fill(): Filled {
    const { ring, counters, budget } = this.#m;
    const filled: Filled = { steps: [], slots: [], paged: [] };
    let taken = 0;
    for (const frame of this.#frames) {
      const needed = slotsOf(frame);
      if (ring.waiting < needed) break;
      taken += 1;
      this.#slots -= needed;
      if ('parts' in frame && !frame.valid()) continue;
      const before = filled.slots.length;
      this.#put(frame, filled);
      ring.take(needed);
      const length = lengthOf(frame);
      if ('parts' in frame) {
        filled.paged.push({ frame, slots: filled.slots.slice(before) });
      } else {
        this.#bytes -= length;
        budget.bytes -= length;
      }
      counters.txPackets += 1;
      counters.txBytes += length;
    }
    if (taken > 0) {
      this.#frames = this.#frames.slice(taken);
      this.#armed = false;
    }
    return filled;
  }

  #put(frame: Queued, { steps, slots }: Filled): void {
    const { ring } = this.#m;
    const { domid } = this.#options;
    const { checksum, gso } = frame;
    const pieces = 'parts' in frame ? pagedPieces(frame) : pagePieces(frame.bytes);
    let request = 0;
    for (const [index, { size, steps: piece }] of pieces.entries()) {
      const { id, gref } = NetifRxRequest.view(bytesOf(ring.peek(request)), 0);
      request += 1;
      const more = index < pieces.length - 1 ? NETRXF.more_data : 0;
      const validated = index === 0 && checksum === 'partial' ? NETRXF.csum_blank | NETRXF.data_validated : 0;
      const extra = index === 0 && gso ? NETRXF.extra_info : 0;
      const { bytes } = NetifRxResponse.create({ id, offset: 0, flags: more | validated | extra, status: size });
      const from = steps.length;
      steps.push(...piece({ space: 'grant', domid, gref: grantRef(gref) }));
      slots.push({ response: bytes, from, to: steps.length, gref });
      if (index > 0 || !gso) continue;
      // The buffer of this request is not used: the extra info lies in its response's place.
      request += 1;
      const info = { type: XEN_NETIF_EXTRA_TYPE.GSO, size: gso.size, gso_type: GSO_TYPES[gso.type] };
      slots.push({ response: NetifExtraGso.create(info).bytes, from: 0, to: 0, gref: 0 });
    }
  }

  /** Copies, then makes responses of the outcomes. */
  async #copyFirst(filled: Filled): Promise<void> {
    const { ring, batches } = this.#m;
    const results = filled.steps.length > 0 ? await batches.submit(filled.steps) : [];
    this.#check(filled, results);
    for (const { response, from, to } of filled.slots) {
      if (results.slice(from, to).some(({ status }) => status !== 0)) {
        NetifRxResponse.view(bytesOf(response), 0).status = NETIF_RSP.ERROR & 0xffff;
      }
      ring.respond(response);
    }
  }

  #check({ steps, slots, paged }: Filled, results: readonly MemoryResult[]): void {
    for (const { frame, slots: own } of paged) {
      // Without the slot of an extra info, there is one for each part.
      const parts = own.filter(({ from, to }) => to > from);
      frame.done(parts.map(({ from, to }) => results.slice(from, to).find(({ status }) => status !== 0)?.status ?? 0));
    }
    for (const { from, to, gref } of slots) {
      for (let step = from; step < to; step += 1) {
        if (results[step]?.status === 0) continue;
        this.#m.counters.txErrors += 1;
        // Of a copy, either end's grant may be bad.
        if (steps[step]?.kind === 'copy') continue;
        this.#careful = true;
        this.#m.onBadGrant(gref);
      }
    }
  }

  #startTimer(): void {
    if (this.#cancelTimer) return;
    const delayMs = this.#options.notified ? RX_DRAIN_MS : RX_POLL_MS;
    this.#cancelTimer = this.#m.timers.after(delayMs, () => {
      this.#cancelTimer = undefined;
      this.#starvedMs += delayMs;
      if (this.#starvedMs >= RX_DRAIN_MS) {
        this.#m.counters.txDropped += this.#drop();
        this.#starvedMs = 0;
        return;
      }
      this.event();
    });
  }

  #stopTimer(): void {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    this.#starvedMs = 0;
  }

  /** The number of frames that waited. */
  #drop(): number {
    const frames = this.#frames;
    this.#m.budget.bytes -= this.#bytes;
    this.#frames = [];
    this.#bytes = 0;
    this.#slots = 0;
    for (const frame of frames) if ('parts' in frame) frame.done(frame.parts.map(() => NETIF_RSP.ERROR));
    this.#armed = false;
    return frames.length;
  }

  #isOpen(): boolean {
    return this.#open;
  }

  #fail(reason: string, error?: unknown): void {
    if (!this.#open) return;
    this.#open = false;
    this.#m.onFatal(reason, error);
  }
}

/** A frame cut where pages end. */
function pagePieces(bytes: Uint8Array): Piece[] {
  return Array.from({ length: Math.ceil(bytes.length / PAGE_BYTES) }, (_, index): Piece => {
    const data = bytes.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES);
    return { size: data.length, steps: (page) => [{ kind: 'write', page, offset: 0, data }] };
  });
}

/** A buffer for each part of the sender's; the head as it was judged. */
function pagedPieces({ head, domid, parts }: PagedFrame): Piece[] {
  return parts.map(({ gref, offset, size }, index): Piece => {
    const done = index === 0 ? head.length : 0;
    const source: RemotePage = { space: 'grant', domid, gref: grantRef(gref) };
    return {
      size,
      steps: (page) => {
        const steps: MemoryOp[] = [];
        if (done > 0) steps.push({ kind: 'write', page, offset: 0, data: head });
        if (done < size) {
          const from = { page: source, offset: offset + done };
          steps.push({ kind: 'copy', from, to: { page, offset: done }, length: size - done });
        }
        return steps;
      },
    };
  });
}
