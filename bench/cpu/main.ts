/**
 * Emulated CPUs against the best, on the same machine in the same run: the bench guest in Debian's kernels as a PV guest here,
 * as a machine of QEMU's TCG, as a 32-bit machine of npm's v86, and natively. One JSON line a figure; ratios are higher where we
 * are better. Exit code 1 when a check value differs or a machine fails.
 *   --machines NAMES  ours,tcg,v86,native (default all)
 *   --only NAMES      lines (alu32, ...), groups (computation, system, busybox) or sections (boot, parallel, memory); default all
 *   --scale N         percent of the full work of each line, default 100
 *   --runs N          rounds, medians are taken, default 3
 *   --jit MODE        off, on or force (default: XENHOST_JIT, else on)
 *   --tools DIR       sources of the bench guest, default ../shared/tools/guest
 */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { defaultBenchTools } from '@xenhost/testkit';
import { boot } from './boot.ts';
import { type Group, groups } from './lines.ts';
import { checkMachines, machineNames, type MachineName } from './machines.ts';
import { memory } from './memory.ts';
import { parallel } from './parallel.ts';
import { rates } from './rates.ts';

const sections = ['boot', 'parallel', 'memory'] as const;

/** Splits what `--only` asks for into lines and sections; throws for a name that is neither. */
function selection(only: string | undefined): ReadonlySet<string> {
  const allGroups = Object.keys(groups) as Group[];
  const chosen = only?.split(',') ?? [...allGroups, ...sections];
  return new Set(
    chosen.flatMap((name): readonly string[] => {
      if (name in groups) return groups[name as Group];
      const known = [...sections, ...allGroups.flatMap((group) => groups[group] as readonly string[])];
      if (!known.includes(name)) throw new Error(`--only ${name}: one of ${[...allGroups, ...known].join(' ')}`);
      return [name];
    }),
  );
}

function machineList(text: string): MachineName[] {
  return text.split(',').map((name) => {
    const found = machineNames.find((known) => known === name);
    if (!found) throw new Error(`--machines ${name}: ${machineNames.join(', ')}`);
    return found;
  });
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      machines: { type: 'string', default: machineNames.join(',') },
      only: { type: 'string' },
      scale: { type: 'string', default: '100' },
      runs: { type: 'string', default: '3' },
      jit: { type: 'string' },
      tools: { type: 'string', default: defaultBenchTools },
    },
  });
  const machines = machineList(values.machines);
  await checkMachines(machines);
  const chosen = selection(values.only);
  // Hosts start from dist/: it shall be of the sources that are measured.
  execFileSync(process.execPath, [fileURLToPath(new URL('../../tools/build.mjs', import.meta.url))]);
  const options = {
    machines,
    lines: chosen,
    scale: Number(values.scale),
    runs: Number(values.runs),
    jit: values.jit,
    tools: values.tools,
    vcpus: 1,
  };
  let wrong = 0;
  if ([...chosen].some((name) => !sections.some((section) => section === name))) wrong += await rates(options);
  if (chosen.has('boot')) wrong += await boot(options);
  if (chosen.has('parallel')) wrong += await parallel(options);
  if (chosen.has('memory')) wrong += await memory(options);
  return wrong === 0 ? 0 : 1;
}
