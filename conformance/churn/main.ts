/**
 * Code that is written, run and written again: each round becomes a Wasm module of its own, with the JIT tier forced.
 * Memory and mappings of the process must not grow once they have settled, and every round must compute what it should.
 *   --modules N   default 100000
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { assemble, createEngine, ExitReason, SEG } from '@xenhost/cpu';
import type { InterpreterEngine } from '@xenhost/cpu';
import { assert, Report } from '@xenhost/testkit';

const PAGE = 4096;
const MACHINE_BYTES = 4 << 20;
const ROOT = 0x1000;
const CODE_PAGES = 64;
const CODE = 0x10_0000;
const RIGHTS = 7n;
/** Share of the rounds after which nothing should grow any more. */
const SETTLED = 0.3;
const NR_SAMPLES = 40;
/** Growth that is not one yet: modules that wait for a garbage collection. */
const MAX_GROWTH = 1.15;
/** Mappings that may come on top, for each round: a leak would be one or two. */
const MAPPINGS_A_ROUND = 0.02;
/** Memory of modules that wait for a collection: a leak would be 40 KiB a round. */
const WAITING_KIB = 100 << 10;
const LOOPS = 20;
/** More places with code of their own than there is room for regions. */
const PLACES = 6000;
const PLACE_BYTES = 128;

function world(): { engine: InterpreterEngine; bytes: Uint8Array } {
  const pages = MACHINE_BYTES / 65536;
  const machineMemory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const codeFrames = new Set<number>();
  const engine = createEngine(
    { trapMode: 'monitor', nrFrames: MACHINE_BYTES / PAGE, jit: 'force' },
    {
      machineMemory,
      host: {
        cpuid: () => ({ eax: 0, ebx: 0, ecx: 0, edx: 0 }),
        readTsc: () => 0n,
        codeFrameAdded: (frame) => codeFrames.add(frame),
        codeFrameWritten: () => undefined,
        isCodeFrame: (frame) => codeFrames.has(frame),
      },
    },
  );
  const view = new DataView(machineMemory.buffer);
  view.setBigUint64(ROOT, 0x2000n | RIGHTS, true);
  view.setBigUint64(0x2000, 0x3000n | RIGHTS, true);
  for (let n = 0; n < MACHINE_BYTES >> 21; n++) {
    view.setBigUint64(0x3000 + 8 * n, BigInt(0x4000 + n * PAGE) | RIGHTS, true);
    for (let i = 0; i < 512; i++)
      view.setBigUint64(0x4000 + n * PAGE + 8 * i, (BigInt(n * 512 + i) << 12n) | RIGHTS, true);
  }
  const { state } = engine;
  state.cr3 = BigInt(ROOT);
  state.cr0 = 0x8005_0033n;
  state.cr4 = 0x6b0n;
  state.efer = 0xd01n;
  state.cpl = 3;
  state.setSegment(SEG.cs, { selector: 0x33, attributes: 0xa0fb, limit: 0xffff_ffff, base: 0n });
  for (const n of [SEG.es, SEG.ss, SEG.ds, SEG.fs, SEG.gs])
    state.setSegment(n, { selector: 0x2b, attributes: 0xc0f3, limit: 0xffff_ffff, base: 0n });
  engine.stateChanged();
  return { engine, bytes: new Uint8Array(machineMemory.buffer) };
}

interface Sample {
  readonly rssKiB: number;
  readonly mappings: number;
}
function sample(): Sample {
  const [, rss = '0'] = /^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1')) ?? [];
  return { rssKiB: Number(rss), mappings: readFileSync('/proc/self/maps', 'latin1').split('\n').length };
}
const largest = (samples: readonly Sample[], of: keyof Sample): number => Math.max(...samples.map((s) => s[of]));

/** Code in many places, all run, then all run again: what was evicted is compiled anew. */
function runPlaces(
  bytes: Uint8Array,
  engine: InterpreterEngine,
  program: Uint8Array,
  view: DataView,
  at: number,
): void {
  for (let n = 0; n < PLACES; n++) {
    view.setUint32(at, n, true);
    bytes.set(program, CODE + n * PLACE_BYTES);
  }
  for (let frame = CODE / PAGE; frame <= (CODE + PLACES * PLACE_BYTES) / PAGE; frame++) engine.invalidateCode(frame);
  for (let turn = 0; turn < 2; turn++)
    for (let n = 0; n < PLACES; n++) {
      engine.state.rip = BigInt(CODE + n * PLACE_BYTES);
      const reason = engine.run(1000);
      assert(
        reason === ExitReason.syscall && engine.state.rax === BigInt(n * LOOPS),
        `place ${n} gave ${engine.state.rax}`,
      );
    }
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...argv], options: { modules: { type: 'string', default: '100000' } } });
  const nrRounds = Number(values.modules);
  if (!Number.isInteger(nrRounds) || nrRounds < NR_SAMPLES) throw new Error(`--modules ${values.modules}: a number from ${NR_SAMPLES}`);
  const { engine, bytes } = world();
  const { bytes: program } = assemble(`mov ecx, ${LOOPS}\nxor eax, eax\nagain: add eax, 0x11223344\nsub ecx, 1\njnz again\nsyscall`, { origin: BigInt(CODE) });
  const at = program.findIndex((_, i) => program[i] === 0x44 && program[i + 1] === 0x33 && program[i + 2] === 0x22);
  const view = new DataView(program.buffer, program.byteOffset);
  const samples: Sample[] = [];
  let wrong = 0;
  for (let round = 0; round < nrRounds; round++) {
    const start = CODE + (round % CODE_PAGES) * PAGE;
    view.setUint32(at, round, true);
    bytes.set(program, start);
    engine.invalidateCode(start / PAGE);
    engine.state.rip = BigInt(start);
    const reason = engine.run(1000);
    if (reason !== ExitReason.syscall || engine.state.rax !== BigInt((round * LOOPS) >>> 0)) wrong++;
    if (round % Math.floor(nrRounds / NR_SAMPLES) === 0) {
      samples.push(sample());
      // Collections and finalisers of modules want the event loop.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const settled = samples.slice(Math.floor(samples.length * SETTLED));
  const half = Math.floor(settled.length / 2);
  const [early, late] = [settled.slice(0, half), settled.slice(half)];
  const report = new Report();
  await report.case(`${nrRounds} rounds compute what they should`, () => {
    assert(wrong === 0, `${wrong} rounds gave another result`);
  });
  await report.case('every round was compiled', () => {
    const { regionsCompiled, regionsInvalidated } = engine.counters;
    assert(regionsCompiled >= nrRounds, `${regionsCompiled} regions for ${nrRounds} rounds`);
    assert(regionsInvalidated >= nrRounds - CODE_PAGES, `${regionsInvalidated} regions dropped`);
  });
  for (const figure of ['rssKiB', 'mappings'] as const)
    await report.case(`${figure}: ${largest(early, figure)} early, ${largest(late, figure)} late`, () => {
      const slack = figure === 'mappings' ? nrRounds * MAPPINGS_A_ROUND : WAITING_KIB;
      assert(largest(late, figure) <= largest(early, figure) * MAX_GROWTH + slack, `${figure} grows`);
    });
  await report.case(`${PLACES} places: the oldest regions make room`, () => {
    runPlaces(bytes, engine, program, view, at);
    const { regionsEvicted, regionsLive } = engine.counters;
    assert(regionsEvicted > 0, 'nothing was evicted');
    return `${regionsLive} live, ${regionsEvicted} evicted`;
  });
  return report.close();
} // prettier-ignore
