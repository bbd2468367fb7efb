/** Our xenstored with twenty guests on rings: the hypervisor's stand-in is started first, the guests are introduced, then it goes. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { startDaemon } from '../../conformance/lib/xen/daemons.ts';
import type { Daemon } from '../../conformance/lib/xen/daemons.ts';

/** As many as client.c has for Debian's daemons. */
export const RINGS = 20;

export interface RingLoad {
  readonly operation: 'read' | 'write';
  readonly seconds: number;
  /** Of the daemon. */
  readonly args: readonly string[];
}

/** Runs `body` around the load; resolves to what it printed. */
export async function loadRings(
  { operation, seconds, args }: RingLoad,
  around: (daemon: Daemon, load: () => Promise<string>) => Promise<void>,
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  const file = fileURLToPath(new URL('ring-host.ts', import.meta.url));
  const host = spawn(process.execPath, [file, directory, String(seconds), operation], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const kill = (): void => void host.kill('SIGKILL');
  process.once('exit', kill);
  const lines = createInterface({ input: host.stdout })[Symbol.asyncIterator]();
  try {
    await lines.next();
    const daemon = await startDaemon('ours', { privcmd: join(directory, 'privcmd.sock'), args });
    try {
      await introduce(daemon.socket);
      await around(daemon, async () => {
        host.stdin.write('go\n');
        const line = await lines.next();
        if (line.done) throw new Error('the guests came to nothing');
        return line.value;
      });
    } finally {
      await daemon.stop();
    }
  } finally {
    kill();
    process.off('exit', kill);
    rmSync(directory, { recursive: true, force: true });
  }
}

async function introduce(socket: string): Promise<void> {
  await using client = await XenstoreClient.connect({ path: socket });
  for (let domid = 1; domid <= RINGS; domid++) {
    await client.write(`/local/domain/${domid}/data`, 'v');
    for (const path of [`/local/domain/${domid}`, `/local/domain/${domid}/data`])
      await client.setPerms(path, [{ domid, access: 'none' }]);
    await client.introduce(domid, 1, 1);
  }
}
