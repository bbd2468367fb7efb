/** Atomic bit operations on machine memory: guests change the same words at the same time. */
import type { MachineMemory } from '../state/machine-memory.ts';

/** Sets bit `bit` of the little-endian bitmap at byte `base` (4-aligned); true when it was set already. */
export function testAndSetBit(memory: MachineMemory, base: number, bit: number): boolean {
  const mask = 1 << (bit & 31);
  return (Atomics.or(memory.i32, base / 4 + (bit >>> 5), mask) & mask) !== 0;
}

export function clearBit(memory: MachineMemory, base: number, bit: number): void {
  Atomics.and(memory.i32, base / 4 + (bit >>> 5), ~(1 << (bit & 31)));
}

export function testBit(memory: MachineMemory, base: number, bit: number): boolean {
  return (Atomics.load(memory.i32, base / 4 + (bit >>> 5)) & (1 << (bit & 31))) !== 0;
}
