/** Sequences that single random instructions do not make: string operations, divisions, the stack, code inside code. */
import { ROWS } from '@xenhost/cpu';
import type { Builder } from './builder.ts';
import { ALL_FLAGS, FLAGS } from './compare.ts';
import { little } from './encode.ts';
import {
  RAX,
  RBX,
  RCX,
  RDI,
  RDX,
  RSI,
  dataAddress,
  instructionOf,
  loadAddress,
  loadConstant,
  raw,
} from './instructions.ts';
import type { FlagUse, Insn } from './program.ts';
import { jcc } from './transfers.ts';
import { ALIAS_BASE, CODE_BASE, DATA_BASE, READONLY_BASE } from './world.ts';

const RBP = 5;
const arithmetic: FlagUse = { reads: 0, defines: ALL_FLAGS, undefines: 0 };
const logic: FlagUse = { reads: 0, defines: ALL_FLAGS & ~FLAGS.af, undefines: FLAGS.af };
const division: FlagUse = { reads: 0, defines: 0, undefines: ALL_FLAGS };

const has = (b: Builder, ...registers: readonly number[]): boolean => registers.every((r) => b.free.includes(r));

/** MOVS, STOS, LODS, CMPS, SCAS by their opcodes. */
const STRING_OPCODES = [0xa4, 0xaa, 0xac, 0xa6, 0xae];

export function stringOperation(b: Builder): void {
  const { random } = b;
  if (!has(b, RAX, RCX, RSI, RDI)) return;
  const opcode = random.pick(STRING_OPCODES);
  const size = random.pick([1, 2, 4, 8] as const);
  const longest = random.chance(6) ? (b.multiplicity === 1 && random.chance(3) ? LONG_STRING : 300) : 20;
  const count = random.below(Math.floor(longest / size) + 1);
  const backwards = random.chance(5);
  const bytes = count * size + size;
  const place = (): bigint => BigInt(dataAddress(random, bytes, 1) + (backwards ? bytes - size : 0));
  const source = place();
  // Overlapping, a few bytes apart, every fourth time.
  const apart = BigInt(random.below(64) - 32);
  const target = random.chance(4) && isData(source + apart, bytes) ? source + apart : place();
  b.emit(loadConstant(RSI, source), loadConstant(RDI, target), loadConstant(RCX, BigInt(count)));
  const compares = opcode === 0xa6 || opcode === 0xae;
  // Equal neighbours make the comparison go on for a while.
  if (compares && random.chance(3)) b.emit(loadConstant(RAX, 0n));
  const prefix = random.chance(4) ? [] : [compares && random.chance(2) ? 0xf2 : 0xf3];
  const width = size === 2 ? [0x66] : [];
  const rex = size === 8 ? [0x48] : [];
  if (backwards) b.emit(raw([0xfd]));
  const flags = compares && prefix.length === 0 ? arithmetic : { reads: 0, defines: 0, undefines: 0 };
  b.emit(raw([...width, ...prefix, ...rex, opcode | (size === 1 ? 0 : 1)], flags));
  b.cost += b.multiplicity * count;
  if (backwards) b.emit(raw([0xfc]));
}

/** Bytes of a string over more than two pages. */
const LONG_STRING = 9000;

const isData = (address: bigint, bytes: number): boolean =>
  address >= BigInt(DATA_BASE + bytes) && address + BigInt(bytes) <= BigInt(READONLY_BASE);

/** REP STOSB, or MOVSB from the data, over part of an instruction that stands somewhere. */
export function patchByString(b: Builder): void {
  const { random } = b;
  if (!has(b, RAX, RCX, RSI, RDI)) return;
  const name = b.newLabel();
  const size = random.pick([1, 4] as const);
  b.wantedMarks.push({ name, size });
  b.emit(loadAddress(RDI, name, random.chance(3) ? ALIAS_BASE - CODE_BASE : 0), loadConstant(RCX, BigInt(size)));
  const copies = random.chance(2);
  if (copies) b.emit(loadConstant(RSI, BigInt(dataAddress(random, size, 1))));
  b.emit(raw([0xf3, copies ? 0xa4 : 0xaa]));
}

/** DIV or IDIV that mostly goes well: a small dividend and a divisor that is not zero. */
export function divide(b: Builder): void {
  const { random } = b;
  if (!has(b, RAX, RDX)) return;
  const divisor = random.pick(b.free.filter((r) => r !== RAX && r !== RDX));
  const wide = random.chance(2) ? 8 : 0;
  const isSigned = random.chance(2);
  const rex = 0x40 | wide | (divisor >> 3);
  // CDQ or CQO, or XOR EDX,EDX; OR divisor,1; then the division.
  if (isSigned) b.emit(raw([0x40 | wide, 0x99]));
  else b.emit(raw([0x31, 0xd2], logic));
  b.emit(raw([rex, 0x83, 0xc8 | (divisor & 7), 1], logic));
  b.emit(raw([rex, 0xf7, (isSigned ? 0xf8 : 0xf0) | (divisor & 7)], division));
}

/** PUSH and POP around something. */
export function aroundStack(b: Builder, body: () => void): void {
  const { random } = b;
  const pushed = Array.from({ length: 1 + random.below(4) }, () => random.below(16));
  for (const register of pushed) {
    if (random.chance(5)) b.emit(raw([0x6a, random.below(256)]));
    else if (random.chance(6)) b.emit(raw([0xff, 0x34, 0x24]));
    else b.emit(raw([...(register >= 8 ? [0x41] : []), 0x50 | (register & 7)]));
  }
  if (random.chance(3)) {
    b.settleFlags(ALL_FLAGS);
    b.emit(raw([0x9c], { reads: ALL_FLAGS, defines: 0, undefines: 0 }));
    body();
    b.emit(raw([0x9d], arithmetic));
  } else body();
  for (let n = 0; n < pushed.length; n++) {
    const register = random.pick(b.free);
    if (random.chance(8)) b.emit(raw([0x48, 0x8d, 0x64, 0x24, 8]));
    else b.emit(raw([...(register >= 8 ? [0x41] : []), 0x58 | (register & 7)]));
  }
}

/** ENTER and LEAVE around something that leaves RBP alone. */
export function frame(b: Builder, body: () => void): void {
  if (!has(b, RBP)) return;
  b.emit(raw([0xc8, ...little(8 * b.random.below(16), 2), b.random.below(2)]));
  b.reserve([RBP], body);
  b.emit(raw([0xc9]));
}

/** POPF of a constant: any of the arithmetic flags. */
export function setFlags(b: Builder): void {
  b.emit(raw([0x68, ...little((b.random.u32() & ALL_FLAGS) | 0x202, 4)]), raw([0x9d], arithmetic));
}

const EDGES = [0n, 1n, -1n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0x8000n, 0xffffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 0x7fff_ffff_ffff_ffffn, 1n << 63n, 0x10n, 0xfn]; // prettier-ignore
const SETTERS = ROWS.filter(({ semantics, valid, vex, operands }) => valid !== 'no64' && !vex && operands[0]?.method !== 'gpr' && ['inc', 'dec', 'neg', 'add', 'sub', 'cmp', 'adc', 'sbb', 'shl', 'shr', 'sar', 'and', 'test', 'xadd', 'imul2', 'rol', 'rcl', 'rcr', 'ror', 'cmpxchg', 'shld', 'shrd', 'bsf', 'lzcnt'].includes(semantics)); // prettier-ignore
const READERS = ROWS.filter(({ semantics, valid, vex }) => valid !== 'no64' && !vex && ['setcc', 'cmov', 'adc', 'sbb', 'rcl', 'lahf', 'cmc', 'inc', 'dec'].includes(semantics)); // prettier-ignore

/** Flags of values at the ends of their ranges, and several who read them. */
export function flagEdges(b: Builder): void {
  const { random } = b;
  const register = random.pick(b.free);
  b.emit(loadConstant(register, random.pick(EDGES)));
  const other = random.pick(b.free);
  if (other !== register && random.chance(2)) b.emit(loadConstant(other, random.pick(EDGES)));
  b.emit(...instructionOf({ ...b.scope, free: [register] }, random.pick(SETTERS)));
  for (let n = random.below(4); n > 0; n--) {
    const label = b.newLabel();
    b.emit(...instructionOf(b.scope, random.pick(READERS)));
    if (!random.chance(3)) continue;
    b.emit(jcc(random.below(16), label), loadConstant(random.pick(b.free), BigInt(random.below(100))));
    b.label(label);
  }
}

/** XLAT with its table in the data. */
export function translate(b: Builder): void {
  if (!has(b, RAX, RBX)) return;
  b.emit(loadConstant(RBX, BigInt(dataAddress(b.random, 256, 1))), raw([0xd7]));
}

/** A MOV whose immediate holds instructions, jumped into or run as a whole. */
export function hiddenCode(b: Builder): void {
  const { random } = b;
  const register = random.pick(b.free);
  const counted = random.pick(b.free.filter((r) => r < 8));
  const mark = b.newLabel();
  // INC or DEC r32, JMP over the rest.
  const inside = [0xff, (random.chance(2) ? 0xc0 : 0xc8) | (counted & 7), 0xeb, 4, random.below(256), random.below(256), random.below(256), random.below(256)]; // prettier-ignore
  b.settleFlags();
  const jump = jcc(random.below(16), mark);
  b.emit({ ...jump, fixups: jump.fixups.map((fixup) => ({ ...fixup, addend: 2 })) });
  b.mark(mark);
  b.emit(raw([0x48 | (register >> 3), 0xb8 | (register & 7), ...inside]));
  const after = b.newLabel();
  b.label(after);
}

/** Four bytes that other instructions turn into any of these; EAX and flags are what they change. */
const FILLERS: readonly number[] = [
  0x0040_1f0f, // nop dword [rax]
  0x9011_c083, // add eax, 0x11; nop
  0x0504_0304, // add al, 3; add al, 5
  0xcccc_02eb, // jmp over two bytes
  0xc8ff_c0ff, // inc eax; dec eax
  0xc0ff_c0ff, // inc eax; inc eax
  0x9090_9090,
  0xc031_9066, // nop; xor eax, eax
];

export function filler(b: Builder): void {
  if (!has(b, RAX)) return;
  b.settleFlags();
  const insn: Insn = {
    ...raw(little(b.random.pick(FILLERS), 4), { reads: 0, defines: 0, undefines: FLAGS.af }),
    patch: { kind: 'dword', values: FILLERS },
  };
  b.emit(insn);
}
