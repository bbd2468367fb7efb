/** xm info, dmesg, log, debug-keys. */
import { atomText, isList, type Sxp } from '@xenhost/sxp';
import { getopt } from '../getopt.ts';
import { format } from '../text.ts';
import { print } from '../world.ts';
import type { CommandContext, Run } from './command.ts';
import { asSxpList, asText, printJson, sxpJson } from './domain-rows.ts';
import { refused } from './words.ts';

export const info: Run = async (context, args) => {
  const { world, server, api } = context;
  const { options } = getopt(args, [
    { name: 'config', short: 'c', long: 'config' },
    { name: 'numa', short: 'n', long: 'numa' },
  ]);
  const given = new Set(options.map(([name]) => name));
  if (given.has('config')) {
    const { configPairs } = await import('./xend-config.ts');
    return show(context, configPairs(world), '%-38s:');
  }
  if (api) return show(context, await (await import('../xen-api/info.ts')).hostPairs(api), '%-23s:');
  const pairs = asSxpList(await server.call('xend.node.info', given.has('numa') ? 1 : 0));
  // The first pair, the system, was never shown.
  return show(context, pairs.slice(1), '%-23s:');
};

function show(context: CommandContext, pairs: readonly Sxp[], label: string): number {
  if (context.json) return printJson(context, sxpJson(pairs));
  for (const pair of pairs) {
    if (!isList(pair)) continue;
    const [key, value = ''] = pair;
    const shown = pair.length < 2 ? '(none)' : valueText(value);
    print(context.world, `${format(label, atomText(key) ?? '')} ${shown}`);
  }
  return 0;
}

/** As Python shows it: a list with its brackets. */
function valueText(value: Sxp): string {
  return isList(value)
    ? `[${value.map((item) => (isList(item) ? valueText(item) : `'${atomText(item) ?? ''}'`)).join(', ')}]`
    : (atomText(value) ?? 'None');
}

export const dmesg: Run = async ({ world, server, api }, args) => {
  const { options, words } = getopt(args, [{ name: 'clear', short: 'c', long: 'clear' }]);
  if (words.length > 0) throw refused(world, 'No parameter required');
  const clear = options.length > 0;
  const shown = api
    ? await api.text(clear ? 'host.dmesg_clear' : 'host.dmesg', await api.host())
    : asText(await server.call(clear ? 'xend.node.dmesg.clear' : 'xend.node.dmesg.info'));
  // Python's print with a comma at its end: a line that is not over is ended when the program ends.
  world.out(shown.endsWith('\n') || shown === '' ? shown : `${shown}\n`);
  return undefined;
};

export const log: Run = async ({ world, server, api }) => {
  print(world, api ? await api.text('host.get_log', await api.host()) : asText(await server.call('xend.node.log')));
  return undefined;
};

export const debugKeys: Run = async ({ server, api }, [keys = '']) => {
  if (api) await api.call('host.send_debug_keys', await api.host(), keys);
  else await server.call('xend.node.send_debug_keys', keys);
  return undefined;
};
