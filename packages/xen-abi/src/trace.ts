/**
 * Trace buffers and performance counters: event numbers and records of `xen/include/public/trace.h`, and the sysctls that
 * switch them (`xen/include/public/sysctl.h`, Xen 4.17). Structures keep the field names of the headers.
 */
import { array, layout } from '@xenhost/base';
import { XenctlBitmap } from './domctl.ts';

/** Most words of data in a record. */
export const TRACE_EXTRA_MAX = 7;
export const TRACE_EXTRA_SHIFT = 28;
export const TRC_HD_CYCLE_FLAG = 0x8000_0000;
export const TRC_CLS_SHIFT = 16;
export const TRC_SUBCLS_SHIFT = 12;
/** Addresses in the record's data have 64 bits. */
export const TRC_64_FLAG = 0x100;

/** Classes, for event masks: all subclasses of each. `PROFILE` is this project's own, in a place that Xen leaves free. */
export const TraceClass = {
  GEN: 0x0001_f000, SCHED: 0x0002_f000, DOM0OP: 0x0004_f000, HVM: 0x0008_f000, MEM: 0x0010_f000, PV: 0x0020_f000,
  SHADOW: 0x0040_f000, HW: 0x0080_f000, PROFILE: 0x0100_f000, GUEST: 0x0800_f000, ALL: 0x0fff_f000,
} as const; // prettier-ignore

/** Events (TRC_*), without the cycle flag. */
export const TraceEvent = {
  LOST_RECORDS: 0x0001_f001,
  WRAP_BUFFER: 0x0001_f002,
  CPU_CHANGE: 0x0001_f003,
  /** | old run state << 8 | new run state << 4. */
  SCHED_RUNSTATE_CHANGE: 0x0002_1001,
  SCHED_CONTINUE_RUNNING: 0x0002_1002,
  SCHED_WAKE: 0x0002_8004,
  SCHED_YIELD: 0x0002_8005,
  SCHED_BLOCK: 0x0002_8006,
  DOM0_DOM_ADD: 0x0004_1001,
  DOM0_DOM_REM: 0x0004_1002,
  PV_TRAP: 0x0020_1003,
  PV_PAGE_FAULT: 0x0020_1004,
  PV_EMULATE_PRIVOP: 0x0020_1006,
  PV_PTWR_EMULATION: 0x0020_100b,
  PV_HYPERCALL_V2: 0x0020_100d,
  PV_HYPERCALL_SUBCALL: 0x0020_200e,
  /** Ours: see `ProfileSample`. */
  PROFILE_SAMPLE: 0x0100_1001,
} as const;

/** PV_HYPERCALL_V2: marks in its first word which arguments follow as 32-bit words. */
export const hypercallArg32 = (i: number): number => 1 << (20 + 2 * i);

/** Head of a trace buffer; records follow. Both indices run modulo twice the size of the data. */
export const TraceBuf = layout('t_buf', { cons: 'u32', prod: 'u32' });
/** Head of t_info: pages of each buffer, then for each CPU a u16: at which u32 of t_info its list of frames starts. */
export const TraceInfo = layout('t_info', { tbuf_size: 'u16', mfn_offset: array('u16', 1) });

/** `tbuf_op.cmd` (XEN_SYSCTL_TBUFOP_*). */
export const TbufOp = { get_info: 0, set_cpu_mask: 1, set_evt_mask: 2, set_size: 3, enable: 4, disable: 5 } as const;
export const SysctlTbufOp = layout('xen_sysctl_tbuf_op', {
  cmd: 'u32',
  cpu_mask: XenctlBitmap,
  evt_mask: 'u32',
  buffer_mfn: 'u64',
  size: 'u32',
});

/** `perfc_op.cmd` (XEN_SYSCTL_PERFCOP_*). */
export const PerfcOp = { reset: 1, query: 2 } as const;
export const PERFC_NAME_SIZE = 80;
export const SysctlPerfcDesc = layout('xen_sysctl_perfc_desc', { name: array('u8', PERFC_NAME_SIZE), nr_vals: 'u32' });
/** `val`: array of u32. */
export const SysctlPerfcOp = layout('xen_sysctl_perfc_op', {
  cmd: 'u32',
  nr_counters: 'u32',
  nr_vals: 'u32',
  desc: 'u64',
  val: 'u64',
});

/**
 * The sampling profiler's switch. Xen has none: this sysctl is the project's own, its number far from Xen's. Samples are
 * PROFILE_SAMPLE records in the trace buffers. `hz` 0 ends sampling; `domid` DOMID.IDLE: all domains.
 */
export const SYSCTL_PROFILE_OP = 0x7000;
export const SysctlProfileOp = layout('xenhost_sysctl_profile_op', { hz: 'u32', domid: 'u32' });
/** Samples a second of each pCPU at most. */
export const MAX_PROFILE_HZ = 10_000;

/** Data of a PROFILE_SAMPLE record, five words. */
export const ProfileSample = layout('xenhost_profile_sample', {
  vcpu: 'u16',
  domid: 'u16',
  /** ProfileFlag bits; exit reason << 8; hypercall number << 16 where `hypercall` is set. */
  info: 'u32',
  rip_low: 'u32',
  rip_high: 'u32',
  /** Frame of the page tables in use. */
  table: 'u32',
});
export const ProfileFlag = {
  /** The guest's kernel, else a program of it. */
  kernel: 1,
  /** The hypervisor worked for the guest. */
  xen: 2,
  /** `info` tells the hypercall. */
  hypercall: 4,
  /** The run ended in compiled code. */
  compiled: 8,
} as const;
