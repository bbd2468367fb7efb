/**
 * The life of a daemon process: start, announce readiness, stop once on SIGTERM or SIGINT, die loudly on our own bugs.
 *
 * Readiness is told twice: one JSON line on stdout (`{"ready":NAME}`) for a supervisor that started the process, and a
 * ready file (`XENHOST_READY_FILE`, JSON with the pid) for a container's healthcheck, see healthcheck.ts.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { UsageError } from './args.ts';
import { createLogger } from './logger.ts';
import type { Logger } from './logger.ts';

/** What `start` gives back. */
export interface RunningDaemon {
  /** Ends all work and closes sockets. Called once. */
  stop(): Promise<void> | void;
  /** More for the ready line, such as listening ports. */
  readonly ready?: Readonly<Record<string, string | number | boolean>>;
}

export interface DaemonContext {
  readonly name: string;
  readonly log: Logger;
  /** Aborted when the daemon is asked to stop, before `stop()` runs. */
  readonly signal: AbortSignal;
  /** Ends the process as SIGTERM does, with this exit code (a link to another daemon broke for good). */
  readonly shutdown: (reason: string, exitCode?: number) => void;
}

/** How long `stop()` may take before the process exits anyway. */
export const STOP_TIMEOUT_MS = 5000;

/**
 * Runs a daemon in this process and returns at once. Exit codes: 0 after a clean stop, 1 after a failed start or a bug,
 * 2 after wrong options.
 */
export function runDaemon(
  name: string,
  start: (context: DaemonContext) => Promise<RunningDaemon> | RunningDaemon,
): void {
  const log = createLogger(name);
  const aborter = new AbortController();
  const readyFile = process.env['XENHOST_READY_FILE'];
  let running: RunningDaemon | undefined;
  let stopping = false;

  const finish = (code: number): never => {
    if (readyFile) rmSync(readyFile, { force: true });
    process.exit(code);
  };
  const shutdown = (reason: string, exitCode = 0): void => {
    if (stopping) return;
    stopping = true;
    log.info({ reason }, 'stopping');
    aborter.abort();
    setTimeout(() => {
      log.error({ timeoutMs: STOP_TIMEOUT_MS }, 'stop took too long, exiting');
      finish(exitCode || 1);
    }, STOP_TIMEOUT_MS).unref();
    Promise.resolve(running?.stop()).then(
      () => finish(exitCode),
      (error: unknown) => {
        log.error({ err: error }, 'stop failed');
        finish(1);
      },
    );
  };
  const bug = (what: string) => (error: unknown) => {
    log.fatal({ err: error }, what);
    finish(1);
  };

  process.on('SIGTERM', () => {
    shutdown('SIGTERM');
  });
  process.on('SIGINT', () => {
    shutdown('SIGINT');
  });
  process.on('uncaughtException', bug('uncaught exception'));
  process.on('unhandledRejection', bug('unhandled rejection'));

  Promise.resolve()
    .then(() => start({ name, log, signal: aborter.signal, shutdown }))
    .then(
      async (daemon) => {
        running = daemon;
        if (stopping) {
          await daemon.stop();
          return;
        }
        announce(name, daemon, readyFile);
      },
      (error: unknown) => {
        if (error instanceof UsageError) {
          process.stderr.write(`${error.message}\n`);
          finish(2);
        }
        bug('cannot start')(error);
      },
    );
}

function announce(name: string, daemon: RunningDaemon, readyFile: string | undefined): void {
  if (readyFile) {
    mkdirSync(dirname(readyFile), { recursive: true });
    writeFileSync(readyFile, JSON.stringify({ ready: name, pid: process.pid }) + '\n');
  }
  process.stdout.write(JSON.stringify({ ready: name, ...daemon.ready }) + '\n');
}
