/** xm create and xm new. */
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { atomNumber, atomText, childValue, parseAllSxp, prettySxp, type Sxp } from '@xenhost/sxp';
import { XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { CommandContext, Run } from '../commands/command.ts';
import { attachConsole } from '../commands/console.ts';
import { asSxp } from '../commands/domain-rows.ts';
import { CommandFailed } from '../errors.ts';
import { print, type World } from '../world.ts';
import { makeConfig } from './make-config.ts';
import { optionHelp, variableHelp } from './options.ts';
import { loadSettings, parseCommandLine, type CreateOptions } from './settings.ts';

export const create: Run = async (context, args) => {
  const prepared = await prepare(context.world, args);
  if (!prepared) return undefined;
  const { options, config } = prepared;
  const { name, domid } = await makeDomain(context, config, options.paused);
  if (!options.quiet) print(context.world, `Started domain ${name} (id=${domid})`);
  return options.console ? attachConsole(context, domid) : undefined;
};

export const new_: Run = async (context, args) => {
  const prepared = await prepare(context.world, args);
  if (!prepared) return undefined;
  await failing(context.server.call('xend.domain.new', prepared.config as XmlRpcValue));
  return undefined;
};

/** Reads the command line and the configuration; undefined when that was all there was to do (help, dry run). */
async function prepare(
  world: World,
  args: readonly string[],
): Promise<{ readonly options: CreateOptions; readonly config: Sxp } | undefined> {
  const options = parseCommandLine(args);
  if (options.help !== undefined) {
    world.out(options.help === 'variables' ? variableHelp() : optionHelp());
    return undefined;
  }
  const config =
    options.sxpFile === undefined
      ? makeConfig(await loadSettings(options, world), world)
      : readSxpConfig(options.sxpFile, world.cwd);
  if (!options.dryRun) return { options, config };
  print(world, prettySxp(config));
  return undefined;
}

function readSxpConfig(file: string, cwd: string): Sxp {
  let text: string;
  try {
    text = readFileSync(resolve(cwd, file), 'utf8');
  } catch (error) {
    throw new CommandFailed(`Cannot read file ${file}: ${(error as Error).message}`);
  }
  try {
    const [config] = parseAllSxp(text);
    if (config !== undefined) return config;
  } catch (error) {
    throw new CommandFailed(`${file}: ${(error as Error).message}`);
  }
  throw new CommandFailed(`${file} is empty`);
}

/** A fault while a domain is made is told without the usage. */
async function failing<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof XmlRpcFault) throw new CommandFailed(error.faultString);
    throw error;
  }
}

/** Creates, waits for the devices, unpauses. A domain that does not get that far is destroyed. */
async function makeDomain(
  { server }: CommandContext,
  config: Sxp,
  paused: boolean,
): Promise<{ readonly name: string; readonly domid: number }> {
  const made = asSxp(await failing(server.call('xend.domain.create', config as XmlRpcValue)));
  const name = atomText(childValue(made, 'name')) ?? '';
  const domid = atomNumber(childValue(made, 'domid')) ?? -1;
  const orDestroy = async (step: string, text: (error: unknown) => string): Promise<void> => {
    try {
      await server.call(step, name);
    } catch (error) {
      await server.call('xend.domain.destroy', name).catch(() => undefined);
      throw new CommandFailed(text(error));
    }
  };
  await orDestroy('xend.domain.waitForDevices', (error) =>
    error instanceof XmlRpcFault ? error.faultString : `Device creation failed for domain ${name}`,
  );
  if (!paused) await orDestroy('xend.domain.unpause', () => `Failed to unpause domain ${name}`);
  return { name, domid };
}
