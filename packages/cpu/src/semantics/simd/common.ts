/** Operand access shared by the SIMD semantics. */
import type { Algebra } from '../algebra.ts';

const XMM_BYTES = 16;

/** Operand `n` as v128; a 16-byte memory operand must be aligned. */
export function readAligned<V>(e: Algebra<V>, n: number): V {
  const operand = e.operands[n];
  if (operand?.kind === 'memory' && operand.size === XMM_BYTES) e.aligned(e.address(n), XMM_BYTES);
  return e.read(n);
}

/** Integer operand `n`; beside XMM operands `read` would give memory as a vector. */
export function readInteger<V>(e: Algebra<V>, n: number): V {
  const operand = e.operands[n];
  if (operand?.kind !== 'memory') return e.read(n);
  const type = ({ 1: 'u8', 2: 'u16', 4: 'u32', 8: 'u64' } as const)[operand.size];
  if (type === undefined) throw new Error(`no integer of ${operand.size} bytes`);
  return e.load(type, e.address(n));
}

/** Operand `n` as v128: a register, or 8 or 16 bytes (aligned) of memory, whatever the other operands are. */
export function readVector<V>(e: Algebra<V>, n: number): V {
  const operand = e.operands[n];
  if (operand?.kind !== 'memory') return e.read(n);
  if (operand.size === 8) return e.load('v128.64', e.address(n));
  e.aligned(e.address(n), XMM_BYTES);
  return e.load('v128', e.address(n));
}

export function low64<V>(e: Algebra<V>, value: V): V {
  return e.lane('i64x2.extract_lane', 0, value);
}

export function high64<V>(e: Algebra<V>, value: V): V {
  return e.lane('i64x2.extract_lane', 1, value);
}

export function zero128<V>(e: Algebra<V>): V {
  return e.v128(new Uint8Array(XMM_BYTES));
}

/** A v128 of two i64. */
export function pair<V>(e: Algebra<V>, low: V, high: V): V {
  return e.lane('i64x2.replace_lane', 1, e.op('i64x2.splat', low), high);
}

/** `low` with zeros above. */
export function widened<V>(e: Algebra<V>, low: V): V {
  return e.lane('i64x2.replace_lane', 0, zero128(e), low);
}

/** A constant v128 of sixteen bytes. */
export function bytes<V>(e: Algebra<V>, values: readonly number[]): V {
  return e.v128(Uint8Array.from(values));
}

export const IOTA = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15] as const;
