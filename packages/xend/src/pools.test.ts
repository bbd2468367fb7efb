import { sxpRecord } from './testing/sxp-record.ts';
import type { Sxp } from '@xenhost/sxp';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault } = host;

const pools = async (...names: string[]) => ((await call('xend.cpu_pool.list', names)) as Sxp[]).map((pool) => sxpRecord(pool)); // prettier-ignore

describe('CPU pools', () => {
  it('start with Pool-0, which xenstore tells of', async () => {
    const [pool0, ...others] = await pools();
    expect(others).toEqual([]);
    expect(pool0).toMatchObject({
      name_label: 'Pool-0', activated: true, ncpu: 2, sched_policy: 'credit', host_CPU_numbers: [0, 1],
      started_VM_names: ['Domain-0'], auto_power_on: 0,
    }); // prettier-ignore
    expect(await host.store.readString('/local/pool/0/name')).toBe('Pool-0');
    expect(await pools('nobody')).toEqual([]);
  });

  it('are made of free CPUs, take domains, and go', async () => {
    const wanted: Sxp = [
      'pool',
      ['name_label', 'fast'],
      ['sched_policy', 'credit'],
      ['ncpu', 1],
      ['proposed_CPUs', '1'],
    ];
    expect(await fault('xend.cpu_pool.create', wanted)).toEqual([2, "['INSUFFICIENT_CPUS', '1', '0']"]);
    expect(await pools('fast')).toEqual([]);
    await call('xend.cpu_pool.cpu_remove', 'Pool-0', '1');
    await call('xend.cpu_pool.create', wanted);
    expect(await fault('xend.cpu_pool.create', wanted)).toEqual([2, `['PARAMETER_ERROR', 'Pool name "fast" already exists']`]); // prettier-ignore
    await call('xend.domain.create', config('g', ['pool_name', 'fast']));
    expect(host.xc.domains.get(1)?.cpupool).toBe(1);
    expect((await pools('fast'))[0]).toMatchObject({ host_CPU_numbers: [1], started_VM_names: ['g'] });
    expect(await fault('xend.cpu_pool.destroy', 'fast')).toEqual([2, "['POOL_BAD_STATE', 'in use']"]);
    expect(await fault('xend.cpu_pool.cpu_remove', 'fast', 1)).toEqual([2, "['LAST_CPU_NOT_REMOVEABLE', 'could not remove last cpu']"]); // prettier-ignore
    expect(await fault('xend.cpu_pool.cpu_add', 'fast', 0)).toEqual([2, expect.stringMatching(/^\['INVAILD_CPU', 'cpu already assigned to pool "[0-9a-f-]{36}"'\]$/)]); // prettier-ignore
    expect(await fault('xend.cpu_pool.cpu_add', 'fast', 9)).toEqual([2, "['INVAILD_CPU', 'CPU unknown']"]);
    await call('xend.cpu_pool.migrate', 'g', 'Pool-0');
    expect(await fault('xend.cpu_pool.migrate', 'Domain-0', 'fast')).toEqual([2, 'could not move Domain-0']);
    expect(await fault('xend.cpu_pool.migrate', 'nobody', 'fast')).toEqual([2, 'unknown domain nobody']);
    expect(await fault('xend.cpu_pool.migrate', 'g', 'slow')).toEqual([2, 'unknown pool slow']);
    await host.restart();
    expect((await pools('fast'))[0]).toMatchObject({ activated: true, host_CPU_numbers: [1] });
    await call('xend.cpu_pool.destroy', 'fast');
    expect(await pools('fast')).toEqual([]);
    expect(await host.store.tryDirectory('/local/pool')).toEqual(['0']);
  });

  it('that xend manages outlive it', async () => {
    const uuid = await call('xend.cpu_pool.new', [
      'pool',
      ['name_label', 'm'],
      ['ncpu', 1],
      ['other_config', ['a', 'b']],
    ]);
    expect(uuid).toMatch(/^[0-9a-f-]{36}$/);
    await host.restart();
    const [kept] = await pools('m');
    expect(kept).toMatchObject({ activated: false, ncpu: 1, uuid, other_config: [['a', 'b']] });
    expect(await fault('xend.cpu_pool.start', 'm')).toEqual([2, "['INSUFFICIENT_CPUS', '1', '0']"]);
    await call('xend.cpu_pool.cpu_remove', 'Pool-0', 0);
    await call('xend.cpu_pool.start', 'm');
    expect(await fault('xend.cpu_pool.delete', 'm')).toEqual([2, "['POOL_BAD_STATE', 'activated']"]);
    await call('xend.cpu_pool.destroy', 'm');
    expect((await pools('m'))[0]).toMatchObject({ activated: false });
    await call('xend.cpu_pool.delete', 'm');
    await host.restart();
    expect(await pools('m')).toEqual([]);
  });

  it('leave no trace when a CPU cannot be added', async () => {
    await call('xend.cpu_pool.cpu_remove', 'Pool-0', 1);
    host.xc.failures.set('cpupoolAddcpu', 16);
    expect(await fault('xend.cpu_pool.create', ['pool', ['name_label', 'x']])).toEqual([2, "(16, 'Device or resource busy')"]); // prettier-ignore
    expect(await pools('x')).toEqual([]);
    expect(await host.xc.cpupoolGetinfolist()).toHaveLength(1);
  });

  it.each([
    [['pool', ['name_label', '']], "['PARAMETER_ERROR', 'Missing Pool Name']"],
    [['pool', ['name_label', 'a b']], "['PARAMETER_ERROR', 'Invalid Pool Name']"],
    [['pool', ['name_label', 'x'], ['ncpu', 'many']], "['PARAMETER_ERROR', 'ncpu']"],
    [['pool', ['name_label', 'x'], ['sched_policy', 'lottery'], ['ncpu', 0]], "['UNKOWN_SCHED_POLICY']"],
  ])('of %j are refused', async (given, text) => {
    expect(await fault('xend.cpu_pool.create', given)).toEqual([2, text]);
    expect(await pools()).toHaveLength(1);
  });
});
