import { ExitReason, exitName, newCounters } from '@xenhost/cpu';
import { Hypercall, Runstate } from '@xenhost/xen-abi';
import { pcpuViews } from '../sched/runqueue.ts';
import { setRunstate } from '../vcpu/runstate.ts';
import { MS, TestHost } from '../test-host.test-kit.ts';
import { COUNTER, COUNTER_ROWS, ENGINE_COUNTERS, lengthOf, NR_VALUES, placeOf } from './counter-table.ts';
import { hypervisorMetrics } from './metrics.ts';
import { quietObserver } from './observer.test-kit.ts';
import { PerfCounters } from './perf.ts';

const HYPERCALLS = 'hypercalls';

function setup() {
  const host = new TestHost({ nrPcpus: 2 });
  const { memory, map } = host.core;
  const second = quietObserver(memory, map, 1).counters;
  const control = quietObserver(memory, map, undefined).counters;
  const perf = new PerfCounters({ ...host.core, counters: control });
  const values = (name: string) => perf.query().find((counter) => counter.name === name)?.values;
  return { host, first: host.core.counters, second, control, perf, values };
}

test('places do not overlap, names and metrics are used once', () => {
  const taken = COUNTER_ROWS.flatMap(([key, row]) => Array.from({ length: lengthOf(row) }, (_, i) => placeOf(key) + i));
  expect(new Set(taken).size).toBe(NR_VALUES);
  expect(new Set(COUNTER_ROWS.map(([, row]) => row.perfc)).size).toBe(COUNTER_ROWS.length);
  expect(new Set(COUNTER_ROWS.map(([, row]) => row.metric)).size).toBe(COUNTER_ROWS.length);
});

test('counts of each thread, sums of arrays', () => {
  const { first, second, control, host, values } = setup();
  const vcpu = host.vcpu(host.domain());
  first.hypercall(Hypercall.mmu_update);
  second.hypercall(Hypercall.mmu_update);
  control.hypercall(Hypercall.domctl);
  first.hypercall(1000);
  second.count(COUNTER.upcalls);
  first.exit(vcpu, ExitReason.exception, 14);
  second.exit(vcpu, ExitReason.exception, 300);
  second.exit(vcpu, ExitReason.budget, 14);
  const hypercalls = values(HYPERCALLS) ?? [];
  expect([hypercalls.length, hypercalls[1], hypercalls[36]]).toEqual([64, 2, 1]);
  expect(values('event upcalls')).toEqual([0, 1, 0]);
  expect([values('exceptions')?.[14], values('exits by cause')?.slice(0, 3)]).toEqual([1, [1, 0, 2]]);
});

test("the engine's and the lock's counts appear when they are published", () => {
  const { host, first, values } = setup();
  const engine = newCounters();
  ENGINE_COUNTERS.forEach((name, i) => (engine[name] = i + 1));
  host.core.lock.run(() => undefined);
  first.publish(host.core.lock, engine);
  expect(
    ENGINE_COUNTERS.map((name) => values(COUNTER_ROWS.find(([key]) => key === name)?.[1].perfc ?? '')?.[0]),
  ).toEqual(ENGINE_COUNTERS.map((_, i) => i + 1));
  expect(values('lock: acquired')?.[0]).toBe(1);
});

test('a reset sets counters back, not what there is of something', () => {
  const { host, first, perf, values } = setup();
  first.hypercall(Hypercall.iret);
  first.publish(host.core.lock, { ...newCounters(), regionsLive: 7, tlbMisses: 9 });
  perf.reset();
  first.hypercall(Hypercall.iret);
  first.hypercall(Hypercall.iret);
  expect(values(HYPERCALLS)?.[Hypercall.iret]).toBe(2);
  expect([values('jit: regions live')?.[0], values('engine: TLB misses')?.[0]]).toEqual([7, 0]);
});

test('metrics never go back, and tell of vCPUs', () => {
  const { host, first, perf } = setup();
  const { core, table } = host;
  const domain = host.domain();
  const vcpu = host.vcpu(domain);
  first.exit(vcpu, ExitReason.syscall, 0);
  first.hypercall(Hypercall.iret);
  first.publish(core.lock, { ...newCounters(), compileNs: 2e9 });
  perf.reset();
  setRunstate(core, vcpu, Runstate.running, core.systemTimeNs());
  host.clock.advance(250n * MS);
  const families = hypervisorMetrics({ core, table, pcpus: pcpuViews(core), perf, freeFrames: () => 10 });
  const sample = (name: string, labels: Record<string, string | number>) =>
    families
      .find((family) => family.name === name)
      ?.samples.find((s) => Object.entries(labels).every(([key, value]) => s.labels?.[key] === value))?.value;
  expect(sample('xen_hypercalls', { pcpu: 0, hypercall: 'iret' })).toBe(1);
  expect(sample('xen_exits', { pcpu: 0, cause: exitName(ExitReason.syscall) })).toBe(1);
  expect(sample('xen_vcpu_exits', { domid: domain.domid, vcpu: 0, cause: 'syscall' })).toBe(1);
  expect(sample('xen_vcpu_state_seconds', { domid: domain.domid, state: 'running' })).toBeCloseTo(0.25);
  expect(sample('xen_jit_compile_seconds', { pcpu: 0 })).toBeCloseTo(2);
  expect(sample('xen_free_memory_bytes', {})).toBe(40960);
  expect(sample('xen_pcpu_idle_seconds', { pcpu: 1 })).toBe(0);
});
