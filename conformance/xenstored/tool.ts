/** Client programs that nobody here wrote, run against a socket. */
import { spawn } from 'node:child_process';

export interface Answer {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

interface ToolOptions {
  readonly timeoutMs?: number;
  readonly env?: NodeJS.ProcessEnv;
}

/** Runs a client program to its end, no longer than `timeoutMs`. */
export function tool(
  command: string,
  args: readonly string[],
  socket: string,
  { timeoutMs = 10_000, env = process.env }: ToolOptions = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: { ...env, XENSTORED_PATH: socket }, timeout: timeoutMs });
    let out = '';
    let err = '';
    child.stdout.on('data', (data: Buffer) => (out += data.toString('latin1')));
    child.stderr.on('data', (data: Buffer) => (err += data.toString('latin1')));
    child.once('error', reject);
    child.once('close', (code) => {
      resolve({ code, out, err });
    });
  });
}
