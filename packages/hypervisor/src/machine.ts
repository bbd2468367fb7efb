/**
 * Wires the hypervisor together: the one file that sees all its layers. Each thread builds its own over the same machine
 * memory; the control plane's has no engine, a pCPU's has one.
 */
import { EventChannelTable } from './event/channels.ts';
import type { EventChannels } from './event/api.ts';
import type { Engine, EngineHost } from '@xenhost/cpu';
import type { Clock } from '@xenhost/base';
import type { MetricFamily } from '@xenhost/daemon-kit';
import { Errno } from '@xenhost/base';
import { PAGE_SIZE, VIRQ } from '@xenhost/xen-abi';
import { ConsoleIo } from './console/console-io.ts';
import { ConsoleRing } from './console/ring.ts';
import { CpuPolicies } from './control/cpu-policy.ts';
import { DomctlTable } from './control/domctl.ts';
import { ControlPauses } from './control/modules.ts';
import type { ControlModules } from './control/modules.ts';
import { SysctlTable } from './control/sysctl.ts';
import { Lifecycle } from './domain/lifecycle.ts';
import { DomainTable } from './domain/table.ts';
import { createGrants } from './grant/grants.ts';
import type { GrantTables } from './grant/api.ts';
import { eventChannelOpCompat, physdevOpCompat } from './hypercall/compat.ts';
import { HypercallDispatch } from './hypercall/dispatch.ts';
import { vmAssist } from './hypercall/vm-assist.ts';
import type { MemoryManager } from './mm/api.ts';
import { bootMemory } from './mm/boot.ts';
import { createMemory } from './mm/memory.ts';
import { PcpuLoop } from './pcpu/loop.ts';
import { PcpuRequests } from './pcpu/requests.ts';
import type { Pv } from './pv/api.ts';
import { createPv } from './pv/pv.ts';
import { pcpuViews } from './sched/runqueue.ts';
import type { PcpuView } from './sched/runqueue.ts';
import { CpuPools } from './sched/cpupools.ts';
import { SchedOperations } from './sched/sched-op.ts';
import { initScheduler, Scheduler } from './sched/scheduler.ts';
import { HypervisorLock } from './state/lock.ts';
import type { Core } from './state/core.ts';
import type { MachineMemory } from './state/machine-memory.ts';
import { memoryMap } from './state/memory-map.ts';
import { HeaderLayout, PcpuRequest, VcpuFlag } from './state/records.ts';
import type { VcpuRef } from './state/refs.ts';
import { readTsc, TSC_KHZ } from './time/clock.ts';
import { Timers } from './time/timers.ts';
import { TraceBuffers, initTracing } from './trace/buffers.ts';
import { COUNTER } from './trace/counter-table.ts';
import { Counters } from './trace/counters.ts';
import { hypervisorMetrics } from './trace/metrics.ts';
import { PerfCounters } from './trace/perf.ts';
import { Tracer } from './trace/tracer.ts';
import { VcpuOperations } from './vcpu/vcpu-op.ts';
import {
  XEN_COMPILE_BY,
  XEN_COMPILE_DATE,
  XEN_COMPILE_DOMAIN,
  XEN_COMPILER,
  XEN_VERSION_TEXT,
} from './version/identity.ts';
import { XenVersion } from './version/xen-version.ts';

export interface MachineOptions {
  readonly memory: MachineMemory;
  readonly clock: Clock;
  readonly nrPcpus: number;
  /** This thread's pCPU; undefined for the control plane. */
  readonly pcpu: number | undefined;
  /** What xen_version tells as the command line. */
  readonly commandLine: string;
}

/** What a thread brings along. */
export interface MachineModules {
  /** Makes this thread's engine; on a pCPU only. */
  readonly createEngine?: (host: EngineHost) => Engine;
  /** Wakes the control plane: it calls `backend.drainEvents()` soon. */
  notifyControl(): void;
  /** Told of a bug of ours that cost a domain its life. */
  reportBug(error: unknown, domid: number): void;
  /** This thread's pCPU has had nothing to do for a while. */
  resting?(): void;
  /** CPU time of the control plane's thread in ns: Domain-0's share of the host's work. */
  cpuTimeNs?(): bigint;
}

/** First writes to a fresh machine memory; once per host, before any `Machine` is built. */
export function bootMachine(options: Pick<MachineOptions, 'memory' | 'clock' | 'nrPcpus'>): void {
  const { memory, clock, nrPcpus } = options;
  const map = memoryMap(memory.nrFrames, nrPcpus);
  const header = HeaderLayout.view(memory, map.header * PAGE_SIZE);
  header.nrPcpus = nrPcpus;
  header.nextDomid = 1;
  header.bootMonotonicNs = clock.monotonicNs();
  header.bootWallNs = clock.wallNs();
  header.tscKHz = TSC_KHZ;
  bootMemory(memory, map);
}

export class Machine {
  readonly core: Core;
  readonly pcpus: readonly PcpuView[];
  readonly table: DomainTable;
  readonly console: ConsoleRing;
  readonly requests: PcpuRequests;
  readonly scheduler: Scheduler;
  readonly timers: Timers;
  readonly memory: MemoryManager;
  readonly grants: GrantTables;
  readonly events: EventChannels;
  readonly pv: Pv;
  readonly lifecycle: Lifecycle;
  readonly policies: CpuPolicies;
  readonly dispatch: HypercallDispatch;
  readonly pauses: ControlPauses;
  readonly traces: TraceBuffers;
  readonly perf: PerfCounters;
  readonly #modules: MachineModules;
  readonly #options: MachineOptions;

  constructor(options: MachineOptions, modules: MachineModules) {
    this.#options = options;
    this.#modules = modules;
    const map = memoryMap(options.memory.nrFrames, options.nrPcpus);
    const headerAt = map.header * PAGE_SIZE;
    const header = HeaderLayout.view(options.memory, headerAt);
    const bootNs = header.bootMonotonicNs;
    const counters = new Counters(options.memory, map, options.pcpu);
    const tracer = new Tracer(
      { pcpu: options.pcpu },
      { memory: options.memory, map, counters, readTsc: () => readTsc(core) },
    );
    const core: { -readonly [K in keyof Core]: Core[K] } = {
      counters,
      tracer,
      memory: options.memory,
      map,
      clock: options.clock,
      header,
      lock: new HypervisorLock(options.memory, headerAt + HeaderLayout.offsets.lock),
      pcpu: options.pcpu,
      engine: undefined,
      systemTimeNs: () => options.clock.monotonicNs() - bootNs,
    };
    this.core = core;
    this.pcpus = pcpuViews(core);
    this.table = new DomainTable(core);
    this.policies = new CpuPolicies(core.memory);
    this.requests = new PcpuRequests(core, { pcpus: this.pcpus, table: this.table });
    if (modules.createEngine) core.engine = modules.createEngine(this.#engineHost());
    this.console = new ConsoleRing(core, {
      written: () => {
        this.#conRing();
      },
    });
    this.scheduler = new Scheduler(core, {
      pcpus: this.pcpus,
      table: this.table,
      requests: this.requests,
      vcpuMoved: (vcpu) => {
        this.timers.moved(vcpu);
      },
    });
    const domain = (domid: number) => this.table.lookup(domid);
    const vcpu = (of: Parameters<DomainTable['vcpu']>[0], id: number) => this.table.vcpu(of, id);
    this.memory = createMemory(core, {
      tlb: this.requests,
      code: this.requests,
      domain,
      vcpu,
      crashDomain: (of, reason) => {
        this.lifecycle.crash(of, reason);
      },
    });
    this.grants = createGrants(core, this.memory, { domain, vcpu });
    this.events = new EventChannelTable({
      memory: core.memory,
      allocateXenFrame: () => this.memory.allocateXenFrame(),
      freeXenFrame: (mfn) => {
        this.memory.freeXenFrame(mfn);
      },
      takeWritableFrame: (of, gfn) => this.memory.takeWritableFrame(of, gfn),
      releaseWritableFrame: (of, mfn) => {
        this.memory.releaseWritableFrame(of, mfn);
      },
      domain,
      vcpu,
      kick: (of) => {
        this.scheduler.kick(of);
      },
      notified: () => {
        counters.count(COUNTER.eventSends);
      },
      ringControlDoorbell: () => {
        this.#ringDoorbell();
      },
    });
    this.timers = new Timers(core, {
      pcpus: this.pcpus,
      table: this.table,
      raiseVirq: (of, virq) => {
        this.events.raiseVirq(of, virq);
      },
      kick: (of) => {
        this.scheduler.kick(of);
      },
      shutdown: (of, reason) => {
        this.lifecycle.shutdown(of, reason);
      },
      wakePcpu: (pcpu) => {
        this.requests.post(pcpu, PcpuRequest.attend);
      },
    });
    this.lifecycle = new Lifecycle(core, {
      table: this.table,
      scheduler: this.scheduler,
      console: this.console,
      pcpus: this.pcpus,
      memory: this.memory,
      events: this.events,
      grants: this.grants,
    });
    this.pv = createPv({
      observer: core,
      memory: core.memory,
      mm: this.memory,
      events: this.events,
      domainOf: (of) => this.table.domainOf(of),
      vcpu,
      dispatchHypercall: (of, engine) => {
        this.dispatch.fromPv64(of, engine);
      },
      crashDomain: (of, at, text) => {
        this.lifecycle.crash(of, text, at, at.v.isRunning ? core.engine : undefined);
      },
      cpuid: (of, leaf, subleaf) => this.policies.cpuid(this.table.domainOf(of), of.vcpuId, leaf, subleaf),
      readTsc: () => readTsc(core),
      systemTimeNs: () => core.systemTimeNs(),
      wallTimeNs: () => core.clock.wallNs(),
      kick: (of) => {
        this.scheduler.kick(of);
      },
    });
    this.traces = new TraceBuffers(core, {
      allocateXenFrame: () => this.memory.allocateXenFrame(),
      allocateXenFrames: (nr) => this.memory.allocateXenFrames(nr),
      freeXenFrame: (mfn) => {
        this.memory.freeXenFrame(mfn);
      },
      freeXenFrames: (mfn, nr) => {
        this.memory.freeXenFrames(mfn, nr);
      },
      log: (text) => {
        this.console.log(text);
      },
    });
    this.perf = new PerfCounters(core);
    this.pauses = new ControlPauses({ lifecycle: this.lifecycle, scheduler: this.scheduler });
    this.dispatch = new HypercallDispatch(core, {
      table: this.table,
      handlers: this.#handlers(),
      hasOtherWork: (of) => this.#hasOtherWork(of),
    });
  }

  /** Domain-0, the banner, the scheduler's settings; once per host, by the control plane, before any pCPU starts. */
  start(): void {
    const { core, console } = this;
    const { map } = core;
    core.lock.run(() => {
      initScheduler(core);
      initTracing(core);
      console.log(
        `Xen version ${XEN_VERSION_TEXT} (${XEN_COMPILE_BY}@${XEN_COMPILE_DOMAIN}) (${XEN_COMPILER}) debug=n ${XEN_COMPILE_DATE}`,
      );
      console.log(`Command line: ${this.#options.commandLine}`);
      console.log(`System RAM: ${Math.floor((map.nrFrames * PAGE_SIZE) / 2 ** 20)}MB (${map.nrFrames * 4}kB)`);
      console.log(`Xen heap: ${Math.floor(((map.nrFrames - map.heap) * PAGE_SIZE) / 2 ** 20)}MB`);
      console.log('Using scheduler: SMP Credit Scheduler (credit)');
      console.log(`Detected ${(TSC_KHZ / 1000).toFixed(3)} MHz processor.`);
      console.log(`Brought up ${map.nrPcpus} CPUs`);
      this.lifecycle.createDom0();
      console.log('*** Building a PV Dom0 is not needed: its tools run outside ***');
    });
  }

  /** The run loop of this thread's pCPU. */
  loop(): PcpuLoop {
    const { core } = this;
    if (core.pcpu === undefined || !core.engine) throw new Error('no pCPU in this thread');
    return new PcpuLoop(
      { pcpu: core.pcpu },
      {
        core,
        engine: core.engine,
        pcpus: this.pcpus,
        table: this.table,
        scheduler: this.scheduler,
        timers: this.timers,
        requests: this.requests,
        lifecycle: this.lifecycle,
        pv: this.pv,
        traceFilling: () => {
          const dom0 = this.table.lookup(0);
          if (dom0) this.events.raiseGlobalVirq(dom0, VIRQ.TBUF);
        },
        reportBug: (error, domid) => {
          this.#modules.reportBug(error, domid);
        },
        resting: () => {
          this.#modules.resting?.();
        },
      },
    );
  }

  /** What is told as metrics; control plane only. */
  metrics(): MetricFamily[] {
    const { core, table, pcpus, perf, memory } = this;
    return hypervisorMetrics({ core, table, pcpus, perf, freeFrames: () => memory.heapInfo().freeFrames });
  }

  #handlers(): ConstructorParameters<typeof HypercallDispatch>[1]['handlers'] {
    const { core, events, memory, pv, scheduler, timers } = this;
    const control: ControlModules = {
      core,
      table: this.table,
      lifecycle: this.lifecycle,
      scheduler,
      pools: new CpuPools(core, { pcpus: this.pcpus, table: this.table, scheduler, requests: this.requests }),
      pcpus: this.pcpus,
      console: this.console,
      memory,
      grants: this.grants,
      pv,
      policies: this.policies,
      dom0CpuTime: () => this.#modules.cpuTimeNs?.() ?? 0n,
      pauses: this.pauses,
      traces: this.traces,
      perf: this.perf,
    };
    const sched = new SchedOperations(core, { scheduler, timers, domains: this.lifecycle, events });
    const vcpus = new VcpuOperations(core, {
      domains: this.lifecycle,
      scheduler,
      timers,
      events,
      pv,
      takeWritableFrame: (domain, gfn) => memory.takeWritableFrame(domain, gfn),
    });
    return {
      ...pv.hypercalls,
      ...memory.hypercalls,
      sched_op: sched.hypercall,
      sched_op_compat: sched.compat,
      set_timer_op: sched.setTimer,
      vcpu_op: vcpus.hypercall,
      event_channel_op: events.hypercall,
      event_channel_op_compat: eventChannelOpCompat(events.hypercall),
      physdev_op_compat: physdevOpCompat(pv.hypercalls.physdev_op),
      grant_table_op: this.grants.hypercall,
      xen_version: new XenVersion({ commandLine: this.#options.commandLine }, core.memory).hypercall,
      console_io: new ConsoleIo(this.console).hypercall,
      vm_assist: vmAssist,
      platform_op: () => -Errno.ENOSYS,
      domctl: new DomctlTable(control).hypercall,
      sysctl: new SysctlTable(control).hypercall,
    };
  }

  #engineHost(): EngineHost {
    const { requests } = this;
    return {
      cpuid: (leaf, subleaf) => {
        const vcpu = this.#loaded();
        if (!vcpu) return { eax: 0, ebx: 0, ecx: 0, edx: 0 };
        return this.policies.cpuid(this.table.domainOf(vcpu), vcpu.vcpuId, leaf, subleaf);
      },
      readTsc: () => readTsc(this.core),
      codeFrameAdded: (frame) => {
        requests.codeFrameAdded(frame);
      },
      codeFrameWritten: (frame) => {
        requests.codeFrameWritten(frame);
      },
      codeFrameRemoved: (frame) => {
        requests.codeFrameRemoved(frame);
      },
      exclusively: (body) => {
        requests.exclusively(body);
      },
      isCodeFrame: (frame) => requests.isCodeFrame(frame),
    };
  }

  #loaded(): VcpuRef | undefined {
    const frame = this.core.pcpu === undefined ? 0 : (this.pcpus[this.core.pcpu]?.current ?? 0);
    return frame === 0 ? undefined : this.table.vcpuAt(frame);
  }

  #hasOtherWork(vcpu: VcpuRef): boolean {
    const { pcpu } = this.core;
    if (pcpu !== undefined && this.requests.peek(pcpu) !== 0) return true;
    return this.events.hasDeliverable(vcpu) || (vcpu.v.flags & VcpuFlag.nmiPending) !== 0;
  }

  #ringDoorbell(): void {
    const { core } = this;
    const word = (core.map.header * PAGE_SIZE + HeaderLayout.offsets.controlDoorbell) >>> 2;
    if (Atomics.exchange(core.memory.i32, word, 1) === 0) this.#modules.notifyControl();
  }

  /** Tells Domain-0 of new text in the console ring; not before there is a Domain-0. */
  #conRing(): void {
    const dom0 = this.table.lookup(0);
    if (dom0) this.events.raiseGlobalVirq(dom0, VIRQ.CON_RING);
  }
}
