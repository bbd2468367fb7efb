import fc from 'fast-check';
import { XsOp } from '@xenhost/xs-wire';
import { Scene } from '../testing/script.ts';
import type { Step } from '../testing/script.ts';

const OK = 'OK|';
const NOTHING = { nodes: 0, watches: 0, transactions: 0, outstanding: 0, memory: 0 };

/** Domain 5 owns /local/domain/5, domain 6 likewise; /shared is readable by 5, /hidden by nobody. */
async function scene(quotas = {}): Promise<Scene> {
  const s = new Scene(quotas);
  s.run([
    ['0', 'MKDIR', '/local/domain/5|', OK],
    ['0', 'SET_PERMS', '/local/domain/5|n5|', OK],
    ['0', 'MKDIR', '/local/domain/6|', OK],
    ['0', 'SET_PERMS', '/local/domain/6|n6|', OK],
    ['0', 'WRITE', '/shared|s', OK],
    ['0', 'SET_PERMS', '/shared|n0|r5|', OK],
    ['0', 'WRITE', '/hidden|h', OK],
  ]);
  await s.introduce(5);
  await s.introduce(6);
  return s;
}

const tables: Record<string, readonly Step[]> = {
  'reading and writing': [
    ['0', 'READ', '/none|', 'ENOENT'],
    ['0', 'WRITE', '/a/b/c|value', OK],
    ['0', 'READ', '/a/b/c|', 'value'],
    ['0', 'READ', '/a/b|', ''],
    ['0', 'WRITE', '/a/b/c|', OK],
    ['0', 'READ', '/a/b/c|', ''],
    ['0', 'WRITE', '/a/b/c|x|y', OK],
    ['0', 'READ', '/a/b/c|', 'x|y'],
    ['0', 'MKDIR', '/a/b/c|', OK],
    ['0', 'READ', '/a/b/c|', 'x|y'],
    ['0', 'DIRECTORY', '/a|', 'b|'],
    ['0', 'DIRECTORY', '/a/b/c|', ''],
    ['0', 'DIRECTORY', '/|', 'tool|local|shared|hidden|a|'],
  ],
  'relative paths start at the own directory': [
    ['5', 'WRITE', 'data|v', OK],
    ['0', 'READ', '/local/domain/5/data|', 'v'],
    ['5', 'READ', 'data|', 'v'],
    ['0', 'WRITE', 'name|Domain-0', OK],
    ['0', 'READ', '/local/domain/0/name|', 'Domain-0'],
  ],
  'children keep the order of creation': [
    ['0', 'MKDIR', '/o/z|', OK],
    ['0', 'MKDIR', '/o/a|', OK],
    ['0', 'MKDIR', '/o/m|', OK],
    ['0', 'RM', '/o/a|', OK],
    ['0', 'MKDIR', '/o/a|', OK],
    ['0', 'DIRECTORY', '/o|', 'z|m|a|'],
  ],
  'paths and payloads that are wrong': [
    ['0', 'READ', '/a', 'EINVAL'],
    ['0', 'READ', '', 'EINVAL'],
    ['0', 'READ', '/a|b|', 'EINVAL'],
    ['0', 'READ', '/a//b|', 'EINVAL'],
    ['0', 'READ', '/a/|', 'EINVAL'],
    ['0', 'READ', '|', 'EINVAL'],
    ['0', 'READ', '/a.b|', 'EINVAL'],
    ['0', 'READ', '/\u00e4|', 'EINVAL'],
    ['0', 'READ', '@x|', 'EINVAL'],
    ['0', 'WRITE', '/nonul', 'EINVAL'],
    ['0', 'RM', '/|', 'EINVAL'],
    ['0', 'WATCH', '/a|', 'EINVAL'],
    ['0', 'WATCH', '/a|t', 'EINVAL'],
    ['0', 'SET_PERMS', '/shared|', 'EINVAL'],
    ['0', 'SET_PERMS', '/shared|x5|', 'EINVAL'],
    ['0', 'TRANSACTION_END', 'X|', 'EINVAL'],
    ['0', 'TRANSACTION_END', 'T|', 'ENOENT'],
    ['0:7', 'READ', '/shared|', 'ENOENT'],
    ['0', 20, '', 'ENOSYS'],
    ['0', 'WATCH_EVENT', '', 'ENOSYS'],
    ['0', 9999, '', 'ENOSYS'],
  ],
  'what a guest may not do': [
    ['5', 'READ', '/hidden|', 'EACCES'],
    ['5', 'READ', '/absent|', 'EACCES'],
    ['5', 'READ', '/shared|', 's'],
    ['5', 'READ', '/shared/none|', 'ENOENT'],
    ['5', 'WRITE', '/shared|x', 'EACCES'],
    ['5', 'WRITE', '/shared/x|x', 'EACCES'],
    ['5', 'RM', '/shared|', 'EACCES'],
    ['6', 'READ', '/shared|', 'EACCES'],
    ['5', 'WRITE', '/local/domain/6/x|v', 'EACCES'],
    ['5', 'SET_PERMS', '/shared|n5|', 'EACCES'],
    ['5', 'WRITE', 'mine|v', OK],
    ['5', 'SET_PERMS', 'mine|n6|', 'EPERM'],
    ['5', 'SET_PERMS', 'mine|n5|b6|', OK],
    ['6', 'WRITE', '/local/domain/5/mine|by6', OK],
    ['6', 'SET_PERMS', '/local/domain/5/mine|n5|', 'EACCES'],
    ['5', 'READ', 'mine|', 'by6'],
    ['5', 'INTRODUCE', '7|1|1|', 'EACCES'],
    ['5', 'RELEASE', '6|', 'EACCES'],
    ['5', 'RESUME', '6|', 'EACCES'],
    ['5', 'SET_TARGET', '5|6|', 'EACCES'],
    ['5', 'IS_DOMAIN_INTRODUCED', '5|', 'EACCES'],
    ['5', 'CONTROL', 'check|', 'EACCES'],
    ['5', 'GET_DOMAIN_PATH', '5|', '/local/domain/5|'],
    ['0', 'SET_TARGET', '5|6|', OK],
    ['5', 'WRITE', '/local/domain/6/x|v', OK],
  ],
  'what a guest creates is its own, with the access of the parent': [
    ['0', 'SET_PERMS', '/local/domain/5|n5|r6|', OK],
    ['5', 'WRITE', 'dir/leaf|v', OK],
    ['0', 'GET_PERMS', '/local/domain/5/dir|', 'n5|r6|'],
    ['0', 'GET_PERMS', '/local/domain/5/dir/leaf|', 'n5|r6|'],
    ['0', 'WRITE', '/local/domain/5/dom0|v', OK],
    ['0', 'GET_PERMS', '/local/domain/5/dom0|', 'n5|r6|'],
    ['0', 'GET_PERMS', '@releaseDomain|', 'EINVAL'],
  ],
  removing: [
    ['0', 'WRITE', '/r/a/b|1', OK],
    ['0', 'RM', '/r/a|', OK],
    ['0', 'READ', '/r/a/b|', 'ENOENT'],
    ['0', 'RM', '/r/a|', OK],
    ['0', 'RM', '/r/x/y|', 'ENOENT'],
    ['0', 'DIRECTORY', '/r|', ''],
  ],
  'watches: once at registration, then in order, own changes before the reply': [
    ['0', 'WATCH', '/w|tok|', OK, '! /w|tok|'],
    ['0', 'WATCH', '/w|tok|', 'EEXIST'],
    ['0', 'WATCH', '/w|two|', OK, '! /w|two|'],
    ['0', 'WRITE', '/w/x/y|1', '! /w/x/y|tok|', '! /w/x/y|two|', OK],
    ['0', 'UNWATCH', '/w|two|', OK],
    ['0', 'UNWATCH', '/w|two|', 'ENOENT'],
    ['0', 'WATCH', '/w/x/y|deep|', OK, '! /w/x/y|deep|'],
    ['0', 'RM', '/w/x|', '! /w/x/y|deep|', '! /w/x|tok|', OK],
    ['0', 'RESET_WATCHES', '', OK],
    ['0', 'WRITE', '/w|1', OK],
    ['5', 'WATCH', 'data|t|', OK, '! data|t|'],
    ['5', 'WRITE', 'data/k|v', '! data/k|t|', OK],
    ['5', 'WATCH', '/hidden|t|', OK, '! /hidden|t|'],
  ],
  transactions: [
    ['0', 'TRANSACTION_START', '|', '1|'],
    ['0:1', 'TRANSACTION_START', '|', 'EBUSY'],
    ['0:1', 'WRITE', '/t/a|1', OK],
    ['0:1', 'READ', '/t/a|', '1'],
    ['0', 'READ', '/t/a|', 'ENOENT'],
    ['0:1', 'TRANSACTION_END', 'T|', OK],
    ['0', 'READ', '/t/a|', '1'],
    ['0', 'TRANSACTION_START', '|', '2|'],
    ['0:2', 'RM', '/t|', OK],
    ['0:2', 'READ', '/t/a|', 'ENOENT'],
    ['0:2', 'TRANSACTION_END', 'F|', OK],
    ['0', 'READ', '/t/a|', '1'],
    ['0', 'TRANSACTION_START', '|', '3|'],
    ['0:3', 'READ', '/t/a|', '1'],
    ['00', 'WRITE', '/t/a|2', OK],
    ['0:3', 'TRANSACTION_END', 'T|', 'EAGAIN'],
    ['0', 'TRANSACTION_START', '|', '4|'],
    ['0:4', 'WRITE', '/t/b|1', OK],
    ['00', 'WRITE', '/t/c|1', OK],
    ['0:4', 'TRANSACTION_END', 'T|', 'EAGAIN'],
    ['0', 'TRANSACTION_START', '|', '5|'],
    ['0:5', 'READ', '/t/nothere|', 'ENOENT'],
    ['00', 'WRITE', '/elsewhere|1', OK],
    ['0:5', 'RM', '/t|', OK],
    ['0:5', 'WRITE', '/t/z|new', OK],
    ['0:5', 'WRITE', '/t/b|new', OK],
    ['0:5', 'TRANSACTION_END', 'T|', OK],
    ['0', 'DIRECTORY', '/t|', 'z|b|'],
    ['0', 'CONTROL', 'check|', OK],
  ],
  'a transaction tells watchers at its end, once a node': [
    ['00', 'WATCH', '/tw|t|', OK, '! /tw|t|'],
    ['0', 'TRANSACTION_START', '|', '1|'],
    ['0:1', 'WRITE', '/tw/a|1', OK],
    ['0:1', 'WRITE', '/tw/a|2', OK],
    ['0:1', 'WRITE', '/tw/b|1', OK],
    ['00', 'READ', '/shared|', 's'],
    ['0:1', 'TRANSACTION_END', 'T|', OK],
    ['00', 'READ', '/shared|', '! /tw/a|t|', '! /tw/b|t|', 's'],
  ],
  control: [
    ['0', 'CONTROL', 'nonsense|', 'EINVAL'],
    ['0', 'CONTROL', 'quota|set|nodes|7|', OK],
    ['0', 'CONTROL', 'quota|set|nodes|0|', 'EINVAL'],
    ['0', 'CONTROL', 'quota|99|', 'ENOENT'],
    ['0', 'CONTROL', 'check|', OK],
  ],
};

test.each(Object.entries(tables))('%s', async (_name, steps) => {
  const s = await scene();
  s.run(steps);
});

test('an event reaches only who may read the node', async () => {
  const s = await scene();
  s.run([
    ['5', 'WATCH', '/|t|', OK, '! /|t|'],
    ['0', 'WRITE', '/hidden|2', OK],
    ['0', 'WRITE', '/shared|2', OK],
  ]);
  expect(s.received('5')).toEqual(['! /shared|t|']);
});

test('equal events that still wait are sent once', async () => {
  const s = await scene();
  s.run([['00', 'WATCH', '/shared|t|', OK, '! /shared|t|']]);
  for (let i = 0; i < 1000; i++) s.send('0', 'WRITE', `/shared|${i}`);
  expect(s.received('00')).toEqual(['! /shared|t|']);
});

test('special watches tell of domains; a dead domain leaves nothing', async () => {
  const s = await scene();
  s.run([
    ['0', 'WATCH', '@introduceDomain|i|', OK, '! @introduceDomain|i|'],
    ['0', 'WATCH', '@releaseDomain|r|', OK, '! @releaseDomain|r|'],
    ['0', 'IS_DOMAIN_INTRODUCED', '5|', 'T|'],
    ['0', 'IS_DOMAIN_INTRODUCED', '7|', 'F|'],
    ['5', 'WRITE', 'data/x|v', OK],
    ['5', 'WATCH', 'data|t|', OK, '! data|t|'],
    ['5', 'TRANSACTION_START', '|', '1|'],
  ]);
  await s.introduce(7);
  expect(s.received('0')).toEqual(['! @introduceDomain|i|']);
  s.core.checkDomains((domid) => (domid === 6 ? 'shutdown' : 'alive'));
  s.core.checkDomains((domid) => (domid === 6 ? 'shutdown' : 'alive'));
  expect(s.received('0')).toEqual(['! @releaseDomain|r|']);
  s.core.checkDomains((domid) => (domid === 5 ? 'gone' : 'alive'));
  expect(s.received('0')).toEqual(['! @releaseDomain|r|']);
  expect(s.core.accounts.of(5)).toMatchObject(NOTHING);
  s.run([
    ['0', 'READ', '/local/domain/5|', 'ENOENT'],
    // Shown still, as by the C daemon, but no later domain of that number has it.
    ['0', 'GET_PERMS', '/shared|', 'n0|r5|'],
    ['0', 'RELEASE', '5|', 'ENOENT'],
    ['0', 'RELEASE', '0|', 'EINVAL'],
    ['0', 'RELEASE', '6|', '! @releaseDomain|r|', OK],
    ['0', 'CONTROL', 'check|', OK],
  ]);
});

test('INTRODUCE answers when the ring is connected, with the errors of the C daemon', async () => {
  const s = await scene();
  s.send('0', 'INTRODUCE', '9|123|4|');
  expect(s.received('0')).toEqual([]);
  expect(s.connection('0').busy).toBe(true);
  await new Promise(setImmediate);
  expect(s.received('0')).toEqual([OK]);
  s.run([
    ['0', 'INTRODUCE', '9|123|0|', 'EINVAL'],
    ['0', 'INTRODUCE', '9|123|', 'EINVAL'],
    ['0', 'IS_DOMAIN_INTRODUCED', '9|', 'T|'],
  ]);
});

describe('rights of domains that the hypervisor does not know', () => {
  const asking = async (steps: readonly Step[]): Promise<Scene> => {
    const s = new Scene({}, { existing: new Set([5, 6]) });
    s.run([['0', 'WRITE', '/x|1', OK]]);
    for (const [who, op, payload, ...expected] of steps) {
      s.send(who, op, payload);
      while (s.connection(who.split(':')[0] ?? '').busy) await new Promise(setImmediate);
      expect([payload, ...s.received(who)]).toEqual([payload, ...expected]);
    }
    return s;
  };

  test("they are shown and are nobody's, and no node can be theirs", async () => {
    const s = await asking([
      ['0', 'SET_PERMS', '/x|n9|', 'ENOENT'],
      ['0', 'GET_PERMS', '/x|', 'n0|'],
      ['0', 'SET_PERMS', '/x|n0|r9|r5|', OK],
      ['0', 'GET_PERMS', '/x|', 'n0|r9|r5|'],
      ['0', 'SET_PERMS', '@releaseDomain|n9|', 'ENOENT'],
      [
        '0',
        'CONTROL',
        'quota|5|',
        'Domain 5:\nnodes           :        0\nwatches         :        0\ntransactions    :        0\noutstanding     :        0\nmemory          :        0\n|',
      ],
      ['0', 'CONTROL', 'quota|9|', 'ENOENT'],
    ]);
    await s.introduce(9);
    await s.introduce(5);
    s.run([
      ['9', 'READ', '/x|', 'EACCES'],
      ['5', 'READ', '/x|', '1'],
      ['0', 'SET_PERMS', '/x|n0|r9|', OK],
      ['9', 'READ', '/x|', '1'],
    ]);
  });

  test('a transaction goes on meanwhile, and a client may leave', async () => {
    const s = await asking([
      ['0', 'TRANSACTION_START', '|', '1|'],
      ['0:1', 'SET_PERMS', '/x|n6|', OK],
      ['0:1', 'TRANSACTION_END', 'T|', OK],
      ['0', 'GET_PERMS', '/x|', 'n6|'],
    ]);
    s.send('00', 'SET_PERMS', '/x|n8|');
    s.core.disconnect(s.connection('00'));
    await new Promise(setImmediate);
    s.run([['0', 'CONTROL', 'check|', OK]]);
  });
});

describe('limits of a guest, at the boundary and one past it', () => {
  const value = (n: number): string => 'v'.repeat(n);

  test('size of a node', async () => {
    const s = await scene();
    // 24 bytes of header, 8 for one permission, and the record must stay below 2048.
    s.run([
      ['5', 'WRITE', `big|${value(2015)}`, OK],
      ['5', 'WRITE', `big|${value(2016)}`, 'ENOSPC'],
      ['0', 'WRITE', `/big|${value(4000)}`, OK],
    ]);
  });

  test('nodes', async () => {
    const s = await scene({ nodes: 10 });
    for (let i = 0; i < 9; i++) s.run([['5', 'MKDIR', `n${i}|`, OK]]);
    s.run([
      ['5', 'MKDIR', 'n9|', 'ENOSPC'],
      ['5', 'MKDIR', 'n8|', OK],
      ['5', 'RM', 'n8|', OK],
      ['5', 'MKDIR', 'n9|', OK],
      ['5', 'TRANSACTION_START', '|', '1|'],
      ['5:1', 'RM', 'n9|', OK],
      // Refused as long as the domain has its fill outside.
      ['5:1', 'MKDIR', 'm|', 'ENOSPC'],
      ['5:1', 'TRANSACTION_END', 'T|', OK],
      ['5', 'RM', 'n7|', OK],
      ['5', 'TRANSACTION_START', '|', '2|'],
      ['5:2', 'MKDIR', 'm|', OK],
      ['5:2', 'TRANSACTION_END', 'T|', OK],
      // Inside, more than the quota can be made; the commit must stay below it.
      ['5', 'TRANSACTION_START', '|', '3|'],
      ['5:3', 'MKDIR', 'm1|', OK],
      ['5:3', 'TRANSACTION_END', 'T|', 'ENOSPC'],
      ['0', 'CONTROL', 'check|', OK],
    ]);
  });

  test('watches', async () => {
    const s = await scene({ watches: 3 });
    for (let i = 0; i < 4; i++) s.run([['5', 'WATCH', `w|${i}|`, OK, `! w|${i}|`]]);
    s.run([['5', 'WATCH', 'w|4|', 'E2BIG']]);
  });

  test('transactions', async () => {
    const s = await scene({ transactions: 2 });
    for (let i = 1; i <= 3; i++) s.run([['5', 'TRANSACTION_START', '|', `${i}|`]]);
    s.run([['5', 'TRANSACTION_START', '|', 'ENOSPC']]);
  });

  test('nodes touched in a transaction', async () => {
    const s = await scene({ transactionNodes: 4 });
    s.run([
      ['5', 'TRANSACTION_START', '|', '1|'],
      ['5:1', 'MKDIR', 'a|', OK],
      ['5:1', 'MKDIR', 'b|', OK],
      ['5:1', 'MKDIR', 'c|', OK],
      ['5:1', 'MKDIR', 'd|', 'ENOSPC'],
      ['5:1', 'TRANSACTION_END', 'T|', 'ENOMEM'],
      ['5', 'DIRECTORY', '/local/domain/5|', ''],
    ]);
  });

  test('path length, counted behind the own directory', async () => {
    const s = await scene();
    s.run([
      ['5', 'READ', `${'p'.repeat(2048)}|`, 'ENOENT'],
      ['5', 'READ', `${'p'.repeat(2049)}|`, 'EINVAL'],
      ['0', 'READ', `/${'p'.repeat(2047)}|`, 'ENOENT'],
      ['0', 'READ', `/${'p'.repeat(2048)}|`, 'EINVAL'],
    ]);
  });

  test('permissions', async () => {
    const s = await scene();
    s.run([
      ['5', 'MKDIR', 'p|', OK],
      ['5', 'SET_PERMS', 'p|n5|r1|r2|r3|r4|', OK],
      ['5', 'SET_PERMS', 'p|n5|r1|r2|r3|r4|r6|', 'ENOSPC'],
    ]);
  });

  test('memory', async () => {
    const s = await scene({ memory: 4000 });
    s.run([
      ['5', 'WRITE', `a|${value(1900)}`, OK],
      ['5', 'WRITE', `b|${value(1900)}`, OK],
      ['5', 'WRITE', `c|${value(1900)}`, 'EIO'],
      ['5', 'RM', 'a|', OK],
      ['5', 'WRITE', `c|${value(1900)}`, OK],
    ]);
  });
});

test('a long directory comes in parts', () => {
  const s = new Scene();
  const names = Array.from({ length: 700 }, (_, i) => `child-${String(i).padStart(4, '0')}`);
  for (const name of names) s.send('0', 'MKDIR', `/d/${name}|`);
  s.received('0');
  s.run([['0', 'DIRECTORY', '/d|', 'E2BIG']]);
  const collected: string[] = [];
  for (let offset = 0; ;) {
    s.send('0', 'DIRECTORY_PART', `/d|${offset}|`);
    const [part = ''] = s.received('0');
    const body = part.slice(part.indexOf('|') + 1);
    expect(part.length).toBeLessThanOrEqual(4096);
    const last = body.endsWith('||');
    const kept = last ? body.slice(0, -1) : body;
    offset += kept.length;
    collected.push(...kept.split('|').slice(0, -1));
    if (last) break;
  }
  expect(collected).toEqual(names);
});

test('random requests: no crash, accounts stay exact, replies match requests one for one', async () => {
  const path = fc.constantFrom(
    '/a',
    '/a/b',
    '/a/b/c',
    'x',
    'x/y',
    '/local/domain/5',
    '/local/domain/5/x',
    '/',
    '//',
    '@releaseDomain',
    '',
  );
  const step = fc.record({
    who: fc.constantFrom('0', '5', '6'),
    tx: fc.constantFrom(0, 0, 0, 1, 2),
    op: fc.constantFrom(...Object.values(XsOp).filter((op) => op !== XsOp.INTRODUCE)),
    payload: fc.oneof(
      path.map((p) => `${p}|`),
      fc.tuple(path, fc.constantFrom('t|', 'value', 'n5|', 'r0|b5|', 'n6|r5|')).map(([p, rest]) => `${p}|${rest}`),
      fc.constantFrom('T|', 'F|', '', '|', '5|', '6|', '5|6|', 'quota|', 'check|'),
      fc.string({ maxLength: 20 }),
    ),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const s = await scene();
      for (const { who, tx, op, payload } of steps) {
        if (who !== '0' && !s.core.domains.has(Number(who))) continue;
        s.send(`${who}:${tx}`, op, payload);
        expect(s.received(who).filter((text) => !text.startsWith('! '))).toHaveLength(1);
      }
      expect(s.core.checkAccounts()).toBe(true);
      expect(s.logged.filter((line) => line === 'request failed')).toEqual([]);
      for (const domid of [5, 6]) {
        s.core.domainGone(domid);
        expect(s.core.accounts.of(domid)).toMatchObject(NOTHING);
      }
    }),
    { numRuns: 150 },
  );
});
