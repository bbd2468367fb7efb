/**
 * What a pCPU does all day: serve requests, let timers expire, pick a vCPU, run it for a short while without the lock,
 * deal with its exit with the lock held, sleep when there is nothing to run. One per worker thread.
 */
import { CPU_STATE_SIZE, ExitReason } from '@xenhost/cpu';
import type { Engine, Exit, ExitAnswer } from '@xenhost/cpu';
import { HeaderLayout, PcpuRequest, VCPU_CPU_STATE } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { DomainTable } from '../domain/table.ts';
import type { Lifecycle } from '../domain/lifecycle.ts';
import type { Pv } from '../pv/api.ts';
import type { PcpuView } from '../sched/runqueue.ts';
import type { Scheduler } from '../sched/scheduler.ts';
import type { Core } from '../state/core.ts';
import { spinFor } from '../state/spin.ts';
import type { Timers } from '../time/timers.ts';
import { refreshVcpuTime } from '../time/shared-time.ts';
import { COUNTER } from '../trace/counter-table.ts';
import { Sampler } from '../trace/sampler.ts';
import { updateRunstateArea } from '../vcpu/runstate.ts';
import { RunBudget } from './budget.ts';
import { IdlePoll } from './idle-poll.ts';
import type { PcpuRequests } from './requests.ts';

export interface PcpuLoopOptions {
  readonly pcpu: number;
}

export interface PcpuLoopModules {
  readonly core: Core;
  readonly engine: Engine;
  readonly pcpus: readonly PcpuView[];
  readonly table: DomainTable;
  readonly scheduler: Scheduler;
  readonly timers: Timers;
  readonly requests: PcpuRequests;
  readonly lifecycle: Lifecycle;
  readonly pv: Pv;
  /** This pCPU's trace buffer is half full. */
  traceFilling(): void;
  /** This pCPU has had nothing to do for a while, and no timer is due soon. */
  resting?(): void;
  /** A bug of ours met while a domain ran; the domain has been crashed. */
  reportBug(error: unknown, domid: number): void;
}

/** How long a pCPU steps back for the control plane: looking, and then asleep at most. */
const STEP_BACK_SPIN_NS = 50_000;
const STEP_BACK_MS = 1;
const NS_PER_MS = 1e6;
/** A pCPU that slept so long rests, unless a timer is due within `REST_NEEDS_MS`. */
const REST_AFTER_MS = 100;
const REST_NEEDS_MS = 60;
/** Exits that a run deals with at most, as their time is not in its budget. */
const MAX_FAST_EXITS = 32;
/** How long a vCPU spins before it rests between two tries, and how long it rests. */
const SPIN_NS = 50_000n;
const SPIN_REST_MS = 0.03;

export class PcpuLoop {
  readonly #pcpu: number;
  readonly #m: PcpuLoopModules;
  readonly #record: PcpuView;
  readonly #words: Int32Array;
  readonly #inGuest: number;
  readonly #controlWaiting: number;
  readonly #budget = new RunBudget();
  readonly #sampler: Sampler;
  readonly #idlePoll = new IdlePoll();
  #stopping = false;
  /** A `reschedule` request that the rate limit holds back. */
  #wantsPreemption = false;
  /** Whose guest code runs, and the exits that this run has dealt with. */
  #vcpu: VcpuRef | undefined;
  #fastExits = 0;
  /** Deadline of the runs that go on now. */
  #lookAt = 0n;

  constructor(options: PcpuLoopOptions, modules: PcpuLoopModules) {
    this.#pcpu = options.pcpu;
    this.#m = modules;
    const record = modules.pcpus[options.pcpu];
    if (!record) throw new RangeError(`pCPU ${options.pcpu}`);
    this.#record = record;
    this.#words = modules.core.memory.i32;
    this.#sampler = new Sampler(modules.core);
    this.#inGuest = modules.requests.word(options.pcpu, 'inGuest');
    this.#controlWaiting = (modules.core.map.header * PAGE_SIZE + HeaderLayout.offsets.controlWaiting) >>> 2;
    modules.engine.onExit = (exit) => this.#answer(exit);
  }

  /** Until a `stop` request. */
  run(): void {
    this.#m.core.lock.acquire();
    this.#record.online = 1;
    this.#record.idleSinceNs = this.#m.core.systemTimeNs();
    this.#m.core.lock.release();
    while (this.turn(true) !== 'stop');
  }

  /**
   * From one scheduling decision to the next, or one sleep (`mayWait`; without it an idle turn returns at once).
   * Takes and releases the lock.
   */
  turn(mayWait: boolean): 'ran' | 'idle' | 'stop' {
    const { core, scheduler, timers } = this.#m;
    this.#acquire();
    this.#serveRequests();
    if (this.#stopping) {
      this.#stop();
      return 'stop';
    }
    const now = core.systemTimeNs();
    timers.expire(this.#pcpu, now);
    const next = scheduler.schedule(this.#pcpu, now);
    // Whoever asked for another decision has it.
    this.#serveRequests();
    this.#wantsPreemption = false;
    core.counters.publish(core.lock, this.#m.engine.counters);
    if (core.tracer.takeFilling()) this.#m.traceFilling();
    if (!next) {
      this.#sampler.idle();
      this.#switchOut();
      this.#idle(mayWait);
      return 'idle';
    }
    if (this.#switchTo(next, now)) this.#runVcpu(next);
    core.lock.release();
    return 'ran';
  }

  /** Runs the vCPU until something else is to be decided. Lock held before and after, not while guest code runs. */
  #runVcpu(vcpu: VcpuRef): void {
    const { core, engine, pv, scheduler, timers } = this.#m;
    for (;;) {
      if (!this.#guarded(vcpu, () => pv.beforeEntry(vcpu, engine) === 'resume')) return;
      const leave = this.#runEngine(vcpu);
      this.#serveRequests();
      const goesOn = this.#guarded(vcpu, () => this.#handleExit(vcpu, leave()));
      const now = core.systemTimeNs();
      timers.expire(this.#pcpu, now);
      const ticked = scheduler.tick(this.#pcpu, now);
      this.#serveRequests();
      if (!goesOn || this.#stopping || !scheduler.mayContinue(vcpu, this.#pcpu, now)) return;
      if ((ticked || this.#wantsPreemption) && scheduler.shouldPreempt(vcpu, this.#pcpu, now)) return;
    }
  }

  /** Guest code until it leaves or must, the lock released meanwhile. The answer gives the exit, or throws what the engine threw. */
  #runEngine(vcpu: VcpuRef): () => ExitReason {
    const { core, engine } = this.#m;
    const sampleNs = core.tracer.on ? this.#sampler.beforeRun(vcpu, engine, core.systemTimeNs()) : this.#sampler.idle();
    const deadline = this.#deadline();
    let leave: () => ExitReason;
    Atomics.store(this.#words, this.#inGuest, 1);
    core.lock.release();
    try {
      const reason = this.#runUntil(vcpu, deadline, sampleNs);
      if (this.#sampler.drawn) this.#sampler.afterRun(vcpu, engine, reason, core.systemTimeNs());
      leave = () => reason;
    } catch (error) {
      leave = () => {
        throw error;
      };
    }
    Atomics.store(this.#words, this.#inGuest, 0);
    Atomics.notify(this.#words, this.#inGuest);
    this.#acquire();
    return leave;
  }

  /** Runs guest code until an exit that needs the lock, or until something waits. */
  #runGuest(vcpu: VcpuRef, budget: number): ExitReason {
    this.#vcpu = vcpu;
    this.#fastExits = 0;
    return this.#m.engine.run(budget);
  }
  /** An exit in the middle of a run: many need no lock. */
  #answer(exit: Exit): ExitAnswer {
    const { core, engine, pv, requests } = this.#m;
    const vcpu = this.#vcpu;
    if (!vcpu || core.tracer.on) return 'refuse';
    if (pv.fastExit(vcpu, engine)) core.counters.exit(vcpu, exit.reason, exit.vector);
    else {
      const answer = pv.isBrief(vcpu, engine) ? this.#answerLocked(vcpu, exit.reason) : 'refuse';
      if (answer !== 'resume') return answer;
    }
    if (requests.peek(this.#pcpu) !== 0 || pv.hasPending(vcpu)) return ExitReason.interruptWindow;
    return ++this.#fastExits < MAX_FAST_EXITS ? 'resume' : ExitReason.budget;
  }

  /**
   * Deals with an exit in the middle of a run, with the lock when it is free. This pCPU counts as out of guest code
   * meanwhile, as handlers take it to be; nobody waits for that, as who does has the lock.
   */
  #answerLocked(vcpu: VcpuRef, reason: ExitReason): ExitAnswer {
    const { core, scheduler } = this.#m;
    if (Atomics.load(this.#words, this.#controlWaiting) !== 0 || !core.lock.tryAcquire()) return 'refuse';
    Atomics.store(this.#words, this.#inGuest, 0);
    const goesOn = this.#guarded(vcpu, () => this.#handleExit(vcpu, reason)) && scheduler.isRunnable(vcpu);
    Atomics.store(this.#words, this.#inGuest, 1);
    core.lock.release();
    return goesOn && core.systemTimeNs() < this.#lookAt ? 'resume' : ExitReason.interruptWindow;
  }

  /** System time at which timers or the scheduler are to be looked at again, whatever the guest does. */
  #deadline(): bigint {
    const { nextTimerNs, nextTickNs, sliceEndNs } = this.#record;
    const sched = earliest(nextTickNs, sliceEndNs);
    const preempt = this.#wantsPreemption ? this.#m.scheduler.preemptibleAt(this.#pcpu) : 0n;
    return earliest(earliest(nextTimerNs, sched), preempt);
  }

  /**
   * Runs of the engine, one after the other, while nobody asks this pCPU for anything and neither the deadline nor the
   * time of a sample (0n: none) has come.
   */
  #runUntil(vcpu: VcpuRef, deadline: bigint, sampleNs: bigint): ExitReason {
    const { core, requests } = this.#m;
    this.#lookAt = deadline;
    let now = core.systemTimeNs();
    let spinsSince = 0n;
    for (;;) {
      const whole = this.#budget.next(deadline, now);
      const budget = sampleNs === 0n ? whole : Math.min(whole, this.#budget.within(sampleNs - now));
      const reason = this.#runGuest(vcpu, budget);
      // Who deals with an exit looks at the clock then.
      if (reason !== ExitReason.budget && reason !== ExitReason.pause) return reason;
      const started = now;
      now = core.systemTimeNs();
      if (reason === ExitReason.budget) {
        // One that ended for the number of its exits has not used it up.
        if (this.#fastExits < MAX_FAST_EXITS) this.#budget.used(budget, now - started);
        spinsSince = 0n;
      } else if (this.#othersWait()) return reason;
      if (requests.peek(this.#pcpu) !== 0 || now >= deadline || (sampleNs !== 0n && now >= sampleNs)) return reason;
      if (reason !== ExitReason.pause) continue;
      // A guest that spins does not trouble the lock for it: whom it waits for may need the lock.
      if (spinsSince === 0n) spinsSince = started;
      else if (now - spinsSince >= SPIN_NS) this.#rest();
    }
  }

  /** Another vCPU could run here: perhaps the one that is waited for. A look without the lock: wrong is no harm. */
  #othersWait(): boolean {
    return this.#record.runqHead !== 0;
  }

  /**
   * Lets the operating system run the pCPU that a spinning vCPU waits for, should this machine have fewer cores to give
   * than pCPUs. Ends early when this pCPU is asked for something.
   */
  #rest(): void {
    const wake = this.#m.requests.word(this.#pcpu, 'wake');
    const seen = Atomics.load(this.#words, wake);
    if (this.#m.requests.peek(this.#pcpu) === 0) this.#sleep(wake, seen, SPIN_REST_MS);
  }

  /** False when the domain was crashed. */
  #handleExit(vcpu: VcpuRef, reason: ExitReason): boolean {
    const { core, engine, pv, lifecycle, scheduler, table } = this.#m;
    core.counters.exit(vcpu, reason, engine.exit.vector);
    switch (reason) {
      case ExitReason.budget:
      case ExitReason.interruptWindow:
        return true;
      case ExitReason.pause:
        if (!scheduler.queues.isEmpty(this.#pcpu)) scheduler.yield(vcpu);
        return true;
      case ExitReason.exception:
      case ExitReason.softwareInterrupt:
      case ExitReason.syscall:
      case ExitReason.sysenter:
      case ExitReason.hypercall:
        return pv.handleExit(vcpu, engine, engine.exit) === 'resume';
      default:
        lifecycle.crash(table.domainOf(vcpu), `unexpected exit ${reason} of a PV guest`, vcpu, engine);
        return false;
    }
  }

  /** A bug of ours in the handling of a guest costs that guest its life, not the host. */
  #guarded(vcpu: VcpuRef, body: () => boolean): boolean {
    try {
      return body();
    } catch (error) {
      this.#m.reportBug(error, vcpu.domid);
      const text = error instanceof Error ? error.message : String(error);
      this.#m.lifecycle.crash(this.#m.table.domainOf(vcpu), `hypervisor bug: ${text}`, vcpu, this.#m.engine);
      return false;
    }
  }

  /** Takes the registers back from the engine, when it holds those of a vCPU that is on this pCPU. */
  #switchOut(): void {
    const vcpu = this.#loaded();
    // One that this engine held last may run on another pCPU by now.
    if (!vcpu?.v.isRunning || !this.#isLoadedHere(vcpu)) return;
    const { core, engine, pv, lifecycle } = this.#m;
    pv.switchingOut(vcpu, engine);
    engine.save(stateOf(core, vcpu));
    vcpu.v.isRunning = 0;
    const domain = this.#domain(vcpu);
    updateRunstateArea(core, domain, vcpu);
    const word = (core.map.header * PAGE_SIZE + HeaderLayout.offsets.descheduled) >>> 2;
    Atomics.add(this.#words, word, 1);
    Atomics.notify(this.#words, word);
    lifecycle.completeShutdown(domain);
  }

  /** Puts the registers into the engine unless they are still there. False when the guest could not go on. */
  #switchTo(next: VcpuRef, now: bigint): boolean {
    const { core, engine, pv, timers } = this.#m;
    const sameState = this.#record.current === next.frame && this.#isLoadedHere(next);
    if (!sameState) {
      this.#switchOut();
      engine.load(stateOf(core, next), next.frame, next.v.translationsOn === this.#pcpu + 1);
      next.v.translationsOn = this.#pcpu + 1;
      core.counters.count(COUNTER.contextSwitches);
      this.#record.current = next.frame;
      next.v.loadedOn = this.#pcpu + 1;
    }
    const resumed = !next.v.isRunning;
    next.v.isRunning = 1;
    timers.entering(next, now);
    if (resumed) {
      refreshVcpuTime(core, next);
      updateRunstateArea(core, this.#domain(next), next);
    }
    return sameState || this.#guarded(next, () => pv.switchedIn(next, engine) === 'resume');
  }

  #isLoadedHere(vcpu: VcpuRef): boolean {
    return vcpu.v.loadedOn === this.#pcpu + 1;
  }

  #loaded(): VcpuRef | undefined {
    return this.#record.current === 0 ? undefined : this.#m.table.vcpuAt(this.#record.current);
  }

  #domain(vcpu: VcpuRef): DomainRef {
    return this.#m.table.domainOf(vcpu);
  }

  #serveRequests(): void {
    const bits = this.#m.requests.take(this.#pcpu);
    if (bits === 0) return;
    this.#m.requests.serve(this.#m.engine, this.#pcpu, bits);
    if (bits & PcpuRequest.stop) this.#stopping = true;
    if (bits & PcpuRequest.reschedule) this.#wantsPreemption = true;
  }

  #stop(): void {
    const { core, scheduler } = this.#m;
    if (this.#record.running !== 0) {
      const vcpu = this.#m.table.vcpuAt(this.#record.running);
      this.#record.running = 0;
      scheduler.sleep(vcpu);
    }
    this.#switchOut();
    this.#record.online = 0;
    core.lock.release();
  }

  /** Releases the lock and waits until a request, a wake or the next timer: awake for a little while, then asleep. */
  #idle(mayWait: boolean): void {
    const { core, requests, scheduler } = this.#m;
    const wake = requests.word(this.#pcpu, 'wake');
    const seen = Atomics.load(this.#words, wake);
    const deadline = earliest(this.#record.nextTimerNs, scheduler.idleDeadline(this.#pcpu));
    core.lock.release();
    if (!mayWait) return;
    const started = core.systemTimeNs();
    const until = deadline === 0n ? undefined : deadline;
    const isAsked = (): boolean => Atomics.load(this.#words, wake) !== seen;
    if (!this.#idlePoll.poll(() => core.systemTimeNs(), until, isAsked)) {
      const left = (): number => (until === undefined ? Infinity : Number(until - core.systemTimeNs()) / NS_PER_MS);
      if (left() > 0 && this.#rested(wake, seen, left())) this.#sleep(wake, seen, Math.max(0, left()));
    }
    this.#idlePoll.waited(core.systemTimeNs() - started);
  }

  /** The first part of a sleep of `ms`, if it is a long one. False when it has ended. */
  #rested(wake: number, seen: number, ms: number): boolean {
    if (!this.#m.resting || ms < REST_AFTER_MS + REST_NEEDS_MS) return true;
    if (!this.#sleep(wake, seen, REST_AFTER_MS)) return false;
    this.#m.resting();
    return true;
  }

  /** Until somebody raises the wake word beyond `seen`; true when nobody did. */
  #sleep(wake: number, seen: number, ms: number): boolean {
    const sleeping = this.#m.requests.word(this.#pcpu, 'sleeping');
    Atomics.store(this.#words, sleeping, 1);
    const ended = Atomics.wait(this.#words, wake, seen, ms);
    Atomics.store(this.#words, sleeping, 0);
    return ended === 'timed-out';
  }

  /** The control plane goes first: its few requests must not starve behind busy pCPUs. */
  #acquire(): void {
    const { core } = this.#m;
    const waiting = this.#controlWaiting;
    const isOver = (): boolean => Atomics.load(this.#words, waiting) === 0;
    if (!isOver() && !spinFor(STEP_BACK_SPIN_NS, isOver)) Atomics.wait(this.#words, waiting, 1, STEP_BACK_MS);
    core.lock.acquire();
  }
}

const earliest = (a: bigint, b: bigint): bigint => (a === 0n ? b : b === 0n || a < b ? a : b);

/** The saved engine state in a vCPU's record. */
export function stateOf(core: Core, vcpu: VcpuRef): Uint8Array {
  const at = vcpu.address + VCPU_CPU_STATE;
  return core.memory.u8.subarray(at, at + CPU_STATE_SIZE);
}
