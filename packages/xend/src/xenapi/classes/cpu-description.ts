/** What a pCPU calls itself, from CPUID as Domain-0 would read it in /proc/cpuinfo (Intel SDM vol. 2, CPUID). */
import type { CpuidLeaf } from '@xenhost/libxenctrl';
import type { World } from '../world.ts';

export interface CpuDescription {
  readonly vendor: string;
  readonly model: string;
  readonly stepping: number;
  readonly flags: string;
}

/** Leaf 1, EDX and ECX, by bit, as Linux names them; '' where a bit has no name. */
const LEAF_1_EDX =
  'fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe'.split(' '); // prettier-ignore
const LEAF_1_ECX =
  'pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave - avx f16c rdrand hypervisor'.split(' '); // prettier-ignore

const BRAND_LEAVES = [0x8000_0002, 0x8000_0003, 0x8000_0004];
const UNKNOWN: CpuDescription = { vendor: 'unknown', model: 'unknown', stepping: 0, flags: '' };

/** Domain-0's view; a hypervisor that has no policy for it leaves everything unknown. */
export async function describeCpu(world: World): Promise<CpuDescription> {
  let leaves: readonly CpuidLeaf[];
  try {
    leaves = await world.manager.ports.xc.domainGetCpuPolicy(0);
  } catch {
    return UNKNOWN;
  }
  const leaf = (number: number): CpuidLeaf | undefined => leaves.find((known) => known.leaf === number);
  const [zero, one] = [leaf(0), leaf(1)];
  const brand = BRAND_LEAVES.flatMap((number) => {
    const found = leaf(number);
    return found ? [found.a, found.b, found.c, found.d] : [];
  });
  return {
    vendor: zero ? text([zero.b, zero.d, zero.c]) : UNKNOWN.vendor,
    model: text(brand) || UNKNOWN.model,
    stepping: (one?.a ?? 0) & 0xf,
    flags: one ? [...named(one.d, LEAF_1_EDX), ...named(one.c, LEAF_1_ECX)].join(' ') : '',
  };
}

/** The characters in registers, up to the first NUL. */
function text(registers: readonly number[]): string {
  const bytes = Buffer.alloc(registers.length * 4);
  for (const [index, register] of registers.entries()) bytes.writeUInt32LE(register >>> 0, index * 4);
  return (bytes.toString('latin1').split('\0')[0] ?? '').trim();
}

const named = (bits: number, names: readonly string[]): string[] =>
  names.filter((name, bit) => name !== '-' && (bits >>> bit) & 1);
