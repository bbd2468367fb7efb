/**
 * Privileged instructions of PV kernels, emulated on #GP(0): `pv_emulate_privileged_op` in
 * xen/arch/x86/pv/emul-priv-op.c. What is not in the table below is the guest's own #GP.
 */
import { ATTR, RFLAGS, SEG } from '@xenhost/cpu';
import type { CpuState, Engine } from '@xenhost/cpu';
import { VMASST } from '@xenhost/xen-abi';
import { vcpuInfoAddress } from '../event/vcpu-info.ts';
import type { VcpuRef } from '../state/refs.ts';
import type { PvModules, PvOutcome } from './api.ts';
import { hasAssist } from './bounce.ts';
import { CR0, CR4, CR4_GUEST, CR4_VISIBLE, MACHINE_CR0, MACHINE_CR4, PFEC, Trap, isCanonical } from './constants.ts';
import type { DebugRegisters } from './debug.ts';
import { MAX_INSTRUCTION, decodePrivileged } from './decode.ts';
import type { PrivilegedInstruction } from './decode.ts';
import type { Exceptions } from './exceptions.ts';
import { isKernelMode, toggleMode } from './mode.ts';
import { PvMsrs } from './msr.ts';
import type { PvPorts } from './ports.ts';
import type { PvVcpuState } from './vcpu-state.ts';

const U32 = 0xffff_ffffn;
const VCPU_INFO_CR2 = 16;
/** Elements of a repeated string instruction done before events are looked at again. */
const MAX_REPEATS = 256;
const XCR0_X87 = 1n;
const XCR0_SSE_AVX = 6n;
const XSTATE_LEAF = 0xd;
const LEAF1_EDX_DE = 1 << 2;
const LEAF1_ECX_XSAVE = 1 << 26;
const LEAF7_EBX_FSGSBASE = 1;

type Of<K extends PrivilegedInstruction['kind']> = Extract<PrivilegedInstruction, { readonly kind: K }>;
/** `fault`: #GP(0) for the guest; `undefined`: done, RIP moves on; an outcome: RIP is already right. */
type Step = 'fault' | undefined | { readonly outcome: PvOutcome };

export class PrivilegedEmulator {
  readonly #modules: PvModules;
  readonly #states: PvVcpuState;
  readonly #exceptions: Exceptions;
  readonly #debug: DebugRegisters;
  readonly #ports: PvPorts;
  readonly #msrs: PvMsrs;

  constructor(modules: PvModules, states: PvVcpuState, exceptions: Exceptions, debug: DebugRegisters, ports: PvPorts) {
    this.#modules = modules;
    this.#states = states;
    this.#exceptions = exceptions;
    this.#debug = debug;
    this.#ports = ports;
    this.#msrs = new PvMsrs(modules);
  }

  /** undefined: not an instruction of ours, or not allowed: the guest gets its #GP(0). */
  emulate(vcpu: VcpuRef, engine: Engine): PvOutcome | undefined {
    const { state } = engine;
    const attributes = state.segment(SEG.cs).attributes;
    const codeBits = (attributes & ATTR.long) !== 0 ? 64 : (attributes & ATTR.big) !== 0 ? 32 : 16;
    const bytes = fetch(engine, BigInt.asUintN(64, state.rip + state.codeBase));
    const instruction = decodePrivileged(bytes, codeBits);
    if (instruction === undefined) return undefined;
    const step = this.#execute(vcpu, engine, instruction);
    if (step === 'fault') return undefined;
    if (step !== undefined) return step.outcome;
    return this.#exceptions.instructionDone(vcpu, engine, BigInt.asUintN(64, state.rip + BigInt(instruction.length)));
  }

  /** fpu_taskswitch: the guest's CR0.TS, and the engine's. */
  setTaskSwitched(vcpu: VcpuRef, engine: Engine, set: boolean): void {
    const guest = this.#states.ctrlreg(vcpu, 0) & ~CR0.TS;
    this.#states.setCtrlreg(vcpu, 0, set ? guest | CR0.TS : guest);
    engine.state.cr0 = (engine.state.cr0 & ~CR0.TS) | (set ? CR0.TS : 0n);
    engine.stateChanged();
  }

  /** What a guest gets when it asks for CR4 `wanted`: its own bits within the policy, Xen's choice of the others. */
  guestCr4(vcpu: VcpuRef, wanted: bigint): bigint {
    const leaf1 = this.#modules.cpuid(vcpu, 1, 0);
    let mask = CR4_GUEST;
    if ((leaf1.edx & LEAF1_EDX_DE) === 0) mask &= ~CR4.DE;
    if ((leaf1.ecx & LEAF1_ECX_XSAVE) === 0) mask &= ~CR4.OSXSAVE;
    if ((this.#modules.cpuid(vcpu, 7, 0).ebx & LEAF7_EBX_FSGSBASE) === 0) mask &= ~CR4.FSGSBASE;
    return (wanted & mask) | CR4_VISIBLE;
  }

  /** CR4 of the engine for a guest's view of it. */
  static engineCr4(guest: bigint): bigint {
    return MACHINE_CR4 | (guest & CR4_GUEST);
  }

  #execute(vcpu: VcpuRef, engine: Engine, i: PrivilegedInstruction): Step {
    switch (i.kind) {
      case 'cli':
      case 'sti':
        // Events are masked in vcpu_info only; with IOPL the instruction does nothing.
        return this.#ioplAllows(vcpu) ? undefined : 'fault';
      case 'in':
      case 'out':
        return this.#portAccess(vcpu, engine, i);
      case 'ins':
      case 'outs':
        return this.#stringAccess(vcpu, engine, i);
      case 'cpuid':
        this.#exceptions.cpuid(vcpu, engine);
        return undefined;
      default:
        return isKernelMode(vcpu) ? this.#kernelOnly(vcpu, engine, i) : 'fault';
    }
  }

  #kernelOnly(vcpu: VcpuRef, engine: Engine, i: PrivilegedInstruction): Step {
    const { state } = engine;
    switch (i.kind) {
      case 'clts':
        this.setTaskSwitched(vcpu, engine, false);
        return undefined;
      case 'wbinvd':
        return undefined;
      case 'rdtsc':
      case 'rdtscp': {
        setPair(state, this.#modules.readTsc(vcpu));
        if (i.kind === 'rdtscp') state.rcx = state.tscAux & U32;
        return undefined;
      }
      case 'rdmsr': {
        const value = this.#msrs.read(vcpu, engine, Number(state.rcx & U32));
        if (value === undefined) return 'fault';
        setPair(state, value);
        return undefined;
      }
      case 'wrmsr':
        return this.#msrs.write(vcpu, engine, Number(state.rcx & U32), pair(state)) ? undefined : 'fault';
      case 'xsetbv':
        return this.#xsetbv(vcpu, engine);
      case 'readCr': {
        const value = this.#readCr(vcpu, i.register);
        if (value === undefined) return 'fault';
        state.setGpr(i.gpr, value);
        return undefined;
      }
      case 'writeCr':
        return this.#writeCr(vcpu, engine, i.register, state.gpr(i.gpr)) ? undefined : 'fault';
      case 'readDr': {
        const value = this.#debug.read(vcpu, i.register);
        if (value === undefined) return { outcome: this.#exceptions.inject(vcpu, engine, Trap.UD) };
        state.setGpr(i.gpr, value);
        return undefined;
      }
      case 'writeDr': {
        const status = this.#debug.write(vcpu, state, i.register, state.gpr(i.gpr));
        if (status === 0) {
          engine.stateChanged();
          return undefined;
        }
        return i.register > 7 || this.#debug.read(vcpu, i.register) === undefined
          ? { outcome: this.#exceptions.inject(vcpu, engine, Trap.UD) }
          : 'fault';
      }
      default:
        return 'fault';
    }
  }

  #readCr(vcpu: VcpuRef, register: number): bigint | undefined {
    switch (register) {
      case 0:
        return MACHINE_CR0 | (this.#states.ctrlreg(vcpu, 0) & CR0.TS);
      case 2:
      case 4:
        return this.#states.ctrlreg(vcpu, register);
      case 3:
        return BigInt(vcpu.v.guestTable) << 12n;
      default:
        return undefined;
    }
  }

  #writeCr(vcpu: VcpuRef, engine: Engine, register: number, value: bigint): boolean {
    switch (register) {
      case 0:
        if (((value ^ MACHINE_CR0) & ~CR0.TS) !== 0n) return false;
        this.setTaskSwitched(vcpu, engine, (value & CR0.TS) !== 0n);
        return true;
      case 2: {
        this.#states.setCtrlreg(vcpu, 2, value);
        const info = vcpuInfoAddress(vcpu);
        if (info !== undefined) this.#modules.memory.dv.setBigUint64(info + VCPU_INFO_CR2, value, true);
        return true;
      }
      case 3:
        return this.#modules.mm.loadBaseTable(vcpu, engine, value >> 12n) === 0;
      case 4: {
        const guest = this.guestCr4(vcpu, value);
        this.#states.setCtrlreg(vcpu, 4, guest);
        engine.state.cr4 = PrivilegedEmulator.engineCr4(guest);
        engine.stateChanged();
        return true;
      }
      default:
        return false;
    }
  }

  #xsetbv(vcpu: VcpuRef, engine: Engine): Step {
    const { state } = engine;
    if ((this.#states.ctrlreg(vcpu, 4) & CR4.OSXSAVE) === 0n) {
      return { outcome: this.#exceptions.inject(vcpu, engine, Trap.UD) };
    }
    const leaf = this.#modules.cpuid(vcpu, XSTATE_LEAF, 0);
    const supported = (BigInt(leaf.edx >>> 0) << 32n) | BigInt(leaf.eax >>> 0);
    const value = pair(state);
    const valid =
      (state.rcx & U32) === 0n &&
      (value & XCR0_X87) !== 0n &&
      (value & ~supported) === 0n &&
      (value & XCR0_SSE_AVX) !== 4n;
    if (!valid) return 'fault';
    state.xcr0 = value;
    vcpu.v.xcr0Accum |= value;
    engine.stateChanged();
    return undefined;
  }

  /** The vCPU's virtual IOPL against its mode: kernels count as ring 1, or 0 with architectural_iopl. */
  #ioplAllows(vcpu: VcpuRef): boolean {
    const assists = this.#modules.domainOf(vcpu).v.vmAssist;
    const kernelCpl = hasAssist(assists, VMASST.ARCHITECTURAL_IOPL) ? 0 : 1;
    return (isKernelMode(vcpu) ? kernelCpl : 3) <= vcpu.v.iopl;
  }

  /** May the guest's mode use these ports: by IOPL, or by the bitmap that its kernel registered. */
  #portAllowed(vcpu: VcpuRef, engine: Engine, port: number, size: number): boolean {
    if (this.#ioplAllows(vcpu)) return true;
    if (port + size > vcpu.v.ioBitmapPorts) return false;
    const bytes = new Uint8Array([0xff, 0xff]);
    const user = !isKernelMode(vcpu);
    if (user) toggleMode(this.#modules.mm, vcpu, engine);
    const at = vcpu.v.ioBitmapVa + BigInt(port >> 3);
    const first = bytes.subarray(0, 1);
    const fault = engine.readVirtual(at, bytes, true) && engine.readVirtual(at, first, true);
    if (user) toggleMode(this.#modules.mm, vcpu, engine);
    if (fault) return false;
    const mask = ((bytes[0] ?? 0xff) | ((bytes[1] ?? 0xff) << 8)) >> (port & 7);
    return (mask & ((1 << size) - 1)) === 0;
  }

  #portAccess(vcpu: VcpuRef, engine: Engine, i: Of<'in' | 'out'>): Step {
    const { state } = engine;
    const port = i.immediate ?? Number(state.rdx & 0xffffn);
    if (!this.#portAllowed(vcpu, engine, port, i.size)) return 'fault';
    const breakpoint = this.#debug.portAccessed(vcpu, port, i.size);
    if (i.kind === 'in') {
      const value = BigInt(this.#ports.read(vcpu, port, i.size));
      const kept = i.size === 4 ? 0n : (1n << BigInt(8 * i.size)) - 1n;
      state.rax = i.size === 4 ? value : (state.rax & ~kept) | value;
    } else {
      this.#ports.write(vcpu, port, i.size, Number(BigInt.asUintN(8 * i.size, state.rax)));
    }
    if (!breakpoint) return undefined;
    state.rip = BigInt.asUintN(64, state.rip + BigInt(i.length));
    return { outcome: this.#exceptions.inject(vcpu, engine, Trap.DB) };
  }

  #stringAccess(vcpu: VcpuRef, engine: Engine, i: Of<'ins' | 'outs'>): Step {
    const { state } = engine;
    const port = Number(state.rdx & 0xffffn);
    if (!this.#portAllowed(vcpu, engine, port, i.size)) return 'fault';
    const bits = i.addressBits;
    const input = i.kind === 'ins';
    const base = state.segmentBase(input ? SEG.es : (i.segment ?? SEG.ds));
    // In 64-bit mode only FS and GS have a base.
    const long = (state.segment(SEG.cs).attributes & ATTR.long) !== 0;
    const usesBase = !long || (!input && (i.segment === SEG.fs || i.segment === SEG.gs));
    const step = (state.rflags & RFLAGS.df) !== 0n ? -BigInt(i.size) : BigInt(i.size);
    const total = i.repeat ? BigInt.asUintN(bits, state.rcx) : 1n;
    const element = new Uint8Array(i.size);
    let done = 0n;
    for (; done < total && done < BigInt(MAX_REPEATS); done++) {
      const index = BigInt.asUintN(bits, input ? state.rdi : state.rsi);
      const address = BigInt.asUintN(64, (usesBase ? base : 0n) + index);
      if (!isCanonical(address)) return done === 0n ? 'fault' : { outcome: 'resume' };
      if (input) {
        const data = this.#ports.read(vcpu, port, i.size);
        for (let n = 0; n < i.size; n++) element[n] = (data / 2 ** (8 * n)) & 0xff;
      }
      const fault = input ? engine.writeVirtual(address, element, true) : engine.readVirtual(address, element, true);
      if (fault) {
        const code = input ? PFEC.write : 0;
        return { outcome: this.#exceptions.injectPageFault(vcpu, engine, fault.address, code) };
      }
      if (!input) {
        let data = 0;
        for (let n = i.size - 1; n >= 0; n--) data = data * 256 + (element[n] ?? 0);
        this.#ports.write(vcpu, port, i.size, data);
      }
      const next = setLow(input ? state.rdi : state.rsi, index + step, bits);
      if (input) state.rdi = next;
      else state.rsi = next;
      if (i.repeat) state.rcx = setLow(state.rcx, state.rcx - 1n, bits);
    }
    return done < total ? { outcome: 'resume' } : undefined;
  }
}

/** Writes the low `bits` of a register as an instruction of that address size does. */
function setLow(old: bigint, value: bigint, bits: number): bigint {
  const low = BigInt.asUintN(bits, value);
  return bits === 16 ? (BigInt.asUintN(64, old) & ~0xffffn) | low : low;
}

const pair = (state: CpuState): bigint => ((state.rdx & U32) << 32n) | (state.rax & U32);

function setPair(state: CpuState, value: bigint): void {
  state.rax = value & U32;
  state.rdx = (value >> 32n) & U32;
}

/** As many bytes at `address` as an instruction can have and the guest can read. */
function fetch(engine: Engine, address: bigint): Uint8Array {
  const bytes = new Uint8Array(MAX_INSTRUCTION);
  if (!engine.readVirtual(address, bytes, true)) return bytes;
  const inPage = Math.min(MAX_INSTRUCTION, 4096 - Number(address & 0xfffn));
  const head = bytes.subarray(0, inPage);
  return engine.readVirtual(address, head, true) ? new Uint8Array(0) : head;
}
