/**
 * What the toolstack does to CPU pools: pCPUs come and go, domains move. Answers to `xen/common/sched/cpupool.c`. Called
 * with the hypervisor lock held, on the control plane.
 */
import { Errno } from '@xenhost/base';
import type { DomainTable } from '../domain/table.ts';
import type { Core } from '../state/core.ts';
import { DomainFlag, PcpuRequest } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import type { PcpuRequests } from '../pcpu/requests.ts';
import { cpuBit, cpuList, hasCpu, POOL_0 } from './pool-table.ts';
import type { PoolView } from './pool-table.ts';
import type { PcpuView } from './runqueue.ts';
import type { Scheduler } from './scheduler.ts';

/** A boot's pCPU stays in Pool-0. */
const BOOT_PCPU = 0;

export interface CpuPoolModules {
  readonly pcpus: readonly PcpuView[];
  readonly table: DomainTable;
  readonly scheduler: Scheduler;
  readonly requests: PcpuRequests;
}

export class CpuPools {
  readonly #core: Core;
  readonly #m: CpuPoolModules;

  constructor(core: Core, modules: CpuPoolModules) {
    this.#core = core;
    this.#m = modules;
  }

  find(poolId: number): PoolView | undefined {
    return this.#m.scheduler.pools.find(poolId);
  }

  /** The pool of that id or, when there is none, of the next higher one. */
  atOrAfter(poolId: number): PoolView | undefined {
    return this.#m.scheduler.pools.all().find((pool) => pool.poolId >= poolId);
  }

  /** pCPUs in no pool. */
  free(): bigint {
    const leaving = this.#leaving();
    return this.#m.pcpus.reduce((free, { pool }, cpu) => (pool || cpu === leaving ? free : free | cpuBit(cpu)), 0n);
  }

  /** The new pool's id, or -errno. Without an id the next free one. */
  create(poolId: number | undefined): number {
    const made = this.#m.scheduler.pools.create(poolId);
    return typeof made === 'number' ? made : made.poolId;
  }

  destroy(poolId: number): number {
    const pool = this.find(poolId);
    if (!pool) return -Errno.ENOENT;
    if (pool.nrDomains !== 0 || pool.cpus !== 0n) return -Errno.EBUSY;
    pool.used = 0;
    return 0;
  }

  /** Gives the pool a pCPU that is in none; any when `cpu` is undefined. */
  addCpu(poolId: number, cpu: number | undefined): number {
    const pool = this.find(poolId);
    if (!pool) return -Errno.ENOENT;
    const free = this.free();
    const chosen = cpu ?? cpuList(free)[0];
    if (chosen === undefined) return -Errno.ENODEV;
    const record = this.#m.pcpus[chosen];
    if (!record) return -Errno.EINVAL;
    if (chosen === this.#leaving()) return -Errno.EADDRNOTAVAIL;
    if (!hasCpu(free, chosen)) return -Errno.ENODEV;
    record.pool = this.#m.scheduler.pools.slotOf(pool) + 1;
    pool.cpus |= cpuBit(chosen);
    this.#cpusChanged(pool);
    this.#m.requests.post(chosen, PcpuRequest.reschedule);
    return 0;
  }

  /**
   * Takes a pCPU out of its pool, the last when `cpu` is undefined: 0, -errno, or a domain that still runs on it, which
   * has been told to leave; `hasLeft` says when it is gone.
   */
  removeCpu(poolId: number, cpu: number | undefined): number | DomainRef {
    const pool = this.find(poolId);
    if (!pool) return -Errno.ENOENT;
    const chosen = cpu ?? cpuList(pool.cpus).at(-1);
    const record = chosen === undefined ? undefined : this.#m.pcpus[chosen];
    if (chosen === undefined || !record || (poolId === POOL_0 && chosen === BOOT_PCPU)) return -Errno.EINVAL;
    if (this.#leaving() !== undefined || !hasCpu(pool.cpus, chosen)) return -Errno.EADDRNOTAVAIL;
    if (pool.cpus === cpuBit(chosen) && !this.#isDeserted(pool)) return -Errno.EBUSY;
    record.pool = 0;
    pool.cpus &= ~cpuBit(chosen);
    this.#core.header.movingPcpu = chosen + 1;
    this.#cpusChanged(pool);
    return this.runsOnLeaving() ?? 0;
  }

  /** The domain that the pCPU which leaves its pool still runs; undefined when none does or none leaves. */
  runsOnLeaving(): DomainRef | undefined {
    const leaving = this.#leaving();
    return leaving === undefined ? undefined : this.#runs(leaving);
  }

  /** Puts a domain that is off its pCPUs into another pool. */
  moveDomain(domain: DomainRef, pool: PoolView): void {
    this.#m.scheduler.moveDomain(domain, this.#m.scheduler.pools.slotOf(pool));
  }

  /** The pCPU that still has to leave its pool. */
  #leaving(): number | undefined {
    const { header } = this.#core;
    if (header.movingPcpu === 0) return undefined;
    const cpu = header.movingPcpu - 1;
    if (this.#runs(cpu)) return cpu;
    header.movingPcpu = 0;
    return undefined;
  }

  #runs(cpu: number): DomainRef | undefined {
    const running = this.#m.pcpus[cpu]?.running ?? 0;
    return running === 0 ? undefined : this.#m.table.domainOf(this.#m.table.vcpuAt(running));
  }

  /** True when only dead domains are in it; they go to Pool-0 then. */
  #isDeserted(pool: PoolView): boolean {
    const { scheduler } = this.#m;
    const domains = this.#domainsOf(pool);
    if (domains.some((domain) => !(domain.v.flags & DomainFlag.dying))) return false;
    for (const domain of domains) scheduler.moveDomain(domain, 0);
    return true;
  }

  /** All vCPUs of a pool go where they may run now; those pinned to what is there no more may run anywhere. */
  #cpusChanged(pool: PoolView): void {
    const { scheduler, table } = this.#m;
    for (const domain of this.#domainsOf(pool))
      table.forEachVcpu(domain, (vcpu) => {
        if ((vcpu.v.affinity & pool.cpus) === 0n) vcpu.v.affinity = scheduler.anyCpu;
        scheduler.affinityChanged(vcpu);
      });
  }

  #domainsOf(pool: PoolView): DomainRef[] {
    const slot = this.#m.scheduler.pools.slotOf(pool);
    const domains: DomainRef[] = [];
    this.#m.table.forEach((domain) => {
      if (domain.v.poolSlot === slot) domains.push(domain);
      return true;
    });
    return domains;
  }
}
