/**
 * Where event channel state lies in machine memory: one record per port in buckets of one Xen-heap frame, and the
 * private blocks of the domain and vCPU records.
 */
import { array, layout } from '@xenhost/base';
import type { View } from '@xenhost/base';
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import { DomainLayout, VcpuLayout } from '../state/records.ts';
import type { DomainRef, VcpuRef } from '../state/refs.ts';

/** State of a port. `reserved` is port 0. */
export const PortState = { free: 0, reserved: 1, unbound: 2, interdomain: 3, pirq: 4, virq: 5, ipi: 6 } as const;

export const PortLayout = layout('port', {
  state: 'u8',
  /** FIFO: queue of future events. */
  priority: 'u8',
  /** FIFO: became pending while its event word was not there. */
  pending: 'u8',
  /** FIFO: queue it was linked on last, by priority and vCPU. */
  lastPriority: 'u8',
  notifyVcpu: 'u16',
  lastVcpu: 'u16',
  /** unbound: who may bind; interdomain: the peer. */
  remoteDomid: 'u32',
  remotePort: 'u32',
  /** virq or pirq number. */
  irq: 'u32',
  pad: array('u32', 3),
});
export type PortView = View<(typeof PortLayout)['fields']>;

/** Ports of a bucket: one frame. */
export const PORTS_PER_BUCKET = PAGE_SIZE / PortLayout.size;
/** Buckets of a domain: one directory frame of u32. */
export const MAX_BUCKETS = PAGE_SIZE / 4;
/** Domain-0's pending bits fill one frame. */
export const DOM0_NR_CHANNELS = PAGE_SIZE * 8;
export const NR_VIRQS = 24;

/** The event block of a domain record. */
const EventDomainLayout = layout('event domain', {
  /** Frame of u32: the frames of the port buckets. */
  directory: 'u32',
  /** No port below is free. */
  firstFree: 'u32',
  /** FIFO: frame of u32 with the guest frames of the event array, and how many ports they cover. */
  fifoDirectory: 'u32',
  fifoPorts: 'u32',
  /** Domain-0: frame of its pending bits. */
  dom0Pending: 'u32',
  /** Ports in use, port 0 not counted. */
  active: 'u32',
  globalVirqs: array('u32', NR_VIRQS),
});

/** The event block of a vCPU record. */
const EventVcpuLayout = layout('event vcpu', {
  /** FIFO control block: guest frame (0 for none) and offset. */
  controlMfn: 'u32',
  controlOffset: 'u32',
  /** FIFO: last port of each queue, 0 for an empty one. */
  tails: array('u32', 16),
});

const DOMAIN_BLOCK = DomainLayout.offsets.eventPrivate;
const VCPU_BLOCK = VcpuLayout.offsets.eventPrivate;

export type EventDomainView = View<(typeof EventDomainLayout)['fields']>;
export type EventVcpuView = View<(typeof EventVcpuLayout)['fields']>;

export const eventDomain = (memory: MachineMemory, domain: DomainRef): EventDomainView =>
  EventDomainLayout.view(memory, domain.address + DOMAIN_BLOCK);

export const eventVcpu = (memory: MachineMemory, vcpu: VcpuRef): EventVcpuView =>
  EventVcpuLayout.view(memory, vcpu.address + VCPU_BLOCK);

/** Word index (u32) of a vCPU's queue tail. */
export const tailIndex = (vcpu: VcpuRef, priority: number): number =>
  (vcpu.address + VCPU_BLOCK + EventVcpuLayout.offsets.tails) / 4 + priority;

/** Word index (u32) of a domain's port of a global VIRQ. */
export const globalVirqIndex = (domain: DomainRef, virq: number): number =>
  (domain.address + DOMAIN_BLOCK + EventDomainLayout.offsets.globalVirqs) / 4 + virq;

/** Word index (u32) of a vCPU's port of a per-vCPU VIRQ. */
export const vcpuVirqIndex = (vcpu: VcpuRef, virq: number): number =>
  (vcpu.address + VcpuLayout.offsets.virqPorts) / 4 + virq;
