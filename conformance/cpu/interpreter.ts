/** An engine of ours, with or without its JIT, under test: the runner's world behind page tables, in monitor mode. */
import { ExitReason, createEngine, type Engine } from '@xenhost/cpu';
import { soloHost } from '../lib/bare-engine.ts';
import { PTE, PageTables } from '../lib/page-tables.ts';
import {
  CODE_BASE,
  CODE_BYTES,
  DATA_BASE,
  DATA_BYTES,
  INT3,
  READONLY_BASE,
  type CpuCase,
  type Outcome,
} from './native.ts';
import { loadFx, loadUserMode, loadYmmHigh, saveFx, saveYmmHigh } from './reference.ts';

const PAGE = 0x1000;
const MACHINE_BYTES = 1 << 20;
const CODE_FRAME = 0x10;
const DATA_FRAME = 0x20;
const READONLY_FRAME = 0x30;
const ROOT_FRAME = 1;
const SLICE = 10_000;

export class InterpreterUnderTest {
  readonly name: string;
  readonly #bytes: Uint8Array;
  readonly #engine: Engine;

  constructor(jit: 'off' | 'force') {
    this.name = jit === 'off' ? 'interpreter' : 'jit';
    const machineMemory = new WebAssembly.Memory({
      initial: MACHINE_BYTES / 65536,
      maximum: MACHINE_BYTES / 65536,
      shared: true,
    });
    this.#bytes = new Uint8Array(machineMemory.buffer);
    this.#engine = createEngine(
      { trapMode: 'monitor', nrFrames: MACHINE_BYTES / PAGE, jit },
      { machineMemory, host: soloHost() },
    );
    const tables = new PageTables(new DataView(machineMemory.buffer), ROOT_FRAME);
    for (let at = 0; at < CODE_BYTES; at += PAGE) tables.map(CODE_BASE + at, CODE_FRAME + at / PAGE, PTE.writable);
    for (let at = 0; at < DATA_BYTES; at += PAGE)
      tables.map(DATA_BASE + at, DATA_FRAME + at / PAGE, PTE.writable | PTE.noExecute);
    tables.map(READONLY_BASE, READONLY_FRAME, PTE.noExecute);
  }

  get counters(): Engine['counters'] {
    return this.#engine.counters;
  }

  run(cases: readonly CpuCase[]): Outcome[] {
    return cases.map((one) => this.#one(one));
  }

  #one(one: CpuCase): Outcome {
    const engine = this.#engine;
    const { state, exit } = engine;
    const bytes = this.#bytes;
    bytes.fill(INT3, CODE_FRAME * PAGE, CODE_FRAME * PAGE + CODE_BYTES);
    bytes.set(one.code, CODE_FRAME * PAGE + one.codeOffset);
    for (let at = 0; at < CODE_BYTES; at += PAGE) engine.invalidateCode(CODE_FRAME + at / PAGE);
    bytes.fill(0, DATA_FRAME * PAGE, DATA_FRAME * PAGE + DATA_BYTES);
    const memory = DATA_FRAME * PAGE + one.memoryAddress - DATA_BASE;
    bytes.set(one.memory, memory);
    loadUserMode(state);
    state.cr3 = BigInt(ROOT_FRAME * PAGE);
    for (let n = 0; n < 16; n++) state.setGpr(n, one.gpr[n] ?? 0n);
    state.rflags = one.rflags | 0x202n;
    state.rip = BigInt(CODE_BASE + one.codeOffset);
    loadFx(state, one.fx);
    loadYmmHigh(state, one.ymmHigh);
    engine.stateChanged();
    const reason = engine.run(SLICE);
    const outcome: Outcome = {
      vector: -2 - reason,
      errorCode: 0n,
      address: 0n,
      rip: state.rip,
      gpr: new BigUint64Array(16),
      rflags: state.rflags,
      fx: saveFx(state),
      ymmHigh: saveYmmHigh(state),
      memory: bytes.slice(memory, memory + one.memory.length),
    };
    if (reason === ExitReason.exception) {
      outcome.vector = exit.vector;
      outcome.errorCode = BigInt(exit.errorCode);
      outcome.address = exit.address;
    } else if (reason === ExitReason.softwareInterrupt) {
      outcome.vector = exit.vector;
      outcome.rip += BigInt(exit.length);
    }
    for (let n = 0; n < 16; n++) outcome.gpr[n] = state.gpr(n);
    return outcome;
  }
}
