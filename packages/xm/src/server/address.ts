/** Where xend is: /etc/xen/xm-config.xml, else XM_SERVER, else the Unix socket of this host (Xen 4.4 `main.py`). */
import { existsSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { hostPaths } from '@xenhost/daemon-kit';
import { CommandFailed } from '../errors.ts';
import type { World } from '../world.ts';

export type ServerAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'http' | 'https'; readonly url: URL }
  | { readonly kind: 'ssh'; readonly user: string; readonly host: string; readonly path: string };

export interface Server {
  readonly type: 'LegacyXMLRPC' | 'Xen-API';
  readonly address: ServerAddress;
  readonly username: string;
  readonly password: string;
}

const DEFAULT_CONFIG_FILE = '/etc/xen/xm-config.xml';

/** Throws CommandFailed. What is odd about the configuration file is told on standard error. */
export async function serverOf(world: World): Promise<Server> {
  const file = world.env['XM_CONFIG_FILE'] ?? DEFAULT_CONFIG_FILE;
  const configured = await configuredServer(file, world);
  if (configured === undefined) {
    return { type: 'LegacyXMLRPC', address: serverAddress(world.env), username: '', password: '' };
  }
  const { type = '', uri = '', username = '', password = '' } = configured;
  const known = type === 'LegacyXMLRPC' || type === 'Xen-API';
  if (!known) world.err(`Invalid server type ${type}; using LegacyXMLRPC.\n`);
  return { type: known ? type : 'LegacyXMLRPC', address: parseAddress(uri, file), username, password };
}

/** The attributes of the first <server> of the file, where there is such a file. */
async function configuredServer(file: string, world: World): Promise<Readonly<Record<string, string>> | undefined> {
  if (!existsSync(file)) return undefined;
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
  const { parseXml, descendants } = await import('../xml.ts');
  try {
    return descendants(parseXml(text), 'server')[0]?.attributes;
  } catch {
    world.err(`Ignoring invalid configuration file ${file}.\n`);
    return undefined;
  }
}

/** What XM_SERVER says. Throws CommandFailed. */
export function serverAddress(env: NodeJS.ProcessEnv): ServerAddress {
  const given = env['XM_SERVER'];
  if (given === undefined || given === '') return { kind: 'unix', path: hostPaths(env).xendXmlrpc };
  return parseAddress(given, 'XM_SERVER');
}

/** `httpu:///path`, `http://host:port`, `https://host:port`, `ssh://[user@]host[/path]`. Throws CommandFailed. */
function parseAddress(given: string, source: string): ServerAddress {
  const unix = /^httpu:\/\/(\/.*)$/.exec(given)?.[1];
  if (unix !== undefined) return { kind: 'unix', path: unix };
  const ssh = /^ssh:\/\/(?:([^@/\s]+)@)?([^@/\s]+)(?:\/(\S*))?$/.exec(given);
  if (ssh) {
    const [, user = userInfo().username, host = '', path = ''] = ssh;
    // A word that starts with a dash would be an option of ssh.
    if (!user.startsWith('-') && !host.startsWith('-')) {
      return { kind: 'ssh', user, host, path: path === '' ? 'RPC2' : path };
    }
  }
  const url = URL.canParse(given) ? new URL(given) : undefined;
  if (url?.protocol === 'http:') return { kind: 'http', url };
  if (url?.protocol === 'https:') return { kind: 'https', url };
  throw new CommandFailed(
    `${source}: ${given} is not supported: give httpu:///path, http://host:port, https://host:port or ssh://user@host`,
  );
}
