/**
 * Entering the guest's kernel at a handler: the frame on its stack and the registers it starts with.
 * `create_bounce_frame` in xen/arch/x86/x86_64/entry.S, `load_segments` for the failsafe frame.
 */
import { RFLAGS, SEG } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import { VMASST } from '@xenhost/xen-abi';
import { setUpcallMask, upcallMask } from '../event/vcpu-info.ts';
import { HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START } from '../mm/api.ts';
import type { VcpuRef } from '../state/refs.ts';
import type { PvModules } from './api.ts';
import { isKernelMode, loadFlatKernel, toggleMode } from './mode.ts';

export interface Bounce {
  /** Handler; 0 crashes the domain. */
  readonly address: bigint;
  /** Sets evtchn_upcall_mask on entry. */
  readonly maskEvents: boolean;
  readonly errorCode?: number | undefined;
}

const CLEARED_ON_ENTRY = RFLAGS.ac | RFLAGS.vm | RFLAGS.rf | RFLAGS.nt | RFLAGS.tf;
const VIRTUALISED = RFLAGS.if | RFLAGS.iopl;

export const hasAssist = (assists: number, type: number): boolean => (assists & (1 << type)) !== 0;

export class Bouncer {
  readonly #modules: PvModules;

  constructor(modules: PvModules) {
    this.#modules = modules;
  }

  /** Builds the frame and moves the vCPU to the handler; false when that crashed the domain. */
  bounce(vcpu: VcpuRef, engine: Engine, { address, maskEvents, errorCode }: Bounce, reason: string): boolean {
    if (address === 0n) return this.crash(vcpu, engine, `no guest handler for ${reason}`);
    const { state } = engine;
    const words = [state.rcx, state.r11];
    if (errorCode !== undefined) words.push(BigInt(errorCode));
    if (!this.#push(vcpu, engine, words, maskEvents, reason)) return false;
    this.#enter(engine, address);
    return true;
  }

  /** The failsafe callback: data segments that could not be loaded are in the frame. */
  failsafe(vcpu: VcpuRef, engine: Engine, selectors: readonly number[], maskEvents: boolean): boolean {
    const address = vcpu.v.failsafeCallback;
    if (address === 0n) return this.crash(vcpu, engine, 'segment load failed and there is no failsafe callback');
    const words = [engine.state.rcx, engine.state.r11, ...selectors.map(BigInt)];
    if (!this.#push(vcpu, engine, words, maskEvents, 'the failsafe callback')) return false;
    this.#enter(engine, address);
    return true;
  }

  crash(vcpu: VcpuRef, engine: Engine, text: string): false {
    this.#modules.crashDomain(this.#modules.domainOf(vcpu), vcpu, text, engine);
    return false;
  }

  /** Writes `below` and then rip, cs with the upcall mask, rflags, rsp and ss to the kernel stack. */
  #push(vcpu: VcpuRef, engine: Engine, below: readonly bigint[], maskEvents: boolean, reason: string): boolean {
    const { memory } = this.#modules;
    const { state } = engine;
    const old = { rip: state.rip, cs: state.selector(SEG.cs), ss: state.selector(SEG.ss), rsp: state.rsp };
    const fromKernel = isKernelMode(vcpu);
    if (fromKernel) old.cs &= ~3;
    else toggleMode(this.#modules.mm, vcpu, engine);
    const mask = upcallMask(memory, vcpu);
    const words = [
      ...below,
      old.rip,
      BigInt(old.cs) | (BigInt(mask) << 32n),
      this.#frameFlags(vcpu, state.rflags, mask),
      old.rsp,
      BigInt(old.ss),
    ];
    // The five words of the hardware frame and rcx, r11 start at an aligned stack; an error code goes below.
    const top = (fromKernel ? old.rsp : vcpu.v.kernelSp) & ~0xfn;
    const base = BigInt.asUintN(64, top - 8n * BigInt(words.length));
    if (top > HYPERVISOR_VIRT_START && base < HYPERVISOR_VIRT_END) {
      return this.crash(vcpu, engine, `kernel stack at ${hex(top)} for ${reason}`);
    }
    const bytes = new Uint8Array(new BigUint64Array(words).buffer);
    const fault = engine.writeVirtual(base, bytes, true);
    if (fault) return this.crash(vcpu, engine, `cannot write the frame for ${reason} at ${hex(base)}`);
    if (maskEvents) setUpcallMask(memory, vcpu, 1);
    state.rsp = base;
    return true;
  }

  #frameFlags(vcpu: VcpuRef, rflags: bigint, mask: number): bigint {
    const assists = this.#modules.domainOf(vcpu).v.vmAssist;
    const iopl = hasAssist(assists, VMASST.ARCHITECTURAL_IOPL) ? BigInt(vcpu.v.iopl & 3) << 12n : 0n;
    return (rflags & ~VIRTUALISED) | (mask === 0 ? RFLAGS.if : 0n) | iopl;
  }

  #enter(engine: Engine, address: bigint): void {
    const { state } = engine;
    loadFlatKernel(state);
    state.rflags = (state.rflags & ~CLEARED_ON_ENTRY) | RFLAGS.if;
    state.rip = address;
    // Xen enters handlers by SYSRET.
    state.rcx = address;
    state.r11 = state.rflags;
    state.interruptShadow = 0;
    engine.stateChanged();
  }
}

export const hex = (value: bigint): string => `0x${value.toString(16)}`;
