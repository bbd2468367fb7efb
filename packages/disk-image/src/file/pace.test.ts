/** When transfers go through the thread pool. */
import { Pace } from './pace.ts';

function scene() {
  const clock = { ms: 0, now: () => clock.ms };
  const pace = new Pace(clock);
  /** One transfer of 4 KiB that takes so many us; tells which way it went. */
  const transfer = (us: number): 'direct' | 'pool' => {
    const direct = pace.direct;
    const start = clock.ms;
    clock.ms += us / 1000;
    pace.done(direct, start, 4096);
    return direct ? 'direct' : 'pool';
  };
  const many = (count: number, us: number) => Array.from({ length: count }, () => transfer(us));
  return { clock, many, transfer };
}

test('quick ones go direct, and a slow one now and then changes nothing', () => {
  const { many, transfer } = scene();
  for (let round = 0; round < 20; round += 1) {
    expect(new Set(many(40, 5))).toEqual(new Set(['direct']));
    expect(transfer(3000)).toBe('direct');
  }
});

test('a slow disk goes through the pool after three, and is tried ever more seldom', () => {
  const { clock, many } = scene();
  const ways = many(2000, 10_000);
  expect(ways.slice(0, 4)).toEqual(['direct', 'direct', 'direct', 'pool']);
  // 20 s at 100, 200, 400 ... 5000 ms apart.
  expect(ways.slice(4).filter((way) => way === 'direct')).toHaveLength(8);
  expect(clock.ms).toBeCloseTo(20_000);
});

test('quick answers of the pool bring the direct way back', () => {
  const { many } = scene();
  many(3, 10_000);
  expect(many(9, 60)).toEqual([...Array<string>(8).fill('pool'), 'direct']);
});
