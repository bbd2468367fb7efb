/**
 * The stores to page tables that kernels make all the time, done with numbers: what `pt-emulate.ts` does for MOV, XCHG,
 * CMPXCHG, AND, OR and XOR of 64-bit code whose operand is in a general register or immediate. An instruction is decoded
 * once for as long as its bytes stay the same; the entry is found by the engine's TLB. Whatever is out of the ordinary is
 * left, unchanged, to the general way.
 */
import { decodeInstruction, MAX_INSTRUCTION_LENGTH, OFFSET, REGISTER_NAMES, RFLAGS } from '@xenhost/cpu';
import type { CpuState, Engine, Instruction } from '@xenhost/cpu';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { VcpuRef } from '../state/refs.ts';
import { MISMATCH } from './entries.ts';
import { highHalf, lowHalf } from './pte.ts';
import type { Halves } from './tables.ts';

const PAGE_SIZE = 4096;
const PAGE_MASK = 4095;
const TWO_32 = 2 ** 32;
const NEXT_RIP = -2;
const NO_REGISTER = -1;
/** Segment registers by encoding: from these on they have bases. */
const SEGMENT_FS = 4;
const MAX_KNOWN = 256;

const FLAG = {
  cf: Number(RFLAGS.cf), pf: Number(RFLAGS.pf), af: Number(RFLAGS.af), zf: Number(RFLAGS.zf), sf: Number(RFLAGS.sf),
  of: Number(RFLAGS.of), rf: Number(RFLAGS.rf),
} as const; // prettier-ignore
const ARITHMETIC = FLAG.cf | FLAG.pf | FLAG.af | FLAG.zf | FLAG.sf | FLAG.of;

/** Indices of 32-bit words of the engine's state. */
const REGISTERS = REGISTER_NAMES.map((name) => OFFSET[name] / 4);
const RIP = OFFSET.rip / 4;
const RAX = OFFSET.rax / 4;

const OPERATIONS = ['mov', 'xchg', 'cmpxchg', 'and', 'or', 'xor'] as const;
type Operation = (typeof OPERATIONS)[number];
const isOperation = (semantics: string): semantics is Operation =>
  (OPERATIONS as readonly string[]).includes(semantics);

/** An instruction as far as it is needed here. */
interface Plain {
  readonly operation: Operation;
  readonly bytes: Uint8Array;
  /** Bytes of the operand: 1, 2, 4 or 8. */
  readonly size: number;
  /** Registers of the address as word indices, NO_REGISTER, or NEXT_RIP. */
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly displacement: Halves;
  /** Where the operand is; NO_REGISTER: `immediate`. */
  readonly register: number;
  readonly immediate: Halves;
}

/**
 * Stores into an entry of a frame that the guest has mapped, for the vCPU's domain; `expected`: only if the entry holds
 * that. 0, `MISMATCH`, or negative when it is refused.
 */
export type EntryStore = (
  vcpu: VcpuRef,
  place: { readonly table: number; readonly slot: number },
  value: Halves,
  expected: Halves | undefined,
) => number;

export class PlainStores {
  readonly #memory: MachineMemory;
  readonly #store: EntryStore;
  /** By machine address; undefined for one that is not plain, with the bytes that say so. */
  readonly #known = new Map<number, { readonly bytes: Uint8Array; readonly plain: Plain | undefined }>();
  #state: CpuState | undefined;
  #words: Int32Array = new Int32Array(0);

  constructor(memory: MachineMemory, store: EntryStore) {
    this.#memory = memory;
    this.#store = store;
  }

  /**
   * True when the instruction at RIP, which faulted at `address`, is done or is to be tried again; false when nothing was
   * done: the general way decides.
   */
  emulate(vcpu: VcpuRef, engine: Engine, address: bigint): boolean {
    const { state } = engine;
    if (state !== this.#state) {
      this.#state = state;
      this.#words = new Int32Array(state.dv.buffer);
    }
    const plain = this.#instruction(engine);
    if (!plain) return false;
    const words = this.#words;
    const { lo, hi } = this.#linear(plain);
    if ((lo & (plain.size - 1)) !== 0 || (lo ^ lowHalf(address)) >>> 12 !== 0 || hi >>> 0 !== highHalf(address))
      return false;
    const host = engine.hostAddress(lo | 0, hi | 0, false);
    if (host < 0) return false;
    const entry = Math.floor(host / 8) * 2;
    const current = { lo: this.#memory.u32[entry] ?? 0, hi: this.#memory.u32[entry + 1] ?? 0 };
    // The operand's part of the entry: all of it, or some bytes of one half.
    const isWhole = plain.size === 8;
    const inHigh = (lo & 4) !== 0;
    const shift = (lo & 3) * 8;
    const mask = plain.size >= 4 ? 0xffff_ffff : ((1 << (plain.size * 8)) - 1) << shift;
    const old = isWhole ? current : { lo: (((inHigh ? current.hi : current.lo) & mask) >>> shift), hi: 0 }; // prettier-ignore
    const wanted = this.#result(plain, old);
    if (!wanted) return false;
    let value = wanted;
    if (!isWhole) {
      const half = (inHigh ? current.hi : current.lo) & ~mask;
      const merged = (half | ((wanted.lo << shift) & mask)) >>> 0;
      value = inHigh ? { lo: current.lo, hi: merged } : { lo: merged, hi: current.hi };
    }
    const place = { table: Math.floor(host / PAGE_SIZE), slot: (host & PAGE_MASK) >>> 3 };
    const result = this.#store(vcpu, place, value, plain.operation === 'mov' ? undefined : current);
    // The entry changed under us: the instruction faults again and is done then.
    if (result === MISMATCH) return true;
    if (result !== 0) return false;
    this.#retire(plain, state, old, wanted);
    const rip = ((words[RIP] ?? 0) >>> 0) + plain.bytes.length;
    words[RIP] = rip;
    if (rip >= TWO_32) words[RIP + 1]!++;
    if ((state.eflags & FLAG.rf) !== 0) state.flags32 = state.flags32 & ~FLAG.rf;
    return true;
  }

  /** The instruction at RIP, its bytes read once; undefined when it is none of these or not plainly there. */
  #instruction(engine: Engine): Plain | undefined {
    const words = this.#words;
    const low = words[RIP] ?? 0;
    if ((low & PAGE_MASK) > PAGE_SIZE - MAX_INSTRUCTION_LENGTH) return undefined;
    const host = engine.hostAddress(low, words[RIP + 1] ?? 0, false);
    if (host < 0) return undefined;
    const { u8 } = this.#memory;
    const known = this.#known.get(host);
    if (known && isSame(u8, host, known.bytes)) return known.plain;
    const read = u8.slice(host, host + MAX_INSTRUCTION_LENGTH);
    const decoded = decodeInstruction(read, 64);
    if (typeof decoded === 'string') return undefined;
    const bytes = read.slice(0, decoded.length);
    const plain = plainOf(decoded, bytes);
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(host, { bytes, plain });
    return plain;
  }

  #linear({ base, index, scale, displacement, bytes }: Plain): Halves {
    const words = this.#words;
    let lo = displacement.lo;
    let hi = displacement.hi;
    if (base !== NO_REGISTER) {
      const at = base === NEXT_RIP ? RIP : base;
      lo += ((words[at] ?? 0) >>> 0) + (base === NEXT_RIP ? bytes.length : 0);
      hi += words[at + 1] ?? 0;
    }
    if (index !== NO_REGISTER) {
      lo += ((words[index] ?? 0) >>> 0) * scale;
      hi += (words[index + 1] ?? 0) * scale;
    }
    return { lo: lo >>> 0, hi: (hi + Math.floor(lo / TWO_32)) | 0 };
  }

  /** What the operation makes of the old operand; undefined for a CMPXCHG that finds something else. */
  #result(plain: Plain, old: Halves): Halves | undefined {
    const operand = this.#operand(plain);
    switch (plain.operation) {
      case 'mov':
      case 'xchg':
        return operand;
      case 'cmpxchg': {
        const accumulator = this.#register(RAX, plain.size);
        return accumulator.lo === old.lo && accumulator.hi === old.hi ? operand : undefined;
      }
      case 'and':
        return { lo: (old.lo & operand.lo) >>> 0, hi: (old.hi & operand.hi) >>> 0 };
      case 'or':
        return { lo: (old.lo | operand.lo) >>> 0, hi: (old.hi | operand.hi) >>> 0 };
      case 'xor':
        return { lo: (old.lo ^ operand.lo) >>> 0, hi: (old.hi ^ operand.hi) >>> 0 };
    }
  }

  #operand({ register, immediate, size }: Plain): Halves {
    return register === NO_REGISTER ? immediate : this.#register(register, size);
  }

  #register(at: number, size: number): Halves {
    const lo = (this.#words[at] ?? 0) >>> 0;
    if (size === 8) return { lo, hi: (this.#words[at + 1] ?? 0) >>> 0 };
    return { lo: size === 4 ? lo : lo & ((1 << (size * 8)) - 1), hi: 0 };
  }

  /** What the instruction leaves in registers and flags, RIP and RF apart. */
  #retire({ operation, register, size }: Plain, state: CpuState, old: Halves, value: Halves): void {
    const words = this.#words;
    switch (operation) {
      case 'mov':
        return;
      case 'xchg': {
        const mask = size >= 4 ? -1 : (1 << (size * 8)) - 1;
        words[register] = ((words[register] ?? 0) & ~mask) | old.lo;
        if (size >= 4) words[register + 1] = old.hi;
        return;
      }
      case 'cmpxchg':
        state.flags32 = (state.eflags & ~ARITHMETIC) | FLAG.zf | FLAG.pf;
        return;
      default:
        state.flags32 = (state.eflags & ~ARITHMETIC) | logicFlags(value, size);
    }
  }
}

function isSame(u8: Uint8Array, at: number, bytes: Uint8Array): boolean {
  for (let i = 0; i < bytes.length; i++) if (u8[at + i] !== bytes[i]) return false;
  return true;
}

function plainOf(i: Instruction, bytes: Uint8Array): Plain | undefined {
  const { semantics } = i.row;
  if (!isOperation(semantics) || i.addressSize !== 8) return undefined;
  const memory = i.operands.find((operand) => operand.kind === 'memory');
  // A load never faults for a read-only page; only XCHG names its operands in either order.
  if (!memory || (i.operands[0] !== memory && semantics !== 'xchg') || memory.segment >= SEGMENT_FS) return undefined;
  const size = memory.size === 0 ? i.operandSize : memory.size;
  const other = i.operands.find((operand) => operand.kind === 'register' || operand.kind === 'immediate');
  if (size > 8 || !other || (other.kind === 'register' && other.high)) return undefined;
  const value = other.kind === 'immediate' ? BigInt.asUintN(size * 8, other.value) : 0n;
  return {
    operation: semantics, bytes, size,
    base: memory.base === NEXT_RIP ? NEXT_RIP : wordOf(memory.base),
    index: wordOf(memory.index),
    scale: memory.scale,
    displacement: { lo: lowHalf(memory.displacement), hi: highHalf(memory.displacement) },
    register: other.kind === 'register' ? wordOf(other.register) : NO_REGISTER,
    immediate: { lo: lowHalf(value), hi: highHalf(value) },
  }; // prettier-ignore
}

const wordOf = (register: number): number => REGISTERS[register] ?? NO_REGISTER;

/** ZF, SF and PF of a result; CF, OF and AF are 0. */
function logicFlags({ lo, hi }: Halves, size: number): number {
  const sign = size === 8 ? hi >>> 31 : (lo >>> (size * 8 - 1)) & 1;
  let parity = lo & 0xff;
  parity ^= parity >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return ((lo | hi) === 0 ? FLAG.zf : 0) | (sign ? FLAG.sf : 0) | ((parity & 1) === 0 ? FLAG.pf : 0);
}
