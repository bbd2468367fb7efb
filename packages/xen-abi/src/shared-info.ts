/** `shared_info`, `vcpu_info`, `vcpu_time_info` (`xen/include/public/xen.h`), x86-64. */
import { array, layout } from '@xenhost/base';

export const VcpuTimeInfo = layout('vcpu_time_info', {
  version: 'u32',
  pad0: 'u32',
  tsc_timestamp: 'u64',
  system_time: 'u64',
  tsc_to_system_mul: 'u32',
  /** Signed. */
  tsc_shift: 'u8',
  flags: 'u8',
  pad1: array('u8', 2),
});
/** `VcpuTimeInfo.flags` (XEN_PVCLOCK_*). */
export const PvclockFlag = { tsc_stable: 1, guest_stopped: 2 } as const;

export const ArchVcpuInfo = layout('arch_vcpu_info', { cr2: 'u64', pad: 'u64' });

export const VcpuInfo = layout('vcpu_info', {
  evtchn_upcall_pending: 'u8',
  evtchn_upcall_mask: 'u8',
  evtchn_pending_sel: 'u64',
  arch: ArchVcpuInfo,
  time: VcpuTimeInfo,
});
/** vCPUs whose vcpu_info is in shared_info from the start (XEN_LEGACY_MAX_VCPUS). */
export const LEGACY_MAX_VCPUS = 32;

export const ArchSharedInfo = layout('arch_shared_info', {
  max_pfn: 'u64',
  pfn_to_mfn_frame_list_list: 'u64',
  nmi_reason: 'u64',
  p2m_cr3: 'u64',
  p2m_vaddr: 'u64',
  p2m_generation: 'u64',
});

export const SharedInfo = layout('shared_info', {
  vcpu_info: array('u64', (64 / 8) * LEGACY_MAX_VCPUS),
  evtchn_pending: array('u64', 64),
  evtchn_mask: array('u64', 64),
  wc_version: 'u32',
  wc_sec: 'u32',
  wc_nsec: 'u32',
  wc_sec_hi: 'u32',
  arch: ArchSharedInfo,
});
