import { XsOp } from '@xenhost/xs-wire';
import { Scene } from '../testing/script.ts';
import type { Step } from '../testing/script.ts';

const OK = 'OK|';

async function guests(quotas = {}, policy: 'eagain' | 'merge' = 'eagain'): Promise<Scene> {
  const s = new Scene(quotas, { conflictPolicy: policy });
  for (const domid of [5, 6]) {
    s.run([
      ['0', 'MKDIR', `/local/domain/${domid}|`, OK],
      ['0', 'SET_PERMS', `/local/domain/${domid}|n${domid}|`, OK],
    ]);
    await s.introduce(domid);
  }
  return s;
}

describe('what a transaction sees', () => {
  test.each<[string, readonly Step[]]>([
    [
      'a node stays as it was when first read, its children too',
      [
        ['0', 'WRITE', '/t/a|1', OK],
        ['0', 'TRANSACTION_START', '|', '1|'],
        ['0:1', 'READ', '/t/a|', '1'],
        ['0:1', 'DIRECTORY', '/t|', 'a|'],
        ['00', 'WRITE', '/t/a|2', OK],
        ['00', 'MKDIR', '/t/b|', OK],
        ['00', 'SET_PERMS', '/t|n5|', OK],
        ['0:1', 'READ', '/t/a|', '1'],
        ['0:1', 'DIRECTORY', '/t|', 'a|'],
        ['0:1', 'GET_PERMS', '/t|', 'n0|'],
        ['00', 'RM', '/t|', OK],
        ['0:1', 'READ', '/t/a|', '1'],
        ['0:1', 'DIRECTORY', '/t|', 'a|'],
        ['0:1', 'TRANSACTION_END', 'T|', 'EAGAIN'],
      ],
    ],
    [
      'reads of what is not there conflict with its creation, and so do the parents that were asked',
      [
        ['0', 'TRANSACTION_START', '|', '1|'],
        ['0:1', 'READ', '/x/y|', 'ENOENT'],
        ['00', 'WRITE', '/x|1', OK],
        ['0:1', 'TRANSACTION_END', 'T|', 'EAGAIN'],
        ['0', 'TRANSACTION_START', '|', '2|'],
        ['0:2', 'READ', '/x/y|', 'ENOENT'],
        ['00', 'WRITE', '/elsewhere|1', OK],
        ['0:2', 'TRANSACTION_END', 'T|', OK],
        ['0', 'TRANSACTION_START', '|', '3|'],
        ['0:3', 'READ', '/x/y|', 'ENOENT'],
        ['00', 'WRITE', '/x|2', OK],
        ['0:3', 'TRANSACTION_END', 'T|', 'EAGAIN'],
      ],
    ],
    [
      'a node that was removed and made again conflicts, also with the same value',
      [
        ['0', 'WRITE', '/x|1', OK],
        ['0', 'TRANSACTION_START', '|', '1|'],
        ['0:1', 'READ', '/x|', '1'],
        ['00', 'RM', '/x|', OK],
        ['00', 'WRITE', '/x|1', OK],
        ['0:1', 'TRANSACTION_END', 'T|', 'EAGAIN'],
      ],
    ],
    [
      'a subtree removed, made again in part, and its order',
      [
        ['0', 'WRITE', '/r/a/k|1', OK],
        ['0', 'WRITE', '/r/b|1', OK],
        ['0', 'WRITE', '/r/c|1', OK],
        ['0', 'TRANSACTION_START', '|', '1|'],
        ['0:1', 'RM', '/r/a|', OK],
        ['0:1', 'WRITE', '/r/a/n|2', OK],
        ['0:1', 'RM', '/r/b|', OK],
        ['0:1', 'DIRECTORY', '/r|', 'c|a|'],
        ['0:1', 'DIRECTORY', '/r/a|', 'n|'],
        ['0:1', 'RM', '/r/a|', OK],
        ['0:1', 'READ', '/r/a/n|', 'ENOENT'],
        ['0:1', 'WRITE', '/r/a/m|3', OK],
        ['0:1', 'SET_PERMS', '/r/a|n5|', OK],
        ['0:1', 'TRANSACTION_END', 'T|', OK],
        ['0', 'DIRECTORY', '/r|', 'c|a|'],
        ['0', 'DIRECTORY', '/r/a|', 'm|'],
        ['0', 'READ', '/r/a/k|', 'ENOENT'],
        ['0', 'GET_PERMS', '/r/a|', 'n5|'],
        ['0', 'GET_PERMS', '/r/a/m|', 'n0|'],
        ['0', 'CONTROL', 'check|', OK],
      ],
    ],
    [
      'value and rights of a node that was there are changed at the commit',
      [
        ['0', 'WRITE', '/r|1', OK],
        ['00', 'WATCH', '/r|t|', OK, '! /r|t|'],
        ['0', 'TRANSACTION_START', '|', '1|'],
        ['0:1', 'SET_PERMS', '/r|n0|r5|', OK],
        ['0:1', 'WRITE', '/r|2', OK],
        ['5', 'READ', '/r|', 'EACCES'],
        ['0:1', 'TRANSACTION_END', 'T|', OK],
        ['5', 'READ', '/r|', '2'],
        ['00', 'GET_PERMS', '/r|', '! /r|t|', 'n0|r5|'],
      ],
    ],
    [
      'a guest that loses the right to read hears of it at the commit',
      [
        ['0', 'WRITE', '/r|1', OK],
        ['0', 'SET_PERMS', '/r|n0|r5|', OK],
        ['5', 'WATCH', '/r|t|', OK, '! /r|t|'],
        ['0', 'TRANSACTION_START', '|', '1|'],
        ['0:1', 'SET_PERMS', '/r|n0|', OK],
        ['0:1', 'TRANSACTION_END', 'T|', OK],
        ['5', 'READ', '/r|', '! /r|t|', 'EACCES'],
      ],
    ],
    [
      'what a transaction made and removed leaves nothing and tells nobody',
      [
        ['00', 'WATCH', '/n|t|', OK, '! /n|t|'],
        ['0', 'TRANSACTION_START', '|', '1|'],
        ['0:1', 'MKDIR', '/n/deep|', OK],
        ['0:1', 'RM', '/n|', OK],
        ['0:1', 'TRANSACTION_END', 'T|', OK],
        ['00', 'READ', '/n|', 'ENOENT'],
      ],
    ],
    [
      'ids go on from one to the next, and one is not reused while open',
      [
        ['0', 'TRANSACTION_START', '|', '1|'],
        ['0', 'TRANSACTION_START', '|', '2|'],
        ['0:1', 'TRANSACTION_END', 'F|', OK],
        ['0', 'TRANSACTION_START', '|', '3|'],
        ['0', 'RESET_WATCHES', '', OK],
        ['0:2', 'READ', '/|', 'ENOENT'],
        ['0', 'TRANSACTION_START', '|', '4|'],
        ['00:4', 'READ', '/|', 'ENOENT'],
      ],
    ],
  ])('%s', async (_name, steps) => {
    const s = await guests();
    s.run(steps);
  });

  test('the failed access that a guest makes reads the ancestors', async () => {
    const s = await guests();
    s.run([
      ['6', 'TRANSACTION_START', '|', '1|'],
      ['6:1', 'SET_PERMS', '/tool|w6|n7|n5|', 'EACCES'],
      ['0', 'SET_PERMS', '/|b0|', OK],
      ['6:1', 'WRITE', '/|three', 'EACCES'],
    ]);
  });
});

describe('limits of a transaction', () => {
  test('nodes touched, by any request: at the boundary and one past it', async () => {
    const s = await guests({ transactionNodes: 3 });
    s.run([
      ['5', 'WRITE', 'a|1', OK],
      ['5', 'WRITE', 'b|1', OK],
      ['5', 'WRITE', 'c|1', OK],
      ['5', 'TRANSACTION_START', '|', '1|'],
      ['5:1', 'READ', 'a|', '1'],
      ['5:1', 'READ', 'b|', '1'],
      ['5:1', 'READ', 'c|', '1'],
      ['5:1', 'READ', 'c|', '1'],
      ['5:1', 'READ', '/local/domain/5|', 'ENOSPC'],
      ['5:1', 'READ', 'a|', '1'],
      ['5:1', 'TRANSACTION_END', 'T|', 'ENOMEM'],
      // A removal touches all below.
      ['5', 'TRANSACTION_START', '|', '2|'],
      ['5:2', 'RM', '/local/domain/5|', 'EIO'],
      ['5:2', 'TRANSACTION_END', 'F|', OK],
      ['5', 'WRITE', 'd/e|1', OK],
      ['5', 'WRITE', 'd/f|1', OK],
      ['5', 'TRANSACTION_START', '|', '3|'],
      ['5:3', 'RM', 'd|', 'EIO'],
      ['5:3', 'TRANSACTION_END', 'T|', 'ENOMEM'],
      ['5', 'DIRECTORY', 'd|', 'e|f|'],
      ['0', 'CONTROL', 'check|', OK],
    ]);
  });

  test('Domain-0 may touch as many as it likes', () => {
    const s = new Scene({ transactionNodes: 3 });
    s.run([['0', 'TRANSACTION_START', '|', '1|']]);
    for (let i = 0; i < 10; i++) s.run([['0:1', 'WRITE', `/n${i}|1`, OK]]);
    s.run([['0:1', 'TRANSACTION_END', 'T|', OK]]);
  });

  test('a write that is refused loses the transaction', async () => {
    const s = await guests();
    s.run([
      ['5', 'TRANSACTION_START', '|', '1|'],
      ['5:1', 'WRITE', `a|${'x'.repeat(3000)}`, 'ENOSPC'],
      ['5:1', 'TRANSACTION_END', 'T|', 'ENOMEM'],
    ]);
  });

  test('copies count in the memory of the domain until the end', async () => {
    const s = await guests();
    s.run([['5', 'WRITE', `a|${'x'.repeat(1000)}`, OK]]);
    const before = s.core.accounts.of(5).memory;
    s.run([
      ['5', 'TRANSACTION_START', '|', '1|'],
      ['5:1', 'READ', 'a|', 'x'.repeat(1000)],
    ]);
    expect(s.core.accounts.of(5).memory).toBeGreaterThan(before + 1000);
    s.run([
      ['5:1', 'RM', 'a|', OK],
      ['0', 'CONTROL', 'check|', OK],
    ]);
    expect(s.core.accounts.of(5).memory).toBeLessThan(before + 200);
    s.run([['5:1', 'TRANSACTION_END', 'F|', OK]]);
    expect(s.core.accounts.of(5).memory).toBe(before);
  });
});

describe('conflict policy merge', () => {
  const conflicting = (own: readonly Step[], others: readonly Step[], end: string): readonly Step[] => [
    ['0', 'WRITE', '/m/a|1', OK],
    ['0', 'WRITE', '/m/b|1', OK],
    ['0', 'TRANSACTION_START', '|', '1|'],
    ...own,
    ...others,
    ['0:1', 'TRANSACTION_END', 'T|', end],
    ['0', 'CONTROL', 'check|', OK],
  ];

  test.each<[string, readonly Step[], 'eagain' | 'merge', readonly Step[]]>([
    [
      'two that make siblings are both committed',
      conflicting([['0:1', 'WRITE', '/m/mine|x', OK]], [['00', 'WRITE', '/m/theirs|y', OK]], OK),
      'merge',
      [['0', 'DIRECTORY', '/m|', 'a|b|theirs|mine|']],
    ],
    [
      'the C daemon refuses the same',
      conflicting([['0:1', 'WRITE', '/m/mine|x', OK]], [['00', 'WRITE', '/m/theirs|y', OK]], 'EAGAIN'),
      'eagain',
      [['0', 'DIRECTORY', '/m|', 'a|b|theirs|']],
    ],
    [
      'a value that was read and has changed is a conflict',
      conflicting([['0:1', 'READ', '/m/a|', '1']], [['00', 'WRITE', '/m/a|2', OK]], 'EAGAIN'),
      'merge',
      [],
    ],
    [
      'a value that was written back as it was is none',
      conflicting(
        [
          ['0:1', 'READ', '/m/a|', '1'],
          ['0:1', 'WRITE', '/m/b|2', OK],
        ],
        [
          ['00', 'WRITE', '/m/a|2', OK],
          ['00', 'WRITE', '/m/a|1', OK],
        ],
        OK,
      ),
      'merge',
      [['0', 'READ', '/m/b|', '2']],
    ],
    [
      'a listing that has grown is a conflict',
      conflicting([['0:1', 'DIRECTORY', '/m|', 'a|b|']], [['00', 'MKDIR', '/m/c|', OK]], 'EAGAIN'),
      'merge',
      [],
    ],
    [
      'an error that has become a success is a conflict',
      conflicting([['0:1', 'READ', '/m/c|', 'ENOENT']], [['00', 'MKDIR', '/m/c|', OK]], 'EAGAIN'),
      'merge',
      [],
    ],
    [
      'a removal replayed removes what has come since',
      conflicting([['0:1', 'RM', '/m|', OK]], [['00', 'MKDIR', '/m/c|', OK]], OK),
      'merge',
      [['0', 'READ', '/m|', 'ENOENT']],
    ],
  ])('%s', async (_name, steps, policy, after) => {
    const s = await guests({}, policy);
    s.run(steps);
    s.run(after);
  });

  test('generations in DIRECTORY_PART are no difference', async () => {
    const s = await guests({}, 'merge');
    s.run([
      ['0', 'WRITE', '/m/a|1', OK],
      ['0', 'TRANSACTION_START', '|', '1|'],
    ]);
    s.send('0:1', 'DIRECTORY_PART', '/m|0|');
    expect(s.received('0')[0]).toMatch(/^\d+\|a\|\|$/);
    s.run([
      ['00', 'WRITE', '/m|changed', OK],
      ['0:1', 'TRANSACTION_END', 'T|', OK],
    ]);
  });

  test('what a guest logs counts in its memory, and a quota is checked on what is committed', async () => {
    const s = await guests({ nodes: 5 }, 'merge');
    s.run([
      ['5', 'TRANSACTION_START', '|', '1|'],
      ['5:1', 'WRITE', `a|${'x'.repeat(500)}`, OK],
      ['0', 'CONTROL', 'check|', OK],
    ]);
    for (const name of ['p', 'q', 'r']) s.run([['5', 'WRITE', `${name}|1`, OK]]);
    s.run([
      ['5:1', 'TRANSACTION_END', 'T|', 'ENOSPC'],
      ['0', 'CONTROL', 'check|', OK],
    ]);
  });

  test('one with too many requests is not merged', async () => {
    const s = await guests({}, 'merge');
    s.run([['0', 'TRANSACTION_START', '|', '1|']]);
    for (let i = 0; i < 4097; i++) s.send('0:1', 'READ', '/tool|');
    s.received('0');
    s.run([
      ['0:1', 'WRITE', '/m/a|1', OK],
      ['00', 'WRITE', '/elsewhere|1', OK],
      ['0:1', 'TRANSACTION_END', 'T|', 'EAGAIN'],
    ]);
  });
});

describe('fairness', () => {
  /** A guest that writes as often as it is let, against one that adds up in transactions; how often that one succeeds in a second. */
  async function contest(policy: 'eagain' | 'merge'): Promise<{ commits: number; writes: number }> {
    const s = await guests({}, policy);
    s.run([
      ['0', 'WRITE', '/shared/counter|0', OK],
      ['0', 'SET_PERMS', '/shared|b0|', OK],
      ['0', 'SET_PERMS', '/shared/counter|b0|', OK],
    ]);
    const writer = s.connection('6');
    let commits = 0;
    let writes = 0;
    for (let ms = 0; ms < 1000; ms++) {
      s.send('5', 'TRANSACTION_START', '|');
      const [id = ''] = s.received('5');
      const who = `5:${Number.parseInt(id, 10)}`;
      s.send(who, 'READ', '/shared/counter|');
      // As fast as it is served: ten requests for each of the other.
      for (let i = 0; i < 10 && s.core.mayRead(writer); i++) {
        s.send('6', 'WRITE', '/shared/counter|9');
        expect(s.received('6')).toEqual([OK]);
        writes++;
      }
      s.send(who, 'WRITE', '/shared/counter|1');
      s.send(who, 'TRANSACTION_END', 'T|');
      if (s.received('5').at(-1) === OK) commits++;
      s.clock.advance(1_000_000n);
    }
    return { commits, writes };
  }

  test.each(['eagain', 'merge'] as const)('a guest that always writes cannot starve another (%s)', async (policy) => {
    const { commits, writes } = await contest(policy);
    expect(commits).toBeGreaterThan(700);
    // 200 a second for all, and what it had saved up.
    expect(writes).toBeGreaterThan(150);
    expect(writes).toBeLessThan(220);
  });

  test('without open transactions nobody is held back, and Domain-0 never is', async () => {
    const s = await guests();
    for (let i = 0; i < 500; i++) s.send('6', 'WRITE', `x|${i}`);
    s.received('6');
    expect(s.core.mayRead(s.connection('6'))).toBe(true);
    s.run([['5', 'TRANSACTION_START', '|', '1|']]);
    for (let i = 0; i < 500; i++) s.send('0', 'WRITE', `/x|${i}`);
    expect(s.core.mayRead(s.connection('0'))).toBe(true);
    let served = 0;
    while (s.core.mayRead(s.connection('6')) && served < 100) {
      s.send('6', 'WRITE', 'x|y');
      s.received('6');
      served++;
    }
    expect(served).toBe(11);
    const delayMs = s.core.readDelayMs(s.connection('6')) ?? 0;
    expect(delayMs).toBeGreaterThan(0);
    for (let ms = 0; ms < 100 && !s.core.mayRead(s.connection('6')); ms++) s.clock.advance(1_000_000n);
    expect(s.core.mayRead(s.connection('6'))).toBe(true);
  });

  test('what idle domains do not use is for those that write, however many there are', async () => {
    const s = await guests();
    for (let domid = 100; domid < 600; domid++) await s.introduce(domid);
    s.run([['5', 'TRANSACTION_START', '|', '1|']]);
    const inASecond = (): number => {
      let served = 0;
      for (let ms = 0; ms < 1000; ms++) {
        s.clock.advance(1_000_000n);
        while (s.core.mayRead(s.connection('6')) && served < 10_000) {
          s.send('6', 'WRITE', 'x|y');
          s.received('6');
          served++;
        }
      }
      return served;
    };
    // New domains save up first, then the reserve fills, to a limit.
    s.clock.advance(60_000_000_000n);
    const burst = inASecond();
    expect(burst).toBeGreaterThan(1100);
    expect(burst).toBeLessThan(1300);
    const served = inASecond();
    expect(served).toBeGreaterThan(180);
    expect(served).toBeLessThan(220);
  });
});

test('every operation in a transaction that does not exist is ENOENT, but for watches', async () => {
  const s = await guests();
  for (const [name, op] of Object.entries(XsOp)) {
    if (['WATCH_EVENT', 'ERROR', 'WATCH', 'UNWATCH'].includes(name)) continue;
    s.run([['0:7', op, '/a|', 'ENOENT']]);
  }
});
