/**
 * Waiting for another thread that will be done within microseconds: look again and again for a while before the operating
 * system is asked, whose sleep and wake-up cost 30 to 60 µs.
 */

/** Tells the core that it spins (PAUSE); V8 has it since 13.3. */
const relax: () => void = (Atomics as unknown as { pause?: () => void }).pause?.bind(Atomics) ?? (() => undefined);

/** About how long one look takes. */
const LOOK_NS = 50;

/** Looks at `done` for about `ns` nanoseconds; true as soon as it is. */
export function spinFor(ns: number, done: () => boolean): boolean {
  for (let left = ns; left > 0; left -= LOOK_NS) {
    if (done()) return true;
    relax();
  }
  return done();
}

/** Waits until the word is no longer `value`: spins for about `ns`, then sleeps, `sleepMs` at a time. */
export function waitWhile(words: Int32Array, index: number, value: number, ns: number, sleepMs: number): void {
  if (spinFor(ns, () => Atomics.load(words, index) !== value)) return;
  while (Atomics.load(words, index) === value) Atomics.wait(words, index, value, sleepMs);
}
