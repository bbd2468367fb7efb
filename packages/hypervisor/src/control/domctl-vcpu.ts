/** Domctls about single vCPUs: contexts, affinity, state, triggers. */
import { Errno } from '@xenhost/base';
import {
  DomctlExtVcpucontext,
  DomctlGetvcpuinfo,
  DomctlSendtrigger,
  DomctlTrigger,
  DomctlVcpuaffinity,
  DomctlVcpucontext,
  DomctlVcpuextstate,
  VcpuAffinity,
  VcpuGuestContext,
  VGCF,
} from '@xenhost/xen-abi';
import {
  extendedStateSize,
  HOST_XSTATE,
  readExtendedContext,
  readExtendedState,
  writeExtendedContext,
  writeExtendedState,
} from '../pv/extended-state.ts';
import { VcpuFlag } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';
import { writeWallclock } from '../time/shared-time.ts';
import { cpuTime } from '../vcpu/runstate.ts';
import { XSTATE_LEAF } from './cpu-features.ts';
import type { DomctlContext, DomctlHandler, DomctlResult } from './domctl.ts';
import { bitmapAt } from './request.ts';

export const VCPU_COMMANDS = {
  setvcpucontext: (context) => {
    const { m, call, request, domain } = context;
    const u = request.u(DomctlVcpucontext);
    const vcpu = m.lifecycle.vcpu(domain, u.vcpu);
    if (!vcpu) return vcpuError(context, u.vcpu);
    const bytes = u.ctxt === 0n ? undefined : request.memory.read(u.ctxt, VcpuGuestContext.size);
    if (u.ctxt !== 0n && !bytes) return -Errno.EFAULT;
    return m.pauses.paused(call.args, domain, () => (bytes ? setContext(context, vcpu, bytes) : reset(context, vcpu)));
  },

  getvcpucontext: (context) => {
    const { m, call, request, domain } = context;
    const u = request.u(DomctlVcpucontext);
    const vcpu = m.lifecycle.vcpu(domain, u.vcpu);
    if (!vcpu) return vcpuError(context, u.vcpu);
    if (!(vcpu.v.flags & VcpuFlag.initialised)) return -Errno.ENODATA;
    return m.pauses.paused(call.args, domain, () => {
      const bytes = m.pv.readContext(vcpu);
      const flags = VcpuGuestContext.view({ u8: bytes, dv: new DataView(bytes.buffer, bytes.byteOffset) }, 0);
      if (!(vcpu.v.flags & VcpuFlag.down)) flags.flags |= BigInt(VGCF.online);
      return request.memory.write(u.ctxt, bytes) ? 0 : -Errno.EFAULT;
    });
  },

  getvcpuinfo: (context) => {
    const { m, request, domain } = context;
    const u = request.u(DomctlGetvcpuinfo);
    const vcpu = m.lifecycle.vcpu(domain, u.vcpu);
    if (!vcpu && domain.domid === 0 && u.vcpu < domain.v.nrVcpus) {
      Object.assign(u, { online: 1, blocked: 0, running: 0, cpu_time: 0n, cpu: u.vcpu });
      return 'copyBack';
    }
    if (!vcpu) return vcpuError(context, u.vcpu);
    u.online = vcpu.v.flags & VcpuFlag.down ? 0 : 1;
    u.blocked = vcpu.v.flags & VcpuFlag.blocked ? 1 : 0;
    u.running = vcpu.v.isRunning;
    u.cpu_time = cpuTime(m.core.memory, vcpu, m.core.systemTimeNs());
    u.cpu = vcpu.v.processor;
    return 'copyBack';
  },

  getvcpuextstate: (context) => {
    const { m, call, request, domain } = context;
    const u = request.u(DomctlVcpuextstate);
    const vcpu = m.lifecycle.vcpu(domain, u.vcpu);
    if (!vcpu) return -Errno.ESRCH;
    if ((u.size === 0n && u.xfeature_mask === 0n) || u.buffer === 0n) {
      u.xfeature_mask = HOST_XSTATE;
      u.size = BigInt(extendedStateSize(HOST_XSTATE));
      return 'copyBack';
    }
    return m.pauses.paused(call.args, domain, () => {
      const bytes = readExtendedState(m.core.memory, vcpu);
      if (u.size < BigInt(bytes.length) || u.xfeature_mask !== HOST_XSTATE) return -Errno.EINVAL;
      if (!request.memory.write(u.buffer, bytes)) return -Errno.EFAULT;
      u.size = BigInt(bytes.length);
      return 'copyBack';
    });
  },

  setvcpuextstate: (context) => {
    const { m, call, request, domain } = context;
    const u = request.u(DomctlVcpuextstate);
    const vcpu = m.lifecycle.vcpu(domain, u.vcpu);
    if (!vcpu) return -Errno.ESRCH;
    if (u.size > BigInt(extendedStateSize(HOST_XSTATE))) return -Errno.EINVAL;
    const bytes = request.memory.read(u.buffer, Number(u.size));
    if (!bytes) return -Errno.EFAULT;
    const { eax, edx } = m.policies.cpuid(domain, 0, XSTATE_LEAF, 0);
    const supported = (BigInt(edx) << 32n) | BigInt(eax);
    return m.pauses.paused(call.args, domain, () => writeExtendedState(m.core.memory, vcpu, bytes, supported));
  },

  get_ext_vcpucontext: ({ m, call, request, domain }) => {
    const u = request.u(DomctlExtVcpucontext);
    const vcpu = m.lifecycle.vcpu(domain, u.vcpu);
    if (!vcpu) return -Errno.ESRCH;
    return m.pauses.paused(call.args, domain, () => {
      readExtendedContext(vcpu, u);
      return 'copyBack';
    });
  },

  set_ext_vcpucontext: ({ m, call, request, domain }) => {
    const u = request.u(DomctlExtVcpucontext);
    const vcpu = m.lifecycle.vcpu(domain, u.vcpu);
    if (!vcpu) return -Errno.ESRCH;
    return m.pauses.paused(call.args, domain, () => writeExtendedContext(vcpu, u));
  },

  setvcpuaffinity: (context) => affinity(context, true),
  getvcpuaffinity: (context) => affinity(context, false),

  sendtrigger: ({ m, request, domain }) => {
    const u = request.u(DomctlSendtrigger);
    const vcpu = m.lifecycle.vcpu(domain, u.vcpu);
    if (!vcpu) return -Errno.ESRCH;
    if (u.trigger !== DomctlTrigger.NMI) return -Errno.ENOSYS;
    m.pv.sendNmi(vcpu);
    return 0;
  },
} satisfies Record<string, DomctlHandler>;

/** No such vCPU: beyond the domain's number, or not made yet. */
function vcpuError({ domain }: DomctlContext, id: number): number {
  return id >= domain.v.maxVcpus ? -Errno.EINVAL : -Errno.ESRCH;
}

function setContext({ m, domain }: DomctlContext, vcpu: VcpuRef, bytes: Uint8Array): DomctlResult {
  const result = m.pv.initContext(vcpu, bytes);
  if (result !== 0) return result;
  const { flags } = VcpuGuestContext.view({ u8: bytes, dv: new DataView(bytes.buffer, bytes.byteOffset) }, 0);
  // The builder has cleared shared_info by now.
  if (vcpu.vcpuId === 0) writeWallclock(m.core, domain);
  vcpu.v.loadedOn = 0;
  vcpu.v.flags |= VcpuFlag.initialised;
  // The unpause that follows wakes it when it may run.
  if (flags & BigInt(VGCF.online)) vcpu.v.flags &= ~VcpuFlag.down;
  else vcpu.v.flags |= VcpuFlag.down;
  return 0;
}

function reset({ m }: DomctlContext, vcpu: VcpuRef): DomctlResult {
  m.memory.resetVcpu(vcpu);
  vcpu.v.loadedOn = 0;
  vcpu.v.flags = VcpuFlag.down;
  return 0;
}

function affinity(context: DomctlContext, set: boolean): DomctlResult {
  const { m, request, domain } = context;
  const u = request.u(DomctlVcpuaffinity);
  if ((u.flags & (VcpuAffinity.HARD | VcpuAffinity.SOFT)) === 0) return -Errno.EINVAL;
  const { nrPcpus } = m.core.map;
  const all = (1n << BigInt(nrPcpus)) - 1n;
  const online = m.scheduler.pools.ofDomain(domain).cpus;
  const hardMap = bitmapAt(request, DomctlVcpuaffinity.offsets.cpumap_hard);
  const softMap = bitmapAt(request, DomctlVcpuaffinity.offsets.cpumap_soft);
  const vcpu = m.lifecycle.vcpu(domain, u.vcpu);
  if (!vcpu && !(domain.domid === 0 && u.vcpu < domain.v.nrVcpus)) return vcpuError(context, u.vcpu);
  if (set) {
    if (!vcpu) return -Errno.EINVAL;
    const hard = u.flags & VcpuAffinity.HARD ? request.readBitmap(hardMap) : vcpu.v.affinity;
    const soft = u.flags & VcpuAffinity.SOFT ? request.readBitmap(softMap) : vcpu.v.affinitySoft;
    if (hard === undefined || soft === undefined) return -Errno.EFAULT;
    if ((hard & online) === 0n) return -Errno.EINVAL;
    vcpu.v.affinity = hard;
    vcpu.v.affinitySoft = soft;
    m.scheduler.affinityChanged(vcpu);
  }
  // Setting answers with what it comes to in the domain's pool, asking with what was set.
  const hard = (vcpu?.v.affinity ?? all) & (set ? online : all);
  const soft = (vcpu?.v.affinitySoft ?? all) & (set ? online : all);
  const told =
    (!(u.flags & VcpuAffinity.HARD) || request.writeBitmap(hardMap, hard, nrPcpus)) &&
    (!(u.flags & VcpuAffinity.SOFT) || request.writeBitmap(softMap, set ? hard & soft : soft, nrPcpus));
  return told ? 0 : -Errno.EFAULT;
}
