import { MAX_INPUT_EVENTS } from '../limits.ts';
import { InputQueue } from './input-queue.ts';

test('movements of the pointer are joined, keys are not', () => {
  const queue = new InputQueue();
  queue.push({ kind: 'position', x: 1, y: 1, z: -1 });
  queue.push({ kind: 'position', x: 2, y: 3, z: -1 });
  queue.push({ kind: 'key', keycode: 30, pressed: true });
  queue.push({ kind: 'motion', x: 1, y: 1, z: 0 });
  queue.push({ kind: 'motion', x: 2, y: -3, z: 1 });
  expect(queue.take(10)).toEqual([
    { kind: 'position', x: 2, y: 3, z: -2 },
    { kind: 'key', keycode: 30, pressed: true },
    { kind: 'motion', x: 3, y: -2, z: 1 },
  ]);
});

test('a guest that takes nothing holds a bounded number, and no key stays down', () => {
  const queue = new InputQueue();
  for (let i = 0; i < MAX_INPUT_EVENTS * 3; i++) {
    queue.push({ kind: 'key', keycode: i, pressed: true });
    queue.push({ kind: 'position', x: i, y: 0, z: 0 });
  }
  for (let i = 0; i < MAX_INPUT_EVENTS * 3; i++) queue.push({ kind: 'key', keycode: i, pressed: false });
  const events = queue.take(Infinity);
  expect(events.length).toBeLessThan(2 * MAX_INPUT_EVENTS);
  const keys = events.filter((event) => event.kind === 'key');
  const down = keys.filter(({ pressed }) => pressed).map(({ keycode }) => keycode);
  expect(keys.filter(({ pressed }) => !pressed).map(({ keycode }) => keycode)).toEqual(down);
});

test('repeats and releases of what is not down are dropped', () => {
  const queue = new InputQueue();
  for (const pressed of [false, true, true, false, false]) queue.push({ kind: 'key', keycode: 1, pressed });
  expect(queue.take(10).map((event) => event.kind === 'key' && event.pressed)).toEqual([true, false]);
});
