import { Pace } from './pace.ts';

test('a burst is free, what follows waits its turn, and rest makes it free again', () => {
  let now = 1000;
  const pace = new Pace({ atOnce: 3, perSecond: 10 }, () => now);
  expect([pace.take(), pace.take(), pace.take()]).toEqual([0, 0, 0]);
  expect(pace.take()).toBe(100);
  now += 100;
  expect(pace.take()).toBe(100);
  now += 10_000;
  expect([pace.take(), pace.take(), pace.take()]).toEqual([0, 0, 0]);
  expect(pace.take()).toBe(100);
});
