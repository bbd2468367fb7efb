/**
 * CPUID as guests see it: the host's default for PV guests, overridden leaf by leaf by what the toolstack set for a
 * domain, and Xen's own leaves at 0x40000000. Intel SDM vol. 2A CPUID; `xen/include/public/arch-x86/cpuid.h`.
 *
 * The processor calls itself an Intel Atom (Bonnell): family 6 model 28 is one that Linux knows not to speculate, which
 * an interpreter does not, so guests leave out the costly workarounds for processors that do.
 */
import type { CpuidResult } from '@xenhost/cpu';
import { PAGE_SIZE, XenCpuidLeaf, XEN_CPUID_NO_SUBLEAF } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef } from '../state/refs.ts';
import {
  DEFAULT_PV_FEATURES_7B0, EXTENDED_FEATURE_LEAF, FEATURES_1C, FEATURES_1D, FEATURES_7B0, FEATURES_7D0, FEATURES_DA1, FEATURES_E1C, FEATURES_E1D, FEATURES_E7D,
  FEATURE_LEAF, XSTATE_LEAF, consistent,
} from './cpu-features.ts'; // prettier-ignore
import { TSC_KHZ, TSC_SHIFT, TSC_TO_SYSTEM_MUL } from '../time/clock.ts';
import { XEN_MAJOR, XEN_MINOR } from '../version/identity.ts';

export interface PolicyLeaf extends CpuidResult {
  readonly leaf: number;
  /** XEN_CPUID_NO_SUBLEAF when the leaf has none. */
  readonly subleaf: number;
}

/** Leaves that a domain may override: what fits its policy frame. */
export const MAX_POLICY_LEAVES = Math.floor(PAGE_SIZE / XenCpuidLeaf.size);

/** Family 6, model 0x1c, stepping 10. */
const SIGNATURE = 0x000106ca;
/** CLFLUSH line in units of 8 bytes, in bits 8-15 of EBX. */
const CLFLUSH_LINE = 8 << 8;
const PHYSICAL_ADDRESS_BITS = 40;
const LINEAR_ADDRESS_BITS = 48;
const BRAND = 'Xenhost Virtual CPU @ 2.00GHz';
const CRYSTAL_HZ = 25_000_000;
const BASIC_MAX = 0x16;
const EXTENDED_MAX = 0x8000_0008;

export const XEN_LEAF_BASE = 0x4000_0000;
const XEN_LEAF_MAX = XEN_LEAF_BASE + 5;
/** Width of machine addresses a guest may see. */
const MACHINE_ADDRESS_BITS = 32;

const word = (text: string, at: number): number =>
  [0, 1, 2, 3].reduce((n, i) => (n | ((text.charCodeAt(at + i) || 0) << (8 * i))) >>> 0, 0);

const row = (leaf: number, subleaf: number, eax: number, ebx: number, ecx: number, edx: number): PolicyLeaf => ({
  leaf, subleaf, eax, ebx, ecx, edx,
}); // prettier-ignore
const plain = (leaf: number, eax: number, ebx: number, ecx: number, edx: number): PolicyLeaf =>
  row(leaf, XEN_CPUID_NO_SUBLEAF, eax, ebx, ecx, edx);
const brandLeaf = (i: number): PolicyLeaf =>
  plain(
    0x8000_0002 + i,
    word(BRAND, 16 * i),
    word(BRAND, 16 * i + 4),
    word(BRAND, 16 * i + 8),
    word(BRAND, 16 * i + 12),
  );

/** The host's policy for PV guests, in order of leaf. */
const DEFAULT_LEAVES: readonly PolicyLeaf[] = [
  plain(0, BASIC_MAX, word('GenuineIntel', 0), word('GenuineIntel', 8), word('GenuineIntel', 4)),
  plain(FEATURE_LEAF, SIGNATURE, CLFLUSH_LINE | (1 << 16), FEATURES_1C, FEATURES_1D),
  plain(2, 1, 0, 0, 0),
  row(EXTENDED_FEATURE_LEAF, 0, 0, DEFAULT_PV_FEATURES_7B0, 0, FEATURES_7D0),
  // The others of this leaf follow from the features.
  row(XSTATE_LEAF, 0, 0, 0, 0, 0),
  row(XSTATE_LEAF, 1, FEATURES_DA1, 0, 0, 0),
  row(XSTATE_LEAF, 2, 0, 0, 0, 0),
  plain(0x15, 1, (TSC_KHZ * 1000) / CRYSTAL_HZ, CRYSTAL_HZ, 0),
  plain(0x16, TSC_KHZ / 1000, TSC_KHZ / 1000, 100, 0),
  plain(0x8000_0000, EXTENDED_MAX, 0, 0, 0),
  plain(0x8000_0001, 0, 0, FEATURES_E1C, FEATURES_E1D),
  brandLeaf(0),
  brandLeaf(1),
  brandLeaf(2),
  plain(0x8000_0007, 0, 0, 0, FEATURES_E7D),
  plain(0x8000_0008, PHYSICAL_ADDRESS_BITS | (LINEAR_ADDRESS_BITS << 8), 0, 0, 0),
];

/** Feature words that a domain's policy may clear bits of, but not set others. */
const FEATURE_MASKS = new Map<number, Partial<CpuidResult>>([
  [1, { ecx: FEATURES_1C, edx: FEATURES_1D }],
  [7, { eax: 0, ebx: FEATURES_7B0, ecx: 0, edx: FEATURES_7D0 }],
  [XSTATE_LEAF, { eax: FEATURES_DA1, ebx: 0, ecx: 0, edx: 0 }],
  [0x8000_0001, { ecx: FEATURES_E1C, edx: FEATURES_E1D }],
]);

/** Index of CPUID.7:EBX in a featureset. */
const FEATURESET_7B0 = 5;
/** sysctl get_cpu_featureset: words of the featureset, in the order of `arch-x86/cpufeatureset.h`. */
export const HOST_FEATURESET: readonly number[] = [
  FEATURES_1D,
  FEATURES_1C,
  FEATURES_E1D,
  FEATURES_E1C,
  FEATURES_DA1,
  FEATURES_7B0,
  0, // 7c0
  FEATURES_E7D,
  0, // e8b
  FEATURES_7D0,
];

/** The same of what PV guests get by default. */
export const DEFAULT_PV_FEATURESET: readonly number[] = HOST_FEATURESET.map((word, i) =>
  i === FEATURESET_7B0 ? DEFAULT_PV_FEATURES_7B0 : word,
);

const NOTHING: CpuidResult = { eax: 0, ebx: 0, ecx: 0, edx: 0 };

export class CpuPolicies {
  readonly #memory: MachineMemory;

  constructor(memory: MachineMemory) {
    this.#memory = memory;
  }

  /** What CPUID returns on a vCPU of the domain. */
  cpuid(domain: DomainRef, vcpuId: number, leaf: number, subleaf: number): CpuidResult {
    if (leaf >= XEN_LEAF_BASE && leaf < XEN_LEAF_BASE + 0x100) return this.#xenLeaf(domain, leaf, subleaf);
    // An Intel processor answers leaves beyond its last with those of the last basic one.
    const last = leaf < 0x8000_0000 ? BASIC_MAX : EXTENDED_MAX;
    const found = this.#find(domain, leaf > last ? BASIC_MAX : leaf, subleaf);
    if (leaf !== 1) return found;
    return { ...found, ebx: ((found.ebx & 0x00ff_ffff) | ((vcpuId * 2) << 24)) >>> 0 };
  }

  /** Every leaf of the domain's policy. */
  leaves(domain: DomainRef): PolicyLeaf[] {
    const own = this.#overrides(domain);
    const isOverridden = (d: PolicyLeaf): boolean => own.some((o) => o.leaf === d.leaf && o.subleaf === d.subleaf);
    const all = [...DEFAULT_LEAVES.filter((d) => !isOverridden(d)), ...own];
    const features = all.find((l) => l.leaf === FEATURE_LEAF)?.ecx ?? 0;
    return all
      .map((l) => ({ ...l, ...consistent(l.leaf, l.subleaf, l, features) }))
      .sort((a, b) => a.leaf - b.leaf || a.subleaf - b.subleaf);
  }

  /**
   * Replaces leaves of the domain's policy; its frame is `cpuidPolicyMfn`, which the caller has provided. False when
   * they do not fit. Features that this processor does not have are left out.
   */
  override(domain: DomainRef, leaves: readonly PolicyLeaf[]): boolean {
    const merged = this.#overrides(domain);
    for (const leaf of leaves) {
      const at = merged.findIndex((o) => o.leaf === leaf.leaf && o.subleaf === leaf.subleaf);
      if (at >= 0) merged[at] = masked(leaf);
      else merged.push(masked(leaf));
    }
    if (merged.length > MAX_POLICY_LEAVES) return false;
    merged.forEach((leaf, i) => {
      const view = XenCpuidLeaf.view(this.#memory, this.#at(domain, i));
      Object.assign(view, {
        leaf: leaf.leaf, subleaf: leaf.subleaf, a: leaf.eax, b: leaf.ebx, c: leaf.ecx, d: leaf.edx,
      }); // prettier-ignore
    });
    domain.v.cpuidPolicyEntries = merged.length;
    return true;
  }

  #find(domain: DomainRef, leaf: number, subleaf: number): CpuidResult {
    const matches = (l: PolicyLeaf): boolean =>
      l.leaf === leaf && (l.subleaf === XEN_CPUID_NO_SUBLEAF || l.subleaf === subleaf);
    const own = this.#overrides(domain);
    const found = own.find(matches) ?? DEFAULT_LEAVES.find(matches) ?? NOTHING;
    const isFeatures = (l: PolicyLeaf): boolean => l.leaf === FEATURE_LEAF;
    const features = (own.find(isFeatures) ?? DEFAULT_LEAVES.find(isFeatures))?.ecx ?? 0;
    return consistent(leaf, subleaf, found, features);
  }

  #overrides(domain: DomainRef): PolicyLeaf[] {
    if (domain.v.cpuidPolicyMfn === 0) return [];
    return Array.from({ length: domain.v.cpuidPolicyEntries }, (_, i) => {
      const view = XenCpuidLeaf.view(this.#memory, this.#at(domain, i));
      return row(view.leaf, view.subleaf, view.a, view.b, view.c, view.d);
    });
  }

  #at(domain: DomainRef, i: number): number {
    return domain.v.cpuidPolicyMfn * PAGE_SIZE + i * XenCpuidLeaf.size;
  }

  #xenLeaf(domain: DomainRef, leaf: number, subleaf: number): CpuidResult {
    switch (leaf - XEN_LEAF_BASE) {
      case 0:
        return {
          eax: XEN_LEAF_MAX, ebx: word('XenVMMXenVMM', 0), ecx: word('XenVMMXenVMM', 4), edx: word('XenVMMXenVMM', 8),
        }; // prettier-ignore
      case 1:
        return { ...NOTHING, eax: (XEN_MAJOR << 16) | XEN_MINOR };
      case 2:
        // One hypercall page, its MSR, MMU_PT_UPDATE_PRESERVE_AD.
        return { eax: 1, ebx: 0x4000_0000, ecx: 1, edx: 0 };
      case 3:
        if (subleaf === 0) return { eax: 2, ebx: domain.v.tscMode, ecx: TSC_KHZ, edx: domain.v.tscIncarnation };
        if (subleaf === 1) return { eax: 0, ebx: 0, ecx: TSC_TO_SYSTEM_MUL >>> 0, edx: TSC_SHIFT };
        if (subleaf === 2) return { ...NOTHING, eax: TSC_KHZ };
        return NOTHING;
      case 5:
        return { ...NOTHING, ebx: MACHINE_ADDRESS_BITS };
      default:
        return NOTHING;
    }
  }
}

function masked(leaf: PolicyLeaf): PolicyLeaf {
  const mask = FEATURE_MASKS.get(leaf.leaf);
  if (!mask) return leaf;
  const only = (value: number, allowed: number | undefined): number =>
    allowed === undefined ? value : (value & allowed) >>> 0;
  return row(
    leaf.leaf, leaf.subleaf, only(leaf.eax, mask.eax), only(leaf.ebx, mask.ebx), only(leaf.ecx, mask.ecx),
    only(leaf.edx, mask.edx),
  ); // prettier-ignore
}
