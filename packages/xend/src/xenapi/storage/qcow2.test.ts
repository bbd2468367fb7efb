/** The writer of qcow2 images: what it makes is what QEMU's own tools read, where they are there. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { copyImage, createImage, growImage, MAKING_SUFFIX } from './images.ts';
import { CLUSTER_BYTES, MAX_QCOW2_BYTES, Qcow2Image } from './qcow2.ts';

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
  const image = await Qcow2Image.open(file('a'));
  expect((await image.read(0))?.subarray(-6).toString()).toBe('aaaaaa');
  expect((await image.read(1))?.subarray(0, 95).toString()).toBe(`${'a'.repeat(94)}\0`);
  expect(await image.read(2)).toBeUndefined();
  await image.close();
});

withQemuImg.each([1 << 29, (1 << 29) + 512, 2 ** 42])('an image with data grows to %d bytes', async (size) => {
  const image = await Qcow2Image.create(file('a'), 1 << 20);
  await image.write(3, Buffer.alloc(CLUSTER_BYTES, 'x'));
  await image.close();
  await growImage(file('a'), 'qcow2', size);
  check(file('a'));
  expect(virtualSize(file('a'))).toBe(size);
  const again = await Qcow2Image.open(file('a'));
  expect((await again.read(3))?.toString()).toBe('x'.repeat(CLUSTER_BYTES));
  await again.close();
});

withQemuImg('any clusters in any order', async () => {
  const size = 2 ** 33;
  let round = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.nat({ max: size / CLUSTER_BYTES - 1 }), { minLength: 1, maxLength: 40 }),
      async (clusters) => {
        const path = file(`any${round++}`);
        const image = await Qcow2Image.create(path, size);
        for (const cluster of clusters) await image.write(cluster, Buffer.alloc(CLUSTER_BYTES, String(cluster)));
        await image.close();
        check(path);
        const again = await Qcow2Image.open(path);
        for (const cluster of clusters) {
          const expected = Buffer.alloc(CLUSTER_BYTES, String(cluster));
          expect((await again.read(cluster))?.equals(expected)).toBe(true);
        }
        await again.close();
        rmSync(path);
      },
    ),
    { numRuns: 8 },
  );
});

test('counts are kept over more than one block of them', async () => {
  // 32768 clusters are counted in a block: 2 GiB of file.
  const path = file('long');
  const image = await Qcow2Image.create(path, 2 ** 40);
  // One cluster under each L1 entry costs two: a table and itself.
  for (let entry = 0; entry < 100; entry += 1) await image.write(entry * 8192, Buffer.alloc(CLUSTER_BYTES, 1));
  await image.close();
  if (hasQemuImg) check(path);
  expect(statSync(path).size % CLUSTER_BYTES).toBe(0);
});

test('raw copies keep their holes', async () => {
  const size = 64 << 20;
  await createImage(file('raw'), 'raw', size);
  await copyImage({ path: file('raw'), format: 'raw' }, { path: file('copy'), format: 'raw' }, size, ignore);
  expect(statSync(file('copy'))).toMatchObject({ size, blocks: 0 });
});

test('what is no image of ours is refused', async () => {
  writeFileSync(file('junk'), 'QFI\xfb but not much more');
  await expect(Qcow2Image.open(file('junk'))).rejects.toThrow('qcow2 image');
  await createImage(file('a'), 'qcow2', 1 << 20);
  await expect(growImage(file('a'), 'qcow2', 512)).rejects.toThrow('a disk cannot shrink');
  await expect(Qcow2Image.create(file('b'), MAX_QCOW2_BYTES + 1)).rejects.toThrow('not supported');
});

test('a copy that fails leaves nothing', async () => {
  writeFileSync(file('junk'), Buffer.alloc(4096, 'junk'));
  const to = { path: file('to'), format: 'raw' } as const;
  await expect(copyImage({ path: file('junk'), format: 'qcow2' }, to, 4096, ignore)).rejects.toThrow('no qcow2 image');
  expect(() => statSync(file('to'))).toThrow('ENOENT');
  expect(() => statSync(file(`to${MAKING_SUFFIX}`))).toThrow('ENOENT');
});
