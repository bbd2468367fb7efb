/**
 * xenstore-control live-update, again and again, while tools and guests write, watch and have transactions open: nobody is hung
 * up on, no request is lost or done twice, nothing is forgotten.
 */
import { join } from 'node:path';
import { assert } from '@xenhost/testkit';
import type { Report } from '@xenhost/testkit';
import { program } from '@xenhost/xenhost';
import { XsOp } from '@xenhost/xs-wire';
import type { DebianXen } from '../lib/xen/debian.ts';
import { GUESTS } from './sequence.ts';
import { tool } from './tool.ts';
import { text } from './wire.ts';
import type { WireClient } from './wire.ts';
import { World } from './world.ts';

const UPDATES = 5;
const WRITERS = 6;
const IN_FLIGHT = 16;
const BETWEEN_MS = 200;

export async function runLiveUpdate(report: Report, debian: DebianXen): Promise<void> {
  const possible = await isPossible();
  if (possible) await report.case(`live update: ${UPDATES} of them under load`, () => underLoad(debian));
  else report.note('live update is not possible with this daemon: left out');
}

async function isPossible(): Promise<boolean> {
  await using world = await World.open('ours');
  const [said = ''] = await world.step(['0', 'CONTROL', `live-update|-f|${updated()}|`]);
  return !said.startsWith('Live update is not possible');
}

/** The program that takes over: the one that runs. */
const updated = (): string => program('xenstored').args.at(-1) ?? '';

/** Writes numbers until told to stop; each answer must be its request's. */
class Writer {
  readonly path: string;
  readonly #client: WireClient;
  /** Of the requests under way. */
  readonly #ids: number[] = [];
  #sent = 0;
  #answered = 0;
  #stop = false;

  constructor(client: WireClient, path: string) {
    this.#client = client;
    this.path = path;
  }

  get answered(): number {
    return this.#answered;
  }

  async run(): Promise<void> {
    while (!this.#stop || this.#answered < this.#sent) {
      while (!this.#stop && this.#sent - this.#answered < IN_FLIGHT)
        this.#ids.push(this.#client.send(XsOp.WRITE, 0, text(`${this.path}|${++this.#sent}`)));
      const packet = await this.#client.next();
      assert(packet !== undefined, `the connection that writes ${this.path} has ended`);
      const id = this.#ids.shift();
      assert(packet.reqId === id, `request ${id ?? 0} that writes ${this.path} was answered as ${packet.reqId}`);
      assert(
        packet.op === XsOp.WRITE,
        `a write of ${this.path} was answered with ${packet.payload.toString('latin1')}`,
      );
      this.#answered++;
    }
  }

  stop(): void {
    this.#stop = true;
  }
}

async function underLoad(debian: DebianXen): Promise<string> {
  await using world = await World.open('ours');
  for (const domid of GUESTS) await world.addGuest(Number(domid));
  const expect = async (step: Parameters<World['step']>[0], ...expected: readonly string[]): Promise<void> => {
    const said = (await world.step(step)).join(' ');
    assert(said === expected.join(' '), `${step.join(' ')}: ${said} instead of ${expected.join(' ')}`);
  };
  // A tool and a guest that have a transaction open and a watch, all the time.
  for (const who of ['0t', '6'] as const) {
    await expect([who, 'WATCH', 'seen|token|'], 'OK|', '@ seen|token|');
    await expect([who, 'TRANSACTION_START', '|'], '1|');
    await expect([`${who}:1`, 'WRITE', 'inside|mine'], 'OK|');
  }
  const names = [...Array.from({ length: WRITERS }, (_, i) => `0w${i}`), '5'];
  const clients = await Promise.all(names.map((name) => world.client(name)));
  const writers = clients.map((client, i) => new Writer(client, names[i] === '5' ? 'load' : `/load/${names[i] ?? ''}`));
  const writing = Promise.all(writers.map((writer) => writer.run()));
  // It is waited for at the end, and told of then.
  writing.catch(() => undefined);
  const pids = new Set([world.daemon.pid]);
  const file = updated();
  try {
    for (let i = 0; i < UPDATES; i++) {
      await new Promise((done) => setTimeout(done, BETWEEN_MS));
      const { code, out, err } = await tool(
        join(debian.bin, 'xenstore-control'),
        ['live-update', file],
        world.daemon.socket,
        {
          env: debian.env,
          timeoutMs: 60_000,
        },
      );
      assert(code === 0, `live-update: ${out}${err}`);
      await expect(['0', 'READ', '/local/domain/0/name|'], 'Domain-0');
      // The one before may still be on its way out.
      for (let wait = 0; wait < 100 && pids.has(world.daemon.pid); wait++)
        await new Promise((done) => setTimeout(done, 20));
      pids.add(world.daemon.pid);
    }
  } finally {
    for (const writer of writers) writer.stop();
    await writing;
  }
  assert(pids.size === UPDATES + 1, `there were ${pids.size} processes`);
  for (const { path, answered } of writers) {
    const at = path.startsWith('/') ? path : `/local/domain/5/${path}`;
    await expect(['0', 'READ', `${at}|`], String(answered));
  }
  for (const who of ['0t', '6'] as const) {
    await expect([`${who}:1`, 'READ', 'inside|'], 'mine');
    await expect([who, 'READ', 'inside|'], '!ENOENT');
    await expect([`${who}:1`, 'TRANSACTION_END', 'T|'], 'OK|');
    await expect([who, 'READ', 'inside|'], 'mine');
    await expect([who, 'WRITE', 'seen|1'], '@ seen|token|', 'OK|');
    await expect([who, 'UNWATCH', 'seen|token|'], 'OK|');
  }
  await expect(['0', 'CONTROL', 'check|'], 'OK|');
  return `${writers.reduce((sum, { answered }) => sum + answered, 0)} writes`;
}
