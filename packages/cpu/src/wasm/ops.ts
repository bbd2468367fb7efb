/**
 * Numeric instructions of WebAssembly by their names in the text format: opcode, parameter types, result type.
 * Answers to the core specification, appendix "Index of Instructions".
 */
import type { ValueType } from '../semantics/algebra.ts';

export type WasmOp = string;
export interface WasmOpInfo {
  /** Opcode bytes, prefix byte included. */
  readonly bytes: readonly number[];
  readonly params: readonly ValueType[];
  readonly result: ValueType;
  /** Followed by a lane index. */
  readonly lane: boolean;
}

const TYPES: Record<string, ValueType> = { i: 'i32', l: 'i64', f: 'f32', d: 'f64', v: 'v128' };
const table = new Map<string, WasmOpInfo>();

function leb(n: number): number[] {
  const out: number[] = [];
  do {
    out.push((n & 0x7f) | (n > 0x7f ? 0x80 : 0));
    n >>>= 7;
  } while (n > 0);
  return out;
}

/** Consecutive opcodes from `first`; '-' skips one. `signature`: parameters, ':', result. */
function range(prefix: readonly number[], first: number, signature: string, names: string, lane = false): void {
  const [params = '', result = ''] = signature.split(':');
  names.split(' ').forEach((name, i) => {
    if (name === '-') return;
    const bytes = prefix.length > 0 ? [...prefix, ...leb(first + i)] : [first + i];
    const type = (c: string): ValueType => TYPES[c] ?? 'i32';
    table.set(name, { bytes, params: Array.from(params, type), result: type(result), lane });
  });
}

const words = (type: string, ops: string): string =>
  ops.split(' ').map((op) => (op === '-' ? op : `${type}.${op}`)).join(' '); // prettier-ignore

const COMPARE = 'eq ne lt_s lt_u gt_s gt_u le_s le_u ge_s ge_u';
range([], 0x45, 'i:i', 'i32.eqz');
range([], 0x46, 'ii:i', words('i32', COMPARE));
range([], 0x50, 'l:i', 'i64.eqz');
range([], 0x51, 'll:i', words('i64', COMPARE));
range([], 0x5b, 'ff:i', words('f32', 'eq ne lt gt le ge'));
range([], 0x61, 'dd:i', words('f64', 'eq ne lt gt le ge'));
range([], 0x67, 'i:i', words('i32', 'clz ctz popcnt'));
range([], 0x6a, 'ii:i', words('i32', 'add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr'));
range([], 0x79, 'l:l', words('i64', 'clz ctz popcnt'));
range([], 0x7c, 'll:l', words('i64', 'add sub mul div_s div_u rem_s rem_u and or xor shl shr_s shr_u rotl rotr'));
range([], 0x8b, 'f:f', words('f32', 'abs neg ceil floor trunc nearest sqrt'));
range([], 0x92, 'ff:f', words('f32', 'add sub mul div min max copysign'));
range([], 0x99, 'd:d', words('f64', 'abs neg ceil floor trunc nearest sqrt'));
range([], 0xa0, 'dd:d', words('f64', 'add sub mul div min max copysign'));
range([], 0xa7, 'l:i', 'i32.wrap_i64');
range([], 0xac, 'i:l', 'i64.extend_i32_s i64.extend_i32_u');
range([], 0xb2, 'i:f', 'f32.convert_i32_s f32.convert_i32_u');
range([], 0xb4, 'l:f', 'f32.convert_i64_s f32.convert_i64_u');
range([], 0xb6, 'd:f', 'f32.demote_f64');
range([], 0xb7, 'i:d', 'f64.convert_i32_s f64.convert_i32_u');
range([], 0xb9, 'l:d', 'f64.convert_i64_s f64.convert_i64_u');
range([], 0xbb, 'f:d', 'f64.promote_f32');
range([], 0xbc, 'f:i', 'i32.reinterpret_f32');
range([], 0xbd, 'd:l', 'i64.reinterpret_f64');
range([], 0xbe, 'i:f', 'f32.reinterpret_i32');
range([], 0xbf, 'l:d', 'f64.reinterpret_i64');
range([], 0xc0, 'i:i', 'i32.extend8_s i32.extend16_s');
range([], 0xc2, 'l:l', 'i64.extend8_s i64.extend16_s i64.extend32_s');
range([0xfc], 0, 'f:i', 'i32.trunc_sat_f32_s i32.trunc_sat_f32_u');
range([0xfc], 2, 'd:i', 'i32.trunc_sat_f64_s i32.trunc_sat_f64_u');
range([0xfc], 4, 'f:l', 'i64.trunc_sat_f32_s i64.trunc_sat_f32_u');
range([0xfc], 6, 'd:l', 'i64.trunc_sat_f64_s i64.trunc_sat_f64_u');

const SIMD = [0xfd];
const simd = (first: number, signature: string, names: string, lane = false): void => {
  range(SIMD, first, signature, names, lane);
};
simd(14, 'vv:v', 'i8x16.swizzle');
simd(15, 'i:v', 'i8x16.splat i16x8.splat i32x4.splat');
simd(18, 'l:v', 'i64x2.splat');
simd(19, 'f:v', 'f32x4.splat');
simd(20, 'd:v', 'f64x2.splat');
simd(21, 'v:i', 'i8x16.extract_lane_s i8x16.extract_lane_u', true);
simd(23, 'vi:v', 'i8x16.replace_lane', true);
simd(24, 'v:i', 'i16x8.extract_lane_s i16x8.extract_lane_u', true);
simd(26, 'vi:v', 'i16x8.replace_lane', true);
simd(27, 'v:i', 'i32x4.extract_lane', true);
simd(28, 'vi:v', 'i32x4.replace_lane', true);
simd(29, 'v:l', 'i64x2.extract_lane', true);
simd(30, 'vl:v', 'i64x2.replace_lane', true);
simd(31, 'v:f', 'f32x4.extract_lane', true);
simd(32, 'vf:v', 'f32x4.replace_lane', true);
simd(33, 'v:d', 'f64x2.extract_lane', true);
simd(34, 'vd:v', 'f64x2.replace_lane', true);
simd(35, 'vv:v', words('i8x16', COMPARE));
simd(45, 'vv:v', words('i16x8', COMPARE));
simd(55, 'vv:v', words('i32x4', COMPARE));
simd(65, 'vv:v', words('f32x4', 'eq ne lt gt le ge'));
simd(71, 'vv:v', words('f64x2', 'eq ne lt gt le ge'));
simd(77, 'v:v', 'v128.not');
simd(78, 'vv:v', 'v128.and v128.andnot v128.or v128.xor');
simd(82, 'vvv:v', 'v128.bitselect');
simd(83, 'v:i', 'v128.any_true');
simd(94, 'v:v', 'f32x4.demote_f64x2_zero f64x2.promote_low_f32x4 i8x16.abs i8x16.neg i8x16.popcnt');
simd(99, 'v:i', 'i8x16.all_true i8x16.bitmask');
simd(101, 'vv:v', 'i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u');
simd(103, 'v:v', 'f32x4.ceil f32x4.floor f32x4.trunc f32x4.nearest');
simd(107, 'vi:v', 'i8x16.shl i8x16.shr_s i8x16.shr_u');
simd(110, 'vv:v', 'i8x16.add i8x16.add_sat_s i8x16.add_sat_u i8x16.sub i8x16.sub_sat_s i8x16.sub_sat_u');
simd(116, 'v:v', 'f64x2.ceil f64x2.floor');
simd(118, 'vv:v', 'i8x16.min_s i8x16.min_u i8x16.max_s i8x16.max_u');
simd(122, 'v:v', 'f64x2.trunc');
simd(123, 'vv:v', 'i8x16.avgr_u');
simd(124, 'v:v', 'i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u i16x8.abs i16x8.neg'); // prettier-ignore
simd(130, 'vv:v', 'i16x8.q15mulr_sat_s');
simd(131, 'v:i', 'i16x8.all_true i16x8.bitmask');
simd(133, 'vv:v', 'i16x8.narrow_i32x4_s i16x8.narrow_i32x4_u');
simd(135, 'v:v', 'i16x8.extend_low_i8x16_s i16x8.extend_high_i8x16_s i16x8.extend_low_i8x16_u i16x8.extend_high_i8x16_u'); // prettier-ignore
simd(139, 'vi:v', 'i16x8.shl i16x8.shr_s i16x8.shr_u');
simd(142, 'vv:v', 'i16x8.add i16x8.add_sat_s i16x8.add_sat_u i16x8.sub i16x8.sub_sat_s i16x8.sub_sat_u');
simd(148, 'v:v', 'f64x2.nearest');
simd(149, 'vv:v', 'i16x8.mul i16x8.min_s i16x8.min_u i16x8.max_s i16x8.max_u - i16x8.avgr_u i16x8.extmul_low_i8x16_s i16x8.extmul_high_i8x16_s i16x8.extmul_low_i8x16_u i16x8.extmul_high_i8x16_u'); // prettier-ignore
simd(160, 'v:v', 'i32x4.abs i32x4.neg');
simd(163, 'v:i', 'i32x4.all_true i32x4.bitmask');
simd(167, 'v:v', 'i32x4.extend_low_i16x8_s i32x4.extend_high_i16x8_s i32x4.extend_low_i16x8_u i32x4.extend_high_i16x8_u'); // prettier-ignore
simd(171, 'vi:v', 'i32x4.shl i32x4.shr_s i32x4.shr_u');
simd(174, 'vv:v', 'i32x4.add');
simd(177, 'vv:v', 'i32x4.sub');
simd(181, 'vv:v', 'i32x4.mul i32x4.min_s i32x4.min_u i32x4.max_s i32x4.max_u i32x4.dot_i16x8_s');
simd(188, 'vv:v', 'i32x4.extmul_low_i16x8_s i32x4.extmul_high_i16x8_s i32x4.extmul_low_i16x8_u i32x4.extmul_high_i16x8_u'); // prettier-ignore
simd(192, 'v:v', 'i64x2.abs i64x2.neg');
simd(195, 'v:i', 'i64x2.all_true i64x2.bitmask');
simd(199, 'v:v', 'i64x2.extend_low_i32x4_s i64x2.extend_high_i32x4_s i64x2.extend_low_i32x4_u i64x2.extend_high_i32x4_u'); // prettier-ignore
simd(203, 'vi:v', 'i64x2.shl i64x2.shr_s i64x2.shr_u');
simd(206, 'vv:v', 'i64x2.add');
simd(209, 'vv:v', 'i64x2.sub');
simd(213, 'vv:v', 'i64x2.mul i64x2.eq i64x2.ne i64x2.lt_s i64x2.gt_s i64x2.le_s i64x2.ge_s i64x2.extmul_low_i32x4_s i64x2.extmul_high_i32x4_s i64x2.extmul_low_i32x4_u i64x2.extmul_high_i32x4_u'); // prettier-ignore
simd(224, 'v:v', 'f32x4.abs f32x4.neg');
simd(227, 'v:v', 'f32x4.sqrt');
simd(228, 'vv:v', 'f32x4.add f32x4.sub f32x4.mul f32x4.div f32x4.min f32x4.max f32x4.pmin f32x4.pmax');
simd(236, 'v:v', 'f64x2.abs f64x2.neg');
simd(239, 'v:v', 'f64x2.sqrt');
simd(240, 'vv:v', 'f64x2.add f64x2.sub f64x2.mul f64x2.div f64x2.min f64x2.max f64x2.pmin f64x2.pmax');
simd(248, 'v:v', 'i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u i32x4.trunc_sat_f64x2_s_zero i32x4.trunc_sat_f64x2_u_zero f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u'); // prettier-ignore

export function wasmOp(name: WasmOp): WasmOpInfo {
  const info = table.get(name);
  if (!info) throw new Error(`no WebAssembly instruction '${name}'`);
  return info;
}
