/**
 * Who works next: what can be done at once is, and who has more to do than a slice waits in line behind all others. So a busy
 * client costs each other one at most the slices of those in line, and new input is looked for after every turn.
 */
import { SLICE_MS, TURN_MS } from './limits.ts';

export interface Worker {
  /** Works until `deadlineMs` (performance.now()) at least one step, and tells whether there is more that can be done. */
  work(deadlineMs: number): boolean;
}

export class Turns {
  #line: Worker[] = [];
  readonly #waiting = new Set<Worker>();
  #scheduled = false;

  /** `worker` has something to do: now when nobody waits, else in its turn. */
  ready(worker: Worker): void {
    if (this.#line.length > 0) this.#enqueue(worker);
    else if (worker.work(performance.now() + SLICE_MS)) this.#enqueue(worker);
  }

  #enqueue(worker: Worker): void {
    if (this.#waiting.has(worker)) return;
    this.#waiting.add(worker);
    this.#line.push(worker);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  #turn(): void {
    const end = performance.now() + TURN_MS;
    const again: Worker[] = [];
    let done = 0;
    for (const worker of this.#line) {
      const now = performance.now();
      if (now >= end) break;
      done++;
      this.#waiting.delete(worker);
      if (worker.work(now + SLICE_MS)) again.push(worker);
    }
    this.#line = this.#line.slice(done);
    for (const worker of again) this.#enqueue(worker);
    if (this.#line.length > 0) this.#schedule();
  }
}
