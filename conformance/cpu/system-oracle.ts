/**
 * The evaluator with the rest of a processor around it: privilege, segments outside 64-bit mode, paging by a walk for
 * each access (no TLB), delivery through the guest's IDT. Runs a case until an exit.
 */
/* eslint-disable @typescript-eslint/only-throw-error -- a guest's fault travels as GuestFault, as in the engines */
import { ExitReason, decodeInstruction, type Instruction, type MemoryOperand } from '@xenhost/cpu';
import { ATTR, CPU_STATE_SIZE, type CpuState } from '../../packages/cpu/src/engine/state.ts';
import { ACCESS_FETCH, ACCESS_USER, ACCESS_WRITE, Mmu, highHalf, lowHalf } from '../../packages/cpu/src/mmu/walk.ts';
import type { Width } from '../../packages/cpu/src/semantics/algebra.ts';
import { GuestFault, VECTOR, type ExitDetails, type HelperContext } from '../../packages/cpu/src/semantics/helper.ts';
import { CR0, CR4, checkSegment, is64Bit, isCanonical, setStackPointer, stackMaskOf, stackRead, stackWrite } from '../../packages/cpu/src/semantics/helpers/addressing.ts'; // prettier-ignore
import { deliverEvent, type DeliveredEvent } from '../../packages/cpu/src/semantics/helpers/deliver.ts';
import { SEMANTICS } from '../../packages/cpu/src/semantics/index.ts';
import { Evaluator, Jumped, semanticSize, type ProbedMemory } from './evaluator.ts';
import { MACHINE_BYTES } from './system-world.ts';

const PAGE = 4096;
const FLAG = { tf: 0x100, if: 0x200, rf: 0x10000, ac: 0x40000 } as const;
const CR0_AM = 1n << 18n;
const DR6_SINGLE_STEP = 0x4000n;
const MAX_INSTRUCTION = 15;
const MAX_STEPS = 64;

/** Machine memory behind the paging of a state. */
class PagedMemory implements ProbedMemory {
  readonly bytes = new Uint8Array(MACHINE_BYTES);
  readonly view = new DataView(this.bytes.buffer);
  private readonly mmu = new Mmu(this.bytes.buffer, MACHINE_BYTES / PAGE);
  state!: CpuState;

  /** Machine address of one byte. */
  translate(address: bigint, access: number, system = false): number {
    const { mmu, state } = this;
    mmu.configure(state);
    if (mmu.paging === 'four-level' && !isCanonical(address)) throw new GuestFault(VECTOR.generalProtection, 0);
    const rights = access | (state.cpl === 3 && !system ? ACCESS_USER : 0);
    const open = !system && (state.eflags & FLAG.ac) !== 0;
    if (!mmu.walk(lowHalf(address), highHalf(address), rights, open)) throw new GuestFault(VECTOR.pageFault, mmu.errorCode, address); // prettier-ignore
    return mmu.last.frame * PAGE + Number(address & 0xfffn);
  }
  private places(address: bigint, size: number, isWrite: boolean, system = false): number[] {
    const access = isWrite ? ACCESS_WRITE : 0;
    const list: number[] = [];
    for (let n = 0; n < size; n++) list.push(this.translate(BigInt.asUintN(64, address + BigInt(n)), access, system));
    return list;
  }
  probe(address: bigint, size: number, isWrite: boolean): void {
    this.places(address, size, isWrite);
  }
  span(): undefined {
    return undefined;
  }
  read(address: bigint, size: number, system = false): bigint {
    return this.places(address, size, false, system).reduceRight((value, at) => (value << 8n) | BigInt(this.bytes[at] ?? 0), 0n); // prettier-ignore
  }
  write(address: bigint, size: number, value: bigint, system = false): void {
    this.places(address, size, true, system).forEach((at, n) => {
      this.bytes[at] = Number((value >> BigInt(8 * n)) & 0xffn);
    });
  }
  readBytes(address: bigint, into: Uint8Array): void {
    this.places(address, into.length, false).forEach((at, n) => {
      into[n] = this.bytes[at] ?? 0;
    });
  }
  writeBytes(address: bigint, from: Uint8Array): void {
    this.places(address, from.length, true).forEach((at, n) => {
      this.bytes[at] = from[n] ?? 0;
    });
  }
}

/** How a run ended; as the engine's exit. */
export interface Ending {
  readonly reason: ExitReason;
  readonly details: ExitDetails;
}

const XCR0_SSE_AVX = 6n;

export class SystemOracle extends Evaluator {
  override mode: 64 | 32 = 64;
  readonly machine: PagedMemory;
  private readonly monitor: boolean;
  private ending: Ending | undefined;
  private pastInstruction = false;

  constructor(monitor: boolean) {
    const memory = new PagedMemory();
    super(memory);
    this.machine = memory;
    this.monitor = monitor;
    memory.state = this.state;
  }

  start(from: CpuState, memory: Uint8Array): void {
    this.state.u8.set(from.u8.subarray(from.base, from.base + CPU_STATE_SIZE));
    this.machine.bytes.set(memory);
  }

  /** Runs until something ends it. */
  run(): Ending {
    this.ending = undefined;
    for (let steps = 0; steps < MAX_STEPS; steps++) {
      const { state } = this;
      if (state.interruptWindow !== 0 && state.interruptShadow === 0 && state.eflags & FLAG.if)
        return { reason: ExitReason.interruptWindow, details: {} };
      const before = this.state.u8.slice(0, CPU_STATE_SIZE);
      try {
        this.instructionStep();
      } catch (e) {
        if (!(e instanceof GuestFault)) throw e;
        // A fault leaves the state as the instruction found it, but for what string instructions have done.
        const { dr6, dr7 } = state;
        state.u8.set(before);
        if (e.vector === VECTOR.debug) Object.assign(state, { dr6, dr7 });
        this.raise(e);
      }
      const ending = this.endingNow();
      if (ending) return ending;
    }
    return { reason: ExitReason.budget, details: {} };
  }

  private endingNow(): Ending | undefined {
    return this.ending;
  }
  private raise(fault: GuestFault): void {
    const { state } = this;
    if (fault.vector === VECTOR.pageFault) state.cr2 = fault.address;
    const { vector, errorCode } = fault;
    if (this.monitor) {
      const details = errorCode >= 0 ? { vector, errorCode } : { vector };
      this.ending = { reason: ExitReason.exception, details };
      return;
    }
    this.deliverEvent({ vector, errorCode, kind: 'fault' });
  }
  private deliverEvent(event: DeliveredEvent): void {
    const { state } = this;
    this.jumpTarget = undefined;
    if (deliverEvent(this.helperContext(), event) === 'shutdown') {
      this.ending = { reason: ExitReason.tripleFault, details: {} };
      return;
    }
    // Typed anew: the delivery set it behind the compiler's back.
    const target = this.jumpTarget as bigint | undefined;
    state.rip = target ?? state.rip;
  }

  private instructionStep(): void {
    const { state } = this;
    const { tf, rf } = FLAG;
    const trap = (state.eflags & tf) !== 0;
    const resume = (state.eflags & rf) !== 0;
    this.mode = is64Bit(state) ? 64 : 32;
    state.stackMask = stackMaskOf(state);
    // Every segment is checked outside 64-bit mode; nothing is known to be flat.
    state.segmentCheck = this.mode === 64 ? 0 : 0x3f;
    const instruction = this.fetch();
    this.begin(instruction);
    state.interruptShadow = 0;
    if (instruction.row.feature === 'avx') this.checkAvx();
    try {
      const semantics = SEMANTICS[instruction.row.semantics];
      if (!semantics) throw new Error(`no semantics '${instruction.row.semantics}'`);
      semantics(this);
    } catch (e) {
      if (!(e instanceof Jumped)) throw e;
    }
    if (this.ending) {
      if (this.pastInstruction) state.rip = this.nextRipValue;
      return;
    }
    state.rip = this.jumpTarget ?? this.nextRipValue;
    if (resume) state.eflags &= ~rf;
    if (trap) {
      state.dr6 |= DR6_SINGLE_STEP;
      this.raise(new GuestFault(VECTOR.debug));
    }
  }
  /** Intel SDM vol. 2, 2.4: OSXSAVE, SSE and AVX in XCR0; then CR0.TS. */
  private checkAvx(): void {
    const { state } = this;
    if (!(state.cr4 & CR4.osxsave) || (state.xcr0 & XCR0_SSE_AVX) !== XCR0_SSE_AVX) this.fault(VECTOR.invalidOpcode);
    if (state.cr0 & CR0.ts) this.fault(VECTOR.deviceNotAvailable);
  }
  private begin(instruction: Instruction): void {
    const { state } = this;
    this.instruction = instruction;
    this.operands = instruction.operands;
    this.size = semanticSize(instruction);
    this.nextRipValue = state.rip + BigInt(instruction.length);
    if (this.mode === 32) this.nextRipValue &= 0xffff_ffffn;
    this.jumpTarget = undefined;
    this.pastInstruction = false;
    instruction.operands.forEach((operand, n) => {
      if (operand.kind === 'memory') this.addresses[n] = this.linear(operand);
    });
  }
  private fetch(): Instruction {
    const { state, machine } = this;
    const base = this.mode === 64 ? 0n : state.csBase;
    const code = this.mode === 64 ? 64 : state.csAttributes & ATTR.big ? 32 : 16;
    const bytes: number[] = [];
    for (let n = 0; n < MAX_INSTRUCTION; n++) {
      bytes.push(machine.bytes[machine.translate(base + state.rip + BigInt(n), ACCESS_FETCH)] ?? 0);
      const decoded = decodeInstruction(Uint8Array.from(bytes), code);
      if (decoded === 'invalid') throw new GuestFault(VECTOR.invalidOpcode);
      if (typeof decoded !== 'string') return decoded;
    }
    throw new GuestFault(VECTOR.generalProtection, 0);
  }

  // Segmentation outside 64-bit mode -----------------------------------------------------------------------------------
  protected override linear(operand: MemoryOperand): bigint {
    if (this.mode === 64) return super.linear(operand);
    const offset = this.operandOffset(operand);
    if (this.instruction.row.semantics === 'lea') return offset;
    return (offset + this.state.segmentBase(operand.segment)) & 0xffff_ffffn;
  }
  private operandOffset(operand: MemoryOperand): bigint {
    const { state } = this;
    const base = operand.base >= 0 ? state.gpr(operand.base) : 0n;
    const index = operand.index >= 0 ? state.gpr(operand.index) * BigInt(operand.scale) : 0n;
    return (base + index + operand.displacement) & (this.instruction.addressSize === 2 ? 0xffffn : 0xffff_ffffn);
  }
  protected override checkAccess(address: bigint, size: number, isWrite: boolean): void {
    const { state } = this;
    if (state.cpl === 3 && state.eflags & FLAG.ac && state.cr0 & CR0_AM && address % BigInt(Math.min(size, 8)) !== 0n)
      this.fault(VECTOR.alignmentCheck, 0);
    if (this.mode === 64) return;
    const at = this.operands.findIndex((operand, n) => operand.kind === 'memory' && this.addresses[n] === address);
    const operand = this.instruction.operands[at];
    if (operand?.kind === 'memory') checkSegment(this.helperContext(), operand.segment, this.operandOffset(operand), size, isWrite); // prettier-ignore
  }
  override stackRead(size: Width, pointer: Value): Value {
    if (this.mode === 64) return super.stackRead(size, pointer);
    const bits = stackRead(this.helperContext(), pointer.bits, size);
    return size === 8 ? this.i64(bits) : this.i32(Number(bits));
  }
  override push(size: Width, value: Value): void {
    if (this.mode === 64) {
      super.push(size, value);
      return;
    }
    const pointer = this.state.rsp - BigInt(size);
    stackWrite(this.helperContext(), pointer, size, value.bits);
    setStackPointer(this.state, pointer);
  }
  override setStackPointer(pointer: Value): void {
    setStackPointer(this.state, pointer.bits);
  }
  override read(n: number): Value {
    const operand = this.operand(n);
    return operand.kind === 'far' ? this.i64(BigInt(operand.offset >>> 0)) : super.read(n);
  }
  override segment(): Value {
    const far = this.instruction.operands.find((operand) => operand.kind === 'far');
    return far?.kind === 'far' ? this.i32(far.selector) : super.segment();
  }
  override jump(target: Value): never {
    if (this.mode === 64) super.jump(target);
    this.jumpTarget = target.bits & (this.size === 2 ? 0xffffn : 0xffff_ffffn);
    throw new Jumped();
  }

  protected override helperContext(): HelperContext {
    const { state, machine } = this;
    return {
      state,
      memory: machine,
      monitor: this.monitor,
      nextRip: this.nextRipValue,
      length: 0,
      cpuid: (leaf, subleaf) => ({ eax: leaf, ebx: subleaf, ecx: 3, edx: 4 }),
      readTsc: () => 0x1_0000_0002n,
      fault: (vector, errorCode) => this.fault(vector, errorCode),
      exit: (reason, done, details) => {
        if (reason === ExitReason.pause) return;
        this.ending = { reason, details: details ?? {} };
        this.pastInstruction = done;
      },
      jump: (rip) => {
        this.jumpTarget = rip;
      },
      changed: () => undefined,
      attend: () => undefined,
      deliver: (event) => {
        this.deliverEvent(event);
      },
      invalidatePage: () => undefined,
      busLock: (body) => {
        body();
      },
      exclusively: (body) => {
        body();
      },
      readPhysical: (address) => machine.view.getBigUint64(Number(address), true),
    };
  }
}
type Value = ReturnType<Evaluator['i32']>;
