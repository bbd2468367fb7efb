import { writeSync } from 'node:fs';
import { constants } from 'node:os';
import { pathToFileURL } from 'node:url';
import { runXm } from './cli.ts';

const interrupt = new AbortController();
let attached = false;
process.on('SIGINT', () => {
  // While another program has the terminal, Ctrl-C is that program's.
  if (!attached) interrupt.abort();
});

// Making Node's streams costs milliseconds that most commands need not spend: they print to the descriptors themselves, and
// go over to the stream where one cannot take more at the moment. `xm list | head -1`: nobody reads on, so nothing is left to say.
const streams: { 1?: NodeJS.WriteStream; 2?: NodeJS.WriteStream } = {};
const stdout = (): NodeJS.WriteStream => (streams[1] ??= process.stdout.on('error', endedBy));
const endedBy = (error: NodeJS.ErrnoException): never => process.exit(error.code === 'EPIPE' ? 0 : 1);
function print(fd: 1 | 2, text: string): void {
  let bytes = Buffer.from(text);
  while (bytes.length > 0 && streams[fd] === undefined) {
    try {
      bytes = bytes.subarray(writeSync(fd, bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') endedBy(error as NodeJS.ErrnoException);
      streams[fd] = fd === 1 ? stdout() : process.stderr;
    }
  }
  if (bytes.length > 0) streams[fd]?.write(bytes);
}

void runXm(process.argv.slice(2), {
  env: process.env,
  cwd: process.cwd(),
  isRoot: process.geteuid?.() === 0,
  // Opening standard input costs milliseconds that most commands need not spend.
  get stdin() {
    return process.stdin;
  },
  signal: interrupt.signal,
  terminal: () =>
    process.getBuiltinModule('node:tty').isatty(1)
      ? { columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 }
      : undefined,
  out: (text) => {
    print(1, text);
  },
  err: (text) => {
    print(2, text);
  },
  write: (bytes) =>
    new Promise((resolve) => {
      if (stdout().write(bytes)) resolve();
      else stdout().once('drain', resolve);
    }),
  now: () => new Date(),
  sleep: (ms) =>
    process.getBuiltinModule('node:timers/promises').setTimeout(ms, undefined, { signal: interrupt.signal }),
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
}).then((code) => {
  process.exitCode = code;
});
