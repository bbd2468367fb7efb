/** xm save, restore, resume, migrate, dump-core. */
import { accessSync, constants } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { CommandFailed } from '../errors.ts';
import { getopt, wrongArguments, type OptionSpec } from '../getopt.ts';
import { domainMemory, fileSize, withProgress } from '../progress.ts';
import { print } from '../world.ts';
import type { Run } from './command.ts';
import { badOption, wrongCount } from './words.ts';
import { parseOptions } from '../options.ts';
import { MIGRATE_HELP, MIGRATE_OPTIONS } from './migrate-options.ts';

const PAUSED: OptionSpec = { name: 'paused', short: 'p', long: 'paused' };

function accessible(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

export const save: Run = async (context, args) => {
  const { world, server, api } = context;
  const { options, words } = getopt(args, [{ name: 'checkpoint', short: 'c', long: 'checkpoint' }]);
  const [dom = '', file = ''] = words;
  if (words.length !== 2) throw wrongCount(world);
  const path = resolve(world.cwd, file);
  if (!accessible(dirname(path), constants.W_OK)) throw new CommandFailed(`xm save: Unable to create file ${path}`);
  const checkpoint = options.length > 0;
  await withProgress(world, `Saving ${dom}`, { size: domainMemory(context, dom), done: fileSize(path) }, async () => {
    if (api) await api.call('VM.save', await api.vm(dom), path, checkpoint);
    else await server.call('xend.domain.save', dom, path, checkpoint);
  });
  return undefined;
};

export const restore: Run = async ({ world, server, api }, args) => {
  const { options, words } = getopt(args, [PAUSED]);
  if (words.length !== 1) throw wrongCount(world);
  const path = resolve(world.cwd, words[0] ?? '');
  if (!accessible(path, constants.R_OK)) throw new CommandFailed(`xm restore: Unable to read file ${path}`);
  const paused = options.length > 0;
  await withProgress(world, 'Restoring', {}, () =>
    api ? api.call('VM.restore', path, paused) : server.call('xend.domain.restore', path, paused),
  );
  return undefined;
};

export const resume: Run = async ({ world, server, api }, args) => {
  const { options, words } = getopt(args, [PAUSED]);
  if (words.length !== 1) throw wrongCount(world);
  const [dom = ''] = words;
  const paused = options.length > 0;
  await withProgress(world, `Resuming ${dom}`, {}, async () =>
    api ? api.call('VM.resume', await api.vm(dom), paused) : server.call('xend.domain.resume', dom, paused),
  );
  return undefined;
};

export const migrate: Run = async ({ world, server, api }, args) => {
  const { options, words } = parseOptions(args, MIGRATE_OPTIONS, { help: MIGRATE_HELP });
  const given = new Map(options);
  const [dom = '', host = ''] = words;
  if (words.length !== 2) throw wrongArguments('Invalid number of arguments');
  const number = (name: string, missing: number): number => {
    const text = given.get(name);
    if (text === undefined) return missing;
    if (!/^\s*[-+]?\d{1,9}\s*$/.test(text)) throw new CommandFailed(`Invalid value: ${text}`);
    return Number(text);
  };
  const [port, node] = [number('port', 0), number('node', -1)];
  const ssl = given.has('ssl') ? 1 : null;
  const change = given.has('change_home_server') ? 1 : 0;
  await withProgress(world, `Migrating ${dom} to ${host}`, {}, async () => {
    if (api) {
      const other = { port, node, ssl, change_home_server: change };
      await api.call('VM.migrate', await api.vm(dom), host, given.has('live'), other);
    } else {
      await server.call('xend.domain.migrate', dom, host, given.has('live') ? 1 : 0, port, node, ssl, change);
    }
  });
  return undefined;
};

export const dumpCore: Run = async (context, args) => {
  const { world, server } = context;
  const { options, words } = badOption(() =>
    getopt(args, [
      { name: 'live', short: 'L', long: 'live' },
      { name: 'crash', short: 'C', long: 'crash' },
      { name: 'reset', short: 'R', long: 'reset' },
    ]),
  );
  const given = new Set(options.map(([name]) => name));
  if (given.has('crash') && given.has('reset')) throw wrongArguments("You may not specify more than one '-CR' option");
  const [dom, file] = words;
  if (dom === undefined || words.length > 2) throw wrongArguments('Expects 1 or 2 argument(s)');
  const path = file === undefined ? null : resolve(world.cwd, file);
  print(world, `Dumping core of domain: ${dom} ...`);
  await withProgress(
    world,
    `Dumping ${dom}`,
    path === null ? {} : { size: domainMemory(context, dom), done: fileSize(path) },
    () => server.call('xend.domain.dump', dom, path, given.has('live'), given.has('crash'), given.has('reset')),
  );
  return undefined;
};
