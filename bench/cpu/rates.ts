/**
 * The lines of the bench on every machine in one run: each line goes round all machines before the next one starts, so that
 * whatever else the computer does meets all of them alike. Medians over the rounds; check values must agree.
 */
import { geometricMean, median, print } from '../lib/figures.ts';
import { type Answer, dependsOnWordSize, type Group, groups, lineCommand, oneAnswer, rate, xenInTcg } from './lines.ts';
import { type Machine, type MachineName, type MachineOptions, startMachine } from './machines.ts';

export interface RatesOptions extends MachineOptions {
  readonly machines: readonly MachineName[];
  readonly lines: ReadonlySet<string>;
  readonly scale: number;
  readonly runs: number;
}

const LINE_TIMEOUT_MS = 300_000;

type Found = Partial<Record<MachineName, Answer[]>>;

const say = (text: string): void => void process.stderr.write(`${text}\n`);

/** Resolves to the number of lines that went wrong. */
export async function rates(options: RatesOptions): Promise<number> {
  const wanted = (Object.keys(groups) as Group[]).flatMap((group) =>
    groups[group].filter((name) => options.lines.has(name)).map((name) => [group, name] as const),
  );
  const fleet = new Fleet(options);
  const ratios = new Map<Group, { tcg: number[]; v86: number[] }>();
  let wrong = 0;
  try {
    await fleet.start();
    for (const [group, name] of wanted) {
      const { ok, toTcg, toV86 } = report(group, name, await measure(fleet, name, options));
      if (!ok) wrong++;
      const all = ratios.get(group) ?? { tcg: [], v86: [] };
      ratios.set(group, all);
      if (toTcg !== undefined) all.tcg.push(toTcg);
      if (toV86 !== undefined) all.v86.push(toV86);
    }
  } finally {
    await fleet.stop();
  }
  for (const [group, { tcg, v86 }] of ratios) means(group, tcg, v86);
  const all = [...ratios.values()];
  means('all', all.flatMap(({ tcg }) => tcg), all.flatMap(({ v86 }) => v86)); // prettier-ignore
  return wrong + fleet.failures;
}

/** One line, round and round the machines; each round begins with another one. */
async function measure(fleet: Fleet, line: string, { machines, runs }: RatesOptions): Promise<Found> {
  const found: Found = {};
  for (let round = 0; round < runs; round++) {
    for (let i = 0; i < machines.length; i++) {
      const machine = machines[(i + round) % machines.length];
      const answer = machine === undefined ? undefined : await fleet.run(machine, line);
      if (machine !== undefined && answer) (found[machine] ??= []).push(answer);
    }
  }
  return found;
}

function means(name: string, tcg: readonly number[], v86: readonly number[]): void {
  const of = (values: readonly number[]): number | undefined =>
    values.length === 0 ? undefined : geometricMean(values);
  const lines = Math.max(tcg.length, v86.length);
  if (lines > 0)
    print({ name: `geometric-mean-${name}`, unit: 'ratio', ratioToTcg: of(tcg), ratioToV86: of(v86), lines });
}

interface Reported {
  readonly ok: boolean;
  readonly toTcg: number | undefined;
  readonly toV86: number | undefined;
}

function report(group: Group, name: string, found: Found): Reported {
  const all = Object.values(found).flat();
  const compared = dependsOnWordSize.has(name) ? { ...found, v86: [] } : found;
  const checks = new Set(Object.values(compared).flatMap((list) => list.map(({ check }) => check)));
  const medianOf = (machine: MachineName): number | undefined => {
    const list = found[machine];
    return list === undefined ? undefined : median(list.map(rate));
  };
  const [ours, tcg, v86, native] = [medianOf('ours'), medianOf('tcg'), medianOf('v86'), medianOf('native')];
  const ratio = (peer: number | undefined): number | undefined =>
    ours === undefined || peer === undefined ? undefined : ours / peer;
  const [toTcg, toV86] = [ratio(tcg), ratio(v86)];
  const xenShare = xenInTcg[name];
  const unit = all[0]?.unit ?? '';
  print({
    ...{ name, group, unit, ours, tcg, v86, native, ratioToTcg: toTcg, ratioToV86: toV86 },
    ratioToXenInTcg: xenShare === undefined || toTcg === undefined ? undefined : toTcg / xenShare,
    check: checks.size <= 1 ? 'same' : 'DIFFERENT',
  });
  if (checks.size > 1) say(`${name}: ${Object.entries(found).map(([machine, list]) => `${machine} ${list.map(({ check }) => check).join(' ')}`).join('; ')}`); // prettier-ignore
  return { ok: checks.size <= 1, toTcg, toV86 };
}

/** The machines of a run. One that fails a line is started anew; one that does not start any more is left out. */
class Fleet {
  readonly #options: RatesOptions;
  readonly #machines = new Map<MachineName, Machine>();
  failures = 0;

  constructor(options: RatesOptions) {
    this.#options = options;
  }

  /** One after another: they would disturb each other's boot. */
  async start(): Promise<void> {
    for (const name of this.#options.machines) await this.#start(name);
  }

  async #start(name: MachineName): Promise<void> {
    const start = performance.now();
    this.#machines.set(name, await startMachine[name](this.#options));
    say(`${name} is up after ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }

  async run(name: MachineName, line: string): Promise<Answer | undefined> {
    const machine = this.#machines.get(name);
    if (!machine) return undefined;
    try {
      return oneAnswer(await machine.command(lineCommand(line, this.#options.scale), LINE_TIMEOUT_MS));
    } catch (error) {
      this.failures++;
      say(`${name} ${line}: ${error instanceof Error ? error.message : String(error)}`);
      this.#machines.delete(name);
      await machine.stop();
      await this.#start(name).catch((again: unknown) => {
        say(`${name} does not start again: ${String(again)}`);
      });
      return undefined;
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#machines.values()].map((machine) => machine.stop()));
  }
}
