/** A daemon of any kind with tools on its socket and guests on their rings. Clients are named by who they are. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { XsOp } from '@xenhost/xs-wire';
import type { XsOpName } from '@xenhost/xs-wire';
import { compile, startDaemon } from '../lib/xen/daemons.ts';
import type { Daemon, Kind } from '../lib/xen/daemons.ts';
import type { DebianXen } from '../lib/xen/debian.ts';
import { WireClient, text } from './wire.ts';

/** `fakexen.h`: the daemon's port of VIRQ_DOM_EXC. */
const VIRQ_PORT = 1;

/** How long a death takes to be heard of. */
const NEWS_MS = 300;

const isHappening = (step: Step): step is Happening => step[0] === 'world';

/** The C daemon aborts on some requests: that is no answer to compare with. */
export class DaemonDied extends Error {
  readonly kind: Kind;

  constructor(kind: Kind) {
    super(`the daemon (${kind}) has ended`);
    this.kind = kind;
  }
}

const DOMAIN0_NODES = ['/local/domain/0/domid|0', '/local/domain/0/name|Domain-0'] as const;

/** What happens to the world: a domain gets a page (is created), dies, or a tool hangs up. */
export type Happening = readonly ['world', 'page' | 'kill' | 'drop', string];

/**
 * Who sends, operation, payload with `|` for NUL, then all that this client gets up to the answer. Tools are `0`, `0a`, `0b`;
 * domain N is `N`; `N:T` sends in transaction T. The operation `-` sends nothing.
 */
export type Step =
  Happening | readonly [who: string, op: XsOpName | number | '-', payload: string, ...expected: string[]];

export class World implements AsyncDisposable {
  readonly daemon: Daemon;
  readonly #clients = new Map<string, WireClient>();
  readonly #proxies = new Map<number, ChildProcess>();

  private constructor(daemon: Daemon) {
    this.daemon = daemon;
  }

  static async open(kind: Kind, debian?: DebianXen, args: readonly string[] = []): Promise<World> {
    const world = new World(await startDaemon(kind, { debian, args, rings: true }));
    // What xen-init-dom0 does; ours has them.
    const tool = await world.client('0');
    for (const node of DOMAIN0_NODES) if (kind !== 'ours') await tool.ask('WRITE', node);
    return world;
  }

  async client(name: string): Promise<WireClient> {
    let client = this.#clients.get(name);
    if (!client) {
      const path = name.startsWith('0') ? this.daemon.socket : join(this.daemon.directory, `ring.${name}`);
      this.#clients.set(name, (client = await WireClient.connect(path)));
    }
    return client;
  }

  /** Ends a tool's connection; its next step is a new one's. */
  async drop(name: string): Promise<void> {
    await this.#clients.get(name)?.close();
    this.#clients.delete(name);
    // The daemon has seen that before it sees what comes next: it is asked something that it answers.
    await (await this.client('0')).step(undefined, 0, '');
  }

  /** Makes a domain with its own directory and introduces it. A bare one has nobody on its ring. */
  async addGuest(domid: number, kind: 'served' | 'bare' = 'served'): Promise<void> {
    const { directory } = this.daemon;
    this.daemon.addDomain(domid);
    const tool = await this.client('0');
    for (const [op, payload] of [
      ['MKDIR', `/local/domain/${domid}|`],
      ['SET_PERMS', `/local/domain/${domid}|n${domid}|`],
      ['INTRODUCE', `${domid}|1|1|`],
    ] as const) {
      const answer = await tool.ask(op, payload);
      if (answer !== 'OK|') throw new Error(`${op} ${payload}: ${answer}`);
    }
    if (kind === 'bare') return;
    const proxy = spawn(compile('./ring-proxy.c'), [directory, String(domid), join(directory, `ring.${domid}`)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#proxies.set(domid, proxy);
    await new Promise((ready) => proxy.stdout.once('data', ready));
  }

  /** SIGKILL, then a new daemon; tools connect anew with their next step. `between`: while there is none. */
  async killDaemon(between: () => void = () => undefined): Promise<void> {
    const tools = [...this.#clients.keys()].filter((name) => name.startsWith('0'));
    await this.daemon.crash();
    for (const name of tools) {
      await this.#clients.get(name)?.close();
      this.#clients.delete(name);
    }
    between();
    await this.daemon.restart();
  }

  /** The domain dies, and the hypervisor tells. */
  killGuest(domid: number): void {
    writeFileSync(join(this.daemon.directory, `dead.${domid}`), '');
    const port = Buffer.alloc(4);
    port.writeUInt32LE(VIRQ_PORT);
    appendFileSync(join(this.daemon.directory, 'events'), port);
  }

  async step(step: Step): Promise<string[]> {
    if (isHappening(step)) {
      await this.#happen(step);
      return [];
    }
    const [who, op, payload] = step;
    const [name = '', txId = '0'] = who.split(':');
    const client = await this.client(name);
    const number = op === '-' ? undefined : typeof op === 'number' ? op : XsOp[op];
    try {
      const died = this.daemon.exited.then(() => {
        throw new DaemonDied(this.daemon.kind);
      });
      return await Promise.race([client.step(number, Number(txId), text(payload)), died]);
    } catch (error) {
      if (error instanceof DaemonDied) throw error;
      throw new Error(`${this.daemon.kind}, ${who} ${op} ${JSON.stringify(payload)}`, { cause: error });
    }
  }

  async #happen([, what, name]: Happening): Promise<void> {
    if (what === 'drop') await this.drop(name);
    else if (what === 'page') this.daemon.addDomain(Number(name));
    else {
      this.killGuest(Number(name));
      await new Promise((done) => setTimeout(done, NEWS_MS));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const proxy of this.#proxies.values()) proxy.kill('SIGKILL');
    await Promise.all([...this.#clients.values()].map((client) => client.close()));
    await this.daemon.stop();
  }
}
