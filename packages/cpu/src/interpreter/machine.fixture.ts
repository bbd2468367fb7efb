/** A small machine for tests: memory identity-mapped by 4-level tables, code by the assembler, an engine over it. */
import { assemble } from '../asm/index.ts';
import type { EngineHost, JitMode, TrapMode } from '../engine/api.ts';
import type { ExitReason } from '../engine/exit-reason.ts';
import { SEG } from '../engine/state.ts';
import { compileEngine, createEngine } from './engine.ts';
import type { EngineModules, InterpreterEngine } from './engine.ts';

export const PAGE = 0x1000;
export const PTE = { present: 1n, write: 2n, user: 4n, accessed: 0x20n, dirty: 0x40n, noExecute: 1n << 63n } as const;
const MACHINE_BYTES = 8 << 20;
const ROOT = 0x1000;
const LEAF_TABLES = 0x4000;
export const CODE = 0x10_0000;
export const DATA = 0x20_0000;
export const STACK = 0x30_0000;
/** Linear addresses from here on are not mapped. */
export const UNMAPPED = MACHINE_BYTES;

let shared: EngineModules | undefined;

export class TestMachine {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly engine: InterpreterEngine;
  readonly codeFrames = new Set<number>();
  readonly codeFramesWritten: number[] = [];

  constructor(trapMode: TrapMode = 'monitor', host: Partial<EngineHost> = {}, jit?: JitMode) {
    const pages = MACHINE_BYTES / 65536;
    this.memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    this.bytes = new Uint8Array(this.memory.buffer);
    this.view = new DataView(this.memory.buffer);
    this.engine = createEngine(
      { trapMode, nrFrames: MACHINE_BYTES / PAGE, ...(jit ? { jit } : {}) },
      {
        machineMemory: this.memory,
        code: (shared ??= compileEngine()),
        host: {
          cpuid: (leaf, subleaf) => ({ eax: leaf, ebx: subleaf, ecx: 3, edx: 4 }),
          readTsc: () => 0x1_0000_0002n,
          codeFrameAdded: (frame) => this.codeFrames.add(frame),
          codeFrameWritten: (frame) => this.codeFramesWritten.push(frame),
          codeFrameRemoved: (frame) => this.codeFrames.delete(frame),
          isCodeFrame: (frame) => this.codeFrames.has(frame),
          ...host,
        },
      },
    );
    const rights = PTE.present | PTE.write | PTE.user;
    this.view.setBigUint64(ROOT, 0x2000n | rights, true);
    this.view.setBigUint64(0x2000, 0x3000n | rights, true);
    for (let table = 0; table < MACHINE_BYTES >> 21; table++) {
      this.view.setBigUint64(0x3000 + 8 * table, BigInt(LEAF_TABLES + table * PAGE) | rights, true);
      for (let i = 0; i < 512; i++) this.map((table << 21) + i * PAGE, (table << 9) + i, rights);
    }
    this.enterLongMode(3);
  }

  /** Entry of a page in the identity map. */
  map(address: number, frame: number, rights: bigint): void {
    this.view.setBigUint64(LEAF_TABLES + (address >> 12) * 8, BigInt(frame * PAGE) | rights, true);
    this.engine.invalidatePage(BigInt(address));
  }
  entry(address: number): bigint {
    return this.view.getBigUint64(LEAF_TABLES + (address >> 12) * 8, true);
  }

  /** 64-bit mode with paging on, flat segments, at privilege `cpl`. */
  enterLongMode(cpl: 0 | 3): void {
    const { state } = this.engine;
    const dpl = cpl << 5;
    state.cr3 = BigInt(ROOT);
    state.cr0 = 0x8005_0033n;
    state.cr4 = 0x6b0n;
    state.efer = 0xd01n;
    state.cpl = cpl;
    state.setSegment(SEG.cs, { selector: 8 | cpl, attributes: 0xa09b | dpl, limit: 0xffff_ffff, base: 0n });
    for (const n of [SEG.es, SEG.ss, SEG.ds, SEG.fs, SEG.gs])
      state.setSegment(n, { selector: 16 | cpl, attributes: 0xc093 | dpl, limit: 0xffff_ffff, base: 0n });
    state.rflags = 0x202n;
    state.rsp = BigInt(STACK);
    state.rip = BigInt(CODE);
    this.engine.stateChanged();
  }

  /** Puts code at `address`; returns where its symbols are. */
  code(source: string, address = CODE): ReadonlyMap<string, bigint> {
    const { bytes, symbols } = assemble(source, { origin: BigInt(address) });
    this.bytes.set(bytes, address);
    for (let frame = address >> 12; frame <= (address + bytes.length) >> 12; frame++) this.engine.invalidateCode(frame);
    return symbols;
  }
  raw(bytes: readonly number[], address = CODE): void {
    this.bytes.set(bytes, address);
    this.engine.invalidateCode(address >> 12);
  }
  run(source?: string, budget = 100_000): ExitReason {
    if (source !== undefined) {
      this.code(source);
      this.engine.state.rip = BigInt(CODE);
    }
    return this.engine.run(budget);
  }
}
