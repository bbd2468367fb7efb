/**
 * XML-RPC over HTTP (Xen 4.4 `XMLRPCServer.py`, `xmlrpclib2.py`): POST to any path, keep-alive, always status 200 with
 * exactly `text/xml`. What a document means is the business of those who answer it: rpc/dispatch.ts, rpc/xen-api.ts.
 */
import type { FastifyInstance, FastifyReply } from 'fastify';
import { messageOf } from './errors.ts';
import type { BodyBudget } from './http/body.ts';
import { buildHttpServer, type HttpOptions } from './http/server.ts';
import type { XendLog } from './node/log.ts';
import { unreadable } from './rpc/dispatch.ts';

const CONTENT_TYPE = 'text/xml';

/** Who sent a document. */
export interface Peer {
  /** Whether it came over a Unix socket. */
  readonly local: boolean;
  /** Aborted when the connection is gone before the answer. */
  readonly signal: AbortSignal;
}

/** A request document to a response document; never rejects. */
export type Answer = (document: string, peer: Peer) => Promise<string>;

/** A server that listens nowhere yet. */
export function buildServer(
  options: HttpOptions,
  modules: { readonly log: XendLog; readonly budget: BodyBudget; readonly answer: Answer },
): FastifyInstance {
  const { log, answer } = modules;
  const server = buildHttpServer(options, modules);
  const send = (reply: FastifyReply, document: string): FastifyReply =>
    reply.code(200).header('content-type', CONTENT_TYPE).send(Buffer.from(document));
  server.post('/', async (request, reply) => {
    const { body } = request;
    if (!(body instanceof Uint8Array) || body.length === 0) {
      return send(reply, unreadable('a request needs Content-Length and a body'));
    }
    const gone = new AbortController();
    reply.raw.once('close', () => {
      if (!reply.raw.writableFinished) gone.abort();
    });
    const peer = { local: request.socket.remoteAddress === undefined, signal: gone.signal };
    return send(reply, await answer(Buffer.from(body).toString(), peer));
  });
  server.setNotFoundHandler(async (request, reply) =>
    reply
      .code(501)
      .header('content-type', 'text/plain')
      .send(`Unsupported method ('${request.method}'): XML-RPC is posted\n`),
  );
  server.setErrorHandler(async (error, _request, reply) => {
    log.warn('XMLRPCServer', `Cannot read a request: ${messageOf(error)}`);
    return send(reply, unreadable(messageOf(error)));
  });
  return server;
}
