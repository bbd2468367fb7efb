/** `xenhost down`: SIGTERM to the supervisor of this run directory, and wait until it is gone. */
import { hostPaths } from '@xenhost/daemon-kit';
import { hostEnv } from '../host.ts';
import { isAlive, readState } from '../state-file.ts';
import { runDirectory, type Values } from './options.ts';

const POLL_MS = 20;
const TIMEOUT_MS = 90_000;

export async function down(values: Values): Promise<number> {
  const { run } = hostPaths(hostEnv(runDirectory(values)));
  const state = readState(run);
  if (!state) throw new Error(`no host is running in ${run}`);
  process.kill(state.pid, 'SIGTERM');
  for (const deadline = Date.now() + TIMEOUT_MS; isAlive(state.pid);) {
    if (Date.now() > deadline) throw new Error(`the host (pid ${state.pid}) did not stop within ${TIMEOUT_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  process.stdout.write('host is down\n');
  return 0;
}
