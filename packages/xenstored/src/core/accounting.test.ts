import fc from 'fast-check';
import { XS_PAYLOAD_MAX, XsPacketParser } from '@xenhost/xs-wire';
import { randomRequests, runRequests } from '../testing/requests.ts';
import { Scene, sharedScene } from '../testing/script.ts';
import { checkStore } from './check.ts';
import type { ConflictPolicy } from './core.ts';

const OK = 'OK|';
/** For properties, on a machine that has other work. */
const PATIENCE_MS = 60_000;
const NOTHING = { nodes: 0, watches: 0, transactions: 0, outstanding: 0, memory: 0 };

const SMALL = { nodes: 6, watches: 2, transactions: 2, transactionNodes: 8, memory: 6000, permissions: 3 };

test.each<[string, Record<string, number>, ConflictPolicy]>([
  ['the usual quotas', {}, 'eagain'],
  ['small quotas', SMALL, 'eagain'],
  ['merging', SMALL, 'merge'],
])(
  'after any requests accounts are what a recount gives, and a dead domain leaves nothing: %s',
  async (_name, quotas, policy) => {
    await fc.assert(
      fc.asyncProperty(randomRequests(150), async (requests) => {
        const s = await sharedScene(quotas, policy);
        runRequests(s, requests);
        await new Promise(setImmediate);
        expect(checkStore(s.core)).toEqual([]);
        expect(s.logged.filter((line) => line === 'request failed')).toEqual([]);
        for (const domid of [5, 6, 7]) s.core.domainGone(domid);
        expect(checkStore(s.core)).toEqual([]);
        for (const domid of [5, 6, 7]) expect(s.core.accounts.of(domid)).toMatchObject(NOTHING);
        for (const [, node] of s.core.tree.walk()) expect([5, 6, 7]).not.toContain(node.perms.owner);
        for (const who of ['0', '00']) s.core.disconnect(s.connection(who));
        expect(checkStore(s.core)).toEqual([]);
        expect(s.core.accounts.of(0)).toMatchObject({ watches: 0, transactions: 0, outstanding: 0 });
      }),
      { numRuns: 50 },
    );
  },
  PATIENCE_MS,
);

test(
  'any bytes, from tools and guests at once: each request has one reply, nothing fails, accounts are exact',
  async () => {
    const chunk = fc.record({
      who: fc.constantFrom('0', '1', '2'),
      op: fc.oneof(fc.integer({ min: 0, max: 24 }), fc.nat(0xffffffff)),
      reqId: fc.nat(0xffffffff),
      txId: fc.oneof(fc.integer({ min: 0, max: 3 }), fc.nat(0xffffffff)),
      payload: fc.oneof(
        fc.uint8Array({ maxLength: 80 }),
        fc.uint8Array({ minLength: XS_PAYLOAD_MAX - 3, maxLength: XS_PAYLOAD_MAX }),
        fc
          .string({ unit: fc.constantFrom('/', 'a', 'b', '\0', '@', '1', 'n', 'T'), maxLength: 12 })
          .map((text) => Buffer.from(text)),
      ),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(chunk, { maxLength: 100, size: 'max' }), async (chunks) => {
        const s = new Scene();
        await s.introduce(1);
        await s.introduce(2);
        const asked = new Map<string, number>();
        for (const { who, op, reqId, txId, payload } of chunks) {
          const connection = s.connection(who);
          if (connection.busy || connection.closed) continue;
          s.core.handle(connection, { op, reqId, txId, payload: Buffer.from(payload) });
          asked.set(who, (asked.get(who) ?? 0) + 1);
          if (s.connection(who).busy) await new Promise(setImmediate);
        }
        await new Promise(setImmediate);
        for (const [who, requests] of asked) {
          const connection = s.connection(who);
          if (connection.closed) continue;
          const replies = new XsPacketParser().push(connection.output.take()).filter(({ op }) => op !== 15);
          // An introduction drops what its domain had not read.
          if (who === '0') expect(replies).toHaveLength(requests);
          else expect(replies.length).toBeLessThanOrEqual(requests);
        }
        expect(checkStore(s.core)).toEqual([]);
        expect(s.logged.filter((line) => line === 'request failed')).toEqual([]);
      }),
      { numRuns: 80 },
    );
  },
  PATIENCE_MS,
);

describe('memory of a domain is bounded', () => {
  test('whatever a guest does without reading', async () => {
    const s = await sharedScene({ memory: 200_000 });
    const guest = s.connection('5');
    for (let i = 0; i < 130; i++) s.send('5', 'WATCH', `/local/domain/5|${i}|`);
    for (let tx = 1; tx <= 11; tx++) s.send('5', 'TRANSACTION_START', '|');
    for (let i = 0; i < 3000; i++) {
      s.send(`5:${1 + (i % 11)}`, 'WRITE', `n${i}|${'x'.repeat(1900)}`);
      s.send('5', 'WRITE', `m${i % 1200}|${'x'.repeat(1900)}`);
    }
    // Error replies are queued over the quota, but a transport stops reading long before.
    expect(s.core.mayRead(guest)).toBe(false);
    guest.output.take();
    expect(guest.account.memory).toBeLessThan(200_000 + 11 * 4096);
    expect(checkStore(s.core)).toEqual([]);
  });

  test('events that nobody takes stop at the quota', async () => {
    const s = await sharedScene({ memory: 20_000 });
    for (let i = 0; i < 100; i++) s.send('5', 'WATCH', `/shared|${'t'.repeat(20)}${i}|`);
    s.connection('5').output.take();
    for (let i = 0; i < 500; i++) s.send('0', 'WRITE', `/shared/k${i}|1`);
    expect(s.core.accounts.of(5).memory).toBeLessThan(20_000);
    expect(s.connection('5').output.bytes).toBeGreaterThan(10_000);
    s.received('0');
    expect(checkStore(s.core)).toEqual([]);
  });
});

describe('outstanding requests', () => {
  test('a request counts until its reply and the events it caused have been taken', async () => {
    const s = await sharedScene({ outstanding: 3 });
    s.run([['6', 'WATCH', '/shared|t|', OK, '! /shared|t|']]);
    const account = s.core.accounts.of(5);
    const guest = s.connection('5');
    for (const name of ['a', 'b', 'c']) {
      expect(s.core.mayRead(guest)).toBe(true);
      s.send('5', 'WRITE', `/shared/${name}|1`);
    }
    expect(account.outstanding).toBe(3);
    s.received('5');
    expect(account.outstanding).toBe(3);
    expect(s.core.mayRead(guest)).toBe(false);
    expect(checkStore(s.core)).toEqual([]);
    s.connection('6').output.take(16 + '/shared/a|t|'.length);
    expect(account.outstanding).toBe(2);
    expect(s.core.mayRead(guest)).toBe(true);
    s.received('6');
    expect(account.outstanding).toBe(0);
  });

  test("a watcher that goes away releases them, and a domain's own end too", async () => {
    const s = await sharedScene();
    s.run([['6', 'WATCH', '/shared|t|', OK, '! /shared|t|']]);
    s.send('5', 'WRITE', '/shared/a|1');
    s.received('5');
    s.core.domainGone(6);
    expect(s.core.accounts.of(5).outstanding).toBe(0);
    s.run([['0', 'WATCH', '/shared|t|', OK, '! /shared|t|']]);
    s.send('5', 'WRITE', '/shared/a|1');
    s.core.domainGone(5);
    s.received('0');
    expect(s.core.accounts.of(5)).toMatchObject(NOTHING);
    expect(checkStore(s.core)).toEqual([]);
  });

  test('an event that a guest does not take is dropped after 20 seconds, but not one it has begun to take', async () => {
    const s = await sharedScene();
    s.run([['6', 'WATCH', '/shared|t|', OK, '! /shared|t|']]);
    const watcher = s.connection('6');
    s.send('5', 'WRITE', '/shared/a|1');
    s.send('5', 'WRITE', '/shared/b|1');
    s.received('5');
    expect(s.core.expireEvents(watcher)).toBe(20_000);
    const begun = watcher.output.take(5);
    s.clock.advance(10_000_000_000n);
    s.send('5', 'WRITE', '/shared/c|1');
    s.clock.advance(10_000_000_000n);
    expect(s.core.expireEvents(watcher)).toBe(10_000);
    const rest = new XsPacketParser().push(Buffer.concat([begun, watcher.output.take()]));
    expect(rest.map(({ payload }) => payload.toString('latin1'))).toEqual(['/shared/a\0t\0', '/shared/c\0t\0']);
    expect(s.core.accounts.of(5).outstanding).toBe(1);
    expect(s.core.expireEvents(watcher)).toBeUndefined();
    s.received('5');
    expect(checkStore(s.core)).toEqual([]);
    // Tools are given all the time they want.
    s.run([['0', 'WATCH', '/shared|t|', OK, '! /shared|t|']]);
    s.send('5', 'WRITE', '/shared/a|1');
    s.clock.advance(100_000_000_000n);
    expect(s.core.expireEvents(s.connection('0'))).toBeUndefined();
    expect(s.received('0')).toEqual(['! /shared/a|t|']);
  });
});
