/** Machines over the Xen-API: made from records, started and stopped, the same that the legacy methods see. */
import type { XmlRpcStruct } from '@xenhost/xmlrpc-codec';
import { vmRecord, XenApiClient } from '../testing/xen-api-client.ts';
import { config, xendFixture } from '../testing/xend-fixture.ts';

const fixture = xendFixture();
const api = new XenApiClient(() => fixture.xend.xenApi);
beforeEach(() => api.login());

const create = (name: string, more: XmlRpcStruct = {}) => api.ask<string>('VM.create', vmRecord(name, more));
const stateOf = (ref: string) => api.ask('VM.get_power_state', ref);

test('a record comes back as it went in', async () => {
  const ref = await create('web', { VCPUs_params: { weight: '512', cap: '50', cpumap1: '0-1' } });
  const [host] = await api.ask<string[]>('host.get_all');
  expect(await api.ask('VM.get_record', ref)).toEqual({
    ...vmRecord('web'),
    uuid: ref,
    power_state: 'Halted',
    is_control_domain: false,
    resident_on: host,
    VCPUs_params: { weight: '512', cap: '50', cpumap1: '0,1' },
    actions_after_suspend: '',
    consoles: [],
    VIFs: [],
    VBDs: [],
    DPCIs: [],
    DSCSIs: [],
    DSCSI_HBAs: [],
    platform: { tsc_mode: '0', nomigrate: '0' },
    domid: '-1',
    metrics: expect.stringMatching(/^[0-9a-f-]{36}$/) as string,
    security_label: '',
    crash_dumps: [],
    tools_version: {},
    cpu_pool: [],
    pool_name: 'Pool-0',
  });
});

test('Domain-0 is a VM', async () => {
  const record = await api.ask<XmlRpcStruct>('VM.get_record', '00000000-0000-0000-0000-000000000000');
  expect(record).toMatchObject({ name_label: 'Domain-0', domid: '0', is_control_domain: true, power_state: 'Running' });
  expect(await api.failure('VM.pause', record['uuid']!)).toEqual([
    'INTERNAL_ERROR',
    'Cannot pause privileged domain Domain-0',
  ]);
});

test('a life: start paused, run, pause, shut down, forget', async () => {
  const ref = await create('web');
  expect(await api.ask('VM.start', ref, true)).toBe('');
  expect(await stateOf(ref)).toBe('Paused');
  await api.ask('VM.unpause', ref);
  expect(await stateOf(ref)).toBe('Running');
  await api.ask('VM.pause', ref);
  expect(await stateOf(ref)).toBe('Paused');
  await api.ask('VM.unpause', ref);
  const domid = await api.ask<string>('VM.get_domid', ref);
  await api.ask('VM.clean_shutdown', ref);
  expect(await fixture.store.tryRead(`/local/domain/${domid}/control/shutdown`)).toBe('poweroff');
  await fixture.end(Number(domid), 0);
  expect(await stateOf(ref)).toBe('Halted');
  expect(await api.ask('VM.get_domid', ref)).toBe('-1');
  await api.ask('VM.destroy', ref);
  expect(await api.failure('VM.get_record', ref)).toEqual(['HANDLE_INVALID', 'VM', ref]);
  expect(await fixture.names()).toEqual(['Domain-0']);
});

test('a transient machine is there for one run, over reboots and another xend', async () => {
  const ref = await create('once', { other_config: { transient: 'True' } });
  await api.ask('VM.start', ref, false);
  await api.ask('VM.hard_reboot', ref);
  await fixture.restart();
  await api.login();
  expect(await stateOf(ref)).toBe('Running');
  await fixture.end(Number(await api.ask<string>('VM.get_domid', ref)), 0);
  expect(await fixture.names()).toEqual(['Domain-0']);
  expect(await api.failure('VM.get_record', ref)).toEqual(['HANDLE_INVALID', 'VM', ref]);
  await fixture.restart();
  expect(await fixture.names()).toEqual(['Domain-0']);
});

test('what runs can be ended and begun anew at once', async () => {
  const ref = await create('web');
  await api.ask('VM.start', ref, false);
  const before = await api.ask('VM.get_domid', ref);
  await api.ask('VM.hard_reboot', ref);
  expect(await stateOf(ref)).toBe('Running');
  expect(await api.ask('VM.get_domid', ref)).not.toBe(before);
  await api.ask('VM.hard_shutdown', ref);
  expect(await stateOf(ref)).toBe('Halted');
});

test('XenServer’s longer form of VM.start', async () => {
  const ref = await create('web');
  await api.ask('VM.start', ref, false, false);
  expect(await stateOf(ref)).toBe('Running');
});

test.each<[string, unknown[], string, string]>([
  ['VM.pause', [], 'Running', 'Halted'],
  ['VM.unpause', [], 'Paused', 'Halted'],
  ['VM.clean_shutdown', [], 'Running', 'Halted'],
  ['VM.clean_reboot', [], 'Running', 'Halted'],
  ['VM.hard_reboot', [], 'Running', 'Halted'],
  ['VM.suspend', [], 'Running', 'Halted'],
  ['VM.resume', [false], 'Suspended', 'Halted'],
  ['VM.save', ['/tmp/none', false], 'Running', 'Halted'],
  ['VM.migrate', ['nowhere', false, {}], 'Running', 'Halted'],
  ['VM.send_sysrq', ['h'], 'Running', 'Halted'],
  ['VM.send_trigger', ['nmi', 0], 'Running', 'Halted'],
])('%s of a halted VM', async (method, args, expected, actual) => {
  const ref = await create('web');
  expect(await api.failure(method, ref, ...(args as string[]))).toEqual(['VM_BAD_POWER_STATE', ref, expected, actual]);
});

test.each<[string, unknown[]]>([
  ['VM.start', [true]],
  ['VM.destroy', []],
  ['VM.set_VCPUs_max', ['1']],
])('%s of a running VM', async (method, args) => {
  const ref = await create('web');
  await api.ask('VM.start', ref, false);
  expect(await api.failure(method, ref, ...(args as string[]))).toEqual([
    'VM_BAD_POWER_STATE',
    ref,
    'Halted',
    'Running',
  ]);
});

test('both APIs see the same machines', async () => {
  await fixture.call('xend.domain.create', config('old'));
  const [ref] = await api.ask<string[]>('VM.get_by_name_label', 'old');
  expect(await api.ask('VM.get_record', ref!)).toMatchObject({
    domid: '1',
    power_state: 'Paused',
    PV_args: 'root=/dev/xvda1 quiet',
  });
  await api.ask('VM.unpause', ref!);
  expect(JSON.stringify(await fixture.call('xend.domain', 'old'))).toContain('["status",2]');
  await create('new');
  expect(await fixture.names()).toEqual(['Domain-0', 'new', 'old']);
  expect(await api.ask('VM.get_by_name_label', 'none')).toEqual([]);
});

test('a machine is found by its reference even when another has that for a name', async () => {
  const ref = await create('web');
  const thief = await create(ref);
  await api.ask('VM.start', ref, false);
  expect([await stateOf(ref), await stateOf(thief)]).toEqual(['Running', 'Halted']);
  await api.ask('VM.hard_shutdown', ref);
  await api.ask('VM.destroy', ref);
  expect(await stateOf(thief)).toBe('Halted');
});

test('setters change what the legacy methods show, and survive xend', async () => {
  const ref = await create('web');
  const sets: [string, string | boolean | XmlRpcStruct][] = [
    ['name_label', 'shop'],
    ['name_description', 'a shop'],
    ['user_version', '7'],
    ['is_a_template', true],
    ['auto_power_on', true],
    ['memory_static_max', String(128 << 20)],
    ['memory_dynamic_max', String(96 << 20)],
    ['memory_static_min', '1048576'],
    ['memory_dynamic_min', '2097152'],
    ['VCPUs_max', '4'],
    ['VCPUs_at_startup', '3'],
    ['actions_after_shutdown', 'restart'],
    ['actions_after_reboot', 'destroy'],
    ['actions_after_suspend', 'destroy'],
    ['actions_after_crash', 'coredump_and_restart'],
    ['PV_kernel', '/boot/other'],
    ['PV_ramdisk', '/boot/initrd'],
    ['PV_args', 'quiet'],
    ['PV_bootloader', 'pygrub'],
    ['PV_bootloader_args', '-q'],
    ['platform', { videoram: '4', boot: 'cd', tsc_mode: '0', nomigrate: '0' }],
    ['PCI_bus', 'a'],
    ['other_config', { owner: 'me' }],
    ['pool_name', 'Pool-0'],
  ];
  for (const [field, value] of sets) await api.ask(`VM.set_${field}`, ref, value);
  await fixture.restart();
  await api.login();
  for (const [field, value] of sets) expect([field, await api.ask(`VM.get_${field}`, ref)]).toEqual([field, value]);
  expect(JSON.stringify(await fixture.call('xend.domain', 'shop'))).toContain('["on_crash","coredump-restart"]');
});

test('entries of maps come and go one by one', async () => {
  const ref = await create('web');
  expect(await api.failure('VM.add_to_other_config', ref, '__proto__', 'x')).toEqual([
    'VALUE_NOT_SUPPORTED', 'VM.other_config', 'a struct', '__proto__ is no key',
  ]); // prettier-ignore
  await api.ask('VM.add_to_other_config', ref, 'constructor', 'x');
  await api.ask('VM.add_to_other_config', ref, 'colour', 'red');
  await api.ask('VM.remove_from_other_config', ref, 'owner');
  await api.ask('VM.remove_from_other_config', ref, 'owner');
  const map = await api.ask<XmlRpcStruct>('VM.get_other_config', ref);
  expect(Object.entries(map).sort()).toEqual([
    ['colour', 'red'],
    ['constructor', 'x'],
  ]);
  await api.ask('VM.add_to_HVM_boot_params', ref, 'order', 'cn');
  expect(await api.ask('VM.get_HVM_boot_params', ref)).toEqual({ order: 'cn' });
  await api.ask('VM.add_to_VCPUs_params', ref, 'weight', '300');
  await api.ask('VM.remove_from_VCPUs_params', ref, 'cap');
  expect(await api.ask('VM.get_VCPUs_params', ref)).toEqual({ weight: '300', cap: '0' });
});

test('a running VM is tuned', async () => {
  const ref = await create('web');
  await api.ask('VM.start', ref, false);
  const path = `/local/domain/${await api.ask<string>('VM.get_domid', ref)}`;
  await api.ask('VM.set_VCPUs_number_live', ref, '1');
  expect(await fixture.store.tryRead(`${path}/cpu/1/availability`)).toBe('offline');
  await api.ask('VM.set_memory_dynamic_max_live', ref, String(48 << 20));
  expect(await fixture.store.tryRead(`${path}/memory/target`)).toBe(String(48 << 10));
  await api.ask('VM.set_memory_dynamic_min_live', ref, String(40 << 20));
  expect(await api.ask('VM.get_memory_dynamic_min', ref)).toBe(String(40 << 20));
  await api.ask('VM.send_sysrq', ref, 'b');
  expect(await fixture.store.tryRead(`${path}/control/sysrq`)).toBe('b');
  await api.ask('VM.add_to_VCPUs_params_live', ref, 'weight', '1000');
  await api.ask('VM.add_to_VCPUs_params_live', ref, 'cpumap0', '1');
  const metrics = await api.ask<string>('VM.get_metrics', ref);
  expect(await api.ask('VM_metrics.get_record', metrics)).toMatchObject({
    uuid: metrics,
    VCPUs_params: { weight: '1000', cap: '0', cpumap0: '1', cpumap1: '0,1' },
    VCPUs_flags: { 0: expect.any(Array) as string[], 1: expect.any(Array) as string[] },
    VCPUs_CPU: { 0: expect.stringMatching(/^\d+$/) as string, 1: expect.stringMatching(/^\d+$/) as string },
  });
});

test.each<[string, unknown, string[]]>([
  ['VM.set_actions_after_shutdown', 'preserve', ['VM_ON_NORMAL_EXIT_INVALID']],
  ['VM.set_actions_after_crash', 'toString', ['VM_ON_CRASH_BEHAVIOUR_INVALID']],
  ['VM.set_HVM_boot_policy', 'UEFI', ['VALUE_NOT_SUPPORTED', 'VM.HVM_boot_policy', 'UEFI', 'Xend supports only the "BIOS order" boot policy.']], // prettier-ignore
  ['VM.set_memory_static_max', 'lots', ['VALUE_NOT_SUPPORTED', 'VM.memory_static_max', 'lots', 'an integer is required']], // prettier-ignore
  ['VM.set_other_config', 'text', ['VALUE_NOT_SUPPORTED', 'VM.other_config', 'text', 'a struct is required']],
  ['VM.set_name_label', 'a b', ['INTERNAL_ERROR', 'Invalid VM Name']],
  ['VM.set_name_label', 'Domain-0', ['INTERNAL_ERROR', "VM name 'Domain-0' already exists as domain 0"]],
  ['VM.set_memory_dynamic_max', String(1 << 30), ['INTERNAL_ERROR', 'memory_dynamic_max must be less than or equal to memory_static_max']], // prettier-ignore
  ['VM.clone', 'copy', ['EUNSUPPORTED', 'Method Unsupported']],
])('%s(%s) is refused', async (method, value, description) => {
  const ref = await create('web');
  const withRef = description[0]!.startsWith('VM_ON') ? [...description, ref] : description;
  expect(await api.failure(method, ref, value as string)).toEqual(withRef);
});

test.each<[string, XmlRpcStruct, string[]]>([
  ['no name', { name_label: null }, ['CREATE_UNSPECIFIED_ATTRIBUTE', 'name_label', 'VM']],
  ['no memory', { memory_static_max: null, memory_dynamic_max: null }, ['CREATE_UNSPECIFIED_ATTRIBUTE', 'memory_static_max', 'VM']], // prettier-ignore
  ['a bad name', { name_label: '../x' }, ['INTERNAL_ERROR', 'Invalid VM Name']],
  ['a taken name', { name_label: 'Domain-0' }, ['INTERNAL_ERROR', "VM name 'Domain-0' already exists as domain 0"]],
  ['a taken uuid', { uuid: '00000000-0000-0000-0000-000000000000' }, ['UNIQUE_NAME_ERROR', '00000000-0000-0000-0000-000000000000', 'VM']], // prettier-ignore
  ['no vCPU', { VCPUs_max: 0 }, ['INTERNAL_ERROR', 'Zero or less VCPUs is invalid']],
  ['too few vCPUs', { VCPUs_at_startup: 3 }, ['VALUE_NOT_SUPPORTED', 'VM.VCPUs_at_startup', '3', '1 to 2 are allowed']],
  ['a bad action', { actions_after_crash: 'explode' }, ['VM_ON_CRASH_BEHAVIOUR_INVALID', 'web']],
])('VM.create with %s makes nothing', async (_, more, description) => {
  expect(await api.failure('VM.create', vmRecord('web', more))).toEqual(description);
  expect(await api.ask('VM.get_by_name_label', 'web')).toEqual([]);
});

test('HVM guests, and starts on a disabled host, are refused', async () => {
  const hvm = await create('win', { HVM_boot_policy: 'BIOS order', HVM_boot_params: { order: 'c' } });
  expect(await api.failure('VM.start', hvm, true)).toEqual(['VM_HVM_REQUIRED', hvm]);
  const ref = await create('web');
  const [host] = await api.ask<string[]>('host.get_all');
  await api.ask('host.disable', host!);
  expect(await api.failure('VM.start', ref, false)).toEqual(['OPERATION_NOT_ALLOWED', 'the host is disabled']);
  expect(await api.failure('host.reboot', host!)).toEqual(['EHOSTRUNNING', 'Host is still Running']);
  await api.ask('host.enable', host!);
  expect(await api.failure('host.reboot', host!)).toEqual(['EUNSUPPORTED', 'Method Unsupported']);
  await api.ask('VM.start', ref, false);
});
