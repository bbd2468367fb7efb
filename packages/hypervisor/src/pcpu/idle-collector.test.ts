import { IdleCollector } from './idle-collector.ts';

const MIB = 1 << 20;

/** A heap that halves when it is collected. */
class Heap {
  used: number;
  collected = 0;
  constructor(used: number) {
    this.used = used;
  }
  usedBytes(): number {
    return this.used;
  }
  collect(): void {
    this.collected++;
    this.used /= 2;
  }
}

test('a resting thread collects once, and again when its heap has grown', () => {
  const heap = new Heap(20 * MIB);
  const collector = new IdleCollector(heap);
  collector.rest();
  collector.rest();
  expect(heap.collected).toBe(1);
  heap.used += 3 * MIB;
  collector.rest();
  expect(heap.collected).toBe(1);
  heap.used += 2 * MIB;
  collector.rest();
  expect(heap.collected).toBe(2);
});

test('a thread whose heap grows from look to look is left alone', () => {
  const heap = new Heap(20 * MIB);
  const collector = new IdleCollector(heap);
  for (let i = 0; i < 5; i++) {
    heap.used += MIB;
    collector.look();
  }
  expect(heap.collected).toBe(0);
  collector.look();
  expect(heap.collected).toBe(1);
  collector.look();
  expect(heap.collected).toBe(1);
});
