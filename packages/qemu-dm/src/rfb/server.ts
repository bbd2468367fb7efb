/** The clients of one screen. */
import type { Duplex } from 'node:stream';
import type { Logger } from '@xenhost/daemon-kit';
import { MAX_CLIENTS } from '../limits.ts';
import type { Screen } from '../screen.ts';
import { RfbSession, type InputSink, type SessionOptions } from './session.ts';

export interface RfbServerModules {
  readonly screen: Screen;
  readonly input: InputSink;
  readonly log: Logger;
}

export class RfbServer {
  readonly #options: SessionOptions;
  readonly #modules: RfbServerModules;
  /** Oldest first. */
  readonly #sessions = new Set<RfbSession>();

  constructor(options: SessionOptions, modules: RfbServerModules) {
    this.#options = options;
    this.#modules = modules;
  }

  get nrClients(): number {
    return this.#sessions.size;
  }

  /** Takes a connection; `peer` is for the log. */
  accept(stream: Duplex, peer: string): void {
    if (this.#sessions.size >= MAX_CLIENTS && !this.#makeRoom()) {
      stream.on('error', () => undefined);
      stream.destroy();
      return;
    }
    const session = new RfbSession(this.#options, {
      ...this.#modules,
      stream,
      log: this.#modules.log.child({ peer }),
      onExclusive: (asking) => {
        for (const other of [...this.#sessions]) if (other !== asking && other.isRunning) other.end('exclusive access');
      },
      onEnd: (ended) => this.#sessions.delete(ended),
    });
    this.#sessions.add(session);
  }

  close(): void {
    for (const session of [...this.#sessions]) session.end('the server stops');
  }

  /** Connections that have not said who they are keep nobody out. */
  #makeRoom(): boolean {
    for (const session of this.#sessions) {
      if (session.isRunning) continue;
      session.end('too many clients');
      return true;
    }
    return false;
  }
}
