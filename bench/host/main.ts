/**
 * How long a host takes: up with all daemons answering, `xm create` of the embedded guest to its first console line,
 * `xm list` as a whole process. The peer of each is the start of this Node itself, the least that any process here costs.
 *   --runs N   default 5
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { consoleShell } from '@xenhost/guest-kernels';
import { TestHost } from '@xenhost/testkit';
import { figure, median, timesMs } from '../lib/figures.ts';

const FIRST_LINE_TIMEOUT_MS = 30_000;

const nodeStart = (): Promise<unknown> =>
  new Promise((resolve) => spawn(process.execPath, ['-e', '0'], { stdio: 'ignore' }).once('close', resolve));

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...argv], options: { runs: { type: 'string', default: '5' } } });
  const runs = Number(values.runs);
  const node = median(await timesMs(runs, nodeStart));
  figure('node-start', { ms: node, runs });
  const report = (name: string, times: readonly number[]): void => {
    const ms = median(times);
    figure(name, { ms, min: Math.min(...times), max: Math.max(...times), 'ratio-to-node-start': ms / node, runs });
  };

  const upTimes: number[] = [];
  const hosts: TestHost[] = [];
  for (let i = 0; i < runs; i++) {
    await hosts.pop()?.stop();
    upTimes.push(...(await timesMs(1, async () => hosts.push(await TestHost.start()))));
  }
  report('host-up', upTimes);
  const [host] = hosts;
  if (!host) return 1;
  try {
    const kernel = join(host.directory, 'console-shell.elf');
    writeFileSync(kernel, consoleShell());
    report(
      'create-to-first-line',
      await timesMs(runs, async (i) => {
        const name = `shell${i}`;
        await host.mustXm('create', '-q', host.config(name, { kernel, memory: 16 }));
        await host.console(name).expect(/\S/, FIRST_LINE_TIMEOUT_MS);
      }),
    );
    report('xm-list', await timesMs(runs, () => host.mustXm('list')));
  } finally {
    await host.stop();
  }
  return 0;
}
