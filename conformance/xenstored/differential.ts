/**
 * The same random requests to two daemons: every answer and every event, in order, must be the same. What differs is
 * made as short as it still differs.
 */
import { assert } from '@xenhost/testkit';
import type { Report } from '@xenhost/testkit';
import { XsOp } from '@xenhost/xs-wire';
import type { Kind } from '../lib/xen/daemons.ts';
import type { DebianXen } from '../lib/xen/debian.ts';
import { Model } from './model.ts';
import { GUESTS, Sequence, TOOLS } from './sequence.ts';
import { DaemonDied, World } from './world.ts';
import type { Step } from './world.ts';

/** The domain that comes and goes has no ring of its own, but a page. */
const PASSING_DOMAIN = 7;

export interface Difference {
  readonly steps: readonly Step[];
  /** What the first and the second said at the last step. */
  readonly said: readonly [string, string];
}

export interface Pair {
  readonly first: Kind;
  readonly second: Kind;
  readonly debian: DebianXen | undefined;
}

async function openWorld(kind: Kind, debian: DebianXen | undefined): Promise<World> {
  const world = await World.open(kind, debian);
  for (const domid of GUESTS) await world.addGuest(Number(domid));
  world.daemon.addDomain(PASSING_DOMAIN);
  return world;
}

/** All that every client has got by the end of a step. */
export async function observe(world: World, step: Step): Promise<string> {
  const name = step[0].split(':')[0] ?? '';
  const own = await world.step(step);
  const others = [...TOOLS, ...GUESTS].filter((each) => each !== name);
  const heard = await Promise.all(others.map(async (each) => [each, await world.step([each, '-', ''])] as const));
  return lineOf(step, new Map([[name, own], ...heard]));
}

/** Who got what, the sender first. */
export function lineOf(step: Step, said: ReadonlyMap<string, readonly string[]>): string {
  const name = step[0].split(':')[0] ?? '';
  const names = [name, ...[...TOOLS, ...GUESTS].filter((each) => each !== name)];
  const lines = names.map((each) => {
    const texts = (said.get(each) ?? []).map(plain(step));
    // Whether the events of what a domain leaves come before the answer depends, in the C daemon, on how it came to know the domain.
    return { each, texts: step[1] === 'RELEASE' ? texts.sort() : texts };
  });
  return lines.flatMap(({ each, texts }) => (texts.length > 0 ? [`${each}: ${texts.join(' ')}`] : [])).join('; ');
}

/** Generations of nodes are each daemon's own. */
const plain =
  ([, op]: Step) =>
  (said: string): string =>
    op === 'DIRECTORY_PART' || op === XsOp.DIRECTORY_PART ? said.replace(/^\d+\|/, 'GEN|') : said;

/** Undefined when Debian's daemon died of the step: there is nothing to compare with. */
async function both(first: World, second: World, step: Step): Promise<[string, string] | undefined> {
  try {
    return await Promise.all([observe(first, step), observe(second, step)]);
  } catch (error) {
    if (error instanceof DaemonDied && error.kind !== 'ours') return undefined;
    throw error;
  }
}

/**
 * Where the C daemon is not followed: RM in a transaction answers EIO there when something below was removed outside since; with
 * ours the commit conflicts. From there on they differ, so the sequence ends.
 */
const isExcused = ([who, op]: Step, [c, ours]: readonly [string, string]): boolean =>
  op === 'RM' && who.includes(':') && c.endsWith('!EIO') && ours.endsWith('OK|');

/** Sends `steps` to fresh worlds; where they first differ. */
async function replay(pair: Pair, steps: readonly Step[]): Promise<Difference | undefined> {
  await using first = await openWorld(pair.first, pair.debian);
  await using second = await openWorld(pair.second, pair.debian);
  for (const [i, step] of steps.entries()) {
    const said = await both(first, second, step);
    if (said === undefined) return undefined;
    if (isExcused(step, said)) return undefined;
    if (said[0] !== said[1]) return { steps: steps.slice(0, i + 1), said };
  }
  return undefined;
}

/** Random steps from a seed; undefined when the two never differ. */
export async function differ(pair: Pair, seed: number, count: number): Promise<Difference | undefined> {
  await using first = await openWorld(pair.first, pair.debian);
  await using second = await openWorld(pair.second, pair.debian);
  const sequence = new Sequence(seed);
  const steps: Step[] = [];
  for (let i = 0; i < count; i++) {
    const step = sequence.next();
    steps.push(step);
    const said = await both(first, second, step);
    if (said === undefined) return undefined;
    if (isExcused(step, said)) return undefined;
    if (said[0] !== said[1]) return { steps, said };
    if (step[1] === 'TRANSACTION_START') sequence.started(step[0], said[0].split(': ')[1]?.split(';')[0] ?? '');
  }
  return undefined;
}

/** Leaves out what the difference does not need, for at most so many tries. */
export async function shorten(pair: Pair, difference: Difference, tries = 60): Promise<Difference> {
  let best = difference;
  for (let size = best.steps.length >> 1, left = tries; size >= 1 && left > 0; size >>= 1) {
    for (let at = best.steps.length - 1 - size; at >= 0 && left > 0; at -= size, left--) {
      const shorter = await replay(pair, [...best.steps.slice(0, at), ...best.steps.slice(at + size)]);
      // Another difference than the one that was found is found again by another seed.
      if (shorter && shorter.steps.at(-1) === best.steps.at(-1)) best = shorter;
    }
  }
  return best;
}

const STEPS = 400;

/** One step of a sequence, which the daemon must do as the model does. */
export async function asModelled(world: World, model: Model, sequence: Sequence): Promise<void> {
  const step = sequence.next();
  const said = await observe(world, step);
  const starts = step[1] === 'TRANSACTION_START';
  const answer = said.split(': ')[1]?.split(';')[0] ?? '';
  const expected = lineOf(step, model.step(step, starts ? parseInt(answer, 10) : undefined));
  assert(said === expected, `${step.join(' ')}: ${said} instead of ${expected}`);
  if (starts) sequence.started(step[0], answer);
}

/** `count` sequences to ours and to the model. */
export async function runModel(
  report: Report,
  { seed, count }: { readonly seed: number; readonly count: number },
): Promise<void> {
  for (let each = seed; each < seed + count; each++) {
    await report.case(`model, seed ${each}`, async () => {
      await using world = await openWorld('ours', undefined);
      const model = new Model(GUESTS);
      const sequence = new Sequence(each, 'plain');
      for (let i = 0; i < STEPS; i++) await asModelled(world, model, sequence);
      return `${STEPS} steps`;
    });
  }
}

/** `count` sequences, from a seed on, to the C daemon and to ours. */
export async function runDifferential(
  report: Report,
  debian: DebianXen,
  { seed, count }: { readonly seed: number; readonly count: number },
): Promise<void> {
  const pair: Pair = { first: 'c', second: 'ours', debian };
  for (let each = seed; each < seed + count; each++) {
    await report.case(`differential, seed ${each}`, async () => {
      const difference = await differ(pair, each, STEPS);
      if (!difference) return `${STEPS} steps`;
      throw new Error(`they differ\n${describeDifference(await shorten(pair, difference), pair)}`);
    });
  }
}

const describeDifference = ({ steps, said }: Difference, { first, second }: Pair): string =>
  [
    ...steps.map(([who, op, payload]) => `  ${who} ${op} ${JSON.stringify(payload)}`),
    `  ${first}: ${JSON.stringify(said[0])}`,
    `  ${second}: ${JSON.stringify(said[1])}`,
  ].join('\n');
