/** Places where a program faults, at once or after some rounds of a loop, and goes on behind. */
import type { Builder } from './builder.ts';
import { ALL_FLAGS } from './compare.ts';
import { little } from './encode.ts';
import { instructionOf, loadConstant, raw, RAX, RCX, RDI, RDX, RSI, RSP } from './instructions.ts';
import type { Insn } from './program.ts';
import { pushAddress, resumeAt, ret, throughRegister } from './transfers.ts';
import { ROWS } from '@xenhost/cpu';
import { CODE_BASE, CODE_PAGES, CONTROL_BASE, DATA_BASE, HOLE_BASE, PAGE, READONLY_BASE, STACK_BASE } from './world.ts';

const CODE_END = CODE_BASE + CODE_PAGES * PAGE;
const NOT_CANONICAL = 0x8000_1234_0000_0000n;

/** Instructions with a memory operand, to fault on. */
const WITH_MEMORY = ROWS.filter(
  (row) =>
    row.valid !== 'no64' && !row.vex && row.operands.some((o) => ['E', 'W', 'M'].includes(o.method)) &&
    /^(add|adc|sub|xor|cmp|test|mov|movzx|movsx|inc|neg|shl|imul2|cmov|setcc|xchg|xadd|cmpxchg|bts|movu|mova|movss|movsd|paddd|xmm\.paddd|addps|addsd|cvtsi2sd|x87\.load\.m64|x87\.store\.m64|x87\.load\.m80|x87\.arithmetic\.m32)$/.test(row.semantics),
); // prettier-ignore

/** Addresses that fault for reads or writes. */
function badAddress(b: Builder): bigint {
  const { random } = b;
  switch (random.below(8)) {
    case 0:
      return BigInt(HOLE_BASE + random.below(PAGE));
    case 1: // the last bytes of what is mapped
      return BigInt(READONLY_BASE + PAGE - 1 - random.below(8));
    case 2: // writes run from one page into one that may only be read
      return BigInt(READONLY_BASE - 1 - random.below(8));
    case 3:
      return BigInt(READONLY_BASE + random.below(PAGE - 16));
    case 4:
      return NOT_CANONICAL + BigInt(random.u32());
    case 5: // the first bytes are not mapped
      return BigInt(DATA_BASE - 1 - random.below(8));
    case 6:
      return (1n << 47n) - 64n - BigInt(random.below(12));
    default:
      return BigInt(STACK_BASE - 1 - random.below(64));
  }
}

/** Something that faults, with a label behind to go on at. Some of it may not fault after all. */
export function faultSite(b: Builder): void {
  const { random } = b;
  const after = b.newLabel();
  b.settleFlags();
  // Now and then nobody takes the fault: the program ends there.
  if (!random.chance(12)) b.emit(resumeAt(after));
  const kind = random.below(14);
  if (kind < 5) badAccess(b);
  else if (kind === 5) b.emit(...divisionByZero(b));
  else if (kind === 6) b.emit(raw(random.pick(INVALID)));
  else if (kind === 7) misaligned(b);
  else if (kind === 8) badTransfer(b);
  else if (kind === 9) badStack(b);
  else if (kind === 10) numericFault(b);
  else if (kind === 11) stringFault(b);
  else if (kind === 12) cutInstruction(b);
  else badAccess(b);
  b.label(after);
}

function badAccess(b: Builder): void {
  const { random } = b;
  const register = random.pick(b.free);
  const address = badAddress(b);
  b.emit(loadConstant(register, address));
  const row = random.pick(WITH_MEMORY);
  b.reserve([register], () => {
    const scope = { ...b.scope, pointers: [{ register, below: 0, above: 40 }] };
    for (let tries = 0; tries < 20; tries++) {
      const insns = instructionOf(scope, row, true);
      const [only] = insns;
      // The operand must be the bad one.
      if (insns.length !== 1 || !only || only.fixups.length > 0) continue;
      b.emit(only);
      return;
    }
  });
}

const division = { reads: 0, defines: 0, undefines: ALL_FLAGS };

function divisionByZero(b: Builder): Insn[] {
  const divisor = b.random.pick(b.free);
  const rex = 0x40 | (b.random.chance(2) ? 8 : 0) | (divisor >> 3);
  const clear = b.random.chance(2) ? [loadConstant(divisor, 0n)] : [];
  // Without the first it overflows or not, by what the registers happen to hold.
  const field = b.random.chance(2) ? 0xf0 : 0xf8;
  if (!b.free.includes(RAX) || !b.free.includes(RDX)) return [];
  return [...clear, raw([rex, 0xf7, field | (divisor & 7)], division)];
}

/** UD2, a LOCK that may not be, opcodes that are none, privileged ones, one of more than 15 bytes. */
const INVALID: readonly (readonly number[])[] = [
  [0x0f, 0x0b], [0xf0, 0x01, 0xc0], [0xf0, 0x8b, 0x00], [0x06], [0x0f, 0x04], [0x0f, 0xff, 0xc0], [0xf4], [0xfa], [0xec],
  [0x0f, 0x20, 0xc0], [0x0f, 0x30], [0x0f, 0x08], [0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90],
  [0x8c, 0xf8], [0x8e, 0xc8], [0xc6, 0xc8, 0x00], [0xfe, 0xd0], [0xff, 0xf8],
]; // prettier-ignore

/** MOVAPS, ADDPS or CMPXCHG16B of an address that is no multiple of 16. */
function misaligned(b: Builder): void {
  const { random } = b;
  const register = random.pick(b.free.filter((r) => r < 8));
  b.emit(loadConstant(register, BigInt(DATA_BASE + 16 * random.below(512) + 1 + random.below(15))));
  const modrm = register | (random.below(8) << 3);
  b.emit(
    raw(
      random.pick([
        [0x0f, 0x28, modrm],
        [0x0f, 0x29, modrm],
        [0x0f, 0x58, modrm],
        [0x66, 0x0f, 0xfe, modrm],
      ]),
    ),
  );
}

/** Control goes where nothing may be executed. */
function badTransfer(b: Builder): void {
  const { random } = b;
  const register = random.pick(b.free);
  const target = random.pick([BigInt(DATA_BASE + 64), BigInt(HOLE_BASE), NOT_CANONICAL, BigInt(CODE_END), 0n]);
  b.emit(loadConstant(register, target));
  if (random.chance(3)) {
    b.emit(throughRegister('jmp', register));
    return;
  }
  // How far CALL and RET get with the stack differs: it is put right behind.
  const saved = random.pick(b.free.filter((r) => r !== register));
  const behind = b.newLabel();
  b.emit(resumeAt(behind), saveStack(saved));
  if (random.chance(2)) b.emit(throughRegister('call', register));
  else b.emit(raw([...(register >= 8 ? [0x41] : []), 0x50 | (register & 7)]), ret(random.chance(2) ? 8 : 0));
  b.label(behind);
  b.emit(restoreStack(saved));
}

/** MOV saved, RSP. */
const saveStack = (saved: number): Insn => raw([0x48 | (saved >> 3), 0x89, 0xe0 | (saved & 7)]);
/** MOV RSP, saved. */
const restoreStack = (saved: number): Insn => raw([0x48 | ((saved >> 3) << 2), 0x89, 0xc4 | ((saved & 7) << 3)]);

/** PUSH, CALL or POP while RSP stands where nothing is. */
function badStack(b: Builder): void {
  const { random } = b;
  const saved = random.pick(b.free);
  const after = b.newLabel();
  const place = random.pick([BigInt(HOLE_BASE + 256), BigInt(STACK_BASE), NOT_CANONICAL, BigInt(STACK_BASE + 4)]);
  b.emit(resumeAt(after));
  b.emit(saveStack(saved), loadConstant(RSP, place));
  const operation = random.below(4);
  const register = random.pick(b.free.filter((r) => r !== saved));
  const extended = register >= 8 ? [0x41] : [];
  if (operation === 0) b.emit(raw([...extended, 0x50 | (register & 7)]));
  else if (operation === 1) b.emit(raw([...extended, 0x58 | (register & 7)]));
  else if (operation === 2) b.emit({ ...raw([0xe8, 0, 0, 0, 0]), transfers: true });
  else b.emit(pushAddress(after));
  b.label(after);
  b.emit(restoreStack(saved));
}

/** An unmasked floating-point exception: #XM, or #MF at the next waiting instruction. */
function numericFault(b: Builder): void {
  const { random } = b;
  const after = b.newLabel();
  b.emit(resumeAt(after));
  if (random.chance(2)) {
    // PUSH imm32; LDMXCSR [RSP]; a division of what is in some registers.
    b.emit(raw([0x68, ...little(0x1f80 & ~(0x80 << random.below(6)), 4)]), raw([0x0f, 0xae, 0x14, 0x24]));
    for (let n = 0; n < 3; n++) b.emit(raw([random.pick([0xf3, 0xf2, 0x66]), 0x0f, random.pick([0x5e, 0x51, 0x59, 0x58]), 0xc0 | random.below(64)])); // prettier-ignore
    b.label(after);
    b.emit(raw([0xc7, 0x04, 0x24, ...little(0x1f80, 4)]), raw([0x0f, 0xae, 0x14, 0x24]));
  } else {
    // PUSH imm32; FLDCW [RSP]; FLD1; FLDZ; FDIVP; FWAIT
    b.emit(raw([0x68, ...little(0x37b, 4)]), raw([0xdb, 0xe3]), raw([0xd9, 0x2c, 0x24]));
    b.emit(raw([0xd9, 0xe8]), raw([0xd9, 0xee]), raw([0xde, 0xf9]), raw([0x9b]));
    b.label(after);
    b.emit(raw([0xdb, 0xe3]));
  }
  // LEA RSP, [RSP+8]
  b.emit(raw([0x48, 0x8d, 0x64, 0x24, 8]));
}

/** REP MOVS or STOS that runs off what is mapped. */
function stringFault(b: Builder): void {
  const { random } = b;
  if (![RAX, RCX, RSI, RDI].every((r) => b.free.includes(r))) return;
  const end = random.chance(2) ? READONLY_BASE : CONTROL_BASE + PAGE;
  const rest = random.below(100);
  b.emit(loadConstant(RSI, BigInt(DATA_BASE + random.below(PAGE))), loadConstant(RDI, BigInt(end - rest)));
  if (end !== READONLY_BASE) b.emit(loadConstant(RDI, BigInt(READONLY_BASE - rest)));
  b.emit(loadConstant(RCX, BigInt(random.below(200))));
  const wide = random.chance(2) ? [0x48] : [];
  b.emit(raw([0xf3, ...wide, random.pick([0xa4, 0xaa]) | (wide.length > 0 ? 1 : 0)]));
}

/** Jumps to the last bytes of code, behind which nothing is mapped. */
function cutInstruction(b: Builder): void {
  const register = b.random.pick(b.free);
  b.emit(loadConstant(register, BigInt(CODE_END - 1 - b.random.below(4))));
  b.emit(throughRegister('jmp', register));
}
