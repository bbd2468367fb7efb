/** The embedded guest in a test host: its config, and its prompt. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { consoleShell, consoleShellPrompt } from '@xenhost/guest-kernels';
import type { ConsoleSession, TestHost } from '@xenhost/testkit';

export const PROMPT_TIMEOUT_MS = 30_000;

export function shellKernel(host: TestHost): string {
  const kernel = join(host.directory, 'console-shell.elf');
  writeFileSync(kernel, consoleShell());
  return kernel;
}

/** Creates the guest and waits for its prompt. */
export async function startShell(
  host: TestHost,
  name: string,
  settings: Readonly<Record<string, string | number>> = {},
): Promise<ConsoleSession> {
  await host.mustXm('create', '-q', host.config(name, { kernel: shellKernel(host), memory: 16, ...settings }));
  const console = host.console(name);
  await console.expect(consoleShellPrompt, PROMPT_TIMEOUT_MS);
  return console;
}

/** Types a command and waits for a pattern in what it prints. */
export async function type(console: ConsoleSession, line: string, pattern: RegExp): Promise<RegExpExecArray> {
  console.write(`${line}\r`);
  const match = await console.expect(pattern, PROMPT_TIMEOUT_MS);
  return match;
}
