/**
 * Chooses for each transfer between a call in this thread and the thread pool. A 4 KiB read of what the page cache holds takes 2 us in
 * this thread and 50 us through the pool, a 1 MiB one 50 us and 110 us; one that waits for a disk would stop the whole daemon.
 * So transfers go direct while they prove quick, through the pool once they do not, and direct again when the pool answers quickly or, now
 * and then, to try: of a slow disk, a growing time (at most MAX_RETRY_MS) lies between two such tries.
 */
export interface PaceClock {
  /** Milliseconds, with fractions. */
  now(): number;
}

/** A transfer of this many us, plus KIB_US for each KiB, is quick: no device that is not memory keeps to it for long. */
const QUICK_US = 100;
const KIB_US = 1;
/** Slow transfers, less one for each QUICK_PER_CREDIT quick ones, that send all into the pool. */
const CREDITS = 3;
const QUICK_PER_CREDIT = 16;
/** Quick answers in a row from the pool that bring the direct way back. */
const POOL_STREAK = 8;
const MIN_RETRY_MS = 100;
const MAX_RETRY_MS = 5000;

export class Pace {
  readonly #clock: PaceClock;
  #credits = CREDITS;
  #direct = true;
  #streak = 0;
  #retryMs = MIN_RETRY_MS;
  #since = 0;

  constructor(clock: PaceClock) {
    this.#clock = clock;
  }

  /** Whether the next transfer goes direct. */
  get direct(): boolean {
    if (!this.#direct && this.#clock.now() - this.#since >= this.#retryMs) {
      this.#direct = true;
      // A try: one slow transfer is enough to go back.
      this.#credits = 1;
      this.#retryMs = Math.min(this.#retryMs * 2, MAX_RETRY_MS);
    }
    return this.#direct;
  }

  /** Tells how long a transfer took that began at `startMs`. */
  done(direct: boolean, startMs: number, bytes: number): void {
    const now = this.#clock.now();
    const quick = (now - startMs) * 1000 <= QUICK_US + (bytes / 1024) * KIB_US;
    if (direct) {
      if (quick) {
        this.#credits = Math.min(CREDITS, this.#credits + 1 / QUICK_PER_CREDIT);
        if (this.#credits === CREDITS) this.#retryMs = MIN_RETRY_MS;
      } else {
        this.#credits -= 1;
        if (this.#credits <= 0) this.#usePool(now);
      }
    } else if (!this.#direct) {
      this.#streak = quick ? this.#streak + 1 : 0;
      if (this.#streak < POOL_STREAK) return;
      this.#direct = true;
      this.#credits = 1;
    }
  }

  #usePool(now: number): void {
    this.#direct = false;
    this.#streak = 0;
    this.#since = now;
  }
}
