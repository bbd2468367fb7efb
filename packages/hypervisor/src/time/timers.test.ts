import { Shutdown, VIRQ } from '@xenhost/xen-abi';
import { pcpuViews } from '../sched/runqueue.ts';
import { DomainFlag, VcpuFlag } from '../state/records.ts';
import { MS, TestHost } from '../test-host.test-kit.ts';

const now = (host: TestHost): bigint => host.core.systemTimeNs();

function hostWithVcpu() {
  const host = new TestHost();
  const domain = host.domain();
  const vcpu = host.vcpu(domain);
  vcpu.v.periodicPeriodNs = 0n;
  return { host, domain, vcpu, pcpu: pcpuViews(host.core)[0] };
}

test('a single shot fires once, at its time', () => {
  const { host, vcpu } = hostWithVcpu();
  host.timers.setSingleshot(vcpu, now(host) + 5n * MS);
  host.clock.advance(4n * MS);
  host.timers.expire(0, now(host));
  expect(host.raised).toEqual([]);
  host.clock.advance(1n * MS);
  host.timers.expire(0, now(host));
  host.timers.expire(0, now(host));
  expect(host.raised).toEqual([`d1v0 virq ${VIRQ.TIMER}`]);
});

test('cancelled, it does not fire', () => {
  const { host, vcpu } = hostWithVcpu();
  host.timers.setSingleshot(vcpu, now(host) + 5n * MS);
  host.timers.setSingleshot(vcpu, 0n);
  host.clock.advance(9n * MS);
  host.timers.expire(0, now(host));
  expect(host.raised).toEqual([]);
});

test('a periodic timer runs while its vCPU does, and skips what it missed', () => {
  const { host, vcpu } = hostWithVcpu();
  host.schedule();
  host.timers.setPeriodic(vcpu, 10n * MS);
  host.clock.advance(35n * MS);
  host.timers.expire(0, now(host));
  expect(host.raised).toHaveLength(1);
  host.clock.advance(5n * MS);
  host.timers.expire(0, now(host));
  expect(host.raised).toHaveLength(2);
});

test('a poll ends by its timeout', () => {
  const { host, vcpu } = hostWithVcpu();
  vcpu.v.flags |= VcpuFlag.polling | VcpuFlag.blocked;
  host.scheduler.sleep(vcpu);
  host.timers.setPoll(vcpu, now(host) + MS);
  expect(host.schedule()).toBeUndefined();
  host.clock.advance(MS);
  host.timers.expire(0, now(host));
  expect(vcpu.v.flags & (VcpuFlag.polling | VcpuFlag.blocked)).toBe(0);
  expect(host.schedule()).toBe('d1v0');
});

test('the watchdog shuts the domain down', () => {
  const { host, domain } = hostWithVcpu();
  host.timers.setWatchdog(domain, 1, now(host) + 3n * MS);
  host.clock.advance(3n * MS);
  host.timers.expire(0, now(host));
  expect(domain.v.flags & DomainFlag.shutdown).toBe(DomainFlag.shutdown);
  expect(domain.v.shutdownCode).toBe(Shutdown.watchdog);
});

test('the next deadline is what an idle pCPU sleeps for', () => {
  const { host, vcpu, pcpu } = hostWithVcpu();
  host.timers.setSingleshot(vcpu, now(host) + 50n * MS);
  host.timers.setPoll(vcpu, now(host) + 20n * MS);
  expect(pcpu?.nextTimerNs).toBe(now(host) + 20n * MS);
  host.clock.advance(20n * MS);
  host.timers.expire(0, now(host));
  expect(pcpu?.nextTimerNs).toBe(now(host) + 30n * MS);
});
