/** Disassembler: an instruction as Intel syntax, for traces and reports. It says what the rows say, nothing more. */
import type { Instruction, MemoryOperand, Operand } from './instruction.ts';

const R8 = ['al', 'cl', 'dl', 'bl', 'spl', 'bpl', 'sil', 'dil'];
const R8_HIGH = ['ah', 'ch', 'dh', 'bh'];
const BASE = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'];
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'];
const SIZE_NAMES: Record<number, string> = { 1: 'byte ptr ', 2: 'word ptr ', 4: 'dword ptr ', 8: 'qword ptr ', 10: 'tbyte ptr ', 16: 'xmmword ptr ', 32: 'ymmword ptr ' }; // prettier-ignore

export function registerName(register: number, size: number, high = false): string {
  if (high) return R8_HIGH[register] ?? '?';
  if (register >= 8) return `r${register}${size === 1 ? 'b' : size === 2 ? 'w' : size === 4 ? 'd' : ''}`;
  if (size === 1) return R8[register] ?? '?';
  return `${size === 8 ? 'r' : size === 4 ? 'e' : ''}${BASE[register] ?? '?'}`;
}

const hex = (value: bigint): string => (value < 0n ? `-0x${(-value).toString(16)}` : `0x${value.toString(16)}`);

function memory(operand: MemoryOperand, instruction: Instruction, nextRip: bigint): string {
  const parts: string[] = [];
  if (operand.base >= 0) parts.push(registerName(operand.base, instruction.addressSize));
  if (operand.index >= 0)
    parts.push(registerName(operand.index, instruction.addressSize) + (operand.scale > 1 ? `*${operand.scale}` : ''));
  let displacement = operand.displacement;
  if (operand.base === -2) displacement = BigInt.asUintN(64, displacement + nextRip);
  if (displacement !== 0n || parts.length === 0)
    parts.push(`${displacement >= 0n && parts.length > 0 ? '+' : ''}${hex(displacement)}`);
  const segment = instruction.segmentOverride >= 0 ? `${SEGMENTS[operand.segment] ?? '?'}:` : '';
  return `${SIZE_NAMES[operand.size] ?? ''}${segment}[${parts.join('+').replaceAll('++', '+').replaceAll('+-', '-')}]`;
}

function operandText(operand: Operand, instruction: Instruction, nextRip: bigint): string {
  switch (operand.kind) {
    case 'register':
      return registerName(operand.register, operand.size, operand.high);
    case 'memory':
      return memory(operand, instruction, nextRip);
    case 'immediate':
      return hex(operand.value);
    case 'relative':
      return hex(BigInt.asUintN(64, nextRip + BigInt(operand.value)));
    case 'far':
      return `${hex(BigInt(operand.selector))}:${hex(BigInt(operand.offset))}`;
    case 'segment':
      return SEGMENTS[operand.register] ?? '?';
    case 'control':
      return `cr${operand.register}`;
    case 'debug':
      return `dr${operand.register}`;
    case 'xmm':
      return `${operand.size === 32 ? 'y' : 'x'}mm${operand.register}`;
    case 'mmx':
      return `mm${operand.register}`;
    case 'st':
      return `st(${operand.register})`;
  }
}

/** One line of text. `rip` is the address of the instruction. */
export function disassemble(instruction: Instruction, rip = 0n): string {
  const nextRip = BigInt.asUintN(64, rip + BigInt(instruction.length));
  const prefix = `${instruction.lock ? 'lock ' : ''}${instruction.repeat === 'none' ? '' : `${instruction.repeat} `}`;
  const operands = instruction.operands.map((o) => operandText(o, instruction, nextRip)).join(', ');
  return `${prefix}${instruction.row.mnemonic.toLowerCase()}${operands ? ` ${operands}` : ''}`;
}
