/**
 * Which handlers there are: one for each distinct shape (semantics, size, kinds of operands, prefixes) that some row
 * can take. The same enumeration gives the generator its list and the decoder its handler numbers.
 */
import type { Instruction, Operand } from '../isa/instruction.ts';
import type { Row } from '../isa/row.ts';
import type { OperandInfo, Width } from '../semantics/algebra.ts';
import { controlSemantics } from '../semantics/control.ts';
import { ADDRESSED } from '../semantics/index.ts';
import type { HandlerShape } from './emit-frame.ts';

/** Handlers that are no instruction. They come first, in this order. */
export const SPECIAL = {
  /** Looks up the record at RIP anew: after an instruction that ends a run, and where code was invalidated. */
  resolve: 0,
  /** As resolve, and first looks whether the run loop is wanted (`attention`). */
  attend: 1,
  /** Leaves with the budget's answer: the end of a single step. */
  stop: 2,
  /** Goes to record `link`. */
  goto: 3,
  /** Raises vector `a`, error code `imm`. */
  fault: 4,
  /** Makes `ea`: mask `imm`, segment base at state address `a`. 64-bit mode's FS, GS and 32-bit addresses. */
  address: 5,
  /** As address, cut to 32 bits, with the checks of segment `c` (low byte) for an access of `c >> 8`. */
  addressLegacy: 6,
  /** LEA's offset with another address size: no base. */
  addressOffset: 7,
  /** The instruction crosses into the next page: is that still page map `link`? */
  crossing: 8,
  /** Makes `ea`: base plus the 64-bit displacement in `imm`, segment base at state address `a`. */
  addressLong: 9,
  /** Goes on in compiled code: `imm` says where (`ENTRY`). `link`: the record that it stands before. */
  enter: 10,
  /** The first of the generated handlers. */
  first: 11,
} as const;

/** Semantics that are different in 64-bit mode and outside. */
const MODAL = new Set([
  ...Object.keys(controlSemantics),
  'pushseg',
  'popseg',
  'vzeroupper',
  'vzeroall',
  'gather.d',
  'gather.q',
]);
/** Semantics that exist inside the interpreter's loop, for sizes 1, 4, 8 (moves: all) without LOCK in 64-bit mode. */
const INLINE = new Set([
  'mov', 'movzx', 'movsx', 'lea', 'nop', 'xchg', 'add', 'sub', 'adc', 'sbb', 'and', 'or', 'xor', 'cmp', 'test', 'inc',
  'dec', 'not', 'neg', 'shl', 'shr', 'sar', 'rol', 'ror', 'imul2', 'imul3', 'cbw', 'cwd', 'setcc', 'cmov', 'bt', 'push',
  'pop', 'leave', 'jmp', 'jcc', 'call', 'callind', 'jmpind', 'ret',
]); // prettier-ignore

const LETTER: Record<OperandInfo['kind'], string> = {
  register: 'r', 'high-byte': 'r', memory: 'm', immediate: 'i', relative: 'j', far: 'f', segment: 's', control: 'c',
  debug: 'd', xmm: 'x', mmx: 'q', st: 't',
}; // prettier-ignore

export interface ShapedOperand extends OperandInfo {
  readonly constant?: bigint;
  readonly indexed?: boolean;
  /** A memory operand whose value is a v128. */
  readonly vector?: boolean;
}

function shapeOperand(operand: Operand, row: Row, n: number): ShapedOperand {
  if (operand.kind === 'memory') {
    const method = row.operands[n]?.method;
    const vector = method === 'W' || (method === 'M' && row.operands.some((o) => o.method === 'V'));
    return { kind: 'memory', size: operand.size, indexed: operand.index >= 0, vector };
  }
  if (operand.kind === 'register') return { kind: 'register', size: operand.size };
  if (row.operands[n]?.method === 'one') return { kind: 'immediate', size: 1, constant: 1n };
  return { kind: operand.kind, size: operand.size };
}

/** Operand size that the semantics see. */
export function semanticSize(instruction: Instruction): Width {
  const { row, operandSize, operands } = instruction;
  if (row.sizeRule === 'fixed') {
    const size = operands[0]?.size ?? 4;
    return size === 1 || size === 2 || size === 8 ? size : 4;
  }
  return operandSize;
}

export interface BoundShape extends HandlerShape {
  readonly key: string;
  readonly inline: boolean;
  readonly feature: Row['feature'];
}

/** Conditions that a conditional jump behind a flag setter is fused for, by the setter's semantics. */
const FUSED_CONDITIONS: Readonly<Record<string, readonly number[]>> = {
  cmp: [2, 3, 4, 5, 6, 7, 12, 13, 14, 15],
  test: [4, 5, 8, 9, 14, 15],
  sub: [2, 3, 4, 5, 8, 9],
  and: [4, 5, 8, 9],
  or: [4, 5],
  add: [4, 5, 8, 9],
  inc: [4, 5],
  dec: [4, 5, 8, 9],
};

export interface FusedShape {
  readonly setter: BoundShape;
  readonly condition: number;
}
export const fusedKey = (setterKey: string, condition: number): string => `${setterKey}+${condition}`;

/** Flag setters and the conditional jump behind them that get a handler of their own. */
export function enumerateFused(inlineShapes: readonly BoundShape[]): FusedShape[] {
  return inlineShapes.flatMap((setter) => {
    const conditions = FUSED_CONDITIONS[setter.semantics] ?? [];
    const compares = setter.semantics === 'cmp' || setter.semantics === 'test';
    const fits = compares
      ? !setter.operands.some((o) => o.kind === 'memory' && o.indexed)
      : setter.size >= 4 && setter.operands[0]?.kind === 'register' && setter.operands[1]?.kind !== 'memory';
    return fits ? conditions.map((condition) => ({ setter, condition })) : [];
  });
}

/** The handler that an instruction wants. */
export function shapeOf(instruction: Instruction): BoundShape {
  const { row } = instruction;
  const size = semanticSize(instruction);
  const modal = MODAL.has(row.semantics);
  const mode = modal && instruction.code !== 64 ? 32 : 64;
  const addressSize = ADDRESSED.has(row.semantics) ? instruction.addressSize : 8;
  const repeat = row.repeatable ? instruction.repeat : 'none';
  const locked = instruction.lock;
  const inline =
    INLINE.has(row.semantics) && mode === 64 && !locked && row.feature === '' &&
    (size !== 2 || row.semantics === 'mov') && !(row.semantics === 'xchg' && instruction.operands[0]?.kind === 'memory'); // prettier-ignore
  const operands = instruction.operands.map((o, n) => {
    const shaped = shapeOperand(o, row, n);
    return inline || shaped.kind !== 'memory'
      ? shaped
      : { kind: shaped.kind, size: shaped.size, vector: shaped.vector ?? false };
  });
  const operandKey = operands
    .map(
      (o) =>
        `${LETTER[o.kind]}${o.size}${o.constant !== undefined ? 'k' : ''}${o.indexed === false ? 'b' : ''}${o.vector ? 'v' : ''}`,
    )
    .join('');
  const key = `${row.semantics}.${row.variant}.${size}.${operandKey}.${mode}.${addressSize}${locked ? 'L' : ''}${repeat}.${row.feature}`; // prettier-ignore
  return { key, inline, feature: row.feature, semantics: row.semantics, size, mode, variant: row.variant, operands, locked, addressSize, repeat }; // prettier-ignore
}

/** Every instruction shape that the rows allow, by trying each row in each size, form and mode. */
export function enumerateShapes(rows: readonly Row[]): BoundShape[] {
  const shapes = new Map<string, BoundShape>();
  for (const row of rows)
    for (const code of codesOf(row)) {
      if (row.valid !== 'any' && (row.valid === 'only64') !== (code === 64)) continue;
      for (const operandSize of sizesOf(row, code))
        for (const addressSize of ADDRESSED.has(row.semantics) ? ([8, 4, 2] as const) : ([8] as const)) {
          if ((addressSize === 8) !== (code === 64) && !(addressSize === 4) && ADDRESSED.has(row.semantics)) continue;
          for (const memory of formsOf(row))
            for (const rexW of row.operands.some((o) => o.type === 'y') && code === 64 ? [false, true] : [false])
              for (const lock of row.lockable && memory !== 'register' ? [false, true] : [false])
                for (const repeat of row.repeatable ? (['none', 'rep', 'repne'] as const) : (['none'] as const)) {
                  const operands = row.operands.map((o) => sampleOperand(row, o, { operandSize, memory, rexW, code }));
                  const shape = shapeOf({ row, length: 1, code, operandSize, addressSize, operands, lock, repeat, segmentOverride: -1 }); // prettier-ignore
                  if (!shapes.has(shape.key)) shapes.set(shape.key, shape);
                }
        }
    }
  return [...shapes.values()];
}

/** Code sizes whose shapes differ. With VEX a handler outside 64-bit mode is one of its own only where semantics ask. */
function codesOf(row: Row): readonly (64 | 32)[] {
  return row.vex && !MODAL.has(row.semantics) && !ADDRESSED.has(row.semantics) ? [64] : [64, 32];
}

function sizesOf(row: Row, code: 64 | 32): readonly (2 | 4 | 8)[] {
  if (row.sizeRule === 'fixed') return [4];
  if (code === 32) return [2, 4];
  if (row.sizeRule === 'f64') return [8];
  if (row.sizeRule === 'd64') return [2, 8];
  return [2, 4, 8];
}

type Form = 'register' | 'base' | 'indexed';
function formsOf(row: Row): readonly Form[] {
  const rm = row.operands.some((o) => ['E', 'M', 'W', 'Q', 'O', 'X', 'Y', 'B'].includes(o.method));
  if (!rm) return ['register'];
  if (row.form === 'register') return ['register'];
  if (row.form === 'memory' || row.operands.some((o) => ['O', 'X', 'Y', 'B'].includes(o.method))) return ['base', 'indexed']; // prettier-ignore
  return row.vex ? ['register', 'base'] : ['register', 'base', 'indexed'];
}

function sampleOperand(
  row: Row,
  spec: Row['operands'][number],
  as: { operandSize: 2 | 4 | 8; memory: Form; rexW: boolean; code: 64 | 32 },
): Operand {
  const size = ((): number => {
    switch (spec.type) {
      case 'b': return 1;
      case 'w': return 2;
      case 'd': return 4;
      case 'q': return 8;
      case 'v': case 'bs': return as.operandSize;
      case 'z': return as.operandSize === 8 ? 4 : as.operandSize;
      case 'y': return row.sizeRule === 'f64' ? (as.code === 64 ? 8 : 4) : as.rexW ? 8 : 4;
      case 't': return 10;
      case 'x': return 16;
      case 'qq': return 32;
      case 'p': return as.operandSize + 2;
      case 's': return as.code === 64 ? 10 : 6;
      case 'a': return as.operandSize * 2;
      default: return 0;
    }
  })(); // prettier-ignore
  const memory = (): Operand => ({ kind: 'memory', base: 0, index: as.memory === 'indexed' ? 1 : -1, scale: 1, displacement: 0n, segment: 3, size }); // prettier-ignore
  const register = (kind: 'register' | 'xmm' | 'mmx'): Operand =>
    kind === 'register' ? { kind, register: 0, size, high: false } : { kind, register: 0, size };
  switch (spec.method) {
    case 'E': return as.memory === 'register' ? register('register') : memory();
    case 'W': return as.memory === 'register' ? register('xmm') : memory();
    case 'Q': return as.memory === 'register' ? register('mmx') : memory();
    case 'M': case 'O': case 'X': case 'Y': case 'B': return memory();
    case 'G': case 'R': case 'Z': case 'gpr': return register('register');
    case 'I': return { kind: 'immediate', value: 0n, size: spec.type === 'z' ? as.operandSize : size };
    case 'one': return { kind: 'immediate', value: 1n, size: 1 };
    case 'J': return { kind: 'relative', value: 0, size };
    case 'A': return { kind: 'far', selector: 0, offset: 0, size };
    case 'seg': case 'S': return { kind: 'segment', register: 0, size: 2 };
    case 'C': return { kind: 'control', register: 0, size };
    case 'D': return { kind: 'debug', register: 0, size };
    case 'V': case 'U': case 'H': case 'L': case 'vsib': case 'xmm': return register('xmm');
    case 'K': return register('register');
    case 'scale': return { kind: 'immediate', value: 1n, size };
    case 'P': case 'N': return register('mmx');
    case 'T': case 'st': return { kind: 'st', register: 0, size };
  } // prettier-ignore
}
