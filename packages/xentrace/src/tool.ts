/** What the tools of this package share: a connection to the hypervisor, the way errors are told, waiting. */
import { hostPaths } from '@xenhost/daemon-kit';
import { openXenctrl } from '@xenhost/libxenctrl';
import type { Xenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';
import { VIRQ } from '@xenhost/xen-abi';

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

/**
 * Calls `body` each time that trace buffers fill up (VIRQ_TBUF) or `pollMs` are over, until `seconds` are over or
 * SIGINT, SIGTERM or SIGHUP comes; then once more.
 */
export async function poll(
  xc: Xenctrl,
  options: { readonly pollMs: number; readonly seconds: number | undefined },
  body: (last: boolean) => Promise<void>,
): Promise<void> {
  const ended = Promise.withResolvers<'ended'>();
  const end = (): void => {
    ended.resolve('ended');
  };
  let wake: () => void = () => undefined;
  let pause: NodeJS.Timeout | undefined;
  const filled = await xc.privcmd.bindVirq(VIRQ.TBUF);
  xc.privcmd.onEvent((port) => {
    if (port === filled) wake();
  });
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  for (const name of signals) process.once(name, end);
  const timer = options.seconds === undefined ? undefined : setTimeout(end, options.seconds * 1000);
  try {
    for (;;) {
      await body(false);
      const next = new Promise<'next'>((resolve) => {
        wake = () => {
          resolve('next');
        };
        pause = setTimeout(wake, options.pollMs);
      });
      const what = await Promise.race([ended.promise, next]);
      clearTimeout(pause);
      if (what === 'ended') break;
    }
    await body(true);
  } finally {
    clearTimeout(timer);
    for (const name of signals) process.removeListener(name, end);
    await xc.privcmd.unbind(filled);
  }
}
