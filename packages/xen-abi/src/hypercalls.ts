/** Hypercall numbers (`xen/include/public/xen.h`). */
export const Hypercall = {
  set_trap_table: 0, mmu_update: 1, set_gdt: 2, stack_switch: 3, set_callbacks: 4, fpu_taskswitch: 5, sched_op_compat: 6,
  platform_op: 7, set_debugreg: 8, get_debugreg: 9, update_descriptor: 10, memory_op: 12, multicall: 13,
  update_va_mapping: 14, set_timer_op: 15, event_channel_op_compat: 16, xen_version: 17, console_io: 18,
  physdev_op_compat: 19, grant_table_op: 20, vm_assist: 21, update_va_mapping_otherdomain: 22, iret: 23, vcpu_op: 24,
  set_segment_base: 25, mmuext_op: 26, xsm_op: 27, nmi_op: 28, sched_op: 29, callback_op: 30, xenoprof_op: 31,
  event_channel_op: 32, physdev_op: 33, hvm_op: 34, sysctl: 35, domctl: 36, kexec_op: 37, tmem_op: 38, argo_op: 39,
  xenpmu_op: 40, dm_op: 41, hypfs_op: 42,
} as const; // prettier-ignore
export type HypercallName = keyof typeof Hypercall;

/** Reserved domain ids (`xen.h`, DOMID_*). */
export const DOMID = {
  FIRST_RESERVED: 0x7ff0, SELF: 0x7ff0, IO: 0x7ff1, XEN: 0x7ff2, COW: 0x7ff3, INVALID: 0x7ff4, IDLE: 0x7fff, MASK: 0x7fff,
} as const; // prettier-ignore

/** Virtual interrupts (`xen.h`, VIRQ_*). */
export const VIRQ = {
  TIMER: 0, DEBUG: 1, CONSOLE: 2, DOM_EXC: 3, TBUF: 4, DEBUGGER: 6, XENOPROF: 7, CON_RING: 8, PCPU_STATE: 9,
  MEM_EVENT: 10, ARGO: 11, ENOMEM: 12, XENPMU: 13, NR_VIRQS: 24,
} as const; // prettier-ignore

export const PAGE_SIZE = 4096;
export const PAGE_SHIFT = 12;
