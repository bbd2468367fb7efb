/** All semantics by the name in a row's column. */
import type { Semantics } from './algebra.ts';
import { bmiSemantics } from './bmi.ts';
import { controlSemantics } from './control.ts';
import { integerSemantics } from './integer.ts';
import { simdSemantics } from './simd.ts';
import { systemSemantics } from './system.ts';
import { x87Semantics } from './x87.ts';

export const SEMANTICS: Readonly<Record<string, Semantics>> = {
  ...integerSemantics,
  ...controlSemantics,
  ...systemSemantics,
  ...x87Semantics,
  ...simdSemantics,
  ...bmiSemantics,
};

/** Names whose handlers depend on the address size. */
export const ADDRESSED = new Set([
  'movs',
  'cmps',
  'stos',
  'lods',
  'scas',
  'ins',
  'outs',
  'loop',
  'jrcxz',
  'maskmov',
  'vex.maskmov',
]);
