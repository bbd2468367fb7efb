/** Requests for property tests: likely ones by several clients, and any bytes at all. */
import fc from 'fast-check';
import { XsOp } from '@xenhost/xs-wire';
import type { Scene } from './script.ts';

export interface RandomRequest {
  readonly who: string;
  /** 0: outside; else which of the client's open transactions, modulo their number; negative: one that there is not. */
  readonly tx: number;
  readonly op: number;
  /** `|` for NUL. */
  readonly payload: string;
}

const PATHS = [
  '/a',
  '/a/b',
  '/a/b/c',
  '/a/d',
  'x',
  'x/y',
  'x/y/z',
  '/local/domain/5',
  '/local/domain/5/x',
  '/local/domain/6/x/y',
  '/local/domain/7/q',
  '/shared',
  '/shared/k',
  '/',
  '//',
  '/a/',
  '@releaseDomain',
  '@introduceDomain',
  '@other',
  '',
];

const path = fc.constantFrom(...PATHS);
const perms = fc
  .array(
    fc
      .tuple(fc.constantFrom('n', 'r', 'w', 'b', 'x'), fc.constantFrom('0', '5', '6', '7', '1', '70000'))
      .map((p) => p.join('')),
    { minLength: 1, maxLength: 6 },
  )
  .map((list) => list.map((each) => `${each}|`).join(''));
const size = fc.constantFrom(0, 1, 5, 100, 1000, 1990, 2015, 2016, 2100);

const NO_TRANSACTION = 0xffff;
const OPS = Object.values(XsOp);
const CHANGES = [XsOp.WRITE, XsOp.WRITE, XsOp.MKDIR, XsOp.RM, XsOp.SET_PERMS, XsOp.READ, XsOp.DIRECTORY] as const;

const change = fc.tuple(fc.constantFrom(...CHANGES), path, perms, size).map(([op, at, list, bytes]) => ({
  op,
  payload: op === XsOp.SET_PERMS ? `${at}|${list}` : op === XsOp.WRITE ? `${at}|${'v'.repeat(bytes)}` : `${at}|`,
}));

const session = fc.oneof(
  fc.tuple(fc.constantFrom(XsOp.WATCH, XsOp.UNWATCH), path, fc.constantFrom('t', 'u', '')).map(([op, at, token]) => ({
    op,
    payload: `${at}|${token}|`,
  })),
  fc.constantFrom(...Array.from({ length: 6 }, () => ({ op: XsOp.TRANSACTION_START, payload: '|' })), {
    op: XsOp.RESET_WATCHES,
    payload: '',
  }),
  fc.constantFrom('T|', 'F|', 'T|', 'x').map((payload) => ({ op: XsOp.TRANSACTION_END, payload })),
);

const anything = fc.record({
  op: fc.oneof(fc.constantFrom(...OPS), fc.nat(0xffffffff)),
  payload: fc.oneof(
    fc.constantFrom(
      'T|',
      'F|',
      '',
      '|',
      '5|',
      '6|',
      '7|1|1|',
      '5|6|',
      'quota|',
      'quota|5|',
      'check|',
      'help|',
      '/a|0|',
      '/|3|',
    ),
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
    fc.tuple(path, fc.constantFrom('t|', 'value', 'n5|', 'r0|b5|', 'n6|r5|')).map(([at, rest]) => `${at}|${rest}`),
  ),
});

/** Clients `0`, `00`, `5`, `6`, in transactions or none. */
const randomRequest: fc.Arbitrary<RandomRequest> = fc
  .tuple(
    fc.constantFrom('0', '00', '5', '5', '6'),
    fc.constantFrom(0, 0, 0, 1, 1, 1, 2, 3, -1),
    fc.oneof({ arbitrary: change, weight: 9 }, { arbitrary: session, weight: 4 }, { arbitrary: anything, weight: 2 }),
  )
  .map(([who, tx, { op, payload }]) => ({ who, tx, op, payload }));

/** Up to so many: by itself fast-check makes short ones, in which nothing happens. */
export const randomRequests = (maxLength: number): fc.Arbitrary<RandomRequest[]> =>
  fc.array(randomRequest, { maxLength, size: 'max' });

/** Requests one after the other; what the clients get stays unread now and then. */
export function runRequests(scene: Scene, requests: readonly RandomRequest[]): void {
  for (const [i, { who, tx, op, payload }] of requests.entries()) {
    if (who !== '0' && who !== '00' && !scene.core.domains.has(Number(who))) continue;
    const open = [...scene.connection(who).transactions.keys()];
    const txId = tx < 0 ? NO_TRANSACTION : tx === 0 ? 0 : (open[tx % open.length] ?? 0);
    scene.send(`${who}:${txId}`, op, payload);
    if (i % 7 === 0) scene.received(who);
  }
}
