/** What each instruction does with the arithmetic flags: Intel SDM vol. 1 appendix A and the pages of vol. 2. */
import type { Row } from '@xenhost/cpu';
import { ALL_FLAGS, FLAGS } from './compare.ts';
import { NO_FLAGS, type FlagUse } from './program.ts';

const { cf, pf, af, zf, sf, of } = FLAGS;

/** Flags that a condition code reads. */
export function conditionReads(code: number): number {
  return [of, cf, zf, cf | zf, sf, pf, sf | of, sf | of | zf][code >> 1] ?? ALL_FLAGS;
}

const use = (reads: number, defines: number, undefines = 0): FlagUse => ({ reads, defines, undefines });
const ARITHMETIC = use(0, ALL_FLAGS);
const WITH_CARRY = use(cf, ALL_FLAGS);
const LOGIC = use(0, ALL_FLAGS & ~af, af);
const BIT_TEST = use(0, cf, of | sf | af | pf);
const LAHF = cf | pf | af | zf | sf;

const FIXED: Readonly<Record<string, FlagUse>> = {
  add: ARITHMETIC, sub: ARITHMETIC, cmp: ARITHMETIC, neg: ARITHMETIC, xadd: ARITHMETIC, cmpxchg: ARITHMETIC,
  adc: WITH_CARRY, sbb: WITH_CARRY,
  and: LOGIC, or: LOGIC, xor: LOGIC, test: LOGIC,
  inc: use(0, ALL_FLAGS & ~cf), dec: use(0, ALL_FLAGS & ~cf),
  mul: use(0, cf | of, sf | zf | af | pf), imul1: use(0, cf | of, sf | zf | af | pf),
  imul2: use(0, cf | of, sf | zf | af | pf), imul3: use(0, cf | of, sf | zf | af | pf),
  div: use(0, 0, ALL_FLAGS), idiv: use(0, 0, ALL_FLAGS),
  bsf: use(0, zf, cf | of | sf | af | pf), bsr: use(0, zf, cf | of | sf | af | pf),
  tzcnt: use(0, zf | cf, of | sf | af | pf), lzcnt: use(0, zf | cf, of | sf | af | pf),
  popcnt: ARITHMETIC,
  bt: BIT_TEST, bts: BIT_TEST, btr: BIT_TEST, btc: BIT_TEST,
  lahf: use(LAHF, 0), sahf: use(0, LAHF), pushf: use(ALL_FLAGS, 0), popf: ARITHMETIC,
  andn: use(0, cf | zf | sf | of, af | pf), blsr: use(0, cf | zf | sf | of, af | pf), blsmsk: use(0, cf | zf | sf | of, af | pf),
  blsi: use(0, cf | zf | sf | of, af | pf), bzhi: use(0, cf | zf | sf | of, af | pf), bextr: use(0, cf | zf | of, af | sf | pf),
  vtestps: ARITHMETIC, vtestpd: ARITHMETIC,
  clc: use(0, cf), stc: use(0, cf), cmc: use(cf, cf),
  cmpxchg8b: use(0, zf), cmpxchg16b: use(0, zf),
  comiss: ARITHMETIC, comisd: ARITHMETIC, ucomiss: ARITHMETIC, ucomisd: ARITHMETIC, ptest: ARITHMETIC, pcmpstr: ARITHMETIC,
  'x87.compareflags': use(0, zf | pf | cf),
}; // prettier-ignore

const SHIFTS = new Set(['shl', 'shr', 'sar', 'shld', 'shrd']);
const ROTATES = new Set(['rol', 'ror', 'rcl', 'rcr']);

/** `count` is the immediate of a shift, undefined where it is in CL. */
export function flagUse(row: Row, bits: number, count: number | undefined): FlagUse {
  const { semantics, variant } = row;
  if (semantics === 'cmov' || semantics === 'setcc' || semantics === 'jcc' || semantics === 'x87.fcmov')
    return use(conditionReads(variant), 0);
  if (semantics === 'cmps' || semantics === 'scas') return NO_FLAGS;
  if (SHIFTS.has(semantics)) return shift(bits, count);
  if (ROTATES.has(semantics)) return rotate(semantics, bits, count);
  return FIXED[semantics.replace(/^vex3?\./, '')] ?? NO_FLAGS;
}

function shift(bits: number, count: number | undefined): FlagUse {
  if (count === undefined) return use(0, 0, af | of | (bits < 32 ? cf : 0));
  const masked = count & (bits === 64 ? 63 : 31);
  if (masked === 0) return NO_FLAGS;
  const undefines = af | (masked === 1 ? 0 : of) | (masked >= bits ? cf : 0);
  return use(0, ALL_FLAGS & ~undefines, undefines);
}

function rotate(semantics: string, bits: number, count: number | undefined): FlagUse {
  const reads = semantics.startsWith('rc') ? cf : 0;
  if (count === undefined) return use(reads, 0, of);
  const masked = count & (bits === 64 ? 63 : 31);
  if (masked === 0) return use(reads, 0);
  return use(reads, cf, masked === 1 ? 0 : of);
}
