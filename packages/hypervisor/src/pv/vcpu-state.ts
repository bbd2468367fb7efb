/** The PV part of a vCPU record: control and debug registers as the guest sees them, trap table, private block. */
import { array, layout } from '@xenhost/base';
import type { View } from '@xenhost/base';
import type { MachineMemory } from '../state/machine-memory.ts';
import { VCPU_TRAP_TABLE, VcpuLayout } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';

/** `VcpuLayout.callbackFlags`: which callbacks mask events on entry. */
export const PvCallbackFlag = { failsafe: 1, syscall: 2, syscall32: 4, sysenter: 8 } as const;

const PvVcpuLayout = layout('pv vcpu', {
  /** I/O breakpoints that DR7 asks for: emulated, not armed in the engine. */
  dr7Emulated: 'u32',
  /** 1 from the delivery of an NMI until the next iret. */
  nmiMasked: 'u32',
  /** VGCF bits of the last context, as given. */
  contextFlags: 'u32',
  /* What the guest latched in emulated ports (ports.ts). */
  cmosIndex: 'u32',
  pciAddress: 'u32',
  pitControl: 'u32',
  pitSpeaker: 'u32',
  pitReload: 'u32',
  pitAccess: 'u32',
  pitLatch: 'u32',
  pitLatched: 'u32',
  pitStartNs: 'u64',
  /** MISC_FEATURES_ENABLES. */
  miscFeatures: 'u32',
  pad: array('u32', 1),
});
export type PvVcpuView = View<(typeof PvVcpuLayout)['fields']>;

export interface TrapEntry {
  readonly address: bigint;
  readonly cs: number;
  readonly flags: number;
}

const TRAP_ENTRY_SIZE = 16;

export class PvVcpuState {
  readonly #memory: MachineMemory;

  constructor(memory: MachineMemory) {
    this.#memory = memory;
  }

  private(vcpu: VcpuRef): PvVcpuView {
    return PvVcpuLayout.view(this.#memory, vcpu.address + VcpuLayout.offsets.pvPrivate);
  }

  /** NMIs may be delivered again. */
  unmaskNmi(vcpu: VcpuRef): void {
    this.#memory.u32[(vcpu.address + VcpuLayout.offsets.pvPrivate + PvVcpuLayout.offsets.nmiMasked) / 4] = 0;
  }

  ctrlreg(vcpu: VcpuRef, n: number): bigint {
    return this.#memory.dv.getBigUint64(vcpu.address + VcpuLayout.offsets.ctrlreg + 8 * n, true);
  }

  setCtrlreg(vcpu: VcpuRef, n: number, value: bigint): void {
    this.#memory.dv.setBigUint64(vcpu.address + VcpuLayout.offsets.ctrlreg + 8 * n, value, true);
  }

  debugreg(vcpu: VcpuRef, n: number): bigint {
    return this.#memory.dv.getBigUint64(vcpu.address + VcpuLayout.offsets.debugreg + 8 * n, true);
  }

  setDebugreg(vcpu: VcpuRef, n: number, value: bigint): void {
    this.#memory.dv.setBigUint64(vcpu.address + VcpuLayout.offsets.debugreg + 8 * n, value, true);
  }

  gdtFrame(vcpu: VcpuRef, n: number): number {
    return this.#memory.u32[(vcpu.address + VcpuLayout.offsets.gdtFrames) / 4 + n] ?? 0;
  }

  trap(vcpu: VcpuRef, vector: number): TrapEntry {
    const at = this.#trapAddress(vcpu, vector);
    const dv = this.#memory.dv;
    return { address: dv.getBigUint64(at, true), cs: dv.getUint16(at + 8, true), flags: dv.getUint16(at + 10, true) };
  }

  setTrap(vcpu: VcpuRef, vector: number, entry: TrapEntry): void {
    const at = this.#trapAddress(vcpu, vector);
    this.#memory.dv.setBigUint64(at, entry.address, true);
    this.#memory.dv.setUint16(at + 8, entry.cs, true);
    this.#memory.dv.setUint16(at + 10, entry.flags, true);
  }

  clearTraps(vcpu: VcpuRef): void {
    const at = this.#trapAddress(vcpu, 0);
    this.#memory.u8.fill(0, at, at + 256 * TRAP_ENTRY_SIZE);
  }

  #trapAddress(vcpu: VcpuRef, vector: number): number {
    return vcpu.address + VCPU_TRAP_TABLE + (vector & 0xff) * TRAP_ENTRY_SIZE;
  }
}
