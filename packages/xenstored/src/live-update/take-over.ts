/** Live update, the side that takes over: what the predecessor says, in the order in which it is needed. */
import { readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { stopReading } from '../server/socket-handle.ts';
import { HANDOVER_VERSION } from './messages.ts';
import type { FromShell, FromSuccessor, HandoverState, ToSuccessor } from './messages.ts';

export interface HandedSocket {
  readonly socket: Socket;
  /** Read before it could be stopped; behind what the predecessor has read. */
  readonly early: readonly Buffer[];
}

export interface Go {
  readonly unsent: ReadonlyMap<number, string>;
  readonly journalBytes: number | undefined;
}

export class Predecessor {
  /** By connection. */
  readonly sockets = new Map<number, HandedSocket>();
  readonly #state = Promise.withResolvers<HandoverState>();
  readonly #go = Promise.withResolvers<Go>();
  readonly #connections: Socket[] = [];
  #onSuperseded: () => void = () => undefined;
  #onConnection: ((socket: Socket) => void) | undefined;

  /** `onGone`: the process that started first has ended. */
  constructor(onGone: () => void) {
    process.on('message', (message: ToSuccessor | FromShell, socket: Socket | undefined) => {
      this.#heard(message, socket);
    });
    process.on('disconnect', onGone);
    this.tell({ kind: 'hello', version: HANDOVER_VERSION });
  }

  get state(): Promise<HandoverState> {
    return this.#state.promise;
  }

  /** The predecessor has let go of everything. */
  get go(): Promise<Go> {
    return this.#go.promise;
  }

  tell(message: FromSuccessor): void {
    process.send?.(message);
  }

  /** Another process serves now, and no more clients come. */
  onSuperseded(listener: () => void): void {
    this.#onSuperseded = listener;
  }

  /** Where new clients go from now on, and those that have come. */
  onConnection(listener: (socket: Socket) => void): void {
    this.#onConnection = listener;
    for (const socket of this.#connections.splice(0)) listener(socket);
  }

  #heard(message: ToSuccessor | FromShell, socket: Socket | undefined): void {
    switch (message.kind) {
      case 'state':
        this.#state.resolve(JSON.parse(readFileSync(message.file, 'utf8')) as HandoverState);
        return;
      case 'socket':
        // Closed on the way: as if the client had gone.
        if (socket) this.sockets.set(message.id, { socket, early: stopReading(socket) });
        return;
      case 'go':
        this.#go.resolve({ unsent: new Map(message.unsent), journalBytes: message.journalBytes });
        return;
      case 'connection':
        if (!socket) return;
        if (this.#onConnection) this.#onConnection(socket);
        else this.#connections.push(socket);
        return;
      case 'superseded':
        this.#onSuperseded();
        return;
      case 'said':
      case 'ended':
      // For PassedSuccessor.
    }
  }
}
