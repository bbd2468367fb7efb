/** Semantics of MMX and SSE instructions. */
import type { Semantics } from './algebra.ts';

export const simdSemantics: Readonly<Record<string, Semantics>> = {};
