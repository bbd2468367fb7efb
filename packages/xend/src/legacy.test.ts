import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { config, xendFixture } from './testing/xend-fixture.ts';

const host = xendFixture();
const { call, fault } = host;

/** Calls, on a host where domain 1 `g` is paused and `m` is managed and halted, and what they end with. */
const ANSWERS: readonly (readonly [string, readonly XmlRpcValue[], XmlRpcValue])[] = [
  ['xend.domain.sched_credit_get', ['g'], { weight: 256, cap: 0 }],
  ['xend.domain.sched_credit_get', ['m'], { weight: 256, cap: 0 }],
  ['xend.domain.sched_credit2_get', ['m'], { weight: 256 }],
  ['xend.domain.sched_credit2_set', ['m', 300], 0],
  ['xend.domain.lookup_nr', ['nobody'], null],
  ['xend.node.pciinfo', [], null],
  ['xend.security.get_resource_label', ['file:/x'], ''],
  ['xend.security.list_labels', ['p', 1], []],
  ['xend.security.get_labeled_resources', [], {}],
  ['xend.security.get_policy', [], ['', 0]],
  ['xend.security.get_xstype', [], 0],
  ['xend.security.get_domain_label', ['g'], ''],
  ['xend.domain.getDeviceSxprs', ['g', 'pci'], []],
];

const FAULTS: readonly (readonly [string, readonly XmlRpcValue[], number, string])[] = [
  ['xend.domain.sched_credit2_get', ['g'], 2, "(22, 'Invalid argument')"],
  ['xend.domain.sched_credit2_set', ['g', 300], 2, "(22, 'Invalid argument')"],
  ['xend.domain.sched_credit2_set', ['g', 0], 2, 'weight is out of range'],
  ['xend.domain.sched_credit2_set', ['nobody', 1], 3, 'nobody'],
  ['xend.domain.cpu_sedf_get', ['g'], 2, "(22, 'Invalid argument')"],
  ['xend.domain.cpu_sedf_set', ['g', 1, 2, 3, 4, 5], 2, "(22, 'Invalid argument')"],
  ['xend.domain.cpu_sedf_get', ['m'], 2, 'an integer is required'],
  ['xend.domain.shadow_control', ['g', 0], 2, "(38, 'Function not implemented')"],
  ['xend.domain.shadow_mem_get', ['g'], 2, "(38, 'Function not implemented')"],
  ['xend.domain.shadow_mem_set', ['g', 4], 2, "(38, 'Function not implemented')"],
  ['xend.domain.ioport_range_enable', ['g', 0x3f8, 0x3ff], 2, "(38, 'Function not implemented')"],
  ['xend.domain.ioport_range_disable', ['g', 8, 7], 2, "(22, 'Invalid argument')"],
  ['xend.domain.lookup', ['nobody'], 3, 'nobody'],
  ['xend.domain.lookup', ['g'], 1, "cannot marshal <type 'instance'> objects"],
  ['xend.domain.lookup_nr', ['g'], 1, "cannot marshal <type 'instance'> objects"],
  ['xend.domain.create_from_dict', [{ name_label: 'x' }], 1, "cannot marshal <type 'instance'> objects"],
  ['xend.domain.delete_by_dominfo', ['g'], 1, "'str' object has no attribute 'getName'"],
  ['xend.domain.restore_fd', [3], 2, 'Restore failed'],
  ['xend.domain.save', ['g', '/tmp/x'], 2, 'Domain is not running'],
  ['xend.domain.save', ['0', '/tmp/x'], 2, 'Cannot save privileged domain 0'],
  ['xend.domain.restore', ['/nowhere/x'], 2, "can't read guest state file /nowhere/x: No such file or directory"],
  ['xend.domain.restore', ['/dev/null'], 2, "not a valid guest state file: found ''"],
  ['xend.domain.suspend', ['g'], 2, 'Domain is not running'],
  ['xend.domain.resume', ['m'], 2, 'Error occurred when resuming: Cannot resume domain that is not suspended.'],
  ['xend.domain.resume', ['nobody'], 2, 'Error occurred when resuming: nobody'],
  ['xend.domain.migrate', ['m', 'localhost'], 2, 'Domain is not running'],
  ['xend.domain.migrate', ['Domain-0', 'localhost'], 2, 'Cannot migrate privileged domain Domain-0'],
  ['xend.domain.dump', ['Domain-0'], 2, 'Cannot dump core for privileged domain Domain-0'],
  ['xend.domain.dump', ['m'], 2, "Domain 'm' is not started"],
  ['xend.domain.dump', ['g', '/'], 2, 'Cannot dump core in a directory: /'],
  ['xend.domain.usb_add', ['g', 'host:1.2'], 2, "Can't add usb device to a guest with usb disabled in configure file"],
  ['xend.domain.usb_del', ['nobody', 'host:1.2'], 3, 'nobody'],
  ['xend.node.tmem_list', [-1, 1], 1, "(38, 'Function not implemented')"],
  ['xend.node.tmem_freeze', [1], 1, "(38, 'Function not implemented')"],
  ['xend.node.tmem_shared_auth', [1, 'u', 1], 1, "(38, 'Function not implemented')"],
  ['xend.node.tmem_query_freeable_mb', [], 1, "(38, 'Function not implemented')"],
  ['xend.security.set_policy', [1, 'x', 1, true], 1, `"Command not supported under xsm 'dummy' module."`],
  ['xend.security.set_domain_label', ['g', 'l', 'o'], 1, 'set_domain_label() takes no arguments (3 given)'],
  ['xend.domain.pause', [], 1, 'domain_pause() takes at least 2 arguments (1 given)'],
  ['xend.domain.setName', [], 1, '<lambda>() takes at least 1 argument (0 given)'],
  ['xend.domain.setName', ['g'], 1, 'setName() takes exactly 2 arguments (1 given)'],
  ['xend.node.info', [1, 2], 1, 'info() takes at most 2 arguments (3 given)'],
  ['xend.cpu_pool.start', [], 1, 'pool_start() takes exactly 2 arguments (1 given)'],
]; // prettier-ignore

describe('legacy methods', () => {
  beforeEach(async () => {
    await call('xend.domain.create', config('g'));
    await call('xend.domain.new', config('m'));
  });

  it('that can, answer', async () => {
    const given: unknown[] = [];
    for (const [name, params] of ANSWERS) given.push([name, params, await call(name, ...params)]);
    expect(given).toEqual(ANSWERS);
  });

  it('that cannot, say why', async () => {
    const given: unknown[] = [];
    for (const [name, params] of FAULTS) given.push([name, params, ...(await fault(name, ...params))]);
    expect(given).toEqual(FAULTS);
  });
});
