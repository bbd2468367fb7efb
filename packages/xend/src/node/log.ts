/** xend.log: what `xm log` prints. Lines as Xen's tools print them; the file is bounded, one older part is kept. */
import { appendFileSync, mkdirSync, readFileSync, renameSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { MAX_LOG_BYTES } from '../limits.ts';

/** Levels of Python's logging, in which loglevel is given. */
const LEVELS: Readonly<Record<string, number>> = {
  NOTSET: 0, DEBUG: 10, INFO: 20, WARN: 30, WARNING: 30, ERROR: 40, CRITICAL: 50, FATAL: 50,
}; // prettier-ignore

export const isLogLevel = (name: string): boolean => Object.hasOwn(LEVELS, name);

export interface XendLog {
  info(from: string, message: string): void;
  warn(from: string, message: string): void;
  /** `error` is shown with its stack. */
  error(from: string, message: string, error?: unknown): void;
  /** The whole current log. */
  read(): string;
}

/** A log whose file and level may change while it is written. */
export interface XendLogFile extends XendLog {
  /** `level`: the least that is written. */
  reopen(path: string, level: string): void;
}

export function openXendLog(path: string, level = 'DEBUG', now: () => Date = () => new Date()): XendLogFile {
  let least = 0;
  let size = 0;
  const reopen = (newPath: string, newLevel: string): void => {
    mkdirSync(dirname(newPath), { recursive: true });
    path = newPath;
    size = sizeOf(path);
    least = LEVELS[newLevel] ?? 0;
  };
  reopen(path, level);
  const write = (level: string, from: string, message: string): void => {
    if ((LEVELS[level] ?? 0) < least) return;
    const line = `[${stamp(now())} ${process.pid}] ${level} (${from}) ${message}\n`;
    if (size + line.length > MAX_LOG_BYTES && size > 0) {
      renameSync(path, `${path}.1`);
      size = 0;
    }
    appendFileSync(path, line);
    size += line.length;
  };
  return {
    reopen,
    info: (from, message) => {
      write('INFO', from, message);
    },
    warn: (from, message) => {
      write('WARNING', from, message);
    },
    error: (from, message, error) => {
      write('ERROR', from, error === undefined ? message : `${message}\n${stackOf(error)}`);
    },
    read: () => {
      try {
        return readFileSync(path, 'utf8');
      } catch {
        return '';
      }
    },
  };
}

/** A log in memory, for tests and for tools without a run directory. */
export function memoryLog(): XendLog & { readonly lines: readonly string[] } {
  const lines: string[] = [];
  const put = (level: string) => (from: string, message: string, error?: unknown) => {
    lines.push(`${level} (${from}) ${message}${error === undefined ? '' : `: ${stackOf(error)}`}`);
  };
  return { lines, info: put('INFO'), warn: put('WARNING'), error: put('ERROR'), read: () => `${lines.join('\n')}\n` };
}

function sizeOf(path: string): number {
  try {
    return statSync(path).size;
  } catch {
    return 0;
  }
}

const stackOf = (error: unknown): string =>
  error instanceof Error ? (error.stack ?? error.message) : JSON.stringify(error);

/** `2026-01-02 03:04:05`, local time as in Python's logging. */
function stamp(date: Date): string {
  const two = (n: number): string => String(n).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}
