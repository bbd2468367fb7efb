/** Register names of the source language and what they are. */

export interface Register {
  readonly kind: 'gpr' | 'high-byte' | 'segment' | 'control' | 'debug' | 'st' | 'mmx' | 'xmm' | 'ymm' | 'rip';
  readonly number: number;
  /** Bytes. */
  readonly size: number;
  /** sil dil bpl spl: exist only with a REX prefix. */
  readonly needsRex: boolean;
}

const LEGACY = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'];
const LOW = ['al', 'cl', 'dl', 'bl', 'spl', 'bpl', 'sil', 'dil'];
const HIGH = ['ah', 'ch', 'dh', 'bh'];
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'];

const table = new Map<string, Register>();
const add = (name: string, kind: Register['kind'], number: number, size: number, needsRex = false): void => {
  table.set(name, { kind, number, size, needsRex });
};
LEGACY.forEach((name, n) => {
  add(name, 'gpr', n, 2);
  add(`e${name}`, 'gpr', n, 4);
  add(`r${name}`, 'gpr', n, 8);
});
LOW.forEach((name, n) => {
  add(name, 'gpr', n, 1, n >= 4);
});
HIGH.forEach((name, n) => {
  add(name, 'high-byte', n + 4, 1);
});
for (let n = 8; n < 16; n++) {
  add(`r${n}`, 'gpr', n, 8);
  add(`r${n}d`, 'gpr', n, 4);
  add(`r${n}w`, 'gpr', n, 2);
  add(`r${n}b`, 'gpr', n, 1);
}
SEGMENTS.forEach((name, n) => {
  add(name, 'segment', n, 2);
});
for (let n = 0; n < 16; n++) {
  add(`cr${n}`, 'control', n, 8);
  add(`dr${n}`, 'debug', n, 8);
  add(`xmm${n}`, 'xmm', n, 16);
  add(`ymm${n}`, 'ymm', n, 32);
  if (n < 8) add(`st${n}`, 'st', n, 10);
  if (n < 8) add(`mm${n}`, 'mmx', n, 8);
}
add('rip', 'rip', 0, 8);

export const register = (name: string): Register | undefined => table.get(name);
