/**
 * Model-specific registers as a PV guest sees them. Anything not named here is #GP, as in Xen 4.17 (`read_msr` and
 * `write_msr` in xen/arch/x86/pv/emul-priv-op.c, `guest_rdmsr` and `guest_wrmsr` in xen/arch/x86/msr.c).
 */
import { SEG } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import type { VcpuRef } from '../state/refs.ts';
import type { PvModules } from './api.ts';
import { MACHINE_EFER, MACHINE_PAT, isCanonical } from './constants.ts';
import { setFsBase, setGsBase } from './mode.ts';

const MSR = {
  TSC: 0x10, PLATFORM_ID: 0x17, APIC_BASE: 0x1b, FEATURE_CONTROL: 0x3a, UCODE_REV: 0x8b, PLATFORM_INFO: 0xce, MPERF: 0xe7,
  APERF: 0xe8, MISC_FEATURES: 0x140, MCG_CAP: 0x179, MCG_STATUS: 0x17a, PERF_STATUS: 0x198, PERF_CTL: 0x199,
  THERM_CONTROL: 0x19a, THERM_STATUS: 0x19c, MISC_ENABLE: 0x1a0, ENERGY_BIAS: 0x1b0, DEBUGCTL: 0x1d9, PAT: 0x277,
  PERF_CAPABILITIES: 0x345, XEN_HYPERCALL: 0x4000_0000, EFER: 0xc000_0080, FS_BASE: 0xc000_0100, GS_BASE: 0xc000_0101,
  SHADOW_GS_BASE: 0xc000_0102, TSC_AUX: 0xc000_0103, HWCR: 0xc001_0015, NB_CFG: 0xc001_001f, DE_CFG: 0xc001_1029,
} as const; // prettier-ignore

const APIC_ENABLE = 0x800n;
const APIC_BSP = 0x100n;
const FEATURE_CONTROL_LOCK = 1n;
/** Fast strings; BTS and PEBS unavailable, xTPR off (`guest_misc_enable`). */
const MISC_ENABLE = 0x1n | (1n << 11n) | (1n << 12n) | (1n << 23n);
const DE_CFG_LFENCE_SERIALISE = 2n;
const VENDOR_EBX_AMD = 0x68747541;
const EXTENDED_FEATURES = 0x8000_0001;
const RDTSCP = 1 << 27;

/** Machine check banks and performance counters: read as zero, writes are dropped. */
const IGNORED: readonly (readonly [number, number])[] = [
  [0x0c1, 0x0c8], [0x186, 0x189], [0x309, 0x30b], [0x38d, 0x390], [0x400, 0x47f],
]; // prettier-ignore
const isIgnored = (msr: number): boolean => IGNORED.some(([first, last]) => msr >= first && msr <= last);

export class PvMsrs {
  readonly #modules: PvModules;

  constructor(modules: PvModules) {
    this.#modules = modules;
  }

  /** The value, or undefined for #GP(0). */
  read(vcpu: VcpuRef, engine: Engine, msr: number): bigint | undefined {
    const { state } = engine;
    switch (msr) {
      case MSR.TSC:
        return this.#modules.readTsc(vcpu);
      case MSR.APIC_BASE:
        return APIC_ENABLE | (vcpu.vcpuId === 0 ? APIC_BSP : 0n);
      case MSR.MISC_ENABLE:
        return this.#isAmd(vcpu) ? undefined : MISC_ENABLE;
      case MSR.PAT:
        return MACHINE_PAT;
      case MSR.EFER:
        return MACHINE_EFER;
      case MSR.FS_BASE:
        return state.segmentBase(SEG.fs);
      case MSR.GS_BASE:
        return state.segmentBase(SEG.gs);
      case MSR.SHADOW_GS_BASE:
        return state.kernelGsBase;
      case MSR.TSC_AUX:
        return this.#hasRdtscp(vcpu) ? state.tscAux : undefined;
      case MSR.FEATURE_CONTROL:
        return this.#isAmd(vcpu) ? undefined : FEATURE_CONTROL_LOCK;
      case MSR.DE_CFG:
        return this.#isAmd(vcpu) ? DE_CFG_LFENCE_SERIALISE : undefined;
      case MSR.HWCR:
      case MSR.NB_CFG:
        return this.#isAmd(vcpu) ? 0n : undefined;
      case MSR.PLATFORM_ID:
      case MSR.PERF_STATUS:
      case MSR.PERF_CTL:
      case MSR.THERM_STATUS:
        return this.#isAmd(vcpu) ? undefined : 0n;
      case MSR.UCODE_REV:
      case MSR.PLATFORM_INFO:
      case MSR.MISC_FEATURES:
      case MSR.MCG_CAP:
      case MSR.MCG_STATUS:
      case MSR.DEBUGCTL:
      case MSR.PERF_CAPABILITIES:
      case MSR.XEN_HYPERCALL:
        return 0n;
      default:
        return isIgnored(msr) ? 0n : undefined;
    }
  }

  /** False for #GP(0). */
  write(vcpu: VcpuRef, engine: Engine, msr: number, value: bigint): boolean {
    const { state } = engine;
    switch (msr) {
      case MSR.FS_BASE:
      case MSR.GS_BASE:
      case MSR.SHADOW_GS_BASE:
        if (!isCanonical(value)) return false;
        if (msr === MSR.FS_BASE) setFsBase(state, value);
        else if (msr === MSR.GS_BASE) setGsBase(state, value);
        else state.kernelGsBase = value;
        engine.stateChanged();
        return true;
      case MSR.EFER:
        return value === MACHINE_EFER;
      case MSR.TSC_AUX:
        if (!this.#hasRdtscp(vcpu) || value >> 32n !== 0n) return false;
        state.tscAux = value;
        return true;
      case MSR.MISC_ENABLE:
        // A changed value is dropped without a word.
        return !this.#isAmd(vcpu);
      case MSR.UCODE_REV:
        return !this.#isAmd(vcpu) && value === 0n;
      case MSR.MISC_FEATURES:
        return value === 0n;
      case MSR.PERF_CTL:
      case MSR.THERM_CONTROL:
      case MSR.ENERGY_BIAS:
        return !this.#isAmd(vcpu);
      case MSR.HWCR:
      case MSR.NB_CFG:
      case MSR.DE_CFG:
        return this.#isAmd(vcpu);
      case MSR.MPERF:
      case MSR.APERF:
      case MSR.MCG_STATUS:
        return true;
      default:
        return isIgnored(msr);
    }
  }

  #isAmd(vcpu: VcpuRef): boolean {
    return this.#modules.cpuid(vcpu, 0, 0).ebx === VENDOR_EBX_AMD;
  }

  #hasRdtscp(vcpu: VcpuRef): boolean {
    return (this.#modules.cpuid(vcpu, EXTENDED_FEATURES, 0).edx & RDTSCP) !== 0;
  }
}
