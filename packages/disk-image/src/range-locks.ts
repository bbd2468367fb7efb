/**
 * Locks over ranges of a disk: shared ones for I/O that leaves the mapping as it is, exclusive ones for what changes it. Ranges that do not
 * overlap never meet; those that do are served in the order of asking, so that none starves.
 */
export interface RangeLock {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
}

interface Waiting {
  readonly lock: RangeLock;
  readonly grant: () => void;
}

const meet = (a: RangeLock, b: RangeLock): boolean =>
  (a.exclusive || b.exclusive) && a.start < b.end && b.start < a.end;

export class RangeLocks {
  readonly #held = new Set<RangeLock>();
  #waiting: Waiting[] = [];

  /** The lock at once, or undefined where acquire() has to wait. */
  tryAcquire(start: number, end: number, exclusive: boolean): RangeLock | undefined {
    const lock = { start, end, exclusive };
    if (!this.#isFree(lock) || this.#waiting.some((other) => meet(lock, other.lock))) return undefined;
    this.#held.add(lock);
    return lock;
  }

  async acquire(start: number, end: number, exclusive: boolean): Promise<RangeLock> {
    const now = this.tryAcquire(start, end, exclusive);
    if (now) return now;
    const lock = { start, end, exclusive };
    await new Promise<void>((grant) => {
      this.#waiting.push({ lock, grant });
    });
    return lock;
  }

  release(lock: RangeLock): void {
    this.#held.delete(lock);
    if (this.#waiting.length === 0) return;
    const still: Waiting[] = [];
    for (const next of this.#waiting) {
      if (!this.#isFree(next.lock) || still.some((other) => meet(next.lock, other.lock))) still.push(next);
      else {
        this.#held.add(next.lock);
        next.grant();
      }
    }
    this.#waiting = still;
  }

  #isFree(lock: RangeLock): boolean {
    for (const held of this.#held) if (meet(lock, held)) return false;
    return true;
  }
}

/** Runs one piece of work at a time, in the order of asking. */
export class Mutex {
  #last: Promise<unknown> = Promise.resolve();

  run<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work, work);
    this.#last = mine.catch(() => undefined);
    return mine;
  }
}
