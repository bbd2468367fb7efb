/**
 * A guest's memory by the virtual addresses in its hypercall arguments, through the engine that has it loaded. Addresses
 * in Xen's own range are refused, as guest_handle_okay does, whatever is mapped there. What lies in one page, as nearly all
 * does, is found by the engine's TLB.
 */
import type { Engine } from '@xenhost/cpu';
import { HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START, isXensHalf } from '../mm/api.ts';
import { highHalf, lowHalf } from '../mm/pte.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { CallerMemory } from './types.ts';

/** Largest copy in one call; every structure of the ABI is far smaller. */
const MAX_COPY = 1 << 20;
const PAGE_MASK = 4095;

/** True when the range touches Xen's part of the address space or wraps. */
export function touchesXen(address: bigint, length: number): boolean {
  const end = address + BigInt(length);
  return end > 1n << 64n || (address < HYPERVISOR_VIRT_END && end > HYPERVISOR_VIRT_START);
}

export class GuestMemory implements CallerMemory {
  readonly #engine: Engine;
  readonly #memory: MachineMemory;

  constructor(engine: Engine, memory: MachineMemory) {
    this.#engine = engine;
    this.#memory = memory;
  }

  read(address: bigint, length: number): Uint8Array | undefined {
    const host = this.#place(address, length, false);
    if (host >= 0) return this.#memory.u8.slice(host, host + length);
    if (length > MAX_COPY || touchesXen(address, length)) return undefined;
    const bytes = new Uint8Array(length);
    return length === 0 || !this.#engine.readVirtual(address, bytes, true) ? bytes : undefined;
  }

  readWords(address: bigint, nr: number, into: Uint32Array): boolean {
    const host = this.#place(address, nr * 4, false);
    if (host < 0 || host % 4 !== 0) return false;
    const { u32 } = this.#memory;
    for (let i = 0; i < nr; i++) into[i] = u32[host / 4 + i] ?? 0;
    return true;
  }

  write(address: bigint, bytes: Uint8Array): boolean {
    const host = this.#place(address, bytes.length, true);
    if (host >= 0) {
      this.#memory.u8.set(bytes, host);
      return true;
    }
    if (touchesXen(address, bytes.length)) return false;
    return bytes.length === 0 || !this.#engine.writeVirtual(address, bytes, true);
  }

  /** Machine address of bytes that lie in one page, plainly there for the guest and not Xen's; -1 for anything else. */
  #place(address: bigint, length: number, isWrite: boolean): number {
    const low = lowHalf(address);
    const high = highHalf(address);
    if (length === 0 || (low & PAGE_MASK) + length > PAGE_MASK + 1 || isXensHalf(high)) return -1;
    return this.#engine.hostAddress(low | 0, high | 0, isWrite);
  }
}
