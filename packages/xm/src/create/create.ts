/** xm create and xm new (Xen 4.4 `create.py`, `new.py`). */
import { basename } from 'node:path';
import { atomNumber, atomText, childValue, prettySxp, type Sxp } from '@xenhost/sxp';
import { XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { CommandContext, Run } from '../commands/command.ts';
import { attachConsole } from '../commands/console.ts';
import { asSxp } from '../commands/domain-rows.ts';
import { CommandFailed } from '../errors.ts';
import { parseOptions, variableHelp } from '../options.ts';
import { withProgress } from '../progress.ts';
import { print, type World } from '../world.ts';
import { makeConfig } from './make-config.ts';
import { DEFAULT_PATH, optionRows, variables } from './options.ts';
import { readSettings, xauthority } from './settings.ts';
import { readSxpConfig } from './sxp-file.ts';

const HELP = '[options] [vars]\n\nCreate a domain.\n\n';

interface CreateOptions {
  readonly quiet: boolean;
  readonly paused: boolean;
  readonly console: boolean;
  /** Open a viewer, and hand it the password. */
  readonly viewer: boolean;
  readonly autopass: boolean;
}

/** A configuration and what to do with it; XML has none but for the Xen-API. */
interface Prepared {
  readonly options: CreateOptions;
  readonly config: Sxp | undefined;
  readonly xml: string | undefined;
}

export const create: Run = async (context, args) => {
  const prepared = await prepare(context, args, { transient: true });
  if (!prepared) return undefined;
  const { options, config } = prepared;
  if (context.api) {
    await createByApi(context, prepared, true);
    return undefined;
  }
  // Xen 4.4 leaves an XML file to the Xen-API and says nothing.
  if (config === undefined) return undefined;
  const { name, domid } = await makeDomain(context, config, options.paused);
  if (!options.quiet) print(context.world, `Started domain ${name} (id=${domid})`);
  if (options.viewer) {
    const { runViewer } = await import('../commands/vncviewer.ts');
    await runViewer(context, name, { autopass: options.autopass, detached: true });
  }
  return options.console ? attachConsole(context, domid) : undefined;
};

export const new_: Run = async (context, args) => {
  const prepared = await prepare(context, args, { transient: false });
  if (!prepared) return undefined;
  if (context.api) await createByApi(context, prepared, false);
  else if (prepared.config !== undefined) {
    await failing(context.server.call('xend.domain.new', prepared.config as XmlRpcValue));
  }
  return undefined;
};

/** The configuration that words on the command line make, for other commands. Throws OptionError, CommandFailed. */
export async function configOf(world: World, words: readonly string[]): Promise<Sxp> {
  const { options, words: rest } = parseOptions(words, optionRows, { help: HELP });
  const config = (await readConfig(world, new Map(options), rest)).config;
  if (config === undefined) throw new CommandFailed('XML configurations are for the Xen-API only');
  return config;
}

/** Reads the command line and the configuration; undefined when that was all there was to do (help, dry run). */
async function prepare(
  context: CommandContext,
  args: readonly string[],
  { transient }: { readonly transient: boolean },
): Promise<Prepared | undefined> {
  const { world } = context;
  const { options, words } = parseOptions(args, optionRows, { help: HELP });
  const given = new Map(options);
  if (given.has('help_config')) world.out(variableHelp(variables));
  if (given.has('help') || given.has('help_config')) return undefined;
  const { config, xml, viewer } = await readConfig(world, given, words);
  if (config !== undefined && given.has('dryrun')) print(world, prettySxp(config));
  if (config !== undefined && given.has('xmldryrun') && context.api) {
    const { domainXml } = await import('../xen-api/domain-xml.ts');
    world.out(domainXml(config, transient));
  }
  if (given.has('dryrun') || given.has('xmldryrun')) return undefined;
  if (given.has('skipdtd') && context.api) print(world, 'Skipping DTD checks.  Dangerous!');
  return {
    options: {
      quiet: given.has('quiet'),
      paused: given.has('paused'),
      console: given.has('console'),
      viewer,
      autopass: given.has('autopass'),
    },
    config,
    xml,
  };
}

interface ReadConfig {
  readonly config: Sxp | undefined;
  readonly xml: string | undefined;
  readonly viewer: boolean;
}

async function readConfig(
  world: World,
  given: ReadonlyMap<string, string>,
  words: readonly string[],
): Promise<ReadConfig> {
  const sxpFile = given.get('config');
  if (sxpFile !== undefined) return { config: readSxpConfig(sxpFile, world.cwd), xml: undefined, viewer: false };
  const { settings, file, xml } = await readSettings(world, variables, {
    words,
    defconfig: given.get('defconfig'),
    path: given.get('path') ?? DEFAULT_PATH,
    quiet: given.has('quiet'),
    help: HELP,
  });
  if (xml !== undefined) return { config: undefined, xml, viewer: false };
  if (!settings.get('name')) settings.set('name', basename(file));
  settings.set('display', settings.get('display') ?? world.env['DISPLAY'] ?? null);
  settings.set('xauthority', settings.get('xauthority') ?? xauthority(world.env));
  // Xen 4.4 takes --vncviewer and vncviewer= and does nothing with them here.
  const viewer = Boolean(settings.get('vncconsole'));
  return { config: makeConfig(settings, world, given.has('console')), xml: undefined, viewer };
}

/** A fault while a domain is made is told without the usage. */
async function failing<T>(call: Promise<T>): Promise<T> {
  try {
    return await call;
  } catch (error) {
    if (error instanceof XmlRpcFault) {
      throw new CommandFailed(
        error.faultCode === INVALID_DOMAIN ? `the domain '${error.faultString}' does not exist.` : error.faultString,
      );
    }
    throw error;
  }
}

const INVALID_DOMAIN = 3;

/** Creates, waits for the devices, unpauses. A domain that does not get that far is destroyed. */
async function makeDomain(
  { world, server }: CommandContext,
  config: Sxp,
  paused: boolean,
): Promise<{ readonly name: string; readonly domid: number }> {
  const label = `Creating ${atomText(childValue(config, 'name')) ?? 'a domain'}`;
  const steps = paused ? 2 : 3;
  let done = 0;
  return withProgress(world, label, { size: () => Promise.resolve(steps), done: () => Promise.resolve(done) }, work);

  async function work(): Promise<{ readonly name: string; readonly domid: number }> {
    const made = asSxp(await failing(server.call('xend.domain.create', config as XmlRpcValue)));
    done += 1;
    const name = atomText(childValue(made, 'name')) ?? '';
    const domid = atomNumber(childValue(made, 'domid')) ?? -1;
    const orDestroy = async (step: string, text: (error: unknown) => string): Promise<void> => {
      try {
        await server.call(step, name);
        done += 1;
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
}

/** The machine's record and its devices, one call each; started where it is to run. */
async function createByApi(
  { world, api }: CommandContext,
  { config, xml, options }: Prepared,
  start: boolean,
): Promise<void> {
  if (!api) return;
  const { createFromSxp, createFromXml } = await import('../xen-api/create.ts');
  const refs =
    config === undefined ? await createFromXml(api, xml ?? '', world) : [await createFromSxp(api, config, start)];
  if (start) for (const ref of refs) await api.call('VM.start', ref, options.paused);
}
