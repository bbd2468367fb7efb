import { chmodSync, linkSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openMedium } from './medium.ts';
import type { Medium } from './medium.ts';
import { ImageShares } from './shares.ts';
import type { DiskMode } from './shares.ts';

let directory: string;
let shares: ImageShares;
const opened: Medium[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
  shares = new ImageShares();
});
afterEach(async () => {
  for (const medium of opened.splice(0)) await medium.close();
  rmSync(directory, { recursive: true });
});

function image(name: string, bytes = 8192): string {
  const path = join(directory, name);
  writeFileSync(path, '');
  truncateSync(path, bytes);
  return path;
}

async function open(params: string, mode: string, machine = 'a', type = 'file'): Promise<string> {
  const outcome = await openMedium({ type, params, mode }, machine, { shares });
  if (outcome.kind !== 'open') return `${outcome.kind}: ${outcome.text.replaceAll(directory, 'DIR')}`;
  opened.push(outcome.medium);
  return 'open';
}

/** The sharing rules of tools/hotplug/Linux/block, check_sharing. */
test.each<[DiskMode, DiskMode, string]>([
  ['r', 'r', 'open'],
  ['r', 'w', 'busy: File DIR/x is mounted in a guest domain,\nand so cannot be mounted now.'],
  ['r', 'w!', 'open'],
  ['w', 'r', 'busy: File DIR/x is mounted read-write in a guest domain,\nand so cannot be mounted read-only now.'],
  ['w', 'w', 'busy: File DIR/x is mounted in a guest domain,\nand so cannot be mounted now.'],
  ['w', 'w!', 'open'],
  ['w!', 'r', 'open'],
  ['w!', 'w', 'busy: File DIR/x is mounted in a guest domain,\nand so cannot be mounted now.'],
  ['w!', 'w!', 'open'],
])('who has it as %s, and who wants it as %s: %s', async (has, wants, expected) => {
  const path = image('x');
  expect(await open(path, has)).toBe('open');
  expect(await open(path, wants, 'b')).toBe(expected);
  expect(await open(path, wants, 'a')).toBe('open');
});

test('a file is the same by any path, and free again when it is closed', async () => {
  const path = image('x');
  symlinkSync(path, join(directory, 'symbolic'));
  linkSync(path, join(directory, 'hard'));
  expect(await open(path, 'w')).toBe('open');
  expect(await open(join(directory, 'symbolic'), 'w', 'b')).toMatch(/^busy: File DIR\/x is mounted/);
  expect(await open(join(directory, 'hard'), 'r', 'b')).toMatch(/^busy: File DIR\/hard is mounted read-write/);
  await opened.pop()?.close();
  expect(shares.size).toBe(0);
  expect(await open(join(directory, 'hard'), 'w', 'b')).toBe('open');
});

test.each([
  ['file', 'DIR/none', 'w', 'error: DIR/none does not exist.'],
  ['file', 'DIR', 'r', 'error: DIR is not a file.'],
  ['phy', 'DIR/x', 'r', 'error: DIR/x is not a block device.'],
  ['phy', 'no-such-device', 'r', 'error: /dev/no-such-device does not exist.'],
  ['tap', 'vmdk:DIR/x', 'r', "error: disk tap:vmdk:DIR/x: no driver for 'vmdk'"],
  ['tap2', 'aio:DIR/x', 'w', 'open'],
  ['tap', 'tapdisk:aio:DIR/x', 'w', 'open'],
  ['file', 'DIR/x', 'rw', "error: mode 'rw' is none of r, w and w!"],
  ['file', 'x', 'r', expect.stringMatching(/^error: disk 'file:x'/)],
  ['tap', 'qcow2:DIR/x', 'r', expect.stringMatching(/^error: /)],
  ['', '', 'r', 'open'],
])('%s:%s, mode %s', async (type, params, mode, expected) => {
  image('x');
  expect(await open(params.replace('DIR', directory), mode, 'a', type)).toEqual(expected);
  expect(shares.size).toBe(expected === 'open' && params !== '' ? 1 : 0);
});

test('a file that may not be written is not given out for writing', async () => {
  const path = image('x');
  chmodSync(path, 0o444);
  // Root may write anything; for everybody else it is as the script says.
  const expected = process.getuid?.() === 0 ? 'open' : 'busy: File DIR/x is read-only, and so I will not\nmount it read-write in a guest domain.'; // prettier-ignore
  expect(await open(path, 'w')).toBe(expected);
  expect(await open(path, 'r')).toBe('open');
});

test('a medium tells its size in whole sectors, and when it grows', async () => {
  const path = image('x', 5000);
  expect(await open(path, 'r')).toBe('open');
  const [medium] = opened;
  expect([medium?.sizeBytes, medium?.physicalSectorBytes, medium?.readOnly]).toEqual([5120, 512, true]);
  expect(await medium?.refreshSize()).toBe(false);
  truncateSync(path, 8192);
  expect(await medium?.refreshSize()).toBe(true);
  expect([medium?.sizeBytes, medium?.physicalSectorBytes]).toEqual([8192, 4096]);
});

test('a drive without a medium has no sectors', async () => {
  expect(await open('', 'r', 'a', '')).toBe('open');
  const [medium] = opened;
  expect(medium?.sizeBytes).toBe(0);
  await expect(medium?.read(0, new Uint8Array(512))).rejects.toThrow('no medium');
});
