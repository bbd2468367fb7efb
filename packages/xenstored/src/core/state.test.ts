import { XsOp } from '@xenhost/xs-wire';
import fc from 'fast-check';
import { randomRequests, runRequests } from '../testing/requests.ts';
import { Scene, sharedScene } from '../testing/script.ts';
import { checkStore } from './check.ts';
import type { XenstoreCore } from './core.ts';
import type { StoreChange } from './journal.ts';
import type { CoreState } from './state.ts';

const OK = 'OK|';
/** For properties, on a machine that has other work. */
const PATIENCE_MS = 60_000;

/** The state as another process gets it. */
const overTheWire = (state: CoreState): CoreState => JSON.parse(JSON.stringify(state)) as CoreState;

/** The store as changes, without what a restart does not keep. */
const storeOf = (core: XenstoreCore): StoreChange[] => [...core.snapshot()];

describe('live update', () => {
  test(
    'after any requests the core that takes over goes on like the one before',
    async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.constantFrom('eagain', 'merge' as const),
          randomRequests(120),
          randomRequests(60),
          async (policy, before, after) => {
            const one = await sharedScene({}, policy);
            runRequests(one, before);
            await new Promise(setImmediate);
            // A packet of which a part has been taken.
            one.connection('00').output.take(7);
            const two = one.takeOver(overTheWire(one.core.captureState()));
            expect(checkStore(two.core)).toEqual([]);
            expect(overTheWire(two.core.captureState())).toEqual(overTheWire(one.core.captureState()));
            for (const each of [one, two]) runRequests(each, after);
            await new Promise(setImmediate);
            for (const who of ['0', '5', '6']) expect(two.received(who)).toEqual(one.received(who));
            expect(storeOf(two.core)).toEqual(storeOf(one.core));
            expect(checkStore(two.core)).toEqual([]);
          },
        ),
        { numRuns: 60 },
      );
    },
    PATIENCE_MS,
  );

  test('generations go on alike, whatever lists of rights were shared before', async () => {
    const one = await sharedScene();
    const two = one.takeOver(overTheWire(one.core.captureState()));
    for (const each of [one, two])
      runRequests(each, [
        { who: '0', tx: 0, op: XsOp.SET_PERMS, payload: '/a|n6|' },
        { who: '0', tx: 0, op: XsOp.WRITE, payload: '/a|' },
        { who: '0', tx: 0, op: XsOp.SET_PERMS, payload: '/a|n6|' },
        { who: '0', tx: 0, op: XsOp.DIRECTORY_PART, payload: '/a|0|' },
      ]);
    const answers = one.received('0');
    expect(answers.at(-1)).toMatch(/^\d+\|/);
    expect(two.received('0')).toEqual(answers);
    expect(two.core.tree.generation).toBe(one.core.tree.generation);
  });

  test('open transactions, watches, unread replies and rights go over', async () => {
    const one = await sharedScene();
    one.run([
      ['0', 'WRITE', '/t/a|1', OK],
      ['0', 'SET_TARGET', '5|6|', OK],
      ['0', 'SET_PERMS', '@releaseDomain|n0|r5|', OK],
      ['5', 'WATCH', '@releaseDomain|r|', OK, '! @releaseDomain|r|'],
      ['5', 'WATCH', 'data|t|', OK, '! data|t|'],
      ['0', 'TRANSACTION_START', '|', '1|'],
      ['0:1', 'READ', '/t/a|', '1'],
      ['0:1', 'WRITE', '/t/b|2', OK],
      ['00', 'TRANSACTION_START', '|', '1|'],
      ['00:1', 'READ', '/t/a|', '1'],
    ]);
    one.send('5', 'WRITE', 'data/x|1');
    const two = one.takeOver(overTheWire(one.core.captureState()));
    expect(two.received('5')).toEqual(['! data/x|t|', OK]);
    two.run([
      ['0:1', 'READ', '/t/b|', '2'],
      ['0:1', 'TRANSACTION_END', 'T|', OK],
      ['0', 'READ', '/t/b|', '2'],
      ['00:1', 'WRITE', '/t/a|3', OK],
      ['0', 'WRITE', '/t/a|4', OK],
      ['00:1', 'TRANSACTION_END', 'T|', 'EAGAIN'],
      ['5', 'WRITE', '/local/domain/6/x|by target', OK],
    ]);
    two.core.domainGone(6);
    expect(two.received('5')).toEqual(['! @releaseDomain|r|']);
    two.run([['0', 'CONTROL', 'check|', OK]]);
  });

  test('a transaction that has removed and made nodes again goes on, and is merged, twice over', async () => {
    let s = await sharedScene({}, 'merge');
    s.run([
      ['0', 'WRITE', '/r/a/k|1', OK],
      ['0', 'WRITE', '/r/b|1', OK],
      ['0', 'WRITE', '/r/c|1', OK],
      ['00', 'WATCH', '/r|t|', OK, '! /r|t|'],
      ['0', 'TRANSACTION_START', '|', '1|'],
      ['0:1', 'RM', '/r/a|', OK],
      ['0:1', 'WRITE', '/r/a/n|1', OK],
      ['0:1', 'RM', '/r/a|', OK],
      ['0:1', 'WRITE', '/r/a/n|2', OK],
      ['0:1', 'RM', '/r/b|', OK],
      ['0:1', 'SET_PERMS', '/r/c|n5|', OK],
      ['00', 'TRANSACTION_START', '|', '1|'],
      ['00:1', 'WRITE', '/r/other|1', OK],
    ]);
    for (let i = 0; i < 2; i++) {
      s = s.takeOver(overTheWire(s.core.captureState()));
      s.run([
        ['0:1', 'DIRECTORY', '/r|', 'c|a|'],
        ['0:1', 'DIRECTORY', '/r/a|', 'n|'],
        ['0:1', 'READ', '/r/a/k|', 'ENOENT'],
        ['0', 'DIRECTORY', '/r|', 'a|b|c|'],
        ['0', 'CONTROL', 'check|', OK],
      ]);
    }
    s.run([
      ['0:1', 'TRANSACTION_END', 'T|', OK],
      ['0', 'DIRECTORY', '/r|', 'c|a|'],
      ['0', 'DIRECTORY', '/r/a|', 'n|'],
      ['0', 'GET_PERMS', '/r/c|', 'n5|'],
    ]);
    // In the order in which the transaction has touched them; /r is touched, not changed.
    expect(s.received('00')).toEqual(['! /r/a|t|', '! /r/a/n|t|', '! /r/b|t|', '! /r/c|t|']);
    s.run([
      ['00:1', 'TRANSACTION_END', 'T|', '! /r/other|t|', OK],
      ['0', 'DIRECTORY', '/r|', 'c|a|other|'],
      ['0', 'CONTROL', 'check|', OK],
    ]);
    expect(s.core.metrics.merges).toBe(1);
  });

  test('events that waited keep holding back the guest that caused them, and are not sent twice', async () => {
    const one = await sharedScene();
    one.run([['6', 'WATCH', '/shared|t|', OK, '! /shared|t|']]);
    one.send('5', 'WRITE', '/shared/a|1');
    one.received('5');
    const two = one.takeOver(overTheWire(one.core.captureState()));
    expect(two.core.accounts.of(5).outstanding).toBe(1);
    two.send('5', 'WRITE', '/shared/a|2');
    expect(two.received('6')).toEqual(['! /shared/a|t|']);
    expect(two.core.accounts.of(5).outstanding).toBe(1);
    two.received('5');
    expect(two.core.accounts.of(5).outstanding).toBe(0);
  });

  test('a state of another version is refused', async () => {
    const one = await sharedScene();
    const state = { ...one.core.captureState(), version: 99 };
    expect(() => one.takeOver(state)).toThrow('version 99');
  });

  test('while an introduction is under way there is no state', async () => {
    const one = await sharedScene();
    one.send('0', 'INTRODUCE', '9|1|1|');
    expect(one.core.quiescent).toBe(false);
    expect(() => one.core.captureState()).toThrow();
    await new Promise(setImmediate);
    expect(one.core.quiescent).toBe(true);
    one.core.captureState();
  });
});

describe('journal', () => {
  test(
    'changes noted, or a snapshot, make the same store in a new core',
    async () => {
      await fc.assert(
        fc.asyncProperty(randomRequests(150), fc.boolean(), async (requests, death) => {
          const one = await sharedScene();
          runRequests(one, requests);
          await new Promise(setImmediate);
          if (death) {
            one.core.domainGone(5);
            await one.introduce(5);
          }
          const replayed = new Scene();
          replayed.core.restore(one.journal.flat());
          expect(storeOf(replayed.core)).toEqual(storeOf(one.core));
          expect(checkStore(replayed.core)).toEqual([]);
          const compacted = new Scene();
          compacted.core.restore(one.core.snapshot());
          expect(storeOf(compacted.core)).toEqual(storeOf(one.core));
          expect(checkStore(compacted.core)).toEqual([]);
          expect([...replayed.journal, ...compacted.journal]).toEqual([]);
        }),
        { numRuns: 60 },
      );
    },
    PATIENCE_MS,
  );

  test('one call an operation and a commit, before the reply; none for what changes nothing', async () => {
    const s = new Scene();
    const noted = (): unknown => s.journal.splice(0);
    await s.introduce(5);
    expect(noted()).toEqual([[{ op: 'introduce', domid: 5, mfn: '1', port: 1 }]]);
    s.run([
      ['0', 'WRITE', '/a/b|1', OK],
      ['0', 'READ', '/a/b|', '1'],
      ['0', 'TRANSACTION_START', '|', '1|'],
      ['0:1', 'WRITE', '/a/b|2', OK],
      ['0:1', 'MKDIR', '/a/c|', OK],
      ['0:1', 'RM', '/tool|', OK],
    ]);
    const perms = [{ domid: 0, access: 'none' }];
    expect(noted()).toEqual([
      [
        { op: 'create', path: '/a', value: '', perms },
        { op: 'create', path: '/a/b', value: '1', perms },
      ],
    ]);
    s.run([['0:1', 'TRANSACTION_END', 'T|', OK]]);
    expect(noted()).toEqual([
      [
        { op: 'rm', path: '/tool' },
        { op: 'create', path: '/a/c', value: '', perms },
        { op: 'write', path: '/a/b', value: '2' },
      ],
    ]);
    s.run([
      ['0', 'SET_PERMS', '/a|n5|r70000|', OK],
      ['0', 'SET_PERMS', '@releaseDomain|n0|r5|', OK],
      ['0', 'SET_TARGET', '5|0|', OK],
      ['0', 'RM', '/none|', OK],
      ['0', 'RELEASE', '5|', OK],
    ]);
    const owned = [
      { domid: 5, access: 'none' },
      { domid: 70000, access: 'read', stale: true },
    ];
    expect(noted()).toEqual([
      [{ op: 'perms', path: '/a', perms: owned }],
      [{ op: 'special', name: '@releaseDomain', perms: [perms[0], { domid: 5, access: 'read' }] }],
      [{ op: 'target', domid: 5, target: 0 }],
      [
        { op: 'rm', path: '/a' },
        { op: 'special', name: '@releaseDomain', perms },
        { op: 'release', domid: 5 },
      ],
    ]);
  });

  test('rights of a dead domain stay those of nobody, also after a restart', async () => {
    const s = await sharedScene();
    s.run([
      ['0', 'WRITE', '/r/secret|1', OK],
      ['0', 'SET_PERMS', '/r|n0|r5|', OK],
    ]);
    s.core.domainGone(5);
    await s.introduce(5);
    s.run([
      ['5', 'DIRECTORY', '/r|', 'EACCES'],
      ['0', 'WRITE', '/r/made-later|1', OK],
      ['5', 'READ', '/r/made-later|', 'EACCES'],
      ['0', 'GET_PERMS', '/r/made-later|', 'n0|r5|'],
    ]);
    for (const changes of [s.journal.flat(), [...s.core.snapshot()]]) {
      const restarted = new Scene();
      restarted.core.restore(changes);
      await restarted.introduce(5);
      restarted.run([
        ['0', 'GET_PERMS', '/r/made-later|', 'n0|r5|'],
        ['5', 'DIRECTORY', '/r|', 'EACCES'],
        ['5', 'READ', '/r/made-later|', 'EACCES'],
        ['0', 'SET_PERMS', '/r|n0|r5|', OK],
        ['5', 'DIRECTORY', '/r|', 'secret|made-later|'],
      ]);
    }
  });

  test('the same for a domain that was never introduced', async () => {
    const s = new Scene();
    s.run([
      ['0', 'WRITE', '/r|1', OK],
      ['0', 'SET_PERMS', '/r|n0|r7|', OK],
    ]);
    s.core.checkDomains((domid) => (domid === 7 ? 'gone' : 'alive'));
    s.run([
      ['0', 'WRITE', '/own|1', OK],
      ['0', 'SET_PERMS', '/own|n7|', OK],
    ]);
    for (const changes of [s.journal.flat(), [...s.core.snapshot()]]) {
      const restarted = new Scene();
      restarted.core.restore(changes);
      for (const each of [s, restarted]) {
        await each.introduce(7);
        each.run([
          ['7', 'READ', '/own|', '1'],
          ['7', 'READ', '/r|', 'EACCES'],
        ]);
      }
    }
  });

  test('what does not fit is refused with the reason', () => {
    const s = new Scene();
    expect(() => {
      s.core.restore([{ op: 'write', path: '/none', value: '' }]);
    }).toThrow('no node /none');
  });
});
