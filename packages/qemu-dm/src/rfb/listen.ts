/** Where VNC clients connect: TCP, a Unix socket, WebSockets. */
import { createServer, type Server, type Socket } from 'node:net';
import { listenUnix } from '@xenhost/daemon-kit';
import { createWebSocketStream, WebSocketServer } from 'ws';
import { MAX_PORT_TRIES, WS_MESSAGE_BYTES } from '../limits.ts';
import type { RfbServer } from './server.ts';

/** Display 0 of TCP, and of WebSockets as qemu numbers them. */
export const VNC_BASE_PORT = 5900;
export const WEBSOCKET_BASE_PORT = 5700;
const MAX_PORT = 65_535;

export type VncAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | {
      readonly kind: 'tcp';
      /** Empty for every address of this machine. */
      readonly host: string;
      readonly display: number;
      /** Whether a display that is taken is passed over. */
      readonly unused: boolean;
    };

/** Undefined: no WebSockets; `display`: on the port of the display that was found. */
export type WebSocketPort = number | 'display' | undefined;

export interface VncListener {
  /** Of TCP. */
  readonly port: number | undefined;
  readonly webSocketPort: number | undefined;
  close(): Promise<void>;
}

/** Rejects with a node error. */
export async function listenVnc(
  { address, webSocket }: { readonly address: VncAddress; readonly webSocket: WebSocketPort },
  server: RfbServer,
): Promise<VncListener> {
  const main = address.kind === 'unix' ? await listenPath(address.path, server) : await listenTcp(address, server);
  if (webSocket === undefined) return { ...main, webSocketPort: undefined };
  const host = address.kind === 'tcp' ? address.host : '127.0.0.1';
  const display = main.port === undefined ? 0 : main.port - VNC_BASE_PORT;
  const port = webSocket === 'display' ? WEBSOCKET_BASE_PORT + display : webSocket;
  try {
    const web = await listenWebSocket({ host, port }, server);
    return {
      port: main.port,
      webSocketPort: web.port,
      close: async () => {
        await Promise.all([main.close(), web.close()]);
      },
    };
  } catch (error) {
    await main.close();
    throw error;
  }
}

type Listener = Pick<VncListener, 'port' | 'close'>;

async function listenPath(path: string, server: RfbServer): Promise<Listener> {
  const listener = await listenUnix(path, (socket) => {
    server.accept(socket, path);
  });
  return { port: undefined, close: () => listener.close() };
}

async function listenTcp(
  { host, display, unused }: Extract<VncAddress, { kind: 'tcp' }>,
  server: RfbServer,
): Promise<Listener> {
  const sockets = new Set<Socket>();
  const listener = createServer((socket) => {
    socket.setNoDelay(true);
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    server.accept(socket, `${socket.remoteAddress ?? '?'}:${socket.remotePort ?? 0}`);
  });
  const first = VNC_BASE_PORT + display;
  const last = unused ? Math.min(first + MAX_PORT_TRIES, MAX_PORT) : first;
  for (let port = first; ; port++) {
    try {
      await listenOn(listener, port, host);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || port >= last) throw error;
    }
  }
  const address = listener.address();
  return {
    port: typeof address === 'object' ? address?.port : undefined,
    close: () =>
      new Promise((resolve) => {
        listener.close(() => {
          resolve();
        });
        for (const socket of sockets) socket.destroy();
      }),
  };
}

const listenOn = (listener: Server, port: number, host: string): Promise<void> =>
  new Promise((resolve, reject) => {
    listener.once('error', reject);
    listener.listen({ port, ...(host === '' ? {} : { host }) }, () => {
      listener.off('error', reject);
      resolve();
    });
  });

/** Binary messages both ways, as noVNC has it. Pages of other sites are refused. */
async function listenWebSocket(
  { host, port }: { readonly host: string; readonly port: number },
  server: RfbServer,
): Promise<Required<Listener>> {
  const listener = new WebSocketServer({
    ...(host === '' ? {} : { host }),
    port,
    maxPayload: WS_MESSAGE_BYTES,
    perMessageDeflate: false,
    handleProtocols: (protocols) => (protocols.has('binary') ? 'binary' : false),
    verifyClient: ({ origin, req }: { origin?: string; req: { headers: { host?: string | undefined } } }) =>
      isSameSite(origin, req.headers.host),
  });
  await new Promise<void>((resolve, reject) => {
    listener.once('listening', resolve);
    listener.once('error', reject);
  });
  listener.on('connection', (socket, request) => {
    socket.on('error', () => undefined);
    const stream = createWebSocketStream(socket);
    server.accept(stream, `${request.socket.remoteAddress ?? '?'}:${request.socket.remotePort ?? 0} (WebSocket)`);
  });
  const address = listener.address();
  return {
    port: typeof address === 'object' && address ? address.port : port,
    close: () =>
      new Promise((resolve) => {
        for (const client of listener.clients) client.terminate();
        listener.close(() => {
          resolve();
        });
      }),
  };
}

function isSameSite(origin: string | undefined, host: string | undefined): boolean {
  if (!origin) return true;
  try {
    return new URL(origin).hostname === new URL(`http://${host ?? ''}`).hostname;
  } catch {
    return false;
  }
}
