/**
 * The relocation port (Xen 4.4 `relocate.py`): one line with a command, an answer in SXP. Domains are not received yet: who
 * asks is told so, in the words of the protocol, and shows it to its user.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { printSxp, type Sxp } from '@xenhost/sxp';
import { HANDSHAKE_TIMEOUT_MS, MAX_CONNECTIONS, MAX_RELOCATION_LINE, RELOCATION_TIMEOUT_MS } from '../limits.ts';
import { hostAllowed } from '../options/hosts.ts';
import type { HttpOptions } from './server.ts';

const COMMANDS = ['help', 'quit', 'receive', 'sslreceive'];
const REFUSAL = 'this host does not receive domains: start the domain there anew, or save it and restore it here';

export interface RelocationServer {
  readonly server: Server;
  readonly close: () => Promise<void>;
}

export function buildRelocationServer({ tls, hosts }: HttpOptions): RelocationServer {
  const sockets = new Set<Socket>();
  const serve = (socket: Socket): void => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    socket.setTimeout(RELOCATION_TIMEOUT_MS, () => socket.destroy());
    socket.on('error', () => undefined);
    hostAllowed(hosts, socket.remoteAddress).then(
      (allowed) => {
        if (allowed) answerLines(socket);
        else socket.destroy();
      },
      () => socket.destroy(),
    );
  };
  const server: Server = tls
    ? createTlsServer({ ...tls, handshakeTimeout: HANDSHAKE_TIMEOUT_MS }, serve)
    : createServer(serve);
  server.maxConnections = MAX_CONNECTIONS;
  return {
    server,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        for (const socket of sockets) socket.destroy();
      }),
  };
}

function answerLines(socket: Socket): void {
  let text = '';
  socket.on('data', (data: Buffer) => {
    text += data.toString('latin1');
    for (let end = text.indexOf('\n'); end >= 0 && socket.writable; end = text.indexOf('\n')) {
      const command = text.slice(0, end).trim();
      text = text.slice(end + 1);
      if (command === 'quit') socket.end();
      else if (command !== '') socket.write(`${printSxp(answerTo(command))}\n`);
    }
    if (text.length > MAX_RELOCATION_LINE) socket.destroy();
  });
}

function answerTo(command: string): Sxp {
  const [name = ''] = command.split(/\s/);
  if (name === 'help') return ['help', ...COMMANDS];
  const message = name === 'receive' || name === 'sslreceive' ? REFUSAL : `Invalid operation: ${name.slice(0, 40)}`;
  return ['err', ['type', 'XendError'], ['value', message]];
}
