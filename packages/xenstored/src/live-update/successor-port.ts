/** The successor as the daemon sees that it takes over from: its own child, or another child of the process that started first. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { stopReading } from '../server/socket-handle.ts';
import { TAKEOVER_VARIABLE } from './messages.ts';
import type { FromShell, FromSuccessor, ToShell, ToSuccessor } from './messages.ts';

export interface SuccessorPort {
  /** Resolves when it is on its way; a socket stays open here, too. */
  send(message: ToSuccessor, socket?: Socket): Promise<void>;
  /** The next message. Rejects when the successor has ended, or after `timeoutMs`. */
  next(timeoutMs: number): Promise<FromSuccessor>;
  /** It is not to take over: ends it. */
  abandon(): void;
}

/** Messages that have come and nobody has asked for, or the other way round. */
class Inbox {
  readonly #messages: FromSuccessor[] = [];
  #ended: string | undefined;
  #wake: () => void = () => undefined;

  put(message: FromSuccessor): void {
    this.#messages.push(message);
    this.#wake();
  }

  end(how: string): void {
    this.#ended ??= how;
    this.#wake();
  }

  next(timeoutMs: number): Promise<FromSuccessor> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`the new daemon has said nothing for ${timeoutMs} ms`));
      }, timeoutMs);
      this.#wake = () => {
        const message = this.#messages.shift();
        if (message === undefined && this.#ended === undefined) return;
        clearTimeout(timer);
        this.#wake = () => undefined;
        if (message) resolve(message);
        else reject(new Error(`the new daemon ${this.#ended ?? ''}`));
      };
      this.#wake();
    });
  }
}

const sent = (error: Error | null, resolve: () => void, reject: (error: Error) => void): void => {
  if (error) reject(error);
  else resolve();
};

export const startSuccessor = (command: string, args: readonly string[]): ChildProcess =>
  spawn(command, args, {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [TAKEOVER_VARIABLE]: '1' },
  });

export const howEnded = (code: number | null, signal: string | null): string =>
  signal === null ? `ended with exit code ${code ?? 'none'}` : `was ended by ${signal}`;

/** A child of this process. */
export class ChildSuccessor implements SuccessorPort {
  readonly child: ChildProcess;
  readonly #inbox = new Inbox();
  /** Said by one that serves, to the shell that will be there in a moment. */
  readonly #early: [ToShell, Socket | undefined][] = [];

  constructor(command: string, args: readonly string[]) {
    this.child = startSuccessor(command, args);
    this.child.on('message', this.#heard);
    this.child.once('error', (error) => {
      this.#inbox.end(`could not be started: ${error.message}`);
    });
    this.child.once('exit', (code, signal) => {
      this.#inbox.end(howEnded(code, signal));
    });
  }

  send(message: ToSuccessor, socket?: Socket): Promise<void> {
    return new Promise((resolve, reject) => {
      this.child.send(message, socket, { keepOpen: true }, (error) => {
        sent(error, resolve, reject);
      });
    });
  }

  next(timeoutMs: number): Promise<FromSuccessor> {
    return this.#inbox.next(timeoutMs);
  }

  abandon(): void {
    this.child.kill('SIGKILL');
  }

  /** It serves: what it says is the shell's from now on. What it has said already. */
  release(): readonly (readonly [ToShell, Socket | undefined])[] {
    this.child.off('message', this.#heard);
    return this.#early;
  }

  readonly #heard = (message: unknown, handle: unknown): void => {
    const { kind } = message as ToShell | FromSuccessor;
    if (kind === 'start' || kind === 'pass' || kind === 'abandon') {
      if (handle) stopReading(handle as Socket);
      this.#early.push([message as ToShell, handle as Socket | undefined]);
    } else this.#inbox.put(message as FromSuccessor);
  };
}

/** A child of the process that started first, which passes on what is said. */
export class PassedSuccessor implements SuccessorPort {
  readonly #inbox = new Inbox();

  constructor(command: string, args: readonly string[]) {
    process.on('message', (message: FromShell) => {
      if (message.kind === 'said') this.#inbox.put(message.message);
      else if (message.kind === 'ended') this.#inbox.end(message.how);
    });
    this.#tell({ kind: 'start', command, args }).catch((error: unknown) => {
      this.#inbox.end(`could not be started: ${String(error)}`);
    });
  }

  send(message: ToSuccessor, socket?: Socket): Promise<void> {
    return this.#tell({ kind: 'pass', message }, socket);
  }

  next(timeoutMs: number): Promise<FromSuccessor> {
    return this.#inbox.next(timeoutMs);
  }

  abandon(): void {
    this.#tell({ kind: 'abandon' }).catch(() => undefined);
  }

  #tell(message: ToShell, socket?: Socket): Promise<void> {
    return new Promise((resolve, reject) => {
      process.send?.(message, socket, { keepOpen: true }, (error) => {
        sent(error, resolve, reject);
      });
    });
  }
}
