/** Sysctls about CPU pools and their schedulers (`xen/common/sched/cpupool.c`, `sched_adjust_global`). */
import { Errno } from '@xenhost/base';
import {
  CpupoolOp, SysctlCpupoolOp, SysctlSchedop, SysctlSchedulerOp, XEN_SYSCTL_CPUPOOL_PAR_ANY, XenScheduler,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { PoolView } from '../sched/pool-table.ts';
import { bitmapAt } from './request.ts';
import type { SysctlContext, SysctlResult } from './sysctl.ts';

const MIN_TSLICE_MS = 1;
const MAX_TSLICE_MS = 1000;
const MIN_RATELIMIT_US = 100;
const MAX_RATELIMIT_US = 500_000;

/** A pool or pCPU number, undefined for "any". */
const orAny = (n: number): number | undefined => (n === XEN_SYSCTL_CPUPOOL_PAR_ANY ? undefined : n);

export const SCHED_HANDLERS = {
  /** Parameters of one pool's credit scheduler. */
  scheduler_op: ({ m, request }) => {
    const u = request.u(SysctlSchedulerOp);
    if (u.cmd !== SysctlSchedop.putinfo && u.cmd !== SysctlSchedop.getinfo) return -Errno.EINVAL;
    const pool = m.pools.find(u.cpupool_id);
    if (!pool) return -Errno.ESRCH;
    if (u.sched_id !== XenScheduler.CREDIT) return -Errno.EINVAL;
    if (u.cmd === SysctlSchedop.putinfo) {
      const { tslice_ms, ratelimit_us } = u;
      const valid = tslice_ms >= MIN_TSLICE_MS && tslice_ms <= MAX_TSLICE_MS && isRatelimit(ratelimit_us);
      if (!valid || ratelimit_us > tslice_ms * 1000) return -Errno.EINVAL;
      pool.timesliceUs = tslice_ms * 1000;
      pool.ratelimitUs = ratelimit_us;
    }
    u.tslice_ms = Math.round(pool.timesliceUs / 1000);
    u.ratelimit_us = pool.ratelimitUs;
    u.vcpu_migr_delay_us = 0;
    return 'copyBack';
  },

  cpupool_op: (context) => {
    const { m, request } = context;
    const u = request.u(SysctlCpupoolOp);
    const map = bitmapAt(request, SysctlCpupoolOp.offsets.cpumap);
    switch (u.op) {
      case CpupoolOp.CREATE: {
        // As a Xen that was built with one scheduler.
        if (u.sched_id !== XenScheduler.CREDIT) return -Errno.ENOENT;
        const made = m.pools.create(orAny(u.cpupool_id));
        if (made < 0) return made;
        u.cpupool_id = made;
        return 'copyBack';
      }
      case CpupoolOp.DESTROY:
        return m.pools.destroy(u.cpupool_id);
      case CpupoolOp.INFO: {
        const pool = m.pools.atOrAfter(u.cpupool_id);
        if (!pool) return -Errno.ENOENT;
        u.cpupool_id = pool.poolId;
        u.sched_id = XenScheduler.CREDIT;
        u.n_dom = pool.nrDomains;
        return request.writeBitmap(map, pool.cpus, m.core.map.nrPcpus) ? 'copyBack' : -Errno.EFAULT;
      }
      case CpupoolOp.ADDCPU:
        return m.pools.addCpu(u.cpupool_id, orAny(u.cpu));
      case CpupoolOp.RMCPU:
        return removeCpu(context, u.cpupool_id, orAny(u.cpu));
      case CpupoolOp.MOVEDOMAIN:
        return moveDomain(context, u.cpupool_id, u.domid);
      case CpupoolOp.FREEINFO:
        return request.writeBitmap(map, m.pools.free(), m.core.map.nrPcpus) ? 'copyBack' : -Errno.EFAULT;
      default:
        return -Errno.ENOSYS;
    }
  },
} satisfies Record<string, (context: SysctlContext) => SysctlResult>;

const isRatelimit = (us: number): boolean => us === 0 || (us >= MIN_RATELIMIT_US && us <= MAX_RATELIMIT_US);

/** Answers when nothing runs there any more. */
function removeCpu({ m, call }: SysctlContext, poolId: number, cpu: number | undefined): SysctlResult {
  if (!m.pauses.holds(call.args)) {
    const result = m.pools.removeCpu(poolId, cpu);
    if (typeof result === 'number') return result;
    m.pauses.hold(call.args);
  }
  const busy = m.pools.runsOnLeaving();
  return busy ? m.pauses.wait(busy) : 0;
}

/** With the domain paused. What is asked is looked at before it is, and again then. */
function moveDomain({ m, call }: SysctlContext, poolId: number, domid: number): SysctlResult {
  const domain = m.lifecycle.lookup(domid);
  if (!domain) return -Errno.ESRCH;
  if (domain.domid === call.domid) return -Errno.EPERM;
  const isIn = (pool: PoolView): boolean => m.scheduler.pools.ofDomain(domain) === pool;
  const target = (): PoolView | undefined => {
    const pool = m.pools.find(poolId);
    return pool && (pool.cpus !== 0n || isIn(pool)) ? pool : undefined;
  };
  const first = target();
  if (!m.pauses.holds(call.args) && (!first || isIn(first))) return first ? 0 : -Errno.ENOENT;
  return m.pauses.paused(call.args, domain, () => {
    const pool = target();
    if (!pool) return -Errno.ENOENT;
    if (!isIn(pool)) m.pools.moveDomain(domain, pool);
    return 0;
  });
}
