/**
 * A host for tests of the core: machine memory, records, scheduler, timers and domains over a memory manager that only
 * gives out frames. Time stands still until `clock` is moved; the "thread" is pCPU 0 unless said otherwise.
 */
import { FakeClock } from '@xenhost/base';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import { ConsoleRing } from './console/ring.ts';
import { Lifecycle } from './domain/lifecycle.ts';
import type { CreateOptions, LifecycleModules } from './domain/lifecycle.ts';
import { DomainTable } from './domain/table.ts';
import { PcpuRequests } from './pcpu/requests.ts';
import { pcpuViews } from './sched/runqueue.ts';
import { initScheduler, Scheduler } from './sched/scheduler.ts';
import { HypervisorLock } from './state/lock.ts';
import type { Core } from './state/core.ts';
import { MachineMemory } from './state/machine-memory.ts';
import { memoryMap } from './state/memory-map.ts';
import { HeaderLayout, PcpuRequest, VcpuFlag } from './state/records.ts';
import type { DomainRef, VcpuRef } from './state/refs.ts';
import { initTracing, TraceBuffers } from './trace/buffers.ts';
import { quietObserver } from './trace/observer.test-kit.ts';
import { Timers } from './time/timers.ts';

const MEMORY_BYTES = 16 << 20;
export const MS = 1_000_000n;

export interface TestHostOptions {
  readonly nrPcpus?: number;
  readonly pcpu?: number | undefined;
}

export class TestHost {
  readonly clock = new FakeClock(1_000n);
  readonly core: Core;
  readonly table: DomainTable;
  readonly requests: PcpuRequests;
  readonly scheduler: Scheduler;
  readonly timers: Timers;
  readonly console: ConsoleRing;
  readonly lifecycle: Lifecycle;
  readonly traces: TraceBuffers;
  /** What was asked of event channels: `d1v0 virq 0`, `d0 global 3`. */
  readonly raised: string[] = [];
  /** Frames given and not given back. */
  readonly taken = new Set<number>();
  /** Steps that relinquishing a domain's memory still takes. */
  relinquishSteps = 0;
  conRings = 0;
  #next: number;

  constructor(options: TestHostOptions = {}) {
    const memory = MachineMemory.allocate(MEMORY_BYTES);
    const map = memoryMap(memory.nrFrames, options.nrPcpus ?? 1);
    const header = HeaderLayout.view(memory, map.header * PAGE_SIZE);
    header.nextDomid = 1;
    header.bootWallNs = this.clock.wallNs();
    this.core = {
      ...quietObserver(memory, map, 'pcpu' in options ? options.pcpu : 0),
      memory,
      map,
      clock: this.clock,
      header,
      lock: new HypervisorLock(memory, map.header * PAGE_SIZE),
      pcpu: 'pcpu' in options ? options.pcpu : 0,
      engine: undefined,
      systemTimeNs: () => this.clock.monotonicNs(),
    };
    this.#next = map.heap;
    initScheduler(this.core);
    this.table = new DomainTable(this.core);
    const pcpus = pcpuViews(this.core);
    this.requests = new PcpuRequests(this.core, { pcpus, table: this.table });
    this.scheduler = new Scheduler(this.core, {
      pcpus,
      table: this.table,
      requests: this.requests,
      vcpuMoved: (vcpu) => {
        this.timers.moved(vcpu);
      },
    });
    this.timers = new Timers(this.core, {
      pcpus,
      table: this.table,
      raiseVirq: (vcpu, virq) => this.raised.push(`${vcpuName(vcpu)} virq ${virq}`),
      kick: (vcpu) => {
        this.scheduler.kick(vcpu);
      },
      shutdown: (domain, reason) => {
        this.lifecycle.shutdown(domain, reason);
      },
      wakePcpu: (pcpu) => {
        this.requests.post(pcpu, PcpuRequest.attend);
      },
    });
    this.console = new ConsoleRing(this.core, { written: () => this.conRings++ });
    initTracing(this.core);
    this.traces = new TraceBuffers(this.core, { ...this.#memory(), log: () => undefined });
    this.lifecycle = new Lifecycle(this.core, {
      table: this.table,
      scheduler: this.scheduler,
      console: this.console,
      pcpus,
      memory: this.#memory(),
      events: {
        initDomain: () => 0,
        destroyDomain: (domain) => this.raised.push(`d${domain.domid} ports closed`),
        raiseGlobalVirq: (domain, virq) => this.raised.push(`d${domain.domid} global ${virq}`),
      },
      grants: { initDomain: () => 0, relinquish: () => 'done', freeDomain: () => undefined },
    });
  }

  frames(count: number): number {
    const first = this.#next;
    this.#next += count;
    this.taken.add(first);
    return first;
  }

  /** A domain with vCPUs that are up, unpaused. */
  domain(options: Partial<CreateOptions> = {}): DomainRef {
    const made = this.lifecycle.create({
      handle: new Uint8Array(16),
      maxVcpus: 1,
      maxEventPort: 1023,
      grants: {},
      ...options,
    });
    if (typeof made === 'number') throw new Error(`domain: error ${made}`);
    if (this.lifecycle.createVcpus(made, options.maxVcpus ?? 1) !== 0) throw new Error('vcpus');
    this.table.forEachVcpu(made, (vcpu) => {
      vcpu.v.flags = VcpuFlag.initialised;
    });
    this.lifecycle.unpause(made);
    return made;
  }

  vcpu(domain: DomainRef, id = 0): VcpuRef {
    const vcpu = this.table.vcpu(domain, id);
    if (!vcpu) throw new Error(`no vCPU ${id}`);
    return vcpu;
  }

  /** Schedules on a pCPU as its loop does, with the context switch of nothing. */
  schedule(pcpu = 0): string | undefined {
    const next = this.scheduler.schedule(pcpu, this.core.systemTimeNs());
    return next && vcpuName(next);
  }

  #memory(): LifecycleModules['memory'] {
    const free = (mfn: number, nr: number): void => {
      if (!this.taken.delete(mfn)) throw new Error(`frame ${mfn} was not taken`);
      this.core.memory.u8.fill(0, mfn * PAGE_SIZE, (mfn + nr) * PAGE_SIZE);
    };
    return {
      allocateXenFrame: () => this.frames(1),
      allocateXenFrames: (nr) => this.frames(nr),
      freeXenFrame: (mfn) => {
        free(mfn, 1);
      },
      freeXenFrames: free,
      shareXenFrame: () => undefined,
      unshareXenFrame: (_domain, mfn) => {
        free(mfn, 1);
        return true;
      },
      initDomain: () => 0,
      initVcpu: () => 0,
      relinquish: () => (this.relinquishSteps-- > 0 ? 'continue' : 'done'),
      isRelinquished: () => true,
      freeDomain: () => undefined,
    };
  }
}

export const vcpuName = (vcpu: VcpuRef): string => `d${vcpu.domid}v${vcpu.vcpuId}`;
