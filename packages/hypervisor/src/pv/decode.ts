/**
 * Decoder of the few instructions that a PV kernel may execute although they are privileged: they arrive as #GP with
 * RIP on them. Only prefixes, opcode and a register ModRM matter; anything else is not ours to emulate.
 */

export type PrivilegedInstruction =
  /** Port I/O; `immediate` undefined: port in DX. String forms repeat when `repeat`. */
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
      /** Segment prefix by encoding number, undefined for none. */
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

export const MAX_INSTRUCTION = 15;

const SEGMENT_PREFIX = new Map([
  [0x26, 0],
  [0x2e, 1],
  [0x36, 2],
  [0x3e, 3],
  [0x64, 4],
  [0x65, 5],
]);
const SIMPLE = { 0x06: 'clts', 0x09: 'wbinvd', 0x30: 'wrmsr', 0x31: 'rdtsc', 0x32: 'rdmsr', 0xa2: 'cpuid' } as const;
const MOVES = { 0x20: 'readCr', 0x21: 'readDr', 0x22: 'writeCr', 0x23: 'writeDr' } as const;

/** Decodes at the start of `bytes` (as many as could be read); undefined for any other or a cut-off instruction. */
export function decodePrivileged(bytes: Uint8Array, codeBits: 16 | 32 | 64): PrivilegedInstruction | undefined {
  let at = 0;
  let operand16 = codeBits === 16;
  let addressBits: 16 | 32 | 64 = codeBits;
  let repeat = false;
  let lock = false;
  let segment: number | undefined;
  let rex = 0;
  for (; ; at++) {
    const byte = bytes[at];
    if (byte === undefined) return undefined;
    const override = SEGMENT_PREFIX.get(byte);
    if (byte === 0x66) operand16 = codeBits !== 16;
    else if (byte === 0x67) addressBits = codeBits === 32 ? 16 : 32;
    else if (byte === 0xf2 || byte === 0xf3) repeat = true;
    else if (byte === 0xf0) lock = true;
    else if (override !== undefined) segment = override;
    else break;
  }
  const first = bytes[at] ?? 0;
  if (codeBits === 64 && (first & 0xf0) === 0x40) {
    rex = first;
    at++;
  }
  const opcode = bytes[at++];
  if (opcode === undefined) return undefined;
  const size = (byteSize: boolean): 1 | 2 | 4 => (byteSize ? 1 : operand16 ? 2 : 4);
  if (opcode === 0x0f) return twoByte(bytes, at, rex, lock);
  if (lock) return undefined;
  switch (opcode) {
    case 0x6c:
    case 0x6d:
      return { kind: 'ins', size: size(opcode === 0x6c), repeat, addressBits, segment, length: at };
    case 0x6e:
    case 0x6f:
      return { kind: 'outs', size: size(opcode === 0x6e), repeat, addressBits, segment, length: at };
    case 0xe4:
    case 0xe5:
    case 0xe6:
    case 0xe7: {
      const immediate = bytes[at];
      if (immediate === undefined) return undefined;
      return { kind: opcode < 0xe6 ? 'in' : 'out', size: size((opcode & 1) === 0), immediate, length: at + 1 };
    }
    case 0xec:
    case 0xed:
    case 0xee:
    case 0xef:
      return { kind: opcode < 0xee ? 'in' : 'out', size: size((opcode & 1) === 0), immediate: undefined, length: at };
    case 0xfa:
      return { kind: 'cli', length: at };
    case 0xfb:
      return { kind: 'sti', length: at };
    default:
      return undefined;
  }
}

function twoByte(bytes: Uint8Array, start: number, rex: number, lock: boolean): PrivilegedInstruction | undefined {
  const opcode = bytes[start];
  const modrm = bytes[start + 1];
  if (opcode === undefined) return undefined;
  const length = start + 1;
  const move = MOVES[opcode as keyof typeof MOVES];
  if (move !== undefined) {
    if (modrm === undefined) return undefined;
    // LOCK MOV CR0 is AMD's name for CR8; no guest gets it.
    if (lock) return undefined;
    const register = ((modrm >> 3) & 7) | ((rex & 4) << 1);
    return { kind: move, register, gpr: (modrm & 7) | ((rex & 1) << 3), length: length + 1 };
  }
  if (lock) return undefined;
  const simple = SIMPLE[opcode as keyof typeof SIMPLE];
  if (simple !== undefined) return { kind: simple, length };
  if (opcode === 0x01 && modrm === 0xd1) return { kind: 'xsetbv', length: length + 1 };
  if (opcode === 0x01 && modrm === 0xf9) return { kind: 'rdtscp', length: length + 1 };
  return undefined;
}
