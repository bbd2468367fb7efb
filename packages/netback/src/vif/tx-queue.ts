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
import { frameOf } from './frames.ts';
import type { GrantedRing } from './granted-ring.ts';
import { TX_SLOTS_PER_TURN } from './limits.ts';
import type { MulticastFilter } from './multicast.ts';
import type { VifCounters } from './counters.ts';
import type { Timers } from './timers.ts';
import { nextTxItem } from './tx-packets.ts';
import type { TxItem } from './tx-packets.ts';

type Packet = Extract<TxItem, { kind: 'packet' }>;

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
    if (this.#running) return;
    this.#running = true;
    this.#ended = this.#run()
      .catch((error: unknown) => {
        this.#fail('transmit ring failed', error);
      })
      .finally(() => {
        this.#running = false;
      });
  }

  /** Resolves when nothing is under way any more. */
  async stop(): Promise<void> {
    this.#open = false;
    this.#cancelWait();
    await this.#ended;
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
      const reads = this.#reads(packets);
      const asking = idle && delayMs === 0 ? [ring.askEvent()] : [];
      const { eventCopies } = ring;
      const results = await batches.submit([...answers, ...reads, ...asking, ...ring.readOps]);
      if (!this.#isOpen()) return;
      this.#deliver(packets, results.slice(answers.length, answers.length + reads.length));
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

  #reads(packets: readonly Packet[]): MemoryOp[] {
    const { domid } = this.#options;
    return packets.flatMap(({ parts }) =>
      parts.map(({ gref, offset, size }): MemoryOp => ({
        kind: 'read',
        page: { space: 'grant', domid, gref: grantRef(gref) },
        offset,
        length: size,
      })),
    );
  }

  #deliver(packets: readonly Packet[], results: readonly MemoryResult[]): void {
    const { counters, onBadPacket, onFrame } = this.#m;
    let next = 0;
    for (const packet of packets) {
      const data = results.slice(next, next + packet.parts.length);
      next += packet.parts.length;
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
      this.#answer(
        packet.parts.map(({ id }) => id),
        packet.extras,
        (part) => (data[part]?.status === 0 ? NETIF_RSP.OKAY : NETIF_RSP.ERROR),
      );
    }
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
