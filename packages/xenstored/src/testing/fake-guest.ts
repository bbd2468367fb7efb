/** A guest's end of a xenstore ring, behind a PrivcmdPort that knows only that page. Used by tests only. */
import { evtchnPort } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { MemoryOp, MemoryResult, PrivcmdPort } from '@xenhost/privcmd';
import { advance, appendToRing, copyFromRing } from '@xenhost/pv-ring';
import { XenstoreDomainInterface as Page } from '@xenhost/xen-abi';
import { XsPacketParser, encodeXsPacket } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';

const RING = 1024;
const ENOENT = -2;

export class FakeGuest {
  readonly domid: number;
  readonly bytes = new Uint8Array(4096);
  readonly #view = new DataView(this.bytes.buffer);
  readonly #parser = new XsPacketParser();
  readonly port: EvtchnPort;
  readonly #hypervisor: FakeHypervisor;
  notifications = 0;

  constructor(domid: number, hypervisor: FakeHypervisor) {
    this.domid = domid;
    this.port = evtchnPort(100 + domid);
    this.#hypervisor = hypervisor;
    hypervisor.guests.set(domid, this);
  }

  get(field: 'req_cons' | 'req_prod' | 'rsp_cons' | 'rsp_prod' | 'error'): number {
    return this.#view.getUint32(Page.offsets[field], true);
  }

  set(field: 'req_cons' | 'req_prod' | 'rsp_cons' | 'rsp_prod', value: number): void {
    this.#view.setUint32(Page.offsets[field], value, true);
  }

  /** Puts bytes on the request ring without a notification; they must fit. */
  put(bytes: Uint8Array): void {
    const ring = { base: 0, size: RING, prodOffset: Page.offsets.req_prod };
    for (const { offset, data } of appendToRing(ring, this.get('req_prod'), bytes)) this.bytes.set(data, offset);
  }

  send(op: number, reqId: number, payload: string): void {
    this.put(encodeXsPacket(op, reqId, 0, payload.replaceAll('|', '\0')));
    this.notify();
  }

  notify(): void {
    this.#hypervisor.deliver(this.port);
  }

  /** Takes everything off the reply ring and tells the other end. */
  take(): XsPacket[] {
    const cons = this.get('rsp_cons');
    const used = (this.get('rsp_prod') - cons) >>> 0;
    const bytes = copyFromRing(this.bytes.subarray(RING, 2 * RING), cons, used);
    this.set('rsp_cons', advance(cons, used));
    if (used > 0) this.notify();
    return this.#parser.push(bytes);
  }

  /** What the guest got, as text: errors and values alike; events with `!`. */
  texts(): string[] {
    return this.take().map((p) => (p.op === 15 ? '! ' : '') + p.payload.toString('latin1').replaceAll('\0', '|'));
  }
}

export class FakeHypervisor implements PrivcmdPort {
  readonly guests = new Map<number, FakeGuest>();
  readonly #listeners = new Set<(port: EvtchnPort) => void>();
  /** Number of batches so far. */
  batches = 0;

  deliver(port: EvtchnPort): void {
    for (const listener of this.#listeners) listener(port);
  }

  memory(ops: readonly MemoryOp[]): Promise<readonly MemoryResult[]> {
    this.batches++;
    return Promise.resolve(
      ops.map((op): MemoryResult => {
        if (op.kind === 'notify') {
          for (const guest of this.guests.values()) if (guest.port === op.port) guest.notifications++;
          return { status: 0 };
        }
        const guest = this.guests.get(op.page.domid);
        if (!guest || op.page.space === 'grant') return { status: ENOENT };
        if (op.kind === 'write') {
          guest.bytes.set(op.data, op.offset);
          return { status: 0 };
        }
        return { status: 0, data: guest.bytes.slice(op.offset, op.offset + op.length) };
      }),
    );
  }

  bindInterdomain(domid: number): Promise<EvtchnPort> {
    const guest = this.guests.get(domid);
    return guest
      ? Promise.resolve(guest.port)
      : Promise.reject(Object.assign(new Error('no domain'), { code: 'ESRCH' }));
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
