/** Time as a collaborator: daemons and the hypervisor are given one, tests drive a fake one. */
export interface Clock {
  /** Nanoseconds of a monotonic clock. */
  monotonicNs(): bigint;
  /** Nanoseconds since the Unix epoch. */
  wallNs(): bigint;
}

export const systemClock: Clock = {
  monotonicNs: () => process.hrtime.bigint(),
  wallNs: () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n,
};

/** A clock that stands still until told to move. */
export class FakeClock implements Clock {
  #monotonic: bigint;
  #wall: bigint;
  constructor(startNs = 0n, wallNs = 1_700_000_000_000_000_000n) {
    this.#monotonic = startNs;
    this.#wall = wallNs;
  }
  monotonicNs(): bigint {
    return this.#monotonic;
  }
  wallNs(): bigint {
    return this.#wall;
  }
  advance(ns: bigint): void {
    this.#monotonic += ns;
    this.#wall += ns;
  }
}
