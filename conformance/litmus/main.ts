/**
 * Litmus tests: several engines on threads of their own over one machine memory, as the pCPUs of a host. Outcomes that
 * x86-TSO forbids must not occur; those that it allows are counted. Locked instructions must lose no change.
 *   --iterations N   of each test and thread (default 300000)
 *   --jit MODE       off (default), on, force
 *   --only TEXT      tests whose name has it
 */
import { parseArgs } from 'node:util';
import { Report } from '@xenhost/testkit';
import { ATOMICITY, UNLOCKED } from './atomicity.ts';
import type { AtomicityTest } from './atomicity.ts';
import { BATCH, COUNTERS, OUT_SIZE, outAt, PAGE, SLOT_SIZE, SLOTS, X, Y } from './layout.ts';
import { batch, LitmusMachine, together } from './machine.ts';
import { ORDERING } from './ordering.ts';
import type { OrderingTest, Outcome } from './ordering.ts';

const DEFAULT_ITERATIONS = 300_000;
const ATOMICITY_THREADS = 2;
const MIN_ROUNDS = 100;

function outcomeOf({ view }: LitmusMachine, nrThreads: number, i: number): Outcome {
  const found = (offset: number): number[] =>
    Array.from({ length: nrThreads }, (_, thread) => view.getUint32(outAt(thread) + i * OUT_SIZE + offset, true));
  const slot = SLOTS + i * SLOT_SIZE;
  return { a: found(0), b: found(8), x: view.getUint32(slot + X, true), y: view.getUint32(slot + Y, true) };
}

/** How often the outcome came, and how many different outcomes there were (1 would mean that the threads never met). */
async function order(machine: LitmusMachine, test: OrderingTest, iterations: number): Promise<string> {
  const nrThreads = test.threads.length;
  const programs = test.threads.map((body, thread) => batch(thread, nrThreads, body));
  const seen = new Map<string, number>();
  let times = 0;
  for (let done = 0; done < iterations; done += BATCH) {
    machine.clearSlots();
    await (done === 0 ? machine.run(programs) : machine.again(nrThreads));
    for (let i = 0; i < BATCH; i++) {
      const outcome = outcomeOf(machine, nrThreads, i);
      if (test.is(outcome)) times++;
      const key = JSON.stringify(outcome);
      seen.set(key, (seen.get(key) ?? 0) + 1);
    }
  }
  const text = `${test.tso}: ${times} of ${iterations}; ${seen.size} outcomes`;
  if (test.tso === 'forbidden' && times > 0) throw new Error(text);
  return text;
}

async function count(machine: LitmusMachine, test: AtomicityTest, iterations: number): Promise<string> {
  const { problem, rounds } = await counted(machine, test, iterations);
  const rest = `${rounds} rounds of ${ATOMICITY_THREADS} threads`;
  if (problem !== undefined) throw new Error(`${problem} after ${rest}`);
  return rest;
}

async function counted(
  machine: LitmusMachine,
  test: AtomicityTest,
  iterations: number,
): Promise<{ problem: string | undefined; rounds: number }> {
  const rounds = Math.max(MIN_ROUNDS, Math.round(iterations * test.part));
  machine.clearCounters();
  const start = together(COUNTERS + 3 * PAGE, ATOMICITY_THREADS);
  await machine.run(Array.from({ length: ATOMICITY_THREADS }, (_, thread) => start + test.program(thread, rounds)));
  return { problem: test.problem(machine.view, ATOMICITY_THREADS, rounds), rounds };
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      iterations: { type: 'string', default: String(DEFAULT_ITERATIONS) },
      jit: { type: 'string', default: 'off' },
      only: { type: 'string', default: '' },
    },
  });
  const iterations = Number(values.iterations);
  const report = new Report();
  const machine = new LitmusMachine(values.jit as 'off' | 'on' | 'force');
  try {
    for (const test of ORDERING)
      if (test.name.includes(values.only)) await report.case(test.name, () => order(machine, test, iterations));
    for (const test of ATOMICITY)
      if (test.name.includes(values.only)) await report.case(test.name, () => count(machine, test, iterations));
    const { problem, rounds } = await counted(machine, UNLOCKED, iterations);
    report.note(`${UNLOCKED.name}: ${problem ?? 'none lost'} of ${ATOMICITY_THREADS * rounds} (allowed)`);
  } finally {
    await machine.end();
  }
  return report.close();
}
