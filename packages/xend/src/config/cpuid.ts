/**
 * `cpuid` of a configuration: what CPUID is to say otherwise than by default. Two spellings: those of xm, an item a leaf
 * with a character for each bit of a register, `1,0:ecx=xxxx...,eax=0x...` (Xen 4.4 `create.py` preprocess_cpuid); and
 * xl's, `host,avx2=0,...`, a feature by its name (`xl.cfg(5)`, `libxl_cpuid.c`).
 */
import { atomText, isList, type Sxp } from '@xenhost/sxp';
import { XendError } from '../errors.ts';

export const CPUID_REGISTERS = ['eax', 'ebx', 'ecx', 'edx'] as const;
export type CpuidRegister = (typeof CPUID_REGISTERS)[number];

/** One leaf; of a register 32 characters, bit 31 first: 1 set, 0 clear, x by default, k and s as the host has it. */
export interface CpuidOverride {
  readonly leaf: number;
  readonly subleaf: number | undefined;
  readonly registers: Readonly<Partial<Record<CpuidRegister, string>>>;
}

const REGISTER_BITS = 32;
const BITS = /^[01xks]{32}$/;
const NUMBER = /^(?:0[xX][0-9a-fA-F]{1,8}|\d{1,10})$/;
const MAX_U32 = 0xffff_ffff;
const UNCHANGED = 'x'.repeat(REGISTER_BITS);

/** Features by xl's names: leaf, subleaf, register, bit. */
type FeaturePlace = readonly [leaf: number, subleaf: number | undefined, register: CpuidRegister, bit: number];
const named = (
  leaf: number,
  subleaf: number | undefined,
  register: CpuidRegister,
  names: Readonly<Record<string, number>>,
): [string, FeaturePlace][] => Object.entries(names).map(([name, bit]) => [name, [leaf, subleaf, register, bit]]);

const FEATURES: ReadonlyMap<string, FeaturePlace> = new Map([
  ...named(1, undefined, 'ecx', {
    sse3: 0, pclmulqdq: 1, ssse3: 9, fma: 12, cmpxchg16: 13, cx16: 13, pcid: 17, sse41: 19, 'sse4.1': 19, sse4_1: 19,
    sse42: 20, 'sse4.2': 20, sse4_2: 20, x2apic: 21, movbe: 22, popcnt: 23, tsc_deadline: 24, 'tsc-deadline': 24, aes: 25,
    aesni: 25, xsave: 26, avx: 28, f16c: 29, rdrand: 30, rdrnd: 30, hypervisor: 31,
  }),
  ...named(1, undefined, 'edx', {
    fpu: 0, vme: 1, de: 2, pse: 3, tsc: 4, msr: 5, pae: 6, mce: 7, cx8: 8, cmpxchg8: 8, apic: 9, sysenter: 11, sep: 11,
    mtrr: 12, pge: 13, mca: 14, cmov: 15, pat: 16, pse36: 17, clfsh: 19, clflush: 19, mmx: 23, fxsr: 24, sse: 25, sse2: 26,
    htt: 28,
  }),
  ...named(7, 0, 'ebx', {
    fsgsbase: 0, tsc_adjust: 1, bmi1: 3, hle: 4, avx2: 5, smep: 7, bmi2: 8, erms: 9, invpcid: 10, rtm: 11, rdseed: 18,
    adx: 19, smap: 20, clflushopt: 23, clwb: 24, sha: 29,
  }),
  ...named(7, 0, 'edx', { fsrm: 4, serialize: 14 }),
  ...named(0xd, 1, 'eax', { xsaveopt: 0, xsavec: 1, xgetbv1: 2, xsaves: 3 }),
  ...named(0x8000_0001, undefined, 'ecx', { lahf_sahf: 0, lahfsahf: 0, 'lahf-lm': 0, abm: 5, lzcnt: 5, sse4a: 6 }),
  ...named(0x8000_0001, undefined, 'edx', { syscall: 11, nx: 20, page1gb: 26, rdtscp: 27, lm: 29 }),
]); // prettier-ignore

/** Reads the value of the key. Throws XendError. */
export function parseCpuid(value: Sxp | undefined): CpuidOverride[] {
  if (value === undefined || value === null || value === '') return [];
  const items = isList(value) ? value : [value];
  return merged(items.flatMap((item) => (isList(item) ? [fromLists(item)] : fromText(atomText(item) ?? ''))));
}

function fromText(text: string): CpuidOverride[] {
  if (text === '') return [];
  const colon = text.indexOf(':');
  if (colon < 0) return fromNames(text);
  const registers = text.slice(colon + 1).split(',').map((part): [string, string] => {
    const [name = '', bits = ''] = part.trim().split('=');
    return [name, bits];
  }); // prettier-ignore
  return [override(text.slice(0, colon), registers, text)];
}

/** As an earlier xend stored it: `(1 ((ecx xxxx...)))`. */
function fromLists(item: readonly Sxp[]): CpuidOverride {
  const [input, registers] = item;
  const pairs = isList(registers) ? registers : [];
  const text = JSON.stringify(item);
  const parts = pairs.map((pair): [string, string] => {
    if (!isList(pair)) throw malformed(text);
    return [atomText(pair[0]) ?? '', atomText(pair[1]) ?? ''];
  });
  return override(atomText(input) ?? '', parts, text);
}

function override(input: string, parts: readonly (readonly [string, string])[], text: string): CpuidOverride {
  const [leaf, subleaf, ...more] = input.split(',').map((part) => number(part.trim(), text));
  if (leaf === undefined || more.length > 0 || parts.length === 0) throw malformed(text);
  const registers: Partial<Record<CpuidRegister, string>> = {};
  for (const [name, value] of parts) {
    const register = CPUID_REGISTERS.find((r) => r === name);
    if (!register) throw new XendError(`cpuid's syntax is (eax|ebx|ecx|edx)=value, not ${text}`);
    registers[register] = bitsOf(value, text);
  }
  return { leaf, subleaf, registers };
}

function bitsOf(value: string, text: string): string {
  if (BITS.test(value)) return value;
  if (!value.toLowerCase().startsWith('0x')) {
    throw new XendError(
      `cpuid: all 32 bits of a register must be given as 0, 1, x, k or s, or it as 0x..., not ${text}`,
    );
  }
  return number(value, text).toString(2).padStart(REGISTER_BITS, '0');
}

function number(digits: string, text: string): number {
  const parsed = NUMBER.test(digits) ? Number(digits) : NaN;
  if (!(parsed <= MAX_U32)) throw malformed(text);
  return parsed;
}

const malformed = (text: string): XendError => new XendError(`cpuid: cannot read ${text}`);

/** `host,NAME=VALUE,...` */
function fromNames(text: string): CpuidOverride[] {
  const words = text.split(',').map((word) => word.trim());
  if (words[0] === 'host') words.shift();
  return words.map((word) => {
    const [name = '', value = ''] = word.split('=');
    const place = FEATURES.get(name);
    if (!place) throw new XendError(`cpuid: there is no feature ${name === '' ? text : name}`);
    if (!/^[01xks]$/.test(value)) throw new XendError(`cpuid: ${name} is 0, 1, x, k or s, not ${value}`);
    const [leaf, subleaf, register, bit] = place;
    const at = REGISTER_BITS - 1 - bit;
    return { leaf, subleaf, registers: { [register]: UNCHANGED.slice(0, at) + value + UNCHANGED.slice(at + 1) } };
  });
}

/** One override a leaf; what comes later counts. */
function merged(all: readonly CpuidOverride[]): CpuidOverride[] {
  const result: CpuidOverride[] = [];
  for (const one of all) {
    const at = result.findIndex((r) => r.leaf === one.leaf && r.subleaf === one.subleaf);
    const earlier = result[at];
    if (!earlier) result.push(one);
    else result[at] = { ...earlier, registers: joined(earlier.registers, one.registers) };
  }
  return result;
}

function joined(first: CpuidOverride['registers'], second: CpuidOverride['registers']): CpuidOverride['registers'] {
  const both: Partial<Record<CpuidRegister, string>> = { ...first };
  for (const register of CPUID_REGISTERS) {
    const [old, now] = [first[register], second[register]];
    if (now === undefined) continue;
    both[register] =
      old === undefined ? now : Array.from(now, (bit, n) => (bit === 'x' ? old.charAt(n) : bit)).join('');
  }
  return both;
}

/** The spelling of xm, an item a leaf. */
export function cpuidSxp(overrides: readonly CpuidOverride[]): Sxp {
  return overrides.map(({ leaf, subleaf, registers }) => {
    const bits = CPUID_REGISTERS.flatMap((r) => (registers[r] === undefined ? [] : [`${r}=${registers[r]}`]));
    return `${leaf}${subleaf === undefined ? '' : `,${subleaf}`}:${bits.join(',')}`;
  });
}
