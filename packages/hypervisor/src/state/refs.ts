/** Handles on domain and vCPU records: an address and a typed view. Cheap to make, never stored across a lock release. */
import type { Domid, View } from '@xenhost/base';
import type { MachineMemory } from './machine-memory.ts';
import { DomainLayout, VcpuLayout } from './records.ts';

export interface DomainRef {
  readonly frame: number;
  /** Byte address of the record. */
  readonly address: number;
  readonly domid: Domid;
  readonly v: View<(typeof DomainLayout)['fields']>;
}

export interface VcpuRef {
  readonly frame: number;
  readonly address: number;
  readonly domid: Domid;
  readonly vcpuId: number;
  readonly v: View<(typeof VcpuLayout)['fields']>;
}

export function domainRef(memory: MachineMemory, frame: number): DomainRef {
  const address = frame * 4096;
  const v = DomainLayout.view(memory, address);
  return { frame, address, domid: v.domid as Domid, v };
}

export function vcpuRef(memory: MachineMemory, frame: number): VcpuRef {
  const address = frame * 4096;
  const v = VcpuLayout.view(memory, address);
  return { frame, address, domid: v.domid as Domid, vcpuId: v.vcpuId, v };
}

/** Byte address of element `i` of an array field that starts at `offset` of a record. */
export const at = (record: { readonly address: number }, offset: number, i: number, size: number): number =>
  record.address + offset + i * size;
