/** A guest that does what this run tells it (packages/guest-kernels/src/puppet.ts), and the two frontends that it can be. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PUPPET_PAGES, puppet, puppetPrompt } from '@xenhost/guest-kernels';
import { assert, type ConsoleSession, type TestHost, until } from '@xenhost/testkit';

const MEMORY_MIB = 8;
const TIMEOUT_MS = 60_000;
const ANSWER_MS = 30_000;
export const PAGE = 4096;
/** Fits in a line of its console. */
const PUT_BYTES = 400;
/** Some tens of milliseconds. */
const FLIPS = 0x80_0000;

export interface PuppetDevices {
  readonly disk?: readonly string[];
  readonly vif?: readonly string[];
}

export class Puppet {
  readonly host: TestHost;
  readonly name: string;
  readonly domid: number;
  readonly #console: ConsoleSession;
  readonly #area: number;
  #nextReference = 8;
  #nextPage = 0;

  private constructor(host: TestHost, name: string, domid: number, console: ConsoleSession, area: number) {
    this.host = host;
    this.name = name;
    this.domid = domid;
    this.#console = console;
    this.#area = area;
  }

  static async start(host: TestHost, name: string, devices: PuppetDevices): Promise<Puppet> {
    const kernel = join(host.directory, 'puppet.elf');
    writeFileSync(kernel, puppet());
    const { disk = [], vif = [] } = devices;
    await host.mustXm('create', '-q', host.config(name, { kernel, memory: MEMORY_MIB, disk, vif }));
    const domid = Number(await host.mustXm('domid', name));
    const console = host.console(name);
    await console.expect(puppetPrompt, TIMEOUT_MS);
    const area = Number.parseInt((await order(console, 'area')).trim(), 16);
    return new Puppet(host, name, domid, console, area);
  }

  /** The address of a page that nobody uses yet. */
  page(): number {
    assert(this.#nextPage < PUPPET_PAGES, 'the puppet has no more pages');
    return this.#area + this.#nextPage++ * PAGE;
  }

  async put(address: number, bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; at += PUT_BYTES) {
      const piece = Buffer.from(bytes.subarray(at, at + PUT_BYTES)).toString('hex');
      await this.order(`put ${hex(address + at)} ${piece}`);
    }
  }

  async set(address: number, value: number): Promise<void> {
    await this.order(`set ${hex(address)} ${hex(value)}`);
  }

  async get(address: number, length: number): Promise<Buffer> {
    return Buffer.from((await this.order(`get ${hex(address)} ${hex(length)}`)).trim(), 'hex');
  }

  /** Sends an event and then writes two values in turn, while the backend reads. */
  async sendAndFlip(port: number, address: number, values: readonly [number, number]): Promise<void> {
    await this.order(`flip ${hex(address)} ${values.map(hex).join(' ')} ${hex(FLIPS)} ${hex(port)}`);
  }

  /** Grants a page to Domain-0: the reference. Flags: GTF_permit_access, with GTF_readonly 5. */
  async grant(address: number, flags = 1): Promise<number> {
    const reference = this.#nextReference++;
    const frame = (await this.order(`frame ${hex(address)}`)).trim();
    await this.order(`grant ${hex(reference)} ${frame} ${hex(flags)}`);
    return reference;
  }

  async revoke(reference: number): Promise<void> {
    await this.order(`grant ${hex(reference)} 0 0`);
  }

  async port(): Promise<number> {
    return Number.parseInt((await this.order('port')).trim(), 16);
  }

  async send(port: number): Promise<void> {
    await this.order(`send ${hex(port)}`);
  }

  async write(path: string, value: string | number): Promise<void> {
    const answer = await this.order(`xs-write ${path} ${value}`);
    assert(answer.includes('OK'), `xs-write ${path}: ${answer}`);
  }

  /** A node of its backend; empty where there is none. */
  async backend(kind: 'vbd' | 'vif', device: number, node: string): Promise<string> {
    const path = `/local/domain/0/backend/${kind}/${this.domid}/${device}/${node}`;
    return (await this.host.run('xenstore-read', path)).stdout.trim();
  }

  async backendState(kind: 'vbd' | 'vif', device: number, states: readonly string[]): Promise<void> {
    await until(
      `backend of ${this.name} is in state ${states.join(' or ')}`,
      async () => states.includes(await this.backend(kind, device, 'state')),
      TIMEOUT_MS,
    );
  }

  /** One line of its console; what was printed. */
  order(line: string): Promise<string> {
    return order(this.#console, line);
  }

  async destroy(): Promise<void> {
    this.#console.close();
    await this.host.mustXm('destroy', this.name);
  }
}

const hex = (value: number): string => (value >>> 0).toString(16);

async function order(console: ConsoleSession, line: string): Promise<string> {
  console.write(`${line}\r`);
  const [output = ''] = await console.expect(/[\s\S]*?puppet> /, TIMEOUT_MS);
  return output.slice(0, -puppetPrompt.length).split('\n').slice(1).join('\n').replaceAll('\r', '');
}

/** `struct sring`'s head (ring.h): producers and the indices at which each end wants to be told. */
const RING = { reqProd: 0, reqEvent: 4, rspProd: 8, rspEvent: 12, entries: 64 } as const;

/** One shared ring of the puppet: entries go in as bytes, and producers may lie. */
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
