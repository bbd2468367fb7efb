/**
 * A container's healthcheck: `tools/node24 packages/daemon-kit/src/healthcheck.ts` with the same XENHOST_READY_FILE as
 * the daemon. Exit 0 when the daemon has announced itself and its process lives, else 1 with a line on stderr.
 */
import { readFileSync } from 'node:fs';

/** Why the daemon behind this ready file is not healthy; undefined when it is. */
export function unhealthyReason(readyFile: string | undefined): string | undefined {
  if (!readyFile) return 'XENHOST_READY_FILE is not set';
  let pid: number;
  try {
    pid = (JSON.parse(readFileSync(readyFile, 'utf8')) as { pid: number }).pid;
  } catch {
    return `not ready: no ${readyFile}`;
  }
  try {
    process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return `process ${pid} of ${readyFile} is gone`;
  }
  return undefined;
}

if (/healthcheck\.(ts|mjs)$/.test(process.argv[1] ?? '')) {
  const reason = unhealthyReason(process.env['XENHOST_READY_FILE']);
  if (reason) {
    process.stderr.write(`${reason}\n`);
    process.exit(1);
  }
}
