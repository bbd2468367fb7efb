import fc from 'fast-check';
import { TRACE_EXTRA_SHIFT, TraceEvent, TRC_HD_CYCLE_FLAG } from '@xenhost/xen-abi';
import { cpuChange, recordsOf, recordsOfFile, TraceFormatError } from './records.ts';

const words = (...values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const head = (event: number, nr: number, timed = false): number =>
  (event | (nr << TRACE_EXTRA_SHIFT) | (timed ? TRC_HD_CYCLE_FLAG : 0)) >>> 0;
const join = (...parts: readonly Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

test('records with and without time; fillers are left out', () => {
  const bytes = words(
    head(TraceEvent.SCHED_YIELD, 2, true), 5, 1, 7, 8,
    head(TraceEvent.WRAP_BUFFER, 1), 0,
    head(TraceEvent.SCHED_BLOCK, 0),
  ); // prettier-ignore
  expect([...recordsOf(bytes, 3)]).toMatchObject([
    { event: TraceEvent.SCHED_YIELD, tsc: 0x1_0000_0005n, data: [7, 8], cpu: 3 },
    { event: TraceEvent.SCHED_BLOCK, tsc: undefined, data: [], cpu: 3 },
  ]);
});

test('a file says whose records follow', () => {
  const [a, b] = [words(head(TraceEvent.SCHED_BLOCK, 1), 1), words(head(TraceEvent.SCHED_YIELD, 0))];
  const file = join(cpuChange(1, a.length), a, cpuChange(0, b.length), b);
  expect([...recordsOfFile(file)].map(({ cpu, event }) => [cpu, event])).toEqual([
    [1, TraceEvent.SCHED_BLOCK],
    [0, TraceEvent.SCHED_YIELD],
  ]);
});

test.each([
  ['no CPU change first', words(head(TraceEvent.SCHED_BLOCK, 0)), 'no CPU change'],
  ['a part that is cut off', cpuChange(0, 4), 'cut off'],
  ['a record that is cut off', join(cpuChange(0, 4), words(head(TraceEvent.SCHED_BLOCK, 1))), 'cut off'],
  ['half a word', new Uint8Array(3), 'cut off'],
])('%s is refused', (_, file, why) => {
  expect(() => [...recordsOfFile(file)]).toThrow(why);
});

test('any bytes are records or a format error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      try {
        for (const { data } of recordsOf(bytes, 0)) expect(data.length).toBeLessThan(8);
      } catch (error) {
        expect(error).toBeInstanceOf(TraceFormatError);
      }
    }),
  );
});
