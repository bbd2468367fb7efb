/** Which servers a configuration asks for, and where (Xen 4.4 `SrvServer.py` _loadConfig, `relocate.py`). */
import { join } from 'node:path';
import type { XendConfig } from './config.ts';
import { parseHostPatterns } from './hosts.ts';
import type { TlsFiles, XenApiAuth } from './xen-api-servers.ts';

/** What is spoken there: legacy XML-RPC, the Xen-API, HTTP with SXP, the relocation protocol. */
export type Service = 'xmlrpc' | 'xen-api' | 'sxp' | 'relocation';

export interface UnixAddress {
  readonly path: string;
  /** Permission bits that its folder gets; without it the folder is left as it is. */
  readonly folderMode?: number;
}

/** A port of an address; of all of them without a host. Port 0 takes any that is free. */
export interface TcpAddress {
  readonly host: string | undefined;
  readonly port: number;
}

export interface ServerSpec {
  readonly service: Service;
  /** The key of the configuration that asks for it, for messages. */
  readonly key: string;
  readonly address: UnixAddress | TcpAddress;
  /** Who may connect; without it, everybody. */
  readonly hosts?: readonly RegExp[] | undefined;
  readonly tls?: TlsFiles | undefined;
  /** How the Xen-API lets people in. */
  readonly auth?: XenApiAuth;
}

/** Where sockets are that no key names. */
export interface SocketPlaces {
  /** /var/run/xend/xmlrpc.sock */
  readonly xmlrpc: string;
  /** /var/run/xend/xen-api.sock */
  readonly xenApi: string;
  /** xend's state: /var/lib/xend. */
  readonly state: string;
}

export const isUnix = (address: ServerSpec['address']): address is UnixAddress => 'path' in address;

/** Only xend's owner may enter the folder of sockets that ask for no password. */
const PRIVATE_FOLDER = 0o700;

/** Throws Error for a list of hosts that is none. */
export function serversOf(config: XendConfig, places: SocketPlaces): ServerSpec[] {
  const servers: ServerSpec[] = [];
  if (config['xend-unix-xmlrpc-server']) {
    const address = { path: places.xmlrpc, folderMode: PRIVATE_FOLDER };
    servers.push({ service: 'xmlrpc', key: 'xend-unix-xmlrpc-server', address });
  }
  if (config['xend-tcp-xmlrpc-server']) servers.push(tcpXmlRpc(config));
  for (const { address, auth, hosts, tls } of config['xen-api-server']) {
    const where = address === 'unix' ? { path: places.xenApi, folderMode: PRIVATE_FOLDER } : address;
    servers.push({ service: 'xen-api', key: 'xen-api-server', address: where, auth, hosts, tls });
  }
  if (config['xend-http-server']) {
    const address = { host: orAll(config['xend-address']), port: config['xend-port'] };
    servers.push({ service: 'sxp', key: 'xend-http-server', address });
  }
  if (config['xend-unix-server']) {
    servers.push({ service: 'sxp', key: 'xend-unix-server', address: { path: config['xend-unix-path'] } });
    const address = { path: join(places.state, 'relocation-socket') };
    servers.push({ service: 'relocation', key: 'xend-unix-server', address });
  }
  return [...servers, ...relocation(config)];
}

const orAll = (host: string): string | undefined => (host === '' ? undefined : host);

function tcpXmlRpc(config: XendConfig): ServerSpec {
  const keyFile = config['xend-tcp-xmlrpc-server-ssl-key-file'];
  const certFile = config['xend-tcp-xmlrpc-server-ssl-cert-file'];
  return {
    service: 'xmlrpc',
    key: 'xend-tcp-xmlrpc-server',
    address: { host: orAll(config['xend-tcp-xmlrpc-server-address']), port: config['xend-tcp-xmlrpc-server-port'] },
    tls: keyFile !== '' && certFile !== '' ? { keyFile, certFile } : undefined,
  };
}

function relocation(config: XendConfig): ServerSpec[] {
  const hosts = parseHostPatterns(config['xend-relocation-hosts-allow']);
  const host = orAll(config['xend-relocation-address']);
  const service = 'relocation';
  const servers: ServerSpec[] = [];
  if (config['xend-relocation-server']) {
    const address = { host, port: config['xend-relocation-port'] };
    servers.push({ service, key: 'xend-relocation-server', address, hosts });
  }
  if (config['xend-relocation-ssl-server']) {
    servers.push({
      service,
      key: 'xend-relocation-ssl-server',
      address: { host, port: config['xend-relocation-ssl-port'] },
      hosts,
      tls: {
        keyFile: config['xend-relocation-server-ssl-key-file'],
        certFile: config['xend-relocation-server-ssl-cert-file'],
      },
    });
  }
  return servers;
}
