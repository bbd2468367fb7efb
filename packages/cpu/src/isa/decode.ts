/**
 * Decoder: bytes to `Instruction` by the rows. Exact in length, prefixes, the 15-byte limit and what is no instruction.
 * It knows the mode's code size and nothing else of the CPU; privilege and features are the semantics' matter.
 * Intel SDM vol. 2 chapter 2.
 */
import type { CodeSize, Instruction, MemoryOperand, Operand } from './instruction.ts';
import type { OperandSpec, Row } from './row.ts';
import { ROWS } from './table.ts';

export const MAX_INSTRUCTION_LENGTH = 15;

/** Why there is no instruction. */
export type DecodeFailure =
  /** The bytes end before the instruction does. */
  | 'truncated'
  /** No such instruction: #UD. */
  | 'invalid'
  /** More than 15 bytes: #GP(0). */
  | 'too-long';

const VEX_MAPS = 4;
const VEX_PREFIXES = ['np', '66', 'f3', 'f2'] as const;
const PRIORITY = { f3: 0, f2: 0, '66': 1, np: 2, any: 3 } as const;
/** Rows by map (those with VEX after the others) and opcode, the more particular first. */
const BY_OPCODE: readonly (readonly Row[])[] = (() => {
  const lists: Row[][] = Array.from({ length: (VEX_MAPS + 4) * 256 }, () => []);
  for (const row of ROWS)
    for (let i = 0; i < (row.plusReg ? 8 : 1); i++)
      lists[((row.vex ? VEX_MAPS : 0) + row.map) * 256 + row.opcode + i]?.push(row);
  const rank = (r: Row): number =>
    PRIORITY[r.prefix] * 4 + (r.rm === undefined ? 2 : 0) + (r.form === 'any' ? 1 : 0) + (r.plusReg ? 1 : 0);
  for (const list of lists) list.sort((a, b) => rank(a) - rank(b));
  return lists;
})();

/** Control and debug registers: any mod of ModRM names a register. By the row's index. */
const IGNORES_MOD: readonly boolean[] = ((): boolean[] => {
  const flags: boolean[] = [];
  for (const row of ROWS) flags[row.index] = row.operands.some((o) => o.method === 'C' || o.method === 'D');
  return flags;
})();

/** Thrown when the bytes end inside an instruction; no Error, since it is an ordinary answer. */
const TRUNCATED = Symbol('truncated instruction');

/** Cursor and prefixes of the instruction at hand; one object is reused. */
class Decoder {
  bytes: Uint8Array = new Uint8Array();
  at = 0;
  end = 0;
  code: CodeSize = 64;
  rex = 0;
  opsize66 = false;
  segmentOverride = -1;
  repeat: 0 | 0xf2 | 0xf3 = 0;
  lock = false;
  addressSize: 2 | 4 | 8 = 8;
  operandSize: 2 | 4 | 8 = 4;
  modrm = 0;
  opcode = 0;
  /** The memory operand, when there is one. */
  isMemory = false;
  base = 0;
  index = -1;
  scale = 1;
  displacement = 0;
  segment = 0;
  /** Index register and scale of the SIB byte as they stand there, -1 without one: VSIB. */
  sibIndex = -1;
  sibScale = 1;
  /** Fields of the VEX prefix. */
  vexRegister = 0;
  vexPrefix: Row['prefix'] = 'np';
  vexL = 0;
  vexW = 0;

  u8(): number {
    const byte = this.at < this.end ? this.bytes[this.at] : undefined;
    if (byte === undefined) throw TRUNCATED;
    this.at++;
    return byte;
  }
  u16(): number {
    return this.u8() | (this.u8() << 8);
  }
  i32(): number {
    return this.u16() | (this.u16() << 16);
  }
  signed(size: number): number {
    if (size === 1) return (this.u8() << 24) >> 24;
    if (size === 2) return (this.u16() << 16) >> 16;
    return this.i32();
  }
  u64(): bigint {
    const low = BigInt(this.i32() >>> 0);
    return low | (BigInt(this.i32() >>> 0) << 32n);
  }

  decode(): Instruction | DecodeFailure {
    const start = this.at;
    let addr67 = false;
    this.rex = 0;
    this.opsize66 = false;
    this.segmentOverride = -1;
    this.repeat = 0;
    this.lock = false;
    this.isMemory = false;
    this.sibIndex = -1;
    let byte: number;
    for (;;) {
      if (this.at - start >= MAX_INSTRUCTION_LENGTH) return 'too-long';
      byte = this.u8();
      if (byte === 0x66) this.opsize66 = true;
      else if (byte === 0x67) addr67 = true;
      else if (byte === 0xf0) this.lock = true;
      else if (byte === 0xf2 || byte === 0xf3) this.repeat = byte;
      else if (byte === 0x2e || byte === 0x36 || byte === 0x3e || byte === 0x26) {
        // In 64-bit mode these say nothing.
        if (this.code !== 64) this.segmentOverride = (byte >> 3) & 3;
      } else if (byte === 0x64 || byte === 0x65) this.segmentOverride = byte - 0x60;
      else if (this.code === 64 && (byte & 0xf0) === 0x40) {
        this.rex = byte;
        continue;
      } else break;
      this.rex = 0;
    }
    let row: Row | undefined;
    if ((byte === 0xc4 || byte === 0xc5) && this.isVex()) {
      if (this.rex || this.opsize66 || this.repeat || this.lock) return 'invalid';
      const map = this.vexPrefixBytes(byte);
      this.opcode = this.u8();
      row = this.selectVexRow(map);
    } else row = this.selectPlain(byte);
    if (!row) return this.at - start > MAX_INSTRUCTION_LENGTH ? 'too-long' : 'invalid';
    this.addressSize = this.code === 64 ? (addr67 ? 4 : 8) : (this.code === 32) !== addr67 ? 4 : 2;
    this.operandSize = this.sizeFor(row);
    if (row.hasModrm) {
      this.at++;
      if (this.modrm < 0xc0 && !IGNORES_MOD[row.index]) this.decodeMemory();
    }
    const specs = row.operands;
    const operands: Operand[] = [];
    for (let n = 0; n < specs.length; n++) {
      const operand = this.operand(row, specs[n] as OperandSpec);
      if (!operand) return 'invalid';
      operands.push(operand);
    }
    // A gather's destination, indices and mask are three registers.
    if (this.isOverlapping(row, operands)) return 'invalid';
    const length = this.at - start;
    if (length > MAX_INSTRUCTION_LENGTH) return 'too-long';
    if (this.lock && !(row.lockable && operands[0]?.kind === 'memory')) return 'invalid';
    const repeat = row.prefix === 'f2' || row.prefix === 'f3' ? 0 : this.repeat;
    return {
      row, length, code: this.code, operandSize: this.operandSize, addressSize: this.addressSize, operands,
      lock: this.lock, repeat: repeat === 0xf3 ? 'rep' : repeat === 0xf2 ? 'repne' : 'none',
      segmentOverride: this.segmentOverride,
    }; // prettier-ignore
  }

  private isOverlapping(row: Row, operands: readonly Operand[]): boolean {
    if (row.operands[2]?.method !== 'vsib') return false;
    const registers = operands.flatMap((o) => (o.kind === 'xmm' ? [o.register] : []));
    return new Set(registers).size !== registers.length;
  }
  /** Outside 64-bit mode C4 and C5 are LES and LDS unless the byte after them would name a register as memory. */
  private isVex(): boolean {
    if (this.code === 64) return true;
    if (this.at >= this.end) throw TRUNCATED;
    return (this.bytes[this.at] ?? 0) >= 0xc0;
  }
  /** What follows C4 or C5; returns the map. */
  private vexPrefixBytes(first: number): number {
    let byte = this.u8();
    let map = 1;
    this.rex = (~byte >> 5) & 4;
    if (first === 0xc4) {
      this.rex = (~byte >> 5) & 7;
      map = byte & 31;
      byte = this.u8();
      this.rex |= (byte >> 4) & 8;
    }
    this.vexW = this.rex >> 3;
    this.vexRegister = (~byte >> 3) & 15;
    this.vexL = (byte >> 2) & 1;
    this.vexPrefix = VEX_PREFIXES[byte & 3] ?? 'np';
    if (this.code !== 64) {
      this.rex = 0;
      this.vexRegister &= 7;
    }
    return map;
  }
  private selectVexRow(map: number): Row | undefined {
    if (map === 0 || map > 3) return undefined;
    for (const row of BY_OPCODE[(VEX_MAPS + map) * 256 + this.opcode] ?? []) {
      if (row.prefix !== this.vexPrefix || (row.vexL !== undefined && row.vexL !== this.vexL)) continue;
      if (row.rexW !== undefined && row.rexW !== this.vexW) continue;
      if (!this.fitsModrm(row)) continue;
      // Without an operand there vvvv must be all ones.
      if (this.vexRegister !== 0 && !row.operands.some((o) => o.method === 'H' || o.method === 'K')) continue;
      return row;
    }
    return undefined;
  }
  private selectPlain(byte: number): Row | undefined {
    let map = 0;
    if (byte === 0x0f) {
      map = 1;
      byte = this.u8();
      if (byte === 0x38 || byte === 0x3a) {
        map = byte === 0x38 ? 2 : 3;
        byte = this.u8();
      }
    }
    this.opcode = byte;
    return this.selectRow(map, byte);
  }
  /** Whether the ModRM byte, if the row has one, is one of the row's. */
  private fitsModrm(row: Row): boolean {
    if (!row.hasModrm) return true;
    if (this.at >= this.end) throw TRUNCATED;
    this.modrm = this.bytes[this.at] ?? 0;
    const isMemory = this.modrm < 0xc0;
    if (row.form !== 'any' && isMemory !== (row.form === 'memory') && !IGNORES_MOD[row.index]) return false;
    if (row.reg !== undefined && row.reg !== ((this.modrm >> 3) & 7)) return false;
    return row.rm === undefined || (!isMemory && row.rm === (this.modrm & 7));
  }

  private selectRow(map: number, opcode: number): Row | undefined {
    const candidates = BY_OPCODE[map * 256 + opcode] ?? [];
    const rexW = (this.rex >> 3) & 1;
    for (const row of candidates) {
      if (row.valid !== 'any' && (row.valid === 'only64') !== (this.code === 64)) continue;
      switch (row.prefix) {
        case 'f3':
          if (this.repeat !== 0xf3) continue;
          break;
        case 'f2':
          if (this.repeat !== 0xf2) continue;
          break;
        case '66':
          if (!this.opsize66 || this.repeat) continue;
          break;
        case 'np':
          if (this.opsize66 || this.repeat) continue;
          break;
        case 'any':
          break;
      }
      if (row.rexW !== undefined && row.rexW !== rexW) continue;
      if (row.semantics === 'nop' && !row.plusReg && row.opcode === 0x90 && this.rex & 1) continue;
      if (!this.fitsModrm(row)) continue;
      return row;
    }
    return undefined;
  }

  private sizeFor(row: Row): 2 | 4 | 8 {
    if (this.code !== 64) return (this.code === 32) !== this.opsize66 ? 4 : 2;
    if (row.sizeRule === 'f64' || this.rex & 8) return 8;
    if (row.sizeRule === 'd64') return this.opsize66 ? 2 : 8;
    return this.opsize66 ? 2 : 4;
  }

  private sizeOf(row: Row, spec: OperandSpec): number {
    switch (spec.type) {
      case 'b':
        return 1;
      case 'w':
        return 2;
      case 'd':
        return 4;
      case 'q':
        return 8;
      case 'v':
      case 'bs':
        return this.operandSize;
      case 'z':
        return this.operandSize === 8 ? 4 : this.operandSize;
      case 'y':
        if (row.sizeRule === 'f64') return this.code === 64 ? 8 : 4;
        return this.rex & 8 ? 8 : 4;
      case 't':
        return 10;
      case 'x':
        return 16;
      case 'qq':
        return 32;
      case 'p':
        return this.operandSize + 2;
      case 's':
        return this.code === 64 ? 10 : 6;
      case 'a':
        return this.operandSize * 2;
      default:
        return 0;
    }
  }

  private register(number: number, size: number): Operand {
    if (size === 1 && this.rex === 0 && number >= 4 && number < 8)
      return { kind: 'register', register: number - 4, size, high: true };
    return { kind: 'register', register: number, size, high: false };
  }

  private operand(row: Row, spec: OperandSpec): Operand | undefined {
    const size = this.sizeOf(row, spec);
    const reg = ((this.modrm >> 3) & 7) | ((this.rex & 4) << 1);
    const rm = (this.modrm & 7) | ((this.rex & 1) << 3);
    switch (spec.method) {
      case 'E':
        return this.isMemory ? this.memory(size) : this.register(rm, size);
      case 'G':
        return this.register(reg, size);
      case 'M':
        if (!this.isMemory) return undefined;
        if (!row.operands.some((o) => o.method === 'vsib')) return this.memory(size);
        return this.sibIndex < 0 ? undefined : { ...this.memory(size), index: -1, scale: 1 };
      case 'R':
        return this.register(rm, size);
      case 'Z':
        return this.register((this.opcode & 7) | ((this.rex & 1) << 3), size);
      case 'gpr':
        return { kind: 'register', register: spec.fixed & 3, size, high: spec.fixed === 4 };
      case 'seg':
        return { kind: 'segment', register: spec.fixed, size: 2 };
      case 'S':
        return (reg & 7) > 5 ? undefined : { kind: 'segment', register: reg & 7, size: 2 };
      case 'C':
        return { kind: 'control', register: reg, size };
      case 'D':
        return reg > 7 ? undefined : { kind: 'debug', register: reg, size };
      case 'I':
        return this.immediate(spec, size);
      case 'one':
        return { kind: 'immediate', value: 1n, size: 1 };
      case 'J':
        return { kind: 'relative', value: this.signed(size), size };
      case 'A': {
        const offset = this.operandSize === 2 ? this.u16() : this.i32() >>> 0;
        return { kind: 'far', offset, selector: this.u16(), size };
      }
      case 'O': {
        const displacement = this.addressSize === 8 ? BigInt.asIntN(64, this.u64()) : this.addressSize === 4 ? BigInt(this.i32() >>> 0) : BigInt(this.u16()); // prettier-ignore
        return this.plainMemory(-1, this.segmentOverride < 0 ? 3 : this.segmentOverride, size, displacement);
      }
      case 'X':
        return this.plainMemory(6, this.segmentOverride < 0 ? 3 : this.segmentOverride, size, 0n);
      case 'B':
        return this.plainMemory(3, this.segmentOverride < 0 ? 3 : this.segmentOverride, size, 0n);
      case 'Y':
        return this.plainMemory(7, 0, size, 0n);
      case 'V':
        return { kind: 'xmm', register: reg, size };
      case 'U':
        return { kind: 'xmm', register: rm, size };
      case 'W':
        return this.isMemory ? this.memory(size) : { kind: 'xmm', register: rm, size };
      case 'xmm':
        return { kind: 'xmm', register: spec.fixed, size };
      case 'P':
        return { kind: 'mmx', register: reg & 7, size };
      case 'N':
        return { kind: 'mmx', register: rm & 7, size };
      case 'Q':
        return this.isMemory ? this.memory(size) : { kind: 'mmx', register: rm & 7, size };
      case 'st':
        return { kind: 'st', register: spec.fixed, size };
      case 'T':
        return { kind: 'st', register: rm & 7, size };
      case 'H':
        return { kind: 'xmm', register: this.vexRegister, size };
      case 'K':
        return this.register(this.vexRegister, size);
      case 'L':
        return { kind: 'xmm', register: (this.u8() >> 4) & (this.code === 64 ? 15 : 7), size };
      case 'vsib':
        return { kind: 'xmm', register: this.sibIndex, size };
      case 'scale':
        return { kind: 'immediate', value: BigInt(this.sibScale), size };
    }
  }

  private immediate(spec: OperandSpec, size: number): Operand {
    switch (spec.type) {
      case 'bs':
        return { kind: 'immediate', value: BigInt(this.signed(1)), size };
      case 'z':
        return { kind: 'immediate', value: BigInt(this.signed(size)), size: this.operandSize };
      case 'v':
        if (size === 8) return { kind: 'immediate', value: BigInt.asIntN(64, this.u64()), size };
        return { kind: 'immediate', value: BigInt(this.signed(size)), size };
      default:
        if (size === 1) return { kind: 'immediate', value: BigInt(this.u8()), size };
        return { kind: 'immediate', value: BigInt(size === 2 ? this.u16() : this.i32()), size };
    }
  }

  private plainMemory(base: number, segment: number, size: number, displacement: bigint): MemoryOperand {
    return { kind: 'memory', base, index: -1, scale: 1, displacement, segment, size };
  }

  private memory(size: number): MemoryOperand {
    const { base, index, scale, displacement, segment } = this;
    return { kind: 'memory', base, index, scale, displacement: BigInt(displacement), segment, size };
  }

  private decodeMemory(): void {
    const mod = this.modrm >> 6;
    const rm = this.modrm & 7;
    if (this.addressSize === 2) {
      this.decodeMemory16(mod, rm);
      return;
    }
    let base: number;
    let index = -1;
    let scale = 1;
    let stackBase = false;
    let displacement = 0;
    if (rm === 4) {
      const sib = this.u8();
      const x = ((sib >> 3) & 7) | ((this.rex & 2) << 2);
      index = x === 4 ? -1 : x;
      scale = 1 << (sib >> 6);
      this.sibIndex = x;
      this.sibScale = scale;
      if ((sib & 7) === 5 && mod === 0) {
        base = -1;
        displacement = this.i32();
      } else {
        base = (sib & 7) | ((this.rex & 1) << 3);
        stackBase = base === 4 || base === 5;
      }
    } else if (rm === 5 && mod === 0) {
      base = this.code === 64 ? -2 : -1;
      displacement = this.i32();
    } else {
      base = rm | ((this.rex & 1) << 3);
      stackBase = base === 5;
    }
    if (mod === 1) displacement = this.signed(1);
    else if (mod === 2) displacement = this.i32();
    this.noteMemory(base, index, scale, displacement, stackBase);
  }

  private decodeMemory16(mod: number, rm: number): void {
    const base = [3, 3, 5, 5, 6, 7, 5, 3][rm] ?? 3;
    const index = [6, 7, 6, 7, -1, -1, -1, -1][rm] ?? -1;
    if (mod === 0 && rm === 6) {
      this.noteMemory(-1, -1, 1, this.u16(), false);
      return;
    }
    const displacement = mod === 0 ? 0 : this.signed(mod);
    this.noteMemory(base, index, 1, displacement, base === 5);
  }

  private noteMemory(base: number, index: number, scale: number, displacement: number, stack: boolean): void {
    this.isMemory = true;
    this.base = base;
    this.index = index;
    this.scale = scale;
    this.displacement = displacement;
    this.segment = this.segmentOverride >= 0 ? this.segmentOverride : stack ? 2 : 3;
  }
}

const decoder = new Decoder();

/** Decodes the instruction at `offset`; bytes at and after `end` are not there. */
export function decodeInstruction(
  bytes: Uint8Array,
  code: CodeSize,
  offset = 0,
  end = bytes.length,
): Instruction | DecodeFailure {
  decoder.bytes = bytes;
  decoder.at = offset;
  decoder.end = end;
  decoder.code = code;
  try {
    return decoder.decode();
  } catch (e) {
    if (e !== TRUNCATED) throw e;
    return end - offset > MAX_INSTRUCTION_LENGTH ? 'too-long' : 'truncated';
  }
}
