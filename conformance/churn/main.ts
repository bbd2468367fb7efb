/**
 * Code that is written, run and written again: each round becomes a Wasm module of its own, with the JIT tier forced.
 * Memory and mappings of the process must not grow once they have settled, and every round must compute what it should.
 *   --modules N   default 100000
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { assemble, ExitReason } from '@xenhost/cpu';
import type { Engine } from '@xenhost/cpu';
import { assert, Report } from '@xenhost/testkit';
import { bareEngine } from '../lib/bare-engine.ts';

const PAGE = 4096;
const MACHINE_BYTES = 4 << 20;
const CODE_PAGES = 64;
const CODE = 0x10_0000;
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
function runPlaces(bytes: Uint8Array, engine: Engine, program: Uint8Array, view: DataView, at: number): void {
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
  const { engine, bytes } = bareEngine({ bytes: MACHINE_BYTES, jit: 'force' });
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
