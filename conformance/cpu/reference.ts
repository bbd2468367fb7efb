/** The evaluator (evaluator.ts) as an engine under test: the runner's memory map and one instruction a case. */
/* eslint-disable @typescript-eslint/only-throw-error -- a guest's fault travels as GuestFault, as in the engines */
import type { CpuState } from '../../packages/cpu/src/engine/state.ts';
import { GuestFault } from '../../packages/cpu/src/semantics/helper.ts';
import { Evaluator, type ProbedMemory } from './evaluator.ts';
import {
  CODE_BASE,
  CODE_BYTES,
  DATA_BASE,
  DATA_BYTES,
  FX_BYTES,
  GS_BASE,
  INT3,
  READONLY_BASE,
  YMM_HIGH_BYTES,
  type CpuCase,
  type Outcome,
} from './native.ts';

const PAGE_FAULT = 14;
const GENERAL_PROTECTION = 13;
const BREAKPOINT = 3;
const PF_PRESENT = 1;
const PF_WRITE = 2;
const PF_USER = 4;
const PF_FETCH = 16;
const PAGE = 0x1000;

/** The pages that the native runner maps; everything else faults. */
class RunnerMemory implements ProbedMemory {
  readonly code = new Uint8Array(CODE_BYTES);
  readonly data = new Uint8Array(DATA_BYTES);
  readonly readOnly = new Uint8Array(PAGE);

  /** Page and offset of one byte. */
  private locate(address: bigint, isWrite: boolean): { page: Uint8Array; at: number } {
    if (address >= 1n << 47n && address < (1n << 64n) - (1n << 47n))
      throw new GuestFault(GENERAL_PROTECTION, 0, address);
    const at = Number(address);
    const access = PF_USER | (isWrite ? PF_WRITE : 0);
    if (at >= CODE_BASE && at < CODE_BASE + CODE_BYTES) return { page: this.code, at: at - CODE_BASE };
    if (at >= DATA_BASE && at < DATA_BASE + DATA_BYTES) return { page: this.data, at: at - DATA_BASE };
    if (at >= READONLY_BASE && at < READONLY_BASE + PAGE) {
      if (isWrite) throw new GuestFault(PAGE_FAULT, access | PF_PRESENT, address);
      return { page: this.readOnly, at: at - READONLY_BASE };
    }
    throw new GuestFault(PAGE_FAULT, access, address);
  }

  /** The fault address is that of the access, or of the page it runs into. */
  probe(address: bigint, size: number, isWrite: boolean): void {
    this.locate(address, isWrite);
    const last = BigInt.asUintN(64, address + BigInt(size - 1));
    if (last / BigInt(PAGE) !== address / BigInt(PAGE)) this.locate(last - (last % BigInt(PAGE)), isWrite);
  }

  span(address: bigint, length: number, isWrite: boolean): undefined {
    this.probe(address, length, isWrite);
    return undefined;
  }
  read(address: bigint, size: number): bigint {
    this.probe(address, size, false);
    let value = 0n;
    for (let n = size - 1; n >= 0; n--) {
      const { page, at } = this.locate(address + BigInt(n), false);
      value = (value << 8n) | BigInt(page[at] ?? 0);
    }
    return value;
  }
  write(address: bigint, size: number, value: bigint): void {
    this.probe(address, size, true);
    for (let n = 0; n < size; n++) {
      const { page, at } = this.locate(address + BigInt(n), true);
      page[at] = Number((value >> BigInt(8 * n)) & 0xffn);
    }
  }
  readBytes(address: bigint, into: Uint8Array): void {
    this.probe(address, into.length, false);
    for (let n = 0; n < into.length; n++) {
      const { page, at } = this.locate(address + BigInt(n), false);
      into[n] = page[at] ?? 0;
    }
  }
  writeBytes(address: bigint, from: Uint8Array): void {
    this.probe(address, from.length, true);
    from.forEach((byte, n) => {
      const { page, at } = this.locate(address + BigInt(n), true);
      page[at] = byte;
    });
  }
}

/** FXSAVE image to state and back: registers in stack order there, physical here. */
export function loadFx(state: CpuState, fx: Uint8Array): void {
  const view = new DataView(fx.buffer, fx.byteOffset, FX_BYTES);
  state.fcw = view.getUint16(0, true);
  state.fsw = view.getUint16(2, true);
  state.ftw = fx[4] ?? 0;
  state.mxcsr = view.getUint32(24, true);
  const top = (state.fsw >> 11) & 7;
  for (let n = 0; n < 8; n++) state.fpr((top + n) & 7).set(fx.subarray(32 + 16 * n, 42 + 16 * n));
  for (let n = 0; n < 16; n++) state.xmm(n).set(fx.subarray(160 + 16 * n, 176 + 16 * n));
}

export function saveFx(state: CpuState): Uint8Array {
  const fx = new Uint8Array(FX_BYTES);
  const view = new DataView(fx.buffer);
  view.setUint16(0, state.fcw, true);
  view.setUint16(2, state.fsw, true);
  fx[4] = state.ftw;
  view.setUint32(24, state.mxcsr, true);
  const top = (state.fsw >> 11) & 7;
  for (let n = 0; n < 8; n++) fx.set(state.fpr((top + n) & 7), 32 + 16 * n);
  for (let n = 0; n < 16; n++) fx.set(state.xmm(n), 160 + 16 * n);
  return fx;
}

export function loadYmmHigh(state: CpuState, bytes: Uint8Array): void {
  for (let n = 0; n < 16; n++) state.ymmHigh(n).set(bytes.subarray(16 * n, 16 * n + 16));
}

export function saveYmmHigh(state: CpuState): Uint8Array {
  const bytes = new Uint8Array(YMM_HIGH_BYTES);
  for (let n = 0; n < 16; n++) bytes.set(state.ymmHigh(n), 16 * n);
  return bytes;
}

/** Segment and control registers of a 64-bit Linux process. */
export function loadUserMode(state: CpuState): void {
  state.reset();
  state.cr0 = 0x8005_0033n;
  state.cr4 = 0x0005_0ef0n & ~0x800n;
  state.xcr0 = 7n;
  state.efer = 0xd01n;
  state.cpl = 3;
  state.eflags = 0x200;
  state.setSegment(1, { selector: 0x33, attributes: 0xa0fb, limit: 0xffffffff, base: 0n });
  state.setSegment(2, { selector: 0x2b, attributes: 0xc0f3, limit: 0xffffffff, base: 0n });
  for (const n of [0, 3, 4]) state.setSegment(n, { selector: 0, attributes: 0, limit: 0, base: 0n });
  state.setSegment(5, { selector: 0, attributes: 0, limit: 0, base: GS_BASE });
}

export class ReferenceEngine {
  readonly name = 'reference';
  readonly #memory = new RunnerMemory();
  readonly #evaluator = new Evaluator(this.#memory);

  run(cases: readonly CpuCase[]): Outcome[] {
    return cases.map((one) => this.#one(one));
  }

  #one(one: CpuCase): Outcome {
    const { state } = this.#evaluator;
    const memory = this.#memory;
    memory.code.fill(INT3);
    memory.code.set(one.code, one.codeOffset);
    memory.data.fill(0);
    memory.data.set(one.memory, one.memoryAddress - DATA_BASE);
    loadUserMode(state);
    for (let n = 0; n < 16; n++) state.setGpr(n, one.gpr[n] ?? 0n);
    state.rflags = one.rflags | 0x202n;
    state.rip = BigInt(CODE_BASE + one.codeOffset);
    state.stackMask = (1n << 64n) - 1n;
    state.ripMask = (1n << 64n) - 1n;
    loadFx(state, one.fx);
    loadYmmHigh(state, one.ymmHigh);
    let result = this.#evaluator.step(memory.code.subarray(one.codeOffset));
    let steps = 1;
    // A repeated string instruction may stop between two rounds.
    while (result.vector < 0 && state.rip === BigInt(CODE_BASE + one.codeOffset) && steps++ < 10_000)
      result = this.#evaluator.step(memory.code.subarray(one.codeOffset));
    const outcome: Outcome = {
      vector: result.vector,
      errorCode: BigInt(Math.max(0, result.errorCode)),
      address: result.address,
      rip: state.rip,
      gpr: new BigUint64Array(16),
      rflags: state.rflags,
      fx: saveFx(state),
      ymmHigh: saveYmmHigh(state),
      memory: memory.data.slice(one.memoryAddress - DATA_BASE, one.memoryAddress - DATA_BASE + one.memory.length),
    };
    if (result.vector < 0) this.#arrive(outcome);
    for (let n = 0; n < 16; n++) outcome.gpr[n] = state.gpr(n);
    return outcome;
  }

  /** The INT3 behind the instruction, or the fetch fault where a branch went. */
  #arrive(outcome: Outcome): void {
    const at = Number(outcome.rip) - CODE_BASE;
    if (at >= 0 && at < CODE_BYTES && outcome.rip < 1n << 40n) {
      outcome.vector = this.#memory.code[at] === INT3 ? BREAKPOINT : -2;
      outcome.rip += 1n;
      return;
    }
    outcome.vector = PAGE_FAULT;
    outcome.address = outcome.rip;
    const isData = at + CODE_BASE >= DATA_BASE && at + CODE_BASE < READONLY_BASE + PAGE;
    outcome.errorCode = BigInt(PF_USER | PF_FETCH | (isData ? PF_PRESENT : 0));
  }
}
