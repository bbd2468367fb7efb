import { RunBudget, TARGET_NS } from './budget.ts';

const FAR = 1n << 60n;
const TARGET = BigInt(TARGET_NS);

/** Runs of a guest whose branches cost `branchNs` each. */
function steer(budget: RunBudget, branchNs: number, runs: number): number {
  for (let i = 0; i < runs; i++) {
    const given = budget.next(FAR, 0n);
    budget.used(given, BigInt(Math.round(given * branchNs)));
  }
  return budget.next(FAR, 0n) * branchNs;
}

test.each([2, 20, 200])('with branches of %d ns a run comes to last as long as it should', (branchNs) => {
  const ns = steer(new RunBudget(), branchNs, 12);
  expect(ns / TARGET_NS).toBeGreaterThan(0.9);
  expect(ns / TARGET_NS).toBeLessThan(1.1);
});

test('a guest that becomes slow is cut short at the next run', () => {
  const budget = new RunBudget();
  steer(budget, 1, 12);
  expect(steer(budget, 50, 1)).toBeLessThan(1.1 * TARGET_NS);
});

test('a run ends by the deadline', () => {
  const budget = new RunBudget();
  steer(budget, 10, 12);
  const whole = budget.next(FAR, 0n);
  expect(budget.next(TARGET / 4n, 0n)).toBe(Math.floor(whole / 4));
  expect(budget.next(5n, 10n)).toBeGreaterThan(0);
});
