/**
 * Emulated CPUs against QEMU's TCG on the same machine in the same run: the bench guest in Debian's cloud kernel, as a PV
 * guest here and as a machine of qemu-system-x86_64. One line a benchmark with the ratio (higher is better for us).
 *   --scale N     percent of the full work, default 10
 *   --runs N      boots of each, medians are taken, default 1
 *   --tools DIR   sources of the bench guest, default ../shared/tools/guest
 *   --only NAMES  benchmarks, comma-separated
 */
import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { benchFiles, defaultBenchTools, TestHost } from '@xenhost/testkit';
import { fetchGuest, type FetchedGuest } from '@xenhost/xenhost';
import { figure, geometricMean, median } from '../lib/figures.ts';

const MEMORY_MIB = 256;
const TIMEOUT_MS = 1_200_000;
const COMPUTATION = new Set([
  'alu32', 'alu64', 'div', 'call', 'sieve', 'crc32', 'sha256', 'matmul', 'sort', 'chase', 'copyloop', 'repmovs', 'repstos',
  'sse2fp', 'sse2int', 'x87',
]); // prettier-ignore

interface Result {
  readonly rate: number;
  readonly check: string;
}
type Results = Map<string, Result>;

function parse(output: string): Results {
  const results: Results = new Map();
  for (const match of output.matchAll(/^BENCH (\S+) work=\d+ ns=\d+ rate=(\d+) unit=\S+ check=(0x[0-9a-f]+)/gm)) {
    const [, name = '', rate = '0', check = ''] = match;
    results.set(name, { rate: Number(rate), check });
  }
  return results;
}

async function ours(guest: FetchedGuest, words: string): Promise<Results> {
  const host = await TestHost.start();
  try {
    const extra = `console=hvc0 cryptomgr.notests nomods quiet ${words}`;
    const { kernel, ramdisk } = guest;
    const config = host.config('bench', { kernel, ramdisk, memory: MEMORY_MIB, extra, on_poweroff: 'destroy' });
    await host.mustXm('create', '-q', config);
    const console = host.console('bench');
    await console.expect('BENCH-END', TIMEOUT_MS);
    return parse(console.output.replaceAll('\r', ''));
  } finally {
    await host.stop();
  }
}

async function qemu(guest: FetchedGuest, words: string): Promise<Results> {
  const child = spawn(
    'qemu-system-x86_64',
    [
      ...['-accel', 'tcg', '-smp', '1', '-m', String(MEMORY_MIB), '-nographic', '-no-reboot'],
      ...['-kernel', guest.kernel, '-initrd', guest.ramdisk],
      ...['-append', `console=ttyS0 cryptomgr.notests nomods quiet ${words} poweroff`],
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const timer = setTimeout(() => child.kill('SIGKILL'), TIMEOUT_MS);
  await new Promise((done, failed) => {
    child.once('error', failed);
    child.once('close', done);
  });
  clearTimeout(timer);
  return parse(output.replaceAll('\r', ''));
}

const mergeMedian = (all: readonly Results[], name: string): number | undefined => {
  const rates = all.map((results) => results.get(name)?.rate).filter((rate) => rate !== undefined);
  return rates.length === 0 ? undefined : median(rates);
};

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      scale: { type: 'string', default: '10' },
      runs: { type: 'string', default: '1' },
      tools: { type: 'string', default: defaultBenchTools },
      only: { type: 'string' },
    },
  });
  const files = await benchFiles(values.tools);
  if (files.length === 0) throw new Error(`no bench guest: --tools ${values.tools} has none, or there is no gcc`);
  const guest = await fetchGuest(resolve('.cache/bench-guest'), 'cloud', false, () => undefined, files);
  const words = `run=/bench,${values.scale}${values.only === undefined ? '' : ` bench_only=${values.only}`}`;
  const mine: Results[] = [];
  const theirs: Results[] = [];
  for (let i = 0; i < Number(values.runs); i++) {
    mine.push(await ours(guest, words));
    theirs.push(await qemu(guest, words));
  }
  const ratios: number[] = [];
  let wrong = 0;
  for (const [name, { check }] of theirs[0] ?? []) {
    const rate = mergeMedian(mine, name);
    const peer = mergeMedian(theirs, name);
    const same = mine.every((results) => results.get(name)?.check === check);
    if (!same) wrong++;
    if (rate === undefined || peer === undefined) continue;
    figure(`cpu-${name}`, { rate, 'qemu-tcg-rate': peer, ratio: rate / peer, check: same ? 'same' : 'DIFFERENT' });
    if (COMPUTATION.has(name)) ratios.push(rate / peer);
  }
  if (ratios.length > 0)
    figure('cpu-computation-geometric-mean', { ratio: geometricMean(ratios), lines: ratios.length });
  return wrong === 0 && ratios.length > 0 ? 0 : 1;
}
