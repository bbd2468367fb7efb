/** Rates from counters that only grow: use of CPUs, bytes of devices (Xen 4.4 `XendMonitor.py`). */
import { MAX_RECORDS, MIN_SAMPLE_MS } from './limits.ts';

interface Sample {
  readonly value: number;
  readonly atMs: number;
  readonly rate: number;
}

export class Samples {
  readonly #samples = new Map<string, Sample>();

  /** Growth for each second since a former look at the counter; 0 at the first. */
  rate(key: string, value: number, nowMs: number): number {
    const before = this.#samples.get(key);
    if (before && nowMs - before.atMs < MIN_SAMPLE_MS) return before.rate;
    // A counter that went back belongs to another domain under the same name.
    const grown = before ? Math.max(0, value - before.value) : 0;
    const rate = before ? (grown * 1000) / (nowMs - before.atMs) : 0;
    this.#samples.delete(key);
    this.#samples.set(key, { value, atMs: nowMs, rate });
    for (const [oldest] of this.#samples) {
      if (this.#samples.size <= MAX_RECORDS) break;
      this.#samples.delete(oldest);
    }
    return rate;
  }
}
