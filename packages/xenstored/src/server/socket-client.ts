/**
 * One client of the Unix socket. Its requests are run in turns with those of others, straight from the bytes received; replies and
 * events of a turn leave in one write. A client that does not read is not read from either.
 */
import type { Socket } from 'node:net';
import { XsPacketReader } from '@xenhost/xs-wire';
import type { StoreConnection } from '../core/connection.ts';
import type { XenstoreCore } from '../core/core.ts';
import { SOCKET_HIGH_WATER_BYTES, SOCKET_OUTPUT_MAX_BYTES } from './limits.ts';
import type { Turns, Worker } from './turns.ts';

export interface SocketClientModules {
  readonly core: XenstoreCore;
  readonly turns: Turns;
  /** Called before anything is sent: what it may tell of must be on record. */
  readonly beforeSend: () => void;
  readonly onClose: (client: SocketClient) => void;
}

export class SocketClient implements Worker {
  readonly connection: StoreConnection;
  readonly socket: Socket;
  readonly #modules: SocketClientModules;
  readonly #reader = new XsPacketReader();
  #flushScheduled = false;
  #closed = false;

  constructor(socket: Socket, connection: StoreConnection, modules: SocketClientModules) {
    this.socket = socket;
    this.connection = connection;
    this.#modules = modules;
    connection.wake = () => {
      this.#scheduleFlush();
    };
    socket.on('data', (chunk) => {
      this.#reader.push(chunk);
      modules.turns.ready(this);
    });
    socket.on('drain', () => {
      this.#flush();
      modules.turns.ready(this);
    });
    // A client that vanishes in the middle of a write is no news.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#closed = true;
      modules.core.disconnect(connection);
      modules.onClose(this);
    });
  }

  work(deadlineMs: number): boolean {
    const { core } = this.#modules;
    const reader = this.#reader;
    while (this.#mayWork()) {
      const packet = reader.next();
      if (!packet) break;
      core.handle(this.connection, packet);
      if (performance.now() >= deadlineMs) break;
    }
    if (reader.violated && !this.#closed) {
      core.log('client broke the protocol', { domid: 0 });
      this.socket.destroy();
      return false;
    }
    // What was received waits: nothing more is read until it has been run.
    const more = !this.#closed && reader.ready;
    if (more) this.socket.pause();
    else if (this.socket.isPaused()) this.socket.resume();
    return more && this.#mayWork();
  }

  #mayWork(): boolean {
    return this.#modules.core.mayRead(this.connection) && this.connection.output.bytes < SOCKET_HIGH_WATER_BYTES;
  }

  /** Once for all replies and events of a turn. */
  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    queueMicrotask(() => {
      this.#flushScheduled = false;
      this.#flush();
      // The request that others waited for has been answered.
      if (this.#reader.ready && this.#mayWork()) this.#modules.turns.ready(this);
    });
  }

  #flush(): void {
    const { output } = this.connection;
    if (this.#closed || output.bytes === 0) return;
    if (!this.socket.writableNeedDrain) {
      this.#modules.beforeSend();
      this.socket.write(output.take());
    } else if (output.bytes > SOCKET_OUTPUT_MAX_BYTES) {
      this.#modules.core.log('client does not read, dropped', { bytes: output.bytes });
      this.socket.destroy();
    }
  }
}
