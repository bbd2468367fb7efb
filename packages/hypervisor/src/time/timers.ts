/**
 * Timers of vCPUs and domains: single-shot and periodic ones (VIRQ_TIMER), poll timeouts, the domain watchdog. Deadlines
 * are system times in the records; each pCPU knows the next one among its vCPUs. Called with the hypervisor lock held.
 */
import { Shutdown, VIRQ } from '@xenhost/xen-abi';
import type { DomainTable } from '../domain/table.ts';
import type { PcpuView } from '../sched/runqueue.ts';
import type { Core } from '../state/core.ts';
import { DomainLayout, VcpuFlag } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

/** Period of the tick that a PV vCPU starts with. */
export const INITIAL_PERIOD_NS = 10_000_000n;
/** Shortest period a guest may ask for. */
export const MIN_PERIOD_NS = 1_000_000n;
export const NR_WATCHDOGS = 2;

export interface TimerModules {
  readonly pcpus: readonly PcpuView[];
  readonly table: DomainTable;
  raiseVirq(vcpu: VcpuRef, virq: number): void;
  /** Ends a block or poll. */
  kick(vcpu: VcpuRef): void;
  shutdown(domain: DomainRef, reason: number): void;
  wakePcpu(pcpu: number): void;
}

export class Timers {
  readonly #core: Core;
  readonly #modules: TimerModules;

  constructor(core: Core, modules: TimerModules) {
    this.#core = core;
    this.#modules = modules;
  }

  /** VIRQ_TIMER at `deadline`; 0n cancels. One that is past is raised at the next look. */
  setSingleshot(vcpu: VcpuRef, deadline: bigint): void {
    vcpu.v.timerDeadlineNs = deadline;
    this.#arm(vcpu, deadline);
  }

  setPeriodic(vcpu: VcpuRef, periodNs: bigint): void {
    vcpu.v.periodicPeriodNs = periodNs;
    vcpu.v.periodicDeadlineNs = periodNs === 0n ? 0n : this.#core.systemTimeNs() + periodNs;
    this.#arm(vcpu, vcpu.v.periodicDeadlineNs);
  }

  setPoll(vcpu: VcpuRef, deadline: bigint): void {
    vcpu.v.pollDeadlineNs = deadline;
    this.#arm(vcpu, deadline);
  }

  setWatchdog(domain: DomainRef, index: number, deadline: bigint): void {
    this.#core.memory.u64[watchdogIndex(domain, index)] = deadline;
    const vcpu = this.#modules.table.vcpu(domain, 0);
    if (vcpu) this.#arm(vcpu, deadline);
  }

  watchdog(domain: DomainRef, index: number): bigint {
    return this.#core.memory.u64[watchdogIndex(domain, index)] ?? 0n;
  }

  /** A vCPU is about to run: its periodic timer, which stands still while it does not, goes on. */
  entering(vcpu: VcpuRef, now: bigint): void {
    const { v } = vcpu;
    if (v.periodicPeriodNs === 0n) return;
    if (v.periodicDeadlineNs === 0n) v.periodicDeadlineNs = now + v.periodicPeriodNs;
    this.#arm(vcpu, v.periodicDeadlineNs);
  }

  /** It came to another pCPU. */
  moved(vcpu: VcpuRef): void {
    this.#arm(vcpu, vcpu.v.timerDeadlineNs);
    this.#arm(vcpu, vcpu.v.pollDeadlineNs);
    if (vcpu.vcpuId === 0) {
      const domain = this.#modules.table.lookup(vcpu.domid);
      if (domain) for (let i = 0; i < NR_WATCHDOGS; i++) this.#arm(vcpu, this.watchdog(domain, i));
    }
  }

  /** Raises what is due on this pCPU and computes when to look next. */
  expire(pcpu: number, now: bigint): void {
    const record = this.#modules.pcpus[pcpu];
    if (!record || record.nextTimerNs === 0n || record.nextTimerNs > now) return;
    let next = 0n;
    const consider = (deadline: bigint): void => {
      if (deadline !== 0n && (next === 0n || deadline < next)) next = deadline;
    };
    record.nextTimerNs = 0n;
    const { table } = this.#modules;
    table.forEach((domain) => {
      const first = table.vcpu(domain, 0);
      if (first?.v.processor === pcpu)
        for (let i = 0; i < NR_WATCHDOGS; i++) {
          const deadline = this.watchdog(domain, i);
          if (deadline !== 0n && deadline <= now) this.#bark(domain);
          else consider(deadline);
        }
      table.forEachVcpu(domain, (vcpu) => {
        if (vcpu.v.processor !== pcpu) return;
        this.#expireVcpu(vcpu, now, record.running === vcpu.frame);
        consider(vcpu.v.timerDeadlineNs);
        consider(vcpu.v.pollDeadlineNs);
        if (record.running === vcpu.frame) consider(vcpu.v.periodicDeadlineNs);
      });
      return true;
    });
    // Handlers may have armed timers meanwhile.
    consider(record.nextTimerNs);
    record.nextTimerNs = next;
  }

  #expireVcpu(vcpu: VcpuRef, now: bigint, running: boolean): void {
    const { v } = vcpu;
    if (v.timerDeadlineNs !== 0n && v.timerDeadlineNs <= now) {
      v.timerDeadlineNs = 0n;
      this.#modules.raiseVirq(vcpu, VIRQ.TIMER);
    }
    if (running && v.periodicDeadlineNs !== 0n && v.periodicDeadlineNs <= now) {
      const missed = (now - v.periodicDeadlineNs) / v.periodicPeriodNs;
      v.periodicDeadlineNs += (missed + 1n) * v.periodicPeriodNs;
      this.#modules.raiseVirq(vcpu, VIRQ.TIMER);
    }
    if (v.pollDeadlineNs !== 0n && v.pollDeadlineNs <= now) {
      v.pollDeadlineNs = 0n;
      if (v.flags & VcpuFlag.polling) this.#modules.kick(vcpu);
    }
  }

  #bark(domain: DomainRef): void {
    for (let i = 0; i < NR_WATCHDOGS; i++) this.#core.memory.u64[watchdogIndex(domain, i)] = 0n;
    this.#modules.shutdown(domain, Shutdown.watchdog);
  }

  #arm(vcpu: VcpuRef, deadline: bigint): void {
    if (deadline === 0n) return;
    const { processor } = vcpu.v;
    const record = this.#modules.pcpus[processor];
    if (!record || (record.nextTimerNs !== 0n && record.nextTimerNs <= deadline)) return;
    record.nextTimerNs = deadline;
    if (processor !== this.#core.pcpu) this.#modules.wakePcpu(processor);
  }
}

const watchdogIndex = (domain: DomainRef, i: number): number =>
  (domain.address + DomainLayout.offsets.watchdogNs) / 8 + i;
