/** A repository's images: what is made is what QEMU's own tools read, where they are there. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openImage, type DiskImage } from '@xenhost/disk-image';
import { copyImage, createImage, growImage, MAKING_SUFFIX, MAX_QCOW2_BYTES } from './images.ts';

/** Other processes take part, on machines with other work. */
jest.setTimeout(60_000);

const hasQemuImg = (() => {
  try {
    execFileSync('qemu-img', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();
const withQemuImg = hasQemuImg ? test : test.skip;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});
const file = (name: string): string => join(directory, name);

/** Throws when the image has an error or a cluster that nothing uses. */
const check = (path: string): void => {
  execFileSync('qemu-img', ['check', '-f', 'qcow2', path], { stdio: 'pipe' });
};
const virtualSize = (path: string): number =>
  (
    JSON.parse(execFileSync('qemu-img', ['info', '--output=json', path], { encoding: 'utf8' })) as Record<
      string,
      number
    >
  )['virtual-size']!;
const asRaw = (path: string): Buffer => {
  execFileSync('qemu-img', ['convert', '-f', 'qcow2', '-O', 'raw', path, file('converted')]);
  return readFileSync(file('converted'));
};
const CLUSTER_BYTES = 65_536;
const opened = (name: string): Promise<DiskImage> => openImage({ path: file(name), format: 'qcow2', readOnly: false });
async function read(image: DiskImage, offset: number, length: number): Promise<string> {
  const bytes = Buffer.alloc(length);
  await image.read(offset, bytes);
  return bytes.toString();
}
const ignore = (): void => undefined;

/** A disk of mostly nothing. */
function disk(sizeBytes: number, pieces: readonly (readonly [number, string])[]): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (const [offset, text] of pieces) bytes.write(text, offset);
  return bytes;
}

withQemuImg.each([512, 1 << 20, 1 << 29, (1 << 29) + 512, 2 ** 40, MAX_QCOW2_BYTES])(
  'an empty image of %d bytes',
  async (size) => {
    await createImage(file('a'), 'qcow2', size);
    check(file('a'));
    expect(virtualSize(file('a'))).toBe(size);
  },
);

withQemuImg('raw to qcow2 and back is the same disk', async () => {
  const size = 5 * CLUSTER_BYTES + 1536;
  const bytes = disk(size, [
    [0, 'boot'],
    [3 * CLUSTER_BYTES - 2, 'over an edge'],
    [size - 4, 'last'],
  ]);
  writeFileSync(file('raw'), bytes);
  await copyImage({ path: file('raw'), format: 'raw' }, { path: file('a'), format: 'qcow2' }, size, ignore);
  check(file('a'));
  expect(asRaw(file('a'))).toEqual(bytes);
  await copyImage({ path: file('a'), format: 'qcow2' }, { path: file('back'), format: 'raw' }, size, ignore);
  expect(readFileSync(file('back'))).toEqual(bytes);
  await copyImage({ path: file('a'), format: 'qcow2' }, { path: file('b'), format: 'qcow2' }, size, ignore);
  check(file('b'));
  expect(asRaw(file('b'))).toEqual(bytes);
});

withQemuImg('what QEMU writes into our image is read', async () => {
  await createImage(file('a'), 'qcow2', 1 << 20);
  execFileSync('qemu-io', ['-f', 'qcow2', '-c', 'write -P 0x61 65530 100', file('a')], { stdio: 'ignore' });
  const image = await opened('a');
  expect(await read(image, 65_530, 102)).toBe(`${'a'.repeat(100)}\0\0`);
  await image.close();
});

withQemuImg.each([1 << 29, (1 << 29) + 512, 2 ** 42])('an image with data grows to %d bytes', async (size) => {
  await createImage(file('a'), 'qcow2', 1 << 20);
  const image = await opened('a');
  await image.write(3 * CLUSTER_BYTES, Buffer.alloc(CLUSTER_BYTES, 'x'));
  await image.close();
  await growImage(file('a'), 'qcow2', size);
  check(file('a'));
  expect(virtualSize(file('a'))).toBe(size);
  const again = await opened('a');
  expect(await read(again, 3 * CLUSTER_BYTES, CLUSTER_BYTES)).toBe('x'.repeat(CLUSTER_BYTES));
  await again.close();
});

test('raw copies keep their holes', async () => {
  const size = 64 << 20;
  await createImage(file('raw'), 'raw', size);
  await copyImage({ path: file('raw'), format: 'raw' }, { path: file('copy'), format: 'raw' }, size, ignore);
  expect(statSync(file('copy'))).toMatchObject({ size, blocks: 0 });
});

test('what is no image is refused', async () => {
  writeFileSync(file('junk'), 'QFI\xfb but not much more');
  await expect(growImage(file('junk'), 'qcow2', 512)).rejects.toThrow('qcow2 image');
  await createImage(file('a'), 'qcow2', 1 << 20);
  await expect(growImage(file('a'), 'qcow2', 512)).rejects.toThrow('cannot shrink');
});

test('a copy that fails leaves nothing', async () => {
  writeFileSync(file('junk'), Buffer.alloc(4096, 'junk'));
  const to = { path: file('to'), format: 'raw' } as const;
  await expect(copyImage({ path: file('junk'), format: 'qcow2' }, to, 4096, ignore)).rejects.toThrow('no qcow2 image');
  expect(() => statSync(file('to'))).toThrow('ENOENT');
  expect(() => statSync(file(`to${MAKING_SUFFIX}`))).toThrow('ENOENT');
});
