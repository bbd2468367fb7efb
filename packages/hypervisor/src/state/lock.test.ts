import { HypervisorLock } from './lock.ts';
import { MachineMemory } from './machine-memory.ts';

test('a try takes a free lock only, and a release gives it back', () => {
  const memory = MachineMemory.allocate(65536);
  const [first, second] = [new HypervisorLock(memory, 64), new HypervisorLock(memory, 64)];
  expect([first.tryAcquire(), second.tryAcquire(), first.tryAcquire()]).toEqual([true, false, false]);
  expect([first.acquired, second.acquired]).toEqual([1, 0]);
  first.release();
  expect(second.tryAcquire()).toBe(true);
});
