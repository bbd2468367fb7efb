/**
 * One client of the Unix socket. Its requests are run in turns with those of others, straight from the bytes received; replies and
 * events of a turn leave in one write. A client that does not read is not read from either.
 */
import type { Socket } from 'node:net';
import { XsPacketReader } from '@xenhost/xs-wire';
import type { StoreConnection } from '../core/connection.ts';
import type { XenstoreCore } from '../core/core.ts';
import { SOCKET_HIGH_WATER_BYTES, SOCKET_OUTPUT_MAX_BYTES } from './limits.ts';
import { readingInto, unsentBytes, writeNow } from './socket-handle.ts';
import { isSliceOver } from './turns.ts';
import type { Sender, Turns, Worker } from './turns.ts';

/** Where all clients' bytes arrive: requests are run right there, and what is left of a chunk is copied before the next one comes. */
const CHUNK = Buffer.alloc(64 * 1024);

export interface SocketClientModules {
  readonly core: XenstoreCore;
  readonly turns: Turns;
  /** Called before anything is sent: what it may tell of must be on record. */
  readonly beforeSend: () => void;
  readonly onClose: (client: SocketClient) => void;
}

/** What a client was left with by the daemon before this one. */
export interface ClientLeftover {
  /** Received, and not run. */
  readonly rest: Uint8Array;
  /** To be sent before all else. */
  readonly unsent: Buffer;
}

export class SocketClient implements Worker, Sender {
  readonly connection: StoreConnection;
  readonly #socket: Socket;
  readonly #modules: SocketClientModules;
  readonly #reader = new XsPacketReader();
  /** On its way to the kernel: nothing else is written meanwhile. */
  #writing: Buffer | undefined;
  #flushScheduled = false;
  #state: 'open' | 'frozen' | 'closed' = 'open';

  constructor(socket: Socket, connection: StoreConnection, modules: SocketClientModules, leftover?: ClientLeftover) {
    this.#socket = readingInto(socket, CHUNK, (length) => {
      this.#reader.lend(CHUNK, length);
      modules.turns.ready(this);
      this.#reader.keep();
    });
    this.connection = connection;
    this.#modules = modules;
    connection.wake = () => {
      this.#scheduleFlush();
    };
    if (leftover) {
      this.#reader.push(leftover.rest);
      if (leftover.unsent.length > 0) this.#write(leftover.unsent);
    }
    // A client that vanishes in the middle of a write is no news.
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => {
      if (this.#state === 'closed') return;
      this.#state = 'closed';
      modules.core.disconnect(connection);
      modules.onClose(this);
    });
    this.#socket.resume();
    if (!leftover) return;
    modules.turns.ready(this);
    this.#scheduleFlush();
  }

  work(startMs?: number): boolean {
    const { core } = this.#modules;
    const reader = this.#reader;
    let sinceMs = startMs;
    if (this.#state === 'frozen') return false;
    while (this.#mayWork()) {
      const packet = reader.next();
      if (!packet) break;
      // In front of those who watch: who has asked does not wait for them, and whoever does both is woken once.
      this.#scheduleFlush();
      core.handle(this.connection, packet);
      if (!reader.ready) continue;
      if (sinceMs === undefined) sinceMs = performance.now();
      else if (isSliceOver(sinceMs)) break;
    }
    if (reader.violated && this.#state === 'open') {
      core.log('client broke the protocol', { domid: 0 });
      this.#socket.destroy();
      return false;
    }
    // What was received waits: nothing more is read until it has been run.
    const more = this.#state === 'open' && reader.ready;
    if (more) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
    return more && this.#mayWork();
  }

  /** Neither reads, nor runs requests, nor sends, until `thaw()`; what is on its way to the kernel goes on. */
  freeze(): void {
    if (this.#state !== 'open') return;
    this.#state = 'frozen';
    // A socket that reads into a buffer of ours stops at once.
    this.#socket.pause();
  }

  thaw(): void {
    if (this.#state !== 'frozen') return;
    this.#state = 'open';
    this.#socket.resume();
    this.#modules.turns.ready(this);
    this.#scheduleFlush();
  }

  /** Of a frozen client: what has been received and not run. */
  get rest(): Buffer {
    return this.#reader.rest;
  }

  get socket(): Socket {
    return this.#socket;
  }

  /** Lets go of the socket, which another process has; what the kernel has not taken of what was written. */
  letGo(): Buffer {
    const writing = this.#writing ?? Buffer.alloc(0);
    const unsent = writing.subarray(writing.length - Math.min(unsentBytes(this.#socket), writing.length));
    this.#state = 'closed';
    this.#socket.destroy();
    return unsent;
  }

  #mayWork(): boolean {
    return (
      this.#state === 'open' &&
      this.#modules.core.mayRead(this.connection) &&
      this.connection.output.bytes < SOCKET_HIGH_WATER_BYTES
    );
  }

  /** Once for all replies and events of a turn. */
  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    this.#modules.turns.toFlush(this);
  }

  flush(): void {
    this.#flushScheduled = false;
    this.#send();
    // The request that others waited for has been answered.
    if (this.#reader.ready && this.#mayWork()) this.#modules.turns.ready(this);
  }

  #send(): void {
    const { output } = this.connection;
    if (this.#state !== 'open' || output.bytes === 0) return;
    if (this.#writing === undefined) {
      this.#modules.beforeSend();
      this.#write(output.take());
    } else if (output.bytes > SOCKET_OUTPUT_MAX_BYTES) {
      this.#modules.core.log('client does not read, dropped', { bytes: output.bytes });
      this.#socket.destroy();
    }
  }

  #write(bytes: Buffer): void {
    const taken = writeNow(this.#socket, bytes);
    if (taken === bytes.length) return;
    this.#writing = taken === 0 ? bytes : bytes.subarray(taken);
    this.#socket.write(this.#writing, this.#written);
  }

  readonly #written = (): void => {
    this.#writing = undefined;
    this.#send();
    if (this.#reader.ready && this.#mayWork()) this.#modules.turns.ready(this);
  };
}
