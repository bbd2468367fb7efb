/**
 * `vcpu_guest_context` of a 64-bit PV vCPU that is not running: `arch_set_info_guest` and `arch_get_info_guest`
 * (xen/arch/x86/domain.c). Registers go straight into the saved CPU state of the record.
 */
import { Errno, bytesOf } from '@xenhost/base';
import { CpuState, RFLAGS, SEG } from '@xenhost/cpu';
import { CpuUserRegs, VGCF, VcpuGuestContext } from '@xenhost/xen-abi';
import { VALID_ASSISTS } from '../hypercall/vm-assist.ts';
import { gdtVirt, ldtVirt, PV_GDT_LIMIT } from '../mm/api.ts';
import { VCPU_CPU_STATE, VcpuFlag } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';
import type { PvModules } from './api.ts';
import { CR0, FlatSegment, MACHINE_CR0, MACHINE_EFER, isCanonical } from './constants.ts';
import type { DebugRegisters } from './debug.ts';
import { FXSAVE_SIZE, loadFxsave, storeFxsave } from './fpu-image.ts';
import { PrivilegedEmulator } from './privileged.ts';
import { PvCallbackFlag } from './vcpu-state.ts';
import type { PvVcpuState } from './vcpu-state.ts';

const MAX_LDT_ENTRIES = 8192n;
const MAX_GDT_FRAMES = 14;
const GDT_ENTRIES_PER_FRAME = 512;
const TRAP_INFO_SIZE = 16;
const VECTOR_REGISTERS = 16;
const AT = VcpuGuestContext.offsets;
const LDT_ATTRIBUTES = 0x82;

const withRpl3 = (selector: number): number => (selector & 0xffff) | 3;
const GENERAL = [
  'rax', 'rcx', 'rdx', 'rbx', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15',
] as const; // prettier-ignore

export class GuestContexts {
  readonly #modules: PvModules;
  readonly #states: PvVcpuState;
  readonly #debug: DebugRegisters;
  readonly #emulator: PrivilegedEmulator;

  constructor(modules: PvModules, states: PvVcpuState, debug: DebugRegisters, emulator: PrivilegedEmulator) {
    this.#modules = modules;
    this.#states = states;
    this.#debug = debug;
    this.#emulator = emulator;
  }

  /** 0 or -errno; nothing is changed on -EINVAL of a check, base tables may be taken on a later error. */
  set(vcpu: VcpuRef, bytes: Uint8Array): number {
    if (bytes.length < VcpuGuestContext.size) return -Errno.EINVAL;
    const source = bytesOf(bytes);
    const context = VcpuGuestContext.view(source, 0);
    const regs = CpuUserRegs.view(source, AT.user_regs);
    const element = (field: 'gdt_frames' | 'ctrlreg' | 'debugreg', n: number): bigint =>
      source.dv.getBigUint64(AT[field] + 8 * n, true);
    const domain = this.#modules.domainOf(vcpu);
    const addresses = [
      regs.rip, regs.rsp, context.kernel_sp, context.fs_base, context.gs_base_kernel, context.gs_base_user,
      context.event_callback_eip, context.syscall_callback_eip, context.failsafe_callback_eip, context.ldt_base,
    ]; // prettier-ignore
    if (!addresses.every(isCanonical)) return -Errno.EINVAL;
    if ((context.ldt_base & 0xfffn) !== 0n || context.ldt_ents > MAX_LDT_ENTRIES) return -Errno.EINVAL;
    const traps = readTraps(source.dv);
    if (!traps.every((trap) => isCanonical(trap.address))) return -Errno.EINVAL;
    if (vcpu.vcpuId === 0 && (context.vm_assist & ~VALID_ASSISTS) !== 0n) return -Errno.EINVAL;
    const gdtEntries = Number(BigInt.asUintN(32, context.gdt_ents));
    const nrGdtFrames = Math.ceil(gdtEntries / GDT_ENTRIES_PER_FRAME);
    if (context.gdt_ents > 0xffffn || nrGdtFrames > MAX_GDT_FRAMES) return -Errno.EINVAL;
    const kernel = (context.flags & BigInt(VGCF.IN_KERNEL)) !== 0n;
    const frames = Array.from({ length: nrGdtFrames }, (_, n) => element('gdt_frames', n));
    const [kernelTable, userTable] = [element('ctrlreg', 3) >> 12n, element('ctrlreg', 1) >> 12n];
    const initialised = (vcpu.v.flags & VcpuFlag.initialised) !== 0;
    if (!initialised && !kernel && userTable === 0n) return -Errno.EINVAL;
    if (initialised) {
      const same =
        BigInt(vcpu.v.guestTable) === kernelTable &&
        BigInt(vcpu.v.guestTableUser) === userTable &&
        (userTable !== 0n || kernel) &&
        vcpu.v.gdtEntries === gdtEntries &&
        frames.every((frame, n) => BigInt(this.#states.gdtFrame(vcpu, n)) === frame) &&
        BigInt(vcpu.v.ldtEntries) === context.ldt_ents &&
        (context.ldt_ents === 0n || vcpu.v.ldtBase === context.ldt_base);
      if (!same) return -Errno.EOPNOTSUPP;
    } else {
      const status = this.#takeTables(vcpu, context.ldt_base, context.ldt_ents, gdtEntries, frames);
      if (status !== 0) return status;
      const based = this.#modules.mm.setBaseTable(vcpu, kernelTable, false);
      if (based !== 0) return based;
      if (userTable !== 0n) {
        const user = this.#modules.mm.setBaseTable(vcpu, userTable, true);
        if (user !== 0) return user;
      }
      if (vcpu.vcpuId === 0) domain.v.vmAssist = Number(BigInt.asUintN(32, context.vm_assist));
    }

    const { v } = vcpu;
    const flags = Number(BigInt.asUintN(32, context.flags));
    this.#states.private(vcpu).contextFlags = flags;
    this.#states.private(vcpu).nmiMasked = 0;
    v.kernelMode = kernel ? 1 : 0;
    v.kernelSs = BigInt(withRpl3(Number(context.kernel_ss & 0xffffn)));
    v.kernelSp = context.kernel_sp;
    v.eventCallback = context.event_callback_eip;
    v.failsafeCallback = context.failsafe_callback_eip;
    v.syscallCallback = context.syscall_callback_eip;
    v.callbackFlags =
      (v.callbackFlags & (PvCallbackFlag.syscall32 | PvCallbackFlag.sysenter)) |
      ((flags & VGCF.failsafe_disables_events) !== 0 ? PvCallbackFlag.failsafe : 0) |
      ((flags & VGCF.syscall_disables_events) !== 0 ? PvCallbackFlag.syscall : 0);
    v.iopl = Number((regs.rflags & RFLAGS.iopl) >> 12n);
    for (const [vector, trap] of traps.entries()) {
      this.#states.setTrap(vcpu, vector, { ...trap, cs: withRpl3(trap.cs) });
    }
    for (let n = 0; n < 8; n++) this.#states.setCtrlreg(vcpu, n, element('ctrlreg', n));
    const taskSwitched = element('ctrlreg', 0) & CR0.TS;
    this.#states.setCtrlreg(vcpu, 0, taskSwitched | MACHINE_CR0);
    const cr4 = this.#emulator.guestCr4(vcpu, element('ctrlreg', 4));
    this.#states.setCtrlreg(vcpu, 4, cr4);

    const state = this.#saved(vcpu);
    const putBack = keptVectors(vcpu, state, initialised);
    state.reset();
    putBack();
    for (const name of GENERAL) state[name] = regs[name];
    state.rip = regs.rip;
    state.rsp = regs.rsp;
    state.rflags = (regs.rflags & ~RFLAGS.iopl & ~RFLAGS.vm) | RFLAGS.if | RFLAGS.fixed;
    state.cr0 = MACHINE_CR0 | taskSwitched;
    state.cr4 = PrivilegedEmulator.engineCr4(cr4);
    state.efer = MACHINE_EFER;
    state.cpl = 3;
    state.gdtrBase = gdtVirt(vcpu.vcpuId);
    state.gdtrLimit = PV_GDT_LIMIT;
    // Loaded from the descriptor tables at the first switch to this vCPU; flat until then.
    state.setSegment(SEG.cs, { ...FlatSegment.code64, selector: withRpl3(regs.cs) });
    state.setSegment(SEG.ss, { ...FlatSegment.data, selector: withRpl3(regs.ss) });
    for (const name of ['ds', 'es', 'fs', 'gs'] as const) {
      state.setSegment(SEG[name], { selector: regs[name], attributes: 0, limit: 0, base: 0n });
    }
    const [active, inactive] = kernel
      ? [context.gs_base_kernel, context.gs_base_user]
      : [context.gs_base_user, context.gs_base_kernel];
    state.setSegment(SEG.fs, { ...state.segment(SEG.fs), base: context.fs_base });
    state.setSegment(SEG.gs, { ...state.segment(SEG.gs), base: active });
    state.kernelGsBase = inactive;
    const valid = (flags & VGCF.I387_VALID) !== 0;
    loadFxsave(state, valid ? bytes.subarray(AT.fpu_ctxt, AT.fpu_ctxt + FXSAVE_SIZE) : undefined);
    this.#debug.reset(vcpu, state);
    for (const n of [0, 1, 2, 3, 6, 7]) this.#debug.write(vcpu, state, n, element('debugreg', n));
    loadLdt(vcpu, state);

    const kept = v.flags & ~VcpuFlag.down;
    v.flags = kept | VcpuFlag.initialised | ((flags & VGCF.online) !== 0 ? 0 : VcpuFlag.down);
    return 0;
  }

  get(vcpu: VcpuRef): Uint8Array {
    const { bytes, view: context } = VcpuGuestContext.create();
    const target = bytesOf(bytes);
    const regs = CpuUserRegs.view(target, AT.user_regs);
    const put = (field: 'gdt_frames' | 'ctrlreg' | 'debugreg', n: number, value: bigint): void => {
      target.dv.setBigUint64(AT[field] + 8 * n, value, true);
    };
    const state = this.#saved(vcpu);
    const { v } = vcpu;
    const kernel = v.kernelMode !== 0;
    context.flags = BigInt(
      VGCF.I387_VALID |
        (kernel ? VGCF.IN_KERNEL : 0) |
        ((v.callbackFlags & PvCallbackFlag.failsafe) !== 0 ? VGCF.failsafe_disables_events : 0) |
        ((v.callbackFlags & PvCallbackFlag.syscall) !== 0 ? VGCF.syscall_disables_events : 0) |
        ((v.flags & VcpuFlag.down) === 0 ? VGCF.online : 0),
    );
    storeFxsave(state, bytes.subarray(AT.fpu_ctxt, AT.fpu_ctxt + FXSAVE_SIZE));
    for (const name of GENERAL) regs[name] = state[name];
    regs.rip = state.rip;
    regs.rsp = state.rsp;
    regs.rflags = (state.rflags & ~RFLAGS.iopl) | (BigInt(v.iopl & 3) << 12n);
    for (const name of ['cs', 'ss', 'ds', 'es', 'fs', 'gs'] as const) regs[name] = state.selector(SEG[name]);
    for (let vector = 0; vector < 256; vector++) {
      const trap = this.#states.trap(vcpu, vector);
      const at = AT.trap_ctxt + vector * TRAP_INFO_SIZE;
      target.dv.setUint8(at, trap.address === 0n ? 0 : vector);
      target.dv.setUint8(at + 1, trap.flags);
      target.dv.setUint16(at + 2, trap.cs, true);
      target.dv.setBigUint64(at + 8, trap.address, true);
    }
    context.ldt_base = v.ldtBase;
    context.ldt_ents = BigInt(v.ldtEntries);
    context.gdt_ents = BigInt(v.gdtEntries);
    const nrGdtFrames = Math.ceil(v.gdtEntries / GDT_ENTRIES_PER_FRAME);
    for (let n = 0; n < nrGdtFrames; n++) put('gdt_frames', n, BigInt(this.#states.gdtFrame(vcpu, n)));
    context.kernel_ss = v.kernelSs;
    context.kernel_sp = v.kernelSp;
    for (let n = 0; n < 8; n++) put('ctrlreg', n, this.#states.ctrlreg(vcpu, n));
    put('ctrlreg', 3, BigInt(v.guestTable) << 12n);
    put('ctrlreg', 1, v.guestTableUser === 0 ? 0n : BigInt(v.guestTableUser) << 12n);
    for (const n of [0, 1, 2, 3, 6, 7]) put('debugreg', n, this.#debug.read(vcpu, n) ?? 0n);
    context.event_callback_eip = v.eventCallback;
    context.failsafe_callback_eip = v.failsafeCallback;
    context.syscall_callback_eip = v.syscallCallback;
    context.vm_assist = BigInt(this.#modules.domainOf(vcpu).v.vmAssist);
    context.fs_base = state.segmentBase(SEG.fs);
    const [active, inactive] = [state.segmentBase(SEG.gs), state.kernelGsBase];
    context.gs_base_kernel = kernel ? active : inactive;
    context.gs_base_user = kernel ? inactive : active;
    return bytes;
  }

  #saved(vcpu: VcpuRef): CpuState {
    return new CpuState(this.#modules.memory, vcpu.address + VCPU_CPU_STATE);
  }

  #takeTables(vcpu: VcpuRef, ldtBase: bigint, ldtEntries: bigint, gdtEntries: number, frames: bigint[]): number {
    const gdt = this.#modules.mm.setGdt(vcpu, frames, gdtEntries);
    if (gdt !== 0) return gdt;
    return this.#modules.mm.setLdt(vcpu, ldtEntries === 0n ? 0n : ldtBase, Number(ldtEntries));
  }
}

/**
 * Remembers what of XSAVE state a context says nothing about: XCR0 and, of a vCPU that was there before, the upper halves
 * of YMM registers. (Xen drops these; a guest that goes on after a checkpoint would miss them.) Returns what puts it back.
 */
function keptVectors(vcpu: VcpuRef, state: CpuState, initialised: boolean): () => void {
  if (vcpu.v.xcr0Accum === 0n) return () => undefined;
  const { xcr0 } = state;
  const halves = initialised ? Array.from({ length: VECTOR_REGISTERS }, (_, n) => state.ymmHigh(n).slice()) : [];
  return () => {
    state.xcr0 = xcr0;
    for (const [n, half] of halves.entries()) state.ymmHigh(n).set(half);
  };
}

/** LDTR for the vCPU's LDT window; a null LDT when it has none. */
export function loadLdt(vcpu: VcpuRef, state: CpuState): void {
  const entries = vcpu.v.ldtEntries;
  if (entries === 0) state.setSegment(SEG.ldtr, { selector: 0, attributes: 0, limit: 0, base: 0n });
  else {
    const limit = entries * 8 - 1;
    state.setSegment(SEG.ldtr, { selector: 8, attributes: LDT_ATTRIBUTES, limit, base: ldtVirt(vcpu.vcpuId) });
  }
}

function readTraps(dv: DataView): { address: bigint; cs: number; flags: number }[] {
  return Array.from({ length: 256 }, (_, vector) => {
    const at = AT.trap_ctxt + vector * TRAP_INFO_SIZE;
    return {
      flags: dv.getUint8(at + 1),
      cs: dv.getUint16(at + 2, true),
      address: dv.getBigUint64(at + 8, true),
    };
  });
}
