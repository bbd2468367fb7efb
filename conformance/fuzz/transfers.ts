/** Jumps and calls by label, in the encodings that there are. */
import { conditionReads } from './flag-use.ts';
import { raw } from './instructions.ts';
import { NO_FLAGS, type Fixup, type Insn } from './program.ts';
import { RESUME_CELL } from './world.ts';

const relative = (target: string, at: number): Fixup => ({ at, size: 4, relative: true, target, addend: 0 });
const absolute = (target: string | number, at: number): Fixup => ({ at, size: 4, relative: false, target, addend: 0 });

/** Jcc; `isFlippable` keeps the long form and lets other instructions change its condition. */
export function jcc(condition: number, target: string, options: { flippable?: boolean } = {}): Insn {
  const any = Array.from({ length: 16 }, (_, n) => 0x80 | n);
  return {
    kind: 'insn',
    bytes: [0x0f, 0x80 | condition, 0, 0, 0, 0],
    ...(!options.flippable && { shortBytes: [0x70 | condition, 0] }),
    fixups: [relative(target, 2)],
    flags: { reads: conditionReads(condition), defines: 0, undefines: 0 },
    transfers: true,
    ...(options.flippable && { patch: { kind: 'byte', at: 1, values: any } }),
  };
}

export function jmp(target: string): Insn {
  return { kind: 'insn', bytes: [0xe9, 0, 0, 0, 0], shortBytes: [0xeb, 0], fixups: [relative(target, 1)], flags: NO_FLAGS, transfers: true, ends: true }; // prettier-ignore
}

export function call(target: string): Insn {
  return { kind: 'insn', bytes: [0xe8, 0, 0, 0, 0], fixups: [relative(target, 1)], flags: NO_FLAGS, transfers: true };
}

/** LOOPNE, LOOPE, LOOP, JRCXZ: `opcode` E0 to E3, near targets only. */
export function loop(opcode: number, target: string): Insn {
  const reads = opcode < 0xe2 ? conditionReads(4) : 0;
  return {
    kind: 'insn',
    bytes: [opcode, 0],
    fixups: [{ at: 1, size: 1, relative: true, target, addend: 0 }],
    flags: { reads, defines: 0, undefines: 0 },
    transfers: true,
  };
}

/** CALL (/2) or JMP (/4) through a register. */
export function throughRegister(kind: 'call' | 'jmp', register: number): Insn {
  const prefix = register >= 8 ? [0x41] : [];
  const field = kind === 'call' ? 0xd0 : 0xe0;
  return { ...raw([...prefix, 0xff, field | (register & 7)]), transfers: true, ...(kind === 'jmp' && { ends: true }) };
}

/** CALL or JMP through a quadword at an address, plus eight times an index register if there is one. */
export function throughMemory(kind: 'call' | 'jmp', address: number, index: number): Insn {
  const field = kind === 'call' ? 0x10 : 0x20;
  const prefix = index >= 8 ? [0x42] : [];
  const sib = index < 0 ? 0x25 : 0xc5 | ((index & 7) << 3);
  return {
    ...raw([...prefix, 0xff, field | 4, sib, 0, 0, 0, 0]),
    fixups: [absolute(address, prefix.length + 3)],
    transfers: true,
    ...(kind === 'jmp' && { ends: true }),
  };
}

export function ret(popped = 0): Insn {
  const bytes = popped === 0 ? [0xc3] : [0xc2, popped & 0xff, popped >> 8];
  return { ...raw(bytes), transfers: true, ends: true };
}

/** PUSH imm32 of an address, for RET to jump to. */
export function pushAddress(target: string): Insn {
  return { ...raw([0x68, 0, 0, 0, 0]), fixups: [absolute(target, 1)] };
}

/** MOV qword [cell], imm32 of an address. */
export function storeAddress(cell: number, target: string): Insn {
  return { ...raw([0x48, 0xc7, 0x04, 0x25, 0, 0, 0, 0, 0, 0, 0, 0]), fixups: [absolute(cell, 4), absolute(target, 8)] };
}

/** From now on a fault goes on at `target`. */
export const resumeAt = (target: string): Insn => storeAddress(RESUME_CELL, target);

/** MOV qword [cell], imm32. */
export function storeCell(cell: number, value: number): Insn {
  const bytes = [0x48, 0xc7, 0x04, 0x25, 0, 0, 0, 0, ...[0, 8, 16, 24].map((shift) => (value >> shift) & 0xff)];
  return { ...raw(bytes), fixups: [absolute(cell, 4)] };
}

/** INT3: the end. */
export const stop = (): Insn => ({ ...raw([0xcc]), transfers: true, ends: true });
