/** Semantics of x87 instructions. */
import type { Semantics } from './algebra.ts';

export const x87Semantics: Readonly<Record<string, Semantics>> = {};
