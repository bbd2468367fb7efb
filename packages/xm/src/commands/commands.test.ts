/** Each command against a server that is told what to answer: what is asked of xend, what is printed, the exit code. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runXm } from '../cli.ts';
import { FakeXend, fault, type Answer } from '../testing/fake-xend.ts';
import { inWorld, type Outcome } from '../testing/fake-world.ts';
import { aliases, commands } from './table.ts';

let directory: string;
let xend: FakeXend;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
  xend = new FakeXend(join(directory, 's'));
  await xend.start();
});

afterAll(async () => {
  await xend.stop();
  rmSync(directory, { recursive: true, force: true });
});

async function xm(line: readonly string[], answers: Readonly<Record<string, Answer>> = {}): Promise<Outcome> {
  xend.calls.length = 0;
  xend.answers = answers;
  const env = { XM_SERVER: `httpu://${xend.socketPath}`, HOME: '/nowhere' };
  return inWorld((world) => runXm(line, world), { env, cwd: directory });
}

interface Case {
  readonly line: string;
  readonly calls?: readonly string[];
  readonly answers?: Readonly<Record<string, Answer>>;
  readonly code?: number;
  readonly out?: string | RegExp;
  readonly err?: string;
}

const dir = (): string => directory;
const VIFS = [['0', [['backend', '/be/0'], ['backend-id', '0'], ['handle', '0'], ['mac', '00:16:3E:00:00:01'], ['state', '4'], ['event-channel', '9'], ['tx-ring-ref', '768'], ['rx-ring-ref', '769']]]]; // prettier-ignore
const POOL = ['u1', ['name_label', 'Pool-0'], ['sched_policy', 'credit'], ['activated', true], ['ncpu', 2], ['host_CPU_numbers', 1, 0], ['started_VM_names', 'Domain-0', 'a']]; // prettier-ignore
const CREDIT2 = {
  'xend.node.info': [
    ['system', 'Linux'],
    ['xen_scheduler', 'credit2'],
  ],
};
const SEDF = {
  'xend.node.info': [
    ['system', 'Linux'],
    ['xen_scheduler', 'sedf'],
  ],
};
const DOMS = { 'xend.domains_with_state': [['domain', ['domid', 3], ['name', 'a']]] };

const cases: readonly Case[] = [
  { line: 'suspend a', calls: ['xend.domain.suspend("a")'] },
  { line: 'resume -p a', calls: ['xend.domain.resume("a",true)'] },
  { line: 'resume a b', code: 1, out: /^Usage: xm resume/, err: 'Error: Wrong number of parameters\n' },
  { line: 'save -c a f', calls: [`xend.domain.save("a","DIR/f",true)`] },
  { line: 'save a /no/such/f', code: 1, err: 'Error: xm save: Unable to create file /no/such/f\n' },
  { line: 'restore there -p', calls: ['xend.domain.restore("DIR/there",true)'] },
  { line: 'restore none', code: 1, err: 'Error: xm restore: Unable to read file DIR/none\n' },
  { line: 'migrate a h', calls: ['xend.domain.migrate("a","h",0,0,-1,null,0)'] },
  { line: 'migrate -lsc -p 8003 --node=1 a h', calls: ['xend.domain.migrate("a","h",1,8003,1,1,1)'] },
  { line: 'migrate a', code: 1, out: /^Usage: xm migrate <Domain> <Host>\n/, err: 'Error: Invalid number of arguments\n' },
  { line: 'migrate -p x a h', code: 1, err: 'Error: Invalid value: x\n' },
  { line: 'dump-core a', calls: ['xend.domain.dump("a",null,false,false,false)'], out: 'Dumping core of domain: a ...\n' },
  { line: 'dump-core -LC a f', calls: ['xend.domain.dump("a","DIR/f",true,true,false)'], out: 'Dumping core of domain: a ...\n' },
  { line: 'dump-core -CR a', code: 1, out: /\n\n$/, err: "Error: You may not specify more than one '-CR' option\n" },
  { line: 'usb-add a host:1.2', calls: ['xend.domain.usb_add("a","host:1.2")'] },
  { line: 'usb-del a host:1.2', calls: ['xend.domain.usb_del("a","host:1.2")'] },
  { line: 'mem-max a 12x', code: 1, out: /^ignoring unknown unit\nUsage: xm mem-max/, err: 'Error: Invalid argument.\n' },
  { line: 'trigger a nmi 1', calls: ['xend.domain.send_trigger("a","nmi",1)'] },

  { line: 'block-configure a file:/d hda r', calls: ['xend.domain.device_configure("a",["vbd",["uname","file:/d"],["dev","hda"],["mode","r"]])'] },
  { line: 'block-attach a tap2:aio:/d xvdb w 1', calls: ['xend.domain.device_create("a",["tap2",["uname","tap2:aio:/d"],["dev","xvdb"],["mode","w"],["backend","1"]])'] },
  { line: 'block-detach a xvdb -f', answers: { 'xend.domain.getBlockDeviceClass': 'tap', 'xend.domain.destroyDevice': null }, calls: ['xend.domain.getBlockDeviceClass("a","xvdb")', 'xend.domain.destroyDevice("a","tap","xvdb",true,true)'] },
  { line: 'network-detach a 00:16:3e:00:00:01', answers: { 'xend.domain.getDeviceSxprs': VIFS, 'xend.domain.destroyDevice': null }, calls: ['xend.domain.getDeviceSxprs("a","vif")', 'xend.domain.destroyDevice("a","vif","0",false,true)'] },
  { line: 'network-detach a 0 --now', calls: ['xend.domain.destroyDevice("a","vif","0",false,true)'], out: 'Ignoring option --now\n' },
  { line: 'network2-attach a bridge=b pdev=e', calls: ['xend.domain.device_create("a",["vif2",["bridge","b"],["pdev","e"]])'] },
  { line: 'network2-detach a 1 -f', calls: ['xend.domain.destroyDevice("a","vif2","1",true,true)'] },
  { line: 'network2-list a', answers: { 'xend.domain.getDeviceSxprs': [[0, [['backend', '/x']]]] }, out: '(0 ((backend /x)))\n' },
  { line: 'network-attach a mac=', code: 1, out: /^Usage: xm network-attach/, err: 'Error: Invalid argument: mac=\n' },

  { line: 'pci-list a', answers: { 'xend.domain.getDeviceSxprs': [] }, out: '' },
  { line: 'pci-list a', answers: { 'xend.domain.getDeviceSxprs': [{ domain: '0x0000', bus: '0x03', slot: '0x1f', func: '0x1', vdevfn: '0x20', key: 'k' }, { domain: '0x0000', bus: '0x02', slot: '0x00', func: '0x0', vdevfn: '0x100', key: 'k' }] }, out: 'Vdev Device\n04.0 0000:03:1f.1\n-    0000:02:00.0\n' },
  { line: 'pci-list-assignable-devices', answers: { 'xend.node.pciinfo': null }, out: 'Error: pciback/pci-stub not loaded?\n' },
  { line: 'pci-list-assignable-devices', answers: { 'xend.node.pciinfo': [['dev', ['domain', '0x0000'], ['bus', '0x1'], ['slot', '0x2'], ['func', '0x3']]] }, out: '0000:01:02.3\n' },
  { line: 'pci-attach -o msitranslate=1 a 1:2.3 4', answers: { 'xend.domain.getDeviceSxprs': [], 'xend.domain.device_configure': null }, calls: ['xend.domain.getDeviceSxprs("a","pci")', 'xend.domain.device_configure("a",["pci",["dev",["slot","0x02"],["domain","0x0000"],["key","1:2.3@4"],["bus","0x01"],["vdevfn","0x20"],["func","0x3"],["opts",["msitranslate","1"]]],["state","Initialising"]])'] },
  { line: 'pci-attach a b', code: 1, out: /\n\n$/, err: 'Error: Failed to parse pci device: b\n' },
  { line: 'pci-attach -o x a b', code: 1, err: 'Error: Invalid pci attach option: x\n', out: /^Usage/ },
  { line: 'pci-detach a 1:2.3', answers: { 'xend.domain.getDeviceSxprs': [] }, code: 1, out: /^Usage/, err: 'Error: pci: device 0000:01:02.3 is not attached!\n' },
  { line: 'scsi-list a', answers: { 'xend.domain.getDeviceSxprs': [[0, [['devs', [['dev', ['p-dev', '1:0:0:0'], ['p-devname', 'sda'], ['v-dev', '0:0:0:1'], ['frontstate', '4']], ['dev', ['p-dev', '1:0:0:1'], ['p-devname', 'sdb'], ['v-dev', '0:0:0:0'], ['frontstate', '4']]]], ['backend-id', '0'], ['state', '4'], ['feature-host', '0']]]] }, out: 'Idx BE  state host  phy-hctl   phy   vir-hctl   devstate\n0   0   4     0     1:0:0:1    sdb   0:0:0:0    4   \n0   0   4     0     1:0:0:0    sda   0:0:0:1    4   \n' },
  { line: 'scsi-attach a /dev/sda 0:0:0:0', code: 1, out: /^Usage/, err: "Error: Cannot find device '/dev/sda'\n" },
  { line: 'scsi-detach a 0:0:0:0', calls: ['xend.domain.device_configure("a",["vscsi",["feature-host",0],["dev",["state",5],["devid",0],["p-dev",null],["p-devname",null],["v-dev","0:0:0:0"]]])'] },
  { line: 'usb-list a', answers: { 'xend.domain.getDeviceSxprs': [[0, [['usb-ver', '2'], ['backend-id', '0'], ['state', '4'], ['backend', '/b'], ['port', ['1', '']]]]] }, out: /^Idx BE {2}state usb-ver {2}BE-path {23}\n0 {3}0 {3}4 {5}USB2\.0 {2}\/b {30}\nport 1: \n$/ },
  { line: 'usb-list-assignable-devices', out: '' },
  { line: 'usb-hc-create a 2 2', calls: ['xend.domain.device_create("a",["vusb",["usb-ver","2"],["num-ports","2"],["port",["1",""],["2",""]]])'] },
  { line: 'usb-hc-destroy a 0', calls: ['xend.domain.destroyDevice("a","vusb","0")'] },
  { line: 'usb-attach a 1 1 1-1', answers: { 'xend.domain.getDeviceSxprs': [] }, out: "Cannot find device '1' in domain 'a'\n" },
  { line: 'usb-detach a 0 1', calls: ['xend.domain.device_configure("a",["vusb",["port",["1",""]]],"0")'] },

  { line: 'cpupool-list', answers: { 'xend.cpu_pool.list': [POOL] }, calls: ['xend.cpu_pool.list([])'], out: 'Name               CPUs   Sched     Active   Domain count\nPool-0               2    credit       y          2\n' },
  { line: 'cpupool-list -c Pool-0', answers: { 'xend.cpu_pool.list': [POOL] }, calls: ['xend.cpu_pool.list(["Pool-0"])'], out: 'Name             CPU list\nPool-0           0,1\n' },
  { line: 'cpupool-list x', answers: { 'xend.cpu_pool.list': [] }, err: "Error: Pool 'x' does not exist.\n" },
  { line: 'cpupool-start p', calls: ['xend.cpu_pool.start("p")'] },
  { line: 'cpupool-destroy p', calls: ['xend.cpu_pool.destroy("p")'] },
  { line: 'cpupool-delete p', calls: ['xend.cpu_pool.delete("p")'] },
  { line: 'cpupool-cpu-add p 1', calls: ['xend.cpu_pool.cpu_add("p","1")'] },
  { line: 'cpupool-cpu-remove p 1', calls: ['xend.cpu_pool.cpu_remove("p","1")'] },
  { line: 'cpupool-migrate a p', calls: ['xend.cpu_pool.migrate("a","p")'] },
  { line: 'cpupool-create pool cpus=0-2,^1', calls: ['xend.cpu_pool.create(["pool",["name_label","P1"],["sched_policy","credit"],["ncpu",2],["proposed_CPUs",0,2],["other_config"]])'], out: 'Using config file "./pool".\n' },
  { line: 'cpupool-new pool name=q', calls: ['xend.cpu_pool.new(["pool",["name_label","q"],["sched_policy","credit"],["ncpu",1],["proposed_CPUs",[]],["other_config"]])'], out: 'Using config file "./pool".\n' },
  { line: 'cpupool-create -n pool cpus=#4', out: 'Using config file "./pool".\n(pool\n    (name_label P1)\n    (sched_policy credit)\n    (ncpu 4)\n    (proposed_CPUs ())\n    (other_config)\n)\n' },

  { line: 'tmem-list -l -a', answers: { 'xend.node.tmem_list': 'G=Tt' }, calls: ['xend.node.tmem_list(-1,true)'], out: 'G=Tt\n' },
  { line: 'tmem-list x', code: 1, out: /^Usage/, err: 'Error: Unrecognized domain id: x\n' },
  { line: 'tmem-freeze 3', calls: ['xend.node.tmem_freeze(3)'] },
  { line: 'tmem-thaw -a', calls: ['xend.node.tmem_thaw(-1)'] },
  { line: 'tmem-destroy 3', calls: ['xend.node.tmem_destroy(3)'] },
  { line: 'tmem-flush -a -p 5', calls: ['xend.node.tmem_flush(-1,5)'] },
  { line: 'tmem-set 3 weight=2 cap=1', calls: ['xend.node.tmem_set_weight(3,2)', 'xend.node.tmem_set_cap(3,1)'] },
  { line: 'tmem-set 3 colour=2', code: 1, out: /^Usage/, err: 'Error: Unrecognized tmem configuration option: colour=2\n' },
  { line: 'tmem-freeable', answers: { 'xend.node.tmem_query_freeable_mb': 0 }, out: '0\n' },
  { line: 'tmem-shared-auth 3 -u u -A 1', calls: ['xend.node.tmem_shared_auth(3,"u","1")'] },

  { line: 'sched-credit2', answers: { ...CREDIT2, ...DOMS, 'xend.domain.sched_credit2_get': { weight: 256 } }, out: 'Name                                ID Weight\na                                    3    256\n' },
  { line: 'sched-credit2 -d a -w 3', answers: { ...CREDIT2, 'xend.domain.sched_credit2_set': 0 }, calls: ['xend.node.info()', 'xend.domain.sched_credit2_set("a",3)'] },
  { line: 'sched-sedf', answers: { ...SEDF, ...DOMS, 'xend.domain.cpu_sedf_get': ['sedf', ['domid', 3], ['period', 20_000_000], ['slice', 5_000_000], ['latency', 0], ['extratime', 1], ['weight', 0]] }, out: 'Name                                ID Period(ms) Slice(ms) Lat(ms) Extra Weight\na                                    3      20.0       5.0     0.0      1      0\n' },
  { line: 'sched-sedf a -p 10', answers: { ...SEDF, ...DOMS, 'xend.domain.cpu_sedf_get': ['sedf', ['period', 1], ['slice', 2], ['latency', 3], ['extratime', 4], ['weight', 5]], 'xend.domain.cpu_sedf_set': 0 }, calls: ['xend.node.info()', 'xend.domains_with_state(true,"running",false)', 'xend.domain.cpu_sedf_get("3")', 'xend.domain.cpu_sedf_set("3",10000000,2,3,4,5)'] },
  { line: 'sched-sedf', answers: CREDIT2, code: 1, err: 'Error: Xen is running with the credit2 scheduler\n' },

  { line: 'vnet-list', out: 'Status\nErrorDescription\n' },
  { line: 'vnet-list x', out: `"{'Status': 'Failure', 'ErrorDescription': ['MESSAGE_METHOD_UNKNOWN', 'xend_vnet']}"\n` },
  { line: 'vnet-create nowhere', code: 1, out: 'File not found: nowhere\n' },
  { line: 'event-monitor', err: 'Error: Event monitoring not supported unless using Xen-API.\n' },
  { line: 'network-new n', code: 1, err: 'Error: This function is only supported by Xen-API\n' },

  { line: 'labels type=any', answers: { 'xend.security.list_labels': [] }, calls: ['xend.security.list_labels(null,"any")'] },
  { line: 'labels a b', code: 1, out: /^Usage/, err: 'Error: policy is defined twice\n' },
  { line: 'resources', answers: { 'xend.security.get_labeled_resources': {} }, out: '' },
  { line: 'getpolicy', answers: { 'xend.security.get_xstype': 0 }, out: 'Supported security subsystems   : None \n\nNo policy is installed.\n' },
  { line: 'resetpolicy', answers: { 'xend.security.get_xstype': 0 }, code: 1, err: "Error: 'ACM policy type not supported.'\n" },
  { line: 'setpolicy odd p', code: 1, out: /^Usage/, err: "Error: Unsupported policytype 'odd'.\n" },
  { line: 'setpolicy flask there', code: 1, err: "Error: 'Policy type not supported.'\n" },
  { line: 'dumppolicy', out: '' },
  { line: 'getenforce', code: 1, out: /^Usage/, err: 'Error: Unsupported policy type\n' },
  { line: 'setenforce perhaps', code: 1, out: /^Usage/, err: 'Error: perhaps is an unsupported mode\n' },
  { line: 'setenforce 1', code: 1, out: /^Usage/, err: 'Error: Unsupported policy type\n' },
  { line: 'getlabel res r', answers: { 'xend.security.get_resource_label': '' }, code: 1, err: "Error: 'Resource not labeled'\n" },
  { line: 'getlabel dom labelled', out: 'policytype=ACM,policy=p,label=l\n' },
  { line: 'getlabel mgt a', answers: { 'xend.security.get_domain_label': '' }, out: '\n' },
  { line: 'addlabel l dom labelled p', code: 1, err: 'Error: "Config file \'labelled\' is already labeled."\n' },
  { line: 'addlabel l dom there p', code: 1, out: /^Invalid configuration file\.\nUsage: xm addlabel/, err: 'Error: Invalid config file\n' },
  { line: 'rmlabel dom there', code: 1, err: "Error: 'Domain not labeled'\n" },
  { line: 'dry-run guest', out: 'Using config file "./guest".\nChecking domain:\n   g: PERMITTED\nChecking resources:\n   phy:a: PERMITTED\nDry Run: PASSED\n' },

  { line: 'save a f', answers: { 'xend.domain.save': fault(2, 'no room') }, code: 1, out: /^Usage: xm save/, err: 'Error: no room\n' },
  { line: 'suspend a', answers: { 'xend.domain.suspend': fault(3, 'a') }, code: 3, err: "Error: Domain 'a' does not exist.\n" },
  { line: 'domstate --bogus', code: 1, out: /^Usage: xm domstate/, err: 'Error: option --bogus not recognized\n' },
  { line: 'top x', code: 1, out: /^Usage: xm top/, err: "Error: 'xm top' requires 0 arguments.\n\n" },
  { line: 'serve x', code: 1, out: /^Usage: xm serve/, err: "Error: 'xm serve' requires 0 arguments.\n\n" },
]; // prettier-ignore

const anything = new Proxy<Record<string, Answer>>(
  {},
  { get: (_target, name) => (String(name).startsWith('xend.') ? null : undefined) },
);

describe('commands', () => {
  beforeAll(() => {
    writeFileSync(join(directory, 'there'), '');
    writeFileSync(join(directory, 'pool'), 'name = "P1"\n');
    writeFileSync(
      join(directory, 'labelled'),
      "name = 'x'\nkernel = '/k'\nmemory = 4\naccess_control = ['policy=p,label=l']\n",
    );
    writeFileSync(join(directory, 'guest'), "name = 'g'\ndisk = ['phy:a,xvda,w']\n");
  });

  it.each(cases.map((one) => [one.line, one] as const))('xm %s', async (_line, one) => {
    const { code, out, err } = await xm(one.line.split(' '), one.answers ?? anything);
    const at = (text: string): string => text.replaceAll('DIR', dir());
    expect([code, err]).toEqual([one.code ?? 0, at(one.err ?? '')]);
    if (one.out instanceof RegExp) expect(out).toMatch(one.out);
    else expect(out).toBe(at(one.out ?? ''));
    if (one.calls) expect(xend.calls).toEqual(one.calls.map(at));
  });

  it("shows xend's settings where its defaults have them, and the defaults", async () => {
    writeFileSync(
      join(directory, 'xend-config.sxp'),
      '(xend-port 9000)\n(vnc-listen)\n(xen-api-server ((unix none)))\n',
    );
    const env = { XEND_CONFIG: join(directory, 'xend-config.sxp'), XM_SERVER: `httpu://${xend.socketPath}` };
    const { out } = await inWorld((world) => runXm(['info', '-c'], world), { env, cwd: directory });
    const lines = out.split('\n');
    expect(lines).toHaveLength(48);
    expect(lines.slice(0, 5)).toEqual([
      'block_script_dir                      : /etc/xen/scripts',
      'xend-port                             : 9000',
      'vnc-listen                            : (none)',
      "xen-api-server                        : [['unix', 'none']]",
      'config_default                        : /etc/xen/xend-config.sxp',
    ]);
    expect(lines).toContain('xend_port_default                     : 8000');
    expect(lines).toContain("xen_api_server_default                : [['unix']]");
    expect(lines).toContain('vncpasswd_default                     : None');
  });

  it('says so when xend does not have a method', async () => {
    expect(await xm(['suspend', 'a'])).toEqual({
      code: 1,
      out: '',
      err: 'Error: This xend has no method xend.domain.suspend\n',
      ran: [],
    });
  });

  it('has every name of Xen 4.4', () => {
    const rows = commands.filter((command) => !command.own);
    expect(rows).toHaveLength(102);
    expect(new Set(rows.map((command) => command.name)).size).toBe(rows.length);
    for (const current of Object.values(aliases)) expect(rows.map((row) => row.name)).toContain(current);
  });

  it('lists as JSON what it lists', async () => {
    const answers = { 'xend.domain.getDeviceSxprs': VIFS, 'xend.cpu_pool.list': [POOL], ...DOMS };
    expect(JSON.parse((await xm(['network-list', 'a', '--json'], answers)).out)).toEqual([
      expect.objectContaining({ devid: 0, mac: '00:16:3E:00:00:01', 'tx-ring-ref': '768' }),
    ]);
    expect(JSON.parse((await xm(['cpupool-list', '--json'], answers)).out)).toEqual([
      { name: 'Pool-0', cpus: ['0', '1'], cpuCount: 2, sched: 'credit', active: true, domains: ['Domain-0', 'a'] },
    ]);
    expect(JSON.parse((await xm(['list', '--json'], answers)).out)).toEqual([
      { name: 'a', domid: 3, uuid: '', memory_mib: 0, vcpus: 0, state: '', cpu_time_s: 0 },
    ]);
    expect(JSON.parse((await xm(['list', '-l', '--json'], answers)).out)).toEqual([{ domid: 3, name: 'a' }]);
    // A command that lists nothing takes the word as any other.
    expect((await xm(['destroy', '--json'], { 'xend.domain.destroy': fault(3, '--json') })).code).toBe(3);
  });
});
