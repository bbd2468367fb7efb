/**
 * What instruction semantics are written against. A value `V` is opaque: a bigint in the oracle, a Wasm local or a
 * constant in the generators. Every operation that can be folded is folded when its inputs are constants, so a
 * generator that knows an operand at generation time passes it as a constant and the same semantics give better code.
 *
 * Order within a semantics function is the order of effects. The rule that makes faults precise: whatever can fault
 * (reads and writes of memory, `fault`, `helper`) comes before the first write of a register or of flags.
 */
import type { CpuField } from '../engine/state.ts';
import type { WasmOp } from '../wasm/ops.ts';

export type ValueType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';
export type Width = 1 | 2 | 4 | 8;
/** Shape of a memory access; narrow integers come back in an i32. The v128 forms of 4 and 8 bytes zero the rest. */
export type MemoryType = 'u8' | 's8' | 'u16' | 's16' | 'u32' | 'u64' | 'f32' | 'f64' | 'v128' | 'v128.32' | 'v128.64';

/** What is known about an operand when the instruction is bound to a handler. */
export interface OperandInfo {
  readonly kind: 'register' | 'high-byte' | 'memory' | 'immediate' | 'relative' | 'far' | 'segment' | 'control' | 'debug' | 'xmm' | 'mmx' | 'st'; // prettier-ignore
  /** Bytes; 10 for an 80-bit float, 16 for XMM, 32 for YMM, 0 where the semantics decide. */
  readonly size: number;
}

export interface Algebra<V> {
  /** Operand size in bytes: 1, 2, 4 or 8 (of the first operand that has the row's variable size, else of operand 0). */
  readonly size: Width;
  /** 8 in 64-bit mode, else 4: a row whose semantics differ (pushes, far transfers) asks. */
  readonly mode: 64 | 32;
  /** The row's `variant` column. */
  readonly variant: number;
  readonly operands: readonly OperandInfo[];
  /** LOCK was given (`update` is atomic then). */
  readonly locked: boolean;
  /** Address size in bytes; known only where `addressed` semantics ask (string instructions, LOOP, JRCXZ). */
  readonly addressSize: 2 | 4 | 8;
  readonly repeat: 'none' | 'rep' | 'repne';

  // Values -----------------------------------------------------------------------------------------------------------
  i32(value: number): V;
  i64(value: bigint | number): V;
  v128(bytes: Uint8Array): V;
  /** The constant of the integer type that holds `size` bytes. */
  constant(size: Width, value: bigint | number): V;
  /** Any numeric WebAssembly instruction without immediates, by its name in the text format. */
  op(name: WasmOp, ...args: V[]): V;
  /** Lane instructions: `i8x16.extract_lane_u` and the like. */
  lane(name: WasmOp, lane: number, ...args: V[]): V;
  shuffle(a: V, b: V, lanes: readonly number[]): V;

  // Integer operations by the type of their first argument (i32 or i64) ------------------------------------------------
  add(a: V, b: V): V;
  sub(a: V, b: V): V;
  mul(a: V, b: V): V;
  and(a: V, b: V): V;
  or(a: V, b: V): V;
  xor(a: V, b: V): V;
  not(a: V): V;
  /** Counts are of the type of `a` and taken modulo its width. */
  shl(a: V, b: V): V;
  shrU(a: V, b: V): V;
  shrS(a: V, b: V): V;
  rotl(a: V, b: V): V;
  rotr(a: V, b: V): V;
  clz(a: V): V;
  ctz(a: V): V;
  popcnt(a: V): V;
  /** Comparisons give i32 0 or 1. */
  eqz(a: V): V;
  eq(a: V, b: V): V;
  ne(a: V, b: V): V;
  ltU(a: V, b: V): V;
  ltS(a: V, b: V): V;
  /** High 64 bits of the 128-bit product of two i64. */
  mulHighU(a: V, b: V): V;
  mulHighS(a: V, b: V): V;
  /** i64 to i32; i32 to i64. */
  wrap(a: V): V;
  extendU(a: V): V;
  extendS(a: V): V;
  /** Low `size` bytes of an i32 or i64 as an i64, zero- or sign-extended. */
  zeroExtend(size: Width, a: V): V;
  signExtend(size: Width, a: V): V;
  /** An i64 cut to the type that holds `size` bytes (i32 for 1, 2, 4), upper bits zero. */
  truncate(size: Width, a: V): V;
  select(condition: V, ifTrue: V, ifFalse: V): V;

  /** An integer that is known when the code is made, in its signed form; undefined where it is known at run time only. */
  known(value: V): bigint | undefined;

  // Operands, registers, memory --------------------------------------------------------------------------------------
  /**
   * Value of operand `n`: integers zero-extended in i32 (1, 2, 4 bytes) or i64; immediates as their bits in the operand
   * size (sign-extended first where the row says so); XMM operands (and memory of an XMM operand: 4 and 8 bytes zero
   * the rest) as v128; MMX as i64; segment, control and debug registers: their number as a constant i32.
   */
  read(n: number): V;
  /** Writes operand `n`. 32-bit register writes zero the upper half. */
  write(n: number, value: V): void;
  /** Read-modify-write of operand `n`, atomic under LOCK or when `atomic` is set; returns the value that was written. */
  update(n: number, change: (old: V) => V, atomic?: boolean): V;
  /** The same on memory at a linear address. */
  updateMemory(address: V, size: Width, change: (old: V) => V, atomic?: boolean): V;
  /** Number of the source segment of a string instruction, overrides applied, i32. */
  segment(): V;
  /** Linear address of memory operand `n` as i64. */
  address(n: number): V;
  /** Offset (no segment base) of memory operand `n`, i64: LEA. */
  offset(n: number): V;
  load(type: MemoryType, address: V): V;
  store(type: MemoryType, address: V, value: V): void;
  /** `#GP(0)` when `address` is not a multiple of `bytes`. */
  aligned(address: V, bytes: number): void;
  /** General register by number; `size` bytes of it. */
  gpr(n: number, size: Width): V;
  setGpr(n: number, size: Width, value: V): void;
  xmm(n: number): V;
  /** The upper 16 bytes of vector register operand `n`; `read` and `write` of it are about the lower ones alone. */
  readHigh(n: number): V;
  writeHigh(n: number, value: V): void;
  /** The same by register number. */
  setYmmHigh(n: number, value: V): void;
  setXmm(n: number, value: V): void;
  /** Physical x87 register by a number (i32, 0 to 7): its significand as i64; sign and exponent as i32. */
  fprSignificand(n: V): V;
  fprExponent(n: V): V;
  setFpr(n: V, significand: V, exponent: V): void;
  /** A field of the state table by name: u16 and u32 as i32, u64 as i64. */
  field(name: CpuField): V;
  setField(name: CpuField, value: V): void;
  /** Value on the stack at stack offset `pointer` (i64). */
  stackRead(size: Width, pointer: V): V;
  /** Writes as much of RSP as the stack's size says. */
  setStackPointer(pointer: V): void;
  push(size: Width, value: V): void;
  /** Reads the top of the stack; `commit` moves the stack pointer past it (after everything that can fault). */
  pop(size: Width): { value: V; commit: () => void };

  // Flags ------------------------------------------------------------------------------------------------------------
  /** r = a - b (- borrow); also of NEG, CMP. Arguments are results of `size` bytes in their type. */
  flagsSub(size: Width, a: V, b: V, r: V): void;
  flagsAdd(size: Width, a: V, b: V, r: V): void;
  flagsLogic(size: Width, r: V): void;
  /** CF is kept. */
  flagsInc(size: Width, r: V): void;
  flagsDec(size: Width, r: V): void;
  /** `count` in the type of `a`, not zero, as masked by the instruction. */
  flagsShift(kind: 'shl' | 'shr' | 'sar', size: Width, a: V, count: V, r: V): void;
  /** ZF SF PF by result; CF, OF, AF given as i32 at their places in RFLAGS (`bits`). */
  flagsResult(size: Width, r: V, bits: V): void;
  /** Replaces the flags in `mask` by those of `bits` (i32, places as in RFLAGS); `mask` without ZF, SF, PF is cheap. */
  flagsChange(mask: number, bits: V): void;
  /** The six arithmetic flags at their places, i32. */
  flags(): V;
  /** CF as i32 0 or 1. */
  carry(): V;
  /** Condition code 0 to 15 (`CONDITIONS`) as i32 0 or 1. */
  condition(code: number): V;

  // Control ----------------------------------------------------------------------------------------------------------
  when(condition: V, then: () => void, otherwise?: () => void): void;
  /** `whole` gives an i32: not 0 when it has done the instruction, 0 when it has changed nothing and `instead` must do it. */
  attempt(whole: () => V, instead: () => void): void;
  /** Value of one of two computations, only the chosen one happening. */
  choose(type: ValueType, condition: V, then: () => V, otherwise: () => V): V;
  /** RIP of the next instruction, i64. */
  nextRip(): V;
  /** `#GP(0)` when `target` (i64) is no canonical address; nothing outside 64-bit mode. */
  canonicalTarget(target: V): void;
  /** Continues at `target` (i64, cut to the width that the mode and operand size ask). Last thing an instruction does. */
  jump(target: V): void;
  /** Continues at relative operand `n`. */
  jumpRelative(n: number): void;
  /** The instruction again (a string instruction between two steps): RIP stays. Last thing an instruction does. */
  again(): void;
  /** Raises `vector`; nothing after it happens. */
  fault(vector: number, errorCode?: number): void;
  faultWhen(condition: V, vector: number, errorCode?: number): void;
  /**
   * Calls a named helper over `CpuState` (`helpers/`). Arguments are integers (i32 are zero-extended). The helper may
   * fault, change any state, and change RIP. Its result is i64. Registers must not have been written before.
   */
  helper(name: string, ...args: V[]): V;
}

export type Semantics = <V>(e: Algebra<V>) => void;
