/** A domain's CPUID as its configuration asks, over what it would be else. Answers to libxc's xc_cpuid_set. */
import { XEN_CPUID_NO_SUBLEAF } from '@xenhost/xen-abi';
import type { CpuidLeaf, Xenctrl } from '@xenhost/libxenctrl';
import { CPUID_REGISTERS, type CpuidOverride, type CpuidRegister } from '../config/cpuid.ts';

const FIELD = { eax: 'a', ebx: 'b', ecx: 'c', edx: 'd' } as const satisfies Record<CpuidRegister, keyof CpuidLeaf>;

/** Before the domain runs. What the processor does not have stays off without a word, as Xen has it. */
export async function applyCpuid(
  xc: Pick<Xenctrl, 'domainGetCpuPolicy' | 'domainSetCpuPolicy'>,
  domid: number,
  overrides: readonly CpuidOverride[],
): Promise<void> {
  if (overrides.length === 0) return;
  const policy = await xc.domainGetCpuPolicy(domid);
  await xc.domainSetCpuPolicy(domid, overrides.map((one) => changed(policy, one))); // prettier-ignore
}

function changed(policy: readonly CpuidLeaf[], { leaf, subleaf, registers }: CpuidOverride): CpuidLeaf {
  const known = policy.find(
    (l) => l.leaf === leaf && (l.subleaf === XEN_CPUID_NO_SUBLEAF || l.subleaf === (subleaf ?? 0)),
  );
  const result: CpuidLeaf = known ?? { leaf, subleaf: subleaf ?? XEN_CPUID_NO_SUBLEAF, a: 0, b: 0, c: 0, d: 0 };
  const values = CPUID_REGISTERS.map((register) => [
    FIELD[register],
    withBits(result[FIELD[register]], registers[register] ?? ''),
  ]);
  return { ...result, ...(Object.fromEntries(values) as Partial<CpuidLeaf>) };
}

/** `bits` from bit 31 down; what is neither 0 nor 1 stays. */
function withBits(value: number, bits: string): number {
  let result = value;
  for (const [n, bit] of Array.from(bits).entries()) {
    const mask = 1 << (31 - n);
    if (bit === '1') result |= mask;
    else if (bit === '0') result &= ~mask;
  }
  return result >>> 0;
}
