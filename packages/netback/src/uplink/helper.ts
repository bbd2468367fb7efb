/**
 * A helper process that carries frames over a socket pair on its descriptor 3 (passt, the tap helper): started, started again
 * when it ends, and gone when this process is, however that ends, because the socket pair is.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex } from 'node:stream';
import type { Logger } from '@xenhost/daemon-kit';
import { FrameStream } from './frame-stream.ts';
import { MAX_FRAME_BYTES } from '../switch/limits.ts';
import { RESTART_CALM_MS, RESTART_FIRST_MS, RESTART_LAST_MS } from './limits.ts';

export interface HelperOptions {
  /** For the log. */
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
}

export interface HelperModules {
  readonly log: Logger;
  readonly frame: (bytes: Uint8Array) => void;
  /** After each start. */
  readonly started?: () => void;
}

/** What the helper said last, for the log. */
const MAX_STDERR_BYTES = 2048;
const SOCKET_FD = 3;

export class Helper {
  readonly #options: HelperOptions;
  readonly #modules: HelperModules;
  #child: ChildProcess | undefined;
  #stream: FrameStream | undefined;
  #timer: NodeJS.Timeout | undefined;
  #waitMs = RESTART_FIRST_MS;
  #closed = false;

  constructor(options: HelperOptions, modules: HelperModules) {
    this.#options = options;
    this.#modules = modules;
    this.#start();
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  send(...parts: readonly Uint8Array[]): boolean {
    return this.#stream?.send(...parts) ?? false;
  }

  /** Resolves when the process is gone. */
  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    const child = this.#child;
    this.#stream?.close();
    if (!child || child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => {
      child.once('exit', () => {
        resolve();
      });
      child.kill('SIGTERM');
    });
  }

  #start(): void {
    const { name, command, args } = this.#options;
    const { log, frame } = this.#modules;
    const startedMs = Date.now();
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
    this.#child = child;
    let said = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-MAX_STDERR_BYTES);
    });
    let over = false;
    const ended = (reason: string): void => {
      if (over) return;
      over = true;
      this.#stream?.close();
      this.#stream = undefined;
      child.kill('SIGTERM');
      if (this.#closed) return;
      if (Date.now() - startedMs > RESTART_CALM_MS) this.#waitMs = RESTART_FIRST_MS;
      log.warn({ helper: name, reason, said: said.trim(), waitMs: this.#waitMs }, 'helper ended; it is started again');
      this.#timer = setTimeout(() => {
        this.#start();
      }, this.#waitMs);
      this.#waitMs = Math.min(this.#waitMs * 2, RESTART_LAST_MS);
    };
    child.once('error', (error) => {
      ended(error.message);
    });
    child.once('exit', (code, signal) => {
      ended(signal ?? `exit code ${String(code)}`);
    });
    const socket = child.stdio[SOCKET_FD] as Duplex | null | undefined;
    if (!socket) return;
    this.#stream = new FrameStream(socket, MAX_FRAME_BYTES, {
      frame,
      // The process says why, a moment later.
      closed: () => undefined,
    });
    if (child.pid !== undefined) {
      log.debug({ helper: name, pid: child.pid }, 'helper started');
      this.#modules.started?.();
    }
  }
}
