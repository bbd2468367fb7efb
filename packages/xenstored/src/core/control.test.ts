import { Scene } from '../testing/script.ts';
import type { Step } from '../testing/script.ts';
import type { LiveUpdateRequest } from './ports.ts';

const OK = 'OK|';

function text(s: Scene, payload: string): string {
  s.send('0', 'CONTROL', payload);
  return s.received('0').join('').replace(/\|$/, '');
}

test('help lists the commands in the order of the C daemon', () => {
  expect(text(new Scene(), 'help|')).toBe(
    [
      'check\t',
      'log\ton|off',
      'live-update\t[-c <cmdline>] [-F] [-t <timeout>] <file>',
      '    Default timeout is 60 seconds.',
      'logfile\t<file>',
      'memreport\t[<file>]',
      'print\t<string>',
      'quota\t[set <name> <val>|<domid>]',
      'quota-soft\t[set <name> <val>]',
      'help\t',
      '',
    ].join('\n'),
  );
});

test('quota tells the settings and what a domain uses', async () => {
  const s = new Scene();
  expect(text(s, 'quota|')).toBe(
    [
      'Quota settings:',
      'nodes            :     1000 Nodes per domain',
      'watches          :      128 Watches per domain',
      'transactions     :       10 Transactions per domain',
      'outstanding      :       20 Outstanding requests per domain',
      'transaction-nodes:     1024 Max. number of accessed nodes per transaction',
      'memory           :  2621440 Total Xenstore memory per domain (error level)',
      'node-size        :     2048 Max. size of a node',
      'path-max         :     2048 Max. length of a node path',
      'permissions      :        5 Max. number of permissions per node',
      '',
    ].join('\n'),
  );
  expect(text(s, 'quota-soft|')).toBe(
    'Quota settings:\nmemory           :  2097152 Total Xenstore memory per domain (warning level)\n',
  );
  s.run([
    ['0', 'MKDIR', '/local/domain/5|', OK],
    ['0', 'SET_PERMS', '/local/domain/5|n5|', OK],
  ]);
  const use = (memory: number, watches = 0): string =>
    [
      'Domain 5:',
      'nodes           :        1',
      `watches         : ${String(watches).padStart(8)}`,
      'transactions    :        0',
      'outstanding     :        0',
      `memory          : ${String(memory).padStart(8)}`,
      '',
    ].join('\n');
  // As measured with the C daemon: 24 of header, 8 of permission, 15 of path.
  expect(text(s, 'quota|5|')).toBe(use(47));
  await s.introduce(5);
  s.run([['5', 'WATCH', 'abc|tok|', OK, '! abc|tok|']]);
  expect(text(s, 'quota|5|')).toBe(use(47 + '/local/domain/5/abc'.length + 'tok'.length, 1));
});

test.each<[string, readonly Step[]]>([
  [
    'words that are wrong',
    [
      ['0', 'CONTROL', '', 'EINVAL'],
      ['0', 'CONTROL', 'check', 'EINVAL'],
      ['0', 'CONTROL', 'nonsense|', 'EINVAL'],
      ['0', 'CONTROL', 'check|x|', 'EINVAL'],
      ['0', 'CONTROL', 'help|x|', 'EINVAL'],
      ['0', 'CONTROL', 'log|', 'EINVAL'],
      ['0', 'CONTROL', 'log|perhaps|', 'EINVAL'],
      ['0', 'CONTROL', 'log|on|off|', 'EINVAL'],
      ['0', 'CONTROL', 'print|', 'EINVAL'],
      ['0', 'CONTROL', 'logfile|', 'EINVAL'],
      ['0', 'CONTROL', 'memreport|a|b|', 'EINVAL'],
      ['0', 'CONTROL', 'memreport|', 'EINVAL'],
      ['0', 'CONTROL', 'quota|5|6|', 'EINVAL'],
      ['0', 'CONTROL', 'quota|99|', 'ENOENT'],
      ['0', 'CONTROL', 'quota|set|nodes|', 'EINVAL'],
      ['0', 'CONTROL', 'quota|set|nodes|0|', 'EINVAL'],
      ['0', 'CONTROL', 'quota|set|nodes|-1|', 'EINVAL'],
      ['0', 'CONTROL', 'quota|set|nothing|5|', 'EINVAL'],
      ['0', 'CONTROL', 'quota|set|nodes|5|6|', 'EINVAL'],
      ['0', 'CONTROL', 'quota-soft|5|', 'EINVAL'],
      ['0', 'CONTROL', 'quota-soft|set|nodes|5|', 'EINVAL'],
    ],
  ],
  [
    'words that are right',
    [
      ['0', 'CONTROL', 'check|', OK],
      ['0', 'CONTROL', 'check|rest', OK],
      ['0', 'CONTROL', 'log|on|', OK],
      ['0', 'CONTROL', 'log|off|', OK],
      ['0', 'CONTROL', 'print|hello|', OK],
      ['0', 'CONTROL', 'quota|set|nodes|7x|', OK],
      ['0', 'CONTROL', 'quota-soft|set|memory|5|', OK],
    ],
  ],
])('%s', (_name, steps) => {
  new Scene().run(steps);
});

test('quotas that are set count from then on', async () => {
  const s = new Scene();
  s.run([
    ['0', 'MKDIR', '/local/domain/5|', OK],
    ['0', 'SET_PERMS', '/local/domain/5|n5|', OK],
    ['0', 'CONTROL', 'quota|set|nodes|2|', OK],
  ]);
  await s.introduce(5);
  s.run([
    ['5', 'MKDIR', 'a|', OK],
    ['5', 'MKDIR', 'b|', 'ENOSPC'],
    ['0', 'CONTROL', 'quota|set|path-max|5|', OK],
    ['0', 'READ', '/1234|', 'ENOENT'],
    ['0', 'READ', '/12345|', 'EINVAL'],
  ]);
});

test('check finds what is wrong, and says it in the log', () => {
  const s = new Scene();
  s.core.accounts.of(0).nodes++;
  s.run([['0', 'CONTROL', 'check|', 'EIO']]);
  expect(s.logged).toContain('store is wrong');
});

test('the soft memory quota is told once on each crossing', async () => {
  const s = new Scene({ memorySoft: 500 });
  s.run([
    ['0', 'MKDIR', '/local/domain/5|', OK],
    ['0', 'SET_PERMS', '/local/domain/5|n5|', OK],
  ]);
  await s.introduce(5);
  for (const [value, seconds] of [
    ['x'.repeat(600), 10n],
    ['x'.repeat(700), 10n],
    ['', 1n],
    // Too soon to be told again.
    ['x'.repeat(600), 1n],
    ['', 10n],
    ['x'.repeat(600), 10n],
  ] as const) {
    s.run([['5', 'WRITE', `a|${value}`, OK]]);
    s.clock.advance(seconds * 1_000_000_000n);
  }
  expect(s.logged.filter((line) => line.includes('soft memory quota'))).toEqual([
    'domain exceeds soft memory quota',
    'domain below soft memory quota again',
    'domain exceeds soft memory quota',
  ]);
});

test('log, logfile and memreport reach the daemon', () => {
  const told: string[] = [];
  const s = new Scene(
    {},
    {
      control: {
        setTrace: (on) => told.push(`trace ${on}`),
        setTraceFile: (path) => told.push(`file ${path}`),
        appendReport: (path, report) => {
          told.push(`${path ?? 'trace'}: ${report.split('\n', 1)[0] ?? ''}`);
          return path !== '/unwritable';
        },
      },
    },
  );
  s.run([
    ['0', 'CONTROL', 'log|on|', OK],
    ['0', 'CONTROL', 'logfile|/f|', OK],
    ['0', 'CONTROL', 'memreport|', OK],
    ['0', 'CONTROL', 'memreport|/g|', OK],
    ['0', 'CONTROL', 'memreport|/unwritable|', 'EINVAL'],
    ['0', 'CONTROL', 'log|off|', OK],
  ]);
  expect(told).toEqual([
    'trace true',
    'file /f',
    'trace: xenstored memory',
    '/g: xenstored memory',
    '/unwritable: xenstored memory',
    'trace false',
  ]);
});

test('while the log is on, all that is asked, answered and told is traced', () => {
  const lines: string[] = [];
  const text = (payload: string | Buffer): string => payload.toString('latin1').replaceAll('\0', '|');
  const s = new Scene(
    {},
    {
      trace: {
        request: ({ domid }, { op, payload }) => lines.push(`in ${domid} ${op} ${text(payload)}`),
        reply: ({ domid }, { op }, error, payload) => lines.push(`out ${domid} ${op} ${error ?? text(payload)}`),
        event: ({ domid }, payload) => lines.push(`event ${domid} ${text(payload)}`),
      },
    },
  );
  s.run([
    ['0', 'READ', '/tool|', ''],
    ['0', 'CONTROL', 'log|on|', OK],
    ['0', 'READ', '/none|', 'ENOENT'],
    ['0', 'WATCH', '/w|t|', OK, '! /w|t|'],
    ['0', 'CONTROL', 'log|off|', OK],
    ['0', 'READ', '/tool|', ''],
  ]);
  expect(lines).toEqual([
    'out 0 0 OK|',
    'in 0 2 /none|',
    'out 0 2 ENOENT',
    'in 0 4 /w|t|',
    'out 0 4 OK|',
    'event 0 /w|t|',
    'in 0 0 log|off|',
  ]);
});

test('what has been answered is counted', () => {
  const s = new Scene({}, { conflictPolicy: 'merge' });
  s.run([
    ['0', 'READ', '/tool|', ''],
    ['0', 'READ', '/none|', 'ENOENT'],
    ['0', 99, '', 'ENOSYS'],
    ['0', 'TRANSACTION_START', '|', '1|'],
    ['0:1', 'WRITE', '/a|1', OK],
    ['00', 'WRITE', '/b|1', OK],
    ['0:1', 'TRANSACTION_END', 'T|', OK],
  ]);
  const { requests, errors, commits, conflicts, merges } = s.core.metrics;
  expect(Object.fromEntries(requests)).toEqual({ '-1': 1, 2: 2, 6: 1, 7: 1, 11: 2 });
  expect(Object.fromEntries(errors)).toEqual({ ENOENT: 1, ENOSYS: 1 });
  expect({ commits, conflicts, merges }).toEqual({ commits: 1, conflicts: 1, merges: 1 });
});

describe('live-update', () => {
  function updatable(): { s: Scene; requests: LiveUpdateRequest[]; fail: (reason: string) => void } {
    const requests: LiveUpdateRequest[] = [];
    let fail: (reason: string) => void = () => undefined;
    const s = new Scene(
      {},
      {
        control: {
          checkProgram: (file) => (file === '/none' ? 'File not accessible.' : undefined),
          liveUpdate: (request) => {
            requests.push(request);
            return new Promise((resolve) => {
              fail = resolve;
            });
          },
        },
      },
    );
    return {
      s,
      requests,
      fail: (reason) => {
        fail(reason);
      },
    };
  }

  test('a session is needed, and there is one at a time', () => {
    const { s } = updatable();
    s.run([
      ['0', 'CONTROL', 'live-update|', 'EINVAL'],
      ['0', 'CONTROL', 'live-update|-z|', 'EINVAL'],
      ['0', 'CONTROL', 'live-update|-f|', 'EINVAL'],
      ['0', 'CONTROL', 'live-update|-a|', 'No live-update session active.|'],
      ['0', 'CONTROL', 'live-update|-s|', 'Not in live-update session.|'],
      ['0', 'CONTROL', 'live-update|-c|x|', 'Not in live-update session.|'],
      ['0', 'CONTROL', 'live-update|-f|/none|', 'File not accessible.|'],
      ['0', 'CONTROL', 'live-update|-f|/new|', OK],
      ['00', 'CONTROL', 'live-update|-f|/new|', 'live-update session already active.|'],
      ['00', 'CONTROL', 'live-update|-s|', 'Not in live-update session.|'],
      ['0', 'CONTROL', 'live-update|-s|-t|', 'EINVAL'],
      ['0', 'CONTROL', 'live-update|-s|-q|', 'EINVAL'],
      ['0', 'CONTROL', 'live-update|-a|', OK],
      ['0', 'CONTROL', 'live-update|-s|', 'Not in live-update session.|'],
    ]);
    // Whoever holds one and goes away gives it up.
    s.run([['00', 'CONTROL', 'live-update|-f|/new|', OK]]);
    s.core.disconnect(s.connection('00'));
    s.run([['0', 'CONTROL', 'live-update|-f|/new|', OK]]);
  });

  test('the accepted request is answered in the state that goes over', () => {
    const { s, requests } = updatable();
    s.run([
      ['0', 'CONTROL', 'live-update|-f|/new|', OK],
      ['0', 'CONTROL', 'live-update|-c|--verbose|', OK],
    ]);
    s.send('0', 'CONTROL', 'live-update|-s|-F|-t|30|');
    expect(s.received('0')).toEqual([]);
    expect(s.connection('0').busy).toBe(true);
    expect(s.core.quiescent).toBe(true);
    const [request] = requests;
    expect(request).toMatchObject({ file: '/new', commandLine: '--verbose', timeoutSec: 30, force: true });
    request?.accept();
    const next = s.takeOver(s.core.captureState());
    expect(next.received('0')).toEqual([OK]);
  });

  test('a failure is told by its reason, and the session is over', async () => {
    const { s, fail } = updatable();
    s.run([['0', 'CONTROL', 'live-update|-f|/new|', OK]]);
    s.send('0', 'CONTROL', 'live-update|-s|');
    fail('Cannot start.');
    await new Promise(setImmediate);
    expect(s.received('0')).toEqual(['Cannot start.|']);
    expect(s.connection('0').busy).toBe(false);
    s.run([['0', 'CONTROL', 'live-update|-s|', 'Not in live-update session.|']]);
  });

  test('another can cancel it', async () => {
    const { s, requests, fail } = updatable();
    s.run([['0', 'CONTROL', 'live-update|-f|/new|', OK]]);
    s.send('0', 'CONTROL', 'live-update|-s|');
    s.run([['00', 'CONTROL', 'live-update|-a|', OK]]);
    expect(requests[0]?.cancelled()).toBe(true);
    fail('gave up');
    await new Promise(setImmediate);
    expect(s.received('0')).toEqual(['Cancellation was requested|']);
  });

  test('without a daemon that can, it is refused', () => {
    new Scene().run([['0', 'CONTROL', 'live-update|-f|/new|', 'Live update is not possible.|']]);
  });
});
