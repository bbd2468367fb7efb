/**
 * kill -9 and a new daemon: what was acknowledged is there, guests go on as if nothing had happened, tools connect anew.
 */
import { readdirSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { assert } from '@xenhost/testkit';
import type { Report } from '@xenhost/testkit';
import { XsOp } from '@xenhost/xs-wire';
import { Random } from '../cpu/random.ts';
import { asModelled, lineOf, observe } from './differential.ts';
import { Model } from './model.ts';
import { GUESTS, Sequence, TOOLS } from './sequence.ts';
import { text } from './wire.ts';
import type { WireClient } from './wire.ts';
import { World } from './world.ts';
import type { Step } from './world.ts';

const LIVES = 6;
const STEPS_OF_A_LIFE = 60;
const KILLS = 8;
const WRITERS = 6;
const IN_FLIGHT = 16;
const GUEST_WRITES = 3000;
const LARGE_NODES = 100_000;
/** Bytes cut off the journal's end. */
const TORN = [1, 3, 17, 64] as const;

export async function runRestart(
  report: Report,
  { seed, count }: { readonly seed: number; readonly count: number },
): Promise<void> {
  for (let each = seed; each < seed + count; each++)
    await report.case(`restart: ${LIVES} lives as the model has them, seed ${each}`, () => lives(each));
  await report.case(`restart: ${KILLS} kills under writers that do not wait`, () => underLoad(seed));
  await report.case('restart: a guest loses and repeats nothing', () => guestGoesOn(seed));
  await report.case('restart: a journal that ends in the middle of a record', () => torn());
  await report.case(`restart: with ${LARGE_NODES} nodes`, () => large());
}

async function openWorld(): Promise<World> {
  const world = await World.open('ours');
  for (const domid of GUESTS) await world.addGuest(Number(domid));
  return world;
}

async function lives(seed: number): Promise<string> {
  await using world = await openWorld();
  const model = new Model(GUESTS);
  let nodes = 0;
  for (let life = 0; life < LIVES; life++) {
    const sequence = new Sequence(seed * LIVES + life, 'plain');
    for (let i = 0; i < STEPS_OF_A_LIFE; i++) await asModelled(world, model, sequence);
    await world.killDaemon();
    const nothing: Step = [TOOLS[0], '-', ''];
    const expected = lineOf(nothing, model.restart());
    const said = await observe(world, nothing);
    assert(said === expected, `after life ${life}: ${said} instead of ${expected}`);
    nodes = await sameTree(world, model);
  }
  const [checked] = await world.step(['0', 'CONTROL', 'check|']);
  assert(checked === 'OK|', `check: ${checked ?? 'nothing'}`);
  return `${nodes} nodes at the end`;
}

/** The number of nodes. */
async function sameTree(world: World, model: Model): Promise<number> {
  let count = 0;
  for (const [path, ...expected] of model.nodes()) {
    const said: string[] = [];
    for (const op of ['READ', 'GET_PERMS', 'DIRECTORY'] as const)
      said.push(...(await world.step(['0', op, `${path}|`])));
    assert(said.join(' ') === expected.join(' '), `${path}: ${said.join(' ')} instead of ${expected.join(' ')}`);
    count++;
  }
  return count;
}

/** Numbers written one after the other, many under way; the last that was acknowledged. */
class Writer {
  readonly path: string;
  #sent = 0;
  #acknowledged = 0;

  constructor(path: string) {
    this.path = path;
  }

  /** Until the connection ends. */
  async run(client: WireClient): Promise<void> {
    this.#sent = this.#acknowledged;
    for (;;) {
      while (this.#sent - this.#acknowledged < IN_FLIGHT)
        client.send(XsOp.WRITE, 0, text(`${this.path}|${++this.#sent}`));
      const packet = await client.next();
      if (!packet) return;
      assert(packet.op === XsOp.WRITE, `a write of ${this.path} was answered with ${packet.op}`);
      this.#acknowledged++;
    }
  }

  async check(client: WireClient): Promise<void> {
    const found = Number(await client.ask('READ', `${this.path}|`));
    assert(
      found >= this.#acknowledged && found <= this.#sent,
      `${this.path} is ${found}: ${this.#acknowledged} was acknowledged, ${this.#sent} sent`,
    );
    this.#acknowledged = found;
  }

  get acknowledged(): number {
    return this.#acknowledged;
  }
}

async function underLoad(seed: number): Promise<string> {
  await using world = await openWorld();
  const random = new Random(seed);
  const writers = Array.from({ length: WRITERS }, (_, i) => new Writer(`/load/w${i}`));
  for (const { path } of writers) await (await world.client('0')).ask('WRITE', `${path}|0`);
  for (let kill = 0; kill < KILLS; kill++) {
    const writing = Promise.all(writers.map(async (writer, i) => writer.run(await world.client(`0w${i}`))));
    await new Promise((done) => setTimeout(done, 50 + random.below(200)));
    await world.killDaemon();
    await writing;
    const client = await world.client('0');
    for (const writer of writers) await writer.check(client);
  }
  return `${writers.reduce((sum, { acknowledged }) => sum + acknowledged, 0)} writes`;
}

/** The daemon is killed again and again while a guest writes: each request is answered once, in order. */
async function guestGoesOn(seed: number): Promise<string> {
  await using world = await openWorld();
  const random = new Random(seed);
  const guest = await world.client('5');
  await guest.step(XsOp.WATCH, 0, text('count|t|'));
  let events = 0;
  let answered = 0;
  for (let i = 1; i <= GUEST_WRITES; i++) guest.send(XsOp.WRITE, 0, text(`count|${i}`));
  let kills = 0;
  let killing = Promise.resolve();
  while (answered < GUEST_WRITES) {
    const packet = await guest.next(20_000);
    assert(packet !== undefined, 'the ring has ended');
    if (packet.op === XsOp.WATCH_EVENT) events++;
    else {
      assert(packet.op === XsOp.WRITE, `write ${answered + 1} was answered with ${packet.payload.toString('latin1')}`);
      answered++;
    }
    if (answered > ((kills + 1) * GUEST_WRITES) / (KILLS / 2 + 1) && packet.op === XsOp.WRITE) {
      kills++;
      await killing;
      killing = new Promise((done) => setTimeout(done, random.below(3))).then(() => world.killDaemon());
    }
  }
  await killing;
  const [value] = await world.step(['0', 'READ', '/local/domain/5/count|']);
  assert(value === String(GUEST_WRITES), `the last write is ${value ?? 'nothing'}`);
  const late = await guest.step(undefined, 0, '');
  const more = late.filter((each) => !each.startsWith('@'));
  assert(more.length === 0, `answers to nothing: ${more.join(' ')}`);
  return `${GUEST_WRITES} writes, ${events + late.length} events, ${kills} kills`;
}

/** What is cut off is lost, and nothing before it. */
async function torn(): Promise<string> {
  let kept = 0;
  for (const cut of TORN) {
    await using world = await openWorld();
    const writes = 200;
    for (let i = 1; i <= writes; i++) await (await world.client('0')).ask('WRITE', `/torn/n${i}|${i}`);
    await world.killDaemon(() => {
      const file = newestJournal(world.daemon.directory);
      truncateSync(file, Math.max(0, statSync(file).size - cut));
    });
    const [names = ''] = await world.step(['0', 'DIRECTORY', '/torn|']);
    const expected = Array.from({ length: writes }, (_, i) => `n${i + 1}|`).join('');
    kept = names.split('|').length - 1;
    assert(
      expected.startsWith(names) && kept >= writes - cut,
      `${kept} of ${writes} are left of a cut of ${cut} bytes`,
    );
  }
  return `${kept} of 200 writes left by a cut of ${TORN.at(-1) ?? 0} bytes`;
}

function newestJournal(directory: string): string {
  const files = readdirSync(directory)
    .filter((name) => /journal/i.test(name))
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile())
    .sort((a, b) => statSync(b).mtimeMs - statSync(a).mtimeMs);
  const [newest] = files;
  assert(newest !== undefined, 'there is no journal');
  return newest;
}

async function large(): Promise<string> {
  await using world = await openWorld();
  const client = await world.client('0');
  for (let part = 0; part < LARGE_NODES / 1000; part++) {
    for (let i = 0; i < 1000; i++) client.send(XsOp.WRITE, 0, text(`/large/${part}/n${i}|value-${i}`));
    await client.step(undefined, 0, '');
  }
  const start = performance.now();
  await world.killDaemon();
  const [value] = await world.step(['0', 'READ', `/large/${LARGE_NODES / 1000 - 1}/n999|`]);
  const ms = performance.now() - start;
  assert(value === 'value-999', `the last node is ${value ?? 'nothing'}`);
  return `answers again ${ms.toFixed(0)} ms after the kill`;
}
