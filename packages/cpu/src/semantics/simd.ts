/** Semantics of MMX, SSE and AVX instructions. */
import type { Semantics } from './algebra.ts';
import { avxSemantics } from './simd/avx.ts';
import { floatSemantics } from './simd/float.ts';
import { fmaSemantics } from './simd/fma.ts';
import { xmmIntegerSemantics } from './simd/integer.ts';
import { mmxSemantics } from './simd/mmx.ts';
import { moveSemantics } from './simd/moves.ts';
import { specialSemantics } from './simd/special.ts';
import { vexForm, vexWhole } from './simd/vex.ts';

const sseSemantics: Readonly<Record<string, Semantics>> = {
  ...moveSemantics,
  ...xmmIntegerSemantics,
  ...floatSemantics,
  ...specialSemantics,
};

/** Of each SSE instruction: with its own operands (`vex`), with a source of its own for the destination (`vex3`). */
function vexSemantics(): Record<string, Semantics> {
  const all: Record<string, Semantics> = {};
  for (const [name, semantics] of Object.entries(sseSemantics)) {
    // The predicates of the VEX comparisons are more.
    const own = /^cmp[ps][sd]$/.test(name) ? (sseSemantics[`v${name}`] ?? semantics) : semantics;
    all[`vex.${name}`] = vexForm(name, own, 0);
    all[`vex3.${name}`] = vexForm(name, own, 1);
  }
  return all;
}

export const simdSemantics: Readonly<Record<string, Semantics>> = {
  ...sseSemantics,
  ...mmxSemantics,
  ...vexSemantics(),
  ...vexWhole,
  ...avxSemantics,
  ...fmaSemantics,
};
