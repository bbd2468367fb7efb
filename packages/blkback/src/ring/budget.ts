/**
 * Memory for data of requests in work, shared fairly: a device has a share of its own, and when all together have used up what
 * there is, those that wait are served in turns, in the order in which they came.
 */
export interface BudgetLimits {
  readonly deviceBytes: number;
  readonly allBytes: number;
  /** What one that waited takes at most before the next has its turn. */
  readonly turnBytes: number;
}

/** Told that there may be room again; asks anew for what it wants. */
export interface Waiter {
  roomAgain(): void;
}

export class Budget {
  readonly #limits: BudgetLimits;
  #used = 0;
  /** Who waits for room among all; a Set keeps the order of arrival. */
  readonly #waiting = new Set<DeviceShare>();
  #serving = false;

  constructor(limits: BudgetLimits) {
    this.#limits = limits;
  }

  get usedBytes(): number {
    return this.#used;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  share(waiter: Waiter): DeviceShare {
    return new DeviceShare(this, this.#limits, waiter);
  }

  /** For shares. */
  take(share: DeviceShare, bytes: number): boolean {
    if (this.#waiting.size > 0 && !share.served) {
      this.#waiting.add(share);
      return false;
    }
    // Something always fits when nothing is in work, whatever its size.
    if (this.#used > 0 && this.#used + bytes > this.#limits.allBytes) {
      this.#waiting.add(share);
      return false;
    }
    this.#used += bytes;
    return true;
  }

  /** For shares. */
  give(bytes: number): void {
    this.#used -= bytes;
    this.#serve();
  }

  /** For shares: its turn is over, or it is gone. */
  leave(share: DeviceShare, again: boolean): void {
    this.#waiting.delete(share);
    if (again) this.#waiting.add(share);
    else this.#serve();
  }

  #serve(): void {
    if (this.#serving) return;
    this.#serving = true;
    try {
      for (let turns = this.#waiting.size; turns > 0 && this.#used < this.#limits.allBytes; turns--) {
        const [next] = this.#waiting;
        if (!next) break;
        this.#waiting.delete(next);
        next.turn();
        // It asked for more than there was: the next has no better luck, or it would overtake.
        if (this.#waiting.has(next) && !next.hadTurn) break;
      }
    } finally {
      this.#serving = false;
    }
  }
}

/** One device's share of the budget. */
export class DeviceShare {
  readonly #budget: Budget;
  readonly #limits: BudgetLimits;
  readonly #waiter: Waiter;
  #used = 0;
  #turn: number | undefined;
  #wantsOwn = false;
  /** Whether its last turn took anything. */
  hadTurn = false;

  constructor(budget: Budget, limits: BudgetLimits, waiter: Waiter) {
    this.#budget = budget;
    this.#limits = limits;
    this.#waiter = waiter;
  }

  get usedBytes(): number {
    return this.#used;
  }

  get served(): boolean {
    return this.#turn !== undefined;
  }

  /** Takes room for a request, or remembers that it is wanted: `roomAgain` is called then. */
  take(bytes: number): boolean {
    if (this.#used > 0 && this.#used + bytes > this.#limits.deviceBytes) {
      this.#wantsOwn = true;
      return false;
    }
    if (this.#turn !== undefined && this.#turn > 0 && this.#turn + bytes > this.#limits.turnBytes) {
      this.#budget.leave(this, true);
      return false;
    }
    if (!this.#budget.take(this, bytes)) return false;
    this.#used += bytes;
    if (this.#turn !== undefined) this.#turn += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#used -= bytes;
    this.#budget.give(bytes);
    if (!this.#wantsOwn) return;
    this.#wantsOwn = false;
    this.#waiter.roomAgain();
  }

  /** From the budget: one turn. */
  turn(): void {
    this.#turn = 0;
    this.#waiter.roomAgain();
    this.hadTurn = this.#turn > 0;
    this.#turn = undefined;
  }

  /** It will not ask again. */
  end(): void {
    this.#wantsOwn = false;
    this.#budget.leave(this, false);
  }
}
