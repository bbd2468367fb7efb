/**
 * XML-RPC over HTTP, on a Unix socket and, when configured, TCP (Xen 4.4 `XMLRPCServer.py`, `xmlrpclib2.py`): POST to any
 * path, keep-alive, always status 200 with exactly `text/xml`.
 */
import { chmod } from 'node:fs/promises';
import { claimUnixPath } from '@xenhost/daemon-kit';
import fastify, { type FastifyInstance } from 'fastify';
import { messageOf } from './errors.ts';
import { MAX_REQUEST_BYTES } from './limits.ts';
import { answer, unreadable } from './rpc/dispatch.ts';
import type { MethodContext } from './rpc/method.ts';

const CONTENT_TYPE = 'text/xml';
/** How long a client may take to send a whole request. */
const REQUEST_TIMEOUT_MS = 60_000;

/** A server that listens nowhere yet: tests inject into it. */
export function buildServer(context: MethodContext): FastifyInstance {
  const server = fastify({ logger: false, bodyLimit: MAX_REQUEST_BYTES, requestTimeout: REQUEST_TIMEOUT_MS });
  // Clients name their content variously; what it is, the decoder says.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
    done(null, body);
  });
  server.post('/*', async (request, reply) => {
    const document = await answer(context, typeof request.body === 'string' ? request.body : '');
    return reply.header('content-type', CONTENT_TYPE).send(Buffer.from(document));
  });
  server.setErrorHandler(async (error, _request, reply) => {
    context.manager.ports.log.warn('XMLRPCServer', `Cannot read a request: ${messageOf(error)}`);
    return reply
      .code(200)
      .header('content-type', CONTENT_TYPE)
      .send(Buffer.from(unreadable(messageOf(error))));
  });
  return server;
}

/** Listens on a Unix socket in a folder that only its owner may enter. Rejects when another process answers there. */
export async function listenOnPath(server: FastifyInstance, path: string): Promise<void> {
  await claimUnixPath(path, 0o700);
  await server.listen({ path });
  await chmod(path, 0o600);
}

/** `host:port`, `[v6]:port` or a port. Throws Error with a line for people. */
export function parseTcpAddress(text: string): { readonly host: string; readonly port: number } {
  const match = /^(?:(\[[0-9a-f:.]+\]|[^:[\]]*):)?(\d{1,5})$/i.exec(text.trim());
  const port = Number(match?.[2]);
  if (!match || port > 65535) throw new Error(`XEND_TCP wants HOST:PORT, not '${text}'`);
  const host = (match[1] ?? '').replace(/^\[|\]$/g, '');
  return { host: host === '' ? 'localhost' : host, port };
}
