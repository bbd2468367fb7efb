/** Semantics of MMX and SSE instructions. */
import type { Semantics } from './algebra.ts';
import { floatSemantics } from './simd/float.ts';
import { xmmIntegerSemantics } from './simd/integer.ts';
import { mmxSemantics } from './simd/mmx.ts';
import { moveSemantics } from './simd/moves.ts';
import { specialSemantics } from './simd/special.ts';

export const simdSemantics: Readonly<Record<string, Semantics>> = {
  ...moveSemantics,
  ...xmmIntegerSemantics,
  ...mmxSemantics,
  ...floatSemantics,
  ...specialSemantics,
};
