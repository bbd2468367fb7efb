/** xm cpupool-create, xm cpupool-new: a pool from a configuration file (Xen 4.4 `cpupool.py`). */
import { basename } from 'node:path';
import type { Sxp } from '@xenhost/sxp';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { fileRows, helpRows, type Setting, type Variable } from '../create/options.ts';
import { readSettings } from '../create/settings.ts';
import { readSxpConfig } from '../create/sxp-file.ts';
import { prettySxp } from '@xenhost/sxp';
import { CommandFailed, Exit } from '../errors.ts';
import { optionHelp, parseOptions, variableHelp, type OptionRow } from '../options.ts';
import { print, printError, type World } from '../world.ts';
import type { CommandContext, Run } from './command.ts';

const OPTIONS: readonly OptionRow[] = [...helpRows, ...fileRows];

const VARIABLES: readonly Variable[] = [
  { name: 'name', kind: 'text', fallback: null, doc: 'name of the pool' },
  { name: 'sched', kind: 'text', fallback: 'credit', doc: 'its scheduler' },
  { name: 'cpus', kind: 'text', fallback: 1, doc: 'its CPUs: how many, or which' },
  { name: 'other_config', kind: 'list', fallback: [], doc: 'KEY=VALUE, for other programs' },
];

const HELP = '[options] [vars]\n\nCreate a CPU pool.\n\n';
const DEFAULT_PATH = '.:/etc/xen/cpupool';

export const poolHelp = (): string => optionHelp(OPTIONS);

export const poolCreate: Run = (context, args) => make(context, args, true);
export const poolNew: Run = (context, args) => make(context, args, false);

async function make(context: CommandContext, args: readonly string[], start: boolean): Promise<undefined> {
  const { world, server, api } = context;
  const config = await prepare(world, args);
  if (!config) return;
  if (!api) {
    await server.call(start ? 'xend.cpu_pool.create' : 'xend.cpu_pool.new', config);
    return;
  }
  const ref = await api.text('cpu_pool.create', recordOf(config));
  if (start && ref !== '') await api.call('cpu_pool.activate', ref);
}

/** Undefined when that was all there was to do (help, dry run). */
async function prepare(world: World, args: readonly string[]): Promise<readonly Sxp[] | undefined> {
  const { options, words } = parseOptions(args, OPTIONS, { help: HELP });
  const given = new Map(options);
  if (given.has('help_config')) world.out(variableHelp(VARIABLES));
  if (given.has('help') || given.has('help_config')) return undefined;
  const file = given.get('config');
  const config = file === undefined ? await fromPython(world, given, words) : readSxpConfig(file, world.cwd);
  if (!Array.isArray(config)) throw new CommandFailed(`${file ?? ''} is not a list`);
  if (!given.has('dryrun')) return config as readonly Sxp[];
  print(world, prettySxp(config as Sxp));
  return undefined;
}

async function fromPython(world: World, given: ReadonlyMap<string, string>, words: readonly string[]): Promise<Sxp> {
  const { settings, file } = await readSettings(world, VARIABLES, {
    words,
    defconfig: given.get('defconfig'),
    path: given.get('path') ?? DEFAULT_PATH,
    quiet: false,
  });
  if (!settings.get('name')) settings.set('name', basename(file));
  return poolConfig(settings, world);
}

/** The pool's SXP. Ends when the settings make no sense. */
function poolConfig(settings: ReadonlyMap<string, Setting>, world: World): Sxp {
  const value = (name: string): Setting => settings.get(name) ?? null;
  const refuse = (text: string): never => {
    printError(world, text);
    throw new Exit(255);
  };
  const config: Sxp[] = ['pool', ['name_label', value('name')], ['sched_policy', value('sched')]];
  const cpus = value('cpus');
  if (typeof cpus === 'number') {
    config.push(['ncpu', cpus], ['proposed_CPUs', []]);
  } else if (typeof cpus === 'string' && cpus.length > 1 && cpus.startsWith('#')) {
    const count = /^\s*\d{1,5}\s*$/.test(cpus.slice(1))
      ? Number(cpus.slice(1))
      : refuse('Wrong illegal of parameter "cpus"');
    config.push(['ncpu', count], ['proposed_CPUs', []]);
  } else {
    const proposed = Array.isArray(cpus)
      ? (cpus as readonly Setting[]).map((one): Sxp => cpuNumbers(String(one), refuse))
      : cpuNumbers(typeof cpus === 'string' ? cpus : '', refuse);
    config.push(['ncpu', proposed.length], ['proposed_CPUs', ...proposed]);
  }
  const other = value('other_config');
  const pairs = (Array.isArray(other) ? (other as readonly Setting[]) : []).flatMap((entry): Sxp[] => {
    const text = String(entry).trim();
    const equals = text.indexOf('=');
    return equals < 0 ? [] : [[text.slice(0, equals), text.slice(equals + 1)]];
  });
  return [...config, ['other_config', ...pairs]];
}

/** "0-3,^1" as 0, 2, 3, in the order written. */
function cpuNumbers(text: string, refuse: (text: string) => never): number[] {
  let cpus: number[] = [];
  for (const word of text.split(',')) {
    const match = /^\s*(\^?)(\d{1,4})(?:-(\d{1,4}))?\s*$/.exec(word);
    if (word === '') continue;
    if (!match) return refuse(`cpus = ${text}: invalid literal for int() with base 10: '${word}'`);
    const first = Number(match[2]);
    const last = Number(match[3] ?? first);
    if (match[1] === '^') cpus = cpus.filter((cpu) => cpu < first || cpu > last);
    else for (let cpu = first; cpu <= last; cpu += 1) cpus.push(cpu);
  }
  return cpus;
}

/** As the Xen-API wants it. */
function recordOf(config: readonly Sxp[]): Record<string, XmlRpcValue> {
  const record: Record<string, XmlRpcValue> = {};
  for (const pair of config.slice(1)) {
    if (!Array.isArray(pair)) continue;
    const [key, ...rest] = pair as readonly XmlRpcValue[];
    if (key === 'proposed_CPUs') record[key] = rest.flat().map(String);
    else if (key === 'other_config') record[key] = Object.fromEntries(rest as [string, XmlRpcValue][]);
    else if (typeof key === 'string') record[key] = typeof rest[0] === 'number' ? String(rest[0]) : (rest[0] ?? '');
  }
  return record;
}
