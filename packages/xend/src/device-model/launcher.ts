/** Device models as processes: started in a session of their own, so that they outlive xend, and found again by their number. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceModelLauncher, DeviceModelStart } from '../ports.ts';

export interface LauncherOptions {
  /** The program and its first words. */
  readonly command: readonly [string, ...string[]];
  readonly logDirectory: string;
  /** Older logs of a name that are kept (qemu-dm-logrotate-count). */
  readonly nrOldLogs: number;
  readonly env: NodeJS.ProcessEnv;
}

export function processLauncher(options: LauncherOptions): DeviceModelLauncher {
  return {
    start: (start) => startProcess(options, start),
    isAlive,
    end: (pid, signal) => {
      try {
        process.kill(pid, signal);
      } catch {
        // It has ended by itself.
      }
    },
    lastWords: (name) => lastLine(logPath(options, name)),
  };
}

const logPath = ({ logDirectory }: LauncherOptions, name: string): string => join(logDirectory, `qemu-dm-${name}.log`);

function startProcess(options: LauncherOptions, { name, args, fresh, onExit }: DeviceModelStart): number {
  const [command, ...words] = options.command;
  const log = logPath(options, name);
  mkdirSync(options.logDirectory, { recursive: true });
  if (fresh) rotate(log, options.nrOldLogs);
  const fd = openSync(log, 'a');
  try {
    const child = spawn(command, [...words, ...args], {
      env: options.env,
      stdio: ['ignore', fd, fd],
      detached: true,
    });
    child.once('error', () => {
      onExit(null);
    });
    child.once('exit', (code) => {
      onExit(code);
    });
    child.unref();
    if (child.pid === undefined) throw new Error(`cannot run ${command}`);
    return child.pid;
  } finally {
    closeSync(fd);
  }
}

function rotate(log: string, nrOldLogs: number): void {
  if (!existsSync(log)) return;
  if (nrOldLogs === 0) {
    rmSync(log);
    return;
  }
  for (let i = nrOldLogs - 1; i > 0; i -= 1) {
    if (existsSync(`${log}.${i}`)) renameSync(`${log}.${i}`, `${log}.${i + 1}`);
  }
  renameSync(log, `${log}.1`);
}

/** Whether a process is a device model of the domain: numbers of processes are used again. */
function isAlive(pid: number, domid: number): boolean {
  try {
    const words = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
    return words.some((word) => word.includes('qemu-dm')) && words[words.indexOf('-d') + 1] === String(domid);
  } catch {
    return false;
  }
}

/** The last line as people read it: of a record of the log its text and what was thrown. */
function lastLine(path: string): string {
  let line: string;
  try {
    line = readFileSync(path, 'utf8').trimEnd().split('\n').at(-1) ?? '';
  } catch {
    return '';
  }
  try {
    const { msg = '', err } = JSON.parse(line) as { msg?: string; err?: { message?: string } };
    return err?.message === undefined ? msg : `${msg}: ${err.message}`;
  } catch {
    return line;
  }
}
