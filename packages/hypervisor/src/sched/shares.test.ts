/** Who gets how much over ten seconds: several pCPUs in turns over a clock that only the test moves. */
import { VcpuFlag } from '../state/records.ts';
import type { VcpuRef } from '../state/refs.ts';
import { MS } from '../test-host.test-kit.ts';
import type { Claim } from './spinning.test-kit.ts';
import { Spinning, STEP_NS } from './spinning.test-kit.ts';

const SECONDS = 10;
const STEPS = (SECONDS * 1_000_000_000) / Number(STEP_NS);
const TOLERANCE = 0.05;

const ws = (...weights: number[]): Claim[] => weights.map((weight) => ({ weight }));
const caps = (...of: number[]): Claim[] => of.map((cap) => ({ cap }));

test.each<[name: string, nrPcpus: number, claims: Claim[], expected: number[]]>([
  ['two alike on one pCPU', 1, ws(256, 256), [5, 5]],
  ['weights 2:1', 1, ws(512, 256), [6.667, 3.333]],
  ['weights 4:1', 1, ws(1024, 256), [8, 2]],
  ['weights 1:2:4', 1, ws(128, 256, 512), [1.4286, 2.857, 5.714]],
  ['four alike', 1, ws(256, 256, 256, 256), [2.5, 2.5, 2.5, 2.5]],
  ['weights 1:2:3:4', 1, ws(100, 200, 300, 400), [1, 2, 3, 4]],
  ['three alike on two pCPUs', 2, ws(256, 256, 256), [6.667, 6.667, 6.667]],
  ['four alike on two pCPUs', 2, ws(256, 256, 256, 256), [5, 5, 5, 5]],
  ['1:1:2 on two pCPUs: the heavy one has a pCPU', 2, ws(256, 256, 512), [5, 5, 10]],
  ['1:1:1:3 on two pCPUs', 2, ws(256, 256, 256, 768), [3.333, 3.333, 3.333, 10]],
  ['1:1:4 on two pCPUs', 2, ws(256, 256, 1024), [5, 5, 10]],
  ['1:1:1:8 on two pCPUs', 2, ws(256, 256, 256, 2048), [3.333, 3.333, 3.333, 10]],
  ['1:16', 1, ws(128, 2048), [0.588, 9.412]],
  ['1:2:2:2 on two pCPUs', 2, ws(128, 256, 256, 256), [2.857, 5.714, 5.714, 5.714]],
  ['two vCPUs weigh twice', 2, [{ vcpus: 2 }, {}, {}], [10, 5, 5]],
  ['a cap of 20 %', 1, caps(20), [2]],
  ['a cap of 5 %', 1, caps(5), [0.5]],
  ['a cap of 75 %', 1, caps(75), [7.5]],
  ['a capped one beside one that is not', 1, caps(25, 0), [2.5, 7.5]],
  ['two caps', 1, caps(30, 40), [3, 4]],
  ['a cap of 150 % of two vCPUs', 2, [{ cap: 150, vcpus: 2 }], [15]],
  ['caps and weights on two pCPUs', 2, [{ cap: 50 }, { weight: 512 }, {}], [5, 10, 5]],
])('%s', (_name, nrPcpus, claims, expected) => {
  const spinning = new Spinning(nrPcpus, claims);
  spinning.run(STEPS);
  const got = spinning.seconds();
  const errors = got.map((seconds, i) => seconds / (expected[i] ?? NaN) - 1);
  for (const error of errors) if (!(Math.abs(error) <= TOLERANCE)) throw new Error(`got ${got.map((s) => s.toFixed(2)).join(' ')}`);
}); // prettier-ignore

test.each([
  ['2:1', 1, [512, 256], [20, 10]],
  ['1:2:4', 1, [128, 256, 512], [30 / 7, 60 / 7, 120 / 7]],
  ['1:1:2 on two', 2, [256, 256, 512], [15, 15, 30]],
] as const)('weights %s hold on a machine that lets us run now and then only', (_name, nrPcpus, weights, expected) => {
  const spinning = new Spinning(nrPcpus, ws(...weights));
  spinning.run(500, () => undefined, 60n * MS);
  spinning.seconds().forEach((seconds, i) => {
    expect(Math.abs(seconds / (expected[i] ?? NaN) - 1)).toBeLessThan(TOLERANCE);
  });
});

test.each([1, 3])('an idle vCPU that wakes beside %d that spin runs at the next look', (spinners) => {
  const spinning = new Spinning(1, [...ws(256), ...Array.from({ length: spinners }, () => ({}))]);
  const sleeper = firstVcpu(spinning);
  let late = 0;
  let wakes = 0;
  spinning.run(STEPS / 5, (step) => {
    const phase = step % 53;
    if (phase === 50) wake(spinning, sleeper);
    else if (phase === 52) {
      wakes++;
      if (!spinning.isRunning(sleeper)) late++;
      block(spinning, sleeper);
    }
  });
  expect(late / wakes).toBeLessThan(0.25);
});

const firstVcpu = ({ host }: Spinning): VcpuRef => {
  const domain = host.table.lookup(1);
  if (!domain) throw new Error('no domain');
  return host.vcpu(domain);
};

function block({ host }: Spinning, vcpu: VcpuRef): void {
  vcpu.v.flags |= VcpuFlag.blocked;
  host.scheduler.sleep(vcpu);
}

function wake({ host }: Spinning, vcpu: VcpuRef): void {
  host.scheduler.kick(vcpu);
}
