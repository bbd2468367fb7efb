/**
 * XEN_SYSCTL: control of the host by Domain-0's tools (`xen/include/public/sysctl.h`, Xen 4.17). Structures keep the
 * field names of the header. Each member of the union is a layout of its own, laid at `SYSCTL_U` of the `xen_sysctl`.
 */
import { array, layout } from '@xenhost/base';
import { XenctlBitmap } from './domctl.ts';

export const XEN_SYSCTL_INTERFACE_VERSION = 0x15;

export const Sysctl = {
  readconsole: 1, tbuf_op: 2, physinfo: 3, sched_id: 4, perfc_op: 5, getdomaininfolist: 6, debug_keys: 7, getcpuinfo: 8,
  availheap: 9, get_pmstat: 10, cputopoinfo: 16, numainfo: 17, cpupool_op: 18, scheduler_op: 19, pcitopoinfo: 22, tmem_op: 24,
  get_cpu_levelling_caps: 25, get_cpu_featureset: 26, livepatch_op: 27, get_cpu_policy: 29,
} as const; // prettier-ignore
export type SysctlName = keyof typeof Sysctl;

export const XenSysctl = layout('xen_sysctl', { cmd: 'u32', interface_version: 'u32', u: array('u64', 16) });
/** Offset of the union. */
export const SYSCTL_U = XenSysctl.offsets.u;

export const SysctlReadconsole = layout('xen_sysctl_readconsole', {
  clear: 'u8',
  incremental: 'u8',
  pad0: 'u8',
  pad1: 'u8',
  index: 'u32',
  buffer: 'u64',
  count: 'u32',
});

/** `physinfo.capabilities` (XEN_SYSCTL_PHYSCAP_*). */
export const Physcap = {
  hvm: 1, pv: 2, directio: 4, hap: 8, shadow: 16, iommu_hap_pt_share: 32, vmtrace: 64, vpmu: 128, gnttab_v1: 256,
  gnttab_v2: 512,
} as const; // prettier-ignore

export const SysctlPhysinfo = layout('xen_sysctl_physinfo', {
  threads_per_core: 'u32',
  cores_per_socket: 'u32',
  nr_cpus: 'u32',
  max_cpu_id: 'u32',
  nr_nodes: 'u32',
  max_node_id: 'u32',
  cpu_khz: 'u32',
  capabilities: 'u32',
  arch_capabilities: 'u32',
  pad: 'u32',
  total_pages: 'u64',
  free_pages: 'u64',
  scrub_pages: 'u64',
  outstanding_pages: 'u64',
  max_mfn: 'u64',
  hw_cap: array('u32', 8),
});

export const SysctlSchedId = layout('xen_sysctl_sched_id', { sched_id: 'u32' });
/** `buffer`: array of `xen_domctl_getdomaininfo`. */
export const SysctlGetdomaininfolist = layout('xen_sysctl_getdomaininfolist', {
  first_domain: 'u16',
  pad: 'u16',
  max_domains: 'u32',
  buffer: 'u64',
  num_domains: 'u32',
});
export const SysctlDebugKeys = layout('xen_sysctl_debug_keys', { keys: 'u64', nr_keys: 'u32' });
/** Element of `getcpuinfo.info`. */
export const SysctlCpuinfo = layout('xen_sysctl_cpuinfo', { idletime: 'u64' });
export const SysctlGetcpuinfo = layout('xen_sysctl_getcpuinfo', { max_cpus: 'u32', info: 'u64', nr_cpus: 'u32' });
export const SysctlAvailheap = layout('xen_sysctl_availheap', {
  min_bitwidth: 'u32',
  max_bitwidth: 'u32',
  node: 'i32',
  avail_bytes: 'u64',
});

/** Element of `cputopoinfo.cputopo`. */
export const SysctlCputopo = layout('xen_sysctl_cputopo', { core: 'u32', socket: 'u32', node: 'u32' });
export const SysctlCputopoinfo = layout('xen_sysctl_cputopoinfo', { num_cpus: 'u32', cputopo: 'u64' });
/** Element of `numainfo.meminfo`. */
export const SysctlMeminfo = layout('xen_sysctl_meminfo', { memsize: 'u64', memfree: 'u64' });
/** `distance`: u32 for each pair of nodes. */
export const SysctlNumainfo = layout('xen_sysctl_numainfo', { num_nodes: 'u32', meminfo: 'u64', distance: 'u64' });

/** `cpupool_op.op` (XEN_SYSCTL_CPUPOOL_OP_*). */
export const CpupoolOp = { CREATE: 1, DESTROY: 2, INFO: 3, ADDCPU: 4, RMCPU: 5, MOVEDOMAIN: 6, FREEINFO: 7 } as const;
export const XEN_SYSCTL_CPUPOOL_PAR_ANY = 0xffff_ffff;
export const SysctlCpupoolOp = layout('xen_sysctl_cpupool_op', {
  op: 'u32',
  cpupool_id: 'u32',
  sched_id: 'u32',
  domid: 'u32',
  cpu: 'u32',
  n_dom: 'u32',
  cpumap: XenctlBitmap,
});

/** `cpu_featureset.index` (XEN_SYSCTL_cpu_featureset_*). */
export const CpuFeatureset = { raw: 0, host: 1, pv: 2, hvm: 3, pv_max: 4, hvm_max: 5 } as const;
export const SysctlCpuFeatureset = layout('xen_sysctl_cpu_featureset', {
  index: 'u32',
  nr_features: 'u32',
  features: 'u64',
});
export const SysctlCpuLevellingCaps = layout('xen_sysctl_cpu_levelling_caps', { caps: 'u32' });

/** Node of a device that there is not. */
export const XEN_INVALID_DEV = 0xffff_fffe;
/** `devs`: `physdev_pci_device` of 4 bytes each; `nodes`: u32 each. */
export const SysctlPcitopoinfo = layout('xen_sysctl_pcitopoinfo', { num_devs: 'u32', devs: 'u64', nodes: 'u64' });

/** `scheduler_op.cmd` (XEN_SYSCTL_SCHEDOP_*). */
export const SysctlSchedop = { putinfo: 0, getinfo: 1 } as const;
/** The credit form: the three last fields are its inner union. */
export const SysctlSchedulerOp = layout('xen_sysctl_scheduler_op', {
  cpupool_id: 'u32',
  sched_id: 'u32',
  cmd: 'u32',
  pad: 'u32',
  tslice_ms: 'u32',
  ratelimit_us: 'u32',
  vcpu_migr_delay_us: 'u32',
  pad2: 'u32',
});
