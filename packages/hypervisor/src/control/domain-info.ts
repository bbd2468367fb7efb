/** xen_domctl_getdomaininfo: one domain as the toolstack's lists show it. */
import type { Bytes } from '@xenhost/base';
import { DomctlGetdomaininfo, Dominf, XEN_INVALID_MAX_VCPU_ID } from '@xenhost/xen-abi';
import type { DomainTable } from '../domain/table.ts';
import { SHUTDOWN_CODE_INVALID } from '../domain/lifecycle.ts';
import type { Scheduler } from '../sched/scheduler.ts';
import type { Core } from '../state/core.ts';
import { DomainFlag, DomainLayout, VcpuFlag } from '../state/records.ts';
import type { DomainRef } from '../state/refs.ts';
import { cpuTime } from '../vcpu/runstate.ts';

/** CPU time that Domain-0's own work took, in ns: that of the control plane. */
export type Dom0CpuTime = () => bigint;

export interface DomainInfoModules {
  readonly scheduler: Scheduler;
  readonly table: DomainTable;
  readonly dom0CpuTime: Dom0CpuTime;
}

const UUID_BYTES = 16;

/** Writes the structure at `at` of `into`. */
export function fillDomainInfo(
  core: Core,
  modules: DomainInfoModules,
  domain: DomainRef,
  into: Bytes,
  at: number,
): void {
  into.u8.fill(0, at, at + DomctlGetdomaininfo.size);
  const info = DomctlGetdomaininfo.view(into, at);
  const { v } = domain;
  const now = core.systemTimeNs();
  let state: number = Dominf.blocked;
  let maxVcpuId = XEN_INVALID_MAX_VCPU_ID;
  modules.table.forEachVcpu(domain, (vcpu) => {
    maxVcpuId = vcpu.vcpuId;
    info.cpu_time += cpuTime(core.memory, vcpu, now);
    if (vcpu.v.flags & VcpuFlag.down) return;
    info.nr_online_vcpus++;
    if (!(vcpu.v.flags & VcpuFlag.blocked)) state &= ~Dominf.blocked;
    if (vcpu.v.isRunning) state |= Dominf.running;
  });
  if (domain.domid === 0) {
    info.nr_online_vcpus = v.nrVcpus;
    maxVcpuId = v.nrVcpus - 1;
    info.cpu_time = modules.dom0CpuTime();
    state = Dominf.running;
  }
  let flags = info.nr_online_vcpus > 0 ? state : 0;
  if (v.flags & DomainFlag.destroyed) flags |= Dominf.dying;
  if (v.flags & DomainFlag.shutdown) flags |= Dominf.shutdown;
  if (v.pauseCount > 0) flags |= Dominf.paused;
  if (v.flags & DomainFlag.hvm) flags |= Dominf.hvm_guest;
  const code = v.shutdownCode === SHUTDOWN_CODE_INVALID ? 0 : v.shutdownCode & Dominf.shutdownmask;
  info.domain = domain.domid;
  info.flags = (flags | (code << Dominf.shutdownshift)) >>> 0;
  info.tot_pages = BigInt(v.totalPages);
  info.max_pages = BigInt(v.maxPages);
  info.shared_info_frame = BigInt(v.sharedInfoMfn);
  info.max_vcpu_id = maxVcpuId;
  info.ssidref = v.ssidref;
  info.cpupool = modules.scheduler.pools.ofDomain(domain).poolId;
  const uuid = domain.address + DomainLayout.offsets.uuid;
  into.u8.set(core.memory.u8.subarray(uuid, uuid + UUID_BYTES), at + DomctlGetdomaininfo.offsets.handle);
}
