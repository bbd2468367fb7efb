/** From the command line and the config file to one set of settings (Xen 4.4 `opts.py`). */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import os from 'node:os';
import { isAbsolute, resolve } from 'node:path';
import { CommandFailed, OptionError } from '../errors.ts';
import { print, type World } from '../world.ts';
import type { Setting, Variable } from './options.ts';

/** What the command line says about where settings come from. */
export interface SettingsRequest {
  /** Words that are no options: `VAR=VAL`, and the file; the last one counts. */
  readonly words: readonly string[];
  readonly defconfig: string | undefined;
  readonly path: string;
  readonly quiet: boolean;
  /** What follows the usage when the file is not found. */
  readonly help?: string;
}

export interface Settings {
  readonly settings: Map<string, Setting>;
  /** The file's name as it was given. */
  readonly file: string;
  /** Where it was found, as xm shows it; undefined when it was XML. */
  readonly xml: string | undefined;
}

/** Where xm looks when no file is named. */
const DEFAULT_CONFIG_FILE = 'xmdefconfig';
const MAX_CONFIG_BYTES = 1 << 20;

/** Defaults, then the file's, then the command line's. Throws OptionError, CommandFailed. */
export async function readSettings(
  world: World,
  variables: readonly Variable[],
  request: SettingsRequest,
): Promise<Settings> {
  const byName = new Map(variables.map((variable) => [variable.name, variable]));
  const given = new Map<string, Setting>();
  const scriptVariables = new Map<string, string>();
  let file = request.defconfig ?? DEFAULT_CONFIG_FILE;
  for (const word of request.words) {
    const equals = word.indexOf('=');
    if (equals < 0) {
      file = word;
      continue;
    }
    const [name, value] = [word.slice(0, equals), word.slice(equals + 1)];
    const variable = byName.get(name);
    if (variable) given.set(name, converted(variable, value, given.get(name)));
    else scriptVariables.set(name.trim(), value.trim());
  }
  const shown = findConfigFile(file, request, world.cwd);
  if (!request.quiet) print(world, `Using config file "${shown}".`);
  const source = readConfigFile(shown, world.cwd);
  const settings = new Map<string, Setting>(variables.map(({ name, fallback }) => [name, fallback]));
  if (source.startsWith('<')) return { settings, file, xml: shown };
  for (const [name, value] of await evaluated(source, shown, scriptVariables, world)) settings.set(name, value);
  for (const [name, value] of given) settings.set(name, value);
  return { settings, file, xml: undefined };
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
function findConfigFile(file: string, { path, help }: SettingsRequest, cwd: string): string {
  for (const folder of ['', ...path.split(':')]) {
    const joined = folder === '' || isAbsolute(file) ? file : `${folder.replace(/\/$/, '')}/${file}`;
    const shown = isAbsolute(joined) ? joined : `./${joined}`;
    if (existsSync(resolve(cwd, shown))) return shown;
  }
  throw new OptionError(`Unable to open config file: ${file}`, help === undefined ? {} : { after: help });
}

/** Of a file, a pipe or a device: `xm create /dev/null kernel=...` is how one does without a file. */
function readConfigFile(shown: string, cwd: string): string {
  const bytes = Buffer.alloc(MAX_CONFIG_BYTES + 1);
  let length = 0;
  try {
    const fd = openSync(resolve(cwd, shown), 'r');
    try {
      for (let got = -1; got !== 0 && length < bytes.length; length += got)
        got = readSync(fd, bytes, length, bytes.length - length, null);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw new CommandFailed(`Cannot read file ${shown}: ${(error as Error).message}`);
  }
  if (length > MAX_CONFIG_BYTES) throw new CommandFailed(`${shown} is larger than ${MAX_CONFIG_BYTES} bytes`);
  return bytes.toString('utf8', 0, length);
}

export function xauthority(env: NodeJS.ProcessEnv): string {
  return env['XAUTHORITY'] || `${env['HOME'] ?? os.homedir()}/.Xauthority`;
}

/** The names that a file sets; none where it cannot be read or understood. */
export async function namesSetBy(file: string, world: World): Promise<ReadonlySet<string>> {
  try {
    return new Set((await evaluated(readConfigFile(file, world.cwd), file, new Map(), world)).keys());
  } catch {
    return new Set();
  }
}

/** What the file sets, evaluated, never executed. */
async function evaluated(
  source: string,
  shown: string,
  variables: ReadonlyMap<string, string>,
  world: World,
): Promise<Map<string, Setting>> {
  const [{ evaluateConfig }, { ConfigFileError }, { toSetting }, { configVariables }] = await Promise.all([
    import('../python/evaluate.ts'),
    import('../python/errors.ts'),
    import('./python-settings.ts'),
    import('../python/config-variables.ts'),
  ]);
  const scope = new Map<string, import('../python/values.ts').PyValue>(variables);
  scope.set('xm_file', shown);
  scope.set('xm_help', 0n);
  scope.set('xm_vars', configVariables(scope));
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
