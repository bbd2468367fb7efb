/**
 * How long one run of the engine lasts. Its unit is taken branches, whose cost depends on the guest: the number is
 * steered so that a run takes about `TARGET_NS`. Between two runs the pCPU looks, without the lock, whether anybody asks
 * for it: so this is how long others wait for an event to arrive or a TLB to be flushed.
 */
export const TARGET_NS = 40_000;
const MIN_BUDGET = 100;
/** Some microseconds: the next run comes as near again. */
const MIN_SAMPLE_BUDGET = 16;
const MAX_BUDGET = 2_000_000;
const FIRST_BUDGET = 2_000;
/** One step of the steering raises the budget at most by this factor; down it goes at once. */
const MAX_STEP = 2;

export class RunBudget {
  #budget = FIRST_BUDGET;

  /** Budget for a run that should end by `deadline`, at system time `now`. */
  next(deadline: bigint, now: bigint): number {
    const left = deadline - now;
    if (left >= BigInt(TARGET_NS)) return this.#budget;
    const part = left <= 0n ? 0 : Number(left) / TARGET_NS;
    return Math.max(MIN_BUDGET, Math.floor(this.#budget * part));
  }

  /** Budget for a run that should end after `ns`, however short that is: for a sample of where the guest is. */
  within(ns: bigint): number {
    const part = Math.floor((this.#budget * Number(ns)) / TARGET_NS);
    return Math.min(Math.max(part, MIN_SAMPLE_BUDGET), this.#budget);
  }

  /** A run used up `budget` in `elapsedNs`. One that is very short tells of its entry more than of the guest. */
  used(budget: number, elapsedNs: bigint): void {
    if (budget < MIN_BUDGET) return;
    const ideal = (budget * TARGET_NS) / Math.max(Number(elapsedNs), 1);
    this.#budget = Math.floor(Math.min(Math.max(ideal, MIN_BUDGET), this.#budget * MAX_STEP, MAX_BUDGET));
  }
}
