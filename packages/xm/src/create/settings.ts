/** From the command line and the config file to one set of settings (Xen 4.4 `create.py`, `opts.py`). */
import { existsSync, readFileSync, statSync } from 'node:fs';
import os from 'node:os';
import { basename, isAbsolute, resolve } from 'node:path';
import { CommandFailed, OptionError } from '../errors.ts';
import { getopt } from '../getopt.ts';
import { print, type World } from '../world.ts';
import { DEFAULT_PATH, optionRows, variables, type Setting, type Variable } from './options.ts';

export interface CreateOptions {
  readonly quiet: boolean;
  readonly dryRun: boolean;
  readonly paused: boolean;
  readonly console: boolean;
  readonly help: 'options' | 'variables' | undefined;
  /** A config in SXP, used as it is. */
  readonly sxpFile: string | undefined;
  readonly configFile: string;
  readonly path: string;
  /** Variables set on the command line. */
  readonly settings: ReadonlyMap<string, Setting>;
  /** Other words with `=`: names that the config file sees. */
  readonly scriptVariables: ReadonlyMap<string, string>;
}

/** Where xm looks when no file is named. */
const DEFAULT_CONFIG_FILE = 'xmdefconfig';
const MAX_CONFIG_BYTES = 1 << 20;

const variableByName = new Map(variables.map((variable) => [variable.name, variable]));

/** Throws OptionError, CommandFailed. */
export function parseCommandLine(args: readonly string[]): CreateOptions {
  const { options, words } = getopt(args, optionRows);
  const given = new Map(options);
  const settings = new Map<string, Setting>();
  const scriptVariables = new Map<string, string>();
  let configFile = given.get('defconfig') ?? DEFAULT_CONFIG_FILE;
  for (const word of words) {
    const equals = word.indexOf('=');
    if (equals < 0) {
      configFile = word;
      continue;
    }
    const [name, value] = [word.slice(0, equals), word.slice(equals + 1)];
    const variable = variableByName.get(name);
    if (variable) settings.set(name, converted(variable, value, settings.get(name)));
    else scriptVariables.set(name.trim(), value.trim());
  }
  if (given.has('xmldryrun')) throw new CommandFailed('XML configurations are not supported in this version');
  if (given.has('viewer')) throw new CommandFailed('--vncviewer is not supported in this version');
  return {
    quiet: given.has('quiet'),
    dryRun: given.has('dryrun'),
    paused: given.has('paused'),
    console: given.has('console'),
    help: given.has('help_config') ? 'variables' : given.has('help') ? 'options' : undefined,
    sxpFile: given.get('config'),
    configFile,
    path: given.get('path') ?? DEFAULT_PATH,
    settings,
    scriptVariables,
  };
}

function converted(variable: Variable, value: string, earlier: Setting | undefined): Setting {
  switch (variable.kind) {
    case 'text':
      return value;
    case 'list':
      return [...(Array.isArray(earlier) ? (earlier as readonly Setting[]) : []), value];
    case 'yes':
      if (value === 'yes' || value === 'y') return 1;
      if (value === 'no' || value === 'n') return 0;
      throw new CommandFailed(`Invalid value:${value}`);
    case 'int':
      if (!/^\s*[-+]?\d{1,15}\s*$/.test(value)) throw new CommandFailed(`Invalid value: ${value}`);
      return Number(value);
  }
}

/** The path of the config file as xm shows it: as given, else in each folder of the search path. Throws OptionError. */
function findConfigFile(options: CreateOptions, cwd: string): string {
  const file = options.configFile;
  for (const folder of ['', ...options.path.split(':')]) {
    const joined = folder === '' || isAbsolute(file) ? file : `${folder.replace(/\/$/, '')}/${file}`;
    const shown = isAbsolute(joined) ? joined : `./${joined}`;
    if (existsSync(resolve(cwd, shown))) return shown;
  }
  throw new OptionError(`Unable to open config file: ${file}`);
}

/** All settings: defaults, then the file's, then the command line's. Throws OptionError, CommandFailed. */
export async function loadSettings(options: CreateOptions, world: World): Promise<Map<string, Setting>> {
  const shown = findConfigFile(options, world.cwd);
  if (!options.quiet) print(world, `Using config file "${shown}".`);
  const settings = new Map<string, Setting>(variables.map(({ name, fallback }) => [name, fallback]));
  for (const [name, value] of await readConfigFile(shown, options, world)) settings.set(name, value);
  for (const [name, value] of options.settings) settings.set(name, value);
  if (!settings.get('name')) settings.set('name', basename(options.configFile));
  settings.set('display', settings.get('display') ?? world.env['DISPLAY'] ?? null);
  settings.set('xauthority', settings.get('xauthority') ?? xauthority(world.env));
  return settings;
}

export function xauthority(env: NodeJS.ProcessEnv): string {
  return env['XAUTHORITY'] || `${env['HOME'] ?? os.homedir()}/.Xauthority`;
}

async function readConfigFile(shown: string, options: CreateOptions, world: World): Promise<Map<string, Setting>> {
  const path = resolve(world.cwd, shown);
  let source: string;
  try {
    const { size } = statSync(path);
    if (size > MAX_CONFIG_BYTES) throw new CommandFailed(`${shown} is larger than ${MAX_CONFIG_BYTES} bytes`);
    source = readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof CommandFailed) throw error;
    throw new CommandFailed(`Cannot read file ${shown}: ${(error as Error).message}`);
  }
  if (source.startsWith('<')) throw new CommandFailed('XML configurations are not supported in this version');
  const [{ evaluateConfig }, { ConfigFileError }, { toSetting }] = await Promise.all([
    import('../python/evaluate.ts'),
    import('../python/errors.ts'),
    import('./python-settings.ts'),
  ]);
  const scope = new Map<string, import('../python/values.ts').PyValue>(options.scriptVariables);
  scope.set('xm_file', shown);
  scope.set('xm_help', 0n);
  try {
    evaluateConfig(source, scope, {
      world: {
        env: world.env,
        cwd: world.cwd,
        uname: [os.type(), os.hostname(), os.release(), os.version(), os.machine()],
        kindOf: kindOfPath,
      },
      print: (line) => {
        print(world, line);
      },
    });
  } catch (error) {
    if (!(error instanceof ConfigFileError)) throw error;
    const text = source.split(/\r?\n/)[error.line - 1] ?? '';
    throw new CommandFailed(
      `Errors were found at line ${error.line} while processing ${shown}:\n\t${text.trim()}\n${error.message}`,
    );
  }
  const settings = new Map<string, Setting>();
  for (const [name, value] of scope) {
    const setting = toSetting(value);
    if (setting !== undefined && name !== 'xm_file' && name !== 'xm_help') settings.set(name, setting);
  }
  return settings;
}

function kindOfPath(path: string): 'file' | 'directory' | 'other' | undefined {
  try {
    const found = statSync(path);
    return found.isFile() ? 'file' : found.isDirectory() ? 'directory' : 'other';
  } catch {
    return undefined;
  }
}
