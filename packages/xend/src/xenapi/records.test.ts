/** Records of every class: their fields, and that wrong handles and wrong values of any kind end in the right failure. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Float } from '@xenhost/sxp';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { LOCAL, vmRecord, XenApiClient } from '../testing/xen-api-client.ts';
import { xendFixture } from '../testing/xend-fixture.ts';
import { apiClasses } from './classes/index.ts';

const fixture = xendFixture();
const api = new XenApiClient(() => fixture.xend.xenApi);
beforeEach(() => api.login());

const keys = (record: XmlRpcStruct): string[] => Object.keys(record).sort();
const words = (text: string): string[] => text.split(/\s+/).sort();
const only = async (className: string): Promise<XmlRpcStruct> => {
  const [ref] = await api.ask<string[]>(`${className}.get_all`);
  return api.ask<XmlRpcStruct>(`${className}.get_record`, ref!);
};

test.each<[string, string]>([
  [
    'host',
    `uuid name_label name_description enabled API_version_major API_version_minor API_version_vendor
    API_version_vendor_implementation software_version capabilities cpu_configuration sched_policy
    supported_bootloaders host_CPUs resident_VMs PIFs PBDs PPCIs PSCSIs PSCSI_HBAs metrics other_config logging
    resident_cpu_pools`,
  ],
  ['host_cpu', 'uuid host number vendor speed modelname stepping flags features utilisation cpu_pool'],
  ['host_metrics', 'uuid memory_total memory_free last_updated'],
  [
    'SR',
    `uuid name_label name_description VDIs PBDs virtual_allocation physical_utilisation physical_size type
    content_type`,
  ],
  [
    'cpu_pool',
    `uuid name_label name_description resident_on auto_power_on activated started_VMs ncpu sched_policy
    proposed_CPUs host_CPUs other_config`,
  ],
  ['network', `uuid name_label name_description VIFs PIFs default_gateway default_netmask managed other_config`],
  [
    'VM_metrics',
    `uuid memory_actual VCPUs_number VCPUs_utilisation VCPUs_CPU VCPUs_flags VCPUs_params state start_time
    last_updated`,
  ],
  ['session', 'uuid this_host this_user last_active'],
  ['pool', `uuid name_label name_description master default_SR suspend_image_SR crash_dump_SR other_config`],
])('fields of %s', async (className, fields) => {
  expect(keys(await only(className))).toEqual(words(fields));
});

test('the host and its CPUs', async () => {
  const host = await only('host');
  expect(host).toMatchObject({
    name_label: 'tester',
    enabled: true,
    API_version_major: '1',
    API_version_minor: '0',
    API_version_vendor: 'xenbits',
    cpu_configuration: { nr_cpus: '2', nr_nodes: '1', cores_per_socket: '2', threads_per_core: '1' },
    sched_policy: 'credit',
    supported_bootloaders: ['pygrub'],
    resident_VMs: ['00000000-0000-0000-0000-000000000000'],
  });
  expect(Object.keys(host['other_config'] as object)).toEqual(['xen_commandline', 'xen_pagesize', 'platform_params']);
  const cpus = await api.ask<Record<string, XmlRpcStruct>>('host_cpu.get_all_records');
  expect(Object.keys(cpus)).toEqual(host['host_CPUs']);
  expect(Object.values(cpus).map((cpu) => cpu['number'])).toEqual(['0', '1']);
  for (const cpu of Object.values(cpus)) expect(cpu['utilisation']).toBeInstanceOf(Float);
  expect(await api.ask('host_metrics.get_record', host['metrics']!)).toMatchObject({ memory_total: String(256 << 20) });
  expect(await api.ask('host.get_by_name_label', 'tester')).toEqual([host['uuid']]);
  expect(await api.ask('host.dmesg', host['uuid']!)).toBe('(XEN) Xen version 4.17\n');
  expect(await api.ask('host.list_methods')).toEqual(expect.arrayContaining(['host.list_methods']));
});

test('the pool of one that XenServer’s clients ask for', async () => {
  const records = await api.ask<Record<string, XmlRpcStruct>>('pool.get_all_records');
  const [host] = await api.ask<string[]>('host.get_all');
  expect(Object.values(records)).toEqual([expect.objectContaining({ master: host, name_label: 'tester' })]);
});

test('the host keeps its identity and what it was told', async () => {
  const { uuid } = await only('host');
  await api.ask('host.set_name_label', uuid!, 'rack 1');
  await api.ask('host.add_to_other_config', uuid!, 'row', '7');
  await fixture.restart();
  await api.login();
  expect(await only('host')).toMatchObject({ uuid, name_label: 'rack 1', other_config: { row: '7' } });
});

test('networks are bridges of the network backend: its own are told, others are made', async () => {
  const { store } = fixture;
  await store.write('/tool/netback/bridges/0', 'xenbr0');
  await store.write('/tool/netback/bridges/1', 'lan.7');
  const named = async (name: string) => (await api.ask<string[]>('network.get_by_name_label', name))[0] ?? '';
  expect(await api.ask('network.get_managed', await named('lan.7'))).toBe(false);
  expect(await api.failure('network.destroy', await named('lan.7'))).toEqual(['UNMANAGED_NETWORK_ERROR', 'name_label']);
  const made = await api.ask<string>('network.create', {
    name_label: 'dmz', name_description: '', default_gateway: '', default_netmask: '', other_config: {},
  }); // prettier-ignore
  expect(await store.tryRead(`/tool/netback/networks/${made}`)).toBe('dmz');
  await api.ask('network.set_name_label', made, 'dmz.2');
  expect(await store.tryRead(`/tool/netback/networks/${made}`)).toBe('dmz.2');
  await store.rm('/tool/netback/bridges/1');
  expect(await named('lan.7')).toBe('');
  await api.ask('network.destroy', made);
  expect(await store.tryDirectory('/tool/netback/networks')).toEqual([]);
});

test('interfaces, consoles and networks of a machine', async () => {
  const vm = await api.ask<string>('VM.create', vmRecord('web'));
  const network = await api.ask<string>('network.create', {
    name_label: 'dmz', name_description: '', default_gateway: '', default_netmask: '', other_config: {},
  }); // prettier-ignore
  const vif = await api.ask<string>('VIF.create', { VM: vm, network, device: '', MAC: '00:16:3e:01:02:03', MTU: '' });
  expect(await api.ask('VIF.get_record', vif)).toEqual({
    uuid: vif, VM: vm, network, device: 'eth0', MAC: '00:16:3e:01:02:03', MTU: '1500', metrics: vif, security_label: '', runtime_properties: {},
  }); // prettier-ignore
  expect(await api.ask('VIF_metrics.get_record', vif)).toMatchObject({ uuid: vif, io_read_kbs: new Float(0) });
  expect(await api.ask('network.get_VIFs', network)).toEqual([vif]);
  expect(await api.failure('network.destroy', network)).toEqual(['NETWORK_ERROR', 'Cannot destroy network with VIFs attached', 'dmz']); // prettier-ignore
  const text = await api.ask<string>('console.create', { VM: vm, protocol: 'vt100', other_config: { a: 'b' } });
  const screen = await api.ask<string>('console.create', { VM: vm, protocol: 'rfb', other_config: {} });
  expect(await api.ask('VM.get_consoles', vm)).toEqual([text, screen]);
  expect(await api.failure('console.create', { VM: vm, protocol: 'smoke' })).toEqual(['CONSOLE_PROTOCOL_INVALID', 'smoke']); // prettier-ignore
  expect(await api.failure('console.create', { VM: vm })).toEqual(['CONSOLE_PROTOCOL_INVALID', 'No protocol specified']); // prettier-ignore
  await api.ask('VIF.destroy', vif);
  await api.ask('network.destroy', network);
  expect(await api.failure('network.get_record', network)).toEqual(['HANDLE_INVALID', 'network', network]);
  await api.ask('VM.destroy', vm);
  expect(await api.ask('console.get_all_records')).toEqual({});
  for (const table of ['vm', 'console'])
    expect(readdirSync(join(fixture.directory, 'lib', 'state', table))).toEqual([]);
});

test.each<[string, XmlRpcValue[], string[]]>([
  ['network.create', [{ name_label: 'a' }], ['CREATE_UNSPECIFIED_ATTRIBUTE', 'name_description', 'network']],
  ['PBD.create', [{}], ['CREATE_UNSPECIFIED_ATTRIBUTE', 'host', 'PBD']],
  ['VIF.create', [{ VM: 'x' }], ['HANDLE_INVALID', 'VM', 'x']],
  ['DPCI.create', [{ VM: 'x', PPCI: 'y' }], ['HANDLE_INVALID', 'VM', 'x']],
  ['DSCSI.create', [{}], ['CREATE_UNSPECIFIED_ATTRIBUTE', 'VM', 'DSCSI']],
  ['PIF.create_VLAN', ['eth0', 'n', 'h', 4096], ['VLAN_TAG_INVALID', '4096']],
  ['PIF.create_VLAN', ['eth0', 'n', 'h', '7'], ['INVALID_DEVICE_ERROR', 'eth0']],
  ['XSPolicy.set_xspolicy', [1, '', 0, false], ['SECURITY_ERROR', '-4111', 'The policy type is unsupported']],
  ['XSPolicy.can_run', ['label'], ['SECURITY_ERROR', '-4119', 'The policy is not loaded']],
  ['debug.wait', [-1], ['VALUE_NOT_SUPPORTED', 'debug.wait seconds', '-1', '0 to 3600 are allowed']],
  ['cpu_pool.create', [{ name_label: 'a b' }], ['PARAMETER_ERROR', 'Invalid Pool Name']],
])('%s is refused with its own code', async (method, args, description) => {
  expect(await api.failure(method, ...args)).toEqual(description);
});

test('security without a policy', async () => {
  expect(await api.ask('XSPolicy.get_xstype')).toBe('0');
  expect(await api.ask('XSPolicy.get_xspolicy')).toMatchObject({ xs_ref: '', xserr: '0' });
  expect(await api.ask('ACMPolicy.get_enforced_binary')).toBe('');
  const vm = '00000000-0000-0000-0000-000000000000';
  expect(await api.ask('VM.set_security_label', vm, '', '')).toBe('0');
});

test('a CPU pool takes CPUs that are free', async () => {
  const [first, second] = await api.ask<string[]>('host_cpu.get_all');
  const [pool0] = await api.ask<string[]>('cpu_pool.get_by_name_label', 'Pool-0');
  expect(await api.ask('host_cpu.get_cpu_pool', first!)).toEqual([pool0]);
  const pool = await api.ask<string>('cpu_pool.create', { name_label: 'fast', ncpu: '1', proposed_CPUs: ['1'] });
  expect(await api.ask('cpu_pool.get_activated', pool)).toBe(false);
  expect(await api.failure('cpu_pool.activate', pool)).toEqual(['INSUFFICIENT_CPUS', '1', '0']);
  await api.ask('cpu_pool.remove_host_CPU_live', pool0!, second!);
  expect(await api.ask('host_cpu.get_unassigned_cpus')).toEqual([second]);
  await api.ask('cpu_pool.activate', pool);
  expect(await api.ask('cpu_pool.get_host_CPUs', pool)).toEqual([second]);
  expect(await api.failure('cpu_pool.set_proposed_CPUs', pool, ['0'])).toEqual(['POOL_BAD_STATE', 'activated']);
  expect(await api.failure('cpu_pool.add_host_CPU_live', pool, 'x')).toEqual(['HANDLE_INVALID', 'host_cpu', 'x']);
  await api.ask('cpu_pool.deactivate', pool);
  await api.ask('cpu_pool.destroy', pool);
  expect(await api.failure('cpu_pool.get_record', pool)).toEqual(['HANDLE_INVALID', 'cpu_pool', pool]);
});

test('a handle that is none is refused with its class by every method that takes one', async () => {
  for (const { name, rows } of apiClasses) {
    if (name === 'session') continue;
    for (const row of rows) {
      if (row.params[0]?.name !== 'self') continue;
      const rest = row.params.slice(1).map((): XmlRpcValue => '');
      for (const ref of ['x', "'; (rm) \n../", 'x'.repeat(65_536)])
        expect([row.name, await api.failure(row.name, ref, ...rest)]).toEqual([
          row.name,
          ['HANDLE_INVALID', name, ref],
        ]);
      expect([row.name, await api.failure(row.name, { a: 1 }, ...rest)]).toEqual([
        row.name,
        ['HANDLE_INVALID', name, ''],
      ]);
    }
  }
});

/** Thousands of calls, many of which reach the disk. */
const LONG_MS = 60_000;

const JUNK: readonly XmlRpcValue[] = [
  null, true, -1, 2 ** 31 - 1, new Float(NaN), '', '-', "'; (rm) \n../", 'x'.repeat(70_000), new Date(NaN), new Uint8Array(3),
  [], [[]], [null], {}, { a: { b: 1 } }, { VM: [], SR: {}, name_label: 5 }, { name_label: 'x', memory_static_max: '1e99' },
]; // prettier-ignore

test(
  'no value of any kind makes a call do anything but succeed or fail in order',
  async () => {
    const blocking = ['event.next', 'session.logout', 'debug.wait'];
    const vm = await api.ask<string>('VM.create', vmRecord('web'));
    for (const { name, rows } of apiClasses) {
      const refs = rows.some((row) => row.name === `${name}.get_all`) ? await api.ask<string[]>(`${name}.get_all`) : [];
      for (const row of rows.filter((known) => known.session && !blocking.includes(known.name))) {
        // Of what only reads, the arguments are handles: those have a test of their own.
        for (const junk of row.reads ? JUNK.slice(0, 3) : JUNK) {
          const self = row.params[0]?.name === 'self';
          const args = row.params.map((_, index) => (self && index === 0 ? (refs.at(-1) ?? 'x') : junk));
          const result = (await fixture.xend.xenApi.call(row.name, [api.session, ...args], LOCAL)) as XmlRpcStruct;
          const shape = result['Status'] === 'Success' ? ['Status', 'Value'] : ['Status', 'ErrorDescription'];
          expect([row.name, Object.keys(result)]).toEqual([row.name, shape]);
        }
      }
    }
    expect(await api.ask('VM.get_all')).toContain('00000000-0000-0000-0000-000000000000');
    expect(vm).toMatch(/^[0-9a-f-]{36}$/);
  },
  LONG_MS,
);
