/**
 * Writes to memory areas that a PV guest registered by virtual address, through its kernel page tables (4 levels,
 * 4 KiB pages; validated tables hold no others). Not for hypercall arguments: those go through the engine.
 */
import { PAGE_SIZE } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { VcpuRef } from '../state/refs.ts';

const PRESENT = 1n;
const WRITABLE = 2n;
const FRAME_MASK = 0x000f_ffff_ffff_f000n;
const LEVEL_SHIFTS = [39n, 30n, 21n, 12n] as const;
const INDEX_MASK = 511n;

/** Machine address of a guest-virtual byte when the guest could write it, else undefined. */
export function writableMachineAddress(memory: MachineMemory, vcpu: VcpuRef, va: bigint): number | undefined {
  let table = vcpu.v.guestTable;
  if (table === 0) return undefined;
  for (const shift of LEVEL_SHIFTS) {
    if (table >= memory.nrFrames) return undefined;
    const index = Number((va >> shift) & INDEX_MASK);
    const entry = memory.u64[(table * PAGE_SIZE) / 8 + index] ?? 0n;
    if ((entry & PRESENT) === 0n || (entry & WRITABLE) === 0n) return undefined;
    table = Number((entry & FRAME_MASK) >> 12n);
  }
  return table < memory.nrFrames ? table * PAGE_SIZE + Number(va & 0xfffn) : undefined;
}

/** False when a byte of it is not mapped writable; may have written a part. */
export function writeGuest(memory: MachineMemory, vcpu: VcpuRef, va: bigint, bytes: Uint8Array): boolean {
  for (let done = 0; done < bytes.length;) {
    const address = writableMachineAddress(memory, vcpu, va + BigInt(done));
    if (address === undefined) return false;
    const chunk = Math.min(bytes.length - done, PAGE_SIZE - (address % PAGE_SIZE));
    memory.u8.set(bytes.subarray(done, done + chunk), address);
    done += chunk;
  }
  return true;
}
