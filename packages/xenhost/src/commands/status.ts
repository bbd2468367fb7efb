/** `xenhost status`: the daemons of the host of this run directory. */
import { hostPaths } from '@xenhost/daemon-kit';
import { hostEnv } from '../host.ts';
import { readState } from '../state-file.ts';
import { runDirectory, type Values } from './options.ts';

const NO_HOST = 3;

export function status(values: Values): Promise<number> {
  const { run } = hostPaths(hostEnv(runDirectory(values)));
  const state = readState(run);
  if (!state) {
    process.stdout.write(`no host is running in ${run}\n`);
    return Promise.resolve(NO_HOST);
  }
  const rows = state.daemons.map(
    ({ name, pid, state: word, restarts }) =>
      `${name.padEnd(12)} ${String(pid ?? '-').padStart(7)} ${word.padEnd(10)} ${String(restarts).padStart(8)}`,
  );
  process.stdout.write(
    `${[
      `host of pid ${state.pid}, up since ${state.startedAt}, ${state.memoryMiB} MiB, ${state.pcpus} pCPUs`,
      `${'Daemon'.padEnd(12)} ${'PID'.padStart(7)} ${'State'.padEnd(10)} Restarts`,
      ...rows,
    ].join('\n')}\n`,
  );
  return Promise.resolve(state.daemons.every((daemon) => daemon.state === 'up') ? 0 : 1);
}
