/** One CPU of a litmus run: an engine over the shared machine memory that runs its program each time it is told to. */
import { workerData } from 'node:worker_threads';
import { createEngine, ExitReason } from '@xenhost/cpu';
import { enterFlatUser, soloHost } from '../lib/bare-engine.ts';
import { codeAt, MACHINE_BYTES, PAGE, stackAt, TABLES, WORD } from './layout.ts';
import type { WorkerStart } from './layout.ts';

/** In taken branches: soon enough for those who ask for the others to stop. */
const BUDGET = 500;

const { thread, jit, memory, words, code } = workerData as WorkerStart;
const running = WORD.running + thread;

/** Keeps out of the engine while another thread has asked for that. */
function enter(): void {
  for (;;) {
    Atomics.store(words, running, 1);
    if (Atomics.load(words, WORD.exclusive) === 0) return;
    Atomics.store(words, running, 0);
    while (Atomics.load(words, WORD.exclusive) !== 0) Atomics.wait(words, WORD.exclusive, 1, 1);
  }
}

function exclusively(body: () => void): void {
  Atomics.store(words, running, 0);
  while (Atomics.compareExchange(words, WORD.exclusive, 0, 1) !== 0) Atomics.wait(words, WORD.exclusive, 1, 1);
  for (let n = 0; n < Atomics.load(words, WORD.nrThreads); n++) while (Atomics.load(words, WORD.running + n) !== 0);
  body();
  Atomics.store(words, WORD.exclusive, 0);
  Atomics.notify(words, WORD.exclusive);
  enter();
}

const engine = createEngine(
  { trapMode: 'monitor', nrFrames: MACHINE_BYTES / PAGE, jit },
  { machineMemory: memory, code, host: { ...soloHost(), exclusively } },
);
enterFlatUser(engine, TABLES);
const { state } = engine;

function runProgram(): void {
  engine.invalidateCode(codeAt(thread) / PAGE);
  state.rip = BigInt(codeAt(thread));
  state.rsp = BigInt(stackAt(thread));
  for (;;) {
    enter();
    const reason = engine.run(BUDGET);
    Atomics.store(words, running, 0);
    if (reason === ExitReason.syscall) return;
    if (reason !== ExitReason.budget && reason !== ExitReason.pause)
      throw new Error(
        `thread ${thread}: exit ${reason}, vector ${engine.exit.vector}, RIP 0x${state.rip.toString(16)}`,
      );
  }
}

for (let round = 0; ;) {
  Atomics.wait(words, WORD.round, round);
  const now = Atomics.load(words, WORD.round);
  if (now === round) continue;
  round = now;
  if (Atomics.load(words, WORD.ending) !== 0) break;
  if (thread >= Atomics.load(words, WORD.nrThreads)) continue;
  runProgram();
  Atomics.add(words, WORD.done, 1);
  Atomics.notify(words, WORD.done);
}
