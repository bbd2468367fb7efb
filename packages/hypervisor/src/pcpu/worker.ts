/** Entry of a pCPU's worker thread: builds the thread's machine with an engine and runs its loop until told to stop. */
import { parentPort, workerData } from 'node:worker_threads';
import { systemClock } from '@xenhost/base';
import type { CompileOrder, CompiledOrder, SharedRegions } from '@xenhost/cpu';
import { Machine } from '../machine.ts';
import { MachineMemory } from '../state/machine-memory.ts';
import { engineFactory, warmUp } from './engine.ts';
import { IdleCollector } from './idle-collector.ts';
import type { PcpuStart, PcpuMessage } from './messages.ts';
import { CompilerClient } from './compiler-client.ts';
import { SharedCode } from './shared-code.ts';
import { threadHeap } from './thread-heap.ts';

/** A host starts in about this time, and needs its cores for that. */
const WARM_UP_AFTER_MS = 1000;

const start = workerData as PcpuStart;
const port = parentPort;
if (!port) throw new Error('a pCPU is a worker thread');
const tell = (message: PcpuMessage): void => {
  port.postMessage(message);
};

const memory = new MachineMemory(start.memory);
const shared = start.sharedCode && new SharedCode({ pcpu: start.pcpu, words: start.sharedCode });
const compiler = start.compiler && new CompilerClient({ pcpu: start.pcpu, ...start.compiler });
const sharing = {
  ...(shared && {
    shareRegions: (regions: SharedRegions): void => {
      shared.shareRegions(regions);
    },
    takeRegions: (): SharedRegions | undefined => shared.takeRegions(),
  }),
  ...(compiler && {
    orderCompilation: (order: CompileOrder): void => {
      compiler.orderCompilation(order);
    },
    takeCompiled: (): CompiledOrder | undefined => compiler.takeCompiled(),
  }),
};
const heap = threadHeap();
const collector = heap && new IdleCollector(heap);
const machine = new Machine(
  { memory, clock: systemClock, nrPcpus: start.nrPcpus, pcpu: start.pcpu, commandLine: start.commandLine },
  {
    createEngine: engineFactory(memory, start.engine, start.jit, sharing),
    notifyControl: () => {
      tell({ kind: 'doorbell' });
    },
    resting: () => {
      collector?.rest();
    },
    reportBug: (error, domid) => {
      tell({ kind: 'bug', domid, text: error instanceof Error ? (error.stack ?? error.message) : String(error) });
    },
  },
);
// One thread compiles for all, once the host's daemons are up, unless a guest is there first.
const { engine, memory: words } = machine.core;
if (start.pcpu === 0 && engine) {
  const asked = Atomics.wait(words.i32, machine.requests.word(start.pcpu, 'wake'), 0, WARM_UP_AFTER_MS);
  if (asked === 'timed-out') warmUp(engine);
}
machine.loop().run();
tell({ kind: 'stopped' });
