/** Lets something happen often for a moment, and seldom in the long run: a bucket of permissions that fills up with time. */
export interface PaceLimits {
  readonly atOnce: number;
  readonly perSecond: number;
}

export class Pace {
  readonly #limits: PaceLimits;
  readonly #nowMs: () => number;
  #left: number;
  #at: number;

  constructor(limits: PaceLimits, nowMs: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#nowMs = nowMs;
    this.#left = limits.atOnce;
    this.#at = nowMs();
  }

  /** Takes a permission; how long to wait before it may be used, in milliseconds. */
  take(): number {
    const { atOnce, perSecond } = this.#limits;
    const now = this.#nowMs();
    this.#left = Math.min(atOnce, this.#left + ((now - this.#at) / 1000) * perSecond) - 1;
    this.#at = now;
    return this.#left >= 0 ? 0 : (-this.#left / perSecond) * 1000;
  }
}
