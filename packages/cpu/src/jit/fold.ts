/** Constant folding for the region compiler: numeric WebAssembly instructions on constants, and identities. */
import type { Value } from '../interpreter/emit-frame.ts';

const u32 = (v: bigint): bigint => BigInt.asUintN(32, v);
const s32 = (v: bigint): bigint => BigInt.asIntN(32, v);
const u64 = (v: bigint): bigint => BigInt.asUintN(64, v);
const s64 = (v: bigint): bigint => BigInt.asIntN(64, v);
const flag = (condition: boolean): bigint => (condition ? 1n : 0n);

interface Arithmetic {
  readonly unsigned: (v: bigint) => bigint;
  readonly signed: (v: bigint) => bigint;
  readonly bits: bigint;
}
const ARITHMETIC: Readonly<Record<string, Arithmetic>> = {
  i32: { unsigned: u32, signed: s32, bits: 32n },
  i64: { unsigned: u64, signed: s64, bits: 64n },
};

/** Of constants in their signed form; undefined where it is not folded. */
function binary(name: string, { unsigned, signed, bits }: Arithmetic, a: bigint, b: bigint): bigint | undefined {
  const count = unsigned(b) % bits;
  switch (name) {
    case 'add': return signed(a + b);
    case 'sub': return signed(a - b);
    case 'mul': return signed(a * b);
    case 'and': return signed(a & b);
    case 'or': return signed(a | b);
    case 'xor': return signed(a ^ b);
    case 'shl': return signed(a << count);
    case 'shr_u': return signed(unsigned(a) >> count);
    case 'shr_s': return signed(a >> count);
    case 'eq': return flag(a === b);
    case 'ne': return flag(a !== b);
    case 'lt_s': return flag(a < b);
    case 'lt_u': return flag(unsigned(a) < unsigned(b));
    case 'le_s': return flag(a <= b);
    case 'le_u': return flag(unsigned(a) <= unsigned(b));
    default: return undefined;
  } // prettier-ignore
}

function unary(name: string, a: bigint): { type: 'i32' | 'i64'; value: bigint } | undefined {
  switch (name) {
    case 'i32.eqz': case 'i64.eqz': return { type: 'i32', value: flag(a === 0n) };
    case 'i32.wrap_i64': return { type: 'i32', value: s32(a) };
    case 'i64.extend_i32_u': return { type: 'i64', value: u32(a) };
    case 'i64.extend_i32_s': return { type: 'i64', value: s32(a) };
    case 'i32.extend8_s': return { type: 'i32', value: BigInt.asIntN(8, a) };
    case 'i32.extend16_s': return { type: 'i32', value: BigInt.asIntN(16, a) };
    default: return undefined;
  } // prettier-ignore
}

const isConstant = (v: Value | undefined): v is Value => v !== undefined && v.local < 0 && v.type !== 'v128';
const constant = (type: 'i32' | 'i64', value: bigint): Value => ({ type, local: -1, constant: value });

interface Parsed {
  readonly arithmetic: Arithmetic | undefined;
  readonly type: 'i32' | 'i64';
  readonly operation: string;
  readonly isComparison: boolean;
}
const parsed = new Map<string, Parsed>();
function parse(name: string): Parsed {
  const known = parsed.get(name);
  if (known) return known;
  const [type = '', operation = ''] = name.split('.');
  const one: Parsed = { arithmetic: ARITHMETIC[type], type: type as 'i32' | 'i64', operation, isComparison: /^(eq|ne|lt|le)/.test(operation) };
  parsed.set(name, one);
  return one;
} // prettier-ignore

/** The value of `name` applied to `args` where it needs no code: folded, or one of the arguments. */
export function fold(name: string, args: readonly Value[]): Value | undefined {
  const a = args[0];
  const b = args[1];
  if (a === undefined) return undefined;
  if (b === undefined) {
    if (!isConstant(a)) return undefined;
    const result = unary(name, a.constant);
    return result && constant(result.type, result.value);
  }
  if (!isConstant(b)) {
    if (!isConstant(a)) return undefined;
    return identityLeft(parse(name).operation, a, b);
  }
  const { arithmetic, type, operation, isComparison } = parse(name);
  if (!arithmetic) return undefined;
  if (isConstant(a)) {
    const value = binary(operation, arithmetic, a.constant, b.constant);
    return value === undefined ? undefined : constant(isComparison ? 'i32' : type, value);
  }
  const zero = b.constant === 0n;
  switch (operation) {
    case 'add': case 'sub': case 'or': case 'xor': return zero ? a : undefined;
    case 'shl': case 'shr_u': case 'shr_s': case 'rotl': case 'rotr':
      return b.constant % arithmetic.bits === 0n ? a : undefined;
    case 'and': return zero ? b : b.constant === -1n ? a : undefined;
    default: return undefined;
  } // prettier-ignore
}

function identityLeft(operation: string, a: Value, b: Value): Value | undefined {
  if (b.type !== a.type) return undefined;
  if (a.constant === 0n) {
    if (operation === 'add' || operation === 'or' || operation === 'xor') return b;
    if (operation === 'and') return a;
  }
  return operation === 'and' && a.constant === -1n ? b : undefined;
}
