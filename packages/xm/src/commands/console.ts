/** xm console: hands the terminal to the xenconsole client. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { atomNumber, childValue } from '@xenhost/sxp';
import { CommandFailed, InvalidArgument } from '../errors.ts';
import { getopt } from '../getopt.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxp } from './domain-rows.ts';
import { refused } from './words.ts';

export const console_: Run = async (context, args) => {
  const { options, words } = getopt(args, [
    { name: 'quiet', short: 'q', long: 'quiet' },
    { name: 'num', short: 'n', long: 'num', takesValue: true },
  ]);
  const given = new Map(options);
  const quiet = given.has('quiet');
  const num = given.get('num') ?? '0';
  if (!/^\d{1,4}$/.test(num)) throw new InvalidArgument();
  const [dom] = words;
  if (dom === undefined || words.length > 1) throw refused(context.world, 'No domain given');
  let domid: number | undefined;
  try {
    domid = await domidOf(context, dom);
  } catch (error) {
    if (quiet) return 1;
    throw error;
  }
  if (domid === undefined) {
    if (quiet) return 1;
    throw notStarted(context, dom);
  }
  return attachConsole(context, domid, Number(num));
};

/** What Xen 4.4 raises as a fault: the text and the usage. */
export const notStarted = ({ world }: CommandContext, dom: string): Error =>
  refused(world, `Domain '${dom}' is not started`);

/** The id of a domain that runs; undefined when it does not. */
export async function domidOf({ server, api }: CommandContext, dom: string): Promise<number | undefined> {
  const domid = api
    ? Number(await api.text('VM.get_domid', await api.vm(dom)))
    : atomNumber(childValue(asSxp(await server.call('xend.domain', dom)), 'domid'));
  return domid === undefined || domid < 0 || Number.isNaN(domid) ? undefined : domid;
}

/** Runs the console client until it ends; resolves to its exit code, or never when this process has become the client. */
export function attachConsole({ world }: CommandContext, domid: number, num = 0): Promise<number> {
  const args = [String(domid), '--num', String(num)];
  const given = world.env['XENHOST_XENCONSOLE'];
  if (given !== undefined && given !== '') return world.run(given, args);
  return world.become(consoleClient(), args);
}

/** The client that belongs to this xm: beside it in a bundle, in its package in the source. */
function consoleClient(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const places = [
    join(here, 'xenconsole.mjs'),
    join(here, '..', 'xenconsole.mjs'),
    join(here, '..', '..', '..', 'xenconsoled', 'src', 'xenconsole.ts'),
  ];
  const found = places.find((place) => existsSync(place));
  if (found === undefined) throw new CommandFailed('Cannot find the console client (set XENHOST_XENCONSOLE)');
  return found;
}
