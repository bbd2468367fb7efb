/** Event channels (`xen/include/public/event_channel.h`): operations, their structures, and both delivery ABIs. */
import { array, layout } from '@xenhost/base';

/** Sub-operations of event_channel_op. */
export const EVTCHNOP = {
  bind_interdomain: 0, bind_virq: 1, bind_pirq: 2, close: 3, send: 4, status: 5, alloc_unbound: 6, bind_ipi: 7,
  bind_vcpu: 8, unmask: 9, reset: 10, init_control: 11, expand_array: 12, set_priority: 13,
} as const; // prettier-ignore

/** What EVTCHNOP_status says of a port. */
export const EVTCHNSTAT = { closed: 0, unbound: 1, interdomain: 2, pirq: 3, virq: 4, ipi: 5 } as const;

export const EvtchnAllocUnbound = layout('evtchn_alloc_unbound', { dom: 'u16', remote_dom: 'u16', port: 'u32' });
export const EvtchnBindInterdomain = layout('evtchn_bind_interdomain', {
  remote_dom: 'u16',
  remote_port: 'u32',
  local_port: 'u32',
});
export const EvtchnBindVirq = layout('evtchn_bind_virq', { virq: 'u32', vcpu: 'u32', port: 'u32' });
export const EvtchnBindPirq = layout('evtchn_bind_pirq', { pirq: 'u32', flags: 'u32', port: 'u32' });
export const EvtchnBindIpi = layout('evtchn_bind_ipi', { vcpu: 'u32', port: 'u32' });
export const EvtchnPortOnly = layout('evtchn_close', { port: 'u32' });
export const EvtchnStatus = layout('evtchn_status', {
  dom: 'u16',
  port: 'u32',
  status: 'u32',
  vcpu: 'u32',
  /** u.unbound.dom and u.interdomain.dom (16 bits), u.pirq, u.virq (32 bits). */
  detail: 'u32',
  /** u.interdomain.port. */
  remote_port: 'u32',
});
export const EvtchnBindVcpu = layout('evtchn_bind_vcpu', { port: 'u32', vcpu: 'u32' });
export const EvtchnReset = layout('evtchn_reset', { dom: 'u16' });
export const EvtchnInitControl = layout('evtchn_init_control', {
  control_gfn: 'u64',
  offset: 'u32',
  vcpu: 'u32',
  link_bits: 'u8',
  pad: array('u8', 7),
});
export const EvtchnExpandArray = layout('evtchn_expand_array', { array_gfn: 'u64' });
export const EvtchnSetPriority = layout('evtchn_set_priority', { port: 'u32', priority: 'u32' });

/** Ports of the 2-level ABI, by the width of the guest's words. */
export const EVTCHN_2L_NR_CHANNELS = { 64: 4096, 32: 1024 } as const;

/** The FIFO ABI: event words, queues, limits. */
export const EVTCHN_FIFO = {
  PENDING: 31, MASKED: 30, LINKED: 29, BUSY: 28, LINK_BITS: 17, LINK_MASK: 0x1ffff, NR_CHANNELS: 0x20000,
  PRIORITY_MAX: 0, PRIORITY_DEFAULT: 7, PRIORITY_MIN: 15, MAX_QUEUES: 16,
} as const; // prettier-ignore

export const EvtchnFifoControlBlock = layout('evtchn_fifo_control_block', {
  ready: 'u32',
  rsvd: 'u32',
  head: array('u32', EVTCHN_FIFO.MAX_QUEUES),
});

/** Places in shared_info and vcpu_info that event delivery writes (`xen.h`), by the width of the guest's words. */
export const EVTCHN_PLACES = {
  64: { pending: 2048, mask: 2560, pendingSelector: 8 },
  32: { pending: 2048, mask: 2176, pendingSelector: 4 },
} as const;
export const VCPU_INFO_UPCALL_PENDING = 0;
export const VCPU_INFO_UPCALL_MASK = 1;

/** VIRQs that each vCPU binds for itself; all others are global (`evtchn_virq_type` in common/event_channel.c). */
export const PER_VCPU_VIRQS: readonly number[] = [0, 1, 7, 13];
