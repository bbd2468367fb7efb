import fc from 'fast-check';
import { Budget } from './budget.ts';
import type { DeviceShare } from './budget.ts';

const LIMITS = { deviceBytes: 100, allBytes: 200, turnBytes: 30 };

/** A device with requests of one size that are never done by themselves. */
class Device {
  readonly share: DeviceShare;
  readonly size: number;
  wanted: number;
  inWork = 0;
  done = 0;

  constructor(budget: Budget, size: number, wanted: number) {
    this.size = size;
    this.wanted = wanted;
    this.share = budget.share({
      roomAgain: () => {
        this.go();
      },
    });
  }

  go(): void {
    while (this.wanted > 0 && this.share.take(this.size)) {
      this.wanted--;
      this.inWork++;
    }
  }

  finish(): void {
    this.inWork--;
    this.done++;
    this.share.give(this.size);
  }
}

test('a device stays within its share and goes on when there is room', () => {
  const device = new Device(new Budget(LIMITS), 40, 5);
  device.go();
  expect(device.inWork).toBe(2);
  device.finish();
  expect(device.inWork).toBe(2);
  expect(device.wanted).toBe(2);
});

test('something always fits when nothing is in work', () => {
  const budget = new Budget(LIMITS);
  const device = new Device(budget, 500, 2);
  device.go();
  expect(device.inWork).toBe(1);
  device.finish();
  expect([device.inWork, device.done, budget.usedBytes]).toEqual([1, 1, 500]);
});

test('those that wait are served in turns', () => {
  const budget = new Budget(LIMITS);
  const greedy = [new Device(budget, 10, 1000), new Device(budget, 10, 1000)];
  for (const device of greedy) device.go();
  expect(greedy.map(({ inWork }) => inWork)).toEqual([10, 10]);
  const late = new Device(budget, 10, 1000);
  late.go();
  expect(late.inWork).toBe(0);
  for (let i = 0; i < 600; i++) {
    const busy = [...greedy, late].filter(({ inWork }) => inWork > 0);
    busy[i % busy.length]?.finish();
  }
  for (const device of [...greedy, late]) expect(device.done).toBeGreaterThan(600 / 3 / 2);
});

test('who is gone holds nobody up', () => {
  const budget = new Budget(LIMITS);
  const [one, two, three] = [new Device(budget, 100, 9), new Device(budget, 100, 9), new Device(budget, 100, 9)];
  one.go();
  two.go();
  three.go();
  const four = new Device(budget, 100, 1);
  four.go();
  expect(budget.waiting).toBe(2);
  three.wanted = 0;
  three.share.end();
  one.wanted = 0;
  one.finish();
  expect(four.inWork).toBe(1);
});

test('whatever is asked and given back, limits hold and nobody waits for ever', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ size: fc.integer({ min: 1, max: 60 }), wanted: fc.integer({ min: 1, max: 40 }) }), {
        ...{ minLength: 1, maxLength: 8 },
      }),
      fc.array(fc.nat(1000), { maxLength: 300 }),
      (specs, choices) => {
        const budget = new Budget(LIMITS);
        const devices = specs.map(({ size, wanted }) => new Device(budget, size, wanted));
        const total = specs.reduce((sum, { wanted }) => sum + wanted, 0);
        for (const device of devices) device.go();
        for (let step = 0; step < total; step++) {
          const used = devices.reduce((sum, { inWork, size }) => sum + inWork * size, 0);
          const busy = devices.filter(({ inWork }) => inWork > 0);
          const within = devices.every(({ inWork, size }) => inWork * size <= LIMITS.deviceBytes);
          if (budget.usedBytes !== used || used > LIMITS.allBytes || !within || busy.length === 0) {
            throw new Error(`${used} bytes, ${busy.length} busy, ${within ? 'each' : 'not each'} within its share`);
          }
          busy[(choices[step] ?? 0) % busy.length]?.finish();
        }
        expect(devices.every(({ wanted, inWork }) => wanted === 0 && inWork === 0)).toBe(true);
        expect(budget.usedBytes).toBe(0);
      },
    ),
  );
});
