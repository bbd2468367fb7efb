/**
 * Writable page tables (VMASST_TYPE_writable_pagetables): a kernel's store to one of its L1 tables, which it has mapped
 * read-only, is done for it as if by mmu_update. Decoding is the CPU package's; the few instructions that kernels use
 * on entries are here: MOV, XCHG, CMPXCHG, AND, OR, XOR, BTS, BTR. Anything else gets its page fault.
 */
import { decodeInstruction, MAX_INSTRUCTION_LENGTH, REGISTER_NAMES, RFLAGS } from '@xenhost/cpu';
import type { Engine, Instruction, MemoryOperand, Operand } from '@xenhost/cpu';
import type { DomainRef, VcpuRef } from '../state/refs.ts';
import type { PtWriteResult } from './api.ts';

const ASSIST_WRITABLE_PAGETABLES = 1 << 2;
const NEXT_RIP = -2;
const SEGMENT_FS = 4;
const SEGMENT_GS = 5;
const ARITHMETIC = RFLAGS.cf | RFLAGS.pf | RFLAGS.af | RFLAGS.zf | RFLAGS.sf | RFLAGS.of;

type Store = (vcpu: VcpuRef, linear: bigint, size: number, value: bigint, expected?: bigint) => PtWriteResult;

/** What an instruction does with the entry: the new value from the old one, and what follows when it was stored. */
interface Effect {
  readonly value: bigint;
  /** The store happens only when the entry still holds what was read. */
  readonly isExchange: boolean;
  retire(): void;
}

/** The domain wants its stores to page tables done for it. */
export const hasWritableTables = (domain: DomainRef): boolean => (domain.v.vmAssist & ASSIST_WRITABLE_PAGETABLES) !== 0;

export class PtEmulator {
  readonly #store: Store;
  constructor(store: Store) {
    this.#store = store;
  }

  /** True when the instruction is done (RIP past it) or is to be tried again; false when the guest gets its #PF. */
  emulate(vcpu: VcpuRef, engine: Engine, address: bigint): boolean {
    const instruction = fetch(engine);
    if (!instruction) return false;
    const memory = instruction.operands.find((operand) => operand.kind === 'memory');
    if (!memory) return false;
    const isBitString = instruction.row.semantics === 'bts' || instruction.row.semantics === 'btr';
    const size = memory.size === 0 ? instruction.operandSize : memory.size;
    if (size > 8) return false;
    const bitOffset = isBitString ? bitNumber(engine, instruction, size) : 0n;
    if (bitOffset === undefined) return false;
    const words = bitOffset >> BigInt(Math.log2(size * 8));
    const linear = BigInt.asUintN(64, linearAddress(engine, instruction, memory) + words * BigInt(size));
    if (linear >> 12n !== address >> 12n || (linear & BigInt(size - 1)) !== 0n) return false;
    const bytes = new Uint8Array(8);
    if (engine.readVirtual(linear, bytes.subarray(0, size), true)) return false;
    const current = new DataView(bytes.buffer).getBigUint64(0, true);
    const effect = effectOf(engine, instruction, size, current, bitOffset);
    if (!effect) return false;
    const result = this.#store(vcpu, linear, size, effect.value, effect.isExchange ? current : undefined);
    if (result.kind === 'refused') return false;
    // The entry changed under us: the instruction faults again and is done then.
    if (result.kind === 'mismatch') return true;
    effect.retire();
    engine.state.rip = BigInt.asUintN(64, engine.state.rip + BigInt(instruction.length));
    engine.state.rflags &= ~RFLAGS.rf;
    return true;
  }
}

function fetch(engine: Engine): Instruction | undefined {
  const { rip } = engine.state;
  const bytes = new Uint8Array(MAX_INSTRUCTION_LENGTH);
  let length = MAX_INSTRUCTION_LENGTH;
  if (engine.readVirtual(rip, bytes, true)) {
    // The rest of the page, when the next one is not there.
    length = Math.min(length, 4096 - Number(rip & 0xfffn));
    if (engine.readVirtual(rip, bytes.subarray(0, length), true)) return undefined;
  }
  const decoded = decodeInstruction(bytes.subarray(0, length), 64);
  return typeof decoded === 'string' ? undefined : decoded;
}

function linearAddress(engine: Engine, i: Instruction, operand: MemoryOperand): bigint {
  const { state } = engine;
  let address = operand.displacement;
  if (operand.base === NEXT_RIP) address += state.rip + BigInt(i.length);
  else if (operand.base >= 0) address += register(engine, operand.base);
  if (operand.index >= 0) address += register(engine, operand.index) * BigInt(operand.scale);
  address = BigInt.asUintN(i.addressSize * 8, address);
  if (operand.segment === SEGMENT_FS) address += state.fsBase;
  if (operand.segment === SEGMENT_GS) address += state.gsBase;
  return BigInt.asUintN(64, address);
}

function register(engine: Engine, n: number): bigint {
  const name = REGISTER_NAMES[n];
  return name ? engine.state[name] : 0n;
}

/** Writes a register as an instruction of that operand size does: 32 bits clear the upper half. */
function setRegister(engine: Engine, n: number, size: number, value: bigint): void {
  const name = REGISTER_NAMES[n];
  if (!name) return;
  const mask = (1n << BigInt(size * 8)) - 1n;
  engine.state[name] = size >= 4 ? value & mask : (engine.state[name] & ~mask) | (value & mask);
}

/** Value of the operand that is not memory; undefined for kinds not dealt with. */
function source(engine: Engine, operands: readonly Operand[], size: number): bigint | undefined {
  const operand = operands.find((o) => o.kind === 'register' || o.kind === 'immediate');
  if (operand?.kind === 'immediate') return BigInt.asUintN(size * 8, operand.value);
  if (operand?.kind !== 'register' || operand.high) return undefined;
  return BigInt.asUintN(size * 8, register(engine, operand.register));
}

function bitNumber(engine: Engine, i: Instruction, size: number): bigint | undefined {
  const operand = i.operands.find((o) => o.kind === 'register' || o.kind === 'immediate');
  if (operand?.kind === 'immediate') return operand.value & BigInt(size * 8 - 1);
  return operand?.kind === 'register' ? BigInt.asIntN(size * 8, register(engine, operand.register)) : undefined;
}

function effectOf(engine: Engine, i: Instruction, size: number, current: bigint, bit: bigint): Effect | undefined {
  const { state } = engine;
  const { semantics } = i.row;
  // Loads never fault on a read-only page; a store has memory first.
  if (i.operands[0]?.kind !== 'memory' && semantics !== 'xchg') return undefined;
  const operand = source(engine, i.operands, size);
  if (operand === undefined) return undefined;
  const other = i.operands.find((o) => o.kind === 'register');
  switch (semantics) {
    case 'mov':
      return { value: operand, isExchange: false, retire: () => undefined };
    case 'xchg':
      if (other?.kind !== 'register') return undefined;
      return {
        value: operand, isExchange: true,
        retire: () => { setRegister(engine, other.register, size, current); },
      }; // prettier-ignore
    case 'and':
    case 'or':
    case 'xor': {
      const value =
        semantics === 'and' ? current & operand : semantics === 'or' ? current | operand : current ^ operand;
      return {
        value, isExchange: true,
        retire: () => { state.rflags = (state.rflags & ~ARITHMETIC) | resultFlags(value, size); },
      }; // prettier-ignore
    }
    case 'bts':
    case 'btr': {
      const mask = 1n << (BigInt.asUintN(64, bit) & BigInt(size * 8 - 1));
      const wasSet = (current & mask) !== 0n;
      return {
        value: semantics === 'bts' ? current | mask : current & ~mask, isExchange: true,
        retire: () => { state.rflags = wasSet ? state.rflags | RFLAGS.cf : state.rflags & ~RFLAGS.cf; },
      }; // prettier-ignore
    }
    case 'cmpxchg':
      return compareExchange(engine, size, current, operand);
    default:
      return undefined;
  }
}

function compareExchange(engine: Engine, size: number, current: bigint, value: bigint): Effect {
  const { state } = engine;
  const accumulator = BigInt.asUintN(size * 8, state.rax);
  const flags = compareFlags(accumulator, current, size);
  const equal = accumulator === current;
  return {
    // An unequal entry is written back as it is, as the CPU does.
    value: equal ? value : current,
    isExchange: true,
    retire: () => {
      state.rflags = (state.rflags & ~ARITHMETIC) | flags;
      if (!equal) setRegister(engine, 0, size, current);
    },
  };
}

function resultFlags(value: bigint, size: number): bigint {
  let flags = value === 0n ? RFLAGS.zf : 0n;
  if (((value >> BigInt(size * 8 - 1)) & 1n) !== 0n) flags |= RFLAGS.sf;
  let low = Number(value & 0xffn);
  low ^= low >> 4;
  low ^= low >> 2;
  low ^= low >> 1;
  return (low & 1) === 0 ? flags | RFLAGS.pf : flags;
}

function compareFlags(a: bigint, b: bigint, size: number): bigint {
  const bits = size * 8;
  const difference = BigInt.asUintN(bits, a - b);
  let flags = resultFlags(difference, size);
  if (a < b) flags |= RFLAGS.cf;
  if (((a ^ b) & (a ^ difference)) >> BigInt(bits - 1) !== 0n) flags |= RFLAGS.of;
  if (((a ^ b ^ difference) & 0x10n) !== 0n) flags |= RFLAGS.af;
  return flags;
}
