/** The event fields of vcpu_info, wherever the vCPU has it: in shared_info or at a registered place. */
import { VCPU_INFO_UPCALL_MASK, VCPU_INFO_UPCALL_PENDING } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { VcpuRef } from '../state/refs.ts';

/** Byte address of the vCPU's vcpu_info, or undefined before it has one. */
export function vcpuInfoAddress(vcpu: VcpuRef): number | undefined {
  const mfn = vcpu.v.infoMfn;
  return mfn === 0 ? undefined : mfn * 4096 + vcpu.v.infoOffset;
}

/** Sets evtchn_upcall_pending; true when it was set already (or there is nothing to set). */
export function setUpcallPending(memory: MachineMemory, vcpu: VcpuRef): boolean {
  const info = vcpuInfoAddress(vcpu);
  return info === undefined || Atomics.exchange(memory.u8, info + VCPU_INFO_UPCALL_PENDING, 1) !== 0;
}

export function isUpcallPending(memory: MachineMemory, vcpu: VcpuRef): boolean {
  const info = vcpuInfoAddress(vcpu);
  return info !== undefined && Atomics.load(memory.u8, info + VCPU_INFO_UPCALL_PENDING) !== 0;
}

/** evtchn_upcall_mask as the guest has it (any byte); 0 before there is a vcpu_info. */
export function upcallMask(memory: MachineMemory, vcpu: VcpuRef): number {
  const info = vcpuInfoAddress(vcpu);
  return info === undefined ? 0 : Atomics.load(memory.u8, info + VCPU_INFO_UPCALL_MASK);
}

export function setUpcallMask(memory: MachineMemory, vcpu: VcpuRef, value: number): void {
  const info = vcpuInfoAddress(vcpu);
  if (info !== undefined) Atomics.store(memory.u8, info + VCPU_INFO_UPCALL_MASK, value);
}
