/**
 * A vif's control ring (netif.h, "Control ring"): hashing is not done here, so every request is answered with NOT_SUPPORTED,
 * which lets a frontend choose for itself.
 */
import { bytesOf } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { MemoryResult } from '@xenhost/privcmd';
import { NetifCtrlRequest, NetifCtrlResponse, XEN_NETIF_CTRL_STATUS } from '@xenhost/xen-abi';
import type { Batches } from './batches.ts';
import type { GrantedRing } from './granted-ring.ts';

export interface ControlRingModules {
  readonly ring: GrantedRing;
  readonly batches: Batches;
  readonly onFatal: (reason: string, error?: unknown) => void;
}

export class ControlRing {
  readonly #port: EvtchnPort;
  readonly #m: ControlRingModules;
  #open = true;
  #running = false;
  #again = false;
  #ended: Promise<void> = Promise.resolve();

  constructor(port: EvtchnPort, modules: ControlRingModules) {
    this.#port = port;
    this.#m = modules;
  }

  event(reads?: readonly MemoryResult[]): void {
    if (reads) this.#m.ring.offerFromEvent(reads);
    this.#again = true;
    if (this.#running || !this.#open) return;
    this.#running = true;
    this.#ended = this.#run()
      .catch((error: unknown) => {
        this.#fail('control ring failed', error);
      })
      .finally(() => {
        this.#running = false;
      });
  }

  async stop(): Promise<void> {
    this.#open = false;
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { ring, batches } = this.#m;
    while (this.#open && (this.#again || ring.waiting > 0)) {
      this.#again = false;
      while (ring.waiting > 0) {
        const { id, type } = NetifCtrlRequest.view(bytesOf(ring.peek()), 0);
        ring.take(1);
        ring.respond(NetifCtrlResponse.create({ id, type, status: XEN_NETIF_CTRL_STATUS.NOT_SUPPORTED }).bytes);
      }
      const { eventCopies } = ring;
      const reads = ring.readOps;
      const results = await batches.submit([...ring.push(this.#port), ring.askEvent(), ...reads]);
      const taken = ring.offer(results.slice(-reads.length), eventCopies);
      if (typeof taken === 'object') this.#fail(taken.reason);
      else this.#again ||= taken === 'old';
    }
  }

  #fail(reason: string, error?: unknown): void {
    if (!this.#open) return;
    this.#open = false;
    this.#m.onFatal(reason, error);
  }
}
