/**
 * Random instructions that may stand anywhere in a program: any row of the classes below, in any operand form and size,
 * with memory operands that hit what is mapped and registers that are free to be written.
 */
import { ROWS, type OperandSpec, type Row } from '@xenhost/cpu';
import type { Random } from '../cpu/random.ts';
import { FLAGS } from './compare.ts';
import { encode, little, type MemoryRef, type RegisterRef } from './encode.ts';
import { flagUse } from './flag-use.ts';
import { NO_FLAGS, type FlagUse, type Insn, type Patchable } from './program.ts';
import { CODE_BASE, CODE_PAGES, DATA_BASE, DATA_PAGES, FAR_BASE, GS_BASE, PAGE, READONLY_BASE } from './world.ts';

export const RSP = 4;
const [RAX, RCX, RDX, RBX, RSI, RDI] = [0, 1, 2, 3, 6, 7];
const GS_PREFIX = 0x65;
const LOCK = 0xf0;

/** A register known to point into the data, and how far around it everything is mapped. */
export interface Pointer {
  readonly register: number;
  readonly below: number;
  readonly above: number;
}

export interface Scope {
  readonly random: Random;
  /** General registers that may be written. */
  readonly free: readonly number[];
  readonly pointers: readonly Pointer[];
  /** Flags undefined here. */
  readonly undefinedFlags: number;
}

/** Weight by semantics of what is not SIMD or x87; those of no entry are not chosen here. */
const INTEGER_WEIGHTS: Readonly<Record<string, number>> = {
  add: 10, sub: 8, adc: 8, sbb: 8, and: 5, or: 5, xor: 5, cmp: 6, test: 5, mov: 14, movzx: 5, movsx: 5, lea: 6,
  inc: 5, dec: 5, not: 2, neg: 3, shl: 5, shr: 5, sar: 4, rol: 3, ror: 3, rcl: 3, rcr: 3, shld: 3, shrd: 3,
  mul: 2, imul1: 2, imul2: 4, imul3: 4, bt: 3, bts: 2, btr: 2, btc: 2, setcc: 6, cmov: 8, bswap: 2, xchg: 3, xadd: 3,
  cmpxchg: 3, cmpxchg8b: 1, cmpxchg16b: 1, bsf: 2, bsr: 2, tzcnt: 2, lzcnt: 2, popcnt: 1, movbe: 1, crc32: 1, cbw: 2, cwd: 2,
  lahf: 2, sahf: 2, clc: 1, stc: 2, cmc: 2, nop: 2,
  andn: 1, blsr: 1, blsmsk: 1, blsi: 1, bextr: 1, bzhi: 1, pext: 1, pdep: 1, mulx: 1, shlx: 1, sarx: 1, shrx: 1, rorx: 1,
}; // prettier-ignore
/** Approximations differ by processor; states with pointers and reserved bytes are compared elsewhere. */
const EXCLUDED_SIMD = new Set([
  'rcpps', 'rcpss', 'rsqrtps', 'rsqrtss', 'maskmov', 'mmx.maskmov', 'ldmxcsr', 'fxsave', 'fxrstor', 'xsave', 'xrstor',
]); // prettier-ignore
const X87 = /^x87\.(arithmetic|compare|comparepop|compareunordered|compareflags|load|store|integer|truncate|exchange|constant|fchs|fabs|ftst|fxam|fxtract|fdecstp|fincstp|fsqrt|frndint|ffree|fnstsw|fnstcw|nop|fcmov|fnclex)\b/; // prettier-ignore

/** Semantics of the SSE instruction that a VEX form belongs to. */
export const baseOf = (semantics: string): string => semantics.replace(/^vex3?\./, '');
/** The register form of 0F 0D is no instruction on AMD's processors. */
const isPlain = (row: Row): boolean => row.valid !== 'no64' && row.encoding !== '0f 0d /r';

/** Rows by how often each shall be met. */
function weighted(weigh: (row: Row) => number): readonly Row[] {
  return ROWS.flatMap((row) => (isPlain(row) ? Array.from({ length: weigh(row) }, () => row) : []));
}

const rowsOf = new Map<string, number>();
for (const row of ROWS) rowsOf.set(row.semantics, (rowsOf.get(row.semantics) ?? 0) + 1);
/** A semantics' weight shared by its rows, in tenths. */
const INTEGER = weighted((row) =>
  row.feature === '' ? Math.ceil(((INTEGER_WEIGHTS[row.semantics] ?? 0) * 10) / (rowsOf.get(row.semantics) ?? 1)) : 0,
);
const SSE = weighted((row) => (row.feature === 'sse' && !EXCLUDED_SIMD.has(row.semantics) ? 1 : 0));
const AVX = weighted((row) => (row.feature === 'avx' && !EXCLUDED_SIMD.has(baseOf(row.semantics)) && !row.semantics.startsWith('gather') ? 1 : 0)); // prettier-ignore
const MMX = weighted((row) => (row.feature === 'mmx' && !EXCLUDED_SIMD.has(row.semantics) ? 1 : 0));
const FPU = weighted((row) => (X87.test(row.semantics) ? 1 : 0));
/** Integer work between memory and XMM registers that guests do most. */
const MOVES = weighted((row) => (['mova', 'movu', 'movss', 'movsd', 'movd.load', 'movd.store', 'movq.load', 'movq.store'].includes(row.semantics) ? 1 : 0)); // prettier-ignore

export type InstructionClass = 'integer' | 'avx' | 'sse' | 'moves' | 'mmx' | 'x87';
const CLASSES: Readonly<Record<InstructionClass, readonly Row[]>> = { integer: INTEGER, avx: AVX, sse: SSE, moves: MOVES, mmx: MMX, x87: FPU }; // prettier-ignore

/** Registers that an instruction writes without naming them. */
const IMPLIED: Readonly<Record<string, readonly number[]>> = {
  mul: [RAX, RDX], imul1: [RAX, RDX], cbw: [RAX], cwd: [RDX], cmpxchg: [RAX], cmpxchg8b: [RAX, RDX], cmpxchg16b: [RAX, RDX],
  lahf: [RAX], pcmpstr: [RCX], 'x87.fnstsw': [RAX],
}; // prettier-ignore
const WRITES_BOTH = new Set(['xchg', 'xadd', 'mulx']);
const READS_ONLY = new Set(['cmp', 'test', 'bt', 'nop']);
const BIT_STRINGS = new Set(['bt', 'bts', 'btr', 'btc']);
/** Operands of 16 bytes that need no alignment. */
const UNALIGNED = new Set(['movu', 'pcmpstr']);

function alignmentOf(row: Row, bytes: number): number {
  if (row.vex) return row.semantics === 'vex.mova' ? bytes : 1;
  return bytes === 16 && !UNALIGNED.has(row.semantics) ? bytes : 1;
}

function specBytes({ type }: OperandSpec, operandSize: 2 | 4 | 8): number {
  switch (type) {
    case 'b': return 1;
    case 'w': return 2;
    case 'd': return 4;
    case 'q': return 8;
    case 't': return 10;
    case 'x': return 16;
    case 'qq': return 32;
    case 'y': return operandSize === 8 ? 8 : 4;
    case 'z': return Math.min(operandSize, 4);
    default: return operandSize;
  }
} // prettier-ignore

/** Instructions of a class, mostly one; empty when the dice gave something that is not possible here. */
export function randomInstruction(scope: Scope, kind: InstructionClass): Insn[] {
  const row = scope.random.pick(CLASSES[kind]);
  return instructionOf(scope, row);
}

/** A random form of a row. */
export function instructionOf(scope: Scope, row: Row, forceMemory = false): Insn[] {
  const { random, free } = scope;
  const { semantics } = row;
  if ((IMPLIED[baseOf(semantics)] ?? []).some((register) => !free.includes(register))) return [];
  const hasY = row.operands.some(({ type }) => type === 'y');
  const sizes = row.vex && hasY ? ([4, 8] as const) : row.sizeRule !== 'v' ? ([4] as const) : row.prefix === 'any' ? ([2, 4, 4, 4, 8, 8, 8] as const) : ([4, 8] as const); // prettier-ignore
  const operandSize: 2 | 4 | 8 = random.pick(sizes);
  // Reserved or undefined in 16 bits.
  if (operandSize === 2 && ['bswap', 'shld', 'shrd', 'nop'].includes(semantics)) return [];
  if (row.rexW !== undefined && (row.sizeRule === 'v' || hasY) && (row.rexW === 1) !== (operandSize === 8)) return [];
  const before: Insn[] = [];
  let reg: RegisterRef | undefined;
  let rm: RegisterRef | MemoryRef | undefined;
  const immediate: number[] = [];
  let count: number | undefined;
  let patch: { size: 1 | 4 } | undefined;
  let vexRegister = 0;
  for (const [n, spec] of row.operands.entries()) {
    const bytes = specBytes(spec, operandSize);
    const isWritten = (n === 0 && !READS_ONLY.has(semantics)) || (n === 1 && WRITES_BOTH.has(semantics));
    switch (spec.method) {
      case 'G':
      case 'Z':
        reg = generalRegister(scope, bytes, isWritten);
        break;
      case 'E':
      case 'R':
        if (
          spec.method === 'E' &&
          row.form !== 'register' &&
          (forceMemory || row.form === 'memory' || random.chance(2))
        )
          rm = memory(scope, bytes, 1, isWritten, before);
        else rm = generalRegister(scope, bytes, isWritten);
        break;
      case 'M':
        rm = memory(scope, semantics === 'cmpxchg16b' ? 16 : bytes, alignmentOf(row, bytes), isWritten, before);
        break;
      case 'V':
        reg = { kind: 'register', number: random.below(16) };
        break;
      case 'P':
        reg = { kind: 'register', number: random.below(8) };
        break;
      case 'W':
      case 'Q':
        if (row.form !== 'register' && (row.form === 'memory' || forceMemory || random.chance(2)))
          rm = memory(scope, bytes, alignmentOf(row, bytes), isWritten, before);
        else rm = { kind: 'register', number: random.below(spec.method === 'W' ? 16 : 8) };
        break;
      case 'U':
        rm = { kind: 'register', number: random.below(16) };
        break;
      case 'N':
      case 'T':
        rm = { kind: 'register', number: random.below(8) };
        break;
      case 'I': {
        const size = spec.type === 'bs' ? 1 : spec.type === 'v' ? operandSize : bytes;
        const value = isShift(semantics) && random.chance(3) ? BigInt(random.below(4)) : random.integer();
        immediate.push(...little(value, size));
        if (isShift(semantics)) count = Number(value & 0xffn);
        else if (size === 1 || size === 4) patch = { size };
        break;
      }
      case 'H':
        vexRegister = random.below(16);
        break;
      case 'K':
        vexRegister = isWritten ? random.pick(free) : random.below(16);
        break;
      case 'L':
        immediate.push(random.below(256));
        break;
      case 'gpr':
        if (isWritten && !free.includes(spec.fixed)) return [];
        break;
      case 'one':
        count = 1;
        break;
      case 'O':
        immediate.push(...little(dataAddress(random, bytes, 1), 8));
        break;
      case 'st':
      case 'xmm':
        break;
      default:
        return [];
    }
  }
  const flags = flagUse(row, 8 * (row.operands[0] ? specBytes(row.operands[0], operandSize) : 8), count);
  if ((flags.reads & scope.undefinedFlags) !== 0) return [];
  if (BIT_STRINGS.has(semantics) && rm?.kind === 'memory') {
    // A register's bit number reaches far around the operand.
    if (reg && !(free.includes(reg.number) && reg.number !== rm.base && reg.number !== rm.index)) return [];
    if (reg) before.push(loadConstant(reg.number, BigInt(random.below(512) - 256)));
    if (reg && rm.index >= 0 && before.length > 1) return [];
  }
  if (BIT_STRINGS.has(semantics) && reg && rm?.kind === 'memory' && (rm.base === RSP || rm.address32)) return [];
  const isLocked = row.lockable && rm?.kind === 'memory' && random.chance(5);
  const isWide = row.rexW === 1 || (hasY && operandSize === 8) || (row.rexW === undefined && !hasY && random.chance(4));
  const encoded = encode({
    row, operandSize, immediate,
    ...(reg && { reg }), ...(rm && { rm }),
    ...(isLocked && { prefix: LOCK }),
    ...(row.vex && { vex: { register: vexRegister, wide: isWide, long: row.vexL === 1 || (row.vexL === undefined && random.chance(4)) } }),
    ...(random.chance(24) && { junk: [random.pick([0x2e, 0x3e, 0x26])] }),
  }); // prettier-ignore
  if (!encoded) return [];
  const { bytes, fixups, immediateAt, opcodeAt } = encoded;
  const operation = isLocked || patch ? undefined : operationPatch(row, opcodeAt, scope);
  const patchable: Patchable | undefined = patch && { kind: 'immediate', at: immediateAt, size: patch.size };
  return [
    ...before,
    {
      kind: 'insn', bytes, fixups,
      flags: operation ? ANY_OPERATION : flags,
      ...((operation ?? patchable) && { patch: (operation ?? patchable) as Patchable }),
    },
  ]; // prettier-ignore
}

const isShift = (semantics: string): boolean => /^(sh[lr]d?|sar|ro[lr]|rc[lr])$/.test(semantics);

/** ADD to CMP in their two register forms: one opcode byte tells them apart. */
const OPERATIONS = new Set(['add', 'adc', 'sub', 'sbb', 'cmp', 'xor', 'and', 'or']);
const ANY_OPERATION: FlagUse = { reads: FLAGS.cf, defines: 0x8d5 & ~FLAGS.af, undefines: FLAGS.af };

function operationPatch(row: Row, opcodeAt: number, scope: Scope): Patchable | undefined {
  const low = row.opcode & 7;
  if (!OPERATIONS.has(row.semantics) || row.map !== 0 || row.opcode >= 0x40 || low > 3) return undefined;
  if ((scope.undefinedFlags & FLAGS.cf) !== 0 || row.semantics === 'cmp' || !scope.random.chance(3)) return undefined;
  return { kind: 'byte', at: opcodeAt, values: Array.from({ length: 8 }, (_, n) => n * 8 + low) };
}

function generalRegister({ random, free }: Scope, bytes: number, isWritten: boolean): RegisterRef {
  const number = isWritten ? random.pick(free) : random.below(16);
  if (bytes > 1) return { kind: 'register', number };
  if (number < 4 && random.chance(3)) return { kind: 'register', number, high: true };
  return { kind: 'register', number, ...(number >= 4 && number < 8 && { needsRex: true }) };
}

/** An address of mapped data, now and then across a page's end. */
export function dataAddress(random: Random, size: number, alignment: number): number {
  const base = size < PAGE / 2 && random.chance(8) ? FAR_BASE : DATA_BASE;
  const pages = base === FAR_BASE ? 1 : DATA_PAGES;
  let at = random.below(pages * PAGE - size);
  if (pages > 1 && random.chance(5)) at = (1 + random.below(pages - 1)) * PAGE - random.below(size + 1);
  return base + (at & -alignment);
}

const REGISTER_ONLY = { index: -1, scale: 1 } as const;

/** A memory operand on mapped memory; may need an instruction in front. */
export function memory(scope: Scope, size: number, alignment: number, isWritten: boolean, before: Insn[]): MemoryRef {
  const { random, pointers, free } = scope;
  const none = { kind: 'memory', base: -1, index: -1, scale: 1, displacement: 0 } as const;
  switch (random.below(12)) {
    case 0:
      return { ...none, target: { label: dataAddress(random, size, alignment), addend: 0, relative: true } };
    case 1:
      return { ...none, target: { label: dataAddress(random, size, alignment), addend: 0, relative: false } };
    case 2: {
      const address = dataAddress(random, size, alignment);
      return { ...none, segment: GS_PREFIX, target: { label: address - GS_BASE, addend: 0, relative: false } };
    }
    case 3: {
      // Below the stack pointer: nothing else is there. Above it only to be read.
      const displacement = isWritten || random.chance(2) ? -16 - 16 * random.below(16) : 16 * random.below(8);
      const shift = alignment > 1 ? 0 : random.below(16);
      if (alignment > 1 && pointers.length > 0) break;
      return { kind: 'memory', base: RSP, ...REGISTER_ONLY, displacement: displacement - (isWritten ? shift : 0) };
    }
    case 4:
      if (isWritten) break;
      return {
        ...none,
        target: { label: readableAddress(random, size, alignment), addend: 0, relative: random.chance(2) },
      };
    case 5:
    case 6:
    case 7: {
      // An index of few values, scaled.
      const pointer = pointers.find(({ above }) => above >= INDEX_REACH);
      const index = random.pick(free);
      if (!pointer || (scope.undefinedFlags & ~FLAGS.af) !== 0) break;
      const scale = random.pick([1, 2, 4, 8] as const);
      const mask = alignment > 1 ? 0x30 : 0x3f;
      before.push(andImmediate(index, mask));
      const displacement = random.below(128) & -alignment;
      return {
        kind: 'memory',
        base: pointer.register,
        index,
        scale,
        displacement,
        ...(random.chance(10) && { address32: true }),
      };
    }
  }
  const pointer = random.pick(pointers);
  const span = pointer.below + pointer.above - size;
  const nearby = Math.max(0, Math.min(span, random.chance(3) ? span : 160));
  const from = Math.max(-pointer.below, -(nearby >> 1));
  const displacement = (from + random.below(nearby + 1)) & -alignment;
  return {
    kind: 'memory', base: pointer.register, ...REGISTER_ONLY,
    displacement: Math.max(-pointer.below, Math.min(displacement, pointer.above - size)) & -alignment,
    ...(random.chance(16) && { address32: true }),
  }; // prettier-ignore
}

/** Index masked, scaled by 8, and displacement. */
const INDEX_REACH = 0x3f * 8 + 128 + 16;

/** Also the page that may not be written, and code. */
function readableAddress(random: Random, size: number, alignment: number): number {
  const [base, pages] = random.chance(2) ? [READONLY_BASE, 1] : [CODE_BASE, CODE_PAGES];
  return base + (random.below(pages * PAGE - size) & -alignment);
}

// Instructions with all fields given ---------------------------------------------------------------------------------
export function raw(bytes: readonly number[], flags: FlagUse = NO_FLAGS): Insn {
  return { kind: 'insn', bytes, fixups: [], flags };
}

/** MOV r64, imm32 sign-extended, or imm64 where it must be. */
export function loadConstant(register: number, value: bigint): Insn {
  const rex = 0x48 | (register >> 3);
  if (BigInt.asIntN(32, value) === BigInt.asIntN(64, value))
    return raw([rex, 0xc7, 0xc0 | (register & 7), ...little(value, 4)]);
  return raw([rex, 0xb8 | (register & 7), ...little(value, 8)]);
}

/** MOV r64, imm64 of an address. */
export function loadAddress(register: number, target: string | number, addend = 0): Insn {
  return {
    ...raw([0x48 | (register >> 3), 0xb8 | (register & 7), 0, 0, 0, 0, 0, 0, 0, 0]),
    fixups: [{ at: 2, size: 8, relative: false, target, addend }],
  };
}

/** AND r64, imm8. */
export function andImmediate(register: number, mask: number): Insn {
  return raw([0x48 | (register >> 3), 0x83, 0xe0 | (register & 7), mask], {
    reads: 0,
    defines: 0x8d5 & ~FLAGS.af,
    undefines: FLAGS.af,
  });
}

/** ADD r64, imm32. */
export function addImmediate(register: number, value: number): Insn {
  return raw([0x48 | (register >> 3), 0x81, 0xc0 | (register & 7), ...little(value, 4)], {
    reads: 0,
    defines: 0x8d5,
    undefines: 0,
  });
}

export { RAX, RBX, RCX, RDI, RDX, RSI };
