/**
 * The relocation port (Xen 4.4 `relocate.py`): lines with commands, answers in SXP; after `receive` comes a machine
 * (relocation/receive.ts).
 */
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import type { DomainManager } from '../domain/manager.ts';
import { XendError } from '../errors.ts';
import { send, SocketReader } from '../image/stream.ts';
import { HANDSHAKE_TIMEOUT_MS, MAX_CONNECTIONS, MAX_DISCARDED_BYTES, RELOCATION_TIMEOUT_MS } from '../limits.ts';
import type { XendLog } from '../node/log.ts';
import { hostAllowed } from '../options/hosts.ts';
import { errorLine, lineOf, MAX_LINE_BYTES, QUIT, RECEIVE, SSL_RECEIVE } from '../relocation/protocol.ts';
import { Receiver } from '../relocation/receive.ts';
import type { HttpOptions } from './server.ts';

const COMMANDS = ['help', QUIT, RECEIVE, SSL_RECEIVE];

export interface RelocationServer {
  readonly server: Server;
  /** Resolves when what was being received is here or is not. */
  readonly close: () => Promise<void>;
}

export interface RelocationModules {
  readonly manager: DomainManager;
  readonly log: XendLog;
}

export function buildRelocationServer({ tls, hosts }: HttpOptions, modules: RelocationModules): RelocationServer {
  const { log, manager } = modules;
  const receiver = new Receiver(manager);
  const sockets = new Set<Socket>();
  const serving = new Set<Promise<void>>();
  const serve = async (socket: Socket): Promise<void> => {
    const address = socket.remoteAddress;
    if (await hostAllowed(hosts, address)) {
      await answerLines(socket, receiver, log);
    } else log.warn('connection', `Rejected connection from ${address ?? 'nowhere'}.`);
  };
  const accept = (socket: Socket): void => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.setTimeout(RELOCATION_TIMEOUT_MS);
    socket.on('timeout', () => socket.destroy(new Error('timed out')));
    socket.on('error', () => undefined);
    const served = serve(socket)
      // Whoever asks went away, or sent what is no line.
      .catch(() => undefined)
      .finally(() => {
        socket.destroySoon();
        serving.delete(served);
      });
    serving.add(served);
  };
  // A sender that has sent all may close its half.
  const options = { allowHalfOpen: true };
  const server: Server = tls
    ? createTlsServer({ ...options, ...tls, handshakeTimeout: HANDSHAKE_TIMEOUT_MS }, accept)
    : createServer(options, accept);
  server.maxConnections = MAX_CONNECTIONS;
  return {
    server,
    close: async () => {
      const closed = new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
      });
      for (const socket of sockets) socket.destroy();
      await Promise.all([closed, ...serving]);
    },
  };
}

/** Resolves when the connection may go. */
async function answerLines(socket: Socket, receiver: Receiver, log: XendLog): Promise<void> {
  const reader = new SocketReader(socket);
  for (;;) {
    const line = await reader.line(MAX_LINE_BYTES).catch((error: unknown) => {
      socket.destroy();
      throw error;
    });
    const [name = ''] = line?.trim().split(/\s/) ?? [QUIT];
    if (name === QUIT) return;
    if (name === RECEIVE || name === SSL_RECEIVE) {
      await receive(name, socket, reader, receiver, log);
      return;
    }
    if (name === 'help') await send(socket, lineOf(['help', ...COMMANDS]));
    else if (name !== '') await send(socket, errorLine(`Invalid operation: ${name.slice(0, 40)}`));
  }
}

async function receive(
  name: string,
  socket: Socket,
  reader: SocketReader,
  receiver: Receiver,
  log: XendLog,
): Promise<void> {
  try {
    await receiver.receive(name, socket, reader);
  } catch (error) {
    log.error('XendCheckpoint', 'Restore failed', error);
    const message = error instanceof XendError ? error.message : 'Restore failed';
    await send(socket, errorLine(message));
    socket.end();
    socket.setTimeout(RELOCATION_TIMEOUT_MS);
    await reader.discard(MAX_DISCARDED_BYTES);
  }
}
