/**
 * The list of Xen-API servers in xend-config.sxp: `((unix none) (9363 pam '^localhost$' key cert))`
 * (Xen 4.4 `SrvServer.py` _loadConfig). Without AUTH a Unix socket, which its folder protects, lets everybody in, and a
 * port asks PAM: what Xen 4.4's example file promises, where its code let everybody in there too.
 */
import { atomText, isList, type Sxp, type SxpList } from '@xenhost/sxp';
import { parseHostPatterns } from './hosts.ts';

export type XenApiAuth = 'none' | 'pam';

export interface TlsFiles {
  readonly keyFile: string;
  readonly certFile: string;
}

export interface XenApiServer {
  /** A port on an address, on all of them without one. */
  readonly address: 'unix' | { readonly host: string | undefined; readonly port: number };
  readonly auth: XenApiAuth;
  /** Who may connect; without it, everybody. */
  readonly hosts: readonly RegExp[] | undefined;
  readonly tls: TlsFiles | undefined;
}

export const DEFAULT_XEN_API_SERVERS: readonly XenApiServer[] = [
  { address: 'unix', auth: 'none', hosts: undefined, tls: undefined },
];

/** `fileOf` gives a file's full name. Throws Error; its `list` is the entry that is wrong. */
export function parseXenApiServers(value: Sxp | undefined, fileOf: (name: string) => string): XenApiServer[] {
  if (!isList(value)) throw new Error('expected a list of servers');
  return value.map((entry) => {
    if (!isList(entry)) throw new Error('expected (ADDRESS AUTH HOSTS KEY CERT)');
    try {
      return parseEntry(entry, fileOf);
    } catch (error) {
      throw Object.assign(error as Error, { list: entry });
    }
  });
}

function parseEntry(entry: SxpList, fileOf: (name: string) => string): XenApiServer {
  const [address = '', auth = '', hosts = '', key = '', cert = '', ...more] = entry.map((item) => {
    const text = atomText(item);
    if (text === undefined) throw new Error('expected (ADDRESS AUTH HOSTS KEY CERT)');
    return text;
  });
  if (more.length > 0) throw new Error(`more than (ADDRESS AUTH HOSTS KEY CERT): ${more.join(' ')}`);
  if (auth !== '' && auth !== 'pam' && auth !== 'none') throw new Error(`expected pam or none: ${auth}`);
  if ((key === '') !== (cert === '')) throw new Error('expected a key and a certificate, not one of them');
  const unix = address.toLowerCase() === 'unix';
  if (unix && key !== '') throw new Error('a Unix socket has no TLS');
  return {
    address: unix ? 'unix' : parsePort(address),
    auth: auth === '' ? (unix ? 'none' : 'pam') : auth,
    hosts: parseHostPatterns(hosts),
    tls: key === '' ? undefined : { keyFile: fileOf(key), certFile: fileOf(cert) },
  };
}

/** `PORT`, `HOST:PORT`, `[V6]:PORT`. Throws Error. */
export function parsePort(text: string): { readonly host: string | undefined; readonly port: number } {
  const match = /^(?:(\[[0-9a-f:.]+\]|[^:[\]]*):)?(\d{1,5})$/i.exec(text.trim());
  const port = Number(match?.[2]);
  if (!match || port > 65535) throw new Error(`expected PORT or HOST:PORT: ${text}`);
  const host = (match[1] ?? '').replace(/^\[|\]$/g, '');
  return { host: host === '' ? undefined : host, port };
}
