/** Counters of what the core has answered, for the daemon's metrics. */
import type { XsErrorName } from '@xenhost/xs-wire';

export class Metrics {
  /** Requests answered by message type; unknown types count under -1. */
  readonly requests = new Map<number, number>();
  readonly errors = new Map<XsErrorName, number>();
  commits = 0;
  conflicts = 0;
  /** Conflicting transactions that could be committed after all (policy `merge`). */
  merges = 0;

  count(op: number, error: XsErrorName | undefined): void {
    const type = error === 'ENOSYS' ? -1 : op;
    this.requests.set(type, (this.requests.get(type) ?? 0) + 1);
    if (error !== undefined) this.errors.set(error, (this.errors.get(error) ?? 0) + 1);
  }
}
