/** Ways to attach to a console: a Unix socket of its own, and WebSockets on one port for all. */
import type { Socket } from 'node:net';
import { listenUnix } from '@xenhost/daemon-kit';
import type { Logger, UnixListener } from '@xenhost/daemon-kit';
import { WebSocket, WebSocketServer } from 'ws';
import type { ConsoleHub, Reader } from './hub.ts';
import { WS_MESSAGE_BYTES } from './limits.ts';

/** Raw bytes both ways. Several may connect. The end of a client's writing side leaves it attached for reading. */
export function serveConsole(hub: ConsoleHub, path: string): Promise<UnixListener> {
  return listenUnix(
    path,
    (socket) => {
      const reader = new SocketReader(socket);
      if (!hub.attach(reader)) return;
      socket.on('data', (bytes) => {
        hub.input(bytes);
      });
      // A reader that vanishes is no news.
      socket.on('error', () => undefined);
      socket.on('close', () => {
        hub.detach(reader);
      });
    },
    { allowHalfOpen: true },
  );
}

/** Time for a peer to close its side after ours has ended. */
const LINGER_MS = 1000;

class SocketReader implements Reader {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  send(bytes: Uint8Array): void {
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  end(message?: string): void {
    if (message !== undefined) this.#socket.write(message);
    this.#socket.end();
    // Input that still comes is dropped; a peer that keeps its side open is cut off once it has had everything.
    this.#socket.resume();
    this.#socket.once('finish', () => {
      setTimeout(() => this.#socket.destroy(), LINGER_MS).unref();
    });
  }

  setPaused(paused: boolean): void {
    if (paused) this.#socket.pause();
    else this.#socket.resume();
  }
}

export interface WebSocketOptions {
  readonly host: string;
  readonly port: number;
}

export interface WebSocketModules {
  /** The console of a domain. */
  readonly find: (domid: number) => ConsoleHub | undefined;
  readonly log: Logger;
}

/** WebSocket close codes (RFC 6455): normal, and one of the range for applications. */
const WS_NORMAL = 1000;
const WS_NO_CONSOLE = 4404;

export interface WebSocketAttach {
  readonly port: number;
  close(): Promise<void>;
}

/** `ws://HOST:PORT/console/DOMID`: output as binary messages; input as text or binary. Pages of other sites are refused. */
export async function serveWebSockets(options: WebSocketOptions, modules: WebSocketModules): Promise<WebSocketAttach> {
  const server = new WebSocketServer({
    host: options.host,
    port: options.port,
    maxPayload: WS_MESSAGE_BYTES,
    verifyClient: ({ origin, req }: { origin?: string; req: { headers: { host?: string | undefined } } }) =>
      sameSite(origin, req.headers.host),
  });
  await new Promise<void>((resolve, reject) => {
    server.once('listening', resolve);
    server.once('error', reject);
  });
  server.on('connection', (socket, request) => {
    const domid = /^\/console\/(\d{1,5})$/.exec(request.url ?? '')?.[1];
    const hub = domid === undefined ? undefined : modules.find(Number(domid));
    if (!hub) {
      socket.close(WS_NO_CONSOLE, 'no such console');
      return;
    }
    const reader = new WebSocketReader(socket);
    socket.on('error', (error) => {
      modules.log.debug({ err: error }, 'console reader failed');
    });
    if (!hub.attach(reader)) return;
    socket.on('message', (data) => {
      hub.input(Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data as Buffer));
    });
    socket.on('close', () => {
      hub.detach(reader);
    });
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : options.port,
    close: () =>
      new Promise((resolve) => {
        for (const client of server.clients) client.terminate();
        server.close(() => {
          resolve();
        });
      }),
  };
}

function sameSite(origin: string | undefined, host: string | undefined): boolean {
  if (!origin) return true;
  try {
    return new URL(origin).host === host;
  } catch {
    return false;
  }
}

class WebSocketReader implements Reader {
  readonly #socket: WebSocket;

  constructor(socket: WebSocket) {
    this.#socket = socket;
  }

  get queuedBytes(): number {
    return this.#socket.bufferedAmount;
  }

  send(bytes: Uint8Array): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(bytes);
  }

  end(message?: string): void {
    if (message !== undefined) this.send(Buffer.from(message));
    this.#socket.close(WS_NORMAL);
  }

  setPaused(paused: boolean): void {
    if (paused) this.#socket.pause();
    else this.#socket.resume();
  }
}
