/** What a frontend does wrong, told once in a while: a guest cannot flood the log. */
import type { Clock } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';

const INTERVAL_NS = 5_000_000_000n;

export class FaultLog {
  readonly #log: Pick<Logger, 'warn'>;
  readonly #clock: Clock;
  #nextNs = 0n;
  #untold = 0;

  constructor(log: Pick<Logger, 'warn'>, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  add(reason: string): void {
    const now = this.#clock.monotonicNs();
    if (now < this.#nextNs) {
      this.#untold += 1;
      return;
    }
    this.#nextNs = now + INTERVAL_NS;
    this.#log.warn({ reason, more: this.#untold }, 'vif: packet refused');
    this.#untold = 0;
  }
}
