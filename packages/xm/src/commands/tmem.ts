/** xm tmem-*: transcendent memory, by domain id or for all. Numbers go to xend as they are; what they do is its word. */
import { CommandFailed } from '../errors.ts';
import { getopt, type OptionSpec } from '../getopt.ts';
import { print } from '../world.ts';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { CommandContext, Run } from './command.ts';
import { asText } from './domain-rows.ts';
import { wholeNumber } from './numbers.ts';
import { refused } from './words.ts';

/** The id that stands for all domains. */
const ALL = -1;
const ALL_OPTION: OptionSpec = { name: 'all', short: 'a', long: 'all' };

interface TmemWords {
  readonly domid: number;
  readonly given: ReadonlyMap<string, string>;
  readonly words: readonly string[];
}

function tmemWords({ world }: CommandContext, args: readonly string[], specs: readonly OptionSpec[] = []): TmemWords {
  const { options, words } = getopt(args, [ALL_OPTION, ...specs]);
  const given = new Map(options);
  if (given.has('all')) return { domid: ALL, given, words };
  const [dom] = words;
  if (dom === undefined) throw refused(world, 'You must specify -a or --all or a domain id.');
  if (!/^\s*[-+]?\d{1,9}\s*$/.test(dom)) throw refused(world, `Unrecognized domain id: ${dom}`);
  return { domid: Number(dom), given, words: words.slice(1) };
}

/** The same name on either server. */
async function ask({ server, api }: CommandContext, name: string, ...params: XmlRpcValue[]): Promise<string> {
  return asText(await (api ? api.call(`host.${name}`, ...params) : server.call(`xend.node.${name}`, ...params)));
}

export const tmemList: Run = async (context, args) => {
  const { domid, given } = tmemWords(context, args, [{ name: 'long', short: 'l', long: 'long' }]);
  print(context.world, await ask(context, 'tmem_list', domid, given.has('long')));
  return undefined;
};

const tmemDo =
  (name: string): Run =>
  async (context, args) => {
    await ask(context, name, tmemWords(context, args).domid);
    return undefined;
  };

export const tmemThaw = tmemDo('tmem_thaw');
export const tmemFreeze = tmemDo('tmem_freeze');
export const tmemDestroy = tmemDo('tmem_destroy');

export const tmemFlush: Run = async (context, args) => {
  const { domid, given } = tmemWords(context, args, [{ name: 'pages', short: 'p', long: 'pages', takesValue: true }]);
  await ask(context, 'tmem_flush', domid, wholeNumber(given.get('pages') ?? '-1'));
  return undefined;
};

const SETTINGS = ['weight', 'cap', 'compress'] as const;

export const tmemSet: Run = async (context, args) => {
  const { domid, words } = tmemWords(context, args);
  const values = new Map<string, number>();
  for (const word of words) {
    const name = SETTINGS.find((setting) => word.startsWith(`${setting}=`));
    if (name === undefined) continue;
    const text = word.slice(name.length + 1);
    if (name === 'weight' && !/^\s*[-+]?\d{1,9}\s*$/.test(text)) {
      throw refused(context.world, 'weight should be a integer');
    }
    values.set(name, wholeNumber(text));
  }
  if (values.size === 0) {
    throw refused(context.world, `Unrecognized tmem configuration option: ${words.at(-1) ?? ''}`);
  }
  for (const name of SETTINGS) {
    const value = values.get(name);
    if (value !== undefined) await ask(context, `tmem_set_${name}`, domid, value);
  }
  return undefined;
};

export const tmemFreeable: Run = async (context) => {
  print(context.world, await ask(context, 'tmem_query_freeable_mb'));
  return undefined;
};

export const tmemSharedAuth: Run = async (context, args) => {
  const { domid, given } = tmemWords(context, args, [
    { name: 'uuid', short: 'u', long: 'uuid', takesValue: true },
    { name: 'auth', short: 'A', long: 'auth', takesValue: true },
  ]);
  const uuid = given.get('uuid');
  if (uuid === undefined) throw new CommandFailed('You must specify --uuid');
  await ask(context, 'tmem_shared_auth', domid, uuid, given.get('auth') ?? 0);
  return undefined;
};
