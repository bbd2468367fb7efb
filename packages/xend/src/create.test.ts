import { Float, type Sxp } from '@xenhost/sxp';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault, names, tree } = host;

describe('create', () => {
  const uuid = '11111111-2222-4333-8444-555555555555';

  it('leaves a paused domain with the SXP that xm list --long shows', async () => {
    const sxp = (await call('xend.domain.create', config('g', ['uuid', uuid], ['vcpus', 2]))) as Sxp;
    expect(sxp).toEqual([
      'domain',
      ['domid', 1],
      ['cpu_weight', 256],
      ['cpu_cap', 0],
      ['pool_name', 'Pool-0'],
      ['bootloader', ''],
      ['vcpus', 2],
      ['cpus', [[], []]],
      ['on_poweroff', 'destroy'],
      ['description', ''],
      ['on_crash', 'restart'],
      ['uuid', uuid],
      ['bootloader_args', ''],
      ['name', 'g'],
      ['on_reboot', 'restart'],
      ['maxmem', 64],
      ['memory', 64],
      ['shadow_memory', 0],
      ['features', ''],
      ['on_xend_start', 'ignore'],
      ['on_xend_stop', 'ignore'],
      ['start_time', new Float(1700000000)],
      ['cpu_time', new Float(1.5)],
      ['online_vcpus', 2],
      [
        'image',
        [
          'linux',
          ['kernel', '/boot/vmlinuz'],
          ['args', 'root=/dev/xvda1 quiet'],
          ['superpages', 0],
          ['tsc_mode', 0],
          ['nomigrate', 0],
          [
            'notes',
            ['FEATURES', '!writable_page_tables|pae_pgdir_above_4gb'],
            ['GUEST_OS', 'linux'],
            ['GUEST_VERSION', '2.6'],
            ['LOADER', 'generic'],
            ['XEN_VERSION', 'xen-3.0'],
          ],
        ],
      ],
      ['status', 1],
      ['state', '--p---'],
      ['store_mfn', 1001],
      ['console_mfn', 2001],
      ['device', ['console', ['protocol', 'vt100'], ['location', 2], ['uuid', '11111111-2222-c333-8444-555555555555']]],
    ]);
    expect(host.xc.calls).toEqual(
      expect.arrayContaining([
        'domainMaxVcpus(1,2)',
        'domainSetmaxmem(1,65536)',
        'build(1,65536,root=/dev/xvda1 quiet)',
      ]),
    );
  });

  it('tells xenstore what the guest and xenconsoled need', async () => {
    await call('xend.domain.create', config('g', ['uuid', uuid]));
    expect(await tree('/local/domain/1')).toEqual(
      expect.arrayContaining([
        `/local/domain/1/vm = /vm/${uuid}`,
        '/local/domain/1/domid = 1',
        '/local/domain/1/name = g',
        '/local/domain/1/memory/target = 65536',
        '/local/domain/1/store/ring-ref = 1001',
        '/local/domain/1/store/port = 1',
        '/local/domain/1/console/ring-ref = 2001',
        '/local/domain/1/console/port = 2',
        '/local/domain/1/console/type = xenconsoled',
        '/local/domain/1/console/limit = 1048576',
        '/local/domain/1/cpu/0/availability = online',
        '/local/domain/1/control/platform-feature-multiprocessor-suspend = 1',
        '/local/domain/1/image/features/writable-page-tables = 0',
        '/local/domain/1/image/features/pae-pgdir-above-4gb = 1',
      ]),
    );
    expect(await host.store.getPerms('/local/domain/1')).toEqual([
      { domid: 0, access: 'none' },
      { domid: 1, access: 'read' },
    ]);
    expect(await host.store.getPerms('/local/domain/1/data')).toEqual([{ domid: 1, access: 'none' }]);
    expect(await host.store.getPerms(`/vm/${uuid}/uuid`)).toEqual([
      { domid: 0, access: 'none' },
      { domid: 1, access: 'read' },
    ]);
    expect(await host.store.isDomainIntroduced(1)).toBe(true);
  });

  it.each<[string, XmlRpcValue, string | RegExp]>([
    ['no name', ['vm', ['memory', 4]], 'Missing VM Name'],
    ['a bad name', config('a/b'), 'Invalid VM Name'],
    ['no memory', ['vm', ['name', 'g'], ['memory', 0]], 'memory_dynamic_max must be greater than zero'],
    ['more memory than its limit', config('g', ['maxmem', 32]), 'memory_dynamic_max must be less than or equal to memory_static_max'],
    ['text for a number', config('g', ['vcpus', 'many']), 'integer expected: vcpus: many'],
    ['no vcpus', config('g', ['vcpus', 0]), 'Zero or less VCPUs is invalid'],
    ['too many vcpus', config('g', ['vcpus', 1000]), 'Cannot have 1000 VCPUs: the limit is 128'],
    ['a wrong action', config('g', ['on_crash', 'explode']), 'Invalid event handling mode: crash'],
    ['a wrong weight', config('g', ['cpu_weight', 0]), 'Cpu weight out of range, valid values are within range from 1 to 65535'],
    ['a wrong cap', config('g', ['cpu_cap', 101]), 'Cpu cap out of range, valid range is from 0 to 100 for specified number of vcpus'],
    ['cpus that do not fit', config('g', ['cpus', ['0', '1']]), 'vcpus and the item number of cpus are not same'],
    ['an unknown pool', config('g', ['pool_name', 'Pool-7']), 'unknown pool Pool-7'],
    ['a kernel that is missing', ['vm', ['name', 'g'], ['memory', 4], ['image', ['linux', ['kernel', '/no']]]], 'Kernel image does not exist: /no'],
    ['a ramdisk that is missing', ['vm', ['name', 'g'], ['memory', 4], ['image', ['linux', ['kernel', '/boot/x'], ['ramdisk', '/no']]]], 'Kernel ramdisk does not exist: /no'],
    ['a kernel that is none', ['vm', ['name', 'g'], ['memory', 4], ['image', ['linux', ['kernel', '/boot/junk']]]], 'Building domain failed: ostype=linux dom=1 err=not a kernel'],
    ['an HVM guest', ['vm', ['name', 'g'], ['memory', 4], ['image', ['hvm']]], /^HVM guest support is unavailable/],
    ['more memory than there is', ['vm', ['name', 'g'], ['memory', 300], ['image', ['linux', ['kernel', '/boot/x']]]], /I need 308224 KiB but only have 262144\.$/],
    ['a bad disk', config('g', ['device', ['vbd', ['uname', 'foo'], ['dev', 'xvda']]]), 'Block device must have physical details specified'],
    ['a bad MAC address', config('g', ['device', ['vif', ['mac', 'zz']]]), 'Cannot create a new virtual network interface - MAC address is not valid!'],
    ['a backend that is not there', config('g', ['device', ['vif', ['backend', 'nobody']]]), 'Cannot configure device for unknown backend nobody'],
    ['a device of another kind', config('g', ['device', ['vtpm']]), 'Device type vtpm is not supported in this version'],
  ])('refuses %s and leaves nothing', async (_name, given, text) => {
    const storeBefore = await tree('/');
    const free = host.xc.freePages;
    const [code, message] = await fault('xend.domain.create', given);
    expect(code).toBe(2);
    if (typeof text === 'string') expect(message).toBe(text);
    else expect(message).toMatch(text);
    expect(await names()).toEqual(['Domain-0']);
    expect([...host.xc.domains.keys()]).toEqual([0]);
    expect(host.xc.freePages).toBe(free);
    expect(await tree('/')).toEqual(storeBefore);
  }); // prettier-ignore

  it.each(['domainCreate', 'domainMaxVcpus', 'schedCreditDomainSet', 'domainSetmaxmem', 'evtchnAllocUnbound', 'build'])(
    'leaves nothing when %s fails',
    async (step) => {
      const before = await tree('/');
      host.xc.failures.set(step, 12);
      expect((await fault('xend.domain.create', config('g', ['device', ['vif']])))[0]).toBe(2);
      host.xc.failures.clear();
      expect([...host.xc.domains.keys()]).toEqual([0]);
      expect(await tree('/')).toEqual(before);
      await call('xend.domain.create', config('g'));
    },
  );

  it('makes one domain of many calls for one name', async () => {
    const outcomes = await Promise.all(Array.from({ length: 10 }, () => fault('xend.domain.create', config('g'))));
    expect(outcomes.filter(([code]) => code === 0)).toHaveLength(1);
    expect(outcomes.filter(([code, text]) => code === 2 && text.startsWith("Domain 'g' already exists"))).toHaveLength(
      9,
    );
    expect(await fault('xend.domain.create', config('g'))).toEqual([2, "Domain 'g' already exists with ID '1'"]);
  });
});

describe('cpuid', () => {
  const MASKED_AVX = `1:ecx=xxx0${'x'.repeat(28)}`;

  it('goes into the policy of the domain over the default, and is shown', async () => {
    const sxp = (await call('xend.domain.create', config('g', ['cpuid', [MASKED_AVX]]))) as Sxp[];
    expect(sxp).toContainEqual(['cpuid', [MASKED_AVX]]);
    const withoutAvx = { leaf: 1, subleaf: 0xffff_ffff, a: 0x106ca, b: 0, c: 0x8e98_2201, d: 0x0789_8b77 };
    expect(host.xc.domains.get(1)?.cpuPolicy).toEqual([withoutAvx]);
  });

  it('is read as xm of Xen 4.4 sends it, a struct in the SXP', async () => {
    const cpuid = { 1: { ecx: MASKED_AVX.slice('1:ecx='.length) } };
    const sxp = (await call('xend.domain.create', config('g', ['cpuid', cpuid]))) as Sxp[];
    expect(sxp).toContainEqual(['cpuid', [MASKED_AVX]]);
    expect(await fault('xend.domain.create', config('h', ['cpuid', new Date(0)]))).toEqual([
      1,
      expect.stringContaining('an SXP list is required'),
    ]);
  });

  it('that cannot be read is a fault, and nothing is created', async () => {
    const [, message] = await fault('xend.domain.create', config('g', ['cpuid', ['1:ecx=0']]));
    expect(message).toMatch(/all 32 bits/);
    expect(await names()).toEqual(['Domain-0']);
  });
});
