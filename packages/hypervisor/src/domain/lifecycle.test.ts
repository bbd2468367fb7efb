import { Errno } from '@xenhost/base';
import { DOMID, SharedInfo, Shutdown, VIRQ } from '@xenhost/xen-abi';
import { MAX_VCPUS_PER_DOMAIN } from '../state/memory-map.ts';
import { DomainFlag, VcpuFlag } from '../state/records.ts';
import { MS, TestHost } from '../test-host.test-kit.ts';
import { SHUTDOWN_CODE_INVALID } from './lifecycle.ts';

const create = (host: TestHost, options = {}) =>
  host.lifecycle.create({
    handle: new Uint8Array(16).fill(7),
    maxVcpus: 1,
    maxEventPort: 1023,
    grants: {},
    ...options,
  });

const DOM_EXC = `d0 global ${VIRQ.DOM_EXC}`;

describe('creation', () => {
  test('ids go up, are not used again soon, and may be chosen', () => {
    const host = new TestHost();
    const first = host.domain();
    expect(first.domid).toBe(1);
    while (host.lifecycle.destroy(first) === 'continue');
    expect(host.domain().domid).toBe(2);
    expect(host.domain({ domid: 77 }).domid).toBe(77);
    expect(create(host, { domid: 77 })).toBe(-Errno.EEXIST);
    const order: number[] = [];
    host.lifecycle.forEach((d) => {
      order.push(d.domid);
      return true;
    });
    expect(order).toEqual([2, 77]);
  });

  test('once the ids are through, those of domains that are still there are passed over', () => {
    const host = new TestHost();
    const [kept, gone] = [host.domain(), host.domain()];
    while (host.lifecycle.destroy(gone) === 'continue');
    host.core.header.nextDomid = DOMID.FIRST_RESERVED - 1;
    expect(host.domain().domid).toBe(DOMID.FIRST_RESERVED - 1);
    expect([kept.domid, host.domain().domid, host.domain().domid]).toEqual([1, 2, 3]);
  });

  test('a new domain is paused and has a wall clock', () => {
    const host = new TestHost();
    const domain = create(host);
    if (typeof domain === 'number') throw new Error('create');
    expect(domain.v.pauseCount).toBe(1);
    expect(domain.v.shutdownCode).toBe(SHUTDOWN_CODE_INVALID);
    const info = SharedInfo.view(host.core.memory, domain.v.sharedInfoMfn * 4096);
    expect(info.wc_version % 2).toBe(0);
    expect(info.wc_sec).toBe(1_700_000_000);
  });

  test.each([
    [0, -Errno.EINVAL],
    [MAX_VCPUS_PER_DOMAIN + 1, -Errno.EINVAL],
  ])('%d vCPUs are refused', (maxVcpus, error) => {
    expect(create(new TestHost(), { maxVcpus })).toBe(error);
  });

  test('max_vcpus takes what was said at creation, and no other number', () => {
    const host = new TestHost();
    const domain = create(host, { maxVcpus: 3 });
    if (typeof domain === 'number') throw new Error('create');
    expect(host.lifecycle.createVcpus(domain, 2)).toBe(-Errno.EINVAL);
    expect(host.lifecycle.createVcpus(domain, 3)).toBe(0);
    expect(host.vcpu(domain, 2).v.flags).toBe(VcpuFlag.down);
    expect(host.vcpu(domain, 2).v.infoOffset).toBe(128);
  });
});

describe('shutdown', () => {
  test('Domain-0 is told when no vCPU runs any more', () => {
    const host = new TestHost();
    host.lifecycle.createDom0();
    const domain = host.domain();
    host.schedule();
    host.vcpu(domain).v.isRunning = 1;
    host.lifecycle.shutdown(domain, Shutdown.poweroff);
    expect(host.raised).toEqual([]);
    host.clock.advance(MS);
    expect(host.schedule()).toBeUndefined();
    host.vcpu(domain).v.isRunning = 0;
    host.lifecycle.completeShutdown(domain);
    expect(host.raised).toEqual([DOM_EXC]);
    expect(domain.v.flags & DomainFlag.shutdown).toBeTruthy();
  });

  test('the first reason stands; resume takes it back', () => {
    const host = new TestHost();
    const domain = host.domain();
    host.lifecycle.shutdown(domain, Shutdown.suspend);
    host.lifecycle.shutdown(domain, Shutdown.reboot);
    expect(domain.v.shutdownCode).toBe(Shutdown.suspend);
    host.lifecycle.resume(domain);
    expect(domain.v.shutdownCode).toBe(SHUTDOWN_CODE_INVALID);
    expect(host.schedule()).toBe('d1v0');
  });

  test('a crash leaves registers in the log', () => {
    const host = new TestHost();
    const domain = host.domain();
    host.lifecycle.crash(domain, 'triple something', host.vcpu(domain));
    const log = new TextDecoder().decode(
      host.console.read({ count: 65536, incremental: false, index: 0, clear: false }).bytes,
    );
    expect(log).toContain('d1: triple something');
    expect(log).toContain('Domain 1 (vcpu#0) crashed on cpu#0:');
    expect(log).toMatch(/RIP: {4}0000:\[<0{16}>\]/);
    expect(domain.v.shutdownCode).toBe(Shutdown.crash);
  });
});

describe('destruction', () => {
  test('goes step by step and gives every frame back', () => {
    const host = new TestHost();
    host.lifecycle.createDom0();
    const before = [...host.taken];
    const domain = host.domain({ maxVcpus: 2 });
    host.relinquishSteps = 3;
    let steps = 0;
    let result = host.lifecycle.destroy(domain);
    for (; result === 'continue'; steps++) result = host.lifecycle.destroy(domain);
    expect(result).toBe(0);
    expect(steps).toBeGreaterThanOrEqual(5);
    expect(host.lifecycle.lookup(1)).toBeUndefined();
    expect([...host.taken]).toEqual(before);
    expect(host.raised).toEqual(['d1 ports closed', DOM_EXC]);
  });

  test('waits for vCPUs that are on a pCPU', () => {
    const host = new TestHost();
    const domain = host.domain();
    host.schedule();
    host.vcpu(domain).v.isRunning = 1;
    expect(host.lifecycle.destroy(domain)).toBe('wait');
  });

  test('Domain-0 cannot be destroyed', () => {
    const host = new TestHost();
    expect(host.lifecycle.destroy(host.lifecycle.createDom0())).toBe(-Errno.EINVAL);
  });
});
