/** Ways to a server: ssh with `xm serve` on the far side, xm-config.xml, the Xen-API; and the shell over one connection. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex, PassThrough } from 'node:stream';
import { runXm } from '../cli.ts';
import { splitWords } from '../commands/shell.ts';
import type { XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { FakeXend, success, type Answer } from '../testing/fake-xend.ts';
import { inWorld, type Outcome } from '../testing/fake-world.ts';
import type { World } from '../world.ts';
import { XmlError, descendants, parseXml } from '../xml.ts';

let directory: string;
let xend: FakeXend;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
  mkdirSync(join(directory, 'xend'));
  xend = new FakeXend(join(directory, 'xend', 'xmlrpc.sock'));
  await xend.start();
});

afterEach(async () => {
  await xend.stop();
  rmSync(directory, { recursive: true, force: true });
});

function xm(line: readonly string[], env: NodeJS.ProcessEnv = {}, world: Partial<World> = {}): Promise<Outcome> {
  const all = { XM_SERVER: `httpu://${xend.socketPath}`, HOME: '/nowhere', ...env };
  return inWorld((made) => runXm(line, made), { cwd: directory, ...world, env: all });
}

function input(...lines: string[]): PassThrough {
  const stream = new PassThrough();
  stream.end(lines.map((line) => `${line}\n`).join(''));
  return stream;
}

describe('ssh', () => {
  it('asks through one ssh for all calls', async () => {
    xend.answers = { 'xend.domain.pause': null, 'xend.domain.setpauseflag': null };
    const started: string[] = [];
    const outcome = await xm(['pause', 'a'], { XM_SERVER: 'ssh://me@far' }, {
      connect: (command, args) => {
        started.push([command, ...args].join(' '));
        // The far side's xm serve is a pipe to the socket there.
        const socket = connect(xend.socketPath);
        return Duplex.from({ readable: socket, writable: socket });
      },
    }); // prettier-ignore
    expect(outcome).toEqual({ code: 0, out: '', err: '', ran: [] });
    expect(started).toEqual(['ssh me@far xm serve']);
    expect(xend.calls).toEqual(['xend.domain.pause("a")', 'xend.domain.setpauseflag("a",true)']);
  });

  it('tells when there is no ssh', async () => {
    const broken = (): Duplex => {
      const stream = new Duplex({
        read: () => undefined,
        write: (_chunk, _encoding, done) => {
          done();
        },
      });
      setImmediate(() => stream.destroy(Object.assign(new Error('spawn ssh ENOENT'), { code: 'ENOENT' })));
      return stream;
    };
    const { code, err } = await xm(['list'], { XM_SERVER: 'ssh://far' }, { connect: broken });
    expect([code, err]).toEqual([1, 'Error: ssh executable not found!\n']);
  });
});

describe('serve', () => {
  it('passes bytes both ways until the input ends', async () => {
    xend.answers = { 'xend.node.log': 'text' };
    const stdin = new PassThrough();
    const body =
      '<?xml version="1.0"?><methodCall><methodName>xend.node.log</methodName><params></params></methodCall>';
    stdin.write(`POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    let seen = '';
    const outcome = xm(['serve'], { XENHOST_RUN: directory }, {
      stdin,
      write: (bytes) => {
        seen += Buffer.from(bytes).toString();
        if (seen.includes('</methodResponse>')) stdin.end();
        return Promise.resolve();
      },
    }); // prettier-ignore
    expect((await outcome).code).toBe(0);
    expect(seen).toMatch(/^HTTP\/1\.1 200 OK\r\n[\s\S]*<string>text<\/string>/);
  });
});

const apiConfig = (): NodeJS.ProcessEnv => {
  const file = join(directory, 'xm-config.xml');
  writeFileSync(
    file,
    `<?xml version="1.0"?><!-- how --><xm><server type='Xen-API' uri='httpu://${xend.socketPath}' username='me' password='p&amp;q'/></xm>`,
  );
  return { XM_CONFIG_FILE: file };
};

const LOGIN: Readonly<Record<string, Answer>> = {
  'session.login_with_password': success('s1'),
  'session.logout': success(''),
  'session.get_this_host': success('h'),
  'VM.get_by_name_label': (_session, name) => success(name === 'a' ? ['vm1'] : []),
  'VM.get_all': success(['vm0', 'vm1']),
  'VM.get_domid': (_session, ref) => success(ref === 'vm1' ? '4' : '0'),
};

describe('the Xen-API', () => {
  const call = async (line: string, answers: Readonly<Record<string, Answer>>): Promise<Outcome> => {
    xend.answers = { ...LOGIN, ...answers };
    return xm(line.split(' '), apiConfig());
  };

  it.each([
    ['pause a', 'VM.pause', 'VM.pause("s1","vm1")'],
    ['unpause 4', 'VM.unpause', 'VM.unpause("s1","vm1")'],
    ['destroy a', 'VM.hard_shutdown', 'VM.hard_shutdown("s1","vm1")'],
    ['shutdown a', 'VM.clean_shutdown', 'VM.clean_shutdown("s1","vm1")'],
    ['reboot a', 'VM.clean_reboot', 'VM.clean_reboot("s1","vm1")'],
    ['start -p a', 'VM.start', 'VM.start("s1","vm1",true)'],
    ['suspend a', 'VM.suspend', 'VM.suspend("s1","vm1")'],
    ['resume a', 'VM.resume', 'VM.resume("s1","vm1",false)'],
    ['rename a b', 'VM.set_name_label', 'VM.set_name_label("s1","vm1","b")'],
    ['delete a', 'VM.destroy', 'VM.destroy("s1","vm1")'],
    ['mem-max a 4096', 'VM.set_memory_static_max', 'VM.set_memory_static_max("s1","vm1","4194304")'],
    ['sysrq a h', 'VM.send_sysrq', 'VM.send_sysrq("s1","vm1","h")'],
    ['debug-keys q', 'host.send_debug_keys', 'host.send_debug_keys("s1","h","q")'],
    ['network-new n', 'network.create', 'network.create("s1",{"name_label":"n","name_description":"","other_config":{},"default_gateway":"","default_netmask":""})'],
  ])('xm %s', async (line, method, expected) => {
    expect(await call(line, { [method]: success('') })).toEqual({ code: 0, out: '', err: '', ran: [] });
    expect(xend.calls[0]).toBe('session.login_with_password("me","p&q")');
    expect(xend.calls).toContain(expected);
    expect(xend.calls.at(-1)).toBe('session.logout("s1")');
  }); // prettier-ignore

  it('lists', async () => {
    const answers = {
      'VM.get_all_records': success({
        vm1: { uuid: 'vm1', name_label: 'a', domid: '4', metrics: 'm1', pool_name: 'Pool-0' },
      }),
      'VM_metrics.get_all_records': success({
        m1: {
          memory_actual: String(64 * 2 ** 20),
          VCPUs_number: '2',
          VCPUs_utilisation: { 0: '1.5', 1: '2.5' },
          state: ['blocked'],
          start_time: '',
        },
      }),
    };
    expect((await call('list', answers)).out).toBe(
      'Name                                        ID   Mem VCPUs      State   Time(s)\n' +
        'a                                            4    64     2     -b----      2.0\n',
    );
    const long = await call('list -l a', answers);
    expect(long.out.split('\n')).toEqual([
      '(domain',
      ...['(pool_name Pool-0)', '(cpu_time "{\'1\': \'2.5\', \'0\': \'1.5\'}")', '(uuid vm1)', '(start_time 0.0)', '(memory_actual 65536)', '(name_label a)', '(vcpus 2)', '(domid 4)', '(metrics m1)', '(state -b----)', '(name a)'].map((line) => `    ${line}`),
      ')',
      '',
    ]); // prettier-ignore
    expect(await call('list nobody', answers)).toEqual({
      code: 255,
      out: 'Error: no domain named nobody\n',
      err: '',
      ran: [],
    });
  });

  it('creates a machine with its disks and interfaces, and starts it', async () => {
    writeFileSync(join(directory, 'cfg'), "name = 'n'\nmemory = 32\nextra = 'ro'\ndisk = ['file:/d,xvda,w']\nvif = ['mac=00:16:3e:00:00:01,bridge=b']\n"); // prettier-ignore
    const outcome = await call('create -q cfg', {
      'VDI.get_all_records': success({ other: { other_config: {} } }),
      'SR.get_all': success(['sr']),
      'SR.get_type': success('local'),
      'VDI.create': success('vdi'),
      'VM.create': success('new'),
      'VBD.create': success('vbd'),
      'network.get_all_records': success({ net: { name_label: 'b' } }),
      'VIF.create': success('vif'),
      'VM.start': success(''),
    });
    expect(outcome).toEqual({ code: 0, out: '', err: '', ran: [] });
    const made = xend.calls.filter((line) => /^(?:V|n)/.test(line)).join('\n');
    expect(made).toMatch(/^VDI\.create\("s1",\{.*"location":"file:\/d"/m);
    expect(made).toMatch(/^VM\.create\("s1",\{"name_label":"n",.*"memory_dynamic_max":"33554432".*"PV_args":"ro"/m);
    expect(made).toContain('VBD.create("s1",{"VM":"new","VDI":"vdi","device":"xvda","bootable":true,"mode":"RW"');
    expect(made).toContain('"network":"net","device":"eth0","MAC":"00:16:3e:00:00:01"');
    expect(made).toContain('VM.start("s1","new",false)');
    expect(made).toContain('"other_config":{"transient":"True"}');
  });

  it.each([
    ['new -q cfg on_crash=fly', 'Error: Invalid argument.\n'],
    ['new -q cfg on_reboot=rename-restart', 'Error: Invalid argument.\n'],
    ['create -q cfg vif=bridge=none', "Error: Network none doesn't exist\n"],
  ])('refuses %s, and leaves nothing', async (line, err) => {
    writeFileSync(join(directory, 'cfg'), "name = 'n'\nmemory = 32\ndisk = ['file:/d,xvda,w', 'file:/e,xvdb,w']\n");
    const outcome = await call(line, {
      'VDI.get_all_records': success({ there: { other_config: { location: 'file:/d' } } }),
      'SR.get_all': success(['sr']),
      'SR.get_type': success('local'),
      'VDI.create': success('made'),
      'VDI.destroy': success(''),
      'VM.create': success('new'),
      'VM.destroy': success(''),
      'VBD.create': success('vbd'),
      'network.get_all_records': success({ net: { name_label: 'b' } }),
    });
    expect(outcome).toMatchObject({ code: 1, err });
    const ended = xend.calls.filter((made) => /\.(?:create|destroy)\(/.test(made)).map((made) => made.slice(0, 90));
    if (line.startsWith('new')) expect(ended).toEqual([]);
    else expect(ended.slice(-2)).toEqual(['VM.destroy("s1","new")', 'VDI.destroy("s1","made")']);
    // What was there is used, and stays.
    if (line.startsWith('create')) expect(xend.calls.join('\n')).toContain('VBD.create("s1",{"VM":"new","VDI":"there"');
  });

  it('takes XML as it prints it', async () => {
    writeFileSync(join(directory, 'cfg'), "name = 'a<b'\ndisk = ['file:/d,xvda,r']\nvfb = ['vnc=1']\n");
    const printed = await call('new -qx cfg', {});
    writeFileSync(join(directory, 'xml'), printed.out);
    const answers = { 'VDI.get_all_records': success({}), 'SR.get_all': success(['sr']), 'SR.get_type': success('local'), 'VDI.create': success('d'), 'VM.create': success('m'), 'VBD.create': success(''), 'console.create': success('') }; // prettier-ignore
    expect(await call('new -q xml', answers)).toEqual({ code: 0, out: '', err: '', ran: [] });
    const fromXml = xend.calls.find((line) => line.startsWith('VM.create'));
    expect(fromXml).toContain('"name_label":"a<b"');
    await call('new -q cfg', answers);
    expect(xend.calls.filter((line) => line.startsWith('VM.create'))[1]).toBe(fromXml);
  });

  it('logs in again when the session has expired', async () => {
    let expired = true;
    const { code } = await call('pause a', {
      'VM.pause': () => {
        if (!expired) return success('');
        expired = false;
        return { Status: 'Failure', ErrorDescription: ['SESSION_INVALID', 's1'] };
      },
    });
    expect(code).toBe(0);
    expect(xend.calls.filter((line) => line.startsWith('session.login'))).toHaveLength(2);
  });

  it('tells failures, and what it cannot do', async () => {
    const failure = { Status: 'Failure', ErrorDescription: ['HANDLE_INVALID', 'VM', 'vm1'] };
    expect(await call('pause a', { 'VM.pause': failure })).toEqual({
      code: 1,
      out: '',
      err: '\nThe VM handle vm1 is invalid.\n\n',
      ran: [],
    });
    expect((await call('pause zz', {})).err).toBe("Error: Domain 'zz' not found.\n");
    for (const line of ['usb-list a', 'usb-list', 'vnet-create a b']) {
      expect((await call(line, {})).err).toBe('Error: This function is not supported by Xen-API\n');
    }
  });

  it.each([
    ['pool before domain', 'cpupool-migrate zz p', { 'cpu_pool.get_by_name_label': success([]) }, 'Error: unknown pool name\n'],
    ['domain before words', 'network-attach zz colour=red', {}, "Error: Domain 'zz' not found.\n"],
    ['no policy', 'dumppolicy', {}, `Error: "An error occurred getting the running policy: 'No policy is installed.'"\n`],
    ['a failure without a text', 'start a', { 'VM.start': { Status: 'Failure', ErrorDescription: ['VM_BAD_POWER_STATE', 'vm1', 'Halted', 'Running'] } },
      "'VM_BAD_POWER_STATE'\n\nXen-API failure: ['VM_BAD_POWER_STATE', 'vm1', 'Halted', 'Running']\n\n"],
  ])('says first: %s', async (_what, line, answers, err) => {
    expect(await call(line, answers)).toMatchObject({ code: 1, err });
  }); // prettier-ignore

  it('shows pools with the parts of lists beside their names, and no time for what does not run', async () => {
    const pool = { uuid: 'u', name_label: 'P', started_VMs: [], host_CPUs: ['c0', 'c1'], proposed_CPUs: ['0', '1'] };
    const { out } = await call('cpupool-list -l', {
      'cpu_pool.get_all_records': success({ u: pool }),
      'host_cpu.get_all_records': success({ c0: { number: '0' }, c1: { number: '1' } }),
    });
    for (const line of ['(started_VMs)', '(host_CPUs c0 c1)', '(proposed_CPUs 0 1)', '(host_CPU_numbers 0 1)']) {
      expect(out).toContain(`    ${line}\n`);
    }
    const halted = { uuid: 'vm1', name_label: 'a', domid: '-1', metrics: 'm1' };
    const shown = await call('uptime', {
      'VM.get_all_records': success({ vm1: halted }),
      'VM_metrics.get_all_records': success({ m1: { start_time: new Date(0) } }),
    });
    expect(shown.out.split('\n')[1]).toBe('a                                   -1  0:00:00');
  });

  it.each([
    ['getlabel mgt zz', 'Error: A VM with that name does not exist.\n'],
    ['getlabel vif-1 a', 'Error: Bad VIF index.\n'],
    ['addlabel l mgt a ACM:p', "Error: 'Could not label the domain: The policy is not loaded'\n"],
    ['addlabel l vif-0 zz ACM:p', 'Error: A VM with the name zz does not exist.\n'],
    ['rmlabel mgt a', `Error: "Could not remove label from domain: 'Domain was not labeled.'"\n`],
    ['rmlabel vif-0 a', `Error: "Could not remove the label from the VIF: 'VIF is not labeled.'"\n`],
    ['rmlabel res phy:a', `Error: "Could not remove label from resource: 'Resource not labeled'"\n`],
    ['addlabel l res phy:a p', "Error: 'Could not label this resource: Internal error: no.'\n"],
  ])('xm %s, on a host without a policy', async (line, err) => {
    const refusal = { Status: 'Failure', ErrorDescription: ['SECURITY_ERROR', '-1', 'The policy is not loaded'] };
    const outcome = await call(line, {
      'VM.get_security_label': success(''),
      'VM.set_security_label': refusal,
      'VM.get_VIFs': success(['vif1']),
      'VIF.get_security_label': success(''),
      'XSPolicy.get_resource_label': success(''),
      'XSPolicy.set_resource_label': { Status: 'Failure', ErrorDescription: ['INTERNAL_ERROR', 'no'] },
    });
    expect(outcome).toMatchObject({ code: 1, err });
  });

  it('lists SCSI devices by their host adapters, in the order of their addresses', async () => {
    const at = (virtual: string): XmlRpcValue => ({
      devid: '0',
      'p-dev': '1:0:0:1',
      'p-devname': 'sdb',
      'v-dev': virtual,
      frontstate: '4',
    });
    const shared = { 'backend-id': '0', state: '4', 'feature-host': '0' };
    const { code, out } = await call('scsi-list a', {
      'VM.get_DSCSIs': success(['d1', 'd2']),
      'DSCSI.get_runtime_properties': (_session: XmlRpcValue, ref: XmlRpcValue) =>
        success({ ...shared, dev: at(ref === 'd1' ? '0:0:0:2' : '0:0:0:1') }),
    });
    expect([code, out.split('\n')]).toEqual([
      0,
      [
        'Idx BE  state host  phy-hctl   phy   vir-hctl   devstate',
        '0   0   4     0     1:0:0:1    sdb   0:0:0:1    4   ',
        '0   0   4     0     1:0:0:1    sdb   0:0:0:2    4   ',
        '',
      ],
    ]);
  });
});

describe('xm-config.xml', () => {
  const withConfig = (text: string): Promise<Outcome> => {
    const file = join(directory, 'c.xml');
    writeFileSync(file, text);
    xend.answers = { 'xend.node.log': '' };
    return xm(['log'], { XM_CONFIG_FILE: file });
  };

  it('may name the legacy server, or nothing, or nonsense', async () => {
    const uri = `httpu://${xend.socketPath}`;
    expect(await withConfig(`<xm><server type="LegacyXMLRPC" uri="${uri}"/></xm>`)).toEqual({ code: 0, out: '\n', err: '', ran: [] }); // prettier-ignore
    expect((await withConfig('<xm></xm>')).err).toBe('');
    expect((await withConfig(`<xm><server type="X" uri="${uri}"/></xm>`)).err).toBe(
      'Invalid server type X; using LegacyXMLRPC.\n',
    );
    expect((await withConfig('<xm><server></xm>')).err).toMatch(/^Ignoring invalid configuration file .*c\.xml\.\n$/);
  });

  it.each([
    '', 'x', '<a>', '<a></b>', '<a/><b/>', '<a b=c/>', '<a b="1" b="2"/>', '<a>&x;</a>', '<a><!-- </a>', '<a', '<a b="<"/>', '</a>',
    '<a>'.repeat(100),
  ])('%j is not XML', (text) => {
    expect(() => parseXml(text)).toThrow(XmlError);
  }); // prettier-ignore

  it('is read with its entities', () => {
    const root = parseXml('<!DOCTYPE a><a x="&lt;&#65;&#x42;"><b>t &amp; u</b><!-- no --><b y=\'2\'/></a>');
    expect(root.attributes).toEqual({ x: '<AB' });
    expect(descendants(root, 'b').map(({ text, attributes }) => [text, attributes['y']])).toEqual([
      ['t & u', undefined],
      ['', '2'],
    ]);
  });
});

describe('the shell', () => {
  it('obeys line after line over one connection', async () => {
    xend.answers = { 'xend.domain': ['domain', ['domid', 3], ['name', 'a']] };
    const stdin = input('domid a', '', 'xm domname "3"', 'frob', 'do x', "domid 'a", 'help domid', 'domid');
    const { code, out, err } = await xm(['shell'], {}, { stdin });
    expect([code, out]).toEqual([
      0,
      'The Xen Master. Type "help" for a list of functions.\n' +
        'xm> 3\nxm> xm> a\nxm> *** Unknown command: frob\nxm> *** Unknown command: do\nxm> *** No closing quotation\n' +
        'xm> Usage: xm domid <DomainName>\n\nShow the id of a domain.\n' +
        'xm> Usage: xm domid <DomainName>\n\nShow the id of a domain.\nxm> \n',
    ]);
    expect(err).toBe("Error: 'xm domid' requires 1 arguments.\n\n");
  });

  it('ends at exit', async () => {
    expect((await xm(['shell'], {}, { stdin: input('exit', 'frob') })).out).toMatch(/xm> $/);
    expect((await xm(['shell'], {}, { stdin: input('EOF', 'frob') })).out).toMatch(/xm> \n$/);
  });

  it('calls methods of the Xen-API', async () => {
    xend.answers = { ...LOGIN, 'host.get_all': success(['h']) };
    const { out } = await xm(['shell'], apiConfig(), { stdin: input('host.get_all') });
    expect(out).toContain('xm> [\n  "h"\n]\nxm> ');
    expect(xend.calls.filter((line) => line.startsWith('session.login'))).toHaveLength(1);
  });

  it.each<[string, string[] | undefined]>([
    ['a  b', ['a', 'b']],
    [`a 'b c'd "e \\" f" \\ g`, ['a', 'b cd', 'e " f', ' g']],
    ["''", ['']],
    ['"a', undefined],
  ])('splits %j', (line, words) => {
    expect(splitWords(line)).toEqual(words);
  });
});
