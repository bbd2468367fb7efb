/**
 * The counters as XEN_SYSCTL_perfc_op tells them (`xen/common/perfc.c`): a description of each, and u32 values, for a
 * single counter one of each pCPU and last one of the control plane, for an array the sums over all threads. Nothing is
 * ever set back: a reset is remembered as what there was.
 */
import type { Core } from '../state/core.ts';
import { COUNTER_ROWS, lengthOf, NR_VALUES, placeOf } from './counter-table.ts';
import { countersIndex } from './counters.ts';

export interface PerfCounter {
  readonly name: string;
  readonly values: readonly number[];
}

export class PerfCounters {
  readonly #core: Core;
  readonly #threads: number;
  /** What all values were at the last reset, thread by thread. */
  readonly #reset: Float64Array;

  constructor(core: Core) {
    this.#core = core;
    this.#threads = core.map.nrPcpus + 1;
    this.#reset = new Float64Array(this.#threads * NR_VALUES);
  }

  /** Values of a thread since the host's start; `place` as in counter-table.ts. */
  value(thread: number, place: number): number {
    return this.#core.memory.f64[countersIndex(this.#core.map, thread) + place] ?? 0;
  }

  query(): PerfCounter[] {
    this.publishOwn();
    return COUNTER_ROWS.map(([key, row]) => {
      const first = placeOf(key);
      const since = (thread: number, i: number): number =>
        this.value(thread, first + i) - (row.gauge ? 0 : (this.#reset[thread * NR_VALUES + first + i] ?? 0));
      const threads = Array.from({ length: this.#threads }, (_, n) => n);
      const values = row.array
        ? Array.from({ length: lengthOf(row) }, (_, i) => threads.reduce((sum, n) => sum + since(n, i), 0))
        : threads.map((n) => since(n, 0));
      return { name: row.perfc, values };
    });
  }

  reset(): void {
    this.publishOwn();
    for (let n = 0; n < this.#threads; n++)
      for (let i = 0; i < NR_VALUES; i++) this.#reset[n * NR_VALUES + i] = this.value(n, i);
  }

  /** Makes the control plane's own counts readable. */
  publishOwn(): void {
    this.#core.counters.publish(this.#core.lock, undefined);
  }
}
