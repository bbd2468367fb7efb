/** Who waits for whom. */
import fc from 'fast-check';
import { Mutex, RangeLocks, type RangeLock } from './range-locks.ts';

const settled = async (promise: Promise<unknown>): Promise<boolean> => {
  let done = false;
  void promise.then(() => {
    done = true;
  });
  for (let turn = 0; turn < 5; turn += 1) await Promise.resolve();
  return done;
};

test('shared ones overlap, exclusive ones wait, others pass by', async () => {
  const locks = new RangeLocks();
  const first = await locks.acquire(0, 10, false);
  const second = await locks.acquire(5, 15, false);
  const writer = locks.acquire(8, 9, true);
  expect(await settled(writer)).toBe(false);
  // A later reader does not overtake the writer that waits.
  const reader = locks.acquire(8, 10, false);
  expect(await settled(reader)).toBe(false);
  expect(locks.tryAcquire(20, 30, true)).toBeDefined();
  locks.release(first);
  expect(await settled(writer)).toBe(false);
  locks.release(second);
  locks.release(await writer);
  locks.release(await reader);
  expect(locks.tryAcquire(0, 20, true)).toBeDefined();
});

test('two that hold overlapping ranges are both shared, and all get their turn', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(20), fc.integer({ min: 1, max: 8 }), fc.boolean(), fc.nat(4)), { maxLength: 30 }),
      async (requests) => {
        const locks = new RangeLocks();
        const held = new Set<RangeLock>();
        await Promise.all(
          requests.map(async ([start, length, exclusive, turns]) => {
            const lock = await locks.acquire(start, start + length, exclusive);
            for (const other of held) {
              const apart = other.end <= lock.start || lock.end <= other.start;
              expect(apart || !(other.exclusive || lock.exclusive)).toBe(true);
            }
            held.add(lock);
            for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
            held.delete(lock);
            locks.release(lock);
          }),
        );
        expect(locks.tryAcquire(0, 100, true)).toBeDefined();
      },
    ),
    { numRuns: 100 },
  );
});

test('a mutex goes on after work that failed', async () => {
  const mutex = new Mutex();
  const order: number[] = [];
  const failing = mutex.run(async () => {
    await Promise.resolve();
    order.push(1);
    throw new Error('no');
  });
  const next = mutex.run(() => Promise.resolve(order.push(2)));
  await expect(failing).rejects.toThrow('no');
  await next;
  expect(order).toEqual([1, 2]);
});
