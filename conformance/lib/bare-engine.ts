/** An engine with no hypervisor around it: identity-mapped machine memory, flat segments, ring 3. For benches and conformance runs. */
import { SEG, createEngine } from '@xenhost/cpu';
import type { Engine, EngineHost, JitMode } from '@xenhost/cpu';

const PAGE = 4096;
const WASM_PAGE = 65536;
/** Present, writable, user. */
const RIGHTS = 7n;
/** Where `bareEngine` has its page tables. */
const ROOT = 0x1000;

/** What an engine asks, where it is the only one: no CPUID, no time, code frames of its own. */
export function soloHost(): EngineHost {
  const codeFrames = new Set<number>();
  return {
    cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
    readTsc: () => 0n,
    codeFrameAdded: (frame) => codeFrames.add(frame),
    codeFrameWritten: () => undefined,
    isCodeFrame: (frame) => codeFrames.has(frame),
  };
}

/** Maps the first `bytes` of machine memory to themselves, by 4 KiB pages with all rights; tables from `root` on. */
export function identityTables(view: DataView, root: number, bytes: number): void {
  const link = (table: number, index: number, to: number): void => {
    view.setBigUint64(table + 8 * index, BigInt(to) | RIGHTS, true);
  };
  const [pointers, directory, leaves] = [root + PAGE, root + 2 * PAGE, root + 3 * PAGE];
  link(root, 0, pointers);
  link(pointers, 0, directory);
  for (let table = 0; table < bytes >> 21; table++) {
    link(directory, table, leaves + table * PAGE);
    for (let i = 0; i < 512; i++) link(leaves + table * PAGE, i, (table * 512 + i) * PAGE);
  }
}

/** 64-bit mode at ring 3 with flat segments, over the page tables at `root`. */
export function enterFlatUser(engine: Engine, root: number): void {
  const { state } = engine;
  state.cr3 = BigInt(root);
  state.cr0 = 0x8005_0033n;
  state.cr4 = 0x6b0n;
  state.efer = 0xd01n;
  state.cpl = 3;
  state.setSegment(SEG.cs, { selector: 0x33, attributes: 0xa0fb, limit: 0xffff_ffff, base: 0n });
  for (const n of [SEG.es, SEG.ss, SEG.ds, SEG.fs, SEG.gs])
    state.setSegment(n, { selector: 0x2b, attributes: 0xc0f3, limit: 0xffff_ffff, base: 0n });
  engine.stateChanged();
}

/** An engine alone over `bytes` of machine memory, ready to run what is put there. */
export function bareEngine(options: { bytes: number; jit?: JitMode }): { engine: Engine; bytes: Uint8Array } {
  const pages = options.bytes / WASM_PAGE;
  const machineMemory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const engine = createEngine(
    { trapMode: 'monitor', nrFrames: options.bytes / PAGE, ...(options.jit && { jit: options.jit }) },
    { machineMemory, host: soloHost() },
  );
  identityTables(new DataView(machineMemory.buffer), ROOT, options.bytes);
  enterFlatUser(engine, ROOT);
  return { engine, bytes: new Uint8Array(machineMemory.buffer) };
}
