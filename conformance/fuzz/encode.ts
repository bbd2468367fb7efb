/** One instruction of a row to bytes: the fields that the caller chose, put in their places. Nothing is chosen here. */
import type { Row } from '@xenhost/cpu';
import type { Fixup } from './program.ts';

export interface MemoryRef {
  readonly kind: 'memory';
  /** -1: none. */
  readonly base: number;
  /** -1: none. */
  readonly index: number;
  readonly scale: 1 | 2 | 4 | 8;
  readonly displacement: number;
  /** Relative to RIP; base and index are none then. */
  readonly target?: { readonly label: string | number; readonly addend: number; readonly relative: boolean };
  /** Prefix byte. */
  readonly segment?: number;
  /** 67h. */
  readonly address32?: boolean;
}

export interface RegisterRef {
  readonly kind: 'register';
  readonly number: number;
  /** AH, CH, DH, BH: `number` is 0 to 3. */
  readonly high?: boolean;
  /** SPL to DIL: needs a REX prefix. */
  readonly needsRex?: boolean;
}

export interface Fields {
  readonly row: Row;
  readonly operandSize: 2 | 4 | 8;
  /** ModRM.reg, or the register in the opcode. */
  readonly reg?: RegisterRef;
  readonly rm?: RegisterRef | MemoryRef;
  readonly immediate?: readonly number[];
  /** LOCK, REP, REPNE. */
  readonly prefix?: number;
  /** The fields of a VEX prefix that are not registers of ModRM. */
  readonly vex?: { readonly register: number; readonly wide: boolean; readonly long: boolean };
  /** Bytes without effect in front. */
  readonly junk?: readonly number[];
}

export interface Encoded {
  readonly bytes: number[];
  readonly fixups: Fixup[];
  /** Where the immediate begins. */
  readonly immediateAt: number;
  /** Where the opcode stands. */
  readonly opcodeAt: number;
}

const ESCAPES: readonly (readonly number[])[] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];

/** Undefined when a high-byte register meets a REX prefix. */
export function encode(fields: Fields): Encoded | undefined {
  const { row, operandSize, reg, rm, immediate = [] } = fields;
  const bytes: number[] = [...(fields.junk ?? [])];
  if (fields.prefix !== undefined) bytes.push(fields.prefix);
  const memory = rm?.kind === 'memory' ? rm : undefined;
  if (memory?.segment !== undefined) bytes.push(memory.segment);
  if (memory?.address32) bytes.push(0x67);
  if (row.sizeRule !== 'fixed' && operandSize === 2) bytes.push(0x66);
  if (!row.vex && row.prefix in MANDATORY) bytes.push(Number.parseInt(row.prefix, 16));
  const isWide = row.rexW === 1 || (row.rexW === undefined && row.sizeRule === 'v' && operandSize === 8);
  const regNumber = row.plusReg ? 0 : (reg?.high ? (reg.number | 4) : reg?.number ?? 0); // prettier-ignore
  let rex = (isWide ? 8 : 0) | (regNumber >= 8 ? 4 : 0);
  if (row.plusReg && reg && reg.number >= 8) rex |= 1;
  if (rm?.kind === 'register' && rm.number >= 8) rex |= 1;
  if (memory) rex |= (memory.base >= 8 ? 1 : 0) | (memory.index >= 8 ? 2 : 0);
  const registers = [reg, rm?.kind === 'register' ? rm : undefined];
  const needsRex = rex !== 0 || registers.some((r) => r?.needsRex);
  if ((needsRex || row.vex) && registers.some((r) => r?.high)) return undefined;
  if (row.vex) bytes.push(...vexPrefix(fields, rex));
  else {
    if (needsRex) bytes.push(0x40 | rex);
    bytes.push(...(ESCAPES[row.map] ?? []));
  }
  const opcodeAt = bytes.length;
  const opcodeRegister = reg?.high ? reg.number | 4 : (reg?.number ?? 0) & 7;
  bytes.push(row.opcode + (row.plusReg ? opcodeRegister : 0));
  const fixups: Fixup[] = [];
  if (row.hasModrm) {
    const field = (row.reg ?? regNumber & 7) << 3;
    if (memory) pushMemory(bytes, fixups, memory, field);
    else {
      const number = rm?.kind === 'register' ? (rm.high ? rm.number | 4 : rm.number & 7) : (row.rm ?? 0);
      bytes.push(0xc0 | field | number);
    }
  }
  const immediateAt = bytes.length;
  bytes.push(...immediate);
  return bytes.length <= 15 ? { bytes, fixups, immediateAt, opcodeAt } : undefined;
}

const MANDATORY: Readonly<Record<string, number>> = { '66': 1, f3: 2, f2: 3 };

/** Two bytes where that is enough. */
function vexPrefix({ row, vex }: Fields, rex: number): number[] {
  const last = ((~(vex?.register ?? 0) & 15) << 3) | (vex?.long ? 4 : 0) | (MANDATORY[row.prefix] ?? 0);
  if (row.map === 1 && (rex & 3) === 0 && !vex?.wide) return [0xc5, ((~rex & 4) << 5) | last];
  return [0xc4, ((~rex & 7) << 5) | row.map, (vex?.wide ? 0x80 : 0) | last];
}

function pushMemory(bytes: number[], fixups: Fixup[], memory: MemoryRef, field: number): void {
  const { base, index, target } = memory;
  if (target) {
    // RIP-relative, or SIB without base and index.
    bytes.push(field | (target.relative ? 5 : 4));
    if (!target.relative) bytes.push(0x25);
    fixups.push({ at: bytes.length, size: 4, relative: target.relative, target: target.label, addend: target.addend });
    bytes.push(0, 0, 0, 0);
    return;
  }
  const { displacement } = memory;
  const needsSib = index >= 0 || base < 0 || (base & 7) === 4;
  const isByte = displacement >= -128 && displacement <= 127;
  const mod = base < 0 ? 0 : displacement === 0 && (base & 7) !== 5 ? 0 : isByte ? 1 : 2;
  bytes.push((mod << 6) | field | (needsSib ? 4 : base & 7));
  if (needsSib) bytes.push((Math.log2(memory.scale) << 6) | ((index < 0 ? 4 : index & 7) << 3) | (base < 0 ? 5 : base & 7)); // prettier-ignore
  const size = base < 0 || mod === 2 ? 4 : mod;
  for (let n = 0; n < size; n++) bytes.push((displacement >> (8 * n)) & 0xff);
}

export function little(value: bigint | number, size: number): number[] {
  const bits = BigInt(value);
  return Array.from({ length: size }, (_, n) => Number((bits >> BigInt(8 * n)) & 0xffn));
}
