/**
 * Links of a bridge to bridges of other hosts: ports of the bridge whose frames travel sealed to the other end (session.ts). Two links
 * to the same bridge would bring every broadcast twice: one of them rests while the other works.
 */
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import type { Clock } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { Bridge } from '../switch/bridge.ts';
import type { LinkConfig } from '../switch/config.ts';
import type { EthernetFrame, PortOffloads, SwitchPort } from '../switch/frame.ts';
import { MAX_FRAME_BYTES } from '../switch/limits.ts';
import { PART_HEADER_BYTES, partsOf, Reassembly } from './fragments.ts';
import { HELLO_SEARCH_MS, MIN_SECRET_LENGTH } from './limits.ts';
import { LinkSession, SEAL_BYTES } from './session.ts';
import { type Channel, openTransport, type Transport } from './transport.ts';

export interface LinkModules {
  readonly bridge: Bridge;
  readonly clock: Clock;
  readonly log: Logger;
}

const NS_PER_MS = 1_000_000n;
const ID_BYTES = 16;
const OTHERS_MAY_READ = 0o077;
/** A datagram that loses one fragment loses all: large TCP frames are cut first. A stream loses none. */
const OFFLOADS: Readonly<Record<'udp' | 'tcp', PortOffloads>> = {
  udp: { checksumPartial: true, gso: new Set() },
  tcp: { checksumPartial: true, gso: new Set(['tcpv4', 'tcpv6']) },
};

/** The secret in a file. Throws when it is missing or too short. */
export function readSecret(file: string, log: Logger): string {
  const secret = readFileSync(file, 'utf8').trim();
  if (secret.length < MIN_SECRET_LENGTH) {
    throw new Error(`the secret in ${file} is shorter than ${MIN_SECRET_LENGTH} characters`);
  }
  if ((statSync(file).mode & OTHERS_MAY_READ) !== 0) log.warn({ file }, 'others may read the secret: chmod 600');
  return secret;
}

/** All links of one bridge. */
export class Links {
  readonly #id = randomBytes(ID_BYTES);
  readonly #links: Link[];
  readonly #timer: NodeJS.Timeout | undefined;

  /** Throws when a secret cannot be read. Links come up by themselves, and again whenever they went down. */
  constructor(configs: readonly LinkConfig[], modules: LinkModules) {
    const ordered = [...configs].sort((a, b) => (a.name < b.name ? -1 : 1));
    this.#links = ordered.map(
      (config) =>
        new Link(config, readSecret(config.secretFile, modules.log), this.#id, modules, (link) => this.#works(link)),
    );
    if (this.#links.length === 0) return;
    this.#timer = setInterval(() => {
      for (const link of this.#links) link.tick();
    }, HELLO_SEARCH_MS);
    this.#timer.unref();
  }

  /** Names of links that carry frames now. */
  get working(): readonly string[] {
    return this.#links.filter((link) => this.#works(link)).map(({ name }) => name);
  }

  /** Where links listen, by name, once they do. */
  async ports(): Promise<ReadonlyMap<string, number | undefined>> {
    const opened = await Promise.all(
      this.#links.map(async (link) => [link.name, (await link.transport)?.port] as const),
    );
    return new Map(opened);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#links.map((link) => link.close()));
  }

  /** The first by name of the links to one peer; never one to ourselves. Both ends come to the same. */
  #works(link: Link): boolean {
    const { peer } = link;
    if (peer === undefined || peer === this.#id.toString('hex')) return false;
    return this.#links.find((other) => other.peer === peer) === link;
  }
}

class Link {
  readonly name: string;
  readonly transport: Promise<Transport | undefined>;
  readonly #config: LinkConfig;
  readonly #secret: string;
  readonly #id: Uint8Array;
  readonly #modules: LinkModules;
  readonly #works: (link: Link) => boolean;
  readonly #port: SwitchPort;
  readonly #sessions = new Set<LinkSession>();
  #session: LinkSession | undefined;
  #channel: Channel | undefined;
  #up = false;
  #number = 0;

  constructor(
    config: LinkConfig,
    secret: string,
    id: Uint8Array,
    modules: LinkModules,
    works: (link: Link) => boolean,
  ) {
    this.name = config.name;
    this.#config = config;
    this.#secret = secret;
    this.#id = id;
    this.#modules = modules;
    this.#works = works;
    const { bridge, log } = modules;
    const { name, protocol, transit } = config;
    this.#port = bridge.attach({ kind: 'link', name, accepts: OFFLOADS[protocol], transit });
    this.#port.setReceiver((frame) => this.#send(frame));
    this.transport = openTransport(config, { opened: (channel) => this.#opened(channel), log }).catch(
      (error: unknown) => {
        log.error({ err: error, bridge: bridge.name, link: name }, 'the link cannot listen; it stays down');
        return undefined;
      },
    );
  }

  get peer(): string | undefined {
    return this.#session?.peer;
  }

  tick(): void {
    const now = this.#now();
    for (const session of this.#sessions) session.tick(now);
    const up = this.peer !== undefined;
    if (up === this.#up) return;
    this.#up = up;
    const { bridge, log } = this.#modules;
    const works = this.#works(this);
    if (!up) log.warn({ bridge: bridge.name, link: this.name }, 'link down');
    else if (works) log.info({ bridge: bridge.name, link: this.name, peer: this.peer }, 'link up');
    else log.info({ bridge: bridge.name, link: this.name, peer: this.peer }, 'link up; it rests, another leads there');
  }

  async close(): Promise<void> {
    this.#port.close();
    await (await this.transport)?.close();
  }

  #now(): number {
    return Number(this.#modules.clock.monotonicNs() / NS_PER_MS);
  }

  #opened(channel: Channel): { packet(bytes: Uint8Array): void; closed(): void } {
    const { name } = this.#config;
    const session = new LinkSession({ secret: this.#secret, name, id: this.#id }, (packet) => {
      channel.send(packet);
    });
    const reassembly = new Reassembly();
    this.#sessions.add(session);
    session.tick(this.#now());
    return {
      packet: (bytes) => {
        const event = session.receive(bytes, this.#now());
        if (event?.kind === 'up') {
          channel.trusted();
          // The newest way counts: the one before may be a connection that died unnoticed.
          if (this.#session !== session) this.#channel?.close();
          this.#session = session;
          this.#channel = channel;
          this.tick();
        } else if (event && this.#session === session && this.#works(this)) {
          const frame = reassembly.add(event.bytes, this.#now());
          if (frame) this.#port.send(frame);
        }
      },
      closed: () => {
        this.#sessions.delete(session);
        if (this.#session !== session) return;
        this.#session = undefined;
        this.#channel = undefined;
        this.tick();
      },
    };
  }

  #send(frame: EthernetFrame): boolean {
    const session = this.#session;
    if (!session || !this.#works(this)) return false;
    const { protocol, datagramBytes } = this.#config;
    const room = protocol === 'udp' ? datagramBytes - SEAL_BYTES : MAX_FRAME_BYTES + PART_HEADER_BYTES;
    this.#number += 1;
    return partsOf(frame, this.#number, room).every((part) => session.seal(part));
  }
}
