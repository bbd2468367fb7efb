import { mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@xenhost/base';
import { createLogger } from '@xenhost/daemon-kit';
import { FakeXenctrl } from '@xenhost/testkit';
import { memoryLog, Xend } from '@xenhost/xend';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { startXenstored, type Xenstored } from '@xenhost/xenstored';
import { commands, runXm, type World } from './index.ts';

let directory: string;
let daemon: Xenstored;
let store: XenstoreClient;
let xc: FakeXenctrl;
let xend: Xend;

const NOW_S = 1_700_000_000;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
  mkdirSync(join(directory, 'xend'));
  writeFileSync(join(directory, 'vmlinuz'), 'kernel');
  daemon = await startXenstored({ socketPath: join(directory, 's') }, { log: createLogger('t', { level: 'silent' }) });
  store = await XenstoreClient.connect({ path: join(directory, 's') });
  xc = new FakeXenctrl({ totalMiB: 1024 });
  xend = new Xend(
    {
      servers: [{ service: 'xmlrpc', key: 'xmlrpc', address: { path: join(directory, 'xend', 'xmlrpc.sock') } }],
      stateDirectory: join(directory, 'lib'),
      pollMs: 0,
    },
    {
      xc,
      build: xc.build,
      store,
      clock: new FakeClock(0n, BigInt(NOW_S) * 1_000_000_000n),
      log: memoryLog(),
      host: { system: 'Linux', host: 'tester', release: '6.1', version: '#1', machine: 'x86_64' },
      readFile: () => Promise.resolve(Buffer.from('kernel')),
      sleep: () => Promise.resolve(),
    },
  );
  await xend.start();
});

afterEach(async () => {
  await xend.stop();
  await store.close();
  await daemon.stop();
  rmSync(directory, { recursive: true, force: true });
});

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  readonly ran: readonly string[];
}

async function xm(line: readonly string[], world: Partial<World> = {}): Promise<Outcome> {
  let out = '';
  let err = '';
  const ran: string[] = [];
  const code = await runXm(line, {
    env: { XENHOST_RUN: directory, HOME: '/nowhere', XENHOST_XENCONSOLE: 'the-console' },
    cwd: directory,
    isRoot: true,
    stdin: process.stdin,
    signal: new AbortController().signal,
    terminal: () => undefined,
    write: () => Promise.reject(new Error('no bytes are expected')),
    connect: () => {
      throw new Error('no program is expected');
    },
    out: (text) => (out += text),
    err: (text) => (err += text),
    now: () => new Date((NOW_S + 3 * 86400 + 3723) * 1000),
    sleep: () => new Promise(setImmediate),
    become: () => Promise.reject(new Error('tests name their console client')),
    run: (command, args) => {
      ran.push([command, ...args].join(' '));
      return Promise.resolve(7);
    },
    ...world,
  });
  return { code, out, err, ran };
}

const config = (name: string, text = ''): string => {
  const path = join(directory, name);
  writeFileSync(path, `kernel = 'vmlinuz'\nmemory = 64\n${text}\n`);
  return path;
};
const create = async (name: string, text = ''): Promise<void> => {
  expect(await xm(['create', '-q', config(name, text)])).toEqual({ code: 0, out: '', err: '', ran: [] });
};
const ok = (out: string): Outcome => ({ code: 0, out, err: '', ran: [] });

describe('output', () => {
  it('list', async () => {
    await create('guest', 'vcpus = 2');
    expect(await xm(['list'])).toEqual(
      ok(
        'Name                                        ID   Mem VCPUs      State   Time(s)\n' +
          'Domain-0                                     0     1     2     r-----      1.5\n' +
          'guest                                        1    64     2     -b----      1.5\n',
      ),
    );
    expect((await xm(['list', 'guest', '1'])).out.split('\n')).toHaveLength(4);
    expect((await xm(['list', '--state=paused'])).out.split('\n')).toHaveLength(2);
    expect((await xm(['list', '--pool=Pool-0'])).out.split('\n')).toHaveLength(4);
    expect((await xm(['list', '--label'])).out.split('\n')[0]).toBe(
      'Name                                        ID   Mem VCPUs      State   Time(s) Label     ',
    );
  });

  it('list --long', async () => {
    await create('guest', "uuid = '11111111-2222-4333-8444-555555555555'\nextra = 'console=hvc0 quiet'");
    expect((await xm(['list', '-l', 'guest'])).out).toBe(`(domain
    (domid 1)
    (cpu_weight 256)
    (cpu_cap 0)
    (pool_name Pool-0)
    (bootloader '')
    (vcpus 1)
    (cpus (()))
    (on_poweroff destroy)
    (description '')
    (on_crash restart)
    (uuid 11111111-2222-4333-8444-555555555555)
    (bootloader_args '')
    (name guest)
    (on_reboot restart)
    (maxmem 64)
    (memory 64)
    (shadow_memory 0)
    (features '')
    (on_xend_start ignore)
    (on_xend_stop ignore)
    (start_time 1700000000.0)
    (cpu_time 1.5)
    (online_vcpus 1)
    (image
        (linux
            (kernel ${directory}/vmlinuz)
            (args 'console=hvc0 quiet')
            (superpages 0)
            (videoram 4)
            (tsc_mode 0)
            (nomigrate 0)
            (notes
                (FEATURES '!writable_page_tables|pae_pgdir_above_4gb')
                (GUEST_OS linux)
                (GUEST_VERSION 2.6)
                (LOADER generic)
                (XEN_VERSION xen-3.0)
            )
        )
    )
    (status 2)
    (state -b----)
    (store_mfn 1001)
    (console_mfn 2001)
    (device
        (console
            (protocol vt100)
            (location 2)
            (uuid 11111111-2222-c333-8444-555555555555)
        )
    )
)
`);
  });

  it('vcpu-list', async () => {
    await create('guest', "vcpus = 2\ncpus = ['0', '0-1']");
    await create('other');
    expect(await xm(['vcpu-list', 'guest', 'other'])).toEqual(
      ok(
        'Name                                ID  VCPU   CPU State   Time(s) CPU Affinity\n' +
          'guest                                1     0     0   -b-       1.5 0\n' +
          'guest                                1     1     1   -b-       1.5 any cpu\n' +
          'other                                2     0     0   -b-       1.5 any cpu\n',
      ),
    );
    expect((await xm(['vcpu-list'])).out.split('\n')).toHaveLength(7);
  });

  it('uptime', async () => {
    await create('guest');
    expect((await xm(['uptime', 'guest'])).out).toBe(
      'Name                                ID Uptime \nguest                                1 3 days,  1:02:03\n',
    );
    const clock = new Date((NOW_S + 3 * 86400 + 3723) * 1000).toTimeString().slice(0, 8);
    expect((await xm(['uptime', '-s', 'guest'])).out).toBe(` ${clock} up 3 days,  1:02, guest (1)\n`);
    expect((await xm(['uptime', '0'])).out).toMatch(/^Domain-0 +0 .*\d+:\d\d:\d\d$/m);
  });

  it('sched-credit', async () => {
    await create('guest', 'cpu_weight = 512\ncpu_cap = 50');
    expect(await xm(['sched-credit'])).toEqual(
      ok(
        'Name                                ID Weight  Cap\n' +
          'Domain-0                             0    256    0\n' +
          'guest                                1    512   50\n',
      ),
    );
    expect(await xm(['sched-credit', '-d', 'guest', '-w', '300'])).toEqual(ok(''));
    expect((await xm(['sched-credit', '-d', '1'])).out.split('\n')[1]).toBe(
      'guest                                1    300   50',
    );
    expect((await xm(['sched-credit', '-w', '3'])).err).toBe('Error: No domain given.\n');
    expect((await xm(['sched-credit', '-d', 'x'])).err).toBe("Error: Domain 'x' does not exist.\n");
    expect(await xm(['sched-credit2'])).toEqual({
      code: 1, out: '', err: 'Error: Xen is running with the credit scheduler\n', ran: [],
    }); // prettier-ignore
  });

  it('info', async () => {
    const { out } = await xm(['info']);
    const lines = out.trimEnd().split('\n');
    expect(lines[0]).toBe('host                   : tester');
    expect(lines).toEqual(
      expect.arrayContaining([
        'release                : 6.1',
        'nr_cpus                : 2',
        'total_memory           : 1024',
        'xen_caps               : xen-3.0-x86_64 ',
        'virt_caps              : ',
        'xend_config_format     : 4',
      ]),
    );
    expect((await xm(['info', '-n'])).out).toContain(
      'cpu_topology           : \ncpu:    core    socket     node\n  0:       0        0        0\n  1:       1        0        0\n' +
        'numa_info              : none\n',
    );
  });

  it('dmesg, log', async () => {
    expect(await xm(['dmesg', '-c'])).toEqual(ok('(XEN) Xen version 4.17\n'));
    expect(await xm(['dmesg'])).toEqual(ok(''));
    expect((await xm(['log'])).out).toContain('Opening Unix domain socket XML-RPC server on ');
  });

  it('domid, domname, domstate', async () => {
    await create('guest');
    expect(await xm(['domid', 'guest'])).toEqual(ok('1\n'));
    expect(await xm(['domname', '1'])).toEqual(ok('guest\n'));
    expect(await xm(['domstate', 'guest'])).toEqual(ok('idle\n'));
    expect(await xm(['domstate', '0'])).toEqual(ok(''));
    await xm(['pause', 'guest']);
    expect(await xm(['domstate', 'guest'])).toEqual(ok('paused by admin\n'));
    await xm(['unpause', 'guest']);
    xc.shutDown(1, 2);
    expect(await xm(['domstate', 'guest'])).toEqual(ok('shutoff\n'));
  });

  it('network-list, block-list', async () => {
    await create('guest');
    expect(await xm(['network-list', 'guest'])).toEqual(ok(''));
    const adding = xm(['network-attach', 'guest', 'mac=00:16:3e:00:00:09', 'bridge=xenbr0']);
    const status = '/local/domain/0/backend/vif/1/0/hotplug-status';
    for (let i = 0; i < 300 && !(await store.exists('/local/domain/0/backend/vif/1/0')); i += 1);
    await store.write(status, 'connected');
    expect(await adding).toEqual(ok(''));
    expect(await xm(['network-list', 'guest'])).toEqual(
      ok(
        'Idx BE     MAC Addr.     handle state evt-ch tx-/rx-ring-ref BE-path\n' +
          '0   0  00:16:3e:00:00:09    0     1      -1    -1   /-1      /local/domain/0/backend/vif/1/0  \n',
      ),
    );
    expect((await xm(['network-detach', 'guest', '00:16:3e:00:00:07'])).err).toBe(
      "Error: Cannot find device '00:16:3e:00:00:07' in domain 'guest'\n",
    );
    expect(await xm(['network-detach', 'guest', '00:16:3e:00:00:09', '-f'])).toEqual(ok(''));
    expect((await xm(['block-list'])).out).toMatch(/^No domain parameter given\nUsage: xm block-list/);
    expect((await xm(['network-attach', 'guest', 'colour=red'])).err).toBe('Error: Invalid argument: colour=red\n');
  });
});

describe('doing', () => {
  it('changes a domain in silence', async () => {
    await create('guest', 'maxmem = 128\nvcpus = 2');
    for (const line of [
      ['rename', 'guest', 'g2'], ['mem-set', 'g2', '65536k'], ['mem-max', 'g2', '1G'], ['vcpu-set', 'g2', '1'],
      ['vcpu-pin', 'g2', '0', '0-3,^1'], ['vcpu-pin', 'g2', 'all', 'all'], ['sysrq', 'g2', 'h'], ['reset', 'g2'],
      ['debug-keys', 'q'], ['destroy', 'g2'],
    ]) expect([line, await xm(line)]).toEqual([line, ok('')]); // prettier-ignore
    expect(xc.calls).toEqual(expect.arrayContaining(['domainSetmaxmem(1,1048576)', 'sendDebugKeys(q)']));
    expect((await xm(['list', 'g2'])).code).toBe(3);
  });

  it('shuts down and waits', async () => {
    await create('a');
    await create('b');
    let polls = 0;
    const { code, out } = await xm(['shutdown', '-a', '-w'], {
      sleep: async () => {
        polls += 1;
        xc.shutDown(polls, 0);
        await xend.manager.refresh();
        await xend.manager.settle();
      },
    });
    expect([code, out]).toEqual([0, 'Domain a terminated\nDomain b terminated\nAll domains terminated\n']);
    expect((await xm(['shutdown', '-H', '-R', '0'])).err).toBe("Error: Can't specify halt and reboot\n");
    expect((await xm(['shutdown', '-w'])).err).toBe('Error: No domain parameter given\n');
    expect((await xm(['shutdown', 'a', 'b'])).err).toBe('Error: No multiple domain parameters allowed\n');
  });

  it('reboots and tells when it failed', async () => {
    await create('a');
    expect((await xm(['reboot', 'a'])).code).toBe(0);
    expect(await store.readString('/local/domain/1/control/shutdown')).toBe('reboot');
    const { out } = await xm(['reboot', '-w', 'a'], {
      sleep: async () => {
        if (xc.domains.has(1)) xc.shutDown(1, 1);
        await xend.manager.refresh();
        await xend.manager.settle();
      },
    });
    expect(out).toBe('Domain a destroyed for failing to reboot\nAll domains rebooted\n');
  });

  it('attaches to the console', async () => {
    await create('a');
    expect(await xm(['console', 'a'])).toEqual({ code: 7, out: '', err: '', ran: ['the-console 1 --num 0'] });
    expect((await xm(['console', '-n', '2', 'a'])).ran).toEqual(['the-console 1 --num 2']);
    expect(await xm(['console', '-q', 'nobody'])).toEqual({ code: 1, out: '', err: '', ran: [] });
    expect((await xm(['create', '-q', '-c', config('b')])).ran).toEqual(['the-console 2 --num 0']);
  });
});

describe('create', () => {
  it('tells what it does', async () => {
    config('x.cfg', "name = 'x'");
    expect(await xm(['create', 'x.cfg'])).toEqual(ok('Using config file "./x.cfg".\nStarted domain x (id=1)\n'));
    const path = config('y.cfg');
    expect(await xm(['create', '-p', path, 'name=z', 'memory=32'])).toEqual(
      ok(`Using config file "${path}".\nStarted domain z (id=2)\n`),
    );
    expect((await xm(['list', 'z'])).out).toContain('--p---');
    expect(xc.calls).toContain('build(2,32768,)');
  });

  it('names a domain after its file', async () => {
    await create('unnamed');
    expect((await xm(['domname', '1'])).out).toBe('unnamed\n');
  });

  it('prints what it would send', async () => {
    const path = config(
      'full',
      [
        'name = "full"', 'maxmem = 128', 'on_crash = "destroy"', 'vcpus = 2', 'maxvcpus = 4', 'cpu_weight = 100',
        'disk = ["phy:vg/%s,xvda1,w" % name, "tap:aio:/d,hdc:cdrom,r"]', 'vif = ["mac=00:16:3e:00:00:01,bridge=b", ""]',
        'vfb = ["type=vnc,vncunused=1"]', 'root = "/dev/xvda1"', 'extra = "ro " + flavour', 'ip = "10.0.0.2"', 'ioports = ["3f8-3ff"]', 'irq = [7]',
      ].join('\n'),
    ); // prettier-ignore
    expect((await xm(['create', '-n', '-q', path, 'flavour=quiet'])).out).toBe(`(vm
    (name full)
    (memory 64)
    (maxmem 128)
    (on_crash destroy)
    (on_xend_start ignore)
    (on_xend_stop ignore)
    (vcpu_avail 3)
    (vcpus 4)
    (cpu_weight 100)
    (oos 1)
    (image
        (linux
            (kernel ${directory}/vmlinuz)
            (ip 10.0.0.2:127.0.255.255::::eth0:off)
            (root /dev/xvda1)
            (videoram 4)
            (args 'ro quiet')
            (tsc_mode 0)
            (nomigrate 0)
        )
    )
    (s3_integrity 1)
    (device (vbd (uname phy:vg/full) (dev xvda1) (mode w)))
    (device (tap (uname tap:aio:/d) (dev hdc:cdrom) (mode r)))
    (device (ioports (from 0x3f8) (to 0x3ff)))
    (device (irq (irq 7)))
    (device (vif (bridge b) (mac 00:16:3e:00:00:01)))
    (device (vif))
    (device (vkbd))
    (device (vfb (vncunused 1) (vnc 1) (xauthority /nowhere/.Xauthority)))
)
`);
  });

  it('takes a config in SXP', async () => {
    const path = join(directory, 'c.sxp');
    writeFileSync(path, `(vm (name s) (memory 16) (image (linux (kernel ${directory}/vmlinuz))))`);
    expect(await xm(['create', '-F', path])).toEqual(ok('Started domain s (id=1)\n'));
  });

  it.each<[string, string, string]>([
    ['a kernel that is missing', "kernel = '/no/such'", 'Cannot find kernel "/no/such"'],
    ['a ramdisk that is missing', "ramdisk = 'none'", 'Cannot find ramdisk "none"'],
    ['a bad disk', "disk = ['foo']", 'Invalid disk specifier: foo'],
    ['a bad vif', "vif = ['xx']", 'xx should be a pair, separated by an equals sign.'],
    ['a bad vif option', "vif = ['colour=red']", 'Invalid vif option: colour'],
    ['a bad vfb option', "vfb = ['colour=red']", 'configuration option colour unknown to vfbs'],
    ['no memory', 'memory = 0', 'memory_dynamic_max must be greater than zero'],
    ['a bad action', "on_crash = 'no'", 'Invalid event handling mode: crash'],
    ['bad ports', "ioports = ['1-2-3']", 'Invalid i/o port range specifier: 1-2-3'],
    ['a disk that is no list', "disk = 'x'", 'disk should be a list'],
    ['code', 'os.system("x")', 'Errors were found at line 3 while processing ./bad:\n\tos.system("x")\nos.system is not supported'],
    ['nonsense', 'memory = = 3', 'Errors were found at line 3 while processing ./bad:\n\tmemory = = 3\ninvalid syntax'],
  ])('refuses %s', async (_name, text, message) => {
    config('bad', text);
    const { code, err } = await xm(['create', '-q', 'bad']);
    expect([code, err]).toEqual([1, `Error: ${message}\n`]);
    expect((await xm(['list'])).out.split('\n')).toHaveLength(3);
  }); // prettier-ignore

  it('refuses bad words', async () => {
    expect((await xm(['create', 'nowhere.cfg'])).err).toBe('Error: Unable to open config file: nowhere.cfg\n');
    config('c');
    expect((await xm(['create', 'c', 'memory=lots'])).err).toBe('Error: Invalid value: lots\n');
    expect((await xm(['create', 'c', 'localtime=perhaps'])).err).toBe('Error: Invalid value:perhaps\n');
    const { code, err, out } = await xm(['create', '--frobnicate', 'c']);
    expect([code, err]).toEqual([1, 'Error: option --frobnicate not recognized\n']);
    expect(out).toMatch(/^Usage: xm create <ConfigFile> \[options\] \[vars\]\n/);
  });

  it('destroys a domain whose device does not come up', async () => {
    config('c', "vif = ['']");
    const creating = xm(['create', '-q', 'c']);
    for (let i = 0; i < 300 && !(await store.exists('/local/domain/0/backend/vif/1/0')); i += 1);
    await store.write('/local/domain/0/backend/vif/1/0/hotplug-error', 'no bridge');
    await store.write('/local/domain/0/backend/vif/1/0/hotplug-status', 'error');
    const { code, err } = await creating;
    expect([code, err]).toEqual([1, 'Error: Device 0 (vif) could not be connected. no bridge\n']);
    expect((await xm(['list'])).out.split('\n')).toHaveLength(3);
  });

  it('manages domains', async () => {
    config('m', "name = 'm'");
    expect(await xm(['new', 'm'])).toEqual(ok('Using config file "./m".\n'));
    expect((await xm(['list'])).out.split('\n')[2]).toBe(
      'm                                                 64     1                 0.0',
    );
    expect((await xm(['domid', 'm'])).out).toBe('None\n');
    expect((await xm(['console', 'm'])).err).toBe("Error: Domain 'm' is not started\n");
    expect(await xm(['start', '-p', 'm'])).toEqual(ok(''));
    expect((await xm(['delete', 'm'])).err).toBe('Error: Domain is not halted.\n');
    await xm(['destroy', 'm']);
    expect(await xm(['delete', 'm'])).toEqual(ok(''));
  });
});

describe('the command line', () => {
  it('helps', async () => {
    const short = await xm([]);
    expect(short.code).toBe(1);
    expect(short.out).toMatch(
      /^Usage: xm <subcommand> \[args\]\n\nControl, list, and manipulate Xen guest instances.\n/,
    );
    expect(short.out).toContain(`\n destroy              End a domain at once.                             \n`);
    for (const word of ['help', '--help', '-h']) {
      const { code, out } = await xm([word]);
      expect(code).toBe(0);
      for (const { name, hidden } of commands) if (!hidden) expect(out).toContain(`\n ${name} `);
    }
    expect(await xm(['destroy', '--help'])).toEqual({
      code: 1, out: 'Usage: xm destroy <Domain>\n\nEnd a domain at once.\n', err: '', ran: [],
    }); // prettier-ignore
    expect((await xm(['create', '--help_config'])).out).toMatch(/\nValues:\n[\s\S]*memory=MEMORY/);
  });

  it('finds commands by beginning and by old name', async () => {
    expect((await xm(['inf'])).code).toBe(0);
    expect((await xm(['dom', 'x'])).err).toBe('Error: Subcommand dom not found!\n');
    expect((await xm(['frob'])).code).toBe(1);
    await create('g');
    expect((await xm(['balloon', 'g', '60'])).err).toBe(
      'Command balloon is deprecated.  Please use xm mem-set instead.\n',
    );
  });

  it.each<[readonly string[], number, string]>([
    [['destroy'], 1, "Error: 'xm destroy' requires 1 arguments.\n\n"],
    [['rename', 'a'], 1, "Error: 'xm rename' requires 2 arguments.\n\n"],
    [['shutdown'], 1, "Error: 'xm shutdown' requires between 1 and 4 arguments.\n\n"],
    [['list', '-z'], 1, 'Error: option -z not recognized\n'],
    [['list', '--state'], 1, 'Error: option --state requires argument\n'],
    [['list', '--l'], 1, 'Error: option --l not a unique prefix\n'],
    [['list', '--long=1'], 1, 'Error: option --long must not have an argument\n'],
    [['list', '--state=running', 'a'], 1, 'Error: You may specify either a state or a particular VM, but not both\n'],
    [['mem-set', '0', 'much'], 1, 'Error: Invalid argument.\n'],
    [['vcpu-pin', '0', '0', 'x'], 1, 'Error: Invalid argument.\n'],
    [['pause', 'nobody'], 3, "Error: Domain 'nobody' does not exist.\n"],
    [['list', 'nobody'], 3, "Error: Domain 'nobody' does not exist.\n"],
    [['pause', '0'], 1, 'Error: Cannot pause privileged domain 0\n'],
    [['migrate', 'a', 'b'], 3, "Error: Domain 'a' does not exist.\n"],
    [['tmem-list'], 1, 'Error: You must specify -a or --all or a domain id.\n'],
  ])('%j ends with %d', async (line, code, err) => {
    const outcome = await xm(line);
    expect([outcome.code, outcome.err]).toEqual([code, err]);
  });

  it('prints the usage after a fault', async () => {
    expect((await xm(['pause', '0'])).out).toBe('Usage: xm pause <Domain>\n\nStop a domain from running.\n');
  });

  it('tells when xend is not there', async () => {
    const nowhere = (server: string): Partial<World> => ({ env: { XM_SERVER: server } });
    expect(await xm(['list'], nowhere('httpu:///no/such/socket'))).toEqual({
      code: 1, out: '', err: 'Error: Unable to connect to xend: No such file or directory. Is xend running?\n', ran: [],
    }); // prettier-ignore
    expect((await xm(['list'], nowhere('http://127.0.0.1:1'))).err).toBe(
      'Error: Unable to connect to xend: Connection refused. Is xend running?\n',
    );
    for (const address of ['gopher://host', 'ssh://-oProxyCommand=x']) {
      expect((await xm(['list'], nowhere(address))).err).toBe(
        `Error: XM_SERVER: ${address} is not supported: ` +
          'give httpu:///path, http://host:port, https://host:port or ssh://user@host\n',
      );
    }
  });

  it('tells when what answers is not xend', async () => {
    const answer = async (status: number, body: string): Promise<Outcome> => {
      const server: Server = createServer((_request, response) => response.writeHead(status).end(body));
      const path = join(directory, `http-${status}`);
      await new Promise<void>((resolve) => server.listen(path, resolve));
      const outcome = await xm(['list'], { env: { XM_SERVER: `httpu://${path}` } });
      await new Promise((resolve) => server.close(resolve));
      return outcome;
    };
    expect((await answer(404, '')).err).toBe('Xend has probably crashed!  ProtocolError(404, Not Found).\n');
    expect((await answer(200, '<html>')).err).toMatch(/^Error: Cannot understand xend: /);
  });

  it('stops at Ctrl-C', async () => {
    const abort = new AbortController();
    await create('g');
    const outcome = await xm(['shutdown', '-w', 'g'], {
      signal: abort.signal,
      sleep: () => {
        abort.abort();
        return Promise.reject(new Error('aborted'));
      },
    });
    expect([outcome.code, outcome.out, outcome.err]).toEqual([1, 'Interrupted.\n', '\n']);
  });
});
