/**
 * Calls of Xen 4.4's tools for things that later hypervisors, or hosts without the hardware, do not have: they go to the
 * hypervisor as they did then, and its answer is the answer (`xc_sedf.c`, `xc_csched2.c`, `xc_tmem.c`, `xc_domain.c`).
 */
import { array, layout } from '@xenhost/base';
import {
  Domctl, DomctlSchedop, DomctlSchedulerOp, DomctlShadowOp, Sysctl, XenScheduler,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { Xenctrl } from '../api.ts';
import type { Caller } from '../caller.ts';

const SCHEDULER_SEDF = 4;
const DomctlSedfOp = layout('xen_domctl_scheduler_op of sedf', {
  sched_id: 'u32',
  cmd: 'u32',
  period: 'u64',
  slice: 'u64',
  latency: 'u64',
  extratime: 'u32',
  weight: 'u32',
});
const DomctlIoportPermission = layout('xen_domctl_ioport_permission', {
  first_port: 'u32',
  nr_ports: 'u32',
  allow_access: 'u8',
  pad: array('u8', 3),
});
/** `sysctl.h` of 4.6 to 4.12. */
const SysctlTmemOp = layout('xen_sysctl_tmem_op', {
  cmd: 'u32',
  pool_id: 'i32',
  cli_id: 'u32',
  len: 'u32',
  arg: 'u32',
  arg2: 'u32',
});

export const oldCalls = (caller: Caller) => {
  const credit2 = async (domid: number, cmd: number, weight: number): Promise<{ weight: number }> => {
    const operation = `xc_sched_credit2_domain_${cmd === DomctlSchedop.putinfo ? 'set' : 'get'} of domain ${domid}`;
    const init = { sched_id: XenScheduler.CREDIT2, cmd, weight };
    return {
      weight: (await caller.domctl(operation, Domctl.scheduler_op, domid, DomctlSchedulerOp, init)).view.weight,
    };
  };
  return {
    schedCredit2DomainGet: (domid) => credit2(domid, DomctlSchedop.getinfo, 0),
    async schedCredit2DomainSet(domid, weight) {
      await credit2(domid, DomctlSchedop.putinfo, weight);
    },
    async sedfDomainGet(domid) {
      const init = { sched_id: SCHEDULER_SEDF, cmd: DomctlSchedop.getinfo };
      const { view } = await caller.domctl(
        `xc_sedf_domain_get of domain ${domid}`,
        Domctl.scheduler_op,
        domid,
        DomctlSedfOp,
        init,
      );
      const { period, slice, latency, extratime, weight } = view;
      return { period: Number(period), slice: Number(slice), latency: Number(latency), extratime, weight };
    },
    async sedfDomainSet(domid, { period, slice, latency, extratime, weight }) {
      await caller.domctl(`xc_sedf_domain_set of domain ${domid}`, Domctl.scheduler_op, domid, DomctlSedfOp, {
        sched_id: SCHEDULER_SEDF, cmd: DomctlSchedop.putinfo, extratime, weight,
        period: BigInt(period), slice: BigInt(slice), latency: BigInt(latency),
      }); // prettier-ignore
    },
    async shadowControl(domid, op, mb = 0) {
      const operation = `xc_shadow_control ${op} of domain ${domid}`;
      return (await caller.domctl(operation, Domctl.shadow_op, domid, DomctlShadowOp, { op, mb })).view.mb;
    },
    async domainIoportPermission(domid, firstPort, nrPorts, allow) {
      await caller.domctl(
        `xc_domain_ioport_permission of domain ${domid}`,
        Domctl.ioport_permission,
        domid,
        DomctlIoportPermission,
        { first_port: firstPort, nr_ports: nrPorts, allow_access: Number(allow) },
      );
    },
    async tmemControl(subop, cliId, arg1 = 0, arg2 = 0) {
      const init = { cmd: subop, pool_id: -1, cli_id: cliId >>> 0, arg: arg1 >>> 0, arg2: arg2 >>> 0 };
      await caller.sysctl(`xc_tmem_control ${subop}`, Sysctl.tmem_op, SysctlTmemOp, init);
      return 0;
    },
  } satisfies Partial<Xenctrl>;
};
