/**
 * How long an idle pCPU looks for work before it lets the operating system put it to sleep, from which it takes 30 to
 * 60 µs to come back. It looks only while that has lately been worth it: work that comes within `MAX_NS` makes it look
 * longer the next time, a long rest makes it sleep at once (as KVM's halt polling does). So a halted host uses no CPU.
 */
import { spinFor } from '../state/spin.ts';

const FIRST_NS = 20_000;
const MAX_NS = 160_000;
/** Looks between two readings of the clock. */
const CHUNK_NS = 2_000;

export class IdlePoll {
  #windowNs = 0;

  get windowNs(): number {
    return this.#windowNs;
  }

  /** Looks at `isAsked` for the present window, at most until system time `until`. True when asked, or `until` has come. */
  poll(systemTimeNs: () => bigint, until: bigint | undefined, isAsked: () => boolean): boolean {
    if (this.#windowNs === 0) return isAsked();
    let now = systemTimeNs();
    const end = now + BigInt(this.#windowNs);
    for (;;) {
      if (spinFor(CHUNK_NS, isAsked)) return true;
      now = systemTimeNs();
      if (until !== undefined && now >= until) return true;
      if (now >= end) return false;
    }
  }

  /** The pCPU had nothing to do for so long. */
  waited(ns: bigint): void {
    if (ns > BigInt(MAX_NS)) this.#windowNs = 0;
    else if (ns > BigInt(this.#windowNs)) this.#windowNs = Math.min(Math.max(this.#windowNs * 2, FIRST_NS), MAX_NS);
  }
}
