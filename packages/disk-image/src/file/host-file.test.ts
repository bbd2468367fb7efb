/** Files of this machine: holes, tails, sizes, and what is no file. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkImage, createImage } from '../create.ts';
import { openImage } from '../open.ts';
import { HostFile } from './host-file.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});
const file = (name: string): string => join(directory, name);

/** Whether `fallocate` and the file system here make holes. */
const hasHoles = (() => {
  const path = join(mkdtempSync(join(tmpdir(), 'xh-')), 'f');
  try {
    writeFileSync(path, Buffer.alloc(1 << 17, 'x'));
    execFileSync('fallocate', ['--punch-hole', '--offset', '0', '--length', '65536', path], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  } finally {
    rmSync(join(path, '..'), { recursive: true });
  }
})();
const withHoles = hasHoles ? test : test.skip;

test('reads zeros behind the end, in one buffer or many', async () => {
  writeFileSync(file('a'), 'twelve bytes');
  const host = await HostFile.open(file('a'), { readOnly: true });
  const whole = Buffer.alloc(20, 'x');
  await host.read(4, whole);
  expect(whole.toString('latin1')).toBe(`ve bytes${'\0'.repeat(12)}`);
  const parts = [3, 5, 1, 4].map((length) => Buffer.alloc(length, 'x'));
  await host.readv(6, parts);
  expect(Buffer.concat(parts).toString('latin1')).toBe(` bytes${'\0'.repeat(7)}`);
  await host.readv(100, parts);
  expect(Buffer.concat(parts).every((byte) => byte === 0)).toBe(true);
  await host.close();
});

test('more pieces than one system call takes', async () => {
  const host = await HostFile.open(file('a'), { readOnly: false, create: true });
  const pieces = Array.from({ length: 2500 }, (_, index) => Buffer.alloc(1 + (index % 3), index));
  await host.writev(7, pieces);
  expect(readFileSync(file('a')).subarray(7).equals(Buffer.concat(pieces))).toBe(true);
  const back = pieces.map((piece) => Buffer.alloc(piece.length));
  await host.readv(7, back);
  expect(Buffer.concat(back).equals(Buffer.concat(pieces))).toBe(true);
  await host.sync();
  await host.close();
});

test('a disk ends with a whole sector, and follows a file that grows', async () => {
  writeFileSync(file('a'), Buffer.alloc(1000, 'x'));
  const tail = Buffer.alloc(512);
  const image = await openImage({ path: file('a'), readOnly: false });
  expect(image.sizeBytes).toBe(1024);
  await image.read(512, tail);
  expect(tail.every((byte, index) => byte === (index < 488 ? 0x78 : 0))).toBe(true);
  truncateSync(file('a'), 5000);
  expect(image.sizeBytes).toBe(1024);
  expect(await image.refreshSize()).toBe(5120);
  await image.write(4608, Buffer.alloc(512, 'y'));
  await expect(image.write(5120, Buffer.alloc(1))).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
  await image.close();
  expect(statSync(file('a')).size).toBe(5120);
});

withHoles('discarded and zeroed stretches become holes', async () => {
  writeFileSync(file('a'), Buffer.alloc(1 << 20, 'x'));
  const image = await openImage({ path: file('a'), readOnly: false });
  expect(image.supportsDiscard).toBe(true);
  const before = statSync(file('a')).blocks;
  await image.discard(0, 1 << 18);
  await image.writeZeroes((1 << 18) + 1000, 1 << 18);
  await image.writeZeroes(1 << 20, 0);
  await image.close();
  expect(statSync(file('a')).blocks).toBeLessThan(before - 900);
  const bytes = readFileSync(file('a'));
  expect(bytes).toHaveLength(1 << 20);
  const end = (1 << 19) + 1000;
  expect(bytes.subarray(1 << 18, (1 << 18) + 1000).every((byte) => byte === 0x78)).toBe(true);
  expect(bytes.subarray((1 << 18) + 1000, end).every((byte) => byte === 0)).toBe(true);
  expect(bytes.subarray(end).every((byte) => byte === 0x78)).toBe(true);
});

withHoles('what a qcow2 disk has freed becomes holes', async () => {
  const path = file('a');
  await createImage({ path, format: 'qcow2', sizeBytes: 16 << 20 });
  const image = await openImage({ path, format: 'qcow2', readOnly: false });
  await image.write(0, Buffer.alloc(8 << 20, 'x'));
  await image.flush();
  const before = statSync(path).blocks;
  await image.discard(1 << 20, 6 << 20);
  await image.flush();
  expect(statSync(path).blocks).toBeLessThan(before - 10_000);
  await image.write(2 << 20, Buffer.alloc(4 << 20, 'y'));
  const bytes = Buffer.alloc(8 << 20);
  await image.read(0, bytes);
  const model = Buffer.alloc(8 << 20, 'x')
    .fill(0, 1 << 20, 7 << 20)
    .fill('y', 2 << 20, 6 << 20);
  expect(bytes.equals(model)).toBe(true);
  await image.close();
  expect(await checkImage(path)).toMatchObject({ errors: 0, leaks: 0 });
});

test('what is neither a file nor a block device is not opened', async () => {
  execFileSync('mkfifo', [file('pipe')]);
  for (const path of [file('pipe'), directory, '/dev/null']) {
    await expect(HostFile.open(path, { readOnly: true })).rejects.toMatchObject({ code: 'NOT_AN_IMAGE' });
  }
  await expect(HostFile.open(file('missing'), { readOnly: true })).rejects.toMatchObject({ code: 'ENOENT' });
  closeSync(openSync(file('there'), 'w'));
  await expect(HostFile.open(file('there'), { readOnly: false, create: true })).rejects.toMatchObject({
    code: 'EEXIST',
  });
});

test('errors of the file system reach the caller', async () => {
  writeFileSync(file('a'), Buffer.alloc(4096));
  const host = await HostFile.open(file('a'), { readOnly: true });
  await expect(host.write(0, Buffer.alloc(1))).rejects.toMatchObject({ code: 'EBADF' });
  await expect(host.truncate(10)).rejects.toMatchObject({ code: 'EINVAL' });
  await host.close();
});
