/** Structured logs of a daemon: one JSON line a record on stderr, so that stdout stays free for the ready line. */
import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';

export type { Logger } from 'pino';

/** pino's JSON has no bigint: they become decimal strings, also inside nested objects. */
function withoutBigints(value: unknown, depth = 0): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (depth > 4 || value === null || typeof value !== 'object' || value instanceof Error) return value;
  if (Array.isArray(value)) return value.map((v) => withoutBigints(v, depth + 1));
  if (Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, withoutBigints(v, depth + 1)]));
}

export interface LoggerOptions {
  /** pino level; default `XENHOST_LOG_LEVEL`, else `info`. */
  readonly level?: string;
  /** Where lines go; default stderr, written synchronously so that a crash loses none. */
  readonly destination?: DestinationStream;
}

/** A logger named after its daemon. Put objects first: `log.info({ domid }, 'introduced')`. */
export function createLogger(name: string, options: LoggerOptions = {}): Logger {
  return pino(
    {
      name,
      level: options.level ?? process.env['XENHOST_LOG_LEVEL'] ?? 'info',
      formatters: { log: (record) => withoutBigints(record) as Record<string, unknown> },
    },
    options.destination ?? pino.destination({ fd: 2, sync: true }),
  );
}
