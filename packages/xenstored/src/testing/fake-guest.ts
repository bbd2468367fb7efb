/** A guest's end of a xenstore ring, on a PrivcmdPort that knows only that page. */
import { evtchnPort } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { FakePages, PageOwner } from '@xenhost/privcmd/testing';
import { advance, appendToRing, copyFromRing } from '@xenhost/pv-ring';
import { XenstoreDomainInterface as Page } from '@xenhost/xen-abi';
import { XsPacketParser, encodeXsPacket } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';

const RING = 1024;

export class FakeGuest implements PageOwner {
  readonly domid: number;
  readonly bytes = new Uint8Array(4096);
  readonly #view = new DataView(this.bytes.buffer);
  readonly #parser = new XsPacketParser();
  readonly port: EvtchnPort;
  readonly #hypervisor: FakePages;
  notifications = 0;

  constructor(domid: number, hypervisor: FakePages) {
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
