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
  stdin: process.stdin,
  signal: interrupt.signal,
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  now: () => new Date(),
  sleep: (ms) => sleep(ms, undefined, { signal: interrupt.signal }),
  become: async (module, args) => {
    attached = true;
    process.argv = [process.execPath, module, ...args];
    await import(pathToFileURL(module).href);
    return new Promise<never>(() => undefined);
  },
  run: async (command, args) => {
    const { spawn } = await import('node:child_process');
    return new Promise((resolve, reject) => {
      attached = true;
      const child = spawn(command, args, { stdio: 'inherit' });
      // Whoever ends xm means the program that has its terminal.
      for (const name of ['SIGTERM', 'SIGHUP'] as const) process.once(name, () => child.kill(name));
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        attached = false;
        resolve(code ?? (signal ? 128 + constants.signals[signal] : 1));
      });
    });
  },
});
