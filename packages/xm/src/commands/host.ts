/** xm info, dmesg, log, debug-keys. */
import { atomText, isList } from '@xenhost/sxp';
import { CommandFailed, Exit } from '../errors.ts';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print, printError } from '../world.ts';
import type { Run } from './command.ts';
import { asSxpList, asText } from './domain-rows.ts';

export const info: Run = async ({ world, server }, args) => {
  const { options } = getopt(args, [
    { name: 'config', short: 'c', long: 'config' },
    { name: 'numa', short: 'n', long: 'numa' },
  ]);
  const given = new Set(options.map(([name]) => name));
  if (given.has('config')) throw new CommandFailed('xm info --config is not supported in this version');
  // The first pair, the system, was never shown.
  for (const pair of asSxpList(await server.call('xend.node.info', given.has('numa') ? 1 : 0)).slice(1)) {
    if (!isList(pair)) continue;
    const [key, value] = pair;
    const label = format('%-23s:', atomText(key) ?? '');
    print(world, pair.length < 2 ? `${label} (none)` : `${label} ${atomText(value) ?? ''}`);
  }
  return undefined;
};

export const dmesg: Run = async ({ world, server }, args) => {
  const { options, words } = getopt(args, [{ name: 'clear', short: 'c', long: 'clear' }]);
  if (words.length > 0) {
    printError(world, 'No parameter required');
    throw new Exit(1, { usage: true });
  }
  const shown = asText(await server.call(options.length > 0 ? 'xend.node.dmesg.clear' : 'xend.node.dmesg.info'));
  // Python's print with a comma at its end: no line feed, and a space only after one that is not there.
  world.out(shown.endsWith('\n') || shown === '' ? shown : `${shown} `);
  return undefined;
};

export const log: Run = async ({ world, server }) => {
  print(world, asText(await server.call('xend.node.log')));
  return undefined;
};

export const debugKeys: Run = async ({ server }, [keys = '']) => {
  await server.call('xend.node.send_debug_keys', keys);
  return undefined;
};
