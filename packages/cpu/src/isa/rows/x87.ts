/** x87 rows. Intel SDM vol. 2; opcode map in appendix A.5. */
import type { RowOptions, RowSource } from '../row.ts';

const x87: RowOptions = { feature: 'x87' };
const wide: RowOptions = { feature: 'x87', size: 'v' };

/** The six operations of every arithmetic group: name, ModRM.reg, number in the helpers' table. */
const ARITHMETIC = [['FADD', 0], ['FMUL', 1], ['FSUB', 4], ['FSUBR', 5], ['FDIV', 6], ['FDIVR', 7]] as const; // prettier-ignore
/** In the forms that write STi the reversed and the plain instruction change places. */
const REVERSED = [['FADD', 0], ['FMUL', 1], ['FSUBR', 4], ['FSUB', 5], ['FDIVR', 6], ['FDIV', 7]] as const; // prettier-ignore

const op = (variant: number): RowOptions => ({ feature: 'x87', variant });
const VARIANT: Readonly<Record<string, number>> = { FADD: 0, FMUL: 1, FSUB: 2, FSUBR: 3, FDIV: 4, FDIVR: 5 };
const variantOf = (name: string): number => VARIANT[name] ?? 0;

const CONSTANTS = ['FLD1', 'FLDL2T', 'FLDL2E', 'FLDPI', 'FLDLG2', 'FLDLN2', 'FLDZ'] as const;
/** Operand-less instructions of D9 F0 to FF that the semantics name by their mnemonic. */
const TRANSCENDENTAL = [
  'F2XM1', 'FYL2X', 'FPTAN', 'FPATAN', 'FXTRACT', 'FPREM1', 'FDECSTP', 'FINCSTP', 'FPREM', 'FYL2XP1', 'FSQRT', 'FSINCOS',
  'FRNDINT', 'FSCALE', 'FSIN', 'FCOS',
] as const; // prettier-ignore
const MOVES = [['B', 'NB'], ['E', 'NE'], ['BE', 'NBE'], ['U', 'NU']] as const; // prettier-ignore
/** Condition codes of FCMOVcc. */
const MOVE_CONDITIONS = [2, 4, 6, 10];

const hex = (value: number): string => value.toString(16);

export const x87Rows: readonly RowSource[] = [
  ...ARITHMETIC.flatMap(([name, reg]): RowSource[] => [
    [name, `d8 /${reg} m`, 'Md', 'x87.arithmetic.m32', op(variantOf(name))],
    [name, `d8 /${reg} r`, 'ST0, STi', 'x87.arithmetic.st0', op(variantOf(name))],
    [name.replace('F', 'FI'), `da /${reg} m`, 'Md', 'x87.arithmetic.i32', op(variantOf(name))],
    [name, `dc /${reg} m`, 'Mq', 'x87.arithmetic.m64', op(variantOf(name))],
    [name.replace('F', 'FI'), `de /${reg} m`, 'Mw', 'x87.arithmetic.i16', op(variantOf(name))],
  ]),
  ...REVERSED.flatMap(([name, reg]): RowSource[] => [
    [name, `dc /${reg} r`, 'STi, ST0', 'x87.arithmetic.sti', op(variantOf(name))],
    [`${name}P`, `de /${reg} r`, 'STi, ST0', 'x87.arithmetic.pop', op(variantOf(name))],
  ]),
  ...([['FCOM', 2, 0], ['FCOMP', 3, 1]] as const).flatMap(([name, reg, pops]): RowSource[] => [
    [name, `d8 /${reg} m`, 'Md', 'x87.compare.m32', op(pops)],
    [name, `d8 /${reg} r`, 'STi', 'x87.compare.sti', op(pops)],
    [name.replace('F', 'FI'), `da /${reg} m`, 'Md', 'x87.compare.i32', op(pops)],
    [name, `dc /${reg} m`, 'Mq', 'x87.compare.m64', op(pops)],
    [name.replace('F', 'FI'), `de /${reg} m`, 'Mw', 'x87.compare.i16', op(pops)],
  ]), // prettier-ignore
  ['FLD', 'd9 /0 m', 'Md', 'x87.load.m32', x87],
  ['FLD', 'd9 /0 r', 'STi', 'x87.load.sti', x87],
  ['FXCH', 'd9 /1 r', 'STi', 'x87.exchange', x87],
  ['FST', 'd9 /2 m', 'Md', 'x87.store.m32', op(0)],
  ['FNOP', 'd9 d0', '', 'x87.nop', x87],
  ['FSTP', 'd9 /3 m', 'Md', 'x87.store.m32', op(1)],
  ['FLDENV', 'd9 /4 m', 'M', 'x87.fldenv', wide],
  ['FCHS', 'd9 e0', '', 'x87.fchs', x87],
  ['FABS', 'd9 e1', '', 'x87.fabs', x87],
  ['FTST', 'd9 e4', '', 'x87.ftst', x87],
  ['FXAM', 'd9 e5', '', 'x87.fxam', x87],
  ['FLDCW', 'd9 /5 m', 'Mw', 'x87.fldcw', x87],
  ...CONSTANTS.map((name, n): RowSource => [name, `d9 ${hex(0xe8 + n)}`, '', 'x87.constant', op(n)]),
  ['FNSTENV', 'd9 /6 m', 'M', 'x87.fnstenv', wide],
  ['FNSTCW', 'd9 /7 m', 'Mw', 'x87.fnstcw', x87],
  ...TRANSCENDENTAL.map((name, n): RowSource => [name, `d9 ${hex(0xf0 + n)}`, '', `x87.${name.toLowerCase()}`, x87]),
  ...MOVES.flatMap(([plain, negated], n): RowSource[] => [
    [`FCMOV${plain}`, `da /${n} r`, 'ST0, STi', 'x87.fcmov', op(MOVE_CONDITIONS[n] ?? 0)],
    [`FCMOV${negated}`, `db /${n} r`, 'ST0, STi', 'x87.fcmov', op((MOVE_CONDITIONS[n] ?? 0) + 1)],
  ]),
  ['FUCOMPP', 'da e9', '', 'x87.comparepop', op(1)],
  ['FILD', 'db /0 m', 'Md', 'x87.load.i32', x87],
  ['FISTTP', 'db /1 m', 'Md', 'x87.truncate.i32', x87],
  ['FIST', 'db /2 m', 'Md', 'x87.integer.i32', op(0)],
  ['FISTP', 'db /3 m', 'Md', 'x87.integer.i32', op(1)],
  ['FNENI', 'db e0', '', 'x87.nothing', x87],
  ['FNDISI', 'db e1', '', 'x87.nothing', x87],
  ['FNCLEX', 'db e2', '', 'x87.fnclex', x87],
  ['FNINIT', 'db e3', '', 'x87.fninit', x87],
  ['FNSETPM', 'db e4', '', 'x87.nothing', x87],
  ['FLD', 'db /5 m', 'Mt', 'x87.load.m80', x87],
  ['FUCOMI', 'db /5 r', 'ST0, STi', 'x87.compareflags', op(0)],
  ['FCOMI', 'db /6 r', 'ST0, STi', 'x87.compareflags', op(1)],
  ['FSTP', 'db /7 m', 'Mt', 'x87.store.m80', op(1)],
  ['FLD', 'dd /0 m', 'Mq', 'x87.load.m64', x87],
  ['FFREE', 'dd /0 r', 'STi', 'x87.ffree', op(0)],
  ['FISTTP', 'dd /1 m', 'Mq', 'x87.truncate.i64', x87],
  ['FST', 'dd /2 m', 'Mq', 'x87.store.m64', op(0)],
  ['FST', 'dd /2 r', 'STi', 'x87.store.sti', op(0)],
  ['FSTP', 'dd /3 m', 'Mq', 'x87.store.m64', op(1)],
  ['FSTP', 'dd /3 r', 'STi', 'x87.store.sti', op(1)],
  ['FRSTOR', 'dd /4 m', 'M', 'x87.frstor', wide],
  ['FUCOM', 'dd /4 r', 'STi', 'x87.compareunordered', op(0)],
  ['FUCOMP', 'dd /5 r', 'STi', 'x87.compareunordered', op(1)],
  ['FNSAVE', 'dd /6 m', 'M', 'x87.fnsave', wide],
  ['FNSTSW', 'dd /7 m', 'Mw', 'x87.fnstsw', x87],
  ['FCOMPP', 'de d9', '', 'x87.comparepop', op(0)],
  ['FILD', 'df /0 m', 'Mw', 'x87.load.i16', x87],
  ['FFREEP', 'df /0 r', 'STi', 'x87.ffree', op(1)],
  ['FISTTP', 'df /1 m', 'Mw', 'x87.truncate.i16', x87],
  ['FIST', 'df /2 m', 'Mw', 'x87.integer.i16', op(0)],
  ['FISTP', 'df /3 m', 'Mw', 'x87.integer.i16', op(1)],
  ['FBLD', 'df /4 m', 'Mt', 'x87.load.bcd', x87],
  ['FNSTSW', 'df e0', 'AX', 'x87.fnstsw', x87],
  ['FILD', 'df /5 m', 'Mq', 'x87.load.i64', x87],
  ['FUCOMIP', 'df /5 r', 'ST0, STi', 'x87.compareflags', op(2)],
  ['FBSTP', 'df /6 m', 'Mt', 'x87.store.bcd', op(1)],
  ['FCOMIP', 'df /6 r', 'ST0, STi', 'x87.compareflags', op(3)],
  ['FISTP', 'df /7 m', 'Mq', 'x87.integer.i64', op(1)],
  ['FWAIT', '9b', '', 'x87.fwait'],
];
