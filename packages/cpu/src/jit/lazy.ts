/**
 * What is known of the arithmetic flags at a point of a region while it is compiled. Nothing is computed when an
 * instruction sets flags: a description says where its operands and result are, and who reads flags computes what it
 * asks for. Only where the run time must know (exits, joins of several ways) are the state's lazy words made.
 */
import type { Width } from '../semantics/algebra.ts';
import type { Value } from '../interpreter/emit-frame.ts';

/** Operands are sign-extended to the width of `type`; they are constants or locals that only the next setter changes. */
export interface ArithmeticFlags {
  readonly form: 'sub' | 'add' | 'shl' | 'shr' | 'sar';
  readonly size: Width;
  readonly type: 'i32' | 'i64';
  readonly a: Value;
  readonly b: Value;
  readonly r: Value;
  /** No carry came in: `r` follows from `a` and `b`. */
  readonly isPlain: boolean;
}
/** INC and DEC: CF is that of `before`. */
export interface StepFlags {
  readonly form: 'inc' | 'dec';
  readonly size: Width;
  readonly type: 'i32' | 'i64';
  readonly r: Value;
  readonly before: FlagState;
}
/** ZF SF PF by `r`; CF AF OF in `bits` (i32) at their places. */
export interface ResultFlags {
  readonly form: 'result';
  readonly size: Width;
  readonly type: 'i32' | 'i64';
  readonly r: Value;
  readonly bits: Value;
}
/** The flags in `mask` are those of `bits` (i32), the others those of `before`. */
export interface ChangedFlags {
  readonly form: 'changed';
  readonly mask: number;
  readonly bits: Value;
  readonly before: FlagState;
}
export type FlagState =
  | ArithmeticFlags
  | StepFlags
  | ResultFlags
  | ChangedFlags
  /** In the locals of the lazy words, kind known at run time only. */
  | { readonly form: 'generic' }
  /** As the local `form` says: one of the descriptions of this region, or generic. Only ways out ask. */
  | { readonly form: 'joined' }
  /** Nobody looks at them before they are set again. */
  | { readonly form: 'dead' };

export const GENERIC: FlagState = { form: 'generic' };
export const JOINED: FlagState = { form: 'joined' };
export const DEAD: FlagState = { form: 'dead' };

/** All six flags. */
export const ALL_FLAGS = 0x8d5;
/** Flags that a condition code looks at, by code / 2. */
export const CONDITION_FLAGS = [0x800, 1, 0x40, 0x41, 0x80, 4, 0x880, 0x8c0] as const;

const keyOfValue = ({ type, local, constant }: Value): string =>
  local < 0 ? `${type}=${constant}` : `${type}@${local}`;
/** The same for descriptions that stand for the same computation. */
export function keyOfFlags(state: FlagState): string {
  switch (state.form) {
    case 'generic': case 'joined': case 'dead': return state.form;
    case 'inc': case 'dec': return `${state.form}${state.size}${keyOfValue(state.r)}(${keyOfFlags(state.before)})`;
    case 'result': return `result${state.size}${keyOfValue(state.r)}${keyOfValue(state.bits)}`;
    case 'changed': return `changed${state.mask}${keyOfValue(state.bits)}(${keyOfFlags(state.before)})`;
    default: return `${state.form}${state.size}${keyOfValue(state.a)}${keyOfValue(state.b)}${keyOfValue(state.r)}`;
  } // prettier-ignore
}
