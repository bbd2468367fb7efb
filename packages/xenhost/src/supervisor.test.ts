import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type DaemonSpec, Supervisor, supervisorDefaults } from './supervisor.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

/** A daemon that runs a line of JavaScript. */
const daemon = (name: string, code: string, vital = false, after: readonly string[] = []): DaemonSpec => ({
  name,
  after,
  command: process.execPath,
  args: ['-e', code],
  vital,
});
const ready = (name: string): string => `console.log(JSON.stringify({ready:"${name}"}));`;
const stay = 'setInterval(()=>{},1e6);';

function supervisor(specs: readonly DaemonSpec[]): {
  self: Supervisor;
  fatal: Promise<string>;
  changed: () => Promise<void>;
} {
  const fatal = Promise.withResolvers<string>();
  let wake: () => void = () => undefined;
  const self = new Supervisor(
    { ...supervisorDefaults, env: process.env, logDirectory: directory, readyTimeoutMs: 5000, maxRestarts: 1 },
    {
      specs,
      onChange: () => {
        wake();
      },
      onFatal: (reason) => {
        fatal.resolve(reason);
      },
    },
  );
  const changed = (): Promise<void> =>
    new Promise((resolve) => {
      wake = resolve;
    });
  return { self, fatal: fatal.promise, changed };
}

test('daemons start in order, are up, and stop', async () => {
  const { self } = supervisor([daemon('a', ready('a') + stay), daemon('b', ready('b') + stay, false, ['a'])]);
  await self.start();
  expect(self.status().map(({ name, state }) => `${name} ${state}`)).toEqual(['a up', 'b up']);
  await self.stop();
  expect(self.status().map(({ state }) => state)).toEqual(['stopped', 'stopped']);
});

test('a daemon that ends before it is ready makes the start fail with its last words', async () => {
  const { self } = supervisor([daemon('a', 'console.error("no socket"); process.exit(7)')]);
  await expect(self.start()).rejects.toThrow(/a ended with exit code 7\n {2}no socket/);
  await self.stop();
  expect(readFileSync(join(directory, 'a.log'), 'utf8')).toContain('no socket');
});

test('a daemon that may come back is restarted, and given up when it ends too often', async () => {
  const { self, fatal } = supervisor([daemon('a', `${ready('a')}setTimeout(()=>process.exit(3),50);`)]);
  await self.start();
  await expect(fatal).resolves.toMatch(/a ended with exit code 3, 2 times/);
  expect(self.status()[0]).toMatchObject({ state: 'failed', restarts: 1 });
  await self.stop();
});

test('the end of a vital daemon is fatal at once', async () => {
  const { self, fatal } = supervisor([daemon('a', `${ready('a')}setTimeout(()=>process.exit(0),50);`, true)]);
  await self.start();
  await expect(fatal).resolves.toBe('a ended with exit code 0');
  await self.stop();
});
