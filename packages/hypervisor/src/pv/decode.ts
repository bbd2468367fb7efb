/**
 * Which privileged instructions a PV kernel may execute: they arrive as #GP with RIP on them. Encodings are the
 * CPU package's (`decodeInstruction`); here is the list of those that Xen emulates and what it needs of them.
 */
import { MAX_INSTRUCTION_LENGTH, decodeInstruction } from '@xenhost/cpu';
import type { CodeSize, Instruction } from '@xenhost/cpu';

export type PrivilegedInstruction =
  /** Port I/O; `immediate` undefined: port in DX. */
  | {
      readonly kind: 'in' | 'out';
      readonly size: 1 | 2 | 4;
      readonly immediate: number | undefined;
      readonly length: number;
    }
  | {
      readonly kind: 'ins' | 'outs';
      readonly size: 1 | 2 | 4;
      readonly repeat: boolean;
      readonly addressBits: 16 | 32 | 64;
      /** Segment override by encoding number, undefined for none. */
      readonly segment: number | undefined;
      readonly length: number;
    }
  | {
      readonly kind: 'readCr' | 'writeCr' | 'readDr' | 'writeDr';
      readonly register: number;
      readonly gpr: number;
      readonly length: number;
    }
  | {
      readonly kind: 'cli' | 'sti' | 'clts' | 'wbinvd' | 'rdmsr' | 'wrmsr' | 'rdtsc' | 'rdtscp' | 'cpuid' | 'xsetbv';
      readonly length: number;
    };

export const MAX_INSTRUCTION = MAX_INSTRUCTION_LENGTH;

/** Semantics of a row that are emulated as they are. */
const SIMPLE = new Set(['cli', 'sti', 'clts', 'rdmsr', 'wrmsr', 'rdtsc', 'rdtscp', 'cpuid', 'xsetbv'] as const);
type Simple = typeof SIMPLE extends Set<infer T> ? T : never;
const isSimple = (semantics: string): semantics is Simple => (SIMPLE as Set<string>).has(semantics);
const MOVES = { movfromcr: 'readCr', movtocr: 'writeCr', movfromdr: 'readDr', movtodr: 'writeDr' } as const;
const isMove = (semantics: string): semantics is keyof typeof MOVES => semantics in MOVES;
const WBINVD_OPCODE = 0x09;

/** Decodes at the start of `bytes` (as many as could be read); undefined for any other or a cut-off instruction. */
export function decodePrivileged(bytes: Uint8Array, codeBits: CodeSize): PrivilegedInstruction | undefined {
  const i = decodeInstruction(bytes, codeBits);
  if (typeof i === 'string') return undefined;
  const { length } = i;
  const { semantics } = i.row;
  if (isSimple(semantics)) return { kind: semantics, length };
  if (isMove(semantics)) return move(i, MOVES[semantics]);
  switch (semantics) {
    case 'wbinvd':
      // INVD, its neighbour, is not emulated.
      return i.row.opcode === WBINVD_OPCODE ? { kind: 'wbinvd', length } : undefined;
    case 'in':
    case 'out': {
      const immediate = i.operands.find((operand) => operand.kind === 'immediate');
      const port = immediate === undefined ? undefined : Number(immediate.value & 0xffn);
      return { kind: semantics, size: portSize(i), immediate: port, length };
    }
    case 'ins':
    case 'outs': {
      const addressBits = ({ 2: 16, 4: 32, 8: 64 } as const)[i.addressSize];
      const segment = i.segmentOverride < 0 ? undefined : i.segmentOverride;
      return { kind: semantics, size: portSize(i), repeat: i.repeat !== 'none', addressBits, segment, length };
    }
    default:
      return undefined;
  }
}

function move(i: Instruction, kind: 'readCr' | 'writeCr' | 'readDr' | 'writeDr'): PrivilegedInstruction | undefined {
  let register: number | undefined;
  let gpr: number | undefined;
  for (const operand of i.operands) {
    if (operand.kind === 'control' || operand.kind === 'debug') register = operand.register;
    else if (operand.kind === 'register') gpr = operand.register;
  }
  if (register === undefined || gpr === undefined) return undefined;
  return { kind, register, gpr, length: i.length };
}

/** The even opcodes move bytes, the others words or doublewords. */
function portSize(i: Instruction): 1 | 2 | 4 {
  if ((i.row.opcode & 1) === 0) return 1;
  return i.operandSize === 2 ? 2 : 4;
}
