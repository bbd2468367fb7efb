/**
 * The contract of the legacy methods: calls one after the other on a live host, each with what must come of it. Texts are
 * those of Xen 4.4, as clients see them. Every method of the host has a row; a method without one fails the run.
 */
import type { Report } from '@xenhost/testkit';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import {
  anything, both, boolean, containing, double, either, expectCall, fault, integer, is, keysInOrder, listOf, nil, pairs, struct,
  sxp, text, without, type Check, type FaultExpected,
} from './checks.ts'; // prettier-ignore
import type { World } from './world.ts';

type Row = readonly [method: string, args: readonly XmlRpcValue[], expected: Check | FaultExpected];

/** Xen 4.4 has 91 methods and the three of introspection. */
const METHODS = 94;

const INVALID = fault(3, 'nobody');
const LONG_NAME = 'x'.repeat(65_536);
const MISSING = '/nowhere/at/all';

const domain = (name: string, more: Readonly<Record<string, Check>> = {}): Check =>
  sxp('domain', {
    domid: integer, name: is(name), uuid: text(/^[0-9a-f-]{36}$/), memory: integer, maxmem: integer, vcpus: integer,
    on_poweroff: is('destroy'), on_reboot: is('restart'), image: anything, status: integer, state: text(/^[r-][b-][p-][s-][c-][d-]$/),
    cpu_time: double, start_time: double, online_vcpus: integer, ...more,
  }); // prettier-ignore

/** Keys of `xm list --long`; those in brackets need not be there. */
const KEYS = [
  'domid', 'cpu_weight', 'cpu_cap', 'pool_name', 'bootloader', 'vcpus', 'cpus', 'on_poweroff', '[description]', 'on_crash', 'uuid',
  'bootloader_args', 'name', 'on_reboot', 'maxmem', 'memory', 'shadow_memory', 'features', 'on_xend_start', 'on_xend_stop',
  'start_time', 'cpu_time', 'online_vcpus', 'image', 'status', 'state', '[store_mfn]', '[console_mfn]', '[device]',
]; // prettier-ignore

const inOrder: Check = (value) => keysInOrder(...KEYS)((value as readonly XmlRpcValue[]).slice(1));

/** What a real host without this hardware or feature answers. */
const ABSENT = /Function not implemented|not supported/;

const creation = (world: World): readonly Row[] => [
  ['xend.domain.create', [world.config('c1', ['vcpus', 2])], domain('c1', { state: is('--p---'), status: is(1), vcpus: is(2) })],
  ['xend.domain.create', [world.config('c1')], fault(2, /^Domain 'c1' already exists with ID '\d+'$/)],
  ['xend.domain.create', [], fault(1, /^domain_create\(\) takes exactly \d arguments? \(\d given\)$/)],
  ['xend.domain.create', [['vm', ['name', 'x y'], ['memory', 8], ['image', ['linux', ['kernel', world.kernel]]]]], fault(2, 'Invalid VM Name')],
  ['xend.domain.create', [['vm', ['name', '../x'], ['memory', 8], ['image', ['linux', ['kernel', world.kernel]]]]], fault(2, 'Invalid VM Name')],
  ['xend.domain.create', [['vm', ['name', LONG_NAME], ['memory', 8], ['image', ['linux', ['kernel', world.kernel]]]]], fault(2, /./)],
  ['xend.domain.create', [['vm', ['name', 'c2'], ['memory', 8], ['image', ['linux', ['kernel', MISSING]]]]], fault(2, /./)],
  ['xend.domain.create', ['text'], fault(1, /./)],
  ['xend.domain.create', [{ name: 'c2' }], fault(1, /./)],
  ['xend.domain.waitForDevices', ['c1'], nil],
]; // prettier-ignore

const lists: readonly Row[] = [
  ['xend.domain', ['c1'], domain('c1')],
  [
    'xend.domain',
    ['c1', 1],
    both(domain('c1', { device: anything, store_mfn: integer, console_mfn: integer }), inOrder),
  ],
  ['xend.domain', ['0'], both(domain('Domain-0', { maxmem: is(16777215) }), inOrder, without('description'))],
  ['xend.domain', [0], domain('Domain-0')],
  ['xend.domain', ['00000000-0000-0000-0000-000000000000', true], domain('Domain-0')],
  ['xend.domain', ['nobody'], INVALID],
  ['xend.domain', ["no'body\n(../)"], fault(3, "no'body\n(../)")],
  ['xend.domain', [LONG_NAME], fault(3, LONG_NAME)],
  ['xend.domain', [], fault(1, 'domain() takes at least 1 argument (0 given)')],
  ['xend.domain', [['list']], fault(1, /./)],
  ['xend.domains', [], listOf(sxp('domain'), 1)],
  ['xend.domains', [true, true], listOf(sxp('domain'), 1)],
  ['xend.domains', [false], containing('Domain-0')],
  ['xend.domains', [0], containing('Domain-0')],
  ['xend.domains_with_state', [false, 'all', false], is(['Domain-0', 'c1'])],
  ['xend.domains_with_state', [false, 'Paused', false], is(['c1'])],
  ['xend.domains_with_state', [false, 1, false], is(['c1'])],
  ['xend.domains_with_state', [true, 'paused', true], listOf(domain('c1'), 1)],
  ['xend.domains_with_state', [false, 'halted', false], is([])],
];

const running: readonly Row[] = [
  ['xend.domain.getpauseflag', ['c1'], both(boolean, either(is(false), is(0)))],
  ['xend.domain.setpauseflag', ['c1', true], nil],
  ['xend.domain.getpauseflag', ['c1'], either(is(true), is(1))],
  ['xend.domain.unpause', ['c1'], nil],
  ['xend.domain.unpause', ['nobody'], INVALID],
  ['xend.domain.unpause', ['Domain-0'], fault(2, /^Cannot unpause privileged domain /)],
  ['xend.domain.pause', ['c1', true], integer],
  ['xend.domain.pause', ['Domain-0'], fault(2, /^Cannot pause privileged domain /)],
  ['xend.domain.pause', ['nobody'], INVALID],
  ['xend.domain.unpause', ['c1'], nil],
  ['xend.domain.getVCPUInfo', ['c1'], sxp('domain', { domid: integer, name: is('c1'), vcpu_count: is(2) })],
  ['xend.domain.setVCpuCount', ['c1', 0], fault(2, 'Zero or less VCPUs is invalid')],
  ['xend.domain.setVCpuCount', ['c1', 9], fault(2, 'Cannot set vcpus greater than max vcpus on running domain')],
  ['xend.domain.setVCpuCount', ['c1', 1], nil],
  ['xend.domain.pincpu', ['c1', 0, '0'], anything],
  ['xend.domain.pincpu', ['c1', 'all', '0'], anything],
  ['xend.domain.pincpu', ['nobody', 0, '0'], INVALID],
  ['xend.domain.setName', ['c1', ''], fault(2, 'Missing VM Name')],
  ['xend.domain.setName', ['c1', 'a/b'], fault(2, 'Invalid VM Name')],
  ['xend.domain.setName', ['c1', 'Domain-0'], fault(2, "VM name 'Domain-0' already exists as domain 0")],
  ['xend.domain.setName', ['c1', 'c9'], nil],
  ['xend.domain.setName', ['c9', 'c1'], nil],
  ['xend.domain.setMemoryTarget', ['c1', 6], nil],
  ['xend.domain.maxmem_set', ['c1', 12], nil],
  ['xend.domain.sched_credit_get', ['c1'], struct({ weight: is(256), cap: is(0) })],
  ['xend.domain.sched_credit_set', ['c1', 512, null], is(0)],
  ['xend.domain.sched_credit_get', ['c1'], struct({ weight: is(512), cap: is(0) })],
  ['xend.domain.sched_credit_set', ['c1', 0, 0], fault(2, 'Cpu weight out of range, valid values are within range from 1 to 65535')],
  ['xend.domain.sched_credit_set', ['c1', null, 9999], fault(2, /^Cpu cap out of range, valid range is from 0 to 200 for specified number of vcpus/)],
  ['xend.domain.sched_credit2_get', ['c1'], fault(2, "(22, 'Invalid argument')")],
  ['xend.domain.sched_credit2_set', ['c1', 256], fault(2, "(22, 'Invalid argument')")],
  ['xend.domain.cpu_sedf_get', ['c1'], fault(2, /./)],
  ['xend.domain.cpu_sedf_set', ['c1', 1, 1, 1, 1, 1], fault(2, /./)],
  ['xend.domain.shadow_control', ['c1', 99], fault(2, ABSENT)],
  ['xend.domain.shadow_mem_get', ['c1'], fault(2, ABSENT)],
  ['xend.domain.shadow_mem_set', ['nobody', 1], INVALID],
  ['xend.domain.send_sysrq', ['c1', 'h'], nil],
  ['xend.domain.send_sysrq', ['c1', ''], fault(2, / is not convertible to a character$/)],
  ['xend.domain.send_trigger', ['c1', 'nmi', 0], anything],
  ['xend.domain.send_trigger', ['c1', 'dance', 0], fault(2, 'Invalid trigger: dance')],
  ['xend.domain.getRestartCount', ['c1'], text(/^(0|)$/)],
  ['xend.domain.ioport_range_enable', ['c1', 0x3f8, 0x3ff], fault(2, ABSENT)],
  ['xend.domain.ioport_range_disable', ['c1', 0x3f8, 0x3ff], fault(2, ABSENT)],
  ['xend.domain.usb_add', ['c1', 'host:1.1'], fault(2, /^Can't add usb device to a/)],
  ['xend.domain.usb_del', ['c1', 'host:1.1'], fault(2, /^Can't /)],
]; // prettier-ignore

const devices = (world: World): readonly Row[] => [
  ['xend.domain.getDeviceSxprs', ['c1', 'vif'], is([])],
  ['xend.domain.device_create', ['c1', ['vif', ['mac', 'nonsense']]], fault(2, 'Cannot create a new virtual network interface - MAC address is not valid!')],
  ['xend.domain.device_create', ['c1', ['vif', ['mac', '00:16:3e:01:02:03']]], is(['vif', ['dom', 1, 'id', 0]])],
  ['xend.domain.device_create', ['c1', ['vif', ['mac', '00:16:3E:01:02:03']]], fault(2, 'The mac "00:16:3e:01:02:03" is already defined')],
  ['xend.domain.device_create', ['c1', ['vif', ['bridge', 'nowhere']]], fault(2, /^Device 1 \(vif\) could not be connected\. Could not find bridge device nowhere/)],
  ['xend.domain.getDeviceSxprs', ['c1', 'vif'], is([[0, [
    ['backend', '/local/domain/0/backend/vif/1/0'], ['backend-id', '0'], ['handle', '0'], ['mac', '00:16:3e:01:02:03'],
    ['protocol', 'x86_64-abi'], ['state', '1'],
  ]]])],
  ['xend.domain.device_configure', ['c1', ['vif', ['mac', '00:16:3e:01:02:03']], '0'], fault(2, 'vif devices may not be reconfigured')],
  ['xend.domain.device_create', ['c1', ['vbd', ['uname', `file:${MISSING}`], ['dev', 'xvda'], ['mode', 'w']]], fault(2, `Device 51712 (vbd) could not be connected. ${MISSING} does not exist.`)],
  ['xend.domain.device_create', ['c1', ['vbd', ['uname', `phy:${world.kernel}`], ['dev', 'xvda'], ['mode', 'r']]], fault(2, `Device 51712 (vbd) could not be connected. ${world.kernel} is not a block device.`)],
  ['xend.domain.device_create', ['c1', ['vbd', ['uname', `file:${world.kernel}`], ['dev', 'xvda'], ['mode', 'r']]], is(['vbd', ['dom', 1, 'id', 51712]])],
  ['xend.domain.device_create', ['c1', ['vbd', ['uname', `file:${world.kernel}`], ['dev', 'xvda'], ['mode', 'r']]], fault(2, 'The device "xvda" is already defined')],
  ['xend.domain.device_create', ['c1', ['vbd', ['uname', `file:${world.kernel}`], ['dev', 'hdc:cdrom'], ['mode', 'r']]], is(['vbd', ['dom', 1, 'id', 5632]])],
  ['xend.domain.device_configure', ['c1', ['vbd', ['uname', `file:${world.kernel}`], ['dev', 'xvda'], ['mode', 'r']]], fault(2, /^Refusing to reconfigure device vbd:51712 to \{/)],
  ['xend.domain.device_configure', ['c1', ['vbd', ['uname', ''], ['dev', 'hdc:cdrom'], ['mode', 'r']]], is(true)],
  ['xend.domain.getBlockDeviceClass', ['c1', 'xvda'], is('vbd')],
  ['xend.domain.destroyDevice', ['c1', 'vbd', 'hdc', false, true], nil],
  ['xend.domain.destroyDevice', ['c1', 'vbd', 'xvda', true, true], nil],
  ['xend.domain.destroyDevice', ['c1', 'vbd', 'xvda', true, true], fault(2, 'Device xvda not connected')],
  ['xend.domain.getDeviceSxprs', ['c1', 'vbd'], is([])],
  ['xend.domain.destroyDevice', ['c1', 'vif', '00:16:3e:01:02:03', true, true], nil],
  ['xend.domain.destroyDevice', ['c1', 'vif', '0', true, true], fault(2, 'Device 0 not connected')],
  ['xend.domain.destroyDevice', ['c1', 'vif', '7'], fault(2, 'Device 7 not connected')],
  // As xm of Xen 4.4 sends --force: the word itself.
  ['xend.domain.destroyDevice', ['c1', 'vif', '7', '-f', true], fault(2, 'Device 7 not connected')],
  ['xend.domain.getBlockDeviceClass', ['c1', '51712'], anything],
  ['xend.domain.getDeviceSxprs', ['nobody', 'vif'], INVALID],
  ['xend.domain.dump', ['Domain-0', '', false, false, false], fault(2, /^Cannot dump core for privileged domain /)],
  ['xend.domain.dump', ['c1', world.host.directory, false, false, false], fault(2, `Cannot dump core in a directory: ${world.host.directory}`)],
  ['xend.domain.save', ['c1', `${MISSING}/f`], fault(2, /^can't write guest state file .*: /)],
  ['xend.domain.save', ['nobody', '/tmp/f'], INVALID],
  ['xend.domain.restore', [MISSING], fault(2, /^can't read guest state file .*: /)],
  ['xend.domain.restore', [world.kernel], fault(2, /^not a valid guest state file: /)],
  ['xend.domain.restore_fd', [3, false, false], fault(2, 'Restore failed')],
  ['xend.domain.migrate', ['Domain-0', 'localhost'], fault(2, /./)],
  ['xend.domain.suspend', ['c1'], fault(2, 'Domain is not managed by Xend lifecycle support.')],
  ['xend.domain.resume', ['c1'], fault(2, /^Error occurred when resuming: /)],
]; // prettier-ignore

const managed = (world: World): readonly Row[] => [
  ['xend.domain.new', [world.config('m1')], nil],
  ['xend.domain', ['m1'], sxp('domain', { name: is('m1'), status: is(0) })],
  ['xend.domains_with_state', [false, 'halted', false], is(['m1'])],
  ['xend.domain.getVCPUInfo', ['m1'], sxp('domain', { name: is('m1'), vcpu_count: is(1) })],
  ['xend.domain.suspend', ['m1'], fault(2, 'Domain is not running')],
  ['xend.domain.resume', ['m1'], fault(2, /^Error occurred when resuming: Cannot resume domain that is not suspended\.$/)],
  ['xend.domain.pause', ['m1'], fault(2, /^Domain 'm1' is not started$/)],
  ['xend.domain.start', ['m1', true], nil],
  ['xend.domain.start', ['m1', true], fault(2, 'Domain is already running')],
  ['xend.domain.delete', ['m1'], fault(2, 'Domain is not halted.')],
  ['xend.domain.destroy', ['m1'], either(nil, is(0))],
  ['xend.domain.delete', ['m1'], nil],
  ['xend.domain.delete', ['m1'], fault(3, 'm1')],
  ['xend.domain.configure', [['vm']], fault(2, 'Unsupported')],
  ['xend.domain.lookup', ['nobody'], INVALID],
  ['xend.domain.lookup_nr', ['nobody'], anything],
  ['xend.domain.create_from_dict', [{}], fault(1, /./)],
  ['xend.domain.delete_by_dominfo', ['x'], fault(1, /./)],
]; // prettier-ignore

const pool: XmlRpcValue = ['pool', ['name_label', 'p1'], ['sched_policy', 'credit'], ['ncpu', 1], ['other_config']];
const node: readonly Row[] = [
  [
    'xend.node.info', [0],
    keysInOrder(
      'system', 'host', 'release', 'version', 'machine', 'nr_cpus', 'nr_nodes', 'cores_per_socket', 'threads_per_core', 'cpu_mhz',
      'hw_caps', 'virt_caps', 'total_memory', 'free_memory', 'free_cpus', 'xen_major', 'xen_minor', 'xen_extra', 'xen_caps',
      'xen_scheduler', 'xen_pagesize', 'platform_params', 'xen_changeset', 'xen_commandline', 'cc_compiler', 'cc_compile_by',
      'cc_compile_domain', 'cc_compile_date', 'xend_config_format',
    ),
  ],
  ['xend.node.info', [], pairs({ cpu_topology: text(/^\ncpu: {4}core {4}socket {5}node\n {2}0: {7}\d {8}\d {8}\d/), numa_info: is('none') })],
  ['xend.node.info', [0], pairs({ hw_caps: text(/^([0-9a-f]{8}:){7}[0-9a-f]{8}$/), xen_caps: text(/^\S+ $/), xend_config_format: is(4) })],
  ['xend.node.pciinfo', [], either(nil, listOf(sxp('dev')))],
  ['xend.node.log', [], text(/Opening Unix domain socket XML-RPC server on /)],
  ['xend.node.send_debug_keys', ['h'], nil],
  ['xend.node.dmesg.info', [], text()],
  ['xend.node.dmesg.clear', [], text()],
  ...['list', 'freeze', 'thaw', 'flush', 'destroy', 'set_weight', 'set_cap', 'set_compress', 'shared_auth', 'query_freeable_mb'].map(
    (name): Row => [`xend.node.tmem_${name}`, tmemArguments(name), fault(1, ABSENT)],
  ),
  ['xend.cpu_pool.list', [[]], listOf(listOf(anything, 2), 1)],
  ['xend.cpu_pool.new', [pool], text(/^[0-9a-f-]{36}$/)],
  ['xend.cpu_pool.list', [['p1']], listOf(anything, 1)],
  ['xend.cpu_pool.start', ['nobody'], fault(2, 'unknown pool nobody')],
  ['xend.cpu_pool.delete', ['p1'], nil],
  ['xend.cpu_pool.create', [['pool', ['name_label', 'Pool-0']]], fault(2, /./)],
  ['xend.cpu_pool.destroy', ['nobody'], fault(2, 'unknown pool nobody')],
  ['xend.cpu_pool.cpu_add', ['nobody', '0'], fault(2, 'unknown pool nobody')],
  ['xend.cpu_pool.cpu_remove', ['nobody', 0], fault(2, 'unknown pool nobody')],
  ['xend.cpu_pool.migrate', ['Domain-0', 'Pool-0'], fault(2, 'could not move Domain-0')],
  ['xend.cpu_pool.migrate', ['nobody', 'Pool-0'], fault(2, 'unknown domain nobody')],
]; // prettier-ignore

function tmemArguments(name: string): XmlRpcValue[] {
  switch (name) {
    case 'list':
      return [-1, 0];
    case 'shared_auth':
      return [-1, '0'.repeat(32), 0];
    case 'query_freeable_mb':
      return [];
    default:
      return ['freeze', 'thaw', 'destroy'].includes(name) ? [-1] : [-1, 0];
  }
}

/** Without a security module there are no labels and no policies (Xen 4.4 `xen/util/xsm/dummy`). */
const NO_POLICIES = fault(1, /^"?'?Command not supported under xsm 'dummy' module\.'?"?$/i);
const security: readonly Row[] = [
  ['xend.security.get_domain_label', ['c1'], anything],
  ['xend.security.get_labeled_resources', [], anything],
  ['xend.security.get_policy', [], anything],
  ['xend.security.get_resource_label', ['r'], anything],
  ['xend.security.get_xstype', [], anything],
  ['xend.security.list_labels', ['', ''], anything],
  ['xend.security.activate_policy', [], NO_POLICIES],
  ['xend.security.reset_policy', [], NO_POLICIES],
  ['xend.security.rm_bootpolicy', [], NO_POLICIES],
  ['xend.security.set_domain_label', [], NO_POLICIES],
  ['xend.security.set_policy', [0, '', 0, 1], NO_POLICIES],
  ['xend.security.set_resource_label', ['r', '', '', ''], NO_POLICIES],
];

const endings = (world: World): readonly Row[] => [
  ['xend.domain.shutdown', ['c1', 'dance'], fault(2, 'Invalid reason: dance')],
  ['xend.domain.shutdown', ['Domain-0', 'poweroff'], fault(2, 'Domain 0 cannot be shutdown')],
  ['xend.domain.shutdown', ['nobody', 'poweroff'], INVALID],
  ['xend.domain.reset', ['c1'], nil],
  ['xend.domain', ['c1'], domain('c1')],
  ['xend.domain.shutdown', ['c1', 'poweroff'], anything],
  ['xend.domain.destroy', ['Domain-0'], fault(2, /^Cannot destroy privileged domain /)],
  ['xend.domain.destroy', ['nobody'], INVALID],
  ['xend.domain.destroy', ['c1'], either(nil, is(0))],
  ['xend.domain', ['c1'], fault(3, 'c1')],
  // `cpuid` as xm of Xen 4.4 sends it: a struct of structs.
  ['xend.domain.create', [world.config('c3', ['cpuid', { 1: { ecx: `xxx0${'x'.repeat(28)}` } }])], domain('c3')],
  ['xend.domain.destroy', ['c3'], either(nil, is(0))],
];

const introspection: readonly Row[] = [
  ['system.listMethods', [], listOf(text(/^(xend|system)\./), METHODS)],
  ['system.methodHelp', ['xend.domain'], text(/./)],
  ['system.methodSignature', ['xend.domain'], listOf(anything, 1)],
  ['xend.vnet.list', [], is({ Status: 'Failure', ErrorDescription: ['MESSAGE_METHOD_UNKNOWN', 'xend.vnet.list'] })],
];

export async function runContract(world: World, report: Report): Promise<void> {
  const connection = await world.connect();
  const methods = (await connection.call('system.listMethods')) as readonly string[];
  const rows: readonly Row[] = [
    ...introspection, ...creation(world), ...lists, ...running, ...devices(world), ...managed(world), ...node,
    ...security, ...endings(world),
  ]; // prettier-ignore
  const covered = new Set(rows.map(([method]) => method));
  await report.case('every method has a row', () => {
    const missing = methods.filter((name) => !covered.has(name));
    if (missing.length > 0) throw new Error(missing.join(' '));
    if (methods.length !== METHODS) throw new Error(`${methods.length} methods instead of ${METHODS}`);
  });
  for (const [method, args, expected] of rows) {
    const shown = JSON.stringify(args).slice(1, -1);
    const name = `${method}(${shown.length > 60 ? `${shown.slice(0, 60)}...` : shown})`;
    await report.case(name, async () => {
      await expectCall(() => connection.call(method, ...args), expected);
    });
  }
  connection.close();
}
