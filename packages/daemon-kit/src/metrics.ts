/**
 * Metrics of a daemon: OpenMetrics text (version 1.0.0), served over HTTP on a Unix socket at /metrics, made anew for each
 * request. `curl --unix-socket PATH http://xen/metrics`.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Logger } from './logger.ts';
import { listenUnix } from './unix.ts';
import type { UnixListener } from './unix.ts';

export interface MetricSample {
  readonly labels?: Readonly<Record<string, string | number>>;
  readonly value: number;
}

export interface MetricFamily {
  /** Ends in its unit, not in `_total`. */
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  /** One line. */
  readonly help: string;
  readonly samples: readonly MetricSample[];
}

export const OPENMETRICS_TYPE = 'application/openmetrics-text; version=1.0.0; charset=utf-8';
/** Connections at a time; more are turned away. */
export const MAX_METRICS_CONNECTIONS = 32;

export function openMetrics(families: readonly MetricFamily[]): string {
  const lines: string[] = [];
  for (const { name, type, help, samples } of families) {
    lines.push(`# TYPE ${name} ${type}`, `# HELP ${name} ${escape(help)}`);
    const full = type === 'counter' ? `${name}_total` : name;
    for (const { labels = {}, value } of samples) {
      const pairs = Object.entries(labels).map(([key, text]) => `${key}="${escape(String(text))}"`);
      lines.push(`${full}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}`);
    }
  }
  lines.push('# EOF');
  return `${lines.join('\n')}\n`;
}

const escape = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n').replaceAll('"', '\\"');

/** Serves what `collect` tells. A `collect` that throws answers 500 and is told to `failed`. */
export async function serveMetrics(
  path: string,
  collect: () => readonly MetricFamily[],
  failed: (error: unknown) => void,
): Promise<UnixListener> {
  let http: Promise<Server> | undefined;
  const listener = await listenUnix(path, (socket) => {
    if (listener.connections.size > MAX_METRICS_CONNECTIONS) {
      socket.destroy();
      return;
    }
    // Most hosts are never asked: HTTP is loaded for the first who does.
    http ??= import('node:http').then(({ createServer }) =>
      createServer((request, response) => {
        answer(request, response, collect, failed);
      }),
    );
    http.then((server) => server.emit('connection', socket)).catch(failed);
  });
  return listener;
}

/** The same for a daemon that is one without metrics, too: what goes wrong is told to its log. */
export function offerMetrics(
  path: string,
  collect: () => readonly MetricFamily[],
  log: Pick<Logger, 'warn'>,
): Promise<UnixListener | undefined> {
  const failed = (error: unknown): undefined => {
    log.warn({ err: error, path }, 'metrics cannot be told');
  };
  return serveMetrics(path, collect, failed).catch(failed);
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  collect: () => readonly MetricFamily[],
  failed: (error: unknown) => void,
): void {
  const end = (status: number, type: string, body: string): void => {
    response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
    response.end(request.method === 'HEAD' ? undefined : body);
  };
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    end(405, 'text/plain', 'GET /metrics\n');
    return;
  }
  if (request.url?.split('?')[0] !== '/metrics') {
    end(404, 'text/plain', 'only /metrics is here\n');
    return;
  }
  let body: string;
  try {
    body = openMetrics(collect());
  } catch (error) {
    failed(error);
    end(500, 'text/plain', 'the metrics could not be collected\n');
    return;
  }
  end(200, OPENMETRICS_TYPE, body);
}
