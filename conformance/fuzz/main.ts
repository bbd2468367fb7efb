/**
 * Random programs (loops, branches, calls, faults, self-modification) on the processor of this machine, the oracle, the
 * interpreter and the JIT: the complete state at each fault and at the end must be the same. What differs is made small
 * and printed as text. Needs gcc and an x86-64 Linux.
 *
 * Options: --minutes N (default 1) or --count N programs, --seed S, --jit off|on|force|all (default all), --program SEED
 * (that one only), --engine TEXT (interpreter and engines with TEXT in their names), --no-native, --verbose.
 */
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { compileEngine, type EngineModules } from '@xenhost/cpu';
import { EngineMachine, type EngineSetup } from './engine.ts';
import { SHORT_COST, generateProgram } from './generate.ts';
import { judge, type Entry, type Mismatch } from './judge.ts';
import { NativeMachine } from './native.ts';
import { OracleMachine } from './oracle.ts';
import { layOut } from './program.ts';
import { describe } from './report.ts';
import { shrink } from './shrink.ts';
import type { Contestant } from './world.ts';

const BATCH = 25;
const MAX_MISMATCHES = 3;
const SHRINK_MS = 60_000;
const ORACLE_STEPS = 200_000;
const SEED_STRIDE = 1_000_003;
const PROGRESS_MS = 60_000;

const NEVER = 2 ** 31;
const DISTURBED = { seed: 7, slice: 40, oneIn: 8 };
const SETUPS: readonly EngineSetup[] = [
  { name: 'interpreter', jit: 'off' },
  { name: 'interpreter in slices', jit: 'off', disturbances: DISTURBED },
  { name: 'JIT forced', jit: 'force' },
  { name: 'JIT forced in slices', jit: 'force', disturbances: DISTURBED },
  // Slices let it compile; without disturbances code stays long enough to be linked and evicted.
  { name: 'JIT, soon hot', jit: 'on', hotAfter: 12, disturbances: { ...DISTURBED, slice: 60, oneIn: NEVER } },
  { name: 'JIT, two engines', jit: 'on', hotAfter: 12, engines: 2, disturbances: { ...DISTURBED, slice: 60, oneIn: 50 } }, // prettier-ignore
  { name: 'JIT forced, two engines', jit: 'force', engines: 2, disturbances: { ...DISTURBED, slice: 20, oneIn: 50 } }, // prettier-ignore
  { name: 'JIT, two address spaces', jit: 'on', hotAfter: 12, spaces: 2, disturbances: { ...DISTURBED, slice: 60, oneIn: 100 } }, // prettier-ignore
  { name: 'JIT forced, three address spaces', jit: 'force', spaces: 3, disturbances: { ...DISTURBED, slice: 20, oneIn: 100 } }, // prettier-ignore
  { name: 'JIT, compiled elsewhere', jit: 'on', hotAfter: 12, ordersTake: 5, disturbances: { ...DISTURBED, slice: 60, oneIn: 100 } }, // prettier-ignore
  { name: 'JIT in slices', jit: 'on', hotAfter: 40, disturbances: { ...DISTURBED, slice: 300 } },
];

interface Options {
  readonly minutes: number | undefined;
  readonly count: number | undefined;
  readonly seed: number;
  readonly jit: string;
  readonly program: number | undefined;
  readonly engine: string | undefined;
  readonly native: boolean;
  readonly verbose: boolean;
}

function parse(argv: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      minutes: { type: 'string' },
      count: { type: 'string' },
      seed: { type: 'string', default: '1' },
      jit: { type: 'string', default: 'all' },
      program: { type: 'string' },
      engine: { type: 'string' },
      native: { type: 'boolean', default: true },
      verbose: { type: 'boolean', default: false },
    },
    allowNegative: true,
  });
  const number = (text: string | undefined): number | undefined => (text === undefined ? undefined : Number(text));
  return { ...values, engine: values.engine, minutes: number(values.minutes), count: number(values.count), seed: Number(values.seed), program: number(values.program) }; // prettier-ignore
}

/** All contestants of a kind; each call makes new engines over the same compiled modules. */
class Field {
  readonly #code: EngineModules = compileEngine();
  readonly #native: NativeMachine | undefined;
  readonly #oracle = new OracleMachine(ORACLE_STEPS);
  readonly #setups: readonly EngineSetup[];

  constructor({ jit, engine = '' }: Options, native: NativeMachine | undefined) {
    this.#native = native;
    this.#setups = SETUPS.filter(
      (setup, n) =>
        n === 0 || (setup.name.includes(engine) && (setup.jit === 'off' || jit === 'all' || jit === setup.jit)),
    );
  }

  all(): Contestant[] {
    const engines = this.#setups.map((setup) => new EngineMachine(setup, { code: this.#code }));
    return [...(this.#native ? [this.#native] : []), ...engines, this.#oracle];
  }

  /** Processor and interpreter run every program, the oracle short ones; the others take turns. */
  takesPart(contestant: Contestant, { seed, program }: Entry): boolean {
    if (contestant === this.#oracle) return program.cost <= SHORT_COST;
    const turns = this.#setups.slice(1);
    const turn = turns.findIndex(({ name }) => name === contestant.name);
    return turn < 0 || seed % turns.length === turn;
  }

  /** The same contestant, with nothing left from programs before. */
  fresh(contestant: Contestant): Contestant {
    const setup = this.#setups.find(({ name }) => name === contestant.name);
    return setup ? new EngineMachine(setup, { code: this.#code }) : contestant;
  }
}

function entryOf(seed: number): Entry | undefined {
  const program = generateProgram(seed);
  const layout = program && layOut(program);
  return program && layout && { seed, program, layout };
}

function explain(found: Mismatch, field: Field): string {
  const [again] = judge(
    [found.entry],
    [field.fresh(found.reference), field.fresh(found.contestant)],
    () => true,
  ).mismatches;
  if (!again) return `${describe(found)}\n  not seen again on a new engine: it depends on the programs before`;
  const small = shrink(again, {
    timeLimitMs: SHRINK_MS,
    contestants: () => ({ reference: field.fresh(again.reference), contestant: field.fresh(again.contestant) }),
  });
  return describe(small);
}

export async function run(argv: readonly string[]): Promise<number> {
  const options = parse(argv);
  const native = options.native ? new NativeMachine() : undefined;
  try {
    return await hunt(options, native);
  } finally {
    native?.[Symbol.dispose]();
  }
}

async function hunt(options: Options, native: NativeMachine | undefined): Promise<number> {
  const field = new Field(options, native);
  const contestants = field.all();
  const start = Date.now();
  const minutes = options.minutes ?? (options.count === undefined && options.program === undefined ? 1 : Infinity);
  const count = options.program === undefined ? (options.count ?? Infinity) : 1;
  let [done, skipped, failed, told] = [0, 0, 0, start];
  for (let next = 0; done < count && failed < MAX_MISMATCHES && Date.now() - start < minutes * 60_000;) {
    const entries: Entry[] = [];
    while (entries.length < Math.min(BATCH, count - done)) {
      const entry = entryOf(options.program ?? options.seed * SEED_STRIDE + next++);
      if (entry) entries.push(entry);
      else if (options.program !== undefined) throw new Error('this seed makes no program');
    }
    const verdict = judge(entries, contestants, (contestant, entry) => options.program !== undefined || field.takesPart(contestant, entry)); // prettier-ignore
    done += entries.length;
    skipped += verdict.skipped;
    const seen = new Set<number>();
    for (const mismatch of verdict.mismatches) {
      // One contestant's tale of a program is enough.
      if (seen.has(mismatch.entry.seed)) continue;
      seen.add(mismatch.entry.seed);
      if (failed++ < MAX_MISMATCHES) process.stdout.write(`${explain(mismatch, field)}\n\n`);
    }
    if (options.verbose || Date.now() - told > PROGRESS_MS) {
      told = Date.now();
      process.stdout.write(`  ${done} programs, ${failed} failed, ${skipped} not compared with the processor\n`);
    }
    await Promise.resolve();
  }
  process.stdout.write(`${done} programs on ${contestants.map(({ name }) => name).join(', ')} in ${Math.round((Date.now() - start) / 1000)} s; ${skipped} not compared with the processor\n`); // prettier-ignore
  process.stdout.write(`${done - failed} passed, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  process.exitCode = await run(process.argv.slice(2));
