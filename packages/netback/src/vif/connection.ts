/**
 * A vif while its frontend is connected: queues, control ring and event channels made of what the frontend has named, from
 * connect to disconnect. A ring is taken up where its page says that it was left (BACK_RING_ATTACH), so that a restarted backend
 * goes on with rings in use.
 */
import { grantRef } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { MemoryResult, PrivcmdPort } from '@xenhost/privcmd';
import { SRING, ringIndex, ringShape } from '@xenhost/pv-ring';
import type { RingShape } from '@xenhost/pv-ring';
import { NetifCtrlRequest, NetifRxRequest, NetifTxRequest } from '@xenhost/xen-abi';
import type { EthernetFrame } from '../switch/frame.ts';
import type { Batches } from './batches.ts';
import { ControlRing } from './control-ring.ts';
import type { QueueBudget, VifCounters } from './counters.ts';
import type { Credit } from './credit.ts';
import type { EventPorts } from './event-ports.ts';
import { flowHash } from './flow-hash.ts';
import { FrontendError } from './frontend-keys.ts';
import type { FrontendKeys, QueueKeys } from './frontend-keys.ts';
import { GrantedRing } from './granted-ring.ts';
import { BIND_PATIENCE_MS, BIND_RETRY_MS } from './limits.ts';
import type { MulticastFilter } from './multicast.ts';
import type { PagedFrame } from './paged-frame.ts';
import { RxQueue } from './rx-queue.ts';
import type { Timers } from './timers.ts';
import { TxQueue } from './tx-queue.ts';

const PAGE_BYTES = 4096;
const TX_SHAPE = ringShape(NetifTxRequest.size);
const RX_SHAPE = ringShape(NetifRxRequest.size);
const CONTROL_SHAPE = ringShape(NetifCtrlRequest.size);

export interface ConnectionOptions {
  readonly domid: Domid;
  readonly frontend: FrontendKeys;
  /** Waits for event channels that somebody else may still hold. */
  readonly patient?: boolean;
}

export interface ConnectionModules {
  readonly privcmd: PrivcmdPort;
  readonly ports: EventPorts;
  readonly batches: Batches;
  readonly credit: Credit;
  readonly multicast: MulticastFilter;
  readonly counters: VifCounters;
  readonly budget: QueueBudget;
  readonly timers: Timers;
  /** From the guest. */
  readonly onFrame: (frame: EthernetFrame) => void;
  /** From the guest, still in its pages; false when it has to come whole. */
  readonly onPaged: (frame: PagedFrame) => boolean;
  /** A packet or a buffer was refused, with no harm to others. */
  readonly onFault: (reason: string) => void;
  /** The frontend is out of order: the vif is to be disabled. */
  readonly onFatal: (reason: string, error?: unknown) => void;
}

interface Queue {
  readonly tx: TxQueue;
  readonly rx: RxQueue;
}

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #m: ConnectionModules;
  readonly #queues: Queue[] = [];
  readonly #bound: EvtchnPort[] = [];
  #control: ControlRing | undefined;

  private constructor(options: ConnectionOptions, modules: ConnectionModules) {
    this.#options = options;
    this.#m = modules;
  }

  /** Throws FrontendError when the rings or channels that the frontend names are not there. */
  static async open(options: ConnectionOptions, modules: ConnectionModules): Promise<Connection> {
    const connection = new Connection(options, modules);
    try {
      await connection.#open();
    } catch (error) {
      await connection.close();
      throw error;
    }
    return connection;
  }

  get frontend(): FrontendKeys {
    return this.#options.frontend;
  }

  /** A frame for the guest; false when it was dropped. */
  receive(frame: EthernetFrame): boolean {
    const { multicast, counters } = this.#m;
    const { scatterGather } = this.#options.frontend;
    if (!multicast.passes(frame.bytes) || (!scatterGather && frame.bytes.length > PAGE_BYTES)) {
      counters.txDropped += 1;
      return false;
    }
    return this.#queueFor(frame.bytes)?.rx.enqueue(frame) ?? false;
  }

  /** The same from another guest's pages; false when it has to come whole. */
  receivePaged(frame: PagedFrame): boolean {
    return (
      this.#options.frontend.scatterGather &&
      (this.#queueFor(frame.head, frame.length)?.rx.enqueuePaged(frame) ?? false)
    );
  }

  /** `length`: of the whole frame. */
  #queueFor(head: Uint8Array, length = head.length): Queue | undefined {
    const queues = this.#queues.length;
    return this.#queues[queues > 1 ? flowHash(head, length) % queues : 0];
  }

  /** Lets go of everything; resolves when nothing touches the guest any more. */
  async close(): Promise<void> {
    const queues = this.#queues.splice(0).flatMap(({ tx, rx }) => [tx.stop(), rx.stop()]);
    await Promise.all([...queues, this.#control?.stop()]);
    this.#control = undefined;
    await Promise.all(this.#bound.splice(0).map((port) => this.#m.ports.unbind(port)));
  }

  async #open(): Promise<void> {
    const { frontend } = this.#options;
    for (const keys of frontend.queues) await this.#openQueue(keys);
    if (frontend.control) await this.#openControl(frontend.control);
  }

  async #openQueue(keys: QueueKeys): Promise<void> {
    const { domid, frontend } = this.#options;
    const { ports, batches, credit, multicast, counters, budget, timers } = this.#m;
    const { onFrame, onPaged, onFault, onFatal } = this.#m;
    const txRing = await this.#ring('transmit', keys.txRingRef, TX_SHAPE);
    const rxRing = await this.#ring('receive', keys.rxRingRef, RX_SHAPE);
    const txPort = await this.#bind(keys.txPort);
    const rxPort = keys.rxPort === keys.txPort ? txPort : await this.#bind(keys.rxPort);
    const tx = new TxQueue(
      { domid, port: txPort },
      { ring: txRing, batches, credit, multicast, counters, timers, onFrame, onPaged, onBadPacket: onFault, onFatal },
    );
    const rx = new RxQueue(
      { domid, port: rxPort, notified: frontend.rxNotify },
      {
        ring: rxRing,
        batches,
        counters,
        budget,
        timers,
        onBadGrant: (gref) => {
          onFault(`receive buffer: grant ${gref} cannot be written`);
        },
        onFatal,
      },
    );
    this.#queues.push({ tx, rx });
    const { length } = txRing.reads;
    if (txPort === rxPort) {
      await ports.listen(txPort, [...txRing.reads, ...rxRing.reads], (reads) => {
        tx.event(reads?.slice(0, length));
        rx.event(reads?.slice(length));
      });
    } else {
      await ports.listen(txPort, txRing.reads, (reads) => {
        tx.event(reads);
      });
      await ports.listen(rxPort, rxRing.reads, (reads) => {
        rx.event(reads);
      });
    }
    // What was put there before, and answers whose event was lost.
    tx.event();
    for (const port of new Set([txPort, rxPort])) await this.#m.privcmd.notify(port);
  }

  async #openControl({ ringRef, port }: { readonly ringRef: number; readonly port: number }): Promise<void> {
    const { ports, batches, onFatal } = this.#m;
    const ring = await this.#ring('control', ringRef, CONTROL_SHAPE);
    const local = await this.#bind(port);
    const control = new ControlRing(local, { ring, batches, onFatal });
    this.#control = control;
    await ports.listen(local, ring.reads, (reads) => {
      control.event(reads);
    });
    control.event();
  }

  async #ring(name: string, ref: number, shape: RingShape): Promise<GrantedRing> {
    const { domid } = this.#options;
    const gref = grantRef(ref);
    const page = { space: 'grant', domid, gref } as const;
    const [head]: readonly MemoryResult[] = await this.#m.batches.submit([
      { kind: 'read', page, offset: 0, length: SRING.ring },
    ]);
    if (head?.data === undefined) throw new FrontendError(`${name} ring: grant ${ref} cannot be mapped`);
    const position = ringIndex(head.data, 'rsp_prod');
    const used = (ringIndex(head.data, 'req_prod') - position) >>> 0;
    if (used > shape.entries) throw new FrontendError(`${name} ring: ${used} requests in ${shape.entries} slots`);
    return new GrantedRing({ name, domid, gref, shape, position });
  }

  async #bind(remotePort: number): Promise<EvtchnPort> {
    const { domid, patient } = this.#options;
    const { ports, timers } = this.#m;
    for (let left = patient ? BIND_PATIENCE_MS : 0; ; left -= BIND_RETRY_MS) {
      try {
        const port = await ports.bind(domid, remotePort);
        this.#bound.push(port);
        return port;
      } catch (error) {
        if (left <= 0) throw new FrontendError(`event channel ${remotePort} cannot be bound`, { cause: error });
      }
      await new Promise<void>((resolve) => timers.after(BIND_RETRY_MS, resolve));
    }
  }
}
