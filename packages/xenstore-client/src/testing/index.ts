/** What every backend that refuses its devices must do, as a real process beside a real xenstored. */
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { XenstoreClient } from '../client.ts';

/** Starts a daemon's main and waits for its ready line. */
async function start(main: string, args: readonly string[]): Promise<{ stop(): Promise<void> }> {
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: { ...process.env, XENHOST_READY_FILE: '' },
  });
  await new Promise((ready) => child.stdout.once('data', ready));
  return {
    stop: () =>
      new Promise((done) => {
        child.once('exit', () => {
          done();
        });
        child.kill();
      }),
  };
}

export interface RefusingBackend {
  /** The `src` folder of the backend's package; its `main.ts` is started, and xenstored's beside it. */
  readonly source: string;
  readonly deviceClass: string;
  readonly deviceId: number;
  readonly reason: string;
}

/** A device is refused at once with a reason, and let go when it is closed. Uses jest's globals. */
export async function expectRefusal({ source, deviceClass, deviceId, reason }: RefusingBackend): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'xh-'));
  const socket = join(directory, 's');
  const store = await start(resolve(source, '../../xenstored/src/main.ts'), ['--no-hypervisor', '--socket', socket]);
  const backend = await start(resolve(source, 'main.ts'), ['--xenstore', socket]);
  const xenstore = await XenstoreClient.connect({ path: socket });
  const path = `/local/domain/0/backend/${deviceClass}/7/${deviceId}`;

  const waitFor = async (key: string, value: string | undefined): Promise<void> => {
    const watch = xenstore.watch(`${path}/${key}`);
    while (!(await watch.next()).done) {
      if ((await xenstore.tryRead(`${path}/${key}`)) === value) return;
    }
  };
  await xenstore.transaction(async (t) => {
    await t.write(`${path}/state`, 1);
    await t.write(`${path}/online`, 1);
  });
  await waitFor('hotplug-status', 'error');
  expect(await xenstore.tryRead(`${path}/hotplug-error`)).toBe(reason);

  await xenstore.write(`${path}/online`, 0);
  await xenstore.write(`${path}/state`, 5);
  await waitFor('state', '6');
  expect(await xenstore.tryRead(`${path}/hotplug-status`)).toBeUndefined();

  await xenstore.rm(`/local/domain/0/backend/${deviceClass}/7`);
  expect(await xenstore.exists(path)).toBe(false);
  await xenstore.close();
  await backend.stop();
  await store.stop();
  await rm(directory, { recursive: true });
}
