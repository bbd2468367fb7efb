import { IdlePoll } from './idle-poll.ts';

/** A clock that moves by itself, as time does. */
function ticking(stepNs = 1000n): () => bigint {
  let now = 0n;
  return () => (now += stepNs);
}

const never = (): boolean => false;

/** Short rests until the window is as long as it gets. */
function warmed(): IdlePoll {
  const poll = new IdlePoll();
  for (let i = 0; i < 10; i++) poll.waited(150_000n);
  return poll;
}

test('at first, and after a long rest, it does not look at all', () => {
  const poll = new IdlePoll();
  let looks = 0;
  const look = (): boolean => (looks++, false);
  expect(poll.poll(ticking(), undefined, look)).toBe(false);
  expect(looks).toBe(1);
  const warm = warmed();
  expect(warm.windowNs).toBeGreaterThan(100_000);
  warm.waited(5_000_000n);
  expect(warm.windowNs).toBe(0);
});

test('rests that end soon make it look longer, up to a bound', () => {
  const poll = new IdlePoll();
  const windows = Array.from({ length: 6 }, () => (poll.waited(150_000n), poll.windowNs));
  expect(windows).toEqual([20_000, 40_000, 80_000, 160_000, 160_000, 160_000]);
  poll.waited(30_000n);
  expect(poll.windowNs).toBe(160_000);
});

test('it ends when asked, when the window is over, and at the deadline', () => {
  expect(warmed().poll(ticking(), undefined, () => true)).toBe(true);
  expect(warmed().poll(ticking(), undefined, never)).toBe(false);
  expect(warmed().poll(ticking(), 20_000n, never)).toBe(true);
});
