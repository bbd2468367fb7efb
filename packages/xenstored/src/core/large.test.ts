import { Scene } from '../testing/script.ts';
import { checkStore } from './check.ts';
import { warmUp } from './warm-up.ts';

const OK = 'OK|';

function wide(s: Scene, at: string, nodes: number): void {
  for (let i = 0; i < nodes; i++) s.send('0', 'MKDIR', `${at}/n${i}|`);
  s.received('0');
}

/** A node as deep as paths allow: names of one byte. */
const deepPath = (levels: number): string => '/d'.repeat(levels);

test('as deep as a path can be, outside and in a transaction', () => {
  const s = new Scene();
  const deep = deepPath(1024);
  s.run([
    ['0', 'MKDIR', `${deep}|`, OK],
    ['0', 'MKDIR', `${deep}/d|`, 'EINVAL'],
    ['0', 'TRANSACTION_START', '|', '1|'],
    ['0:1', 'RM', '/d|', OK],
    ['0:1', 'TRANSACTION_END', 'T|', OK],
    ['0', 'READ', '/d|', 'ENOENT'],
    ['0', 'MKDIR', `${deep}|`, OK],
    ['0', 'WATCH', `${deep}|t|`, OK, `! ${deep}|t|`],
    ['0', 'RM', '/d|', `! ${deep}|t|`, OK],
    ['0', 'CONTROL', 'check|', OK],
  ]);
});

test('deeper than a path: 10,000 levels under a raised limit, restored, watched and removed without recursion', () => {
  const s = new Scene({ pathMax: 100_000 });
  let parent = s.core.tree.root;
  for (let i = 0; i < 10_000; i++) parent = s.core.tree.attach(parent, 'd', parent.perms, '', s.core.tree.tick());
  expect(checkStore(s.core)).toEqual([]);
  const changes = [...s.core.snapshot()];
  expect(changes).toHaveLength(10_000 + 6);
  const copy = s.takeOver(s.core.captureState());
  expect(checkStore(copy.core)).toEqual([]);
  copy.run([
    ['0', 'WATCH', '/|t|', OK, '! /|t|'],
    ['0', 'RM', '/d|', '! /d|t|', OK],
    ['0', 'DIRECTORY', '/|', 'tool|'],
    ['0', 'CONTROL', 'check|', OK],
  ]);
});

test('10,000 children: in parts, beside a transaction, removed with watches on some in their order', () => {
  const s = new Scene();
  wide(s, '/w', 10_000);
  s.run([
    ['0', 'DIRECTORY', '/w|', 'E2BIG'],
    ['0', 'TRANSACTION_START', '|', '1|'],
    ['0:1', 'RM', '/w/n5000|', OK],
    ['0:1', 'MKDIR', '/w/last|', OK],
    ['0:1', 'TRANSACTION_END', 'T|', OK],
    ['00', 'WATCH', '/w/n9|a|', OK, '! /w/n9|a|'],
    ['00', 'WATCH', '/w/n10|b|', OK, '! /w/n10|b|'],
    ['00', 'WATCH', '/w/n10/none|c|', OK, '! /w/n10/none|c|'],
    ['00', 'WATCH', '/w|d|', OK, '! /w|d|'],
  ]);
  let listing = '';
  for (let offset = 0; ;) {
    s.send('0', 'DIRECTORY_PART', `/w|${offset}|`);
    const [part = ''] = s.received('0');
    expect(part.length).toBeLessThanOrEqual(4096);
    const names = part.slice(part.indexOf('|') + 1);
    listing += names;
    offset += names.length;
    if (names.endsWith('||')) break;
  }
  const names = listing.split('|').slice(0, -2);
  expect(names).toHaveLength(10_000);
  expect(names[5000]).toBe('n5001');
  expect(names.at(-1)).toBe('last');
  s.run([['0', 'RM', '/w|', OK]]);
  expect(s.received('00')).toEqual(['! /w/n9|a|', '! /w/n10|b|', '! /w|d|']);
  s.run([['0', 'CONTROL', 'check|', OK]]);
});

test('a part that starts behind the end, before it, or inside a name', () => {
  const s = new Scene();
  s.run([
    ['0', 'MKDIR', '/p/alpha|', OK],
    ['0', 'MKDIR', '/p/b|', OK],
  ]);
  const part = (payload: string): string => {
    s.send('0', 'DIRECTORY_PART', payload);
    return s.received('0')[0]?.replace(/^\d+\|/, '') ?? '';
  };
  expect(part('/p|0|')).toBe('alpha|b||');
  expect(part('/p|2|')).toBe('pha|b||');
  expect(part('/p|6|')).toBe('b||');
  expect(part('/p|7|')).toBe('||');
  expect(part('/p|8|')).toBe('|');
  expect(part('/p|-1|')).toBe('|');
  expect(part('/p|x|')).toBe('alpha|b||');
  expect(part('/p|0|trailing')).toBe('alpha|b||');
  expect(part('/p|0')).toBe('EINVAL');
  expect(part('/p|0|1|')).toBe('EINVAL');
});

test('a dead domain: its topmost nodes go in the order of the tree, whatever the order it came by them', async () => {
  const s = new Scene();
  await s.introduce(5);
  for (const path of ['/z/own', '/a/mid/own', '/a/first/own', '/a/mid/other']) s.run([['0', 'WRITE', `${path}|1`, OK]]);
  for (const path of ['/a/mid/own', '/z/own', '/a/first/own']) s.run([['0', 'SET_PERMS', `${path}|n5|`, OK]]);
  s.run([
    ['5', 'MKDIR', '/z/own/child|', OK],
    ['0', 'WRITE', '/z/own/child/dom0s|1', OK],
    ['0', 'SET_PERMS', '/z/own/child/dom0s|n0|', OK],
    ['0', 'WATCH', '/|t|', OK, '! /|t|'],
    ['0', 'WATCH', '/z/own/child/dom0s|u|', OK, '! /z/own/child/dom0s|u|'],
  ]);
  s.core.domainGone(5);
  expect(s.received('0')).toEqual(['! /z/own/child/dom0s|u|', '! /z/own|t|', '! /a/mid/own|t|', '! /a/first/own|t|']);
  s.run([
    ['0', 'DIRECTORY', '/a/mid|', 'other|'],
    ['0', 'CONTROL', 'check|', OK],
  ]);
});

test('the root outlives its owner', async () => {
  const s = new Scene();
  await s.introduce(5);
  s.run([
    ['0', 'SET_PERMS', '/|n5|', OK],
    ['5', 'WRITE', '/top|1', OK],
  ]);
  s.core.domainGone(5);
  s.run([
    ['0', 'GET_PERMS', '/|', 'n0|'],
    ['0', 'DIRECTORY', '/|', 'tool|'],
    ['0', 'CONTROL', 'check|', OK],
  ]);
});

test('many deaths at once are handled in turns', async () => {
  const s = new Scene();
  for (let domid = 1; domid <= 600; domid++) await s.introduce(domid);
  s.run([['0', 'WATCH', '@releaseDomain|r|', OK, '! @releaseDomain|r|']]);
  expect(s.core.checkDomains(() => 'gone')).toBe(true);
  expect(s.core.domains.size).toBe(344);
  expect(s.core.checkDomains(() => 'gone')).toBe(true);
  expect(s.core.checkDomains(() => 'gone')).toBe(false);
  expect(s.core.domains.size).toBe(0);
  expect(s.received('0')).toHaveLength(600);
});

test('nodes that change hands and come and go by thousands are still found when their owner dies', async () => {
  const s = new Scene({ nodes: 100_000, nodeSize: 1_000_000, memory: 100_000_000 });
  await s.introduce(5);
  s.run([
    ['0', 'MKDIR', '/h|', OK],
    ['0', 'SET_PERMS', '/h|b0|', OK],
  ]);
  for (let i = 0; i < 3000; i++) s.send('5', 'MKDIR', `/h/n${i}|`);
  for (let i = 0; i < 6000; i++) s.send('0', 'SET_PERMS', `/h/n${i % 3000}|n${i % 2 === 0 ? 5 : 0}|`);
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 3000; i++) s.send('5', 'MKDIR', `/h/sub/m${i}|`);
    s.send('0', 'RM', '/h/sub|');
    expect(checkStore(s.core)).toEqual([]);
    s.connection('0').output.take();
    s.connection('5').output.take();
  }
  expect(s.core.accounts.of(5).nodes).toBe(1500);
  s.core.domainGone(5);
  expect(s.core.tree.lookup('/h')?.children?.size).toBe(1500);
  s.run([['0', 'CONTROL', 'check|', OK]]);
});

test('warming up asks nothing that fails, and removes what it has made', () => {
  const s = new Scene();
  warmUp(s.core);
  expect([...s.core.metrics.errors]).toEqual([]);
  expect(s.core.metrics.conflicts).toBe(0);
  expect(s.core.events.sent).toBeGreaterThan(0);
  expect(s.core.nrTransactions).toBe(0);
  s.run([
    ['0', 'DIRECTORY', '/|', 'tool|local|'],
    ['0', 'CONTROL', 'check|', OK],
  ]);
});
