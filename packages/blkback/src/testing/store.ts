/** A real xenstored, without a hypervisor, for tests of what stands in xenstore. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { XenstoreClient } from '@xenhost/xenstore-client';

const MAIN = resolve(__dirname, '../../../xenstored/src/main.ts');

export interface TestStore {
  readonly directory: string;
  connect(): Promise<XenstoreClient>;
  stop(): Promise<void>;
}

export async function startStore(): Promise<TestStore> {
  const directory = await mkdtemp(join(tmpdir(), 'xh-'));
  const socket = join(directory, 's');
  const child = spawn(process.execPath, [MAIN, '--no-hypervisor', '--socket', socket], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, XENHOST_READY_FILE: '' },
  });
  await new Promise((ready) => child.stdout.once('data', ready));
  return {
    directory,
    connect: () => XenstoreClient.connect({ path: socket }),
    stop: async () => {
      await new Promise<void>((done) => {
        child.once('exit', () => {
          done();
        });
        child.kill();
      });
      await rm(directory, { recursive: true, force: true });
    },
  };
}
