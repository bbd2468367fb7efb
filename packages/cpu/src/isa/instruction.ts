/** A decoded instruction: what decoder, disassembler, assembler, oracle and handlers exchange. */
import type { Row } from './row.ts';

/** Bits of code: 64-bit mode, or the D bit of CS. */
export type CodeSize = 64 | 32 | 16;

export type Operand =
  /** General register; `high` for AH CH DH BH (register 0 to 3 then). */
  | { readonly kind: 'register'; readonly register: number; readonly size: number; readonly high: boolean }
  | MemoryOperand
  /** As its bits sign-extended to 64 where the row says so, else zero-extended. */
  | { readonly kind: 'immediate'; readonly value: bigint; readonly size: number }
  /** Distance from the next instruction. */
  | { readonly kind: 'relative'; readonly value: number; readonly size: number }
  | { readonly kind: 'far'; readonly selector: number; readonly offset: number; readonly size: number }
  | { readonly kind: 'segment' | 'control' | 'debug' | 'xmm' | 'mmx' | 'st'; readonly register: number; readonly size: number }; // prettier-ignore

export interface MemoryOperand {
  readonly kind: 'memory';
  /** 0 to 15; -1 none; -2 the next instruction's RIP. */
  readonly base: number;
  readonly index: number;
  /** 1, 2, 4 or 8. */
  readonly scale: number;
  readonly displacement: bigint;
  /** Segment register by its encoding, overrides applied. */
  readonly segment: number;
  /** Bytes; 0 where the semantics decide. */
  readonly size: number;
}

export interface Instruction {
  readonly row: Row;
  readonly length: number;
  readonly code: CodeSize;
  /** 2, 4 or 8. */
  readonly operandSize: 2 | 4 | 8;
  readonly addressSize: 2 | 4 | 8;
  readonly operands: readonly Operand[];
  readonly lock: boolean;
  /** REP (F3) and REPNE (F2) that are not part of the opcode; the last one given counts. */
  readonly repeat: 'none' | 'rep' | 'repne';
  /** Segment override as given, -1 for none. */
  readonly segmentOverride: number;
}
