/** The Unix socket: many clients, all with Domain-0's rights. All complete packets of a chunk are run, all their replies leave in one write. */
import type { Socket } from 'node:net';
import { listenUnix } from '@xenhost/daemon-kit';
import type { UnixListener } from '@xenhost/daemon-kit';
import { XsPacketParser } from '@xenhost/xs-wire';
import type { XsPacket } from '@xenhost/xs-wire';
import type { StoreConnection } from '../core/connection.ts';
import type { XenstoreCore } from '../core/core.ts';
import { SOCKET_HIGH_WATER_BYTES, SOCKET_OUTPUT_MAX_BYTES } from '../core/limits.ts';

export function serveSocket(core: XenstoreCore, path: string): Promise<UnixListener> {
  return listenUnix(path, (socket) => {
    new SocketClient(core, socket);
  });
}

class SocketClient {
  readonly #core: XenstoreCore;
  readonly #socket: Socket;
  readonly #connection: StoreConnection;
  readonly #parser = new XsPacketParser();
  /** Requests held back while one waits or the client does not read. */
  #waiting: XsPacket[] = [];
  #scheduled = false;
  #closed = false;

  constructor(core: XenstoreCore, socket: Socket) {
    this.#core = core;
    this.#socket = socket;
    this.#connection = core.connect();
    this.#connection.wake = () => {
      this.#schedule();
    };
    socket.on('data', (chunk) => {
      this.#receive(chunk);
    });
    socket.on('drain', () => {
      this.#flush();
      this.#work();
    });
    // A client that vanishes in the middle of a write is no news.
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#closed = true;
      this.#waiting = [];
      core.disconnect(this.#connection);
    });
  }

  #receive(chunk: Buffer): void {
    const packets = this.#parser.push(chunk);
    this.#waiting = this.#waiting.length === 0 ? packets : this.#waiting.concat(packets);
    this.#work();
    if (this.#parser.violated) {
      this.#core.log('client broke the protocol', { domid: 0 });
      this.#socket.destroy();
    }
  }

  #work(): void {
    let done = 0;
    for (const packet of this.#waiting) {
      if (!this.#mayWork()) break;
      this.#core.handle(this.#connection, packet);
      done++;
    }
    this.#waiting = done === this.#waiting.length ? [] : this.#waiting.slice(done);
    if (this.#waiting.length > 0) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
  }

  #mayWork(): boolean {
    return !this.#closed && !this.#connection.busy && this.#connection.output.bytes < SOCKET_HIGH_WATER_BYTES;
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#flush();
      if (this.#waiting.length > 0) this.#work();
    });
  }

  #flush(): void {
    const { output } = this.#connection;
    if (this.#closed || output.bytes === 0) return;
    if (!this.#socket.writableNeedDrain) this.#socket.write(output.take());
    else if (output.bytes > SOCKET_OUTPUT_MAX_BYTES) {
      this.#core.log('client does not read, dropped', { bytes: output.bytes });
      this.#socket.destroy();
    }
  }
}
