/** A guest's end of a console ring, behind a PrivcmdPort that knows only that page. Used by tests only. */
import { evtchnPort } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { MemoryOp, MemoryResult, PrivcmdPort } from '@xenhost/privcmd';
import { advance, appendToRing, copyFromRing } from '@xenhost/pv-ring';
import { XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface as Page } from '@xenhost/xen-abi';

const ENOENT = -2;

export class FakeGuest {
  readonly domid: number;
  readonly port: EvtchnPort;
  readonly bytes = new Uint8Array(4096);
  readonly #view = new DataView(this.bytes.buffer);
  readonly #hypervisor: FakeHypervisor;

  constructor(domid: number, hypervisor: FakeHypervisor) {
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

export class FakeHypervisor implements PrivcmdPort {
  readonly guests = new Map<number, FakeGuest>();
  readonly #listeners = new Set<(port: EvtchnPort) => void>();

  deliver(port: EvtchnPort): void {
    for (const listener of this.#listeners) listener(port);
  }

  memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    return Promise.resolve(
      ops.map((op): MemoryResult => {
        if (op.kind === 'notify') return { status: 0 };
        const guest = this.guests.get(op.page.domid);
        if (!guest || op.page.space === 'grant') return { status: ENOENT };
        if (op.kind === 'read') return { status: 0, data: guest.bytes.slice(op.offset, op.offset + op.length) };
        guest.bytes.set(op.data, op.offset);
        return { status: 0 };
      }),
    );
  }

  bindInterdomain(domid: number): Promise<EvtchnPort> {
    const guest = this.guests.get(domid);
    return guest ? Promise.resolve(guest.port) : Promise.reject(new Error('no domain'));
  }

  bindVirq(): Promise<EvtchnPort> {
    return Promise.resolve(evtchnPort(1));
  }

  onEvent(listener: (port: EvtchnPort) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  unbind(): Promise<void> {
    return Promise.resolve();
  }

  notify(): Promise<void> {
    return Promise.resolve();
  }

  onClose(): () => void {
    return () => undefined;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  restrict(): Promise<void> {
    return Promise.resolve();
  }

  hypercall(): Promise<bigint> {
    return Promise.reject(new Error('not needed here'));
  }

  bindUnbound(): Promise<EvtchnPort> {
    return Promise.reject(new Error('not needed here'));
  }
}
