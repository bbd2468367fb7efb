/**
 * One transmit ring of a vif: packets out of the guest's pages and into the switch. A turn is one batch: what was answered,
 * the data of the packets that are new, the ring for the next turn. Without new requests the turn asks for an event and looks
 * once more (RING_FINAL_CHECK_FOR_REQUESTS).
 */
import { grantRef } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { MemoryOp, MemoryResult } from '@xenhost/privcmd';
import { NETIF_RSP } from '@xenhost/xen-abi';
import type { EthernetFrame } from '../switch/frame.ts';
import type { Batches } from './batches.ts';
import type { Credit } from './credit.ts';
import type { VifCounters } from './counters.ts';
import { frameOf } from './frames.ts';
import type { GrantedRing } from './granted-ring.ts';
import { DIRECT_PAUSE, TX_SLOTS_PER_TURN } from './limits.ts';
import type { MulticastFilter } from './multicast.ts';
import { headBytes, headIsSound } from './paged-frame.ts';
import type { PagedFrame } from './paged-frame.ts';
import type { Timers } from './timers.ts';
import { nextTxItem } from './tx-packets.ts';
import type { TxItem, TxSlot } from './tx-packets.ts';

type Packet = Extract<TxItem, { kind: 'packet' }>;

/** A packet of which so many bytes are read first; undefined: all. */
interface Reading {
  readonly packet: Packet;
  readonly head: number | undefined;
}

export interface TxQueueOptions {
  readonly domid: Domid;
  readonly port: EvtchnPort;
}

export interface TxQueueModules {
  readonly ring: GrantedRing;
  readonly batches: Batches;
  readonly credit: Credit;
  readonly multicast: MulticastFilter;
  readonly counters: VifCounters;
  readonly timers: Timers;
  readonly onFrame: (frame: EthernetFrame) => void;
  /** A frame that may go from pages to pages; false when it has to come whole. */
  readonly onPaged: (frame: PagedFrame) => boolean;
  /** A packet was refused: why, for a log that is not flooded. */
  readonly onBadPacket: (reason: string) => void;
  /** The frontend is out of order; the queue has stopped. */
  readonly onFatal: (reason: string, error?: unknown) => void;
}

export class TxQueue {
  readonly #options: TxQueueOptions;
  readonly #m: TxQueueModules;
  #open = true;
  #running = false;
  #ended: Promise<void> = Promise.resolve();
  /** Something may have changed since the last look. */
  #again = false;
  /** The next request brings an event. */
  #armed = false;
  /** Large packets that are read whole before the next one of which the headers are. */
  #wholeFirst = 0;
  /** Cancels the wait for the next window of the rate. */
  #waiting: (() => void) | undefined;

  constructor(options: TxQueueOptions, modules: TxQueueModules) {
    this.#options = options;
    this.#m = modules;
  }

  /** The frontend has sent an event, or something else says that there may be requests. */
  event(reads?: readonly MemoryResult[]): void {
    if (!this.#open) return;
    const known = reads !== undefined && this.#m.ring.offerFromEvent(reads);
    if (!known) this.#again = true;
    // An event of something else. A turn under way looks once more before it ends.
    else if (this.#m.ring.waiting === 0 && (this.#running || this.#armed)) return;
    this.#start();
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#open = false;
    this.#cancelWait();
    await this.#ended;
  }

  #start(): void {
    if (this.#running || !this.#open) return;
    this.#running = true;
    this.#ended = this.#run()
      .catch((error: unknown) => {
        this.#fail('transmit ring failed', error);
      })
      .finally(() => {
        this.#running = false;
        // Said after the last look.
        if (this.#again) this.#start();
      });
  }

  async #run(): Promise<void> {
    const { ring, batches } = this.#m;
    this.#cancelWait();
    for (let settled = false; this.#open && (this.#again || !settled);) {
      this.#again = false;
      const { packets, delayMs } = this.#take();
      if (!this.#isOpen()) return;
      const idle = packets.length === 0;
      if (!idle) this.#armed = false;
      else if (delayMs > 0) this.#wait(delayMs);
      const answers = ring.push(this.#options.port);
      const readings = packets.map((packet): Reading => ({ packet, head: this.#headOf(packet) }));
      const reads = readings.flatMap((reading) => this.#reads(reading));
      const asking = idle && delayMs === 0 ? [ring.askEvent()] : [];
      const { eventCopies } = ring;
      const results = await batches.submit([...answers, ...reads, ...asking, ...ring.readOps]);
      if (!this.#isOpen()) return;
      await this.#deliver(readings, results.slice(answers.length, answers.length + reads.length));
      if (!this.#isOpen()) return;
      const taken = ring.offer(results.slice(-ring.readOps.length), eventCopies);
      if (typeof taken === 'object') {
        this.#fail(taken.reason);
        return;
      }
      this.#again ||= taken === 'old';
      settled = idle && (ring.waiting === 0 || delayMs > 0);
      this.#armed = settled && delayMs === 0;
    }
  }

  #isOpen(): boolean {
    return this.#open;
  }

  /** Takes the packets of one turn off the ring; answers at once what needs no data. */
  #take(): { readonly packets: readonly Packet[]; readonly delayMs: number } {
    const { ring, credit, multicast, counters } = this.#m;
    const packets: Packet[] = [];
    for (let slots = 0; slots < TX_SLOTS_PER_TURN && ring.waiting > 0;) {
      const item = nextTxItem((ahead) => ring.peek(ahead), ring.waiting);
      if (item.kind === 'fatal') {
        this.#fail(item.reason);
        return { packets: [], delayMs: 0 };
      }
      if (item.kind === 'packet') {
        const delayMs = credit.take(item.bytes);
        if (delayMs > 0) return { packets, delayMs };
        packets.push(item);
      }
      ring.take(item.slots);
      slots += item.slots;
      if (item.kind === 'multicast') {
        const done = item.action === 'remove' || multicast.add(item.address);
        if (item.action === 'remove') multicast.remove(item.address);
        this.#answer([item.id], item.extras, () => (done ? NETIF_RSP.OKAY : NETIF_RSP.ERROR));
      } else if (item.kind === 'bad') {
        counters.rxErrors += 1;
        this.#m.onBadPacket(item.reason);
        this.#answer(item.ids, item.extras, () => NETIF_RSP.ERROR);
      }
    }
    return { packets, delayMs: 0 };
  }

  #headOf(packet: Packet): number | undefined {
    const head = headBytes(packet);
    if (head === undefined || this.#wholeFirst === 0) return head;
    this.#wholeFirst -= 1;
    return undefined;
  }

  #reads({ packet: { parts }, head }: Reading): MemoryOp[] {
    const { domid } = this.#options;
    const read = ({ gref, offset }: TxSlot, length: number): MemoryOp => ({
      kind: 'read',
      page: { space: 'grant', domid, gref: grantRef(gref) },
      offset,
      length,
    });
    const [first] = parts;
    return head === undefined || !first ? parts.map((part) => read(part, part.size)) : [read(first, head)];
  }

  /** Packets leave in their order: those behind one that has to be read whole after all wait for that. */
  async #deliver(readings: readonly Reading[], results: readonly MemoryResult[]): Promise<void> {
    let next = 0;
    for (const [index, { packet, head }] of readings.entries()) {
      const count = head === undefined ? packet.parts.length : 1;
      const data = results.slice(next, next + count);
      next += count;
      if (head === undefined) this.#deliverWhole(packet, data);
      else if (!this.#deliverPaged(packet, data[0])) {
        this.#wholeFirst = DIRECT_PAUSE;
        const rest = readings.slice(index).map(({ packet: each }): Reading => ({ packet: each, head: undefined }));
        const whole = await this.#m.batches.submit(rest.flatMap((reading) => this.#reads(reading)));
        if (this.#open) await this.#deliver(rest, whole);
        return;
      }
    }
  }

  #deliverWhole(packet: Packet, data: readonly MemoryResult[]): void {
    const { counters, onBadPacket, onFrame } = this.#m;
    const refused = data.findIndex(({ status }) => status !== 0);
    const frame = refused < 0 ? frameOf(packet, data) : undefined;
    if (frame) {
      counters.rxPackets += 1;
      counters.rxBytes += packet.bytes;
      onFrame(frame);
    } else {
      counters.rxErrors += 1;
      onBadPacket(
        refused < 0 ? 'its checksum or segments cannot be left to us' : `grant ${packet.parts[refused]?.gref ?? 0}`,
      );
    }
    this.#answerPacket(
      packet,
      data.map(({ status }) => status),
    );
  }

  /** False when the packet has to be read whole. */
  #deliverPaged(packet: Packet, read: MemoryResult | undefined): boolean {
    const { counters, onBadPacket, onPaged } = this.#m;
    const head = read?.data;
    if (!head || !headIsSound(head, packet)) return false;
    const { bytes: length, parts, gso, checksumBlank } = packet;
    const taken = onPaged({
      head: Uint8Array.from(head),
      length,
      checksum: checksumBlank ? 'partial' : 'complete',
      ...(gso ? { gso } : {}),
      domid: this.#options.domid,
      parts,
      valid: () => this.#open,
      done: (statuses) => {
        if (!this.#open) return;
        const refused = statuses.findIndex((status) => status !== 0);
        if (refused >= 0) {
          counters.rxErrors += 1;
          onBadPacket(`grant ${parts[refused]?.gref ?? 0}, or the receiver's buffer`);
          // Whoever has such grants is not trusted to have good ones: its packets are read before others hear of them.
          this.#wholeFirst = Infinity;
        }
        this.#answerPacket(packet, statuses);
        this.#again = true;
        this.#start();
      },
    });
    if (!taken) return false;
    counters.rxPackets += 1;
    counters.rxBytes += length;
    return true;
  }

  #answerPacket({ parts, extras }: Packet, statuses: readonly number[]): void {
    this.#answer(
      parts.map(({ id }) => id),
      extras,
      (part) => (statuses[part] === 0 ? NETIF_RSP.OKAY : NETIF_RSP.ERROR),
    );
  }

  /** A response for each slot; extra infos have one that says nothing. */
  #answer(ids: readonly number[], extras: number, status: (part: number) => number): void {
    const { ring } = this.#m;
    for (const [part, id] of ids.entries()) {
      ring.respond(txResponse(id, status(part)));
      if (part === 0) for (let extra = 0; extra < extras; extra += 1) ring.respond(txResponse(0, NETIF_RSP.NULL));
    }
  }

  #wait(delayMs: number): void {
    this.#waiting = this.#m.timers.after(delayMs, () => {
      this.#waiting = undefined;
      this.event();
    });
  }

  #cancelWait(): void {
    this.#waiting?.();
    this.#waiting = undefined;
  }

  #fail(reason: string, error?: unknown): void {
    if (!this.#open) return;
    this.#open = false;
    this.#m.onFatal(reason, error);
  }
}

/** `struct netif_tx_response`. */
function txResponse(id: number, status: number): Uint8Array {
  return Uint8Array.of(id & 0xff, id >>> 8, status & 0xff, (status >> 8) & 0xff);
}
