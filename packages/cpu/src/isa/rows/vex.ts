/**
 * AVX, AVX2, F16C and FMA rows. Those of the SSE instructions come from the SSE rows by rule: the destination that was
 * also a source gets a source of its own in VEX.vvvv, and vectors double under VEX.L. Intel SDM vol. 2; appendix A.2.
 */
import type { RowOptions, RowSource } from '../row.ts';
import { simdRows } from './simd.ts';

const avx: RowOptions = { feature: 'avx' };

/** SSE semantics that do not read their destination: their VEX forms have the same operands. */
const TWO_OPERANDS = new Set([
  'movu', 'mova', 'movddup', 'movsldup', 'movshdup', 'movd.load', 'movd.store', 'movq.load', 'movq.store', 'storelow',
  'storehigh', 'sqrtps', 'sqrtpd', 'rsqrtps', 'rcpps', 'roundps', 'roundpd', 'cvtps2pd', 'cvtpd2ps', 'cvtdq2ps',
  'cvtps2dq', 'cvttps2dq', 'cvttpd2dq', 'cvtdq2pd', 'cvtpd2dq', 'cvttss2si', 'cvttsd2si', 'cvtss2si', 'cvtsd2si',
  'ucomiss', 'ucomisd', 'comiss', 'comisd', 'movmskps', 'movmskpd', 'pmovmskb', 'pshufd', 'pshufhw', 'pshuflw', 'ptest',
  'pextrb', 'pextrw', 'pextrwstore', 'pextrd', 'pcmpstr', 'maskmov', 'ldmxcsr', 'stmxcsr', 'xmm.pabsb', 'xmm.pabsw',
  'xmm.pabsd', 'xmm.phminposuw',
]); // prettier-ignore
/** Those that VEX encodes otherwise; their rows stand below. */
const ENCODED_APART = new Set(['pblendvb', 'blendvps', 'blendvpd', 'movss', 'movsd']);
/** No form with VEX.L, though their operands are whole vectors. */
const ONLY_128 = new Set(['pcmpstr', 'xmm.phminposuw', 'dppd', 'movhlps', 'movlhps', 'maskmov', 'pextrb', 'pextrw', 'pextrwstore', 'pextrd', 'pinsrb', 'pinsrw', 'pinsrd', 'movd.load', 'movd.store']); // prettier-ignore
/** Shifts whose count is a vector, but of 128 bits always. */
const COUNTED = new Set(['w', 'd', 'q'].flatMap((size) => [`xmm.psrl${size}`, `xmm.psra${size}`, `xmm.psll${size}`]));
const isWidening = (semantics: string): boolean => semantics.startsWith('pmovsx') || semantics.startsWith('pmovzx');
/** Operands under VEX.L of the conversions between element sizes. */
const CONVERTING: Readonly<Record<string, string>> = {
  cvtdq2pd: 'Vqq, Wx', cvtps2pd: 'Vqq, Wx', cvtpd2ps: 'Vx, Wqq', cvtpd2dq: 'Vx, Wqq', cvttpd2dq: 'Vx, Wqq', movddup: 'Vqq, Wqq',
}; // prettier-ignore
const DOUBLED: Readonly<Record<string, string>> = { w: 'd', d: 'q', q: 'x', x: 'qq' };

const split = (operands: string): string[] => operands.split(',').map((o) => o.trim()).filter((o) => o !== ''); // prettier-ignore
const isWhole = (operand: string | undefined): boolean => /^[VHWUM]x$/.test(operand ?? '');
const doubled = (operand: string): string => operand.replace(/^([VHWUM])([wdqx])$/, (_, m: string, t: string) => m + (DOUBLED[t] ?? t)); // prettier-ignore

/** Operands under VEX.L, or undefined where there is no such form. */
function wideOperands(semantics: string, narrow: readonly string[]): string | undefined {
  const converting = CONVERTING[semantics];
  if (converting !== undefined) return converting;
  if (isWidening(semantics)) return narrow.map(doubled).join(', ');
  const vectors = narrow.filter((o) => /^[VHWUM]/.test(o));
  if (ONLY_128.has(semantics) || vectors.length === 0 || !vectors.every(isWhole)) return undefined;
  const isCounted = COUNTED.has(semantics) && narrow.at(-1) === 'Wx';
  return narrow.map((o, n) => (isCounted && n === narrow.length - 1 ? o : doubled(o))).join(', ');
}

/** Scalars, whatever else there is: VEX.L says nothing. */
const isScalar = (semantics: string): boolean => /^[a-z0-9]*(ss|sd|2si)$/.test(semantics);

function vexForms([mnemonic, encoding, operandText, semantics, options = {}]: RowSource): RowSource[] {
  if (options.feature !== 'sse' || ENCODED_APART.has(semantics)) return [];
  const legacy = split(operandText);
  // The SSE semantics' first operand is a source too, and VEX names it apart: `vex3`.
  const hasOwnSource = !TWO_OPERANDS.has(semantics) && !isWidening(semantics);
  const isShift = legacy[0]?.startsWith('U') ?? false;
  const inserted = isShift ? ['Hx', ...legacy] : [legacy[0] ?? '', 'Hx', ...legacy.slice(1)];
  const narrow = hasOwnSource ? inserted : legacy;
  const name = `V${mnemonic}`;
  const size: RowOptions = legacy.some((o) => o.endsWith('y')) ? { size: 'fixed' } : {};
  const all: RowOptions = { ...options, ...avx, ...size };
  const own = `${hasOwnSource ? 'vex3' : 'vex'}.${semantics}`;
  if (isScalar(semantics)) return [[name, `vex ${encoding}`, narrow.join(', '), own, all]];
  const wide = wideOperands(semantics, narrow);
  const rows: RowSource[] = [[name, `vex l0 ${encoding}`, narrow.join(', '), own, all]];
  if (wide !== undefined) rows.push([name, `vex l1 ${encoding}`, wide, own, all]);
  return rows;
}

/** A row for each vector length; `x` operands double. */
const both = (name: string, encoding: string, operands: string, semantics: string): RowSource[] => [
  [name, `vex l0 ${encoding}`, operands, semantics, avx],
  [name, `vex l1 ${encoding}`, split(operands).map((o) => (isWhole(o) || o === 'Lx' ? `${o.charAt(0)}qq` : o)).join(', '), semantics, avx], // prettier-ignore
];

/** The fused multiply-adds by the low digit of their opcode. */
const FMA: readonly (readonly [name: string, digit: string, packed: boolean])[] = [
  ['FMADDSUB', '6', true], ['FMSUBADD', '7', true], ['FMADD', '8', true], ['FMADD', '9', false], ['FMSUB', 'a', true],
  ['FMSUB', 'b', false], ['FNMADD', 'c', true], ['FNMADD', 'd', false], ['FNMSUB', 'e', true], ['FNMSUB', 'f', false],
]; // prettier-ignore
/** Orders of operands: name, high digit of the opcode. The variant is their place here. */
const FMA_ORDERS = [['132', '9'], ['213', 'a'], ['231', 'b']] as const; // prettier-ignore

const fmaRows = FMA.flatMap(([name, digit, isPacked]) =>
  FMA_ORDERS.flatMap(([order, high], variant) =>
    (['s', 'd'] as const).flatMap((type, w): RowSource[] => {
      const suffix = `${isPacked ? 'p' : 's'}${type}`;
      const semantics = `${name.toLowerCase()}${suffix}`;
      const encoding = `66 w${w} 0f 38 ${high}${digit} /r`;
      const mnemonic = `V${name}${order}${suffix.toUpperCase()}`;
      const options: RowOptions = { ...avx, variant };
      if (!isPacked) return [[mnemonic, `vex ${encoding}`, `Vx, Hx, W${w === 0 ? 'd' : 'q'}`, semantics, options]];
      return [
        [mnemonic, `vex l0 ${encoding}`, 'Vx, Hx, Wx', semantics, options],
        [mnemonic, `vex l1 ${encoding}`, 'Vqq, Hqq, Wqq', semantics, options],
      ];
    }),
  ),
);

/** Gathers: name, opcode, W, and for each L the types of destination (and mask) and of the index. */
const GATHERS = [
  ['VPGATHERDD', '90', 0, ['x', 'x'], ['qq', 'qq']], ['VPGATHERDQ', '90', 1, ['x', 'x'], ['qq', 'x']],
  ['VPGATHERQD', '91', 0, ['x', 'x'], ['x', 'qq']], ['VPGATHERQQ', '91', 1, ['x', 'x'], ['qq', 'qq']],
  ['VGATHERDPS', '92', 0, ['x', 'x'], ['qq', 'qq']], ['VGATHERDPD', '92', 1, ['x', 'x'], ['qq', 'x']],
  ['VGATHERQPS', '93', 0, ['x', 'x'], ['x', 'qq']], ['VGATHERQPD', '93', 1, ['x', 'x'], ['qq', 'qq']],
] as const; // prettier-ignore

const gatherRows = GATHERS.flatMap(([name, code, w, ...forms]) =>
  forms.map(([vector, index], l): RowSource => [
    name,
    `vex l${l} 66 w${w} 0f 38 ${code} /r`,
    `V${vector}, M${w === 0 ? 'd' : 'q'}, VSIB${index}, SCALE, H${vector}`,
    `gather.${code === '90' || code === '92' ? 'd' : 'q'}`,
    avx,
  ]),
);

export const vexRows: readonly RowSource[] = [
  ...simdRows.flatMap(vexForms),
  ['VMOVSS', 'vex f3 0f 10 /r r', 'Vx, Hx, Ux', 'vmovss', avx],
  ['VMOVSS', 'vex f3 0f 10 /r m', 'Vx, Md', 'vex.movss', avx],
  ['VMOVSS', 'vex f3 0f 11 /r r', 'Ux, Hx, Vx', 'vmovss', avx],
  ['VMOVSS', 'vex f3 0f 11 /r m', 'Md, Vx', 'vex.movss', avx],
  ['VMOVSD', 'vex f2 0f 10 /r r', 'Vx, Hx, Ux', 'vmovsd', avx],
  ['VMOVSD', 'vex f2 0f 10 /r m', 'Vx, Mq', 'vex.movsd', avx],
  ['VMOVSD', 'vex f2 0f 11 /r r', 'Ux, Hx, Vx', 'vmovsd', avx],
  ['VMOVSD', 'vex f2 0f 11 /r m', 'Mq, Vx', 'vex.movsd', avx],
  ...both('VBLENDVPS', '66 w0 0f 3a 4a /r', 'Vx, Hx, Wx, Lx', 'vex3.blendvps'),
  ...both('VBLENDVPD', '66 w0 0f 3a 4b /r', 'Vx, Hx, Wx, Lx', 'vex3.blendvpd'),
  ...both('VPBLENDVB', '66 w0 0f 3a 4c /r', 'Vx, Hx, Wx, Lx', 'vex3.pblendvb'),

  ['VZEROUPPER', 'vex l0 np 0f 77', '', 'vzeroupper', avx],
  ['VZEROALL', 'vex l1 np 0f 77', '', 'vzeroall', avx],
  ...both('VBROADCASTSS', '66 w0 0f 38 18 /r', 'Vx, Wd', 'vbroadcast.4'),
  ['VBROADCASTSD', 'vex l1 66 w0 0f 38 19 /r', 'Vqq, Wq', 'vbroadcast.8', avx],
  ['VBROADCASTF128', 'vex l1 66 w0 0f 38 1a /r', 'Vqq, Mx', 'vbroadcast.16', avx],
  ['VBROADCASTI128', 'vex l1 66 w0 0f 38 5a /r', 'Vqq, Mx', 'vbroadcast.16', avx],
  ...both('VPBROADCASTB', '66 w0 0f 38 78 /r', 'Vx, Wb', 'vbroadcast.1'),
  ...both('VPBROADCASTW', '66 w0 0f 38 79 /r', 'Vx, Ww', 'vbroadcast.2'),
  ...both('VPBROADCASTD', '66 w0 0f 38 58 /r', 'Vx, Wd', 'vbroadcast.4'),
  ...both('VPBROADCASTQ', '66 w0 0f 38 59 /r', 'Vx, Wq', 'vbroadcast.8'),
  ...both('VPERMILPS', '66 w0 0f 38 0c /r', 'Vx, Hx, Wx', 'vpermilps'),
  ...both('VPERMILPD', '66 w0 0f 38 0d /r', 'Vx, Hx, Wx', 'vpermilpd'),
  ...both('VPERMILPS', '66 w0 0f 3a 04 /r', 'Vx, Wx, Ib', 'vex.pshufd'),
  ...both('VPERMILPD', '66 w0 0f 3a 05 /r', 'Vx, Wx, Ib', 'vpermilpd.imm'),
  ['VPERM2F128', 'vex l1 66 w0 0f 3a 06 /r', 'Vqq, Hqq, Wqq, Ib', 'vperm2x128', avx],
  ['VPERM2I128', 'vex l1 66 w0 0f 3a 46 /r', 'Vqq, Hqq, Wqq, Ib', 'vperm2x128', avx],
  ['VPERMPS', 'vex l1 66 w0 0f 38 16 /r', 'Vqq, Hqq, Wqq', 'vpermd', avx],
  ['VPERMD', 'vex l1 66 w0 0f 38 36 /r', 'Vqq, Hqq, Wqq', 'vpermd', avx],
  ['VPERMQ', 'vex l1 66 w1 0f 3a 00 /r', 'Vqq, Wqq, Ib', 'vpermq', avx],
  ['VPERMPD', 'vex l1 66 w1 0f 3a 01 /r', 'Vqq, Wqq, Ib', 'vpermq', avx],
  ['VINSERTF128', 'vex l1 66 w0 0f 3a 18 /r', 'Vqq, Hqq, Wx, Ib', 'vinsert128', avx],
  ['VINSERTI128', 'vex l1 66 w0 0f 3a 38 /r', 'Vqq, Hqq, Wx, Ib', 'vinsert128', avx],
  ['VEXTRACTF128', 'vex l1 66 w0 0f 3a 19 /r', 'Wx, Vqq, Ib', 'vextract128', avx],
  ['VEXTRACTI128', 'vex l1 66 w0 0f 3a 39 /r', 'Wx, Vqq, Ib', 'vextract128', avx],
  ...both('VPBLENDD', '66 w0 0f 3a 02 /r', 'Vx, Hx, Wx, Ib', 'vex3.blendps'),
  ...both('VPSRLVD', '66 w0 0f 38 45 /r', 'Vx, Hx, Wx', 'vpsrlvd'),
  ...both('VPSRLVQ', '66 w1 0f 38 45 /r', 'Vx, Hx, Wx', 'vpsrlvq'),
  ...both('VPSRAVD', '66 w0 0f 38 46 /r', 'Vx, Hx, Wx', 'vpsravd'),
  ...both('VPSLLVD', '66 w0 0f 38 47 /r', 'Vx, Hx, Wx', 'vpsllvd'),
  ...both('VPSLLVQ', '66 w1 0f 38 47 /r', 'Vx, Hx, Wx', 'vpsllvq'),
  ...both('VMASKMOVPS', '66 w0 0f 38 2c /r', 'Vx, Hx, Mx', 'vmaskload.4'),
  ...both('VMASKMOVPD', '66 w0 0f 38 2d /r', 'Vx, Hx, Mx', 'vmaskload.8'),
  ...both('VMASKMOVPS', '66 w0 0f 38 2e /r', 'Mx, Hx, Vx', 'vmaskstore.4'),
  ...both('VMASKMOVPD', '66 w0 0f 38 2f /r', 'Mx, Hx, Vx', 'vmaskstore.8'),
  ...both('VPMASKMOVD', '66 w0 0f 38 8c /r', 'Vx, Hx, Mx', 'vmaskload.4'),
  ...both('VPMASKMOVQ', '66 w1 0f 38 8c /r', 'Vx, Hx, Mx', 'vmaskload.8'),
  ...both('VPMASKMOVD', '66 w0 0f 38 8e /r', 'Mx, Hx, Vx', 'vmaskstore.4'),
  ...both('VPMASKMOVQ', '66 w1 0f 38 8e /r', 'Mx, Hx, Vx', 'vmaskstore.8'),
  ...both('VTESTPS', '66 w0 0f 38 0e /r', 'Vx, Wx', 'vtestps'),
  ...both('VTESTPD', '66 w0 0f 38 0f /r', 'Vx, Wx', 'vtestpd'),
  ...gatherRows,
  ['VCVTPH2PS', 'vex l0 66 w0 0f 38 13 /r', 'Vx, Wq', 'vcvtph2ps', avx],
  ['VCVTPH2PS', 'vex l1 66 w0 0f 38 13 /r', 'Vqq, Wx', 'vcvtph2ps', avx],
  ['VCVTPS2PH', 'vex l0 66 w0 0f 3a 1d /r', 'Wq, Vx, Ib', 'vcvtps2ph', avx],
  ['VCVTPS2PH', 'vex l1 66 w0 0f 3a 1d /r', 'Wx, Vqq, Ib', 'vcvtps2ph', avx],
  ...fmaRows,
];
