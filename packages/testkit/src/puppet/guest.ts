/** A guest that does what a test tells it (packages/guest-kernels/src/puppet.ts): its memory, its grants, its ports, its nodes. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ConsoleSession } from '../console-session.ts';
import { assert } from '../report.ts';
import type { TestHost } from '../test-host.ts';
import { until } from '../until.ts';

const MEMORY_MIB = 8;
/** `puppetPrompt` of guest-kernels, which `start` waits for. */
const PROMPT = 'puppet> ';
const TIMEOUT_MS = 60_000;
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
  readonly #pages: number;
  #nextReference = 8;
  #nextPage = 0;

  private constructor(
    host: TestHost,
    name: string,
    domid: number,
    at: { console: ConsoleSession; area: number; pages: number },
  ) {
    this.host = host;
    this.name = name;
    this.domid = domid;
    this.#console = at.console;
    this.#area = at.area;
    this.#pages = at.pages;
  }

  static async start(host: TestHost, name: string, devices: PuppetDevices): Promise<Puppet> {
    // Here, so that nobody loads an assembler with the rest of this package.
    const kernels = await import('@xenhost/guest-kernels');
    const kernel = join(host.directory, 'puppet.elf');
    writeFileSync(kernel, kernels.puppet());
    const { disk = [], vif = [] } = devices;
    await host.mustXm('create', '-q', host.config(name, { kernel, memory: MEMORY_MIB, disk, vif }));
    const domid = Number(await host.mustXm('domid', name));
    const console = host.console(name);
    await console.expect(kernels.puppetPrompt, TIMEOUT_MS);
    const area = Number.parseInt((await order(console, 'area')).trim(), 16);
    return new Puppet(host, name, domid, { console, area, pages: kernels.PUPPET_PAGES });
  }

  /** The address of a page that nobody uses yet. */
  page(): number {
    assert(this.#nextPage < this.#pages, 'the puppet has no more pages');
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
  return output.slice(0, -PROMPT.length).split('\n').slice(1).join('\n').replaceAll('\r', '');
}
