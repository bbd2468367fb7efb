/**
 * Starts the daemons of a host in order, restarts those that may come back, stops all cleanly. Knows nothing of what a
 * daemon does: a daemon is ready when it prints `{"ready": NAME}` on its standard output.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { DaemonState, DaemonStatus } from './state-file.ts';

export interface DaemonSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Added to the environment of all. */
  readonly env?: Readonly<Record<string, string>>;
  readonly vital: boolean;
  /** Daemons that must be ready first. */
  readonly after: readonly string[];
}

export interface SupervisorOptions {
  readonly env: NodeJS.ProcessEnv;
  /** Folder for `<daemon>.log`. */
  readonly logDirectory: string;
  readonly readyTimeoutMs: number;
  readonly stopTimeoutMs: number;
  /** A daemon that ends more often than this within `restartWindowMs` is given up. */
  readonly maxRestarts: number;
  readonly restartWindowMs: number;
}

export const supervisorDefaults = {
  readyTimeoutMs: 30_000, stopTimeoutMs: 10_000, maxRestarts: 5, restartWindowMs: 60_000,
} as const; // prettier-ignore

interface Child {
  readonly spec: DaemonSpec;
  process: ChildProcess | undefined;
  state: DaemonState;
  restarts: number;
  readonly endedAtMs: number[];
  log: WriteStream;
  /** Last lines of its standard error, for the message when it does not come up. */
  tail: string[];
}

const TAIL_LINES = 8;
/** Before the first restart; twice as long before each further one of the same window. */
const RESTART_DELAY_MS = 200;
const RESTART_DELAY_MAX_MS = 5000;

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #children: Child[];
  readonly #onChange: () => void;
  readonly #onFatal: (reason: string) => void;
  #stopping = false;

  /** `onChange` after every change of state; `onFatal` when a vital daemon ended or one was given up. */
  constructor(
    options: SupervisorOptions,
    modules: { specs: readonly DaemonSpec[]; onChange(): void; onFatal(reason: string): void },
  ) {
    this.#options = options;
    this.#onChange = () => {
      modules.onChange();
    };
    this.#onFatal = (reason) => {
      modules.onFatal(reason);
    };
    mkdirSync(options.logDirectory, { recursive: true });
    this.#children = modules.specs.map((spec) => ({
      spec,
      process: undefined,
      state: 'stopped',
      restarts: 0,
      endedAtMs: [],
      log: createWriteStream(join(options.logDirectory, `${spec.name}.log`), { flags: 'a' }),
      tail: [],
    }));
  }

  status(): DaemonStatus[] {
    return this.#children.map(({ spec, process: child, state, restarts }) => ({
      name: spec.name,
      pid: child?.pid,
      state,
      restarts,
    }));
  }

  /** Starts all, each when those before it are ready. Rejects with the first reason and that daemon's last lines. */
  async start(): Promise<void> {
    const ready = new Map<string, Promise<void>>();
    for (const child of this.#children) {
      const before = child.spec.after.map((name) => {
        const other = ready.get(name);
        if (!other) throw new Error(`${child.spec.name} comes after ${name}, which is not before it in the list`);
        return other;
      });
      const started = Promise.all(before).then(() => (this.#stopping ? undefined : this.#launch(child)));
      ready.set(child.spec.name, started);
    }
    await Promise.all(ready.values());
  }

  /** Stops all in reverse order: SIGTERM, then SIGKILL after the timeout. Safe to call twice. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const child of [...this.#children].reverse()) await this.#end(child);
    for (const child of this.#children) child.log.end();
  }

  #set(child: Child, state: DaemonState): void {
    child.state = state;
    this.#onChange();
  }

  #launch(child: Child): Promise<void> {
    const { spec } = child;
    const env = { ...this.#options.env, ...spec.env };
    const proc = spawn(spec.command, spec.args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    child.process = proc;
    child.tail = [];
    this.#set(child, child.restarts > 0 ? 'restarting' : 'starting');
    createInterface({ input: proc.stderr }).on('line', (line) => {
      child.tail.push(line);
      if (child.tail.length > TAIL_LINES) child.tail.shift();
      if (!child.log.writableEnded) child.log.write(`${line}\n`);
    });
    const ready = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => {
      ready.reject(new Error(`${spec.name} was not ready after ${this.#options.readyTimeoutMs} ms`));
    }, this.#options.readyTimeoutMs);
    createInterface({ input: proc.stdout }).on('line', (line) => {
      if (isReadyLine(line, spec.name)) {
        this.#set(child, 'up');
        ready.resolve(undefined);
      } else if (!child.log.writableEnded) child.log.write(`${line}\n`);
    });
    proc.once('error', (error) => {
      ready.reject(new Error(`${spec.name} could not be started: ${error.message}`, { cause: error }));
    });
    proc.once('exit', (code, signal) => {
      const how = signal ? `was ended by ${signal}` : `ended with exit code ${String(code)}`;
      ready.reject(new Error([`${spec.name} ${how}`, ...child.tail].join('\n  ')));
      child.process = undefined;
      this.#ended(child, how);
    });
    return ready.promise.finally(() => {
      clearTimeout(timer);
    });
  }

  #ended(child: Child, how: string): void {
    const wasUp = child.state === 'up';
    this.#set(child, 'stopped');
    if (this.#stopping || !wasUp) return;
    const { spec } = child;
    if (spec.vital) {
      this.#set(child, 'failed');
      this.#onFatal(`${spec.name} ${how}`);
      return;
    }
    this.#restart(child, how);
  }

  #restart(child: Child, how: string): void {
    const now = Date.now();
    child.endedAtMs.push(now);
    while ((child.endedAtMs[0] ?? now) < now - this.#options.restartWindowMs) child.endedAtMs.shift();
    if (child.endedAtMs.length > this.#options.maxRestarts) {
      this.#set(child, 'failed');
      this.#onFatal(
        `${child.spec.name} ${how}, ${child.endedAtMs.length} times within ${this.#options.restartWindowMs} ms`,
      );
      return;
    }
    child.restarts++;
    setTimeout(
      () => {
        if (this.#stopping) return;
        this.#launch(child).catch((error: unknown) => {
          if (!this.#stopping) this.#restart(child, error instanceof Error ? error.message : String(error));
        });
      },
      Math.min(RESTART_DELAY_MS * 2 ** (child.endedAtMs.length - 1), RESTART_DELAY_MAX_MS),
    );
  }

  async #end(child: Child): Promise<void> {
    const proc = child.process;
    if (!proc || proc.exitCode !== null || proc.signalCode !== null) return;
    const gone = new Promise((resolve) => proc.once('exit', resolve));
    proc.kill('SIGTERM');
    const timer = setTimeout(() => proc.kill('SIGKILL'), this.#options.stopTimeoutMs);
    await gone;
    clearTimeout(timer);
  }
}

function isReadyLine(line: string, name: string): boolean {
  if (!line.startsWith('{')) return false;
  try {
    return (JSON.parse(line) as { ready?: unknown }).ready === name;
  } catch {
    return false;
  }
}
