/**
 * A guest's memory by the virtual addresses in its hypercall arguments, through the engine that has it loaded. Addresses
 * in Xen's own range are refused, as guest_handle_okay does, whatever is mapped there.
 */
import type { Engine } from '@xenhost/cpu';
import { HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START } from '../mm/api.ts';
import type { CallerMemory } from './types.ts';

/** Largest copy in one call; every structure of the ABI is far smaller. */
const MAX_COPY = 1 << 20;

/** True when the range touches Xen's part of the address space or wraps. */
export function touchesXen(address: bigint, length: number): boolean {
  const end = address + BigInt(length);
  return end > 1n << 64n || (address < HYPERVISOR_VIRT_END && end > HYPERVISOR_VIRT_START);
}

export class GuestMemory implements CallerMemory {
  readonly #engine: Engine;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  read(address: bigint, length: number): Uint8Array | undefined {
    if (length > MAX_COPY || touchesXen(address, length)) return undefined;
    const bytes = new Uint8Array(length);
    return length === 0 || !this.#engine.readVirtual(address, bytes, true) ? bytes : undefined;
  }

  write(address: bigint, bytes: Uint8Array): boolean {
    if (touchesXen(address, bytes.length)) return false;
    return bytes.length === 0 || !this.#engine.writeVirtual(address, bytes, true);
  }
}
