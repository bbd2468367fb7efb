/** Opens the servers that a configuration asks for, and closes them all. */
import { chmod } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { claimUnixPath } from '@xenhost/daemon-kit';
import type { XendLog } from '../node/log.ts';
import { isUnix, type ServerSpec } from '../options/servers.ts';
import { answer } from '../rpc/dispatch.ts';
import type { MethodContext } from '../rpc/method.ts';
import { xenApiAnswer } from '../rpc/xen-api.ts';
import { buildServer } from '../server.ts';
import type { XenApi } from '../xenapi/index.ts';
import { BodyBudget } from './body.ts';
import { buildRelocationServer } from './relocation.ts';
import { listen, readTlsFiles, type HttpOptions } from './server.ts';
import { buildSxpServer } from './sxp-server.ts';

export interface ServerModules {
  readonly context: MethodContext;
  readonly xenApi: XenApi;
  readonly log: XendLog;
}

/** A server that listens. */
export interface OpenServer {
  readonly spec: ServerSpec;
  /** Of a TCP server. */
  readonly port: number | undefined;
  close(): Promise<void>;
}

/** Opens them one after the other. When one cannot be opened those before it are closed and its reason is thrown. */
export async function openServers(specs: readonly ServerSpec[], modules: ServerModules): Promise<OpenServer[]> {
  const budget = new BodyBudget();
  const open: OpenServer[] = [];
  try {
    for (const spec of specs) {
      const [from, message] = announcement(spec);
      modules.log.info(from, message);
      open.push(await openServer(spec, modules, budget));
    }
  } catch (error) {
    await closeServers(open);
    throw error;
  }
  return open;
}

export async function closeServers(servers: readonly OpenServer[]): Promise<void> {
  await Promise.all(servers.map((server) => server.close()));
}

async function openServer(spec: ServerSpec, modules: ServerModules, budget: BodyBudget): Promise<OpenServer> {
  const options: HttpOptions = {
    tls: spec.tls && (await readTlsFiles(spec.tls)),
    // A Unix socket's clients have no host: its folder says who they may be.
    hosts: isUnix(spec.address) ? undefined : spec.hosts,
    anyLineEnd: isUnix(spec.address),
  };
  if (spec.service === 'relocation') return openRelocation(spec, options, modules);
  const server = buildHttp(spec, options, modules, budget);
  const port = await listen(server, spec);
  return { spec, port, close: () => server.close() };
}

function buildHttp(spec: ServerSpec, options: HttpOptions, modules: ServerModules, budget: BodyBudget) {
  const { context, xenApi, log } = modules;
  if (spec.service === 'sxp') return buildSxpServer(options, { log, budget, context });
  const answers =
    spec.service === 'xen-api'
      ? xenApiAnswer(xenApi, spec.auth ?? 'pam', log)
      : (document: string) => answer(context, document);
  return buildServer(options, { log, budget, answer: answers });
}

async function openRelocation(
  spec: ServerSpec,
  options: HttpOptions,
  { context, log }: ServerModules,
): Promise<OpenServer> {
  const { server, close } = buildRelocationServer(options, { manager: context.manager, log });
  const { address, key } = spec;
  try {
    if (isUnix(address)) await claimUnixPath(address.path, address.folderMode);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(isUnix(address) ? { path: address.path } : { ...address }, () => {
        server.off('error', reject);
        resolve();
      });
    });
    if (isUnix(address)) await chmod(address.path, 0o600);
  } catch (error) {
    throw new Error(`${key}: ${(error as Error).message}`, { cause: error });
  }
  return { spec, port: isUnix(address) ? undefined : (server.address() as AddressInfo).port, close };
}

/** Who says in the log what is opened, and the line, as people look for it. */
function announcement({ service, address, tls, auth }: ServerSpec): [string, string] {
  const port = isUnix(address) ? 0 : address.port;
  const host = isUnix(address) ? undefined : address.host;
  const place = isUnix(address)
    ? address.path
    : host === undefined
      ? `all interfaces, port ${port}`
      : `${host}:${port}`;
  switch (service) {
    case 'relocation':
      return ['relocate', `Opening ${tls ? 'SSL ' : ''}relocation server on ${place}.`];
    case 'sxp':
      return ['SrvServer', `Opening HTTP server on ${place}.`];
    case 'xmlrpc':
    case 'xen-api': {
      const kind = isUnix(address) ? 'Unix domain socket' : tls ? 'HTTPS' : 'TCP';
      const rule = auth === 'none' ? '; authentication has been disabled for this server.' : '.';
      return ['XMLRPCServer', `Opening ${kind} XML-RPC server on ${place}${rule}`];
    }
  }
}
