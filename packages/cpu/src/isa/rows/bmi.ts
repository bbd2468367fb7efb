/** BMI1 and BMI2: general registers under a VEX prefix. Intel SDM vol. 2. */
import type { RowOptions, RowSource } from '../row.ts';

/** W chooses between 32 and 64 bits; no prefix makes 16. */
const fixed: RowOptions = { size: 'fixed' };

export const bmiRows: readonly RowSource[] = [
  ['ANDN', 'vex l0 np 0f 38 f2 /r', 'Gy, Ky, Ey', 'andn', fixed],
  ['BLSR', 'vex l0 np 0f 38 f3 /1', 'Ky, Ey', 'blsr', fixed],
  ['BLSMSK', 'vex l0 np 0f 38 f3 /2', 'Ky, Ey', 'blsmsk', fixed],
  ['BLSI', 'vex l0 np 0f 38 f3 /3', 'Ky, Ey', 'blsi', fixed],
  ['BEXTR', 'vex l0 np 0f 38 f7 /r', 'Gy, Ey, Ky', 'bextr', fixed],
  ['BZHI', 'vex l0 np 0f 38 f5 /r', 'Gy, Ey, Ky', 'bzhi', fixed],
  ['PEXT', 'vex l0 f3 0f 38 f5 /r', 'Gy, Ky, Ey', 'pext', fixed],
  ['PDEP', 'vex l0 f2 0f 38 f5 /r', 'Gy, Ky, Ey', 'pdep', fixed],
  ['MULX', 'vex l0 f2 0f 38 f6 /r', 'Gy, Ky, Ey', 'mulx', fixed],
  ['SHLX', 'vex l0 66 0f 38 f7 /r', 'Gy, Ey, Ky', 'shlx', fixed],
  ['SARX', 'vex l0 f3 0f 38 f7 /r', 'Gy, Ey, Ky', 'sarx', fixed],
  ['SHRX', 'vex l0 f2 0f 38 f7 /r', 'Gy, Ey, Ky', 'shrx', fixed],
  ['RORX', 'vex l0 f2 0f 3a f0 /r', 'Gy, Ey, Ib', 'rorx', fixed],
];
