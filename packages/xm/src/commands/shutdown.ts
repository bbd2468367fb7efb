/** xm shutdown, xm reboot (Xen 4.4 `shutdown.py`). */
import { atomText, childValue } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import { parseOptions, type OptionRow } from '../options.ts';
import { print } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxp, asSxpList, asText } from './domain-rows.ts';

/** How often a domain may be seen missing, a second apart, before its reboot counts as failed. */
const RECREATING_TIMEOUT = 30;
const POLL_MS = 1000;

const OPTIONS: readonly OptionRow[] = [
  { name: 'help', short: 'h', long: 'help', doc: 'Print this help.' },
  { name: 'all', short: 'a', long: 'all', doc: 'All domains.' },
  { name: 'wait', short: 'w', long: 'wait', doc: 'Wait until they are down.' },
  { name: 'halt', short: 'H', long: 'halt', doc: 'Do not reboot.' },
  { name: 'reboot', short: 'R', long: 'reboot', doc: 'Reboot.' },
];
const HELP = '[options] [DOM]\n\nShut domains down.\n';

type Mode = 'halt' | 'reboot' | 'poweroff';

export const shutdown: Run = async (context, args) => {
  const { options, words } = parseOptions(args, OPTIONS, { help: HELP });
  const given = new Set(options.map(([name]) => name));
  const names = given.has('all') ? await allGuests(context) : [await oneGuest(context, words)];
  if (given.has('halt') && given.has('reboot')) throw new CommandFailed("Can't specify halt and reboot");
  const mode = given.has('halt') ? 'halt' : given.has('reboot') ? 'reboot' : 'poweroff';
  const counts = await ask(context, names, mode);
  if (!given.has('wait')) return undefined;
  await (mode === 'reboot' ? waitReboot(context, counts) : waitShutdown(context, names));
  return undefined;
};

export const reboot: Run = (context, args) => shutdown(context, ['-R', ...args]);

/** Asks each to go down; gives how often each has been restarted so far. */
async function ask(
  { server, api }: CommandContext,
  names: readonly string[],
  mode: Mode,
): Promise<Map<string, string>> {
  const counts = new Map<string, string>();
  for (const name of names) {
    if (api) {
      await api.call(mode === 'reboot' ? 'VM.clean_reboot' : 'VM.clean_shutdown', name);
      continue;
    }
    counts.set(name, asText(await server.call('xend.domain.getRestartCount', name)));
    await server.call('xend.domain.shutdown', name, mode);
  }
  return counts;
}

async function running({ server, api }: CommandContext): Promise<string[]> {
  if (!api) return asSxpList(await server.call('xend.domains', 0)).map((name) => atomText(name) ?? '');
  const records = await api.records('VM.get_all_records');
  return records.filter(([, record]) => record['power_state'] === 'Running').map(([ref]) => ref);
}

/** By name; by reference with the Xen-API. */
async function allGuests(context: CommandContext): Promise<string[]> {
  const { server, api } = context;
  if (api) {
    const records = await api.records('VM.get_all_records');
    return records.filter(([, record]) => record['is_control_domain'] !== true).map(([ref]) => ref);
  }
  const dom0 = atomText(childValue(asSxp(await server.call('xend.domain', 0)), 'name'));
  return (await running(context)).filter((name) => name !== dom0);
}

async function oneGuest({ server, api }: CommandContext, words: readonly string[]): Promise<string> {
  const [word] = words;
  if (word === undefined) throw new CommandFailed('No domain parameter given');
  if (words.length > 1) throw new CommandFailed('No multiple domain parameters allowed');
  if (api) return api.vm(word);
  return atomText(childValue(asSxp(await server.call('xend.domain', word)), 'name')) ?? word;
}

async function waitShutdown(context: CommandContext, names: readonly string[]): Promise<void> {
  const { world } = context;
  let waiting = [...names];
  while (waiting.length > 0) {
    const alive = await running(context);
    for (const name of waiting.filter((candidate) => !alive.includes(candidate))) {
      print(world, `Domain ${name} terminated`);
    }
    waiting = waiting.filter((name) => alive.includes(name));
    if (waiting.length > 0) await world.sleep(POLL_MS);
  }
  print(world, 'All domains terminated');
}

async function waitReboot(context: CommandContext, counts: Map<string, string>): Promise<void> {
  const { world, server, api } = context;
  if (api) throw new CommandFailed('Cannot wait for reboot w/ XenAPI (yet)');
  const missing = new Map<string, number>();
  while (counts.size > 0) {
    const alive = await running(context);
    for (const [name, before] of counts) {
      if (alive.includes(name)) {
        if (asText(await server.call('xend.domain.getRestartCount', name)) === before) continue;
        print(world, `Domain ${name} rebooted`);
        counts.delete(name);
        continue;
      }
      // Perhaps it is being made again just now.
      const seconds = (missing.get(name) ?? -1) + 1;
      missing.set(name, seconds);
      if (seconds <= RECREATING_TIMEOUT) continue;
      print(world, `Domain ${name} destroyed for failing to reboot`);
      counts.delete(name);
    }
    if (counts.size > 0) await world.sleep(POLL_MS);
  }
  print(world, 'All domains rebooted');
}
