/** `xenconsole DOMID [--num N]`: attaches this terminal to a domain's console. Ctrl-] leaves. */
import { parseArgs } from 'node:util';
import { XenstoreClient, isXenstoreError } from '@xenhost/xenstore-client';
import { runSession } from './session.ts';
import { ConsoleError, findTty } from './tty-path.ts';

const USAGE = 'Usage: xenconsole DOMID [--num N]\nAttaches to the console of a domain. Ctrl-] leaves it.\n';

async function main(): Promise<number> {
  const { domid, num } = parseCommandLine();
  const xenstore = await XenstoreClient.connect();
  const tty = await findTty(xenstore, domid, num);
  await xenstore.close();
  const aborter = new AbortController();
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) {
    process.once(signal, () => {
      aborter.abort();
    });
  }
  const why = await runSession(tty, { input: process.stdin, output: process.stdout }, aborter.signal);
  if (why === 'escape' && process.stdout.isTTY) process.stdout.write('\n');
  return 0;
}

function parseCommandLine(): { readonly domid: number; readonly num: number } {
  let values: { num?: string; type?: string; help?: boolean };
  let positionals: string[];
  try {
    ({ values, positionals } = parseArgs({
      options: {
        num: { type: 'string', short: 'n' },
        type: { type: 'string', short: 't' },
        help: { type: 'boolean', short: 'h' },
      },
      allowPositionals: true,
    }));
  } catch (error) {
    throw new ConsoleError(`${(error as Error).message}\n${USAGE}`);
  }
  if (values.help) {
    process.stdout.write(USAGE);
    process.exit(0);
  }
  const [domid] = positionals;
  if (domid === undefined || positionals.length !== 1 || !/^\d{1,5}$/.test(domid)) {
    throw new ConsoleError(
      domid === undefined ? `DOMID should be specified\n${USAGE}` : `Invalid domid '${domid}'\n${USAGE}`,
    );
  }
  const num = values.num ?? '0';
  if (!/^\d{1,5}$/.test(num)) throw new ConsoleError(`Invalid console number '${num}'`);
  return { domid: Number(domid), num: Number(num) };
}

function messageOf(error: unknown): string {
  if (error instanceof ConsoleError) return error.message;
  if (isXenstoreError(error) && error.operation === 'connect') {
    return `Could not contact XenStore at ${error.subject} (${error.code}). Is xenstored running?`;
  }
  const code = (error as NodeJS.ErrnoException).code;
  if (code === 'ENOENT' || code === 'ECONNREFUSED') return 'The console is not there any more. Is xenconsoled running?';
  return error instanceof Error ? error.message : String(error);
}

main().then(
  (code) => {
    process.exit(code);
  },
  (error: unknown) => {
    process.stderr.write(`xenconsole: ${messageOf(error).trimEnd()}\n`);
    process.exit(1);
  },
);
