/** FMA3: a * b + c with one rounding. WebAssembly has no fused operation that is certain, so software computes it. */
import type { Algebra, Semantics } from '../algebra.ts';
import { high64, low64, pair } from './common.ts';
import { SHAPES, helperScalar, scalarOperand, writeScalar } from './float-shape.ts';
import { vexForm } from './vex.ts';

/** Operands a, b, c by the row's variant: forms 132, 213, 231. */
const ORDERS = [[0, 2, 1], [1, 0, 2], [1, 2, 0]] as const; // prettier-ignore

const orderOf = <V>(e: Algebra<V>): readonly [number, number, number] => ORDERS[e.variant] ?? ORDERS[0];

const packed =
  (name: string): Semantics =>
  (e) => {
    const halves = orderOf(e).flatMap((n) => {
      const vector = e.read(n);
      return [low64(e, vector), high64(e, vector)];
    });
    const low = e.helper(`sse.${name}`, ...halves);
    e.write(0, pair(e, low, e.field('resultHigh')));
  };

const scalar =
  (name: string, suffix: 'ss' | 'sd'): Semantics =>
  (e) => {
    const shape = SHAPES[suffix];
    const values = orderOf(e).map((n) => scalarOperand(e, shape, n));
    writeScalar(e, shape, e.read(0), helperScalar(e, shape, `sse.${name}`, ...values));
  };

function allForms(): Record<string, Semantics> {
  const all: Record<string, Semantics> = {};
  for (const op of ['fmadd', 'fmsub', 'fnmadd', 'fnmsub'] as const)
    for (const suffix of ['ss', 'sd'] as const) all[op + suffix] = vexForm(op, scalar(`${op}${suffix}`, suffix), 0);
  for (const op of ['fmadd', 'fmsub', 'fnmadd', 'fnmsub', 'fmaddsub', 'fmsubadd'])
    for (const suffix of ['ps', 'pd']) all[op + suffix] = vexForm(op, packed(`${op}${suffix}`), 0);
  return all;
}

export const fmaSemantics: Readonly<Record<string, Semantics>> = allForms();
