import { TraceClass } from '@xenhost/xen-abi';
import { UsageError, wholeNumber } from './tool.ts';
import { perfText } from './xenperf-command.ts';
import { cpuMask, eventMask } from './xentrace-command.ts';

describe('masks of xentrace', () => {
  test.each([
    ['all', 0xffff_ffff_ffff_ffffn],
    ['0x5', 5n],
    ['0', 1n],
    ['0-2,5', 0x27n],
    ['3-', 0xf8n],
  ])('-c %s', (text, mask) => expect(cpuMask(text, 8)).toBe(mask));
  test.each(['', '8', '2-1', '0-8', 'x', '1,', '-1', '0x'])('-c %j is refused', (text) =>
    expect(() => cpuMask(text, 8)).toThrow(UsageError),
  );
  test.each([
    ['sched', TraceClass.SCHED],
    ['all', TraceClass.ALL],
    ['0x21000', 0x21000],
    ['131072', 131072],
  ])('-e %s', (text, mask) => expect(eventMask(text)).toBe(mask));
  test.each(['', 'disk', '-1', '0x1ffffffff', '1e3'])('-e %j is refused', (text) =>
    expect(() => eventMask(text)).toThrow(UsageError),
  );
});

test.each(['', '0', '11', '2.5', ' 3', 'x'])('a number %j out of 1 to 10 is refused', (text) =>
  expect(() => wholeNumber(text, '-t', 1, 10)).toThrow('-t'),
);

test('the columns of xenperf', () => {
  const hypercalls = Array.from({ length: 64 }, (_, i) => (i === 1 ? 7 : i === 63 ? 2 : 0));
  const counters = [
    { name: 'hypercalls', values: hypercalls },
    { name: 'event upcalls', values: [3, 4] },
    { name: 'nothing', values: [0, 0] },
  ];
  expect(perfText(counters, 'short')).toBe(
    'hypercalls                          T=         9 \n' +
      'event upcalls                       T=         7           3          4\n' +
      'nothing                             T=         0 \n',
  );
  expect(perfText(counters, 'pretty').split('\n').slice(0, 3)).toEqual([
    'hypercalls                          T=         9 ',
    'mmu_update                                     7',
    '[63]                                           2',
  ]);
  expect(perfText(counters, 'full').split('\n')[0]).toMatch(/^hypercalls .* T= {9}9( +\d+){64}$/);
});
