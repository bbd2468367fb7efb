/** What the control operations work on. */
import type { ConsoleRing } from '../console/ring.ts';
import type { Lifecycle } from '../domain/lifecycle.ts';
import type { DomainTable } from '../domain/table.ts';
import type { GrantTables } from '../grant/api.ts';
import type { MemoryManager } from '../mm/api.ts';
import type { Pv } from '../pv/api.ts';
import type { CpuPools } from '../sched/cpupools.ts';
import type { PcpuView } from '../sched/runqueue.ts';
import type { Scheduler } from '../sched/scheduler.ts';
import type { Core } from '../state/core.ts';
import type { DomainRef } from '../state/refs.ts';
import type { TraceBuffers } from '../trace/buffers.ts';
import type { PerfCounters } from '../trace/perf.ts';
import type { CpuPolicies } from './cpu-policy.ts';
import type { Dom0CpuTime } from './domain-info.ts';

export interface ControlModules {
  readonly core: Core;
  readonly table: DomainTable;
  readonly lifecycle: Lifecycle;
  readonly scheduler: Scheduler;
  readonly pools: CpuPools;
  readonly pcpus: readonly PcpuView[];
  readonly console: ConsoleRing;
  readonly memory: MemoryManager;
  readonly grants: GrantTables;
  readonly pv: Pv;
  readonly policies: CpuPolicies;
  readonly dom0CpuTime: Dom0CpuTime;
  readonly pauses: ControlPauses;
  readonly traces: TraceBuffers;
  readonly perf: PerfCounters;
}

/**
 * Operations that need a domain off its pCPUs: they answer 'continue' until it is. The first attempt pauses the domain,
 * the last unpauses it; attempts of one call are known by its argument array. Between attempts the lock is free.
 */
export class ControlPauses {
  readonly #modules: { readonly lifecycle: Lifecycle; readonly scheduler: Scheduler };
  readonly #held = new WeakSet<readonly bigint[]>();
  #waiting: DomainRef | undefined;

  constructor(modules: { readonly lifecycle: Lifecycle; readonly scheduler: Scheduler }) {
    this.#modules = modules;
  }

  /** Runs `body` with the domain paused and off its pCPUs, or asks to be called again. */
  paused<T>(args: readonly bigint[], domain: DomainRef, body: () => T): T | 'continue' {
    const { lifecycle, scheduler } = this.#modules;
    if (!this.#held.has(args)) {
      lifecycle.pause(domain);
      this.#held.add(args);
    }
    if (!scheduler.isQuiescent(domain)) return this.wait(domain);
    try {
      return body();
    } finally {
      this.#held.delete(args);
      lifecycle.unpause(domain);
    }
  }

  /** Remembers a call that changed something and is asked to come again. */
  hold(args: readonly bigint[]): void {
    this.#held.add(args);
  }

  /** True for a call that has been asked to come again. */
  holds(args: readonly bigint[]): boolean {
    return this.#held.has(args);
  }

  /** To be called again once the domain may have left its pCPUs. */
  wait(domain: DomainRef): 'continue' {
    this.#waiting = domain;
    return 'continue';
  }

  /** The domain that the last call waits for; forgotten by asking. */
  takeWaiting(): DomainRef | undefined {
    const domain = this.#waiting;
    this.#waiting = undefined;
    return domain;
  }
}
