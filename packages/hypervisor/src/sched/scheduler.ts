/**
 * Which vCPU runs on which pCPU: run queues, waking, preemption, time slices, migration between pCPUs of a CPU pool.
 * Credits are `credit.ts`, pools `pool-table.ts`. Called with the hypervisor lock held; on the control plane (no pCPU of
 * its own) only `wake`, `sleep`, the settings and moves are used.
 */
import { Runstate, TraceEvent } from '@xenhost/xen-abi';
import type { DomainTable } from '../domain/table.ts';
import type { PcpuRequests } from '../pcpu/requests.ts';
import type { Core } from '../state/core.ts';
import { DomainFlag, PcpuRequest, SchedPriority, SchedVcpuFlag, VcpuFlag, VcpuLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { COUNTER } from '../trace/counter-table.ts';
import { setRunstate } from '../vcpu/runstate.ts';
import type { SchedulerPort } from './api.ts';
import { account, burnCredits, CREDITS_PER_TSLICE, DEFAULT_WEIGHT, TICK_MS, TSLICE_MS } from './credit.ts';
import type { ShareClaim, VcpuView } from './credit.ts';
import type { PoolView } from './pool-table.ts';
import { cpuList, POOL_0, PoolTable } from './pool-table.ts';
import type { PcpuView } from './runqueue.ts';
import { goesBefore, pcpuViews, RunQueues } from './runqueue.ts';

const NS_PER_MS = 1_000_000n;
const TICK_NS = BigInt(TICK_MS) * NS_PER_MS;
const ACCOUNT_NS = BigInt(TSLICE_MS) * NS_PER_MS;
/** Of a longer pause between two accountings no more is made good. */
const MAX_PERIODS = 20;
const ALLOWED = VcpuLayout.offsets.allowed;
/** Domain flags that keep all its vCPUs from running. */
const STOPPED = DomainFlag.dying | DomainFlag.shutdown | DomainFlag.shuttingDown | DomainFlag.creating;

export interface SchedulerModules {
  readonly pcpus: readonly PcpuView[];
  readonly table: DomainTable;
  readonly requests: PcpuRequests;
  /** A vCPU came to another pCPU: its timers follow. */
  vcpuMoved(vcpu: VcpuRef): void;
}

/** Makes Pool-0 with all pCPUs; once per host, by the control plane. */
export function initScheduler(core: Core): void {
  const pool = new PoolTable(core).create(POOL_0);
  if (typeof pool === 'number') throw new Error(`Pool-0 cannot be made: error ${pool}`);
  pool.cpus = (1n << BigInt(core.map.nrPcpus)) - 1n;
  for (const pcpu of pcpuViews(core)) pcpu.pool = 1;
}

export class Scheduler implements SchedulerPort {
  readonly queues: RunQueues;
  readonly pools: PoolTable;
  /** Hard affinity of a vCPU that nobody has pinned. */
  readonly anyCpu = (1n << 64n) - 1n;
  readonly #core: Core;
  readonly #modules: SchedulerModules;

  constructor(core: Core, modules: SchedulerModules) {
    this.#core = core;
    this.#modules = modules;
    this.queues = new RunQueues(modules.pcpus, modules.table);
    this.pools = new PoolTable(core);
  }

  /** A new domain, into the pool of a slot that `PoolTable.slotForDomain` gave. */
  initDomain(domain: DomainRef, slot: number): void {
    domain.v.poolSlot = slot;
    domain.v.weight = DEFAULT_WEIGHT;
    domain.v.cap = 0;
    this.pools.ofDomain(domain).nrDomains++;
  }

  /** Its vCPUs have been forgotten, its record goes. */
  forgetDomain(domain: DomainRef): void {
    this.pools.ofDomain(domain).nrDomains--;
  }

  /** A new vCPU: any pCPU of its pool, one after the other. */
  initVcpu(vcpu: VcpuRef): void {
    const { v } = vcpu;
    const { cpus } = this.#poolOf(vcpu);
    this.#asNew(vcpu, cpus);
    v.processor = turnOf(vcpu, cpus);
    v.runstate = Runstate.offline;
    v.runstateEntryNs = this.#core.systemTimeNs();
  }

  /** True when nothing keeps the vCPU from running. */
  isRunnable(vcpu: VcpuRef): boolean {
    const { v } = vcpu;
    if (v.pauseCount !== 0 || v.flags & (VcpuFlag.down | VcpuFlag.blocked) || !(v.flags & VcpuFlag.initialised))
      return false;
    const domain = this.#modules.table.domainOf(vcpu);
    return domain.v.pauseCount === 0 && (domain.v.flags & STOPPED) === 0;
  }

  kick(vcpu: VcpuRef): void {
    const { v } = vcpu;
    if (v.flags & (VcpuFlag.blocked | VcpuFlag.polling)) {
      v.flags &= ~(VcpuFlag.blocked | VcpuFlag.polling);
      v.pollDeadlineNs = 0n;
      v.pollCount = 0;
    }
    this.wake(vcpu);
  }

  wake(vcpu: VcpuRef): void {
    const { v } = vcpu;
    if (v.onRunq) return;
    if (this.#isCurrent(vcpu)) {
      if (v.processor !== this.#core.pcpu) this.#modules.requests.post(v.processor, PcpuRequest.attend);
      return;
    }
    const now = this.#core.systemTimeNs();
    if (!this.isRunnable(vcpu)) {
      this.#setIdleRunstate(vcpu, now);
      return;
    }
    if (this.#core.tracer.on) this.#core.tracer.ofVcpu(TraceEvent.SCHED_WAKE, vcpu.domid, vcpu.vcpuId);
    setRunstate(this.#core, vcpu, Runstate.runnable, now);
    if (v.schedFlags & SchedVcpuFlag.parked) return;
    if (v.priority === SchedPriority.under) v.priority = SchedPriority.boost;
    const target = this.#choosePcpu(vcpu);
    if (target !== v.processor) this.#move(vcpu, target);
    this.queues.insert(vcpu);
    this.#tickle(vcpu);
  }

  sleep(vcpu: VcpuRef): void {
    if (this.#isCurrent(vcpu)) {
      this.#modules.requests.post(vcpu.v.processor, PcpuRequest.reschedule);
      return;
    }
    this.queues.remove(vcpu);
    this.#setIdleRunstate(vcpu, this.#core.systemTimeNs());
  }

  isQuiescent(domain: DomainRef): boolean {
    let quiet = true;
    this.#modules.table.forEachVcpu(domain, (vcpu) => {
      if (vcpu.v.isRunning || this.#isCurrent(vcpu)) quiet = false;
    });
    return quiet;
  }

  /** SCHEDOP_yield: next time somebody of a lower priority may go first. */
  yield(vcpu: VcpuRef): void {
    if (this.#core.tracer.on) this.#core.tracer.ofVcpu(TraceEvent.SCHED_YIELD, vcpu.domid, vcpu.vcpuId);
    vcpu.v.schedFlags |= SchedVcpuFlag.yielded;
    if (this.#core.pcpu !== undefined) this.#modules.requests.post(this.#core.pcpu, PcpuRequest.reschedule);
  }

  /** Hard affinity or the pool's pCPUs have changed: the vCPU goes where it may run. */
  affinityChanged(vcpu: VcpuRef): void {
    vcpu.v.allowed = vcpu.v.affinity & this.#poolOf(vcpu).cpus;
    if (this.#isAllowed(vcpu, vcpu.v.processor)) return;
    if (this.#isCurrent(vcpu)) this.#modules.requests.post(vcpu.v.processor, PcpuRequest.reschedule);
    else if (this.#relocate(vcpu)) this.#tickle(vcpu);
  }

  /** Puts a domain whose vCPUs are off their pCPUs into another pool, where it begins anew: no pinning, no cap. */
  moveDomain(domain: DomainRef, slot: number): void {
    const { table } = this.#modules;
    table.forEachVcpu(domain, (vcpu) => {
      this.forget(vcpu);
    });
    this.forgetDomain(domain);
    this.initDomain(domain, slot);
    const { cpus } = this.pools.ofDomain(domain);
    table.forEachVcpu(domain, (vcpu) => {
      this.#asNew(vcpu, cpus);
      // A dead domain's vCPU may still have to leave its pCPU.
      if (!this.#isCurrent(vcpu)) this.#move(vcpu, turnOf(vcpu, cpus));
    });
  }

  /**
   * Decides what this pCPU runs next; undefined for idle. Sets `running`, slice and run states; the caller switches the
   * context. Charges what ran until now.
   */
  schedule(pcpu: number, now: bigint): VcpuRef | undefined {
    const record = this.#pcpu(pcpu);
    this.#core.counters.count(COUNTER.schedRuns);
    this.#charge(record, now);
    this.#accounting(record, now);
    const previous = record.running === 0 ? undefined : this.#modules.table.vcpuAt(record.running);
    const stays = previous && this.#keeps(previous) ? previous : undefined;
    const next = this.#pick(pcpu, stays, now);
    if (previous && previous.frame === next?.frame) {
      if (now >= record.sliceEndNs || this.#hasYielded(previous)) this.#beginSlice(record, now);
      previous.v.schedFlags &= ~SchedVcpuFlag.yielded;
      return previous;
    }
    record.running = 0;
    if (stays) this.queues.insert(stays, this.#hasYielded(stays));
    if (previous) {
      previous.v.schedFlags &= ~SchedVcpuFlag.yielded;
      this.#letGo(previous, pcpu, now);
    }
    if (!next) {
      if (previous || record.idleSinceNs === 0n) record.idleSinceNs = now;
      if (this.#core.tracer.on) this.#core.tracer.idle();
      return undefined;
    }
    if (record.idleSinceNs !== 0n) {
      this.#beginPeriod(record, now);
      record.idleNs += now - record.idleSinceNs;
      record.idleSinceNs = 0n;
    }
    this.queues.remove(next);
    if (next.v.processor !== pcpu) this.#move(next, pcpu);
    record.running = next.frame;
    record.chargedNs = now;
    this.#beginSlice(record, now);
    next.v.schedules++;
    if (this.#core.tracer.on && next.v.runstate === Runstate.running)
      this.#core.tracer.continueRunning(next.domid, next.vcpuId);
    setRunstate(this.#core, next, Runstate.running, now);
    return next;
  }

  /** Every `TICK_MS` of a running vCPU: charges it, ends its boost, does the accounting. True when it was time for that. */
  tick(pcpu: number, now: bigint): boolean {
    const record = this.#pcpu(pcpu);
    if (now < record.nextTickNs || record.running === 0) return false;
    this.#charge(record, now);
    record.nextTickNs = now + TICK_NS;
    const { v } = this.#modules.table.vcpuAt(record.running);
    if (v.priority === SchedPriority.boost) v.priority = SchedPriority.under;
    this.#accounting(record, now);
    return true;
  }

  /** False when the running vCPU must go through `schedule` before it is entered again. */
  mayContinue(vcpu: VcpuRef, pcpu: number, now: bigint): boolean {
    return this.#keeps(vcpu) && now < this.#pcpu(pcpu).sliceEndNs;
  }

  /**
   * Somebody of a higher priority waits, here or with a peer who is busy, and the running one has had its minimum; called
   * after a `reschedule` request and at ticks.
   */
  shouldPreempt(vcpu: VcpuRef, pcpu: number, now: bigint): boolean {
    if (!this.#keeps(vcpu) || this.#hasYielded(vcpu)) return true;
    if (!this.#isAllowed(vcpu, pcpu)) return true;
    return this.#pick(pcpu, vcpu, now)?.frame !== vcpu.frame && now >= this.preemptibleAt(pcpu);
  }

  /** System time from which the vCPU that runs here may be preempted. */
  preemptibleAt(pcpu: number): bigint {
    const record = this.#pcpu(pcpu);
    const pool = this.pools.ofPcpu(record);
    if (record.running === 0 || !pool) return 0n;
    return this.#modules.table.vcpuAt(record.running).v.runstateEntryNs + BigInt(pool.ratelimitUs) * 1000n;
  }

  /** System time at which an idle pCPU must look again for the scheduler's own sake; 0n for never. */
  idleDeadline(pcpu: number): bigint {
    const pool = this.pools.ofPcpu(this.#pcpu(pcpu));
    return pool && pool.nrParked > 0 ? pool.accountDeadlineNs : 0n;
  }

  /** Lets a vCPU of a dying domain out of every list. */
  forget(vcpu: VcpuRef): void {
    this.queues.remove(vcpu);
    if (vcpu.v.schedFlags & SchedVcpuFlag.parked) this.#poolOf(vcpu).nrParked--;
    vcpu.v.schedFlags = 0;
  }

  /** True when hard affinity and pool let the vCPU run on that pCPU. Asked all the time: no bigint. */
  #isAllowed(vcpu: VcpuRef, pcpu: number): boolean {
    const word = ((vcpu.address + ALLOWED) >>> 2) + (pcpu >>> 5);
    return (((this.#core.memory.u32[word] ?? 0) >>> (pcpu & 31)) & 1) !== 0;
  }

  #poolOf(vcpu: VcpuRef): PoolView {
    return this.pools.ofDomain(this.#modules.table.domainOf(vcpu));
  }

  /** What a vCPU begins with in a pool of these pCPUs. */
  #asNew({ v }: VcpuRef, cpus: bigint): void {
    v.affinity = this.anyCpu;
    v.affinitySoft = this.anyCpu;
    v.allowed = cpus;
    v.credit = 0;
    v.creditRemainderNs = 0;
    v.priority = SchedPriority.under;
  }

  #keeps(vcpu: VcpuRef): boolean {
    return this.isRunnable(vcpu) && (vcpu.v.schedFlags & SchedVcpuFlag.parked) === 0;
  }

  #hasYielded(vcpu: VcpuRef): boolean {
    return (vcpu.v.schedFlags & SchedVcpuFlag.yielded) !== 0;
  }

  #beginSlice(record: PcpuView, now: bigint): void {
    record.nextTickNs = now + TICK_NS;
    record.sliceEndNs = now + BigInt(this.pools.ofPcpu(record)?.timesliceUs ?? 0) * 1000n;
  }

  /** Charges what runs on a pCPU for the time until now. */
  #charge(record: PcpuView, now: bigint): void {
    if (record.running === 0) return;
    const { v } = this.#modules.table.vcpuAt(record.running);
    burnCredits(v, now - record.chargedNs);
    record.chargedNs = now;
    v.schedFlags |= SchedVcpuFlag.active;
  }

  /** The vCPU leaves this pCPU: what it is from now on, and where it goes when it may not stay. */
  #letGo(previous: VcpuRef, pcpu: number, now: bigint): void {
    const waits = previous.v.onRunq !== 0;
    if (waits) setRunstate(this.#core, previous, Runstate.runnable, now);
    else this.#setIdleRunstate(previous, now);
    if (!this.#isAllowed(previous, pcpu)) this.#relocate(previous);
    if (waits) this.#tickle(previous);
  }

  /** To a pCPU that it may use, with its place in the queue. True when it stands in one. */
  #relocate(vcpu: VcpuRef): boolean {
    const waits = vcpu.v.onRunq !== 0;
    this.queues.remove(vcpu);
    this.#move(vcpu, this.#choosePcpu(vcpu));
    if (waits) this.queues.insert(vcpu);
    return waits;
  }

  /**
   * The vCPU that runs now (`stays`: it could go on), the head of the own queue, or better work of a peer. The one that
   * runs gives way to its equals when its slice is over, and to anyone when it has yielded.
   */
  #pick(pcpu: number, stays: VcpuRef | undefined, now: bigint): VcpuRef | undefined {
    const head = this.#firstAllowed(pcpu, pcpu);
    let best = head ?? stays;
    if (stays && head) {
      const sliceIsOver = now >= this.#pcpu(pcpu).sliceEndNs;
      const givesWay = sliceIsOver ? !goesBefore(stays, head) : head.v.priority > stays.v.priority;
      if (!givesWay && !this.#hasYielded(stays)) best = stays;
    }
    if (stays && best === stays && !this.#isAllowed(stays, pcpu)) best = head;
    if (best && best.v.priority > SchedPriority.over) return best;
    const { pool } = this.#pcpu(pcpu);
    for (let peer = 0; peer < this.#core.map.nrPcpus; peer++) {
      if (peer === pcpu || this.#pcpu(peer).pool !== pool) continue;
      const candidate = this.#firstAllowed(peer, pcpu);
      if (candidate && candidate.v.priority > (best?.v.priority ?? SchedPriority.idle)) best = candidate;
    }
    return best;
  }

  /** First in the queue of `queue` that may run on `pcpu` and is not still loaded elsewhere. */
  #firstAllowed(queue: number, pcpu: number): VcpuRef | undefined {
    for (let at = this.queues.head(queue); at; at = this.queues.next(at)) {
      if (this.#isAllowed(at, pcpu) && (at.v.isRunning === 0 || at.v.processor === pcpu)) return at;
    }
    return undefined;
  }

  #choosePcpu(vcpu: VcpuRef): number {
    const { processor } = vcpu.v;
    const allowed = (n: number): boolean => this.#isAllowed(vcpu, n);
    const idle = (n: number): boolean => this.#pcpu(n).running === 0 && this.queues.isEmpty(n);
    if (allowed(processor) && idle(processor)) return processor;
    // A vCPU whose registers are still in an engine stays until they are saved.
    if (vcpu.v.isRunning && allowed(processor)) return processor;
    for (let n = 0; n < this.#core.map.nrPcpus; n++) if (allowed(n) && idle(n)) return n;
    if (allowed(processor)) return processor;
    for (let n = 0; n < this.#core.map.nrPcpus; n++) if (allowed(n)) return n;
    return processor;
  }

  #move(vcpu: VcpuRef, target: number): void {
    if (vcpu.v.processor === target) return;
    vcpu.v.processor = target;
    this.#modules.vcpuMoved(vcpu);
  }

  /** Makes its pCPU look when it should run the newcomer; else an idle one that may take it. */
  #tickle(vcpu: VcpuRef): void {
    const { requests, table } = this.#modules;
    const target = vcpu.v.processor;
    const running = this.#pcpu(target).running;
    if (running === 0 || table.vcpuAt(running).v.priority < vcpu.v.priority) {
      if (target !== this.#core.pcpu || running !== 0) requests.post(target, PcpuRequest.reschedule);
      return;
    }
    for (let n = 0; n < this.#core.map.nrPcpus; n++)
      if (n !== target && this.#pcpu(n).running === 0 && this.#isAllowed(vcpu, n)) {
        requests.post(n, PcpuRequest.reschedule);
        return;
      }
  }

  #isCurrent(vcpu: VcpuRef): boolean {
    return this.#pcpu(vcpu.v.processor).running === vcpu.frame;
  }

  #setIdleRunstate(vcpu: VcpuRef, now: bigint): void {
    const { flags } = vcpu.v;
    const offline = (flags & VcpuFlag.down) !== 0 || vcpu.v.pauseCount !== 0 || !(flags & VcpuFlag.initialised);
    const blocked = (flags & VcpuFlag.blocked) !== 0 && !offline;
    setRunstate(this.#core, vcpu, blocked ? Runstate.blocked : Runstate.offline, now);
  }

  /** While all of a pool were idle nobody has earned anything: the first that runs begins a period. */
  #beginPeriod(first: PcpuView, now: bigint): void {
    const pool = this.pools.ofPcpu(first);
    if (!pool || pool.nrParked !== 0) return;
    const isIdle = (pcpu: PcpuView): boolean => pcpu === first || pcpu.running === 0 || pcpu.pool !== first.pool;
    if (this.#modules.pcpus.every(isIdle)) pool.accountDeadlineNs = now + ACCOUNT_NS;
  }

  /** Once a period, by whichever pCPU of the pool comes first. */
  #accounting(pcpu: PcpuView, now: bigint): void {
    const pool = this.pools.ofPcpu(pcpu);
    if (!pool || now < pool.accountDeadlineNs) return;
    const elapsed = Number(now - (pool.accountDeadlineNs - ACCOUNT_NS)) / Number(ACCOUNT_NS);
    pool.accountDeadlineNs = now + ACCOUNT_NS;
    const slot = pcpu.pool - 1;
    const claims: ShareClaim[] = [];
    const refs = new Map<VcpuView, VcpuRef>();
    this.#modules.table.forEach((domain) => {
      if (domain.v.poolSlot !== slot) return true;
      const active: VcpuView[] = [];
      this.#modules.table.forEachVcpu(domain, (vcpu) => {
        const { v } = vcpu;
        const busy = v.onRunq || this.#isCurrent(vcpu) || v.schedFlags & (SchedVcpuFlag.active | SchedVcpuFlag.parked);
        v.schedFlags &= ~SchedVcpuFlag.active;
        if (!busy) return;
        active.push(v);
        refs.set(v, vcpu);
      });
      if (active.length > 0) claims.push({ weight: domain.v.weight, cap: domain.v.cap, vcpus: active });
      return true;
    });
    const cpus = cpuList(pool.cpus);
    const { park, unpark } = account(claims, cpus.length, Math.min(elapsed, MAX_PERIODS));
    for (const cpu of cpus) this.queues.sort(cpu);
    for (const v of park) this.#park(pool, refs.get(v));
    for (const v of unpark) this.#unpark(pool, refs.get(v));
  }

  #park(pool: PoolView, vcpu: VcpuRef | undefined): void {
    if (!vcpu) return;
    vcpu.v.schedFlags |= SchedVcpuFlag.parked;
    pool.nrParked++;
    if (this.#isCurrent(vcpu)) this.#modules.requests.post(vcpu.v.processor, PcpuRequest.reschedule);
    else this.queues.remove(vcpu);
  }

  #unpark(pool: PoolView, vcpu: VcpuRef | undefined): void {
    if (!vcpu) return;
    vcpu.v.schedFlags &= ~SchedVcpuFlag.parked;
    pool.nrParked--;
    if (!this.#isCurrent(vcpu) && !vcpu.v.onRunq && this.isRunnable(vcpu)) {
      this.queues.insert(vcpu);
      this.#tickle(vcpu);
    }
  }

  #pcpu(n: number): PcpuView {
    const view = this.#modules.pcpus[n];
    if (!view) throw new RangeError(`pCPU ${n}`);
    return view;
  }
}

/** The pCPU that a vCPU begins on: those of a domain take the pool's in turn. */
function turnOf(vcpu: VcpuRef, cpus: bigint): number {
  const list = cpuList(cpus);
  return list[vcpu.vcpuId % list.length] ?? vcpu.v.processor;
}

export { CREDITS_PER_TSLICE };
