/**
 * sysctl (35): the host as Domain-0's tools see and set it. One row per command. `xen/include/public/sysctl.h`,
 * `xen/common/sysctl.c`. Runs on the control plane.
 */
import { bytesOf, Errno } from '@xenhost/base';
import {
  DomctlGetdomaininfo,
  PAGE_SIZE,
  Physcap,
  Sysctl,
  SYSCTL_PROFILE_OP,
  SYSCTL_U,
  SysctlAvailheap,
  SysctlCpuinfo,
  SysctlCputopo,
  SysctlCputopoinfo,
  SysctlDebugKeys,
  SysctlGetcpuinfo,
  SysctlGetdomaininfolist,
  SysctlMeminfo,
  SysctlNumainfo,
  SysctlPhysinfo,
  SysctlReadconsole,
  SysctlSchedId,
  XEN_SYSCTL_INTERFACE_VERSION,
  XenScheduler,
  XenSysctl,
} from '@xenhost/xen-abi';
import { CONSOLE_RING_SIZE } from '../state/memory-map.ts';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import { TSC_KHZ } from '../time/clock.ts';
import { HOST_FEATURESET } from './cpu-policy.ts';
import { debugKey } from './debug-keys.ts';
import { fillDomainInfo } from './domain-info.ts';
import type { ControlModules } from './modules.ts';
import { OBSERVE_HANDLERS, profileOp } from './observe.ts';
import { ControlRequest } from './request.ts';
import { CPU_HANDLERS } from './sysctl-cpu.ts';
import { SCHED_HANDLERS } from './sysctl-sched.ts';

export type SysctlResult = number | 'continue' | 'copyBack';
export interface SysctlContext {
  readonly m: ControlModules;
  readonly call: HypercallCall;
  readonly request: ControlRequest;
}

/** Domains told of in one call. */
const MAX_DOMAINS_PER_CALL = 1024;
const MAX_DEBUG_KEYS = 64;
/** Distance of a node to itself. */
const LOCAL_DISTANCE = 10;

/** Writes `count` structures of `size` made by `fill` to an array of the caller. */
function putArray(
  request: ControlRequest,
  at: bigint,
  count: number,
  size: number,
  fill: (bytes: ReturnType<typeof bytesOf>, offset: number, i: number) => void,
): boolean {
  const bytes = bytesOf(new Uint8Array(count * size));
  for (let i = 0; i < count; i++) fill(bytes, i * size, i);
  return count === 0 || request.memory.write(at, bytes.u8);
}

const HANDLERS: Partial<Record<keyof typeof Sysctl, (context: SysctlContext) => SysctlResult>> = {
  ...OBSERVE_HANDLERS,
  ...SCHED_HANDLERS,
  ...CPU_HANDLERS,

  readconsole: ({ m, request }) => {
    const u = request.u(SysctlReadconsole);
    const { bytes, next } = m.console.read({
      count: Math.min(u.count, CONSOLE_RING_SIZE),
      incremental: u.incremental !== 0,
      index: u.index,
      clear: u.clear !== 0,
    });
    if (bytes.length > 0 && !request.memory.write(u.buffer, bytes)) return -Errno.EFAULT;
    u.count = bytes.length;
    u.index = next;
    return 'copyBack';
  },

  physinfo: ({ m, request }) => {
    const u = request.u(SysctlPhysinfo);
    const heap = m.memory.heapInfo();
    const { nrPcpus, nrFrames } = m.core.map;
    u.threads_per_core = 1;
    u.cores_per_socket = nrPcpus;
    u.nr_cpus = nrPcpus;
    u.max_cpu_id = nrPcpus - 1;
    u.nr_nodes = 1;
    u.max_node_id = 0;
    u.cpu_khz = TSC_KHZ;
    u.capabilities = Physcap.pv | Physcap.gnttab_v1 | Physcap.gnttab_v2;
    u.total_pages = BigInt(nrFrames);
    u.free_pages = BigInt(heap.freeFrames);
    u.scrub_pages = 0n;
    u.outstanding_pages = 0n;
    u.max_mfn = BigInt(nrFrames - 1);
    const capsAt = request.unionOffset + SysctlPhysinfo.offsets.hw_cap;
    HOST_FEATURESET.slice(0, SysctlPhysinfo.fields.hw_cap.length).forEach((feature, i) => {
      request.bytes.dv.setUint32(capsAt + i * 4, feature, true);
    });
    return 'copyBack';
  },

  sched_id: ({ request }) => {
    request.u(SysctlSchedId).sched_id = XenScheduler.CREDIT;
    return 'copyBack';
  },

  getdomaininfolist: ({ m, request }) => {
    const u = request.u(SysctlGetdomaininfolist);
    m.lifecycle.reap();
    const room = Math.min(u.max_domains, MAX_DOMAINS_PER_CALL);
    const size = DomctlGetdomaininfo.size;
    const bytes = bytesOf(new Uint8Array(room * size));
    let count = 0;
    m.table.forEach((domain) => {
      if (domain.domid < u.first_domain) return true;
      if (count === room) return false;
      fillDomainInfo(m.core, m, domain, bytes, count++ * size);
      return true;
    });
    if (count > 0 && !request.memory.write(u.buffer, bytes.u8.subarray(0, count * size))) return -Errno.EFAULT;
    u.num_domains = count;
    return 'copyBack';
  },

  debug_keys: ({ m, request }) => {
    const u = request.u(SysctlDebugKeys);
    const keys = request.memory.read(u.keys, Math.min(u.nr_keys, MAX_DEBUG_KEYS));
    if (!keys) return -Errno.EFAULT;
    for (const key of keys) debugKey(m, String.fromCharCode(key));
    return 0;
  },

  getcpuinfo: ({ m, request }) => {
    const u = request.u(SysctlGetcpuinfo);
    const count = Math.min(u.max_cpus, m.core.map.nrPcpus);
    const now = m.core.systemTimeNs();
    const told = putArray(request, u.info, count, SysctlCpuinfo.size, (bytes, at, i) => {
      const pcpu = m.pcpus[i];
      if (!pcpu) return;
      const idling = pcpu.idleSinceNs === 0n ? 0n : now - pcpu.idleSinceNs;
      SysctlCpuinfo.view(bytes, at).idletime = pcpu.idleNs + idling;
    });
    if (!told) return -Errno.EFAULT;
    u.nr_cpus = count;
    return 'copyBack';
  },

  availheap: ({ m, request }) => {
    const u = request.u(SysctlAvailheap);
    if (u.node > 0) return -Errno.EINVAL;
    u.avail_bytes = BigInt(m.memory.heapInfo().freeFrames) * BigInt(PAGE_SIZE);
    return 'copyBack';
  },

  cputopoinfo: ({ m, request }) => {
    const u = request.u(SysctlCputopoinfo);
    const { nrPcpus } = m.core.map;
    if (u.cputopo === 0n) {
      u.num_cpus = nrPcpus;
      return 'copyBack';
    }
    const count = Math.min(u.num_cpus, nrPcpus);
    const told = putArray(request, u.cputopo, count, SysctlCputopo.size, (bytes, at, i) => {
      Object.assign(SysctlCputopo.view(bytes, at), { core: i, socket: 0, node: 0 });
    });
    if (!told) return -Errno.EFAULT;
    u.num_cpus = count;
    return 'copyBack';
  },

  numainfo: ({ m, request }) => {
    const u = request.u(SysctlNumainfo);
    const asked = u.meminfo !== 0n || u.distance !== 0n;
    if (asked && u.num_nodes < 1) return -Errno.ENOBUFS;
    const heap = m.memory.heapInfo();
    if (u.meminfo !== 0n) {
      const told = putArray(request, u.meminfo, 1, SysctlMeminfo.size, (bytes, at) => {
        const info = SysctlMeminfo.view(bytes, at);
        info.memsize = BigInt(m.core.map.nrFrames) * BigInt(PAGE_SIZE);
        info.memfree = BigInt(heap.freeFrames) * BigInt(PAGE_SIZE);
      });
      if (!told) return -Errno.EFAULT;
    }
    if (u.distance !== 0n && !request.memory.write(u.distance, new Uint8Array([LOCAL_DISTANCE, 0, 0, 0])))
      return -Errno.EFAULT;
    u.num_nodes = 1;
    return 'copyBack';
  },
};

export class SysctlTable {
  readonly #m: ControlModules;
  readonly #handlers: Map<number, (context: SysctlContext) => SysctlResult>;

  constructor(modules: ControlModules) {
    this.#m = modules;
    this.#handlers = new Map(
      Object.entries(HANDLERS).map(([name, handler]) => [Sysctl[name as keyof typeof Sysctl], handler]),
    );
    this.#handlers.set(SYSCTL_PROFILE_OP, profileOp);
  }

  readonly hypercall = (call: HypercallCall): HypercallResult => {
    const address = call.args[0] ?? 0n;
    const raw = call.memory.read(address, XenSysctl.size);
    if (!raw) return -Errno.EFAULT;
    const request = new ControlRequest(call.memory, address, raw, SYSCTL_U);
    const op = XenSysctl.view(request.bytes, 0);
    if (op.interface_version !== XEN_SYSCTL_INTERFACE_VERSION) return -Errno.EACCES;
    const handler = this.#handlers.get(op.cmd);
    if (!handler) return -Errno.ENOSYS;
    const result = handler({ m: this.#m, call, request });
    if (result !== 'copyBack') return result;
    return request.copyBack() ? 0 : -Errno.EFAULT;
  };
}
