/** A shared ring of the puppet (`xen/include/public/io/ring.h`): entries go in as bytes, and producers may lie. */
import { PAGE, type Puppet } from './guest.ts';

const ANSWER_MS = 30_000;

/** The head: producers and the indices at which each end wants to be told. */
const RING = { reqProd: 0, reqEvent: 4, rspProd: 8, rspEvent: 12, entries: 64 } as const;

export class PuppetRing {
  readonly address: number;
  readonly reference: number;
  readonly size: number;
  readonly #puppet: Puppet;
  readonly #entryBytes: number;
  produced = 0;
  #answered = 0;

  private constructor(puppetGuest: Puppet, address: number, reference: number, entryBytes: number) {
    this.#puppet = puppetGuest;
    this.address = address;
    this.reference = reference;
    this.#entryBytes = entryBytes;
    this.size = 1 << Math.floor(Math.log2((PAGE - RING.entries) / entryBytes));
  }

  static async make(puppetGuest: Puppet, entryBytes: number): Promise<PuppetRing> {
    const address = puppetGuest.page();
    const reference = await puppetGuest.grant(address);
    await puppetGuest.set(address + RING.reqEvent, 1);
    await puppetGuest.set(address + RING.rspEvent, 1);
    return new PuppetRing(puppetGuest, address, reference, entryBytes);
  }

  /** The address of the entry with a number that counts on. */
  entry(index: number): number {
    return this.address + RING.entries + (index % this.size) * this.#entryBytes;
  }

  /** Lays entries into the ring; nobody is told yet. */
  async lay(...entries: readonly Uint8Array[]): Promise<void> {
    for (const [i, bytes] of entries.entries()) await this.#puppet.put(this.entry(this.produced + i), bytes);
    this.produced += entries.length;
  }

  async produce(index = this.produced): Promise<void> {
    await this.#puppet.set(this.address + RING.reqProd, index);
  }

  async setResponseProducer(index: number): Promise<void> {
    await this.#puppet.set(this.address + RING.rspProd, index);
  }

  async responseProducer(): Promise<number> {
    return (await this.#puppet.get(this.address + RING.rspProd, 4)).readUInt32LE();
  }

  /** The next `count` responses; `undefined` when they do not come, because the backend gave the ring up or says nothing. */
  async responses(count: number, responseBytes: number, gaveUp: () => Promise<boolean>): Promise<Buffer[] | undefined> {
    const deadline = Date.now() + ANSWER_MS;
    while (((await this.responseProducer()) - this.#answered) >>> 0 < count) {
      if ((await gaveUp()) || Date.now() > deadline) return undefined;
    }
    const found: Buffer[] = [];
    for (let i = 0; i < count; i++) found.push(await this.#puppet.get(this.entry(this.#answered + i), responseBytes));
    this.#answered += count;
    await this.#puppet.set(this.address + RING.rspEvent, this.#answered + 1);
    return found;
  }
}
