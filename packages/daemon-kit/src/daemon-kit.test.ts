import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { UNIX_PATH_MAX, UsageError, createLogger, listenUnix, parseDaemonArgs, unhealthyReason } from './index.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('listenUnix', () => {
  test('makes the folder, serves, and removes the socket at its end', async () => {
    const path = join(directory, 'a', 'b', 's');
    const listener = await listenUnix(path, (socket) => socket.end('hi'));
    const client = connect(path);
    const got = await new Promise((done) =>
      client.once('data', (data) => {
        done(data.toString());
      }),
    );
    expect(got).toBe('hi');
    await listener.close();
    expect(existsSync(path)).toBe(false);
    client.destroy();
  });

  test('takes over the socket of a process that died, not that of one that lives', async () => {
    const path = join(directory, 's');
    const dead = spawn(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`,
    ]);
    await new Promise((done) => dead.once('exit', done));
    expect(existsSync(path)).toBe(true);
    const listener = await listenUnix(path, () => undefined);
    await expect(listenUnix(path, () => undefined)).rejects.toMatchObject({ code: 'EADDRINUSE' });
    await listener.close();
  });

  test('leaves other files alone and refuses paths that would be cut', async () => {
    const file = join(directory, 'file');
    writeFileSync(file, 'precious');
    await expect(listenUnix(file, () => undefined)).rejects.toMatchObject({ code: 'EEXIST' });
    const long = join(directory, 'x'.repeat(UNIX_PATH_MAX - directory.length));
    await expect(listenUnix(long, () => undefined)).rejects.toMatchObject({ code: 'ENAMETOOLONG' });
    const fits = await listenUnix(long.slice(0, -1), () => undefined);
    await fits.close();
  });
});

describe('parseDaemonArgs', () => {
  const specs = {
    socket: { type: 'string', help: 'a socket', default: '/s' },
    port: { type: 'number', help: 'a port', short: 'p' },
    quiet: { type: 'boolean', help: 'say nothing' },
  } as const;

  test.each([
    [[], { socket: '/s', port: undefined, quiet: false }],
    [['--socket', 'x', '-p', '80', '--quiet'], { socket: 'x', port: 80, quiet: true }],
  ])('%j', (argv, expected) => {
    expect(parseDaemonArgs('d', specs, argv)).toEqual(expected);
  });

  test.each([[['--nope']], [['stray']], [['--port', 'many']], [['--port', '']]])('%j is refused', (argv) => {
    expect(() => parseDaemonArgs('d', specs, argv)).toThrow(UsageError);
  });
});

test('the log writes bigints as decimals, at any depth', () => {
  const lines: string[] = [];
  const log = createLogger('d', { level: 'info', destination: { write: (line: string) => void lines.push(line) } });
  log.info({ mfn: 2n ** 63n, nested: { list: [1n] } }, 'x');
  expect(JSON.parse(lines[0] ?? '')).toMatchObject({
    name: 'd',
    mfn: '9223372036854775808',
    nested: { list: ['1'] },
    msg: 'x',
  });
});

/** Runs a daemon whose `start` is this code; gives its output and exit code once `act` has been done at its ready line. */
async function daemon(
  start: string,
  act?: (pid: number) => void,
  argv: readonly string[] = [],
): Promise<{ code: number | null; out: string; err: string; readyFile: string }> {
  const main = join(directory, 'main.ts');
  const readyFile = join(directory, 'ready');
  writeFileSync(
    main,
    `import { runDaemon, UsageError } from ${JSON.stringify(resolve(__dirname, 'index.ts'))};\nrunDaemon('d', async (context) => { ${start} });\nvoid UsageError;\n`,
  );
  const child = spawn(process.execPath, [main, ...argv], { env: { ...process.env, XENHOST_READY_FILE: readyFile } });
  let out = '';
  let err = '';
  child.stderr.on('data', (data: Buffer) => (err += data.toString()));
  child.stdout.on('data', (data: Buffer) => {
    out += data.toString();
    if (act && child.pid !== undefined) {
      expect(unhealthyReason(readyFile)).toBeUndefined();
      act(child.pid);
    }
  });
  const code = await new Promise<number | null>((done) => child.once('close', done));
  return { code, out, err, readyFile };
}

describe('runDaemon', () => {
  test('announces itself, stops once on SIGTERM, leaves no ready file', async () => {
    const { code, out, err, readyFile } = await daemon(
      `const t = setInterval(() => {}, 1000); return { ready: { port: 7 }, stop: () => { clearInterval(t); console.error('stopped'); } };`,
      (pid) => {
        process.kill(pid, 'SIGTERM');
        process.kill(pid, 'SIGINT');
      },
    );
    expect(out).toBe('{"ready":"d","port":7}\n');
    expect(err.match(/stopped/g)).toHaveLength(1);
    expect(code).toBe(0);
    expect(unhealthyReason(readyFile)).toMatch(/not ready/);
  });

  test('a failed start ends with status 1 and the stack in the log', async () => {
    const { code, out, err } = await daemon(`throw new Error('no machine');`);
    expect(code).toBe(1);
    expect(out).toBe('');
    expect(err).toContain('no machine');
    expect(err).toContain('main.ts');
  });

  test('wrong options end with status 2 and one line', async () => {
    const { code, err } = await daemon(`throw new UsageError('d: no such option');`);
    expect({ code, err }).toEqual({ code: 2, err: 'd: no such option\n' });
  });

  test('our own bug ends the process with its stack', async () => {
    const { code, err } = await daemon(
      `setTimeout(() => { Promise.reject(new Error('a bug')); }, 20); return { stop() {} };`,
      () => undefined,
    );
    expect(code).toBe(1);
    expect(err).toContain('a bug');
  });
});

test('health: gone and never there', () => {
  expect(unhealthyReason(undefined)).toMatch(/not set/);
  const file = join(directory, 'ready');
  writeFileSync(file, JSON.stringify({ ready: 'd', pid: 2 ** 22 + 1 }));
  expect(unhealthyReason(file)).toMatch(/is gone/);
});

test('a plain server does not block a Unix path check', async () => {
  const path = join(directory, 'p');
  const server = createServer();
  await new Promise<void>((done) => server.listen(path, done));
  await expect(listenUnix(path, () => undefined)).rejects.toMatchObject({ code: 'EADDRINUSE' });
  await new Promise((done) => server.close(done));
});
