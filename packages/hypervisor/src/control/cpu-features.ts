/**
 * Features of the emulated processor as words of CPUID, and what follows from what: a domain's policy that takes a
 * feature away takes those that need it too, as Xen's `xen/tools/gen-cpuid.py` has it; leaf 0xD follows from the rest.
 * The whole is x86-64-v3 of the psABI.
 */
import type { CpuidResult } from '@xenhost/cpu';

const bits = (...numbers: number[]): number => numbers.reduce((mask, n) => (mask | (1 << n)) >>> 0, 0);

/** CPUID.1:ECX bits that others depend on, or that depend on others. */
const XSAVE = bits(26);
const AVX = bits(28);
const FMA_F16C = bits(12, 29);
/** CPUID.7:EBX: AVX2. */
const AVX2 = bits(5);

/** CPUID.1:EDX: FPU VME DE TSC MSR PAE CX8 APIC SEP CMOV PAT CLFLUSH MMX FXSR SSE SSE2. */
export const FEATURES_1D = bits(0, 1, 2, 4, 5, 6, 8, 9, 11, 15, 16, 19, 23, 24, 25, 26);
/** CPUID.1:ECX: SSE3 SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT XSAVE AVX F16C hypervisor. */
export const FEATURES_1C = (bits(0, 9, 13, 19, 20, 22, 23, 31) | XSAVE | AVX | FMA_F16C) >>> 0;
/** CPUID.7:EBX: FSGSBASE BMI1 AVX2 BMI2 ERMS. */
export const FEATURES_7B0 = (bits(0, 3, 8, 9) | AVX2) >>> 0;
/**
 * What of it PV guests get unless `cpuid=` asks for more. With FSGSBASE Linux reads MSR_KERNEL_GS_BASE at every context switch, which a PV
 * guest has emulated; without it, never.
 */
export const DEFAULT_PV_FEATURES_7B0 = (FEATURES_7B0 & ~bits(0)) >>> 0;
/** CPUID.7:EDX: SERIALIZE, which spares Linux an IRET for each instruction that it patches. */
export const FEATURES_7D0 = bits(14);
/** CPUID.80000001:EDX: SYSCALL NX LM. */
export const FEATURES_E1D = bits(11, 20, 29);
/** CPUID.80000001:ECX: LAHF in 64-bit mode, LZCNT. */
export const FEATURES_E1C = bits(0, 5);
/** CPUID.80000007:EDX: invariant TSC. */
export const FEATURES_E7D = bits(8);
/** CPUID.(0D,1):EAX: XSAVEOPT XSAVEC XGETBV with ECX 1. */
export const FEATURES_DA1 = bits(0, 1, 2);

export const FEATURE_LEAF = 1;
export const EXTENDED_FEATURE_LEAF = 7;
export const XSTATE_LEAF = 0xd;

/** State components of XCR0, and where the AVX one lies in an XSAVE area. Intel SDM vol. 1, 13.4 and 13.5. */
const XCR0_X87_SSE = 3;
const XCR0_AVX = 4;
const AVX_AT = 576;
const AVX_BYTES = 256;

const NOTHING: CpuidResult = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/** What a leaf may say in a domain whose leaf 1 has these features (`ecx`). `found` is what its policy says. */
export function consistent(leaf: number, subleaf: number, found: CpuidResult, ecx: number): CpuidResult {
  const features = consistentEcx(ecx);
  const hasAvx = (features & AVX) !== 0;
  if (leaf === FEATURE_LEAF) return { ...found, ecx: features };
  if (leaf === EXTENDED_FEATURE_LEAF && subleaf === 0 && !hasAvx) return { ...found, ebx: (found.ebx & ~AVX2) >>> 0 };
  if (leaf !== XSTATE_LEAF) return found;
  if ((features & XSAVE) === 0) return NOTHING;
  const bytes = AVX_AT + (hasAvx ? AVX_BYTES : 0);
  switch (subleaf) {
    // EBX is the size for what XCR0 enables: the engine fills it in, as it does OSXSAVE in leaf 1.
    case 0:
      return { eax: XCR0_X87_SSE | (hasAvx ? XCR0_AVX : 0), ebx: bytes, ecx: bytes, edx: 0 };
    case 1:
      return { ...NOTHING, eax: found.eax & FEATURES_DA1, ebx: bytes };
    case 2:
      return hasAvx ? { ...NOTHING, eax: AVX_BYTES, ebx: AVX_AT } : NOTHING;
    default:
      return NOTHING;
  }
}

function consistentEcx(ecx: number): number {
  let features = ecx;
  if ((features & XSAVE) === 0) features &= ~AVX;
  if ((features & AVX) === 0) features &= ~FMA_F16C;
  return features >>> 0;
}
