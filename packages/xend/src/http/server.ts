/**
 * What all of xend's HTTP servers have in common: fastify over a server of node's own whose clients are bounded in number,
 * time and memory, that knows which hosts may connect, and that listens on a Unix socket or a port, with TLS or without.
 */
import { readFile, chmod } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { claimUnixPath } from '@xenhost/daemon-kit';
import fastify, { type FastifyInstance, type FastifyRequest } from 'fastify';
import {
  HANDSHAKE_TIMEOUT_MS,
  HEAD_TIMEOUT_MS,
  KEEP_ALIVE_TIMEOUT_MS,
  MAX_CONNECTIONS,
  REQUEST_TIMEOUT_MS,
  TIMEOUT_CHECK_MS,
} from '../limits.ts';
import type { XendLog } from '../node/log.ts';
import { hostAllowed } from '../options/hosts.ts';
import { isUnix, type ServerSpec } from '../options/servers.ts';
import type { TlsFiles } from '../options/xen-api-servers.ts';
import { BodyBudget, type Hold } from './body.ts';

/** A key and a certificate as they stand in their files. */
export interface TlsMaterial {
  readonly key: Buffer;
  readonly cert: Buffer;
}

export interface HttpOptions {
  readonly tls?: TlsMaterial | undefined;
  readonly hosts?: readonly RegExp[] | undefined;
  /** Reads requests whose lines end in a line feed alone, as those of Xen 4.4's `SSHTransport.py`: on Unix sockets only. */
  readonly anyLineEnd?: boolean;
}

/** Throws Error with a line for people. */
export async function readTlsFiles({ keyFile, certFile }: TlsFiles): Promise<TlsMaterial> {
  const read = async (what: string, file: string): Promise<Buffer> => {
    try {
      return await readFile(file);
    } catch (error) {
      throw new Error(`cannot read the ${what} ${file}: ${(error as Error).message}`, { cause: error });
    }
  };
  return { key: await read('TLS key', keyFile), cert: await read('TLS certificate', certFile) };
}

/**
 * A server without routes that listens nowhere yet. Every request is for `/`, its path is in `originalUrl`; bodies of any
 * kind arrive as `Buffer`.
 */
export function buildHttpServer(
  { tls, hosts, anyLineEnd = false }: HttpOptions,
  { log, budget }: { readonly log: XendLog; readonly budget: BodyBudget },
): FastifyInstance {
  const serving = {
    headersTimeout: HEAD_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    // node's name for it. No proxy reads the same bytes in another way before a Unix socket does.
    insecureHTTPParser: anyLineEnd,
  };
  const server = fastify({
    logger: false,
    exposeHeadRoutes: false,
    // Paths are not fastify's business: XML-RPC has none, and names of domains are in the others.
    rewriteUrl: () => '/',
    serverFactory: (handler) => {
      const http = tls
        ? (createTlsServer(
            { ...serving, ...tls, handshakeTimeout: HANDSHAKE_TIMEOUT_MS },
            handler,
          ) as unknown as Server)
        : createServer(serving, handler);
      http.maxConnections = MAX_CONNECTIONS;
      return http;
    },
  });
  closeWithSockets(server);

  const holds = new WeakMap<IncomingMessage, Hold>();
  server.addHook('onRequest', async (request, reply) => {
    const address = request.socket.remoteAddress;
    if (!(await hostAllowed(hosts, address))) {
      log.warn('connection', `Rejected connection from ${address ?? 'nowhere'}.`);
      reply.hijack();
      request.raw.socket.destroy();
      return;
    }
    const hold = budget.hold();
    holds.set(request.raw, hold);
    reply.raw.once('close', () => {
      hold.release();
    });
  });
  // Clients name their content variously; what it is, those who read it know.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', (request: FastifyRequest, payload: IncomingMessage) => {
    const hold = holds.get(request.raw);
    if (!hold) throw new Error('a body before its head');
    return hold.read(payload);
  });
  return server;
}

/** Closing the server ends its connections, those in a TLS handshake too, and the listener that fastify does not know. */
function closeWithSockets(server: FastifyInstance): void {
  const sockets = new Set<Socket>();
  server.server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.addHook('preClose', (done) => {
    server.server.close();
    for (const socket of sockets) socket.destroy();
    done();
  });
}

/** Listens where the spec says; gives the port of a TCP server. Rejects with a line that names the key. */
export async function listen(server: FastifyInstance, { address, key }: ServerSpec): Promise<number | undefined> {
  try {
    if (isUnix(address)) {
      await claimUnixPath(address.path, address.folderMode);
      await server.listen({ path: address.path });
      await chmod(address.path, 0o600);
      return undefined;
    }
    const { host, port } = address;
    if (host === undefined) await listenEverywhere(server, port);
    else await server.listen({ host, port });
  } catch (error) {
    throw new Error(`${key}: ${(error as Error).message}`, { cause: error });
  }
  const bound = server.server.address();
  return bound !== null && typeof bound === 'object' ? bound.port : undefined;
}

/** On all addresses of both families, or of IPv4 where there is no other: node knows, fastify does not. */
async function listenEverywhere(server: FastifyInstance, port: number): Promise<void> {
  await server.ready();
  await new Promise<void>((resolve, reject) => {
    server.server.once('error', reject);
    server.server.listen({ port }, () => {
      server.server.off('error', reject);
      resolve();
    });
  });
}
