/** A netfront that need not be honest. */
import { bytesOf } from '@xenhost/base';
import { NETIF_RSP, NetifRxRequest, NetifRxResponse, NetifTxRequest, NetifTxResponse } from '@xenhost/xen-abi';
import { assert } from '../report.ts';
import { PAGE, type Puppet } from './guest.ts';
import { PuppetRing } from './ring.ts';

export const PUPPET_VIF = 0;
const STATUS_BITS = 16;
const ETHERNET_HEADER = 14;
/** IEEE's type for local experiments. */
const EXPERIMENTAL = 0x88b5;

export interface NetTxSlot {
  readonly gref?: number;
  readonly offset?: number;
  readonly flags?: number;
  readonly id?: number;
  readonly size?: number;
}

export function netTx({ gref = 0, offset = 0, flags = 0, id = 0, size = 0 }: NetTxSlot): Uint8Array {
  const bytes = new Uint8Array(NetifTxRequest.size);
  const view = NetifTxRequest.view(bytesOf(bytes), 0);
  view.gref = gref;
  view.offset = offset;
  view.flags = flags;
  view.id = id;
  view.size = size;
  return bytes;
}

export function netRx(id: number, gref: number): Uint8Array {
  const bytes = new Uint8Array(NetifRxRequest.size);
  const view = NetifRxRequest.view(bytesOf(bytes), 0);
  view.id = id;
  view.gref = gref;
  return bytes;
}

/** A broadcast frame that no guest answers. */
export function netFrame(length: number): Uint8Array {
  const bytes = new Uint8Array(length).fill(0x5a);
  bytes.fill(0xff, 0, 6);
  bytes.set([0x00, 0x16, 0x3e, 0x01, 0x02, 0x03, EXPERIMENTAL >> 8, EXPERIMENTAL & 0xff], 6);
  return bytes;
}

export interface NetTxAnswer {
  readonly id: number;
  readonly status: number;
}

export class PuppetNic {
  readonly puppet: Puppet;
  readonly tx: PuppetRing;
  readonly rx: PuppetRing;
  readonly port: number;

  private constructor(puppet: Puppet, tx: PuppetRing, rx: PuppetRing, port: number) {
    this.puppet = puppet;
    this.tx = tx;
    this.rx = rx;
    this.port = port;
  }

  /** Lays rings and port, and tells the backend of them; `nodes` are written too, or instead. */
  static async offer(puppet: Puppet, nodes: Readonly<Record<string, string | number>> = {}): Promise<PuppetNic> {
    const tx = await PuppetRing.make(puppet, NetifTxRequest.size);
    const rx = await PuppetRing.make(puppet, NetifRxRequest.size);
    const port = await puppet.port();
    const all = {
      'tx-ring-ref': tx.reference,
      'rx-ring-ref': rx.reference,
      'event-channel': port,
      'request-rx-copy': 1,
      'feature-rx-notify': 1,
      'feature-sg': 1,
      'feature-gso-tcpv4': 1,
      ...nodes,
      state: 4,
    };
    for (const [node, value] of Object.entries(all)) await puppet.write(`device/vif/${PUPPET_VIF}/${node}`, value);
    return new PuppetNic(puppet, tx, rx, port);
  }

  static async connect(puppet: Puppet, nodes: Readonly<Record<string, string | number>> = {}): Promise<PuppetNic> {
    const nic = await PuppetNic.offer(puppet, nodes);
    await puppet.backendState('vif', PUPPET_VIF, ['4']);
    return nic;
  }

  /** A granted page that holds a frame. */
  async frame(length = 100): Promise<{ readonly address: number; readonly gref: number }> {
    const address = this.puppet.page();
    await this.puppet.put(address, netFrame(length));
    return { address, gref: await this.puppet.grant(address) };
  }

  async push(...slots: readonly Uint8Array[]): Promise<void> {
    await this.tx.lay(...slots);
    await this.tx.produce();
    await this.puppet.send(this.port);
  }

  /** `undefined` when they do not come, because the rings were given up. */
  async answers(count: number): Promise<NetTxAnswer[] | undefined> {
    const found = await this.tx.responses(count, NetifTxResponse.size, () => this.dropped());
    return found?.map((bytes) => {
      const view = NetifTxResponse.view(bytesOf(bytes), 0);
      return { id: view.id, status: (view.status << STATUS_BITS) >> STATUS_BITS };
    });
  }

  /** The backend has let go of the rings: it says so in the store, as Linux's, or closes. */
  async dropped(): Promise<boolean> {
    const { host, domid } = this.puppet;
    const error = await host.run('xenstore-read', `/local/domain/0/error/backend/vif/${domid}/${PUPPET_VIF}/error`);
    return error.stdout.trim() !== '' || ['', '5', '6'].includes(await this.puppet.backend('vif', PUPPET_VIF, 'state'));
  }

  /** Offers pages for frames; `id` n is the page number n. */
  async offerPages(count: number): Promise<readonly number[]> {
    const pages: number[] = [];
    for (let id = 0; id < count; id++) {
      const address = this.puppet.page();
      pages.push(address);
      await this.rx.lay(netRx(id, await this.puppet.grant(address)));
    }
    await this.rx.produce();
    await this.puppet.send(this.port);
    return pages;
  }

  /** The next frame that came into `offerPages`; `undefined` when none comes. */
  async receive(pages: readonly number[]): Promise<Buffer | undefined> {
    const [bytes] = (await this.rx.responses(1, NetifRxResponse.size, () => this.dropped())) ?? [];
    if (!bytes) return undefined;
    const { id, offset, status } = NetifRxResponse.view(bytesOf(bytes), 0);
    const page = pages[id];
    assert(page !== undefined && status < PAGE, `a frame of ${status} bytes in page ${id}`);
    return this.puppet.get(page + offset, status);
  }

  /** The frontend is served: an honest frame is taken. */
  async works(): Promise<void> {
    const { gref } = await this.frame(ETHERNET_HEADER + 50);
    await this.push(netTx({ gref, id: 77, size: ETHERNET_HEADER + 50 }));
    const answers = await this.answers(1);
    assert(answers?.[0]?.id === 77 && answers[0].status === NETIF_RSP.OKAY, 'an honest frame was not answered well');
  }
}
