/**
 * Making and unmaking domains and vCPUs, pausing, shutting down, crashing. Answers to `xen/common/domain.c`. Called with
 * the hypervisor lock held; destruction is a continuation.
 */
import { domid as toDomid, Errno } from '@xenhost/base';
import type { Engine } from '@xenhost/cpu';
import { DOMID, LEGACY_MAX_VCPUS, PAGE_SIZE, Shutdown, TraceEvent, VcpuInfo, VIRQ } from '@xenhost/xen-abi';
import type { ConsolePort } from '../console/api.ts';
import type { EventLimits } from '../event/api.ts';
import type { GrantLimits } from '../grant/api.ts';
import type { Progress } from '../mm/api.ts';
import { POOL_0 } from '../sched/pool-table.ts';
import type { PcpuView } from '../sched/runqueue.ts';
import type { Scheduler } from '../sched/scheduler.ts';
import type { Core } from '../state/core.ts';
import { MAX_VCPUS_PER_DOMAIN, NR_DOMIDS } from '../state/memory-map.ts';
import { DomainFlag, DomainLayout, VCPU_RECORD_FRAMES, VcpuFlag, VcpuLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { writeVcpuTime, writeWallclock } from '../time/shared-time.ts';
import { INITIAL_PERIOD_NS } from '../time/timers.ts';
import type { DomainPort } from './api.ts';
import { crashReport } from './crash-report.ts';
import type { DomainTable } from './table.ts';

/** `shutdownCode` while the domain has not shut down. */
export const SHUTDOWN_CODE_INVALID = 0xffff_ffff;
/** First page of `vcpuInfo` bytes that a vCPU without a place in shared_info would need; all have one (32 vCPUs). */
const INFO_SIZE = VcpuInfo.size;

/** What domains consist of besides their record; each subsystem's part in a life. */
export interface LifecycleModules {
  readonly table: DomainTable;
  readonly scheduler: Scheduler;
  readonly console: ConsolePort;
  readonly pcpus: readonly PcpuView[];
  readonly memory: {
    allocateXenFrame(): number | undefined;
    allocateXenFrames(nr: number): number | undefined;
    freeXenFrame(mfn: number): void;
    freeXenFrames(mfn: number, nr: number): void;
    shareXenFrame(domain: DomainRef, mfn: number, writable: boolean): void;
    unshareXenFrame(domain: DomainRef, mfn: number): boolean;
    initDomain(domain: DomainRef): number;
    initVcpu(vcpu: VcpuRef): number;
    relinquish(domain: DomainRef): Progress;
    isRelinquished(domain: DomainRef): boolean;
    freeDomain(domain: DomainRef): void;
  };
  readonly events: {
    initDomain(domain: DomainRef, limits: EventLimits): number;
    destroyDomain(domain: DomainRef): void;
    raiseGlobalVirq(domain: DomainRef, virq: number): void;
  };
  readonly grants: {
    initDomain(domain: DomainRef, limits: GrantLimits): number;
    relinquish(domain: DomainRef): Progress;
    freeDomain(domain: DomainRef): void;
  };
}

export interface CreateOptions {
  /** The id wanted, or undefined for the next free one. */
  readonly domid?: number;
  readonly handle: Uint8Array;
  readonly ssidref?: number;
  readonly maxVcpus: number;
  /** Highest event channel port. */
  readonly maxEventPort: number;
  readonly grants: GrantLimits;
  readonly createFlags?: number;
  readonly emulationFlags?: number;
  /** Id of its CPU pool; Pool-0 when it is not said. */
  readonly cpupool?: number;
}

/** What is left to do of a dying domain, in this order. */
const RelinquishStep = { grants: 0, events: 1, memory: 2, waiting: 3 } as const;

export class Lifecycle implements DomainPort {
  readonly #core: Core;
  readonly #m: LifecycleModules;

  constructor(core: Core, modules: LifecycleModules) {
    this.#core = core;
    this.#m = modules;
  }

  lookup(id: number): DomainRef | undefined {
    return this.#m.table.lookup(id);
  }
  resolve(caller: DomainRef, id: number): DomainRef | undefined {
    return this.#m.table.resolve(caller, id);
  }
  forEach(visit: (domain: DomainRef) => boolean | undefined): void {
    this.#m.table.forEach(visit);
  }
  vcpu(domain: DomainRef, vcpuId: number): VcpuRef | undefined {
    return this.#m.table.vcpu(domain, vcpuId);
  }
  vcpus(domain: DomainRef): VcpuRef[] {
    return this.#m.table.vcpus(domain);
  }
  forEachVcpu(domain: DomainRef, visit: (vcpu: VcpuRef) => void): void {
    this.#m.table.forEachVcpu(domain, visit);
  }

  /** Domain-0: privileged, its vCPUs are the daemons. Once per host. */
  createDom0(): DomainRef {
    const dom0 = this.#create(0, {
      handle: new Uint8Array(16),
      maxVcpus: Math.min(this.#core.map.nrPcpus, MAX_VCPUS_PER_DOMAIN),
      maxEventPort: 0x7fff_ffff,
      grants: {},
    });
    if (typeof dom0 === 'number') throw new Error(`Domain-0 cannot be made: error ${dom0}`);
    dom0.v.flags |= DomainFlag.privileged;
    dom0.v.nrVcpus = dom0.v.maxVcpus;
    dom0.v.pauseCount = 0;
    return dom0;
  }

  /** XEN_DOMCTL_createdomain: the new domain, paused by its controller, or -errno. */
  create(options: CreateOptions): DomainRef | number {
    const { domid } = options;
    if (!(options.maxVcpus >= 1 && options.maxVcpus <= MAX_VCPUS_PER_DOMAIN)) return -Errno.EINVAL;
    if (domid !== undefined) return this.#m.table.lookup(domid) ? -Errno.EEXIST : this.#create(domid, options);
    const free = this.#nextDomid();
    return free === undefined ? -Errno.ENOMEM : this.#create(free, options);
  }

  /** XEN_DOMCTL_max_vcpus: makes vCPUs up to `max`, which must be what the domain was created with. */
  createVcpus(domain: DomainRef, max: number): number {
    if (max !== domain.v.maxVcpus) return -Errno.EINVAL;
    for (let id = 0; id < max; id++) {
      if (this.#m.table.vcpu(domain, id)) continue;
      const error = this.#createVcpu(domain, id);
      if (error) return error;
    }
    domain.v.nrVcpus = max;
    return 0;
  }

  pause(domain: DomainRef): void {
    domain.v.pauseCount++;
    this.forEachVcpu(domain, (vcpu) => {
      this.#m.scheduler.sleep(vcpu);
    });
  }

  unpause(domain: DomainRef): void {
    if (domain.v.pauseCount === 0) return;
    domain.v.pauseCount--;
    if (domain.v.pauseCount === 0)
      this.forEachVcpu(domain, (vcpu) => {
        this.#m.scheduler.wake(vcpu);
      });
  }

  shutdown(domain: DomainRef, reason: number): void {
    const { v } = domain;
    if (v.flags & (DomainFlag.shutdown | DomainFlag.shuttingDown)) return;
    if (v.shutdownCode === SHUTDOWN_CODE_INVALID) v.shutdownCode = reason & 0xff;
    v.flags |= DomainFlag.shuttingDown;
    if (reason === Shutdown.crash) v.flags |= DomainFlag.crashed;
    if (domain.domid === 0) {
      this.#m.console.log(`Domain 0 shutdown: reason ${reason}`);
      v.flags &= ~DomainFlag.shuttingDown;
      return;
    }
    this.forEachVcpu(domain, (vcpu) => {
      this.#m.scheduler.sleep(vcpu);
    });
    this.completeShutdown(domain);
  }

  /** Reports a shutdown once no vCPU is on a pCPU any more; called when one has left. */
  completeShutdown(domain: DomainRef): void {
    const { v } = domain;
    if (!(v.flags & DomainFlag.shuttingDown) || !this.#m.scheduler.isQuiescent(domain)) return;
    v.flags = (v.flags & ~DomainFlag.shuttingDown) | DomainFlag.shutdown;
    this.#tellDom0();
  }

  /** XEN_DOMCTL_resumedomain: undoes a shutdown (a cancelled or checkpointed suspend). */
  resume(domain: DomainRef): void {
    domain.v.flags &= ~(DomainFlag.shutdown | DomainFlag.shuttingDown | DomainFlag.crashed);
    domain.v.shutdownCode = SHUTDOWN_CODE_INVALID;
    this.forEachVcpu(domain, (vcpu) => {
      this.#m.scheduler.wake(vcpu);
    });
  }

  crash(domain: DomainRef, reason: string, vcpu?: VcpuRef, engine?: Engine): void {
    if (domain.v.flags & (DomainFlag.shutdown | DomainFlag.shuttingDown)) return;
    const { console } = this.#m;
    console.log(`d${domain.domid}: ${reason}`);
    console.log(`domain_crash called for domain ${domain.domid}`);
    const subject = vcpu ?? this.vcpu(domain, 0);
    if (subject && subject.v.flags & VcpuFlag.initialised)
      for (const line of crashReport(this.#core.memory, subject, engine)) console.log(line);
    this.shutdown(domain, Shutdown.crash);
  }

  /**
   * XEN_DOMCTL_destroydomain. `wait`: a vCPU is still on a pCPU, call again when it has left; `continue`: call again;
   * or 0 / -errno.
   */
  destroy(domain: DomainRef): 'wait' | 'continue' | number {
    if (domain.domid === 0) return -Errno.EINVAL;
    const { v } = domain;
    if (v.flags & DomainFlag.destroyed) return 0;
    if (!(v.flags & DomainFlag.dying)) {
      v.flags |= DomainFlag.dying;
      v.relinquishStep = RelinquishStep.grants;
      this.forEachVcpu(domain, (vcpu) => {
        this.#m.scheduler.sleep(vcpu);
      });
    }
    if (!this.#m.scheduler.isQuiescent(domain)) return 'wait';
    return this.#relinquish(domain);
  }

  /** Frees domains that died while others still mapped frames of theirs. */
  reap(): void {
    this.forEach((domain) => {
      if (domain.v.flags & DomainFlag.destroyed && this.#m.memory.isRelinquished(domain)) this.#free(domain);
      return true;
    });
  }

  #relinquish(domain: DomainRef): 'continue' | number {
    const { v } = domain;
    switch (v.relinquishStep) {
      case RelinquishStep.grants:
        if (this.#m.grants.relinquish(domain) === 'done') v.relinquishStep = RelinquishStep.events;
        return 'continue';
      case RelinquishStep.events:
        this.#m.events.destroyDomain(domain);
        v.relinquishStep = RelinquishStep.memory;
        return 'continue';
      case RelinquishStep.memory:
        if (this.#m.memory.relinquish(domain) === 'done') v.relinquishStep = RelinquishStep.waiting;
        return 'continue';
      default:
        v.flags |= DomainFlag.destroyed;
        this.#m.grants.freeDomain(domain);
        // The hypervisor's own claim on shared_info; what others still map of it keeps the domain.
        if (v.sharedInfoMfn) this.#m.memory.unshareXenFrame(domain, v.sharedInfoMfn);
        v.sharedInfoMfn = 0;
        if (this.#m.memory.isRelinquished(domain)) this.#free(domain);
        this.#tellDom0();
        return 0;
    }
  }

  #free(domain: DomainRef): void {
    const { memory, table, scheduler } = this.#m;
    this.forEachVcpu(domain, (vcpu) => {
      scheduler.forget(vcpu);
      for (const pcpu of this.#m.pcpus) if (pcpu.current === vcpu.frame) pcpu.current = 0;
    });
    scheduler.forgetDomain(domain);
    memory.freeDomain(domain);
    const frames: number[] = [];
    this.forEachVcpu(domain, (vcpu) => frames.push(vcpu.frame));
    for (const policy of [domain.v.cpuidPolicyMfn, domain.v.memoryMapMfn]) if (policy) memory.freeXenFrame(policy);
    if (this.#core.tracer.on) this.#core.tracer.record(TraceEvent.DOM0_DOM_REM, 1, domain.domid);
    table.remove(domain);
    for (const frame of frames) memory.freeXenFrames(frame, VCPU_RECORD_FRAMES);
    memory.freeXenFrame(domain.frame);
  }

  #create(id: number, options: CreateOptions): DomainRef | number {
    const { memory, scheduler, table } = this.#m;
    const poolSlot = scheduler.pools.slotForDomain(options.cpupool ?? POOL_0);
    if (poolSlot < 0) return poolSlot;
    const frame = memory.allocateXenFrame();
    if (frame === undefined) return -Errno.ENOMEM;
    const v = DomainLayout.view(this.#core.memory, frame * PAGE_SIZE);
    v.domid = id;
    v.flags = DomainFlag.pv;
    v.pauseCount = 1;
    v.shutdownCode = SHUTDOWN_CODE_INVALID;
    v.maxVcpus = options.maxVcpus;
    v.ssidref = options.ssidref ?? 0;
    v.createdNs = this.#core.systemTimeNs();
    v.createFlags = options.createFlags ?? 0;
    v.emulationFlags = options.emulationFlags ?? 0;
    v.maxEventPort = options.maxEventPort;
    const domain = table.insert(frame);
    this.#core.memory.u8.set(options.handle.subarray(0, 16), domain.address + DomainLayout.offsets.uuid);
    const error = this.#populate(domain, options);
    if (error === 0) {
      scheduler.initDomain(domain, poolSlot);
      if (this.#core.tracer.on) this.#core.tracer.record(TraceEvent.DOM0_DOM_ADD, 1, id);
      return domain;
    }
    table.remove(domain);
    memory.freeXenFrame(frame);
    return error;
  }

  /** The parts of a new domain, undone in reverse when one cannot be had. */
  #populate(domain: DomainRef, options: CreateOptions): number {
    const { memory, events, grants } = this.#m;
    let error = memory.initDomain(domain);
    if (error) return error;
    const shared = memory.allocateXenFrame();
    if (shared === undefined) {
      memory.freeDomain(domain);
      return -Errno.ENOMEM;
    }
    memory.shareXenFrame(domain, shared, true);
    domain.v.sharedInfoMfn = shared;
    writeWallclock(this.#core, domain);
    error = events.initDomain(domain, { maxPorts: options.maxEventPort });
    if (error === 0) {
      error = grants.initDomain(domain, options.grants);
      if (error) events.destroyDomain(domain);
    }
    if (error) {
      memory.unshareXenFrame(domain, shared);
      memory.freeDomain(domain);
      return error;
    }
    return 0;
  }

  #createVcpu(domain: DomainRef, id: number): number {
    const { memory, scheduler } = this.#m;
    const frame = memory.allocateXenFrames(VCPU_RECORD_FRAMES);
    if (frame === undefined) return -Errno.ENOMEM;
    const v = VcpuLayout.view(this.#core.memory, frame * PAGE_SIZE);
    v.domid = domain.domid;
    v.vcpuId = id;
    v.flags = VcpuFlag.down;
    if (id < LEGACY_MAX_VCPUS) {
      v.infoMfn = domain.v.sharedInfoMfn;
      v.infoOffset = id * INFO_SIZE;
    }
    v.periodicPeriodNs = INITIAL_PERIOD_NS;
    const index = (domain.address + DomainLayout.offsets.vcpuFrames) / 4 + id;
    this.#core.memory.u32[index] = frame;
    const vcpu = this.#m.table.vcpuAt(frame);
    scheduler.initVcpu(vcpu);
    const error = memory.initVcpu(vcpu);
    if (error) {
      this.#core.memory.u32[index] = 0;
      memory.freeXenFrames(frame, VCPU_RECORD_FRAMES);
      return error;
    }
    writeVcpuTime(this.#core, vcpu);
    return 0;
  }

  /** Ids go upwards and wrap, so that a dead domain's id is not used again soon. */
  #nextDomid(): number | undefined {
    const { header } = this.#core;
    for (let tried = 0; tried < NR_DOMIDS; tried++) {
      const id = Math.max(header.nextDomid, 1);
      header.nextDomid = id + 1 >= DOMID.FIRST_RESERVED ? 1 : id + 1;
      if (!this.#m.table.lookup(id)) return toDomid(id);
    }
    return undefined;
  }

  #tellDom0(): void {
    const dom0 = this.#m.table.lookup(0);
    if (dom0) this.#m.events.raiseGlobalVirq(dom0, VIRQ.DOM_EXC);
  }
}
