/**
 * What is left of the process that started first, once another one serves: whoever supervises the daemon watches this one. It listens,
 * hands new connections on, passes signals on, ends as the serving process ends, and passes on what the next live update has to say.
 */
import type { ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { howEnded, startSuccessor } from './successor-port.ts';
import type { ChildSuccessor } from './successor-port.ts';
import type { FromShell, FromSuccessor, ToShell, ToSuccessor } from './messages.ts';
import { stopReading } from '../server/socket-handle.ts';

export interface ShellModules {
  /** The serving process has ended though nobody has asked it to. */
  readonly onEnd: (how: string) => void;
}

export class Shell {
  readonly #modules: ShellModules;
  #serving: ChildProcess;
  #next: ChildProcess | undefined;
  #stopping = false;

  constructor(serving: ChildSuccessor, modules: ShellModules) {
    this.#modules = modules;
    this.#serving = serving.child;
    const { exitCode, signalCode } = serving.child;
    // It may have ended before anybody watched.
    if (exitCode !== null || signalCode !== null) modules.onEnd(howEnded(exitCode, signalCode));
    else this.#watch(serving.child);
    for (const [message, socket] of serving.release()) this.#heard(serving.child, message, socket);
  }

  /** A new client. */
  connection(socket: Socket): void {
    const message: ToSuccessor = { kind: 'connection' };
    this.#serving.send(message, socket, () => undefined);
  }

  /** Resolves when the serving process has ended. */
  stop(): Promise<void> {
    this.#stopping = true;
    this.#next?.kill('SIGKILL');
    const child = this.#serving;
    if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      child.once('exit', () => {
        resolve();
      });
      child.kill('SIGTERM');
    });
  }

  #watch(child: ChildProcess): void {
    child.on('message', (message, handle) => {
      this.#heard(child, message as ToShell | FromSuccessor, handle as Socket | undefined);
    });
    child.once('exit', (code, signal) => {
      if (child === this.#serving && !this.#stopping) this.#modules.onEnd(howEnded(code, signal));
    });
  }

  #heard(child: ChildProcess, message: ToShell | FromSuccessor, socket: Socket | undefined): void {
    // One that has been succeeded still passes new clients on that came to it before.
    if (child !== this.#serving && message.kind !== 'pass') return;
    switch (message.kind) {
      case 'start':
        this.#start(message.command, message.args);
        return;
      case 'pass':
        // It is not this process that reads it.
        if (socket) stopReading(socket);
        (child === this.#serving ? this.#next : this.#serving)?.send(message.message, socket, () => undefined);
        return;
      case 'abandon':
        this.#next?.kill('SIGKILL');
        return;
      case 'hello':
      case 'restored':
      case 'failed':
      case 'serving':
      // Said by a successor, which this one no longer is.
    }
  }

  #start(command: string, args: readonly string[]): void {
    const next = startSuccessor(command, args);
    this.#next = next;
    next.on('message', (message) => {
      if (this.#next !== next) return;
      this.#tell({ kind: 'said', message: message as FromSuccessor });
      if ((message as FromSuccessor).kind === 'serving') this.#promote(next);
    });
    next.once('error', (error) => {
      this.#tell({ kind: 'ended', how: `could not be started: ${error.message}` });
    });
    next.once('exit', (code, signal) => {
      if (this.#next !== next) return;
      this.#next = undefined;
      this.#tell({ kind: 'ended', how: howEnded(code, signal) });
    });
  }

  #promote(next: ChildProcess): void {
    const old = this.#serving;
    this.#next = undefined;
    this.#serving = next;
    this.#watch(next);
    const message: FromShell = { kind: 'superseded' };
    old.send(message, () => undefined);
  }

  #tell(message: FromShell): void {
    this.#serving.send(message, () => undefined);
  }
}
