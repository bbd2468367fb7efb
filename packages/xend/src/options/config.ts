/**
 * Reads xend-config.sxp: `(KEY VALUE)` one after the other, in SXP. The first row of a key counts, as in Xen 4.4. What is
 * wrong is refused with its line; keys that nobody knows are told as warnings.
 */
import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { atomText, isList, parseAllSxp, SxpParseError, type Sxp, type SxpLines, type SxpList } from '@xenhost/sxp';
import { isLogLevel } from '../node/log.ts';
import { KEYS, type ConfigPlaces, type Key, type KeyRow, type KeyValues } from './keys.ts';
import { DEFAULT_XEN_API_SERVERS, parseXenApiServers, type XenApiServer } from './xen-api-servers.ts';

export interface XendConfig extends KeyValues {
  readonly 'xen-api-server': readonly XenApiServer[];
  /** Physical SCSI devices to look at, as lsscsi names them. */
  readonly 'pscsi-device-mask': readonly string[];
}

export interface ReadConfig {
  readonly config: XendConfig;
  /** Lines for the log. */
  readonly warnings: readonly string[];
}

/** A configuration that cannot be used; the message names file and line. */
export class ConfigError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ConfigError';
  }
}

const OTHER_KEYS = ['xen-api-server', 'pscsi-device-mask'] as const;
const TRUE = ['yes', 'y', '1', 'on', 'true', 't'];
const FALSE = ['no', 'n', '0', 'off', 'false', 'f'];

/** Reads the file; `file` undefined gives the defaults. Throws ConfigError. */
export function readConfig(file: string | undefined, places: ConfigPlaces): ReadConfig {
  if (file === undefined) return parseConfig('', 'defaults', places);
  let content: string;
  try {
    content = readFileSync(file, 'utf8');
  } catch (error) {
    throw new ConfigError(`cannot read ${file}: ${(error as Error).message}`, { cause: error });
  }
  return parseConfig(content, file, places);
}

/** `file` is for messages, and for paths that lie beside it. Throws ConfigError. */
export function parseConfig(content: string, file: string, places: ConfigPlaces): ReadConfig {
  const lines: SxpLines = new WeakMap();
  const warnings: string[] = [];
  const rows = new Map<string, SxpList>();
  for (const form of parse(content, file, lines)) {
    const [key] = isList(form) ? form : [];
    if (!isList(form) || typeof key !== 'string') {
      warnings.push(`${file}: ignored what is no (KEY VALUE): ${atomText(form) ?? 'a list without a key'}`);
      continue;
    }
    const at = lines.get(form) ?? 0;
    if (rows.has(key)) warnings.push(`${file}: line ${at}: ${key} was given before; the first one counts`);
    else if (!isKey(key)) warnings.push(`${file}: line ${at}: unknown key ${key}`);
    else rows.set(key, form);
  }
  /** Runs what reads a row; whatever it throws gets file and line. */
  const located = <T>(key: string, read: () => T): T => {
    try {
      return read();
    } catch (error) {
      const line = lines.get((error as { list?: SxpList }).list ?? rows.get(key) ?? []) ?? 0;
      throw new ConfigError(`${file}: line ${line}: invalid xend config ${key}: ${(error as Error).message}`);
    }
  };
  const values: Record<string, unknown> = {};
  for (const key of Object.keys(KEYS) as Key[]) {
    const row = rows.get(key);
    values[key] = row ? located(key, () => valueOf(KEYS[key], row, file)) : defaultOf(KEYS[key], places, file);
  }
  const level = values['loglevel'] as string;
  if (!isLogLevel(level)) located('loglevel', () => fail(`Unknown level: '${level}'`));
  if (!rows.has('enable-dom0-ballooning')) values['enable-dom0-ballooning'] = values['dom0-min-mem'] !== 0;
  const mask = rows.get('pscsi-device-mask');
  values['pscsi-device-mask'] = mask ? located('pscsi-device-mask', () => texts(mask[1])) : ['*'];
  const servers = rows.get('xen-api-server');
  values['xen-api-server'] = servers
    ? located('xen-api-server', () => parseXenApiServers(servers[1], (name) => beside(name, file)))
    : DEFAULT_XEN_API_SERVERS;
  return { config: values as unknown as XendConfig, warnings };
}

function fail(message: string): never {
  throw new Error(message);
}

const isKey = (key: string): boolean => key in KEYS || (OTHER_KEYS as readonly string[]).includes(key);

function parse(content: string, file: string, lines: SxpLines): readonly Sxp[] {
  try {
    return parseAllSxp(content, lines);
  } catch (error) {
    if (error instanceof SxpParseError) throw new ConfigError(`${file}: ${error.message}`, { cause: error });
    throw error;
  }
}

function valueOf(row: KeyRow, [, given, ...more]: SxpList, file: string): boolean | number | string {
  const value = atomText(given);
  if (value === undefined || more.length > 0) throw new Error('expected one value');
  const word = value.toLowerCase();
  switch (row.type) {
    case 'bool':
      if (TRUE.includes(word)) return true;
      if (FALSE.includes(word)) return false;
      throw new Error(`expected bool: ${value}`);
    case 'int': {
      const number = Number(value);
      if (!/^\s*\d{1,10}\s*$/.test(value)) throw new Error(`expected int: ${value}`);
      if (number > row.max) throw new Error(`expected an int up to ${row.max}: ${value}`);
      return number;
    }
    case 'text':
      return value;
    case 'path':
      return value === '' ? '' : beside(value, file);
  }
}

function defaultOf(row: KeyRow, places: ConfigPlaces, file: string): boolean | number | string {
  if (row.type !== 'path') return row.default;
  const path = row.default(places);
  return path === '' ? '' : beside(path, file);
}

const beside = (name: string, file: string): string => (name.includes('/') ? name : resolve(dirname(file), name));

function texts(value: Sxp | undefined): string[] {
  if (!isList(value)) throw new Error('expected a list');
  return value.map((item) => {
    const text = atomText(item);
    if (text === undefined) throw new Error('expected a list of names');
    return text;
  });
}
