/** The Unix socket: many clients, all with Domain-0's rights. */
import { listenUnix } from '@xenhost/daemon-kit';
import type { UnixListener } from '@xenhost/daemon-kit';
import type { XenstoreCore } from '../core/core.ts';
import { SocketClient } from './socket-client.ts';
import { Turns } from './turns.ts';

export interface SocketServer {
  readonly clients: ReadonlySet<SocketClient>;
  close(): Promise<void>;
}

export interface SocketServerModules {
  readonly core: XenstoreCore;
  /** Called before anything is sent: what it may tell of must be on record. */
  readonly beforeSend: () => void;
}

export async function serveSocket(path: string, { core, beforeSend }: SocketServerModules): Promise<SocketServer> {
  const clients = new Set<SocketClient>();
  const modules = {
    core,
    beforeSend,
    turns: new Turns(),
    onClose: (client: SocketClient) => clients.delete(client),
  };
  const listener: UnixListener = await listenUnix(path, (socket) => {
    clients.add(new SocketClient(socket, core.connect(), modules));
  });
  return { clients, close: () => listener.close() };
}
