/** `vcpu_op` (`xen/include/public/vcpu.h`), x86-64 layouts. */
import { array, layout } from '@xenhost/base';

export const VcpuOp = {
  initialise: 0, up: 1, down: 2, is_up: 3, get_runstate_info: 4, register_runstate_memory_area: 5,
  set_periodic_timer: 6, stop_periodic_timer: 7, set_singleshot_timer: 8, stop_singleshot_timer: 9,
  register_vcpu_info: 10, send_nmi: 11, get_physid: 12, register_vcpu_time_memory_area: 13,
} as const; // prettier-ignore

/** RUNSTATE_* */
export const Runstate = { running: 0, runnable: 1, blocked: 2, offline: 3 } as const;
export type Runstate = (typeof Runstate)[keyof typeof Runstate];
/** Bit of `state_entry_time` while Xen updates the area (XEN_RUNSTATE_UPDATE). */
export const RUNSTATE_UPDATE = 1n << 63n;

export const VcpuRunstateInfo = layout('vcpu_runstate_info', {
  state: 'i32',
  state_entry_time: 'u64',
  time: array('u64', 4),
});
export const VcpuSetPeriodicTimer = layout('vcpu_set_periodic_timer', { period_ns: 'u64' });
export const VcpuSetSingleshotTimer = layout('vcpu_set_singleshot_timer', { timeout_abs_ns: 'u64', flags: 'u32' });
/** `flags`: fail with -ETIME when the time is past (VCPU_SSHOTTMR_future). */
export const VCPU_SSHOTTMR_FUTURE = 1;
export const VcpuRegisterVcpuInfo = layout('vcpu_register_vcpu_info', { mfn: 'u64', offset: 'u32', rsvd: 'u32' });
export const VcpuGetPhysid = layout('vcpu_get_physid', { phys_id: 'u64' });
/** Register areas: one address. */
export const VcpuRegisterArea = layout('vcpu_register_memory_area', { addr: 'u64' });
