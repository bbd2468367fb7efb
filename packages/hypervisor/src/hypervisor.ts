/**
 * One thread's instance of the hypervisor: the subsystems over the shared memory. `machine.ts` composes it, on the
 * control plane and on every pCPU alike; nothing here runs by itself.
 */
import type { ConsolePort } from './console/api.ts';
import type { DomainPort } from './domain/api.ts';
import type { EventChannels } from './event/api.ts';
import type { Pv } from './pv/api.ts';
import type { CodeWatchPort, SchedulerPort, TlbPort } from './sched/api.ts';
import type { Core } from './state/core.ts';

export interface Hypervisor {
  readonly core: Core;
  readonly console: ConsolePort;
  readonly domains: DomainPort;
  readonly scheduler: SchedulerPort;
  readonly tlb: TlbPort;
  readonly codeWatch: CodeWatchPort;
  readonly events: EventChannels;
  readonly pv: Pv;
}
