/** Rows, decoder, disassembler. */
export { ROWS } from './table.ts';
export { CONDITIONS } from './row.ts';
export type { Row, OperandSpec, OperandMethod, OperandType } from './row.ts';
export { decodeInstruction, MAX_INSTRUCTION_LENGTH } from './decode.ts';
export type { DecodeFailure } from './decode.ts';
export type { CodeSize, Instruction, MemoryOperand, Operand } from './instruction.ts';
export { disassemble, registerName } from './disassemble.ts';
