/** Flags, control and debug registers, MSRs, CPUID and the other privileged or odd ones. Intel SDM vol. 2 and 3. */
import { ExitReason } from '../../engine/exit-reason.ts';
import { RFLAGS } from '../../engine/state.ts';
import type { CpuField, CpuState } from '../../engine/state.ts';
import type { CpuidResult } from '../../engine/api.ts';
import { VECTOR } from '../helper.ts';
import type { Helper, HelperContext } from '../helper.ts';
import { CR0, CR4, EFER, is64Bit, isCanonical, isLongMode, isProtected, isVirtual8086 } from './addressing.ts';
import { xsaveBytes } from './xsave.ts';

const iopl = (state: CpuState): number => (state.eflags >> 12) & 3;

/** RFLAGS after POPF or IRET put `value` in, by what the privilege allows. RF and VM are left clear. */
export function flagsAfterPop(state: CpuState, size: number, value: bigint): bigint {
  let writable = RFLAGS.cf | RFLAGS.pf | RFLAGS.af | RFLAGS.zf | RFLAGS.sf | RFLAGS.tf | RFLAGS.df | RFLAGS.of | RFLAGS.nt | RFLAGS.ac | RFLAGS.id; // prettier-ignore
  if (state.cpl <= iopl(state) || !isProtected(state)) writable |= RFLAGS.if;
  if (state.cpl === 0) writable |= RFLAGS.iopl | RFLAGS.vif | RFLAGS.vip;
  if (size === 2) writable &= 0xffffn;
  return ((state.rflags & ~writable) | (value & writable)) & ~RFLAGS.rf;
}

function requireRing0({ state, fault }: HelperContext): void {
  if (state.cpl !== 0) fault(VECTOR.generalProtection, 0);
}

const setPair = (state: CpuState, value: bigint): void => {
  state.rax = value & 0xffff_ffffn;
  state.rdx = (value >> 32n) & 0xffff_ffffn;
};

/** MSRs that live in the state. */
const MSR_FIELDS: Readonly<Record<number, CpuField>> = {
  0x1b: 'apicBase', 0x174: 'sysenterCs', 0x175: 'sysenterEsp', 0x176: 'sysenterEip', 0x277: 'pat',
  0xc0000080: 'efer', 0xc0000081: 'star', 0xc0000082: 'lstar', 0xc0000083: 'cstar', 0xc0000084: 'sfmask',
  0xc0000100: 'fsBase', 0xc0000101: 'gsBase', 0xc0000102: 'kernelGsBase', 0xc0000103: 'tscAux',
}; // prettier-ignore
const CANONICAL_MSRS = new Set([0x175, 0x176, 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102]);
/** The APIC base is the platform's matter: it decides what a write means. */
const OWNER_MSRS = new Set([0x1b]);

function readMsr(state: CpuState, msr: number): bigint | undefined {
  const field = MSR_FIELDS[msr];
  return field === undefined || OWNER_MSRS.has(msr) ? undefined : state[field as 'efer'];
}

function writeMsr(context: HelperContext, msr: number, value: bigint): boolean {
  const { state, fault } = context;
  const field = MSR_FIELDS[msr];
  if (field === undefined || OWNER_MSRS.has(msr)) return false;
  if (CANONICAL_MSRS.has(msr) && !isCanonical(value)) fault(VECTOR.generalProtection, 0);
  if (msr === 0xc0000080) {
    const known = EFER.sce | EFER.lme | EFER.lma | EFER.nxe | EFER.svme | (1n << 14n);
    if (value & ~known) fault(VECTOR.generalProtection, 0);
    if (state.cr0 & CR0.pg && (value ^ state.efer) & EFER.lme) fault(VECTOR.generalProtection, 0);
    state.efer = (value & ~EFER.lma) | (state.efer & EFER.lma);
    context.changed('tlb-global');
    return true;
  }
  if (msr === 0x277)
    for (let i = 0n; i < 8n; i++) {
      const type = (value >> (8n * i)) & 0xffn;
      if (type > 7n || type === 2n || type === 3n) fault(VECTOR.generalProtection, 0);
    }
  state[field as 'efer'] = value;
  return true;
}

/** Loads the PAE page-directory pointers with CR3. */
function loadPdptes(context: HelperContext, cr3: bigint): void {
  const { state } = context;
  if (!(state.cr0 & CR0.pg) || !(state.cr4 & CR4.pae) || isLongMode(state)) return;
  const values = [0, 1, 2, 3].map((i) => context.readPhysical((cr3 & 0xffff_ffe0n) + BigInt(8 * i)));
  for (const value of values)
    if (value & 1n && value & 0xfff0_0000_0000_01e6n) context.fault(VECTOR.generalProtection, 0);
  values.forEach((value, i) => {
    state.setPdpte(i, value);
  });
}

function writeCr0(context: HelperContext, value: bigint): void {
  const { state, fault } = context;
  value = (value & 0xe005_003fn) | CR0.et;
  if ((value & CR0.pg && !(value & CR0.pe)) || (value & CR0.nw && !(value & CR0.cd)))
    fault(VECTOR.generalProtection, 0);
  const paging = (value ^ state.cr0) & CR0.pg;
  const old = state.cr0;
  if (paging && value & CR0.pg && state.efer & EFER.lme) {
    if (!(state.cr4 & CR4.pae) || state.csAttributes & (1 << 13)) fault(VECTOR.generalProtection, 0);
    state.efer |= EFER.lma;
  } else if (paging && !(value & CR0.pg)) {
    if (is64Bit(state)) fault(VECTOR.generalProtection, 0);
    state.efer &= ~EFER.lma;
  }
  state.cr0 = value;
  if (paging) loadPdptes(context, state.cr3);
  if ((value ^ old) & (CR0.pg | CR0.wp | CR0.pe)) context.changed('tlb-global');
  context.changed('mode');
}

function writeCr4(context: HelperContext, value: bigint): void {
  const { state, fault } = context;
  const known = Object.values(CR4).reduce((all, bit) => all | bit, 0n) & ~CR4.la57 & ~CR4.pcide;
  if (value & ~known) fault(VECTOR.generalProtection, 0);
  if (isLongMode(state) && !(value & CR4.pae)) fault(VECTOR.generalProtection, 0);
  const changed = value ^ state.cr4;
  state.cr4 = value;
  if (changed & CR4.pae) loadPdptes(context, state.cr3);
  if (changed & (CR4.pse | CR4.pae | CR4.pge | CR4.smep | CR4.smap)) context.changed('tlb-global');
  context.changed('mode');
}

const CPUID_FEATURES = 1;
const CPUID_XSTATE = 0xd;
const OSXSAVE = 1 << 27;
const XSAVE = 1 << 26;
const XSAVEC = 1 << 1;

/** A leaf of CPUID with what depends on CR4 and XCR0: OSXSAVE, sizes of the XSAVE area in its two formats. */
export function withState(state: CpuState, leaf: number, subleaf: number, fixed: CpuidResult): CpuidResult {
  if (leaf === CPUID_FEATURES && (fixed.ecx & XSAVE) !== 0)
    return { ...fixed, ecx: state.cr4 & CR4.osxsave ? fixed.ecx | OSXSAVE : fixed.ecx & ~OSXSAVE };
  const hasSize = subleaf === 0 ? fixed.eax !== 0 : subleaf === 1 && (fixed.eax & XSAVEC) !== 0;
  if (leaf === CPUID_XSTATE && hasSize) return { ...fixed, ebx: xsaveBytes(Number(state.xcr0)) };
  return fixed;
}

export const systemHelpers: Readonly<Record<string, Helper>> = {
  popf(context, [size = 8n, value = 0n]) {
    const { state } = context;
    // Unlike IRET, POPF leaves VIF and VIP as they are.
    const kept = RFLAGS.vif | RFLAGS.vip;
    state.rflags = flagsAfterPop(state, Number(size), (value & ~kept) | (state.rflags & kept));
    context.changed('mode');
    context.attend();
  },
  fence() {
    // Every access of generated code is in order already on the hosts that run it.
  },
  pause(context) {
    context.exit(ExitReason.pause, true);
  },
  hlt(context) {
    requireRing0(context);
    context.exit(ExitReason.halt, true);
  },
  cli({ state, fault }) {
    if (isProtected(state) && state.cpl > iopl(state)) fault(VECTOR.generalProtection, 0);
    state.eflags &= ~0x200;
  },
  sti(context) {
    const { state, fault } = context;
    if (isProtected(state) && state.cpl > iopl(state)) fault(VECTOR.generalProtection, 0);
    if (!(state.eflags & 0x200)) {
      state.eflags |= 0x200;
      state.interruptShadow = 1;
      context.attend();
    }
  },
  setac(context, [on = 0n]) {
    const { state, fault } = context;
    if (!(state.cr4 & CR4.smap) || state.cpl !== 0) fault(VECTOR.invalidOpcode);
    state.eflags = on ? state.eflags | 0x40000 : state.eflags & ~0x40000;
    context.changed('mode');
  },
  clts(context) {
    requireRing0(context);
    context.state.cr0 &= ~CR0.ts;
    context.changed('mode');
  },
  cpuid(context) {
    const { state } = context;
    const leaf = Number(state.rax & 0xffff_ffffn);
    const subleaf = Number(state.rcx & 0xffff_ffffn);
    const r = withState(state, leaf, subleaf, context.cpuid(leaf, subleaf));
    state.rax = BigInt(r.eax >>> 0);
    state.rbx = BigInt(r.ebx >>> 0);
    state.rcx = BigInt(r.ecx >>> 0);
    state.rdx = BigInt(r.edx >>> 0);
  },
  rdtsc(context) {
    const { state, fault } = context;
    if (state.cr4 & CR4.tsd && state.cpl !== 0) fault(VECTOR.generalProtection, 0);
    setPair(state, BigInt.asUintN(64, context.readTsc()));
  },
  rdtscp(context) {
    const { state, fault } = context;
    if (state.cr4 & CR4.tsd && state.cpl !== 0) fault(VECTOR.generalProtection, 0);
    setPair(state, BigInt.asUintN(64, context.readTsc()));
    state.rcx = state.tscAux & 0xffff_ffffn;
  },
  rdpmc({ fault }) {
    fault(VECTOR.generalProtection, 0);
  },
  rdmsr(context) {
    requireRing0(context);
    const msr = Number(context.state.rcx & 0xffff_ffffn);
    const value = readMsr(context.state, msr);
    if (value === undefined) context.exit(ExitReason.msr, false, { msr, isWrite: false });
    else setPair(context.state, value);
  },
  wrmsr(context) {
    requireRing0(context);
    const { state } = context;
    const msr = Number(state.rcx & 0xffff_ffffn);
    const value = ((state.rdx & 0xffff_ffffn) << 32n) | (state.rax & 0xffff_ffffn);
    if (!writeMsr(context, msr, value)) context.exit(ExitReason.msr, false, { msr, isWrite: true });
  },
  vmcall(context) {
    if (context.monitor) context.fault(VECTOR.invalidOpcode);
    context.exit(ExitReason.hypercall, true);
  },
  wbinvd(context) {
    requireRing0(context);
  },
  lmsw(context, [value = 0n]) {
    requireRing0(context);
    const { state } = context;
    // PE can be set, never cleared.
    writeCr0(context, (state.cr0 & ~0xen) | (value & 0xfn));
  },
  invlpg(context, [address = 0n]) {
    requireRing0(context);
    context.invalidatePage(address);
  },
  invpcid(context, [type = 0n, address = 0n]) {
    requireRing0(context);
    const linear = context.memory.read(address + 8n, 8);
    if (type > 3n) context.fault(VECTOR.generalProtection, 0);
    if (type === 0n) context.invalidatePage(linear);
    else context.changed(type === 2n ? 'tlb-global' : 'tlb');
  },
  readcr(context, [n = 0n]) {
    const { state, fault } = context;
    if (![0n, 2n, 3n, 4n, 8n].includes(n)) fault(VECTOR.invalidOpcode);
    requireRing0(context);
    return state[`cr${Number(n)}` as 'cr0'];
  },
  writecr(context, [n = 0n, value = 0n]) {
    const { state, fault } = context;
    if (![0n, 2n, 3n, 4n, 8n].includes(n)) fault(VECTOR.invalidOpcode);
    requireRing0(context);
    if (n === 0n) {
      if (value >> 32n) fault(VECTOR.generalProtection, 0);
      writeCr0(context, value);
    } else if (n === 2n) state.cr2 = value;
    else if (n === 3n) {
      if (isLongMode(state) && value >> 52n) fault(VECTOR.generalProtection, 0);
      loadPdptes(context, value);
      state.cr3 = value;
      context.changed('tlb');
    } else if (n === 4n) writeCr4(context, value);
    else {
      if (value > 15n) fault(VECTOR.generalProtection, 0);
      state.cr8 = value;
      context.attend();
    }
  },
  readdr(context, [n = 0n]) {
    return context.state[debugRegister(context, n)];
  },
  writedr(context, [n = 0n, value = 0n]) {
    const { state, fault } = context;
    const name = debugRegister(context, n);
    if (name === 'dr6' || name === 'dr7') {
      if (value >> 32n) fault(VECTOR.generalProtection, 0);
      state[name] = name === 'dr6' ? (value & 0xe00fn) | 0xffff_0ff0n : (value & 0xffff_2fffn) | 0x400n;
    } else state[name] = value;
    context.changed('mode');
    context.attend();
  },
};

const DR7_GENERAL_DETECT = 1n << 13n;
const DR6_ACCESS_DETECTED = 1n << 13n;
const DEBUG_REGISTERS = ['dr0', 'dr1', 'dr2', 'dr3', 'dr6', 'dr7', 'dr6', 'dr7'] as const;
function debugRegister(context: HelperContext, n: bigint): (typeof DEBUG_REGISTERS)[number] {
  const { state, fault } = context;
  if (state.cr4 & CR4.de && (n === 4n || n === 5n)) fault(VECTOR.invalidOpcode);
  requireRing0(context);
  if (isVirtual8086(state)) fault(VECTOR.generalProtection, 0);
  if (state.dr7 & DR7_GENERAL_DETECT) {
    // Entering the handler clears GD, so that it can use the registers.
    state.dr7 &= ~DR7_GENERAL_DETECT;
    state.dr6 |= DR6_ACCESS_DETECTED;
    fault(VECTOR.debug);
  }
  return DEBUG_REGISTERS[Number(n)] ?? 'dr7';
}
