/**
 * How long one run of the engine lasts. Its unit is taken branches, whose cost depends on the guest: the number is
 * steered so that a run takes about `TARGET_NS`, within which others get their TLB flushes and the timers their ticks.
 */
export const TARGET_NS = 300_000n;
const MIN_BUDGET = 500;
/** Some microseconds: the next run comes as near again. */
const MIN_SAMPLE_BUDGET = 16;
const MAX_BUDGET = 2_000_000;
const FIRST_BUDGET = 10_000;
/** One step of the steering changes the budget at most by this factor. */
const MAX_STEP = 2;

export class RunBudget {
  #budget = FIRST_BUDGET;

  /** Budget for a run that should end by the next timer (0n: none), at system time `now`. */
  next(nextTimerNs: bigint, now: bigint): number {
    if (nextTimerNs === 0n) return this.#budget;
    const left = nextTimerNs - now;
    if (left >= TARGET_NS) return this.#budget;
    const part = left <= 0n ? 0 : Number(left) / Number(TARGET_NS);
    return Math.max(MIN_BUDGET, Math.floor(this.#budget * part));
  }

  /** Budget for a run that should end after `ns`, however short that is: for a sample of where the guest is. */
  within(ns: bigint): number {
    const part = Math.floor((this.#budget * Number(ns)) / Number(TARGET_NS));
    return Math.min(Math.max(part, MIN_SAMPLE_BUDGET), this.#budget);
  }

  /** A run used up `budget` in `elapsedNs`. One that is very short tells of its entry more than of the guest. */
  used(budget: number, elapsedNs: bigint): void {
    if (budget < MIN_BUDGET) return;
    const ideal = (budget * Number(TARGET_NS)) / Math.max(Number(elapsedNs), 1);
    const bounded = Math.min(Math.max(ideal, this.#budget / MAX_STEP), this.#budget * MAX_STEP);
    this.#budget = Math.floor(Math.min(Math.max(bounded, MIN_BUDGET), MAX_BUDGET));
  }
}
