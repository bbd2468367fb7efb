/** A blkfront that need not be honest. */
import { bytesOf } from '@xenhost/base';
import { BLKIF_ABI, BLKIF_OP, BLKIF_RSP, BlkifRequestSegment } from '@xenhost/xen-abi';
import { assert } from '../report.ts';
import { PAGE, type Puppet } from './guest.ts';
import { PuppetRing } from './ring.ts';

export const PUPPET_VBD = 51712;
const { request: Request, indirect: Indirect, response: Response } = BLKIF_ABI[64];
const STATUS_BITS = 16;

export interface BlkSegment {
  readonly gref: number;
  readonly first: number;
  readonly last: number;
}

export interface BlkRequest {
  readonly operation?: number;
  readonly id?: bigint;
  readonly sector?: bigint;
  readonly segments?: readonly BlkSegment[];
  /** What the request says, where that is not the number of its segments. */
  readonly nrSegments?: number;
}

export function blkRequest(options: BlkRequest): Uint8Array {
  const { operation = BLKIF_OP.READ, id = 1n, sector = 0n, segments = [], nrSegments = segments.length } = options;
  const bytes = new Uint8Array(Request.size);
  const view = Request.view(bytesOf(bytes), 0);
  view.operation = operation;
  view.nr_segments = nrSegments;
  view.id = id;
  view.sector_number = sector;
  for (const [i, { gref, first, last }] of segments.entries())
    blkSegmentInto(bytes, Request.offsets.seg + i * BlkifRequestSegment.size, { gref, first, last });
  return bytes;
}

export function blkSegmentInto(bytes: Uint8Array, at: number, { gref, first, last }: BlkSegment): void {
  const view = BlkifRequestSegment.view(bytesOf(bytes), at);
  view.gref = gref;
  view.first_sect = first;
  view.last_sect = last;
}

export function blkIndirect(options: {
  readonly operation?: number;
  readonly id?: bigint;
  readonly sector?: bigint;
  readonly nrSegments: number;
  readonly pages: readonly number[];
}): Uint8Array {
  const bytes = new Uint8Array(Request.size);
  const view = Indirect.view(bytesOf(bytes), 0);
  view.operation = BLKIF_OP.INDIRECT;
  view.indirect_op = options.operation ?? BLKIF_OP.READ;
  view.nr_segments = options.nrSegments;
  view.id = options.id ?? 1n;
  view.sector_number = options.sector ?? 0n;
  for (const [i, gref] of options.pages.entries())
    new DataView(bytes.buffer).setUint32(Indirect.offsets.indirect_grefs + i * 4, gref, true);
  return bytes;
}

export interface BlkAnswer {
  readonly id: bigint;
  readonly status: number;
}

export class PuppetDisk {
  readonly puppet: Puppet;
  readonly ring: PuppetRing;
  readonly port: number;

  private constructor(puppet: Puppet, ring: PuppetRing, port: number) {
    this.puppet = puppet;
    this.ring = ring;
    this.port = port;
  }

  /** Lays ring and port, and tells the backend of them; `nodes` are written too, or instead. */
  static async offer(puppet: Puppet, nodes: Readonly<Record<string, string | number>> = {}): Promise<PuppetDisk> {
    const ring = await PuppetRing.make(puppet, Request.size);
    const port = await puppet.port();
    const all = { 'ring-ref': ring.reference, 'event-channel': port, protocol: 'x86_64-abi', ...nodes, state: 3 };
    for (const [node, value] of Object.entries(all)) await puppet.write(`device/vbd/${PUPPET_VBD}/${node}`, value);
    return new PuppetDisk(puppet, ring, port);
  }

  static async connect(puppet: Puppet, nodes: Readonly<Record<string, string | number>> = {}): Promise<PuppetDisk> {
    const disk = await PuppetDisk.offer(puppet, nodes);
    await puppet.backendState('vbd', PUPPET_VBD, ['4']);
    await puppet.write(`device/vbd/${PUPPET_VBD}/state`, 4);
    return disk;
  }

  /** Granted pages as segments of whole pages. */
  async buffers(count: number): Promise<(BlkSegment & { readonly address: number })[]> {
    const made = [];
    for (let i = 0; i < count; i++) {
      const address = this.puppet.page();
      made.push({ address, gref: await this.puppet.grant(address), first: 0, last: PAGE / 512 - 1 });
    }
    return made;
  }

  /** Puts requests and tells the backend. */
  async push(...entries: readonly Uint8Array[]): Promise<void> {
    await this.ring.lay(...entries);
    await this.ring.produce();
    await this.puppet.send(this.port);
  }

  /** What comes for so many requests; `undefined` when it does not come, because the ring was given up. */
  async answers(count: number): Promise<BlkAnswer[] | undefined> {
    const found = await this.ring.responses(count, Response.size, () => this.dropped());
    return found?.map((bytes) => {
      const view = Response.view(bytesOf(bytes), 0);
      return { id: view.id, status: (view.status << STATUS_BITS) >> STATUS_BITS };
    });
  }

  /** The backend has let go of the ring. */
  async dropped(): Promise<boolean> {
    return ['', '5', '6'].includes(await this.puppet.backend('vbd', PUPPET_VBD, 'state'));
  }

  /** The frontend is served: what it writes comes back. */
  async works(): Promise<void> {
    const [page] = await this.buffers(1);
    assert(page !== undefined, 'no page');
    const data = Buffer.from(`written by ${this.puppet.name}`);
    await this.puppet.put(page.address, data);
    await this.push(blkRequest({ operation: BLKIF_OP.WRITE, id: 71n, segments: [page] }));
    const written = await this.answers(1);
    assert(written?.[0]?.status === BLKIF_RSP.OKAY && written[0].id === 71n, 'an honest write was not answered well');
    await this.puppet.put(page.address, new Uint8Array(data.length));
    await this.push(blkRequest({ id: 72n, segments: [page] }));
    const read = await this.answers(1);
    assert(read?.[0]?.status === BLKIF_RSP.OKAY && read[0].id === 72n, 'an honest read was not answered well');
    const found = await this.puppet.get(page.address, data.length);
    assert(found.equals(data), `read ${found.toString('latin1')}`);
  }
}
