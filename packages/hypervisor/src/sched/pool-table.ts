/**
 * The CPU pools of the host: records in machine memory, found by id, by pCPU or by domain. What is done to them is in
 * `cpupools.ts`. Called with the hypervisor lock held.
 */
import type { View } from '@xenhost/base';
import { Errno } from '@xenhost/base';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { Core } from '../state/core.ts';
import { POOL_RECORD_SIZE } from '../state/memory-map.ts';
import { PoolLayout } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { DEFAULT_RATELIMIT_US, TSLICE_MS } from './credit.ts';
import type { PcpuView } from './runqueue.ts';

export type PoolView = View<(typeof PoolLayout)['fields']>;

/** The pool that every pCPU is in when the host starts, and Domain-0 always. */
export const POOL_0 = 0;
/** CPUPOOLID_NONE of `xen/sched.h`: no pool has this id. */
const NO_POOL = 0xffff_ffff;

export const hasCpu = (cpus: bigint, cpu: number): boolean => ((cpus >> BigInt(cpu)) & 1n) !== 0n;
export const cpuBit = (cpu: number): bigint => 1n << BigInt(cpu);

/** Numbers of the pCPUs in a set, in order. */
export function cpuList(cpus: bigint): number[] {
  const list: number[] = [];
  for (let cpu = 0, rest = cpus; rest !== 0n; cpu++, rest >>= 1n) if (rest & 1n) list.push(cpu);
  return list;
}

export class PoolTable {
  /** By slot; those with `used` 0 are free. */
  readonly slots: readonly PoolView[];

  constructor(core: Core) {
    this.slots = Array.from({ length: core.map.maxPools }, (_, slot) =>
      PoolLayout.view(core.memory, core.map.pools * PAGE_SIZE + slot * POOL_RECORD_SIZE),
    );
  }

  /** The pool of a pCPU; undefined while it is in none. */
  ofPcpu(pcpu: PcpuView): PoolView | undefined {
    return pcpu.pool === 0 ? undefined : this.slots[pcpu.pool - 1];
  }

  ofDomain(domain: DomainRef): PoolView {
    const pool = this.slots[domain.v.poolSlot];
    if (!pool) throw new RangeError(`pool slot ${domain.v.poolSlot} of domain ${domain.domid}`);
    return pool;
  }

  /** Pools in order of their ids. */
  all(): PoolView[] {
    return this.slots.filter((pool) => pool.used !== 0).sort((a, b) => a.poolId - b.poolId);
  }

  find(poolId: number): PoolView | undefined {
    return this.slots.find((pool) => pool.used !== 0 && pool.poolId === poolId);
  }

  slotOf(pool: PoolView): number {
    return this.slots.indexOf(pool);
  }

  /** Slot of the pool that a new domain may be put into, or -errno. */
  slotForDomain(poolId: number): number {
    const pool = this.find(poolId);
    if (!pool) return -Errno.ESRCH;
    return pool.cpus === 0n ? -Errno.ENODEV : this.slotOf(pool);
  }

  /** A pool without pCPUs, of that id or the next free one; or -errno. */
  create(poolId: number | undefined): PoolView | number {
    const slot = this.slots.find((pool) => pool.used === 0);
    if (!slot) return -Errno.ENOSPC;
    const id = poolId ?? this.#nextId();
    if (this.find(id)) return -Errno.EEXIST;
    Object.assign(slot, {
      used: 1, poolId: id, cpus: 0n, nrDomains: 0, nrParked: 0, accountDeadlineNs: 0n,
      timesliceUs: TSLICE_MS * 1000, ratelimitUs: DEFAULT_RATELIMIT_US,
    }); // prettier-ignore
    return slot;
  }

  /** Beyond the highest, as Xen gives them; the first that is free when there is nothing beyond. */
  #nextId(): number {
    const ids = this.all().map((pool) => pool.poolId);
    const next = (ids.at(-1) ?? POOL_0) + 1;
    if (next !== NO_POOL) return next;
    const before = ids.find((id, i) => ids[i + 1] !== id + 1) ?? POOL_0;
    return before + 1;
  }
}
