/**
 * `npm start`: a host and the embedded guest. On a terminal the console is attached and the host ends with it; elsewhere
 * the guest's first lines and the endpoints are printed and the host stays up until SIGTERM. `--once` waits for the
 * guest's prompt and shuts everything down.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CONSOLE_SHELL_NAME, consoleShellPrompt, writeConsoleShell } from '@xenhost/guest-kernels';
import { program } from '../entry.ts';
import { Host } from '../host.ts';
import { hostOptions, type Values } from './options.ts';
import { endpoints, stopRequested } from './up.ts';

const PROMPT_TIMEOUT_MS = 60_000;

const xm = (host: Host, args: readonly string[], stdio: 'inherit' | 'pipe'): ChildProcess => {
  const { command, args: own } = program('xm');
  return spawn(command, [...own, ...args], {
    env: host.env,
    stdio: stdio === 'inherit' ? 'inherit' : ['ignore', 'pipe', 'pipe'],
  });
};

async function runXm(host: Host, args: readonly string[]): Promise<string> {
  const child = xm(host, args, 'pipe');
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`xm ${args.join(' ')} failed (exit code ${String(code)}):\n${output}`);
  return output;
}

/** Copies the guest's console to standard output until its prompt is seen; rejects when it ends or takes too long. */
async function showUntilPrompt(host: Host): Promise<void> {
  const child = xm(host, ['console', CONSOLE_SHELL_NAME], 'pipe');
  let seen = '';
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`the guest showed no prompt within ${PROMPT_TIMEOUT_MS} ms`));
      }, PROMPT_TIMEOUT_MS);
      child.stdout?.on('data', (chunk: Buffer) => {
        process.stdout.write(chunk);
        seen += chunk.toString();
        if (!seen.includes(consoleShellPrompt)) return;
        clearTimeout(timer);
        resolve();
      });
      child.once('close', (code) => {
        clearTimeout(timer);
        reject(new Error(`the console ended (exit code ${String(code)}) before the guest's prompt`));
      });
    });
  } finally {
    child.kill('SIGTERM');
  }
  process.stdout.write('\n');
}

export async function start(values: Values): Promise<number> {
  const once = values['once'] === true;
  const asked = hostOptions(values);
  const temporary = once && asked.runDirectory === undefined ? mkdtempSync(join(tmpdir(), 'xh-')) : undefined;
  const host = new Host(temporary === undefined ? asked : { ...asked, runDirectory: temporary });
  const stop = stopRequested();
  try {
    await host.start();
    process.stdout.write(await runXm(host, ['create', writeConsoleShell(join(host.paths.lib, 'xenhost'))]));
    if (once) {
      await showUntilPrompt(host);
      await runXm(host, ['shutdown', '-w', CONSOLE_SHELL_NAME]);
      process.stdout.write('the guest has shut down\n');
    } else if (process.stdin.isTTY) {
      process.stdout.write('attached to the guest: Ctrl-] leaves and stops the host\n');
      const consoleClient = xm(host, ['console', CONSOLE_SHELL_NAME], 'inherit');
      await new Promise((resolve) => consoleClient.once('close', resolve));
    } else {
      await showUntilPrompt(host);
      process.stdout.write(`host is up, guest '${CONSOLE_SHELL_NAME}' runs; SIGTERM stops both\n${endpoints(host)}`);
      const reason = await Promise.race([host.failed, stop]);
      if (typeof reason === 'string') throw new Error(`the host went down: ${reason}`);
    }
  } finally {
    await host.stop();
    if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
  }
  return 0;
}
