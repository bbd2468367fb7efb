/** A guest's end of a console ring, on a PrivcmdPort that knows only that page. */
import { evtchnPort } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { FakePages, PageOwner } from '@xenhost/privcmd/testing';
import { advance, appendToRing, copyFromRing } from '@xenhost/pv-ring';
import { XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface as Page } from '@xenhost/xen-abi';

export class FakeGuest implements PageOwner {
  readonly domid: number;
  readonly port: EvtchnPort;
  readonly bytes = new Uint8Array(4096);
  notifications = 0;
  readonly #view = new DataView(this.bytes.buffer);
  readonly #hypervisor: FakePages;

  constructor(domid: number, hypervisor: FakePages) {
    this.domid = domid;
    this.port = evtchnPort(100 + domid);
    this.#hypervisor = hypervisor;
    hypervisor.guests.set(domid, this);
  }

  get(field: 'in_cons' | 'in_prod' | 'out_cons' | 'out_prod'): number {
    return this.#view.getUint32(Page.offsets[field], true);
  }

  set(field: 'in_cons' | 'in_prod' | 'out_cons' | 'out_prod', value: number): void {
    this.#view.setUint32(Page.offsets[field], value, true);
  }

  /** Prints as a kernel does: as much as fits, an event, and again until all is out. */
  async print(text: string): Promise<void> {
    let left = Buffer.from(text);
    while (left.length > 0) {
      const prod = this.get('out_prod');
      const piece = left.subarray(0, XENCONS_OUT_SIZE - ((prod - this.get('out_cons')) >>> 0));
      const ring = { base: Page.offsets.out, size: XENCONS_OUT_SIZE, prodOffset: Page.offsets.out_prod };
      for (const { offset, data } of appendToRing(ring, prod, piece)) this.bytes.set(data, offset);
      left = left.subarray(piece.length);
      if (piece.length > 0) this.#hypervisor.deliver(this.port);
      if (left.length > 0) await new Promise(setImmediate);
    }
  }

  /** Takes what was typed. */
  typed(): string {
    const cons = this.get('in_cons');
    const used = (this.get('in_prod') - cons) >>> 0;
    const bytes = copyFromRing(this.bytes.subarray(0, XENCONS_IN_SIZE), cons, used);
    this.set('in_cons', advance(cons, used));
    if (used > 0) this.#hypervisor.deliver(this.port);
    return Buffer.from(bytes).toString();
  }
}
