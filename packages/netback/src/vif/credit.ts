/**
 * A vif's rate: so many bytes in each window of so many microseconds, for what the guest sends (xend's `rate` key,
 * "BYTES,USEC"). As Linux's xen-netback, with one account for all queues of the vif.
 */
import type { Clock } from '@xenhost/base';
import { CREDIT_BURST_BYTES } from './limits.ts';

export interface Rate {
  readonly bytes: number;
  readonly windowUs: number;
}

const RATE = /^(\d+),(\d+)$/;
const UNLIMITED_BYTES = 0xffffffff;

/** Undefined: no limit, which is what a text that says nothing useful means, too. */
export function parseRate(text: string | undefined): Rate | undefined {
  const [, bytes, windowUs] = RATE.exec(text?.trim() ?? '') ?? [];
  const rate = { bytes: Number(bytes), windowUs: Number(windowUs) };
  return rate.bytes > 0 && rate.bytes < UNLIMITED_BYTES && rate.windowUs > 0 ? rate : undefined;
}

export class Credit {
  readonly #clock: Clock;
  #rate: Rate | undefined;
  #remaining = 0;
  /** When the next window begins. */
  #windowEndNs = 0n;

  constructor(rate: Rate | undefined, clock: Clock) {
    this.#clock = clock;
    this.setRate(rate);
  }

  get rate(): Rate | undefined {
    return this.#rate;
  }

  setRate(rate: Rate | undefined): void {
    if (rate?.bytes === this.#rate?.bytes && rate?.windowUs === this.#rate?.windowUs) return;
    this.#rate = rate;
    this.#remaining = rate?.bytes ?? 0;
    this.#windowEndNs = this.#clock.monotonicNs() + windowNs(rate);
  }

  /** Pays for a packet: 0 when it may go, else the milliseconds until it should be tried again. */
  take(bytes: number): number {
    if (!this.#rate) return 0;
    const now = this.#clock.monotonicNs();
    if (now >= this.#windowEndNs) {
      this.#windowEndNs = now + windowNs(this.#rate);
      this.#remaining = Math.min(this.#remaining + this.#rate.bytes, Math.max(CREDIT_BURST_BYTES, this.#rate.bytes));
    }
    if (bytes <= this.#remaining) {
      this.#remaining -= bytes;
      return 0;
    }
    return Math.max(1, Math.ceil(Number(this.#windowEndNs - now) / 1e6));
  }
}

const windowNs = (rate: Rate | undefined): bigint => BigInt(rate?.windowUs ?? 0) * 1000n;
