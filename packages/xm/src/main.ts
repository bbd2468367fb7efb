import { enableCompileCache } from 'node:module';
import { constants } from 'node:os';
import { pathToFileURL } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';

// A command is over in a tenth of a second: what is loaded after this line is compiled once for all of them.
enableCompileCache();
const { runXm } = await import('./cli.ts');

const interrupt = new AbortController();
let attached = false;
process.on('SIGINT', () => {
  // While another program has the terminal, Ctrl-C is that program's.
  if (!attached) interrupt.abort();
});
// `xm list | head -1`: nobody reads on, so there is nothing left to say.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  process.exit(error.code === 'EPIPE' ? 0 : 1);
});

process.exitCode = await runXm(process.argv.slice(2), {
  env: process.env,
  cwd: process.cwd(),
  isRoot: process.geteuid?.() === 0,
  // Opening standard input costs milliseconds that most commands need not spend.
  get stdin() {
    return process.stdin;
  },
  signal: interrupt.signal,
  terminal: () =>
    process.stdout.isTTY ? { columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 } : undefined,
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  write: (bytes) =>
    new Promise((resolve) => {
      if (process.stdout.write(bytes)) resolve();
      else process.stdout.once('drain', resolve);
    }),
  now: () => new Date(),
  sleep: (ms) => sleep(ms, undefined, { signal: interrupt.signal }),
  become: async (module, args) => {
    attached = true;
    process.argv = [process.execPath, module, ...args];
    await import(pathToFileURL(module).href);
    return new Promise<never>(() => undefined);
  },
  connect: (command, args) => {
    const { spawn } = process.getBuiltinModule('node:child_process');
    const { Duplex } = process.getBuiltinModule('node:stream');
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const stream = Duplex.from({ readable: child.stdout, writable: child.stdin });
    child.once('error', (error) => stream.destroy(error));
    stream.once('close', () => child.kill());
    return stream;
  },
  run: async (command, args, options = {}) => {
    const { spawn } = await import('node:child_process');
    return new Promise((resolve, reject) => {
      const { input, detached = false } = options;
      attached = !detached;
      const others = detached ? 'ignore' : 'inherit';
      const child = spawn(command, args, {
        stdio: [input === undefined ? others : 'pipe', others, others],
        detached,
      });
      child.once('error', (error) => {
        attached = false;
        reject(error);
      });
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
      if (detached) {
        child.once('spawn', () => {
          child.unref();
          resolve(0);
        });
        return;
      }
      // Whoever ends xm means the program that has its terminal.
      for (const name of ['SIGTERM', 'SIGHUP'] as const) process.once(name, () => child.kill(name));
      child.once('exit', (code, signal) => {
        attached = false;
        resolve(code ?? (signal ? 128 + constants.signals[signal] : 1));
      });
    });
  },
});
