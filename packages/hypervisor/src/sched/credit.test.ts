import { SchedPriority } from '../state/records.ts';
import { account, burnCredits, CREDITS_PER_TSLICE, MAX_DEBT, shares } from './credit.ts';
import type { VcpuView } from './credit.ts';

const vcpus = (n: number, credit = 0): VcpuView[] =>
  Array.from({ length: n }, () => ({ credit, priority: SchedPriority.under, schedFlags: 0 }) as VcpuView);

const T = CREDITS_PER_TSLICE;

describe('shares of one period', () => {
  test.each([
    ['one busy domain gets no more than its vCPU can use', 2, [{ weight: 256, cap: 0, n: 1 }], [T]],
    ['equal weights share alike', 1, [{ weight: 256, cap: 0, n: 1 }, { weight: 256, cap: 0, n: 1 }], [T / 2, T / 2]],
    ['twice the weight, twice the time', 1, [{ weight: 512, cap: 0, n: 1 }, { weight: 256, cap: 0, n: 1 }], [T * 2 / 3, T / 3]],
    ['a cap is a cap, and the rest goes to the other', 1, [{ weight: 256, cap: 25, n: 1 }, { weight: 256, cap: 0, n: 1 }], [T / 4, T * 3 / 4]],
    ['a cap of an idle host', 2, [{ weight: 256, cap: 50, n: 1 }], [T / 2]],
    ['nobody', 4, [], []],
  ])('%s', (_name, nrPcpus, claims, expected) => {
    expect(shares(claims.map(({ n, ...c }) => ({ ...c, vcpus: vcpus(n) })), nrPcpus)).toEqual(expected);
  });
}); // prettier-ignore

describe('accounting', () => {
  test('debt makes OVER, credit makes UNDER', () => {
    const [rich] = vcpus(1, 0);
    const [poor] = vcpus(1, -MAX_DEBT - T);
    account(
      [
        { weight: 256, cap: 0, vcpus: [rich as VcpuView] },
        { weight: 256, cap: 0, vcpus: [poor as VcpuView] },
      ],
      1,
    );
    expect([rich?.priority, rich?.credit]).toEqual([SchedPriority.under, T / 2]);
    expect([poor?.priority, poor?.credit]).toEqual([SchedPriority.over, -MAX_DEBT]);
  });

  test('a capped vCPU in debt beyond its cap is parked', () => {
    const capped = vcpus(1, -T);
    const { park } = account([{ weight: 256, cap: 20, vcpus: capped }], 1);
    expect(park).toEqual(capped);
  });

  test('short runs add up', () => {
    const v = { credit: T, creditRemainderNs: 0 } as VcpuView;
    for (let i = 0; i < 1000; i++) burnCredits(v, 30_000n);
    expect(v.credit).toBe(0);
  });

  test('earning stops at a full slice', () => {
    const [idle] = vcpus(1, T);
    account([{ weight: 256, cap: 0, vcpus: [idle as VcpuView] }], 1);
    expect(idle?.credit).toBe(T / 2);
  });
});
