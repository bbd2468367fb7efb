/** All rows, numbered. Order matters only between rows of one opcode: the first that fits is taken. */
import { makeRow } from './row.ts';
import type { Row } from './row.ts';
import { bmiRows } from './rows/bmi.ts';
import { integerRows } from './rows/integer.ts';
import { simdRows } from './rows/simd.ts';
import { systemRows } from './rows/system.ts';
import { vexRows } from './rows/vex.ts';
import { x87Rows } from './rows/x87.ts';

export const ROWS: readonly Row[] = [
  ...integerRows,
  ...systemRows,
  ...x87Rows,
  ...simdRows,
  ...bmiRows,
  ...vexRows,
].map((source, index) => makeRow(index, source));
