/** A pCPU in a browser: a worker as `packages/hypervisor/src/pcpu/worker.ts` is one of Node's. */
import type { EngineModules, JitMode } from '@xenhost/cpu';
import { Machine } from '../../../packages/hypervisor/src/machine.ts';
import { engineFactory } from '../../../packages/hypervisor/src/pcpu/engine.ts';
import { MachineMemory } from '../../../packages/hypervisor/src/state/machine-memory.ts';
import { browserClock } from './clock.ts';
import { scope } from './scope.ts';

export interface PcpuStart {
  readonly memory: WebAssembly.Memory;
  readonly engine: EngineModules;
  readonly nrPcpus: number;
  readonly pcpu: number;
  readonly jit: JitMode;
}
export type PcpuMessage =
  { readonly kind: 'doorbell' } | { readonly kind: 'bug'; readonly text: string } | { readonly kind: 'stopped' };

const tell = (message: PcpuMessage): void => {
  scope.postMessage(message);
};

scope.onmessage = ({ data }) => {
  const { memory: shared, engine, nrPcpus, pcpu, jit } = data as PcpuStart;
  const memory = new MachineMemory(shared);
  const machine = new Machine(
    { memory, clock: browserClock, nrPcpus, pcpu, commandLine: '' },
    {
      createEngine: engineFactory(memory, engine, jit),
      notifyControl: () => {
        tell({ kind: 'doorbell' });
      },
      reportBug: (error) => {
        tell({ kind: 'bug', text: error instanceof Error ? (error.stack ?? error.message) : String(error) });
      },
    },
  );
  machine.loop().run();
  tell({ kind: 'stopped' });
};
