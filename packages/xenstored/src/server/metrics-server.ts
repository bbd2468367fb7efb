/** The metrics' socket, which can be given up for another process. */
import { offerMetrics } from '@xenhost/daemon-kit';
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
    this.#listener = await offerMetrics(this.#path, this.#collect, this.#log);
  }

  async close(): Promise<void> {
    const listener = this.#listener;
    this.#listener = undefined;
    await listener?.close();
  }
}
