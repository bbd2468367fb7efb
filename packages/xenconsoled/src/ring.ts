/**
 * One PV console ring of a guest (`xen/include/public/io/console.h`), read and written by batched copies through privcmd.
 * Output is taken at once, whether anybody listens or not: guests spin until it is. The indices that this end owns
 * (out_cons, in_prod) are read once at the start and then kept here; those of the guest are checked each time.
 */
import { bytesOf } from '@xenhost/base';
import type { Domid, EvtchnPort } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { MemoryOp, PrivcmdPort, RemotePage } from '@xenhost/privcmd';
import { advance, appendToRing, copyFromRing, ringUsed, u32Bytes } from '@xenhost/pv-ring';
import { XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface as Page } from '@xenhost/xen-abi';
import { INPUT_QUEUE_BYTES } from './limits.ts';

/** The indices, behind both rings. */
const INDEX_OFFSET = Page.offsets.in_cons;
const INDEX_BYTES = Page.size - INDEX_OFFSET;
const IN_RING = { base: Page.offsets.in, size: XENCONS_IN_SIZE, prodOffset: Page.offsets.in_prod };

export interface ConsoleRingOptions {
  readonly domid: Domid;
  readonly page: RemotePage;
  /** Domain-0's end of the event channel. */
  readonly port: EvtchnPort;
}

export interface ConsoleRingModules {
  readonly privcmd: PrivcmdPort;
  readonly log: Logger;
  readonly onOutput: (bytes: Uint8Array) => void;
  /** Input has gone to the guest: there is room again. */
  readonly onInputRoom: () => void;
}

export class ConsoleRing {
  readonly port: EvtchnPort;
  readonly #page: RemotePage;
  readonly #domid: Domid;
  readonly #modules: ConsoleRingModules;
  #outCons: number | undefined;
  #inProd = 0;
  #input: Uint8Array = new Uint8Array(0);
  #state: 'open' | 'gone' = 'open';
  #pending = false;
  #round: Promise<void> | undefined;

  constructor(options: ConsoleRingOptions, modules: ConsoleRingModules) {
    this.port = options.port;
    this.#page = options.page;
    this.#domid = options.domid;
    this.#modules = modules;
  }

  /** The guest has sent an event, or something else says that the ring may have changed. */
  event(): void {
    this.#pending = true;
    void this.#run();
  }

  /** Queues input. False when so much waits that the sender should pause until `onInputRoom`. */
  input(bytes: Uint8Array): boolean {
    this.#input = this.#input.length === 0 ? Uint8Array.from(bytes) : Buffer.concat([this.#input, bytes]);
    this.event();
    return this.#input.length < INPUT_QUEUE_BYTES;
  }

  /** Takes what is in the ring now. Resolves when all of it has been passed on. */
  async drain(): Promise<void> {
    this.event();
    do await this.#run();
    while (this.#pending && this.#state === 'open');
  }

  stop(): void {
    this.#state = 'gone';
  }

  /** At most one round is under way; events meanwhile ask for another. */
  #run(): Promise<void> {
    this.#round ??= this.#rounds()
      .catch((error: unknown) => {
        this.#modules.log.warn({ domid: this.#domid, err: error }, 'console ring failed');
        this.#state = 'gone';
      })
      .finally(() => {
        this.#round = undefined;
        if (this.#pending && this.#state === 'open') void this.#run();
      });
    return this.#round;
  }

  async #rounds(): Promise<void> {
    const page = this.#page;
    // The indices first: what they say is there was written before them, what comes meanwhile is left for the next round.
    const reads: readonly MemoryOp[] = [
      { kind: 'read', page, offset: INDEX_OFFSET, length: INDEX_BYTES },
      { kind: 'read', page, offset: Page.offsets.out, length: XENCONS_OUT_SIZE },
    ];
    while (this.#pending && this.#state === 'open') {
      this.#pending = false;
      const { privcmd } = this.#modules;
      let results = await privcmd.memory(reads);
      for (;;) {
        const [indices, out] = results.slice(-reads.length);
        if (indices?.data?.length !== INDEX_BYTES || out?.data?.length !== XENCONS_OUT_SIZE) {
          // The domain is on its way out.
          this.#state = 'gone';
          return;
        }
        const ops = this.#take(indices.data, out.data);
        if (ops.length === 0) break;
        // What the guest adds meanwhile comes with the answer: a busy guest costs one round trip a ring.
        results = await privcmd.memory([...ops, { kind: 'notify', port: this.port }, ...reads]);
      }
    }
  }

  /** Passes output on and gives the writes that tell the guest so, and that bring it input. */
  #take(indices: Uint8Array, out: Uint8Array): MemoryOp[] {
    const page = Page.view(bytesOf(indices), -INDEX_OFFSET);
    const { out_prod: outProd, in_cons: inCons } = page;
    if (this.#outCons === undefined) {
      this.#outCons = page.out_cons;
      this.#inProd = page.in_prod;
    }
    const ops: MemoryOp[] = [];
    // A wild index is the guest's own loss: nothing moves until it is sane again.
    const used = ringUsed(outProd, this.#outCons, XENCONS_OUT_SIZE) ?? 0;
    if (used > 0) {
      this.#modules.onOutput(copyFromRing(out, this.#outCons, used));
      this.#outCons = advance(this.#outCons, used);
      ops.push({ kind: 'write', page: this.#page, offset: Page.offsets.out_cons, data: u32Bytes(this.#outCons) });
    }
    const room = XENCONS_IN_SIZE - (ringUsed(this.#inProd, inCons, XENCONS_IN_SIZE) ?? XENCONS_IN_SIZE);
    const data = this.#input.subarray(0, room);
    if (data.length > 0) {
      for (const write of appendToRing(IN_RING, this.#inProd, data))
        ops.push({ kind: 'write', page: this.#page, ...write });
      this.#inProd = advance(this.#inProd, data.length);
      this.#input = this.#input.subarray(data.length);
      if (this.#input.length < INPUT_QUEUE_BYTES) this.#modules.onInputRoom();
    }
    return ops;
  }
}
