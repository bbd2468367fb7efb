/**
 * XEN_DOMCTL: domain control by Domain-0's tools (`xen/include/public/domctl.h`, Xen 4.17). Structures keep the field
 * names of the header. Each member of the union is a layout of its own, laid at `DOMCTL_U` of the `xen_domctl`.
 * Only the operations that this host knows; `vcpu_guest_context` is in arch.ts.
 */
import { array, layout } from '@xenhost/base';

export const XEN_DOMCTL_INTERFACE_VERSION = 0x15;

export const Domctl = {
  createdomain: 1, destroydomain: 2, pausedomain: 3, unpausedomain: 4, getdomaininfo: 5, setvcpuaffinity: 9, shadow_op: 10,
  max_mem: 11, setvcpucontext: 12, getvcpucontext: 13, getvcpuinfo: 14, max_vcpus: 15, scheduler_op: 16,
  setdomainhandle: 17, setdebugging: 18, ioport_permission: 21, hypercall_init: 22, settimeoffset: 24, getvcpuaffinity: 25, resumedomain: 27,
  sendtrigger: 28, gethvmcontext: 33, sethvmcontext: 34, set_address_size: 35, get_address_size: 36,
  set_ext_vcpucontext: 42, get_ext_vcpucontext: 43, set_target: 46, gettscinfo: 59, settscinfo: 60,
  getpageframeinfo3: 61, setvcpuextstate: 62, getvcpuextstate: 63, setnodeaffinity: 68, getnodeaffinity: 69, get_cpu_policy: 82, set_cpu_policy: 83,
} as const; // prettier-ignore
export type DomctlName = keyof typeof Domctl;

/** A handle: address of what the caller passes by reference. */
const handle = 'u64';

export const XenDomctl = layout('xen_domctl', {
  cmd: 'u32',
  interface_version: 'u32',
  domain: 'u16',
  pad: array('u16', 3),
  u: array('u64', 16),
});
/** Offset of the union. */
export const DOMCTL_U = XenDomctl.offsets.u;

/** A bitmap passed by reference: address of bytes, least significant bit first. */
export const XenctlBitmap = layout('xenctl_bitmap', { bitmap: handle, nr_bits: 'u32' });

export const XenArchDomainconfig = layout('xen_arch_domainconfig', { emulation_flags: 'u32', misc_flags: 'u32' });

/** `xen_arch_domainconfig.emulation_flags` (`arch-x86/xen.h`, XEN_X86_EMU_*). */
export const X86Emu = {
  LAPIC: 1, HPET: 2, PM: 4, RTC: 8, IOAPIC: 16, PIC: 32, VGA: 64, IOMMU: 128, PIT: 256, USE_PIRQ: 512, VPCI: 1024,
} as const; // prettier-ignore

/** `createdomain.flags` (XEN_DOMCTL_CDF_*). */
export const DomctlCdf = {
  hvm: 1, hap: 2, s3_integrity: 4, oos_off: 8, xs_domain: 16, iommu: 32, nested_virt: 64, vpmu: 128,
} as const; // prettier-ignore

export const DomctlCreatedomain = layout('xen_domctl_createdomain', {
  ssidref: 'u32',
  handle: array('u8', 16),
  flags: 'u32',
  iommu_opts: 'u32',
  max_vcpus: 'u32',
  max_evtchn_port: 'u32',
  max_grant_frames: 'i32',
  max_maptrack_frames: 'i32',
  grant_opts: 'u32',
  vmtrace_size: 'u32',
  cpupool_id: 'u32',
  arch: XenArchDomainconfig,
});

/** `getdomaininfo.flags` (XEN_DOMINF_*); the shutdown code stands in bits 16-23. */
export const Dominf = {
  dying: 1, hvm_guest: 2, shutdown: 4, paused: 8, blocked: 16, running: 32, debugged: 64, xs_domain: 128, hap: 256,
  shutdownmask: 255, shutdownshift: 16,
} as const; // prettier-ignore
export const XEN_INVALID_MAX_VCPU_ID = 0xffff_ffff;

export const DomctlGetdomaininfo = layout('xen_domctl_getdomaininfo', {
  domain: 'u16',
  pad1: 'u16',
  flags: 'u32',
  tot_pages: 'u64',
  max_pages: 'u64',
  outstanding_pages: 'u64',
  shr_pages: 'u64',
  paged_pages: 'u64',
  shared_info_frame: 'u64',
  cpu_time: 'u64',
  nr_online_vcpus: 'u32',
  max_vcpu_id: 'u32',
  ssidref: 'u32',
  handle: array('u8', 16),
  cpupool: 'u32',
  gpaddr_bits: 'u8',
  pad2: array('u8', 7),
  arch_config: XenArchDomainconfig,
});

export const DomctlMaxMem = layout('xen_domctl_max_mem', { max_memkb: 'u64' });
export const DomctlMaxVcpus = layout('xen_domctl_max_vcpus', { max: 'u32' });
export const DomctlVcpucontext = layout('xen_domctl_vcpucontext', { vcpu: 'u32', ctxt: handle });
export const DomctlGetvcpuinfo = layout('xen_domctl_getvcpuinfo', {
  vcpu: 'u32',
  online: 'u8',
  blocked: 'u8',
  running: 'u8',
  cpu_time: 'u64',
  cpu: 'u32',
});

/** `vcpuaffinity.flags` (XEN_VCPUAFFINITY_*). */
export const VcpuAffinity = { HARD: 1, SOFT: 2, FORCE: 4 } as const;
export const DomctlVcpuaffinity = layout('xen_domctl_vcpuaffinity', {
  vcpu: 'u32',
  flags: 'u32',
  cpumap_hard: XenctlBitmap,
  cpumap_soft: XenctlBitmap,
});
export const DomctlNodeaffinity = layout('xen_domctl_nodeaffinity', { nodemap: XenctlBitmap });

/** Schedulers (XEN_SCHEDULER_*). */
export const XenScheduler = { CREDIT: 5, CREDIT2: 6, ARINC653: 7, RTDS: 8, NULL: 9 } as const;
/** `scheduler_op.cmd` (XEN_DOMCTL_SCHEDOP_*). */
export const DomctlSchedop = { putinfo: 0, getinfo: 1, putvcpuinfo: 2, getvcpuinfo: 3 } as const;
/** The credit form of the operation: `weight` and `cap` are the first bytes of its inner union. */
export const DomctlSchedulerOp = layout('xen_domctl_scheduler_op', {
  sched_id: 'u32',
  cmd: 'u32',
  weight: 'u16',
  cap: 'u16',
  rest: array('u32', 1),
  rest2: 'u64',
});

export const DomctlSetdomainhandle = layout('xen_domctl_setdomainhandle', { handle: array('u8', 16) });
export const DomctlHypercallInit = layout('xen_domctl_hypercall_init', { gmfn: 'u64' });
export const DomctlSettimeoffset = layout('xen_domctl_settimeoffset', { time_offset_seconds: 'i64' });
export const DomctlAddressSize = layout('xen_domctl_address_size', { size: 'u32' });
/** `sendtrigger.trigger` (XEN_DOMCTL_SENDTRIGGER_*). */
export const DomctlTrigger = { NMI: 0, RESET: 1, INIT: 2, POWER: 3, SLEEP: 4 } as const;
export const DomctlSendtrigger = layout('xen_domctl_sendtrigger', { trigger: 'u32', vcpu: 'u32' });
export const DomctlHvmcontext = layout('xen_domctl_hvmcontext', { size: 'u32', buffer: handle });
export const DomctlSetTarget = layout('xen_domctl_set_target', { target: 'u16' });
export const DomctlTscInfo = layout('xen_domctl_tsc_info', {
  tsc_mode: 'u32',
  gtsc_khz: 'u32',
  incarnation: 'u32',
  pad: 'u32',
  elapsed_nsec: 'u64',
});

/** Answers of `getpageframeinfo3`, in the high bits of each word (XEN_DOMCTL_PFINFO_*). */
export const Pfinfo = {
  NOTAB: 0, L1TAB: 0x1000_0000, L2TAB: 0x2000_0000, L3TAB: 0x3000_0000, L4TAB: 0x4000_0000, LPINTAB: 0x8000_0000,
  XTAB: 0xf000_0000, XALLOC: 0xe000_0000, BROKEN: 0xd000_0000, LTAB_MASK: 0xf000_0000,
} as const; // prettier-ignore
/** `array`: u64 frame numbers, each replaced by its type. */
export const DomctlGetpageframeinfo3 = layout('xen_domctl_getpageframeinfo3', { num: 'u64', array: handle });

/** `shadow_op.op` and `mode` (XEN_DOMCTL_SHADOW_*). */
export const ShadowOp = {
  OFF: 0, ENABLE_TEST: 1, ENABLE_LOGDIRTY: 2, CLEAN: 11, PEEK: 12, GET_ALLOCATION: 30, SET_ALLOCATION: 31, ENABLE: 32,
} as const; // prettier-ignore
export const DomctlShadowOp = layout('xen_domctl_shadow_op', {
  op: 'u32',
  mode: 'u32',
  mb: 'u32',
  dirty_bitmap: handle,
  pages: 'u64',
  stats_fault_count: 'u32',
  stats_dirty_count: 'u32',
});

/** One leaf of a CPUID policy (`arch-x86/xen.h`). */
export const XenCpuidLeaf = layout('xen_cpuid_leaf', {
  leaf: 'u32',
  subleaf: 'u32',
  a: 'u32',
  b: 'u32',
  c: 'u32',
  d: 'u32',
});
export const XEN_CPUID_NO_SUBLEAF = 0xffff_ffff;
export const XenMsrEntry = layout('xen_msr_entry', { idx: 'u32', flags: 'u32', val: 'u64' });
export const DomctlCpuPolicy = layout('xen_domctl_cpu_policy', {
  nr_leaves: 'u32',
  nr_msrs: 'u32',
  leaves: handle,
  msrs: handle,
  err_leaf: 'u32',
  err_subleaf: 'u32',
  err_msr: 'u32',
});

/** `buffer`: XCR0, all of it that was ever set, then the XSAVE area in the standard format. */
export const DomctlVcpuextstate = layout('xen_domctl_vcpuextstate', {
  vcpu: 'u32',
  pad: 'u32',
  xfeature_mask: 'u64',
  size: 'u64',
  buffer: handle,
});

/** What a `vcpu_guest_context` of 64 bits has no place for. The last four are `hvm_vmce_vcpu`. */
export const DomctlExtVcpucontext = layout('xen_domctl_ext_vcpucontext', {
  vcpu: 'u32',
  size: 'u32',
  syscall32_callback_eip: 'u64',
  sysenter_callback_eip: 'u64',
  syscall32_callback_cs: 'u16',
  sysenter_callback_cs: 'u16',
  syscall32_disables_events: 'u8',
  sysenter_disables_events: 'u8',
  vmce_caps: 'u64',
  vmce_mci_ctl2_bank0: 'u64',
  vmce_mci_ctl2_bank1: 'u64',
  vmce_mcg_ext_ctl: 'u64',
});
