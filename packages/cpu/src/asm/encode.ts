/**
 * One instruction to bytes: every row of the mnemonic that takes these operands is tried in 64-bit mode, the shortest
 * encoding wins. The rows are the only place that knows an encoding (`isa/row.ts`); this is the decoder read backwards.
 */
import type { OperandSpec, Row } from '../isa/row.ts';
import { ROWS } from '../isa/table.ts';
import { type Register, register } from './registers.ts';
import { AsmError, type Expression, type Operand, type Statement } from './syntax.ts';

export type InstructionStatement = Extract<Statement, { kind: 'instruction' }>;

export interface EncodeContext {
  /** Address of the instruction's first byte. */
  readonly address: bigint;
  /** On all passes but the last, labels may be guesses: values that do not fit are no errors. */
  readonly final: boolean;
  /** The jump needed its long form on an earlier pass: keep it, so that sizes settle. */
  readonly near: boolean;
  value(expression: Expression): bigint;
}

/** Other names of condition codes. */
const CONDITION_ALIASES: Readonly<Record<string, string>> = {
  e: 'z', ne: 'nz', c: 'b', nc: 'ae', nae: 'b', nb: 'ae', na: 'be', nbe: 'a', pe: 'p', po: 'np', nge: 'l', nl: 'ge', ng: 'le', nle: 'g',
}; // prettier-ignore
/** Names that say a row's mnemonic and its operand size at once. */
const SIZED_NAMES: Readonly<Record<string, readonly [mnemonic: string, size: OperandSize]>> = {
  cbw: ['cbw', 2], cwde: ['cbw', 4], cdqe: ['cbw', 8], cwd: ['cwd', 2], cdq: ['cwd', 4], cqo: ['cwd', 8],
  iret: ['iret', 4], iretd: ['iret', 4], iretq: ['iret', 8], pushfq: ['pushf', 8], popfq: ['popf', 8],
  retfq: ['retf', 8], sal: ['shl', 4],
}; // prettier-ignore
const PREFIX_BYTES: Readonly<Record<string, number>> = { lock: 0xf0, rep: 0xf3, repe: 0xf3, repz: 0xf3, repne: 0xf2, repnz: 0xf2 }; // prettier-ignore
const SEGMENT_PREFIXES = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const STRING_SUFFIX: Readonly<Record<string, OperandSize>> = { b: 1, w: 2, d: 4, q: 8 };
const STRING_OPERATIONS = new Set(['movs', 'stos', 'lods', 'cmps', 'scas', 'ins', 'outs']);

type OperandSize = 1 | 2 | 4 | 8;

interface Parts {
  rex: number;
  rexForced: boolean;
  rexForbidden: boolean;
  segment: number | undefined;
  opcodeReg: number;
  modrm: number[] | undefined;
  /** Displacement relative to the end of the instruction: its address. */
  ripTarget: bigint | undefined;
  reg: number;
  /** Register in VEX.vvvv. */
  vvvv: number;
  immediates: { value: bigint; size: number; relative: boolean }[];
}

/** The bytes of a size that an operand type has under an operand size. */
function typeSize(type: OperandSpec['type'], operandSize: OperandSize): number {
  switch (type) {
    case 'b':
    case 'bs':
      return 1;
    case 'w':
      return 2;
    case 'd':
      return 4;
    case 'q':
      return 8;
    case 'v':
      return operandSize;
    case 'z':
      return Math.min(operandSize, 4);
    case 'y':
      return operandSize === 8 ? 8 : 4;
    case 't':
      return 10;
    case 'x':
      return 16;
    case 'qq':
      return 32;
    default:
      return 0;
  }
}

const fits = (value: bigint, size: number): boolean =>
  value >= -(1n << BigInt(8 * size - 1)) && value < 1n << BigInt(8 * size);
const fitsSigned = (value: bigint, size: number): boolean => BigInt.asIntN(8 * size, value) === value;

class Matcher {
  readonly #row: Row;
  readonly #size: OperandSize;
  readonly #context: EncodeContext;
  readonly parts: Parts = {
    rex: 0, rexForced: false, rexForbidden: false, segment: undefined, opcodeReg: 0, modrm: undefined,
    ripTarget: undefined, reg: 0, vvvv: 0, immediates: [],
  }; // prettier-ignore

  constructor(row: Row, size: OperandSize, context: EncodeContext) {
    this.#row = row;
    this.#size = size;
    this.#context = context;
  }

  /** True when the operand is one that the row's column takes; its bits are then in `parts`. */
  operand(spec: OperandSpec, operand: Operand): boolean {
    const size = typeSize(spec.type, this.#size);
    switch (operand.kind) {
      case 'register': {
        const found = register(operand.name);
        return found !== undefined && this.#register(spec, found, size);
      }
      case 'memory':
        return this.#memory(spec, operand, size);
      case 'immediate':
        return this.#immediate(spec, this.#context.value(operand.value), size);
    }
  }

  #register(spec: OperandSpec, r: Register, size: number): boolean {
    const { parts } = this;
    const general = (r.kind === 'gpr' || r.kind === 'high-byte') && r.size === size;
    const note = (): void => {
      if (r.kind === 'high-byte') parts.rexForbidden = true;
      if (r.needsRex) parts.rexForced = true;
    };
    const inRm = (): boolean => {
      note();
      parts.modrm = [0xc0 | (r.number & 7)];
      if (r.number >= 8) parts.rex |= 1;
      return true;
    };
    const inReg = (): boolean => {
      note();
      parts.reg = r.number & 7;
      if (r.number >= 8) parts.rex |= 4;
      return true;
    };
    const isVector = (r.kind === 'xmm' || r.kind === 'ymm') && (spec.type === 'qq' ? 'ymm' : 'xmm') === r.kind;
    switch (spec.method) {
      case 'H':
        parts.vvvv = r.number;
        return isVector;
      case 'K':
        parts.vvvv = r.number;
        return general;
      case 'L':
        parts.immediates.push({ value: BigInt(r.number << 4), size: 1, relative: false });
        return isVector;
      case 'gpr':
        return general && r.number === spec.fixed;
      case 'seg':
        return r.kind === 'segment' && r.number === spec.fixed;
      case 'st':
        return r.kind === 'st' && r.number === spec.fixed;
      case 'xmm':
        return r.kind === 'xmm' && r.number === spec.fixed;
      case 'E':
      case 'R':
        return this.#row.form !== 'memory' && general && inRm();
      case 'G':
        return general && inReg();
      case 'Z':
        if (!general) return false;
        note();
        parts.opcodeReg = r.number & 7;
        if (r.number >= 8) parts.rex |= 1;
        return true;
      case 'S':
        return r.kind === 'segment' && inReg();
      case 'C':
        return r.kind === 'control' && inReg();
      case 'D':
        return r.kind === 'debug' && inReg();
      case 'V':
        return isVector && inReg();
      case 'W':
      case 'U':
        return isVector && this.#row.form !== 'memory' && inRm();
      case 'P':
        return r.kind === 'mmx' && inReg();
      case 'Q':
      case 'N':
        return r.kind === 'mmx' && this.#row.form !== 'memory' && inRm();
      case 'T':
        return r.kind === 'st' && inRm();
      default:
        return false;
    }
  }

  #memory(spec: OperandSpec, operand: Extract<Operand, { kind: 'memory' }>, size: number): boolean {
    if (!['E', 'M', 'W', 'Q'].includes(spec.method) || this.#row.form === 'register') return false;
    if (operand.size !== undefined && size !== 0 && operand.size !== size) return false;
    if (operand.segment !== undefined) {
      const segment = register(operand.segment);
      if (segment?.kind !== 'segment') return false;
      this.parts.segment = SEGMENT_PREFIXES[segment.number];
    }
    const displacement = this.#context.value(operand.displacement);
    if (operand.relative || operand.base === 'rip') {
      this.parts.modrm = [0x05];
      this.parts.ripTarget = displacement;
      return operand.index === undefined;
    }
    return this.#address(operand, displacement);
  }

  #address(operand: Extract<Operand, { kind: 'memory' }>, displacement: bigint): boolean {
    const { parts } = this;
    const base = operand.base === undefined ? undefined : register(operand.base);
    const index = operand.index === undefined ? undefined : register(operand.index);
    if ((base && (base.kind !== 'gpr' || base.size !== 8)) || (index && (index.kind !== 'gpr' || index.size !== 8)))
      return false;
    if (index?.number === 4 || !fitsSigned(displacement, 4)) return false;
    if (base && base.number >= 8) parts.rex |= 1;
    if (index && index.number >= 8) parts.rex |= 2;
    const low = base ? base.number & 7 : 5;
    const mod = !base || (displacement === 0n && low !== 5) ? 0 : fitsSigned(displacement, 1) ? 1 : 2;
    const bytes: number[] = [];
    if (index || !base || low === 4) {
      const scale = Math.log2(operand.scale);
      bytes.push((mod << 6) | 4, (scale << 6) | ((index ? index.number & 7 : 4) << 3) | low);
    } else bytes.push((mod << 6) | low);
    const width = !base || mod === 2 ? 4 : mod;
    for (let i = 0; i < width; i++) bytes.push(Number((displacement >> BigInt(8 * i)) & 0xffn));
    parts.modrm = bytes;
    return true;
  }

  #immediate(spec: OperandSpec, value: bigint, size: number): boolean {
    const { parts } = this;
    if (spec.method === 'one') return value === 1n;
    if (spec.method === 'J') {
      if (this.#context.near && size === 1) return false;
      parts.immediates.push({ value, size, relative: true });
      return true;
    }
    if (spec.method !== 'I') return false;
    const operandBytes = spec.type === 'bs' || (spec.type === 'z' && this.#size === 8) ? this.#size : size;
    const extended = size < operandBytes;
    const cut = BigInt.asIntN(8 * operandBytes, value);
    if (!fits(value, operandBytes) || (extended && !fitsSigned(cut, size))) {
      if (this.#context.final || extended) return false;
    }
    parts.immediates.push({ value: cut, size, relative: false });
    return true;
  }
}

const VEX_PREFIXES: readonly Row['prefix'][] = ['np', '66', 'f3', 'f2'];

/** VEX prefix for the bits of a REX prefix; the short form where it can say all. */
function vexPrefix(row: Row, rex: number, vvvv: number): number[] {
  const last = ((~vvvv & 15) << 3) | ((row.vexL ?? 0) << 2) | VEX_PREFIXES.indexOf(row.prefix);
  if (row.map === 1 && (rex & 11) === 0) return [0xc5, ((~rex & 4) << 5) | last];
  return [0xc4, ((~rex & 7) << 5) | row.map, ((rex & 8) << 4) | last];
}

/** Puts the parts together; undefined when they contradict (a high-byte register with REX, a jump too far). */
function emit(
  row: Row,
  size: OperandSize,
  prefixes: readonly number[],
  parts: Parts,
  context: EncodeContext,
): number[] | undefined {
  const bytes = [...prefixes];
  if (parts.segment !== undefined) bytes.push(parts.segment);
  const sized = row.sizeRule !== 'fixed';
  if (sized && size === 2) bytes.push(0x66);
  const wide = row.rexW === 1 || (size === 8 && (row.sizeRule === 'v' || row.vex));
  const rex = parts.rex | (wide ? 8 : 0);
  if (row.vex) bytes.push(...vexPrefix(row, rex, parts.vvvv));
  else {
    if (row.prefix === '66' || row.prefix === 'f3' || row.prefix === 'f2') bytes.push(Number.parseInt(row.prefix, 16));
    if (rex !== 0 || parts.rexForced) {
      if (parts.rexForbidden) return undefined;
      bytes.push(0x40 | rex);
    }
    if (row.map >= 1) bytes.push(0x0f);
    if (row.map === 2) bytes.push(0x38);
    if (row.map === 3) bytes.push(0x3a);
  }
  bytes.push(row.opcode + (row.plusReg ? parts.opcodeReg : 0));
  if (row.hasModrm) {
    const modrm = parts.modrm ?? [0xc0 | (row.rm ?? 0)];
    bytes.push((modrm[0] ?? 0) | ((row.reg ?? parts.reg) << 3), ...modrm.slice(1));
  }
  const tail = parts.immediates.reduce((sum, immediate) => sum + immediate.size, 0);
  if (parts.ripTarget !== undefined) {
    const relative = parts.ripTarget - (context.address + BigInt(bytes.length + 4 + tail));
    if (context.final && !fitsSigned(relative, 4)) return undefined;
    push(bytes, relative, 4);
  }
  const end = context.address + BigInt(bytes.length + tail);
  for (const immediate of parts.immediates) {
    const value = immediate.relative ? immediate.value - end : immediate.value;
    if (immediate.relative && !fitsSigned(value, immediate.size) && (immediate.size === 1 || context.final))
      return undefined;
    push(bytes, value, immediate.size);
  }
  return bytes;
}

function push(bytes: number[], value: bigint, size: number): void {
  for (let i = 0; i < size; i++) bytes.push(Number((value >> BigInt(8 * i)) & 0xffn));
}

const rowsByMnemonic = Map.groupBy(ROWS, (row) => row.mnemonic.toLowerCase());
const rowsOfMnemonic = (mnemonic: string): readonly Row[] => rowsByMnemonic.get(mnemonic) ?? [];

interface Candidates {
  readonly rows: readonly Row[];
  /** Bytes of a string operation's elements, when its name says so. */
  readonly stringSize: number | undefined;
  /** Operand size, when the name says so. */
  readonly size: OperandSize | undefined;
}

function candidates(mnemonic: string): Candidates {
  const sized = SIZED_NAMES[mnemonic];
  if (sized) {
    const [name, size] = sized;
    return { rows: rowsOfMnemonic(name), stringSize: undefined, size: mnemonic === 'sal' ? undefined : size };
  }
  const direct = rowsOfMnemonic(mnemonic);
  if (direct.length > 0) return { rows: direct, stringSize: undefined, size: undefined };
  const base = mnemonic.slice(0, -1);
  const suffix = STRING_SUFFIX[mnemonic.slice(-1)];
  if (suffix !== undefined && STRING_OPERATIONS.has(base)) {
    return { rows: rowsOfMnemonic(base), stringSize: suffix, size: suffix === 1 ? undefined : suffix };
  }
  const condition = /^(j|set|cmov)(.+)$/.exec(mnemonic);
  const alias = CONDITION_ALIASES[condition?.[2] ?? ''];
  const rows = alias === undefined ? [] : rowsOfMnemonic(`${condition?.[1] ?? ''}${alias}`);
  return { rows, stringSize: undefined, size: undefined };
}

/** Implicit string operands are not written in the source. */
const isImplicit = (spec: OperandSpec): boolean => spec.method === 'X' || spec.method === 'Y';

function tryRow(
  row: Row,
  size: OperandSize,
  statement: InstructionStatement,
  stringSize: number | undefined,
  context: EncodeContext,
): number[] | undefined {
  const specs =
    stringSize === undefined ? row.operands : row.operands.filter((spec) => !isImplicit(spec) && spec.method !== 'gpr');
  if (specs.length !== statement.operands.length) return undefined;
  if (stringSize !== undefined) {
    const memory = row.operands.find(isImplicit);
    if (memory && typeSize(memory.type, size) !== stringSize) return undefined;
  }
  // A memory operand without a size takes that of a register beside it; without one there must be a size.
  const unsized = statement.operands.some((o) => o.kind === 'memory' && o.size === undefined);
  const sizedBeside = statement.operands.some((o) => o.kind === 'register');
  const matcher = new Matcher(row, size, context);
  for (const [i, spec] of specs.entries()) {
    const operand = statement.operands[i];
    if (!operand || !matcher.operand(spec, operand)) return undefined;
    const width = typeSize(spec.type, size);
    if (
      operand.kind === 'memory' &&
      unsized &&
      !sizedBeside &&
      width !== 0 &&
      row.sizeRule !== 'fixed' &&
      row.sizeRule !== 'f64'
    )
      return undefined;
    if (operand.kind === 'memory' && unsized && !sizedBeside && width === 1) return undefined;
  }
  const prefixes = statement.prefixes.map((prefix) => PREFIX_BYTES[prefix] ?? 0);
  return emit(row, size, prefixes, matcher.parts, context);
}

/** Encodes in 64-bit mode; throws AsmError when no row takes the operands. */
export function encodeInstruction(statement: InstructionStatement, context: EncodeContext): number[] {
  const { rows, stringSize, size: named } = candidates(statement.mnemonic);
  let best: number[] | undefined;
  for (const row of rows) {
    if (row.valid === 'no64') continue;
    const hasWidth = row.vex && row.operands.some((spec) => spec.type === 'y');
    const usual: readonly OperandSize[] = hasWidth
      ? [4, 8]
      : row.sizeRule === 'fixed'
        ? [4]
        : row.sizeRule === 'v'
          ? [4, 8]
          : [8];
    const narrow: readonly OperandSize[] = row.sizeRule === 'v' || row.sizeRule === 'd64' ? [2] : [];
    // 16-bit operands only where the operands say so: an immediate alone would fit them too.
    const explicit = statement.operands.some((o) => o.kind === 'register' || (o.kind === 'memory' && o.size === 2));
    for (const size of named === undefined ? [...usual, ...(explicit ? narrow : [])] : [named]) {
      const bytes = tryRow(row, size, statement, stringSize, context);
      if (bytes && (!best || bytes.length < best.length)) best = bytes;
    }
  }
  if (best) return best;
  throw new AsmError(`no encoding of '${statement.mnemonic}' takes these operands`, statement.line);
}
