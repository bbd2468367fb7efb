/**
 * The shared page of a framebuffer or keyboard: two rings of 40-byte events (`fbif.h`, `kbdif.h`), read and written by batches
 * of copies. The indices that this end owns are read once, when the page is opened, and kept here from then on, so that a
 * restarted process goes on where the last one stopped; those of the guest are checked each time.
 */
import type { EvtchnPort } from '@xenhost/base';
import type { MemoryOp, MemoryResult, PrivcmdPort, RemotePage } from '@xenhost/privcmd';
import { XENFB_EVENT_SIZE, XenkbdPage as Indices, type EventRingLayout } from '@xenhost/xen-abi';

export interface EventPageOptions {
  readonly page: RemotePage;
  /** Domain-0's end of the event channel. */
  readonly port: EvtchnPort;
  readonly in: EventRingLayout;
  readonly out: EventRingLayout;
}

export interface EventPageModules {
  readonly privcmd: Pick<PrivcmdPort, 'memory'>;
  /** Up to `room` events for the guest, oldest first. */
  readonly pull: (room: number) => readonly Uint8Array[];
}

export type Taken =
  /** The events, one after the other. */
  | { readonly kind: 'events'; readonly events: readonly Uint8Array[] }
  /** The guest's index is more ahead than the ring is long: what is in it means nothing. */
  | { readonly kind: 'wild' }
  /** The page is no longer to be had. */
  | { readonly kind: 'gone' };

const u32 = (value: number): Uint8Array => {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
};

const indexIn = (head: Uint8Array, offset: number): number =>
  new DataView(head.buffer, head.byteOffset).getUint32(offset, true);

export class EventPage {
  readonly #options: EventPageOptions;
  readonly #modules: EventPageModules;
  #inProd: number;
  #inCons: number;
  #outCons: number;
  #isSending = false;
  #again = false;
  #closed = false;

  private constructor(options: EventPageOptions, modules: EventPageModules, head: Uint8Array) {
    this.#options = options;
    this.#modules = modules;
    this.#inProd = indexIn(head, options.in.prod);
    this.#inCons = indexIn(head, options.in.cons);
    this.#outCons = indexIn(head, options.out.cons);
  }

  /** Undefined when the page cannot be read. */
  static async open(options: EventPageOptions, modules: EventPageModules): Promise<EventPage | undefined> {
    const head = await readHead(options, modules);
    return head && new EventPage(options, modules, head);
  }

  close(): void {
    this.#closed = true;
  }

  /** Takes what the guest has put into its ring. */
  async take(): Promise<Taken> {
    const { page, port, out } = this.#options;
    const [head, ring] = await this.#memory([
      { kind: 'read', page, offset: 0, length: Indices.size },
      { kind: 'read', page, offset: out.base, length: out.length * XENFB_EVENT_SIZE },
    ]);
    if (!head?.data || !ring?.data) return { kind: 'gone' };
    const prod = indexIn(head.data, out.prod);
    const used = (prod - this.#outCons) >>> 0;
    if (used === 0) return { kind: 'events', events: [] };
    const first = this.#outCons;
    this.#outCons = prod;
    const ops: MemoryOp[] = [{ kind: 'write', page, offset: out.cons, data: u32(prod) }];
    // A frontend that found the ring full keeps back what it has drawn until it is told that there is room.
    if (used >= out.length) ops.push({ kind: 'notify', port });
    await this.#memory(ops);
    if (used > out.length) return { kind: 'wild' };
    const events = Array.from({ length: used }, (_, i) => {
      const at = (((first + i) >>> 0) % out.length) * XENFB_EVENT_SIZE;
      return (ring.data ?? new Uint8Array(0)).slice(at, at + XENFB_EVENT_SIZE);
    });
    return { kind: 'events', events };
  }

  /** There are events to pull, or the guest has made room. */
  send(): void {
    this.#again = true;
    if (this.#isSending) return;
    this.#isSending = true;
    this.#sendAll()
      .catch(() => undefined) // the link to the hypervisor broke: the process ends for that
      .finally(() => {
        this.#isSending = false;
        if (this.#again && !this.#closed) this.send();
      });
  }

  async #sendAll(): Promise<void> {
    while (this.#again && !this.#closed) {
      this.#again = false;
      let room = this.#room();
      if (room === 0) {
        await this.#refreshInCons();
        room = this.#room();
      }
      const events = room > 0 ? this.#modules.pull(room) : [];
      if (events.length > 0) await this.#put(events);
    }
  }

  /** None while the guest's index is wild. */
  #room(): number {
    const used = (this.#inProd - this.#inCons) >>> 0;
    return Math.max(0, this.#options.in.length - used);
  }

  async #refreshInCons(): Promise<void> {
    const head = await readHead(this.#options, this.#modules);
    if (head) this.#inCons = indexIn(head, this.#options.in.cons);
  }

  async #put(events: readonly Uint8Array[]): Promise<void> {
    const { page, port, in: ring } = this.#options;
    const writes = events.map((data, i): MemoryOp => {
      const slot = ((this.#inProd + i) >>> 0) % ring.length;
      return { kind: 'write', page, offset: ring.base + slot * XENFB_EVENT_SIZE, data };
    });
    this.#inProd = (this.#inProd + events.length) >>> 0;
    const results = await this.#memory([
      ...writes,
      { kind: 'write', page, offset: ring.prod, data: u32(this.#inProd) },
      { kind: 'notify', port },
      { kind: 'read', page, offset: 0, length: Indices.size },
    ]);
    const head = results.at(-1)?.data;
    if (!head) return;
    this.#inCons = indexIn(head, ring.cons);
    this.#again = true;
  }

  async #memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    return this.#closed ? [] : this.#modules.privcmd.memory(ops);
  }
}

async function readHead({ page }: EventPageOptions, { privcmd }: EventPageModules): Promise<Uint8Array | undefined> {
  const [head] = await privcmd.memory([{ kind: 'read', page, offset: 0, length: Indices.size }]);
  return head?.data;
}
