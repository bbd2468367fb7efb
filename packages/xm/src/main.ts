import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { runXm } from './cli.ts';

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
  run: (command, args) =>
    new Promise((resolve, reject) => {
      attached = true;
      const child = spawn(command, args, { stdio: 'inherit' });
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        attached = false;
        resolve(code ?? (signal ? 128 + constants.signals[signal] : 1));
      });
    }),
});
