import { Float, childValue, type Sxp } from '@xenhost/sxp';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault, names } = host;

describe('one domain', () => {
  beforeEach(async () => {
    await call('xend.domain.create', config('g', ['vcpus', 2], ['maxmem', 128]));
  });

  it('pauses and unpauses', async () => {
    await call('xend.domain.unpause', 'g');
    expect(host.xc.domains.get(1)?.pauses).toBe(0);
    await call('xend.domain.pause', 'g');
    await call('xend.domain.pause', 'g');
    expect(host.xc.domains.get(1)?.pauses).toBe(1);
    await call('xend.domain.setpauseflag', 'g', true);
    expect(await call('xend.domain.getpauseflag', 'g')).toBe(true);
    expect(await call('xend.domain.pause', 'g', true)).toBe(1);
    expect(await fault('xend.domain.pause', 0)).toEqual([2, 'Cannot pause privileged domain 0']);
    expect(await fault('xend.domain.unpause', 'Domain-0')).toEqual([2, 'Cannot unpause privileged domain Domain-0']);
    expect(await fault('xend.domain.destroy', 0)).toEqual([2, 'Cannot destroy privileged domain 0']);
  });

  it('destroys and leaves nothing', async () => {
    const path = await host.store.readString('/local/domain/1/vm');
    await call('xend.domain.destroy', 'g');
    await host.xend.manager.settle();
    expect(await names()).toEqual(['Domain-0']);
    expect(host.xc.domains.has(1)).toBe(false);
    expect(await host.store.tryDirectory('/local/domain')).toEqual(['0']);
    expect(await host.store.exists(path)).toBe(false);
    expect(await host.store.isDomainIntroduced(1)).toBe(false);
    expect(await fault('xend.domain.destroy', 'g')).toEqual([3, 'g']);
  });

  it('asks to shut down through xenstore', async () => {
    await call('xend.domain.shutdown', 'g', 'reboot');
    expect(await host.store.readString('/local/domain/1/control/shutdown')).toBe('reboot');
    expect(await fault('xend.domain.shutdown', 'g', 'now')).toEqual([2, 'Invalid reason: now']);
    expect(await fault('xend.domain.shutdown', 0, 'halt')).toEqual([2, 'Domain 0 cannot be shutdown']);
  });

  it('marks a guest that does not obey', async () => {
    await call('xend.domain.shutdown', 'g', 'poweroff');
    host.clock.advance(299_000_000_000n);
    await names();
    expect(await host.store.tryRead('/local/domain/1/xend/unresponsive')).toBeUndefined();
    host.clock.advance(2_000_000_000n);
    await names();
    expect(await host.store.tryRead('/local/domain/1/xend/unresponsive')).toBe('True');
  });

  it('renames', async () => {
    await call('xend.domain.setName', 'g', 'h');
    expect(await names()).toEqual(['Domain-0', 'h']);
    expect(await host.store.readString('/local/domain/1/name')).toBe('h');
    expect(await fault('xend.domain.setName', 'h', 'a b')).toEqual([2, 'Invalid VM Name']);
    expect(await fault('xend.domain.setName', 'h', 'Domain-0')).toEqual([
      2,
      "VM name 'Domain-0' already exists as domain 0",
    ]);
  });

  it('sets memory and vCPUs', async () => {
    await call('xend.domain.setMemoryTarget', 'g', 100);
    expect(await host.store.readString('/local/domain/1/memory/target')).toBe('102400');
    expect(childValue((await call('xend.domain', 'g')) as Sxp, 'memory')).toBe(100);
    expect(await fault('xend.domain.setMemoryTarget', 'g', 200)).toEqual([2, 'memory_dynamic_max must be less than or equal to memory_static_max']); // prettier-ignore
    await call('xend.domain.maxmem_set', 'g', 200);
    expect(host.xc.domains.get(1)?.maxMemkb).toBe(204800);
    expect((await fault('xend.domain.maxmem_set', 'g', 50))[0]).toBe(2);
    await call('xend.domain.setVCpuCount', 'g', 1);
    expect(await host.store.readString('/local/domain/1/cpu/1/availability')).toBe('offline');
    expect(await fault('xend.domain.setVCpuCount', 'g', 0)).toEqual([2, 'Zero or less VCPUs is invalid']);
    expect(await fault('xend.domain.setVCpuCount', 'g', 3)).toEqual([2, 'Cannot set vcpus greater than max vcpus on running domain']); // prettier-ignore
  });

  it('shows and pins vCPUs', async () => {
    expect(await call('xend.domain.pincpu', 'g', '1', '0')).toBe(0);
    expect(await call('xend.domain.getVCPUInfo', 'g')).toEqual([
      'domain',
      ['domid', 1],
      ['name', 'g'],
      ['vcpu_count', 2],
      ...[0, 1].map((n) => [
        'vcpu',
        ['number', n],
        ['online', 1],
        ['blocked', 0],
        ['running', 0],
        ['cpu_time', new Float(1.5)],
        ['cpu', n],
        ['cpumap', n === 0 ? [0, 1] : [0]],
      ]),
    ]);
    expect(await fault('xend.domain.pincpu', 'g', 5, '0')).toEqual([2, 'Cannot pin vcpu: 5 to cpu: [0] - no such vcpu, the domain has 2']); // prettier-ignore
    expect((await fault('xend.domain.pincpu', 'g', 'all', '9'))[1]).toMatch(/^Cannot pin vcpu: 0 to cpu: \[9\] - /);
  });

  it('sets the schedule', async () => {
    await call('xend.domain.sched_credit_set', 'g', 512, null);
    expect(await call('xend.domain.sched_credit_get', 'g')).toEqual({ weight: 512, cap: 0 });
    await call('xend.domain.sched_credit_set', 'g', null, 150);
    expect(host.xc.domains.get(1)?.credit).toEqual({ weight: 512, cap: 150 });
    expect((await fault('xend.domain.sched_credit_set', 'g', null, 201))[1]).toBe(
      'Cpu cap out of range, valid range is from 0 to 200 for specified number of vcpus',
    );
  });

  it('sends keys and triggers', async () => {
    await call('xend.domain.send_sysrq', 'g', 'h');
    expect(await host.store.readString('/local/domain/1/control/sysrq')).toBe('h');
    expect(await fault('xend.domain.send_sysrq', 'g', 'help')).toEqual([2, 'help is not convertible to a character']);
    expect(await fault('xend.domain.send_trigger', 'g', 'bang')).toEqual([2, 'Invalid trigger: bang']);
    expect((await fault('xend.domain.send_trigger', 'g', 'nmi'))[0]).toBe(2);
  });

  it('resets to a running domain with a new id', async () => {
    await call('xend.domain.reset', 'g');
    expect([...host.xc.domains.keys()]).toEqual([0, 2]);
    expect(host.xc.domains.get(2)?.pauses).toBe(0);
  });
});
