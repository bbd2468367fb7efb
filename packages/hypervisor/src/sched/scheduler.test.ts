import { Runstate } from '@xenhost/xen-abi';
import { SchedPriority, SchedVcpuFlag, VcpuFlag } from '../state/records.ts';
import { MS, TestHost } from '../test-host.test-kit.ts';
import { runstateTime } from '../vcpu/runstate.ts';

test('two vCPUs of one priority take turns', () => {
  const host = new TestHost();
  host.domain();
  host.domain();
  expect(host.schedule()).toBe('d1v0');
  host.clock.advance(30n * MS);
  expect(host.schedule()).toBe('d2v0');
  host.clock.advance(30n * MS);
  expect(host.schedule()).toBe('d1v0');
});

test('what blocks makes room, what wakes is boosted and preempts after the rate limit', () => {
  const host = new TestHost();
  const a = host.vcpu(host.domain());
  const b = host.vcpu(host.domain());
  b.v.flags |= VcpuFlag.blocked;
  host.scheduler.sleep(b);
  expect(host.schedule()).toBe('d1v0');
  host.clock.advance(1n * MS);
  host.scheduler.kick(b);
  expect(b.v.priority).toBe(SchedPriority.boost);
  expect(host.requests.peek(0)).not.toBe(0);
  a.v.priority = SchedPriority.under;
  expect(host.scheduler.shouldPreempt(a, 0, host.core.systemTimeNs())).toBe(true);
  expect(host.schedule()).toBe('d2v0');
});

test('a newcomer waits for the rate limit', () => {
  const host = new TestHost();
  const a = host.vcpu(host.domain());
  host.schedule();
  a.v.priority = SchedPriority.under;
  host.domain();
  host.clock.advance(MS / 2n);
  expect(host.scheduler.shouldPreempt(a, 0, host.core.systemTimeNs())).toBe(false);
  host.clock.advance(MS / 2n);
  expect(host.scheduler.shouldPreempt(a, 0, host.core.systemTimeNs())).toBe(true);
});

test('an idle pCPU takes work from a busy one, within affinity', () => {
  const host = new TestHost({ nrPcpus: 2 });
  const a = host.domain();
  const b = host.domain();
  host.scheduler.queues.remove(host.vcpu(b));
  host.vcpu(b).v.processor = 0;
  host.scheduler.queues.insert(host.vcpu(b));
  expect(host.schedule(0)).toBe('d1v0');
  expect(host.schedule(1)).toBe('d2v0');
  expect(host.vcpu(b).v.processor).toBe(1);
  expect(host.vcpu(a).v.processor).toBe(0);
});

test('hard affinity is kept', () => {
  const host = new TestHost({ nrPcpus: 2 });
  const vcpu = host.vcpu(host.domain());
  vcpu.v.affinity = 2n;
  host.scheduler.affinityChanged(vcpu);
  expect(host.schedule(0)).toBeUndefined();
  expect(host.schedule(1)).toBe('d1v0');
});

test('yield lets the one behind go first', () => {
  const host = new TestHost();
  const a = host.vcpu(host.domain());
  host.domain();
  host.schedule();
  host.scheduler.yield(a);
  expect(host.schedule()).toBe('d2v0');
});

test('a cap holds a domain to its share of a pCPU', () => {
  const host = new TestHost();
  const domain = host.domain();
  domain.v.cap = 20;
  let ran = 0;
  for (let ms = 0; ms < 3000; ms++) {
    if (host.schedule() === 'd1v0') ran++;
    host.clock.advance(MS);
  }
  expect(ran / 3000).toBeGreaterThan(0.1);
  expect(ran / 3000).toBeLessThan(0.3);
});

test('weights share a pCPU in proportion', () => {
  const host = new TestHost();
  const heavy = host.domain();
  host.domain();
  heavy.v.weight = 768;
  const ran = { d1v0: 0, d2v0: 0 };
  for (let ms = 0; ms < 6000; ms++) {
    const name = host.schedule();
    if (name) ran[name as 'd1v0']++;
    host.clock.advance(MS);
  }
  expect(ran.d1v0 / ran.d2v0).toBeGreaterThan(2);
  expect(ran.d1v0 / ran.d2v0).toBeLessThan(4.5);
});

test('run state times add up to the time that passed', () => {
  const host = new TestHost();
  const vcpu = host.vcpu(host.domain());
  const start = host.core.systemTimeNs();
  host.schedule();
  host.clock.advance(5n * MS);
  vcpu.v.flags |= VcpuFlag.blocked;
  host.schedule();
  host.clock.advance(7n * MS);
  host.scheduler.kick(vcpu);
  host.clock.advance(2n * MS);
  const now = host.core.systemTimeNs();
  const time = (state: Runstate): bigint => runstateTime(host.core.memory, vcpu, state, now);
  expect([time(Runstate.running), time(Runstate.blocked), time(Runstate.runnable)]).toEqual([
    5n * MS,
    7n * MS,
    2n * MS,
  ]);
  expect(now - start).toBe(14n * MS);
});

test('a paused domain leaves its pCPU and comes back', () => {
  const host = new TestHost();
  const domain = host.domain();
  host.schedule();
  host.vcpu(domain).v.isRunning = 1;
  host.lifecycle.pause(domain);
  expect(host.scheduler.isQuiescent(domain)).toBe(false);
  expect(host.schedule()).toBeUndefined();
  host.vcpu(domain).v.isRunning = 0;
  expect(host.scheduler.isQuiescent(domain)).toBe(true);
  host.lifecycle.unpause(domain);
  expect(host.schedule()).toBe('d1v0');
});

test('a parked vCPU is forgotten with its domain', () => {
  const host = new TestHost();
  const domain = host.domain();
  const vcpu = host.vcpu(domain);
  const pool = host.scheduler.pools.ofDomain(domain);
  vcpu.v.schedFlags |= SchedVcpuFlag.parked;
  pool.nrParked = 1;
  host.scheduler.forget(vcpu);
  expect(pool.nrParked).toBe(0);
});
