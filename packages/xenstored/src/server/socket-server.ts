/** The Unix socket's clients, all with Domain-0's rights. Who listens is not its business. */
import type { Socket } from 'node:net';
import type { StoreConnection } from '../core/connection.ts';
import type { XenstoreCore } from '../core/core.ts';
import { SocketClient } from './socket-client.ts';
import type { ClientLeftover, SocketClientModules } from './socket-client.ts';
import { Turns } from './turns.ts';

export class SocketServer {
  readonly #core: XenstoreCore;
  readonly #modules: SocketClientModules;
  readonly #clients = new Set<SocketClient>();

  constructor(core: XenstoreCore, beforeSend: () => void) {
    this.#core = core;
    this.#modules = {
      core,
      beforeSend,
      turns: new Turns(),
      onClose: (client) => this.#clients.delete(client),
    };
  }

  get clients(): ReadonlySet<SocketClient> {
    return this.#clients;
  }

  /** A new client. */
  accept(socket: Socket): void {
    this.#clients.add(new SocketClient(socket, this.#core.connect(), this.#modules));
  }

  /** A client of the daemon before this one. */
  adopt(socket: Socket, connection: StoreConnection, leftover: ClientLeftover): void {
    this.#clients.add(new SocketClient(socket, connection, this.#modules, leftover));
  }

  freeze(): void {
    for (const client of this.#clients) client.freeze();
  }

  thaw(): void {
    for (const client of this.#clients) client.thaw();
  }

  /** Ends all connections. */
  close(): void {
    for (const client of this.#clients) client.socket.destroy();
  }
}
