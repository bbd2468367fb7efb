/** The observing parts of a `Core`, for hosts of tests: they count, and trace with a clock that stands still. */
import type { Core } from '../state/core.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { Counters } from './counters.ts';
import { Tracer } from './tracer.ts';

export function quietObserver(
  memory: MachineMemory,
  map: MemoryMap,
  pcpu: number | undefined,
  readTsc: () => bigint = () => 0n,
): Pick<Core, 'counters' | 'tracer'> {
  const counters = new Counters(memory, map, pcpu);
  return { counters, tracer: new Tracer({ pcpu }, { memory, map, counters, readTsc }) };
}
