/**
 * Debug registers of PV guests: the record holds what the guest sees, the engine what is armed. I/O breakpoints are
 * never armed (they are emulated with the port). `set_debugreg` in xen/arch/x86/pv/misc-hypercalls.c, `do_debug`.
 */
import { Errno } from '@xenhost/base';
import type { CpuState, Engine } from '@xenhost/cpu';
import { HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START } from '../mm/api.ts';
import type { VcpuRef } from '../state/refs.ts';
import { CR4, DR6_DEFAULT, DR7_DEFAULT, isCanonical } from './constants.ts';
import type { PvVcpuState } from './vcpu-state.ts';

/** DR6: bit 12 is always 0, bits 4-11 and 16-31 always 1. DR7: bit 10 always 1, bits 11, 12, 14, 15 always 0. */
const DR6_ONES = 0xffff_0ff0n;
const DR6_ZEROES = 0x1000n;
const DR6_SINGLE_STEP = 0x4000n;
const DR7_ONES = 0x400n;
const DR7_ZEROES = 0xd800n;
const DR7_GENERAL_DETECT = 0x2000n;
const DR7_ENABLES = 0xffn;
const DR_KIND_IO = 2n;
const U32 = 0xffff_ffffn;

const addressAllowed = (address: bigint): boolean =>
  isCanonical(address) && (address < HYPERVISOR_VIRT_START || address >= HYPERVISOR_VIRT_END);

export class DebugRegisters {
  readonly #states: PvVcpuState;

  constructor(states: PvVcpuState) {
    this.#states = states;
  }

  /** Everything off, as after reset. */
  reset(vcpu: VcpuRef, state: CpuState): void {
    for (let n = 0; n < 8; n++) this.#states.setDebugreg(vcpu, n, 0n);
    this.#states.setDebugreg(vcpu, 6, DR6_DEFAULT);
    this.#states.setDebugreg(vcpu, 7, DR7_DEFAULT);
    this.#states.private(vcpu).dr7Emulated = 0;
    Object.assign(state, { dr0: 0n, dr1: 0n, dr2: 0n, dr3: 0n, dr6: DR6_DEFAULT, dr7: DR7_DEFAULT });
  }

  /** The register as the guest reads it; undefined where MOV DR raises #UD. */
  read(vcpu: VcpuRef, n: number): bigint | undefined {
    const alias = this.#alias(vcpu, n);
    if (alias === undefined) return undefined;
    const value = this.#states.debugreg(vcpu, alias);
    return alias === 7 ? value | BigInt(this.#states.private(vcpu).dr7Emulated) : value;
  }

  /** 0; -ENODEV: no such register (#UD); -EINVAL, -EPERM: refused (#GP). */
  write(vcpu: VcpuRef, state: CpuState, n: number, value: bigint): number {
    const alias = this.#alias(vcpu, n);
    if (alias === undefined) return -Errno.ENODEV;
    if (alias === 7) return this.#writeControl(vcpu, state, value);
    if (alias === 6) {
      if (value > U32) return -Errno.EINVAL;
      this.#store(vcpu, state, 6, (value & ~DR6_ZEROES) | DR6_ONES);
      return 0;
    }
    if (!addressAllowed(value)) return -Errno.EPERM;
    this.#store(vcpu, state, alias, value);
    return 0;
  }

  /** #DB: what the CPU found goes into the guest's DR6, the engine's is cleared for the next one. */
  latchStatus(vcpu: VcpuRef, engine: Engine): void {
    const hit = engine.state.dr6;
    engine.state.dr6 = DR6_DEFAULT;
    const seen = this.#states.debugreg(vcpu, 6) | (hit & ~DR6_DEFAULT);
    this.#states.setDebugreg(vcpu, 6, seen & (hit | ~DR6_DEFAULT) & U32);
  }

  /** An emulated instruction ran with TF set. */
  singleStepped(vcpu: VcpuRef): void {
    this.#states.setDebugreg(vcpu, 6, this.#states.debugreg(vcpu, 6) | DR6_SINGLE_STEP | DR6_ONES);
  }

  /** Breakpoints that an access to `length` ports at `port` hits, latched in DR6; true when there are any. */
  portAccessed(vcpu: VcpuRef, port: number, length: number): boolean {
    const emulated = this.#states.private(vcpu).dr7Emulated;
    if (emulated === 0 || (this.#states.ctrlreg(vcpu, 4) & CR4.DE) === 0n) return false;
    const control = this.#states.debugreg(vcpu, 7);
    let hits = 0n;
    for (let n = 0; n < 4; n++) {
      if ((emulated & (3 << (2 * n))) === 0) continue;
      const width = [1n, 2n, 8n, 4n][Number((control >> BigInt(18 + 4 * n)) & 3n)] ?? 1n;
      const start = this.#states.debugreg(vcpu, n) & ~(width - 1n);
      if (start < BigInt(port + length) && start + width > BigInt(port)) hits |= 1n << BigInt(n);
    }
    if (hits !== 0n) this.#states.setDebugreg(vcpu, 6, this.#states.debugreg(vcpu, 6) | hits | DR6_ONES);
    return hits !== 0n;
  }

  /** DR4 and DR5 are DR6 and DR7, unless CR4.DE takes them away. */
  #alias(vcpu: VcpuRef, n: number): number | undefined {
    if (n < 0 || n > 7) return undefined;
    if (n !== 4 && n !== 5) return n;
    return (this.#states.ctrlreg(vcpu, 4) & CR4.DE) !== 0n ? undefined : n + 2;
  }

  #writeControl(vcpu: VcpuRef, state: CpuState, given: bigint): number {
    if (given > U32) return -Errno.EINVAL;
    const value = (given & ~DR7_ZEROES) | DR7_ONES;
    if ((value & DR7_GENERAL_DETECT) !== 0n) return -Errno.EPERM;
    let emulated = 0n;
    if ((value & DR7_ENABLES) !== 0n) {
      for (let n = 0n; n < 4n; n++) {
        if (((value >> (16n + 4n * n)) & 3n) !== DR_KIND_IO) continue;
        if ((this.#states.ctrlreg(vcpu, 4) & CR4.DE) === 0n) return -Errno.EPERM;
        emulated |= value & (3n << (2n * n));
      }
    }
    this.#states.private(vcpu).dr7Emulated = Number(emulated);
    this.#store(vcpu, state, 7, value & ~emulated);
    return 0;
  }

  #store(vcpu: VcpuRef, state: CpuState, n: number, value: bigint): void {
    this.#states.setDebugreg(vcpu, n, value);
    switch (n) {
      case 0:
        state.dr0 = value;
        break;
      case 1:
        state.dr1 = value;
        break;
      case 2:
        state.dr2 = value;
        break;
      case 3:
        state.dr3 = value;
        break;
      case 7:
        state.dr7 = value;
        break;
    }
  }
}
