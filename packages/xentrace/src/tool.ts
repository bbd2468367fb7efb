/** What the tools of this package share: a connection to the hypervisor, the way errors are told, waiting. */
import { hostPaths } from '@xenhost/daemon-kit';
import { openXenctrl } from '@xenhost/libxenctrl';
import type { Xenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';

/** A wrong command line; the text is for people. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Runs a tool to its exit code: errors become one line on standard error. */
export async function runTool(name: string, body: () => Promise<number>): Promise<number> {
  try {
    return await body();
  } catch (error) {
    process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    return error instanceof UsageError ? 2 : 1;
  }
}

/** Runs `body` with a connection to this host's hypervisor. */
export async function withXenctrl<T>(body: (xc: Xenctrl) => Promise<T>): Promise<T> {
  const path = hostPaths().privcmd;
  const port = await connectPrivcmd(path).catch((error: unknown) => {
    throw new Error(`no hypervisor answers at ${path}`, { cause: error });
  });
  const xc = openXenctrl(port);
  try {
    return await body(xc);
  } finally {
    await xc.close();
  }
}

export function wholeNumber(text: string, option: string, min: number, max: number): number {
  const n = /^(0x[\da-f]+|\d+)$/i.test(text) ? Number(text) : NaN;
  if (!(n >= min && n <= max)) throw new UsageError(`${option} ${text}: a whole number from ${min} to ${max}`);
  return n;
}
