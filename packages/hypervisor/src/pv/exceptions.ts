/**
 * What the IDT, LSTAR and SYSENTER entry points do on a real machine: exits of a PV vCPU become hypercalls, emulated
 * instructions or traps of the guest. `xen/arch/x86/traps.c`, `pv/traps.c`, `pv/emul-inv-op.c`, `x86_64/entry.S`.
 */
import { ATTR, ExitReason, RFLAGS, SEG, cpuidWithState } from '@xenhost/cpu';
import type { Engine, Exit } from '@xenhost/cpu';
import {
  FLAT_RING3_CS64,
  FLAT_RING3_DS,
  FORCED_EMULATION_PREFIX,
  TRAP_INFO_DPL,
  TRAP_INFO_MASK_EVENTS,
  TraceEvent,
} from '@xenhost/xen-abi';
import { vcpuInfoAddress } from '../event/vcpu-info.ts';
import type { VcpuRef } from '../state/refs.ts';
import { COUNTER } from '../trace/counter-table.ts';
import type { PvModules, PvOutcome } from './api.ts';
import type { Bouncer } from './bounce.ts';
import { CR0, ERROR_IDT, FlatSegment, LEGACY_SYSCALL_VECTOR, PFEC, Trap } from './constants.ts';
import type { DebugRegisters } from './debug.ts';
import { isKernelMode, loadFlatKernel } from './mode.ts';
import type { PrivilegedEmulator } from './privileged.ts';
import { PvCallbackFlag } from './vcpu-state.ts';
import type { PvVcpuState } from './vcpu-state.ts';

/** Vectors that push an error code. */
const WITH_ERROR_CODE = new Set<number>([
  Trap.DF, Trap.TS, Trap.NP, Trap.SS, Trap.GP, Trap.PF, Trap.AC, Trap.CP,
]); // prettier-ignore
/** Offset of arch.cr2 in a 64-bit vcpu_info. */
const VCPU_INFO_CR2 = 16;
const CPUID = [0x0f, 0xa2];
const RF = Number(RFLAGS.rf);
const SYSCALL_LENGTH = 2n;
const VMCALL_LENGTH = 3n;
const INT_N_LENGTH = 2;
const U32 = 0xffff_ffffn;
/** CPUID.1:ECX: XSAVE, OSXSAVE. */
const XSAVE = 1 << 26;
const OSXSAVE = 1 << 27;

export class Exceptions {
  readonly #modules: PvModules;
  readonly #states: PvVcpuState;
  readonly #bouncer: Bouncer;
  readonly #debug: DebugRegisters;
  #emulator: PrivilegedEmulator | undefined;

  constructor(modules: PvModules, states: PvVcpuState, bouncer: Bouncer, debug: DebugRegisters) {
    this.#modules = modules;
    this.#states = states;
    this.#bouncer = bouncer;
    this.#debug = debug;
  }

  /** The emulator injects through this class; `pv.ts` joins the two. */
  useEmulator(emulator: PrivilegedEmulator): void {
    this.#emulator = emulator;
  }

  handle(vcpu: VcpuRef, engine: Engine, exit: Exit): PvOutcome {
    switch (exit.reason) {
      case ExitReason.exception:
        return this.#exception(vcpu, engine, exit);
      case ExitReason.softwareInterrupt:
        return this.#softwareInterrupt(vcpu, engine, exit);
      case ExitReason.syscall:
        return this.#syscall(vcpu, engine);
      case ExitReason.sysenter:
        return this.#sysenter(vcpu, engine);
      case ExitReason.hypercall:
        // VMCALL and VMMCALL are no instructions for a PV guest.
        engine.state.rip -= VMCALL_LENGTH;
        return this.inject(vcpu, engine, Trap.UD);
      default:
        throw new Error(`exit ${exit.reason} is not for the PV model`);
    }
  }

  /** Gives the guest an exception as its CPU would: vectors with an error code take `errorCode`. */
  inject(vcpu: VcpuRef, engine: Engine, vector: number, errorCode = 0): PvOutcome {
    const code = WITH_ERROR_CODE.has(vector) ? errorCode >>> 0 : undefined;
    return this.#deliver(vcpu, engine, vector, code);
  }

  /** A #PF at `address`: CR2 in vcpu_info, U bit as the guest's mode says. */
  injectPageFault(vcpu: VcpuRef, engine: Engine, address: bigint, errorCode: number): PvOutcome {
    this.#states.setCtrlreg(vcpu, 2, address);
    const info = vcpuInfoAddress(vcpu);
    if (info !== undefined) this.#modules.memory.dv.setBigUint64(info + VCPU_INFO_CR2, address, true);
    const code = isKernelMode(vcpu) ? errorCode & ~PFEC.user : errorCode | PFEC.user;
    const tracer = this.#modules.observer?.tracer;
    if (tracer?.on) tracer.pageFault(engine.state.rip, address, code);
    return this.#deliver(vcpu, engine, Trap.PF, code);
  }

  /** An emulated instruction is done: RIP moves, and single-stepping traps. */
  instructionDone(vcpu: VcpuRef, engine: Engine, rip: bigint): PvOutcome {
    const { state } = engine;
    state.rip = rip;
    state.interruptShadow = 0;
    const flags = state.rflags;
    state.rflags = flags & ~RFLAGS.rf;
    if ((flags & RFLAGS.tf) === 0n) return 'resume';
    this.#debug.singleStepped(vcpu);
    return this.inject(vcpu, engine, Trap.DB);
  }

  #deliver(vcpu: VcpuRef, engine: Engine, vector: number, errorCode: number | undefined): PvOutcome {
    const tracer = this.#modules.observer?.tracer;
    if (tracer?.on && vector !== Trap.PF) tracer.trap(engine.state.rip, vector, errorCode);
    const trap = this.#states.trap(vcpu, vector);
    const bounce = { address: trap.address, maskEvents: (trap.flags & TRAP_INFO_MASK_EVENTS) !== 0, errorCode };
    return this.#bouncer.bounce(vcpu, engine, bounce, `trap ${vector}`) ? 'resume' : 'stop';
  }

  #exception(vcpu: VcpuRef, engine: Engine, exit: Exit): PvOutcome {
    const { vector } = exit;
    const errorCode = exit.hasErrorCode ? exit.errorCode : 0;
    switch (vector) {
      case Trap.PF:
        if (this.#modules.mm.fixPageFault(vcpu, engine, exit.address, errorCode)) {
          this.#modules.observer?.counters.count(COUNTER.pageFaultsFixed);
          return 'resume';
        }
        return this.injectPageFault(vcpu, engine, exit.address, errorCode);
      case Trap.GP:
        if (errorCode === 0) {
          const { rip } = engine.state;
          const outcome = this.#emulator?.emulate(vcpu, engine);
          if (outcome !== undefined) {
            this.#countEmulation(rip);
            return outcome;
          }
        }
        return this.inject(vcpu, engine, vector, errorCode);
      case Trap.UD:
        return this.#forcedEmulation(vcpu, engine) ?? this.inject(vcpu, engine, vector);
      case Trap.NM:
        return this.#deviceNotAvailable(vcpu, engine);
      case Trap.DB:
        this.#debug.latchStatus(vcpu, engine);
        return this.inject(vcpu, engine, vector);
      default:
        return this.inject(vcpu, engine, vector, errorCode);
    }
  }

  #countEmulation(rip: bigint): void {
    const { observer } = this.#modules;
    observer?.counters.count(COUNTER.privops);
    if (observer?.tracer.on) observer.tracer.address(TraceEvent.PV_EMULATE_PRIVOP, rip);
  }

  #deviceNotAvailable(vcpu: VcpuRef, engine: Engine): PvOutcome {
    const { state } = engine;
    state.cr0 &= ~CR0.TS;
    engine.stateChanged();
    const guest = this.#states.ctrlreg(vcpu, 0);
    if ((guest & CR0.TS) === 0n) return 'resume';
    const outcome = this.inject(vcpu, engine, Trap.NM);
    this.#states.setCtrlreg(vcpu, 0, guest & ~CR0.TS);
    return outcome;
  }

  #softwareInterrupt(vcpu: VcpuRef, engine: Engine, exit: Exit): PvOutcome {
    const { state } = engine;
    const { vector, length } = exit;
    const after = BigInt.asUintN(64, state.rip + BigInt(length));
    // INT3, INTO and INT1 have gates that ring 3 may use: the guest's DPL is not asked.
    if (vector === Trap.BP || vector === Trap.OF || (vector === Trap.DB && length < INT_N_LENGTH)) {
      state.rip = after;
      if (vector === Trap.DB) this.#debug.latchStatus(vcpu, engine);
      return this.inject(vcpu, engine, vector);
    }
    const trap = this.#states.trap(vcpu, vector);
    const allowed =
      vector === LEGACY_SYSCALL_VECTOR
        ? trap.address !== 0n
        : (trap.flags & TRAP_INFO_DPL) >= (isKernelMode(vcpu) ? 1 : 3);
    if (!allowed) return this.inject(vcpu, engine, Trap.GP, (vector << 3) | ERROR_IDT);
    state.rip = after;
    return this.#deliver(vcpu, engine, vector, undefined);
  }

  #syscall(vcpu: VcpuRef, engine: Engine): PvOutcome {
    const { state } = engine;
    state.rcx = state.rip;
    const flags = state.flags32 & ~RF;
    state.flags32 = flags;
    state.r11 = BigInt(flags >>> 0);
    const compat = (state.csAttributes & ATTR.long) === 0;
    if (isKernelMode(vcpu) && !compat) {
      if (state.selector(SEG.cs) !== FLAT_RING3_CS64 || state.selector(SEG.ss) !== FLAT_RING3_DS) {
        loadFlatKernel(state);
        engine.stateChanged();
      }
      this.#modules.dispatchHypercall(vcpu, engine);
      return 'resume';
    }
    state.setSegment(SEG.cs, compat ? FlatSegment.code32 : FlatSegment.code64);
    state.setSegment(SEG.ss, FlatSegment.data);
    const address = compat ? vcpu.v.syscall32Callback : vcpu.v.syscallCallback;
    if (address === 0n) {
      state.rip -= SYSCALL_LENGTH;
      return this.inject(vcpu, engine, Trap.UD);
    }
    // One flag governs both callbacks here, as in Xen.
    const maskEvents = (vcpu.v.callbackFlags & PvCallbackFlag.syscall) !== 0;
    if (!this.#bouncer.bounce(vcpu, engine, { address, maskEvents }, 'syscall')) return 'stop';
    state.rflags &= ~RFLAGS.df;
    state.r11 = state.rflags;
    return 'resume';
  }

  /** SYSENTER leaves no return address: the frame says so with cs 3, rip 0, rsp 0. */
  #sysenter(vcpu: VcpuRef, engine: Engine): PvOutcome {
    const { state } = engine;
    state.setSegment(SEG.cs, { ...FlatSegment.code64, selector: 3 });
    state.setSegment(SEG.ss, FlatSegment.data);
    state.rip = 0n;
    state.rsp = 0n;
    state.rflags = (state.rflags & ~(RFLAGS.vm | RFLAGS.rf)) | RFLAGS.if;
    const address = vcpu.v.sysenterCallback;
    if (address === 0n) return this.inject(vcpu, engine, Trap.GP, 0);
    const maskEvents = (vcpu.v.callbackFlags & PvCallbackFlag.sysenter) !== 0;
    return this.#bouncer.bounce(vcpu, engine, { address, maskEvents }, 'sysenter') ? 'resume' : 'stop';
  }

  /** `ud2; "xen"; cpuid`: CPUID as Xen wants it seen. undefined when the bytes are something else. */
  #forcedEmulation(vcpu: VcpuRef, engine: Engine): PvOutcome | undefined {
    const { state } = engine;
    const prefix = new Uint8Array(FORCED_EMULATION_PREFIX.length);
    const start = BigInt.asUintN(64, state.rip + state.codeBase);
    const fault = engine.readVirtual(start, prefix, true);
    if (fault) return this.injectPageFault(vcpu, engine, fault.address, 0);
    if (!FORCED_EMULATION_PREFIX.every((byte, i) => prefix[i] === byte)) return undefined;
    const code = new Uint8Array(CPUID.length);
    const at = start + BigInt(prefix.length);
    const codeFault = engine.readVirtual(at, code, true);
    if (codeFault) return this.injectPageFault(vcpu, engine, codeFault.address, 0);
    if (!CPUID.every((byte, i) => code[i] === byte)) return undefined;
    this.cpuid(vcpu, engine, isKernelMode(vcpu));
    return this.instructionDone(vcpu, engine, state.rip + BigInt(prefix.length + code.length));
  }

  /**
   * `seesOsxsave`: a PV kernel that asks Xen finds OSXSAVE set before it has set CR4.OSXSAVE, which it takes for the word
   * that it may (Linux's xen_check_xsave); the instruction itself says what CR4 says.
   */
  cpuid(vcpu: VcpuRef, engine: Engine, seesOsxsave = false): void {
    const { state } = engine;
    const number = Number(state.rax & U32);
    const subleaf = Number(state.rcx & U32);
    const leaf = cpuidWithState(state, number, subleaf, this.#modules.cpuid(vcpu, number, subleaf));
    const leaksOsxsave = seesOsxsave && number === 1 && (leaf.ecx & XSAVE) !== 0;
    state.rax = BigInt(leaf.eax >>> 0);
    state.rbx = BigInt(leaf.ebx >>> 0);
    state.rcx = BigInt((leaksOsxsave ? leaf.ecx | OSXSAVE : leaf.ecx) >>> 0);
    state.rdx = BigInt(leaf.edx >>> 0);
  }
}
