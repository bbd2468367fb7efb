/**
 * Who works next: what can be done at once is, and who has more to do than a slice waits in line behind all others. So a busy
 * client costs each other one at most the slices of those in line, and new input is looked for after every turn. What a turn has for
 * clients leaves at its end. When many are at work, replies to some of them leave together: one that is written as soon as it is there
 * wakes its client for a single request, and the daemon is interrupted for each.
 */
import { GATHERED_MAX, GATHER_FROM, LOOK_EVERY, SLICE_MS, TURN_MS } from './limits.ts';

export interface Worker {
  /**
   * Works for a slice, at least one step, and tells whether there is more that can be done. The slice began at `startMs` (performance.now());
   * without it, now: who has one step only need not look at the clock.
   */
  work(startMs?: number): boolean;
}

export interface Sender {
  /** Sends what waits. May make others ready, or have something to send. */
  flush(): void;
}

/** Whether a slice that began at `startMs` is over. */
export const isSliceOver = (startMs: number): boolean => performance.now() - startMs >= SLICE_MS;

export class Turns {
  #line: Worker[] = [];
  readonly #waiting = new Set<Worker>();
  #scheduled = false;
  /** With something to send, in the order in which they got it. */
  #senders: Sender[] = [];
  /** Somebody will flush them. */
  #flushing = false;
  /** Many were ready in the last round of the event loop: what they get leaves at its end, or when there is much. */
  #gathers = false;
  /** How many were ready since the last look. */
  #ready = 0;
  #looks = false;

  /** `worker` has something to do: now when nobody waits, else in its turn. */
  ready(worker: Worker): void {
    if (this.#line.length > 0) {
      this.#enqueue(worker);
      return;
    }
    const isOuter = !this.#flushing;
    this.#flushing = true;
    if (worker.work()) this.#enqueue(worker);
    if (!isOuter) return;
    this.#ready++;
    if (!this.#looks && (this.#gathers || this.#ready >= LOOK_EVERY)) this.#look();
    if (this.#gathers && this.#senders.length < GATHERED_MAX) this.#flushing = false;
    else this.#flush();
  }

  /** `sender` has something to send: at the end of the turn, or of whatever runs now. Once for each time it is flushed. */
  toFlush(sender: Sender): void {
    this.#senders.push(sender);
    if (this.#flushing || this.#looks) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flush();
    });
  }

  /** Counts who is ready in this round. */
  #look(): void {
    this.#looks = true;
    this.#ready = 1;
    setImmediate(() => {
      this.#looks = false;
      this.#gathers = this.#ready >= GATHER_FROM;
      this.#ready = 0;
      this.#flush();
    });
  }

  #flush(): void {
    while (this.#senders.length > 0) {
      const senders = this.#senders;
      this.#senders = [];
      for (const sender of senders) sender.flush();
    }
    this.#flushing = false;
  }

  #enqueue(worker: Worker): void {
    if (this.#waiting.has(worker)) return;
    this.#waiting.add(worker);
    this.#line.push(worker);
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#turn();
    });
  }

  #turn(): void {
    const end = performance.now() + TURN_MS;
    const again: Worker[] = [];
    let done = 0;
    this.#flushing = true;
    for (const worker of this.#line) {
      const now = performance.now();
      if (now >= end) break;
      done++;
      this.#waiting.delete(worker);
      if (worker.work(now)) again.push(worker);
    }
    this.#line = this.#line.slice(done);
    for (const worker of again) this.#enqueue(worker);
    if (this.#line.length > 0) this.#schedule();
    this.#flush();
  }
}
