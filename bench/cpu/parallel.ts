/**
 * What more processors give: two processes at once on two vCPUs against one on one vCPU; four guests at once against one. As
 * rates of work done together over the rate of one alone; QEMU's TCG with a thread for each vCPU and the bare machine beside it.
 */
import { TestHost } from '@xenhost/testkit';
import { geometricMean, median, print } from '../lib/figures.ts';
import { benchGuest } from './guests.ts';
import { type Answer, answers, lineCommand, oneAnswer, parallelLines, rate } from './lines.ts';
import { createGuest, type Machine, type MachineName, startMachine } from './machines.ts';
import type { RatesOptions } from './rates.ts';

const TIMEOUT_MS = 600_000;
/** Times the scale of the other figures: the ends of processes that do not start together shall not count. */
const LONGER = 4;
const GUESTS = 4;
const GUEST_MEMORY_MIB = 128;
const HOST_MEMORY_MIB = 1024;

type Rates = Map<string, number>;

/** Work per second of several that ran at the same time. */
function together(all: readonly Answer[], expected: number): number {
  if (all.length !== expected) throw new Error(`${all.length} answers instead of ${expected}`);
  const longest = Math.max(...all.map(({ ns }) => ns));
  return (all.reduce((sum, { work }) => sum + work, 0) / longest) * 1e9;
}

/** Resolves to the number of figures that failed. */
export async function parallel(options: RatesOptions): Promise<number> {
  await twoVcpus(options);
  await fourGuests(options);
  return 0;
}

async function twoVcpus(options: RatesOptions): Promise<void> {
  const shown: Partial<Record<MachineName, Rates>> = {};
  const percent = options.scale * LONGER;
  for (const name of options.machines.filter((each) => each !== 'v86')) {
    const one = await startMachine[name]({ ...options, vcpus: 1 });
    const two = await startMachine[name]({ ...options, vcpus: 2 }).catch(async (error: unknown) => {
      await one.stop();
      throw error;
    });
    try {
      shown[name] = await ratios(one, two, percent, options.runs);
    } finally {
      await Promise.all([one.stop(), two.stop()]);
    }
  }
  show('two-vcpus', shown);
}

async function ratios(one: Machine, two: Machine, percent: number, runs: number): Promise<Rates> {
  const found: Rates = new Map();
  for (const line of parallelLines) {
    const command = lineCommand(line, percent);
    const pair = `${command} & ${command} & wait`;
    const gains: number[] = [];
    // The first time warms every processor up.
    await one.command(command, TIMEOUT_MS);
    await two.command(pair, TIMEOUT_MS);
    for (let i = 0; i < runs; i++) {
      const alone = rate(oneAnswer(await one.command(command, TIMEOUT_MS)));
      const both = together(answers(await two.command(pair, TIMEOUT_MS)), 2);
      gains.push(both / alone);
    }
    found.set(line, median(gains));
  }
  return found;
}

async function fourGuests({ tools, jit, scale, runs }: RatesOptions): Promise<void> {
  const { kernel, ramdisk } = await benchGuest('cloud', tools);
  const host = await TestHost.start({ jit, memoryMiB: HOST_MEMORY_MIB });
  try {
    const guests = [];
    for (let i = 0; i < GUESTS; i++)
      guests.push(await createGuest(host, `guest${i}`, { kernel, ramdisk, memoryMiB: GUEST_MEMORY_MIB }));
    const [first] = guests;
    const found: Rates = new Map();
    for (const line of parallelLines) {
      const command = lineCommand(line, scale * LONGER);
      const gains: number[] = [];
      // The first time warms every guest up.
      await Promise.all(guests.map((guest) => guest.command(command, TIMEOUT_MS)));
      for (let i = 0; i < runs && first; i++) {
        const alone = rate(oneAnswer(await first.command(command, TIMEOUT_MS)));
        const outputs = await Promise.all(guests.map((guest) => guest.command(command, TIMEOUT_MS)));
        gains.push(together(outputs.map(oneAnswer), GUESTS) / alone);
      }
      found.set(line, median(gains));
    }
    show('four-guests', { ours: found });
  } finally {
    await host.stop();
  }
}

function show(prefix: string, shown: Partial<Record<MachineName, Rates>>): void {
  const of = (name: MachineName, line: string): number | undefined => shown[name]?.get(line);
  const unit = 'times one';
  for (const line of parallelLines)
    print({
      name: `${prefix}-${line}`,
      unit,
      ours: of('ours', line),
      tcg: of('tcg', line),
      native: of('native', line),
    });
  const mean = (name: MachineName): number | undefined =>
    shown[name] === undefined ? undefined : geometricMean([...shown[name].values()]);
  print({ name: `${prefix}-geometric-mean`, unit, ours: mean('ours'), tcg: mean('tcg'), native: mean('native') });
}
