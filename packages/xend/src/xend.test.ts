import { mkdtempSync, rmSync } from 'node:fs';
import { request, type IncomingHttpHeaders } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FakeClock } from '@xenhost/base';
import { createLogger } from '@xenhost/daemon-kit';
import { Float, childValue, type Sxp } from '@xenhost/sxp';
import { FakeXenctrl } from '@xenhost/testkit';
import { decodeResponse, encodeCall, XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { XenstoreClient } from '@xenhost/xenstore-client';
import { startXenstored, type Xenstored } from '@xenhost/xenstored';
import { parseTcpAddress } from './server.ts';
import { memoryLog, methods, Xend, type XendPorts } from './index.ts';

let directory: string;
let daemon: Xenstored;
let store: XenstoreClient;
let xc: FakeXenctrl;
let clock: FakeClock;
let xend: Xend;

function ports(): XendPorts {
  return {
    xc,
    build: xc.build,
    store,
    clock,
    log: memoryLog(),
    host: { system: 'Linux', host: 'tester', release: '6.1', version: '#1', machine: 'x86_64' },
    readFile: (path) =>
      path.startsWith('/boot/')
        ? Promise.resolve(Buffer.from(path === '/boot/junk' ? 'junk' : 'kernel'))
        : Promise.reject(Object.assign(new Error(`ENOENT: no such file, open '${path}'`), { code: 'ENOENT' })),
    sleep: () => Promise.resolve(),
  };
}

const newXend = (): Xend =>
  new Xend({ socketPath: join(directory, 'xend', 'x'), stateDirectory: join(directory, 'lib'), pollMs: 0 }, ports());

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
  daemon = await startXenstored({ socketPath: join(directory, 's') }, { log: createLogger('t', { level: 'silent' }) });
  store = await XenstoreClient.connect({ path: join(directory, 's') });
  xc = new FakeXenctrl({ totalMiB: 256 });
  clock = new FakeClock();
  xend = newXend();
  await xend.start();
});

afterEach(async () => {
  await xend.stop();
  await store.close();
  await daemon.stop();
  rmSync(directory, { recursive: true, force: true });
});

interface Reply {
  readonly statusCode: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A request over the Unix socket. */
function post(payload: string): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const asking = request(
      {
        socketPath: join(directory, 'xend', 'x'),
        method: 'POST',
        path: '/RPC2',
        headers: { 'content-type': 'text/xml' },
      },
      (response) => {
        let body = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
        response.on('end', () => {
          resolve({ statusCode: response.statusCode, headers: response.headers, body });
        });
      },
    );
    asking.on('error', reject).end(payload);
  });
}

async function call(method: string, ...params: XmlRpcValue[]): Promise<XmlRpcValue> {
  const reply = await post(encodeCall(method, params));
  expect(reply.statusCode).toBe(200);
  expect(reply.headers['content-type']).toBe('text/xml');
  expect(reply.headers['content-length']).toBe(String(Buffer.byteLength(reply.body)));
  return decodeResponse(reply.body);
}

async function fault(method: string, ...params: XmlRpcValue[]): Promise<[number, string]> {
  try {
    await call(method, ...params);
  } catch (error) {
    const { faultCode, faultString } = error as XmlRpcFault;
    return [faultCode, faultString];
  }
  return [0, 'no fault'];
}

const config = (name: string, ...more: readonly XmlRpcValue[]): XmlRpcValue => [
  'vm',
  ['name', name],
  ['memory', 64],
  ...more,
  [
    'image',
    [
      'linux',
      ['kernel', '/boot/vmlinuz'],
      ['root', '/dev/xvda1'],
      ['args', 'quiet'],
      ['tsc_mode', 0],
      ['nomigrate', 0],
    ],
  ],
];

const names = async (): Promise<XmlRpcValue> => call('xend.domains_with_state', false, 'all', false);
/** Everything in xenstore below a path, as `path = value`. */
async function tree(path: string): Promise<string[]> {
  const lines: string[] = [];
  for (const name of await store.tryDirectory(path)) {
    const child = `${path === '/' ? '' : path}/${name}`;
    lines.push(`${child} = ${(await store.tryRead(child)) ?? ''}`, ...(await tree(child)));
  }
  return lines;
}
const end = async (domid: number, reason: number): Promise<void> => {
  xc.shutDown(domid, reason);
  await xend.manager.refresh();
  await xend.manager.settle();
};

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
    expect(xc.calls).toEqual(
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
    expect(await store.getPerms('/local/domain/1')).toEqual([
      { domid: 0, access: 'none' },
      { domid: 1, access: 'read' },
    ]);
    expect(await store.getPerms('/local/domain/1/data')).toEqual([{ domid: 1, access: 'none' }]);
    expect(await store.getPerms(`/vm/${uuid}/uuid`)).toEqual([
      { domid: 0, access: 'none' },
      { domid: 1, access: 'read' },
    ]);
    expect(await store.isDomainIntroduced(1)).toBe(true);
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
    const free = xc.freePages;
    const [code, message] = await fault('xend.domain.create', given);
    expect(code).toBe(2);
    if (typeof text === 'string') expect(message).toBe(text);
    else expect(message).toMatch(text);
    expect(await names()).toEqual(['Domain-0']);
    expect([...xc.domains.keys()]).toEqual([0]);
    expect(xc.freePages).toBe(free);
    expect(await tree('/')).toEqual(storeBefore);
  }); // prettier-ignore

  it.each(['domainCreate', 'domainMaxVcpus', 'schedCreditDomainSet', 'domainSetmaxmem', 'evtchnAllocUnbound', 'build'])(
    'leaves nothing when %s fails',
    async (step) => {
      const before = await tree('/');
      xc.failures.set(step, 12);
      expect((await fault('xend.domain.create', config('g', ['device', ['vif']])))[0]).toBe(2);
      xc.failures.clear();
      expect([...xc.domains.keys()]).toEqual([0]);
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

describe('look-ups and lists', () => {
  it('finds by name, id and UUID, and faults with what was asked', async () => {
    const made = (await call('xend.domain.create', config('g'))) as Sxp;
    const uuid = String(childValue(made, 'uuid'));
    for (const ref of ['g', 1, '1', uuid])
      expect(childValue((await call('xend.domain', ref)) as Sxp, 'name')).toBe('g');
    expect(await fault('xend.domain', 'nobody')).toEqual([3, 'nobody']);
    expect(await fault('xend.domain.pause', 99)).toEqual([3, '99']);
  });

  it('sorts and filters by state', async () => {
    for (const name of ['b', 'a']) await call('xend.domain.create', config(name));
    await call('xend.domain.unpause', 'b');
    expect(await names()).toEqual(['Domain-0', 'a', 'b']);
    expect(await call('xend.domains', 0)).toEqual(['Domain-0', 'b']);
    expect(await call('xend.domains_with_state', false, 'PAUSED', false)).toEqual(['a']);
    expect(await call('xend.domains_with_state', false, 1, false)).toEqual(['a']);
    expect(await call('xend.domains_with_state', false, 'crashed', false)).toEqual([]);
    const [dom0] = (await call('xend.domains', true)) as Sxp[];
    expect(childValue(dom0, 'maxmem')).toBe(16777215);
    expect(childValue(dom0, 'state')).toBe('r-----');
    expect(childValue(dom0, 'status')).toBe(2);
  });

  it.each(['domainMaxVcpus', 'schedCreditDomainSet', 'evtchnAllocUnbound'])(
    'takes away what a xend that died at %s left',
    async (step) => {
      const before = await tree('/');
      // Dies at this step: it never gets an answer.
      const port = xc as unknown as Record<string, unknown>;
      const real = port[step];
      const reached = new Promise<void>((resolve) => {
        port[step] = () => {
          resolve();
          return new Promise(() => undefined);
        };
      });
      void call('xend.domain.create', config('g', ['device', ['vif']])).catch(() => undefined);
      await reached;
      port[step] = real;
      await xend.stop();
      xend = newXend();
      await xend.start();
      expect(await names()).toEqual(['Domain-0']);
      expect([...xc.domains.keys()]).toEqual([0]);
      expect(await tree('/')).toEqual(before);
    },
  );

  it('sweeps what belongs to no domain', async () => {
    const before = await tree('/');
    for (const path of ['/local/domain/77/name', '/local/domain/0/backend/vif/77/0/state', '/vm/u-u-i-d/uuid']) {
      await store.write(path, 'x');
    }
    await xend.stop();
    xend = newXend();
    await xend.start();
    expect((await tree('/')).filter((line) => line.includes('77') || line.includes('u-u'))).toEqual([]);
    expect(before.every((line) => line !== '')).toBe(true);
  });

  it('finds running domains again after a restart, and domains of others', async () => {
    const uuid = String(childValue((await call('xend.domain.create', config('g', ['on_poweroff', 'preserve'], ['cpu_weight', 99], ['device', ['vif', ['mac', '00:16:3e:00:00:01']]]))) as Sxp, 'uuid')); // prettier-ignore
    const before = await call('xend.domain', 'g', true);
    await xc.domainCreate({ uuid: '99999999-0000-4000-8000-000000000000', maxVcpus: 1 });
    await xend.stop();
    xend = newXend();
    await xend.start();
    expect(await names()).toEqual(['Domain-0', 'Domain-99999999-0000-4000-8000-000000000000', 'g']);
    const after = (await call('xend.domain', 'g', true)) as Sxp;
    for (const key of [
      'uuid',
      'on_poweroff',
      'cpu_weight',
      'memory',
      'store_mfn',
      'console_mfn',
      'start_time',
      'vcpus',
    ]) {
      expect([key, childValue(after, key)]).toEqual([key, childValue(before as Sxp, key)]);
    }
    expect(childValue(after, 'uuid')).toBe(uuid);
    expect(childValue(childValue(after, 'device'), 'mac')).toBe('00:16:3e:00:00:01');
    expect(childValue(childValue(after, 'image'), 'args')).toBe('root=/dev/xvda1 quiet');
  });
});

describe('one domain', () => {
  beforeEach(async () => {
    await call('xend.domain.create', config('g', ['vcpus', 2], ['maxmem', 128]));
  });

  it('pauses and unpauses', async () => {
    await call('xend.domain.unpause', 'g');
    expect(xc.domains.get(1)?.pauses).toBe(0);
    await call('xend.domain.pause', 'g');
    await call('xend.domain.pause', 'g');
    expect(xc.domains.get(1)?.pauses).toBe(1);
    await call('xend.domain.setpauseflag', 'g', true);
    expect(await call('xend.domain.getpauseflag', 'g')).toBe(true);
    expect(await call('xend.domain.pause', 'g', true)).toBe(1);
    expect(await fault('xend.domain.pause', 0)).toEqual([2, 'Cannot pause privileged domain 0']);
    expect(await fault('xend.domain.unpause', 'Domain-0')).toEqual([2, 'Cannot unpause privileged domain Domain-0']);
    expect(await fault('xend.domain.destroy', 0)).toEqual([2, 'Cannot destroy privileged domain 0']);
  });

  it('destroys and leaves nothing', async () => {
    const path = await store.readString('/local/domain/1/vm');
    await call('xend.domain.destroy', 'g');
    await xend.manager.settle();
    expect(await names()).toEqual(['Domain-0']);
    expect(xc.domains.has(1)).toBe(false);
    expect(await store.tryDirectory('/local/domain')).toEqual(['0']);
    expect(await store.exists(path)).toBe(false);
    expect(await store.isDomainIntroduced(1)).toBe(false);
    expect(await fault('xend.domain.destroy', 'g')).toEqual([3, 'g']);
  });

  it('asks to shut down through xenstore', async () => {
    await call('xend.domain.shutdown', 'g', 'reboot');
    expect(await store.readString('/local/domain/1/control/shutdown')).toBe('reboot');
    expect(await fault('xend.domain.shutdown', 'g', 'now')).toEqual([2, 'Invalid reason: now']);
    expect(await fault('xend.domain.shutdown', 0, 'halt')).toEqual([2, 'Domain 0 cannot be shutdown']);
  });

  it('marks a guest that does not obey', async () => {
    await call('xend.domain.shutdown', 'g', 'poweroff');
    clock.advance(299_000_000_000n);
    await names();
    expect(await store.tryRead('/local/domain/1/xend/unresponsive')).toBeUndefined();
    clock.advance(2_000_000_000n);
    await names();
    expect(await store.tryRead('/local/domain/1/xend/unresponsive')).toBe('True');
  });

  it('renames', async () => {
    await call('xend.domain.setName', 'g', 'h');
    expect(await names()).toEqual(['Domain-0', 'h']);
    expect(await store.readString('/local/domain/1/name')).toBe('h');
    expect(await fault('xend.domain.setName', 'h', 'a b')).toEqual([2, 'Invalid VM Name']);
    expect(await fault('xend.domain.setName', 'h', 'Domain-0')).toEqual([
      2,
      "VM name 'Domain-0' already exists as domain 0",
    ]);
  });

  it('sets memory and vCPUs', async () => {
    await call('xend.domain.setMemoryTarget', 'g', 100);
    expect(await store.readString('/local/domain/1/memory/target')).toBe('102400');
    expect(childValue((await call('xend.domain', 'g')) as Sxp, 'memory')).toBe(100);
    expect(await fault('xend.domain.setMemoryTarget', 'g', 200)).toEqual([2, 'memory_dynamic_max must be less than or equal to memory_static_max']); // prettier-ignore
    await call('xend.domain.maxmem_set', 'g', 200);
    expect(xc.domains.get(1)?.maxMemkb).toBe(204800);
    expect((await fault('xend.domain.maxmem_set', 'g', 50))[0]).toBe(2);
    await call('xend.domain.setVCpuCount', 'g', 1);
    expect(await store.readString('/local/domain/1/cpu/1/availability')).toBe('offline');
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
    expect(xc.domains.get(1)?.credit).toEqual({ weight: 512, cap: 150 });
    expect((await fault('xend.domain.sched_credit_set', 'g', null, 201))[1]).toBe(
      'Cpu cap out of range, valid range is from 0 to 200 for specified number of vcpus',
    );
  });

  it('sends keys and triggers', async () => {
    await call('xend.domain.send_sysrq', 'g', 'h');
    expect(await store.readString('/local/domain/1/control/sysrq')).toBe('h');
    expect(await fault('xend.domain.send_sysrq', 'g', 'help')).toEqual([2, 'help is not convertible to a character']);
    expect(await fault('xend.domain.send_trigger', 'g', 'bang')).toEqual([2, 'Invalid trigger: bang']);
    expect((await fault('xend.domain.send_trigger', 'g', 'nmi'))[0]).toBe(2);
  });

  it('resets to a running domain with a new id', async () => {
    await call('xend.domain.reset', 'g');
    expect([...xc.domains.keys()]).toEqual([0, 2]);
    expect(xc.domains.get(2)?.pauses).toBe(0);
  });
});

describe('ends of domains', () => {
  const make = async (...more: XmlRpcValue[]): Promise<void> => {
    await call('xend.domain.create', config('g', ...more));
    await call('xend.domain.unpause', 'g');
  };

  it('poweroff destroys by default', async () => {
    await make();
    await end(1, 0);
    expect(await names()).toEqual(['Domain-0']);
    expect(await store.tryDirectory('/local/domain')).toEqual(['0']);
  });

  it('reboot restarts, counts, keeps the UUID and runs', async () => {
    await make();
    const uuid = childValue((await call('xend.domain', 'g')) as Sxp, 'uuid');
    expect(await call('xend.domain.getRestartCount', 'g')).toBe('0');
    clock.advance(61_000_000_000n);
    await end(1, 1);
    const again = (await call('xend.domain', 'g')) as Sxp;
    expect([childValue(again, 'domid'), childValue(again, 'uuid')]).toEqual([2, uuid]);
    expect(xc.domains.get(2)?.pauses).toBe(0);
    expect(await call('xend.domain.getRestartCount', 'g')).toBe('1');
    expect(await store.tryRead(`/vm/${String(uuid)}/xend/restart_in_progress`)).toBeUndefined();
    expect(await store.tryRead(`/vm/${String(uuid)}/xend/last_shutdown_reason`)).toBe('reboot');
  });

  it('does not restart what lived less than a minute', async () => {
    await make();
    clock.advance(59_000_000_000n);
    await end(1, 1);
    expect(await names()).toEqual(['Domain-0']);
  });

  it('crash follows on_crash; preserve keeps the body once', async () => {
    await make(['on_crash', 'preserve']);
    await end(1, 3);
    const body = (await call('xend.domain', 'g')) as Sxp;
    expect([childValue(body, 'state'), childValue(body, 'status')]).toEqual(['----c-', 5]);
    expect(await store.readString('/local/domain/1/xend/shutdown_completed')).toBe('True');
    await xend.stop();
    xend = newXend();
    await xend.start();
    await xend.manager.settle();
    expect(await names()).toEqual(['Domain-0', 'g']);
    await call('xend.domain.destroy', 'g');
    expect(await names()).toEqual(['Domain-0']);
  });

  it('rename-restart puts the body aside and starts another', async () => {
    await make(['on_crash', 'rename-restart']);
    clock.advance(61_000_000_000n);
    await end(1, 3);
    const [, aside, g] = (await names()) as string[];
    expect(aside).toMatch(/^Domain-[0-9a-f-]{36}$/);
    expect(g).toBe('g');
    expect(childValue((await call('xend.domain', 'g')) as Sxp, 'domid')).toBe(2);
    expect(childValue((await call('xend.domain', aside ?? '')) as Sxp, 'domid')).toBe(1);
  });

  it('cleans up after a domain that another tool destroyed', async () => {
    await make();
    await xc.domainDestroy(1);
    await xend.manager.refresh();
    await xend.manager.settle();
    expect(await names()).toEqual(['Domain-0']);
    expect(await store.tryDirectory('/local/domain')).toEqual(['0']);
  });
});

describe('devices', () => {
  const vif: XmlRpcValue = ['vif', ['bridge', 'xenbr0'], ['mac', '00:16:3e:01:02:03'], ['rate', '10Mb/s@20ms']];
  const vbd: XmlRpcValue = ['vbd', ['uname', 'file:/disk.img'], ['dev', 'xvda'], ['mode', 'w']];
  const make = (...devices: XmlRpcValue[]) =>
    call('xend.domain.create', config('g', ...devices.map((device): XmlRpcValue => ['device', device])));

  it('stand in xenstore as backends and frontends expect', async () => {
    await make(vif, vbd);
    const nodes = async (path: string) =>
      (await tree(path)).map((line) => line.slice(path.length + 1)).filter((line) => !line.startsWith('uuid')).sort(); // prettier-ignore
    expect(await nodes('/local/domain/0/backend/vif/1/0')).toEqual([
      'bridge = xenbr0',
      'domain = g',
      'frontend = /local/domain/1/device/vif/0',
      'frontend-id = 1',
      'handle = 0',
      'mac = 00:16:3e:01:02:03',
      'online = 1',
      'rate = 25000,20000',
      'script = /etc/xen/scripts/vif-bridge',
      'state = 1',
    ]);
    expect(await nodes('/local/domain/1/device/vif/0')).toEqual([
      'backend = /local/domain/0/backend/vif/1/0',
      'backend-id = 0',
      'handle = 0',
      'mac = 00:16:3e:01:02:03',
      'protocol = x86_64-abi',
      'state = 1',
    ]);
    expect(await nodes('/local/domain/0/backend/vbd/1/51712')).toEqual([
      'bootable = 1',
      'dev = xvda',
      'domain = g',
      'frontend = /local/domain/1/device/vbd/51712',
      'frontend-id = 1',
      'mode = w',
      'online = 1',
      'params = /disk.img',
      'state = 1',
      'type = file',
    ]);
    expect(await nodes('/local/domain/1/device/vbd/51712')).toEqual([
      'backend = /local/domain/0/backend/vbd/1/51712',
      'backend-id = 0',
      'device-type = disk',
      'protocol = x86_64-abi',
      'state = 1',
      'virtual-device = 51712',
    ]);
    expect(await store.getPerms('/local/domain/0/backend/vbd/1/51712')).toEqual([
      { domid: 0, access: 'none' },
      { domid: 1, access: 'read' },
    ]);
    expect(await store.getPerms('/local/domain/1/device/vbd/51712')).toEqual([
      { domid: 1, access: 'none' },
      { domid: 0, access: 'read' },
    ]);
    expect(await call('xend.domain.getDeviceSxprs', 'g', 'vbd')).toEqual([
      [
        51712,
        [
          ['backend', '/local/domain/0/backend/vbd/1/51712'],
          ['backend-id', '0'],
          ['device-type', 'disk'],
          ['protocol', 'x86_64-abi'],
          ['state', '1'],
          ['virtual-device', '51712'],
        ],
      ],
    ]);
    expect(await call('xend.domain.getBlockDeviceClass', 'g', 'xvda')).toBe('vbd');
  });

  it.each([
    ['error', 'no such bridge', 'Device 0 (vif) could not be connected. no such bridge'],
    ['error', undefined, 'Device 0 (vif) could not be connected. Backend device not found.'],
    ['busy', undefined, 'Device 0 (vif) could not be connected.\nBusy.'],
    ['connected', undefined, undefined],
  ])('waiting for a backend that says %s (%s)', async (status, error, expected) => {
    await make(vif);
    const waiting = fault('xend.domain.waitForDevices', 'g');
    if (error !== undefined) await store.write('/local/domain/0/backend/vif/1/0/hotplug-error', error);
    await store.write('/local/domain/0/backend/vif/1/0/hotplug-status', status);
    expect(await waiting).toEqual(expected === undefined ? [0, 'no fault'] : [2, expected]);
  });

  it('come and go', async () => {
    await make();
    const adding = call('xend.domain.device_create', 'g', vbd);
    for (let i = 0; i < 100 && !(await store.exists('/local/domain/0/backend/vbd/1/51712')); i += 1);
    await store.write('/local/domain/0/backend/vbd/1/51712/hotplug-status', 'connected');
    expect(await adding).toEqual(['vbd', ['dom', 1, 'id', 51712]]);
    expect(await fault('xend.domain.device_create', 'g', vbd)).toEqual([2, 'The device "xvda" is already defined']);
    const leaving = call('xend.domain.destroyDevice', 'g', 'vbd', 'xvda');
    for (let i = 0; i < 100 && (await store.tryRead('/local/domain/0/backend/vbd/1/51712/state')) !== '5'; i += 1);
    expect(await store.readString('/local/domain/0/backend/vbd/1/51712/online')).toBe('0');
    await store.write('/local/domain/0/backend/vbd/1/51712/state', '6');
    await leaving;
    expect(await call('xend.domain.getDeviceSxprs', 'g', 'vbd')).toEqual([]);
    expect(await fault('xend.domain.destroyDevice', 'g', 'vbd', 'xvda')).toEqual([2, 'Device xvda not connected']);
  });
});

describe('managed domains', () => {
  it('are kept, started, stopped and deleted', async () => {
    await call('xend.domain.new', config('m', ['device', ['vif', ['mac', '00:16:3e:0a:0b:0c']]]));
    const halted = (await call('xend.domain', 'm', true)) as Sxp;
    expect(childValue(halted, 'domid')).toBeUndefined();
    expect(childValue(halted, 'status')).toBe(0);
    await xend.stop();
    xend = newXend();
    await xend.start();
    expect(await call('xend.domain', 'm', true)).toEqual(halted);
    const starting = call('xend.domain.start', 'm', false);
    for (let i = 0; i < 200 && !(await store.exists('/local/domain/0/backend/vif/1/0')); i += 1);
    await store.write('/local/domain/0/backend/vif/1/0/hotplug-status', 'connected');
    await starting;
    expect(await fault('xend.domain.start', 'm')).toEqual([2, 'Domain is already running']);
    expect(await fault('xend.domain.delete', 'm')).toEqual([2, 'Domain is not halted.']);
    await call('xend.domain.destroy', 'm');
    expect(childValue((await call('xend.domain', 'm')) as Sxp, 'status')).toBe(0);
    await call('xend.domain.delete', 'm');
    expect(await names()).toEqual(['Domain-0']);
  });
});

describe('the server', () => {
  it('answers introspection from the table', async () => {
    const listed = (await call('system.listMethods')) as string[];
    expect(listed).toEqual([...methods.keys()].sort());
    for (const name of listed) expect(JSON.stringify(await call('system.methodHelp', name)).length).toBeGreaterThan(10);
    expect(await call('system.methodSignature', 'xend.domain')).toEqual([['array', 'string'], ['array', 'string', 'boolean']]); // prettier-ignore
  });

  it('answers an unknown method with a struct, not a fault', async () => {
    expect(await call('xend.nothing')).toEqual({
      Status: 'Failure',
      ErrorDescription: ['MESSAGE_METHOD_UNKNOWN', 'xend.nothing'],
    });
  });

  it('faults wrong counts and types of arguments', async () => {
    expect(await fault('xend.domain')).toEqual([1, 'domain() takes at least 1 argument (0 given)']);
    expect(await fault('xend.domain.pause', 'a', false, 1)).toEqual([1, 'pause() takes at most 2 arguments (3 given)']);
    expect((await fault('xend.domain', { a: 1 }))[0]).toBe(1);
    expect((await fault('xend.domain.create', 'text'))[0]).toBe(1);
    expect((await fault('xend.domain.create', ['vm', [{ a: 1 }]]))[0]).toBe(1);
  });

  it('faults what is no XML-RPC, with status 200', async () => {
    for (const payload of ['', '{"jsonrpc":"2.0"}', '<methodCall>', '<a/>', 'x'.repeat(5 << 20)]) {
      const reply = await post(payload);
      expect([reply.statusCode, reply.headers['content-type']]).toEqual([200, 'text/xml']);
      expect(() => decodeResponse(reply.body)).toThrow(XmlRpcFault);
    }
  });

  it('sends a string result as the inside of its repr', async () => {
    xc.dmesg = "it's\n(XEN) \x1b[1mbold\n";
    expect(await call('xend.node.dmesg.info')).toBe(String.raw`it's\n(XEN) \x1b[1mbold\n`);
    await call('xend.node.dmesg.clear');
    expect(await call('xend.node.dmesg.info')).toBe('');
  });

  it('tells about the node in the order that people parse', async () => {
    const info = (await call('xend.node.info', 0)) as [string, XmlRpcValue][];
    expect(info.map(([key]) => key)).toEqual([
      'system', 'host', 'release', 'version', 'machine', 'nr_cpus', 'nr_nodes', 'cores_per_socket', 'threads_per_core',
      'cpu_mhz', 'hw_caps', 'virt_caps', 'total_memory', 'free_memory', 'free_cpus', 'xen_major', 'xen_minor', 'xen_extra',
      'xen_caps', 'xen_scheduler', 'xen_pagesize', 'platform_params', 'xen_changeset', 'xen_commandline', 'cc_compiler',
      'cc_compile_by', 'cc_compile_domain', 'cc_compile_date', 'xend_config_format',
    ]); // prettier-ignore
    expect(Object.fromEntries(info)).toMatchObject({
      total_memory: 256,
      hw_caps: 'bfebfbff:2c100800:00000000:00000040:77bae3ff:00000000:00000121:00000000',
      xen_caps: 'xen-3.0-x86_64 ',
      xen_scheduler: 'credit',
      platform_params: 'virt_start=0xffff800000000000',
      xend_config_format: 4,
    });
  });

  it('serves TCP where it is told to', async () => {
    const other = new Xend(
      {
        socketPath: join(directory, 'o', 'x'),
        stateDirectory: directory,
        pollMs: 0,
        tcp: { host: '127.0.0.1', port: 0 },
      },
      ports(),
    );
    await other.start();
    const reply = await fetch(`http://127.0.0.1:${other.tcpPort ?? 0}/RPC2`, {
      method: 'POST',
      body: encodeCall('xend.domains', [0]),
    });
    expect(decodeResponse(await reply.text())).toEqual(['Domain-0']);
    await other.stop();
  });

  it.each([
    ['8006', { host: 'localhost', port: 8006 }],
    ['0.0.0.0:1', { host: '0.0.0.0', port: 1 }],
    ['[::1]:80', { host: '::1', port: 80 }],
    ['host', undefined],
    ['a:b:1', undefined],
    ['x:70000', undefined],
  ])('reads the address %s', (text, address) => {
    if (address) expect(parseTcpAddress(text)).toEqual(address);
    else expect(() => parseTcpAddress(text)).toThrow('XEND_TCP wants HOST:PORT');
  });

  it('does not take the socket of one that lives', async () => {
    const other = newXend();
    await expect(other.start()).rejects.toThrow('another process answers there');
    await other.stop();
  });
});
