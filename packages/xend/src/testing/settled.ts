/** Waits until something that goes on behind calls is as it shall be. */
import { setTimeout as sleep } from 'node:timers/promises';

const ATTEMPTS = 200;

/** Asks again and again; the last answer is compared, so that a failure shows it. */
export async function settled<T>(ask: () => Promise<T>, expected: T): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    if (JSON.stringify(await ask()) === JSON.stringify(expected)) return;
    await sleep(5);
  }
  expect(await ask()).toEqual(expected);
}
