/**
 * What every subsystem is given: the shared memory and this thread's place in the host. One per thread, all over the
 * same memory. No behaviour of its own beyond the clock.
 */
import type { Clock, View } from '@xenhost/base';
import type { Engine } from '@xenhost/cpu';
import type { Counters } from '../trace/counters.ts';
import type { Tracer } from '../trace/tracer.ts';
import type { HypervisorLock } from './lock.ts';
import type { MachineMemory } from './machine-memory.ts';
import type { MemoryMap } from './memory-map.ts';
import type { HeaderLayout } from './records.ts';

export interface Core {
  readonly memory: MachineMemory;
  readonly map: MemoryMap;
  readonly clock: Clock;
  readonly header: View<(typeof HeaderLayout)['fields']>;
  readonly lock: HypervisorLock;
  /** What this thread counts, and the trace records it writes. */
  readonly counters: Counters;
  readonly tracer: Tracer;
  /** This thread's pCPU; undefined on the control plane (main thread). */
  readonly pcpu: number | undefined;
  /** This thread's engine; undefined on the control plane. */
  readonly engine: Engine | undefined;
  /** System time: nanoseconds since this host's boot, the same on every pCPU. */
  systemTimeNs(): bigint;
}
