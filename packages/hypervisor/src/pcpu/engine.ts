/** The engine of a pCPU: PV guests, every trap to the hypervisor. */
import { createEngine } from '@xenhost/cpu';
import type { Engine, EngineHost, EngineModules } from '@xenhost/cpu';
import type { MachineMemory } from '../state/machine-memory.ts';

export { compileEngine } from '@xenhost/cpu';

/** `code`: as `compileEngine` gave it, on whatever thread. */
export function engineFactory(memory: MachineMemory, code: EngineModules): (host: EngineHost) => Engine {
  return (host) =>
    createEngine({ trapMode: 'monitor', nrFrames: memory.nrFrames }, { machineMemory: memory.memory, host, code });
}
