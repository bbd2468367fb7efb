/** The metrics' socket, which can be given up for another process. */
import { serveMetrics } from '@xenhost/daemon-kit';
import type { Logger, MetricFamily, UnixListener } from '@xenhost/daemon-kit';

export class MetricsServer {
  readonly #path: string | undefined;
  readonly #collect: () => readonly MetricFamily[];
  readonly #log: Logger;
  #listener: UnixListener | undefined;

  constructor(path: string | undefined, collect: () => readonly MetricFamily[], log: Logger) {
    this.#path = path;
    this.#collect = collect;
    this.#log = log;
  }

  /** Never rejects: a daemon without metrics is one all the same. */
  async open(): Promise<void> {
    if (this.#path === undefined || this.#listener) return;
    const failed = (error: unknown): void => {
      this.#log.warn({ err: error, path: this.#path }, 'metrics cannot be told');
    };
    this.#listener = await serveMetrics(this.#path, this.#collect, failed).catch((error: unknown) => {
      failed(error);
      return undefined;
    });
  }

  async close(): Promise<void> {
    const listener = this.#listener;
    this.#listener = undefined;
    await listener?.close();
  }
}
