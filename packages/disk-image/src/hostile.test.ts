/** Images are input like any other: what is wrong with one is an ImageError that says what, and nothing of it costs more than its limits. */
import { mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { createImage, createSnapshot } from './create.ts';
import { MAX_BACKING_DEPTH, MAX_DISK_BYTES, MAX_L1_BYTES, MAX_SNAPSHOTS } from './limits.ts';
import { openImage } from './open.ts';
import { Field, Incompatible, parseHeader } from './qcow2/header.ts';
import { checkQcow2, openQcow2 } from './qcow2/open.ts';
import { ModelFile } from './testing/model-file.ts';
import type { DiskImage, ImageFormat, OpenImageSpec } from './types.ts';
import { openVhd } from './vhd/open.ts';

jest.setTimeout(60_000);

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});
const file = (name: string): string => join(directory, name);
let serial = 0;

/** An image of ours with some bytes changed. */
async function changed(format: ImageFormat, change: (bytes: Buffer) => void, sizeBytes = 1 << 20): Promise<string> {
  const path = file(`image${serial++}`);
  await createImage({ path, format, sizeBytes, clusterBytes: 4096 });
  const bytes = readFileSync(path);
  change(bytes);
  writeFileSync(path, bytes);
  return path;
}

async function refusal(spec: Omit<OpenImageSpec, 'readOnly'>, readOnly = true): Promise<string> {
  try {
    await (await openImage({ ...spec, readOnly })).close();
  } catch (error) {
    const { code, message } = error as { code: string; message: string };
    return `${code}: ${message}`;
  }
  return 'opened';
}

const put32 = (at: number, value: number) => (bytes: Buffer) => {
  bytes.writeUInt32BE(value, at);
};
const put64 = (at: number, value: bigint) => (bytes: Buffer) => {
  bytes.writeBigUInt64BE(value, at);
};
/** Names bit 40 of the incompatible features in a table of them. */
const namedFeature = (bytes: Buffer): void => {
  bytes.writeBigUInt64BE(1n << 40n, Field.incompatible);
  bytes.writeUInt32BE(0x6803f857, 104);
  bytes.writeUInt32BE(48, 108);
  bytes[113] = 40;
  bytes.write('teleport\x07', 114);
};

test.each<[string, (bytes: Buffer) => void, string]>([
  ['another mark', put32(Field.magic, 1), 'NOT_AN_IMAGE: no qcow2 image'],
  ['version 1', put32(Field.version, 1), 'UNSUPPORTED: a qcow2 image with version 1'],
  ['version 4', put32(Field.version, 4), 'version 4'],
  ['tiny clusters', put32(Field.clusterBits, 8), 'CORRUPT: a qcow2 image with clusters of 2^8 bytes'],
  ['huge clusters', put32(Field.clusterBits, 22), 'clusters of 2^22'],
  ['encryption', put32(Field.cryptMethod, 1), 'UNSUPPORTED: a qcow2 image with encryption'],
  ['LUKS', put32(Field.cryptMethod, 2), 'encryption'],
  ['an external data file', put64(Field.incompatible, Incompatible.externalData), 'an external data file'],
  ['subclusters', put64(Field.incompatible, Incompatible.extendedL2), 'extended L2 entries'],
  ['an unknown feature', put64(Field.incompatible, 1n << 40n), 'the unknown feature bit 40'],
  ['an unknown feature with a name', namedFeature, 'the unknown feature teleport'],
  ['a huge disk', put64(Field.sizeBytes, BigInt(MAX_DISK_BYTES) + 1n), 'LIMIT: a qcow2 image with a disk of more'],
  ['the hugest disk', put64(Field.sizeBytes, 2n ** 64n - 1n), 'LIMIT'],
  ['a long L1 table', put32(Field.l1Entries, MAX_L1_BYTES / 8 + 1), 'LIMIT: a qcow2 image with an L1 table of'],
  ['a short L1 table', put32(Field.l1Entries, 0), 'CORRUPT: a qcow2 image with an L1 table that is too short'],
  ['an L1 table off its place', put64(Field.l1Offset, 513n), 'a misplaced L1 table'],
  ['an L1 table nowhere', put64(Field.l1Offset, 2n ** 63n), 'a misplaced L1 table'],
  ['an L1 table far behind the end', put64(Field.l1Offset, 2n ** 51n), "an L1 table behind the file's end"],
  [
    'a refcount table far behind the end',
    put64(Field.refcountOffset, 2n ** 51n),
    "a refcount table behind the file's end",
  ],
  ['no refcount table', put32(Field.refcountClusters, 0), 'no refcount table'],
  ['a long refcount table', put32(Field.refcountClusters, 1 << 20), 'LIMIT: a qcow2 image with a refcount table of'],
  ['a refcount table off its place', put64(Field.refcountOffset, 100n), 'a misplaced refcount table'],
  ['wide counts', put32(Field.refcountOrder, 7), 'counts of 2^7 bits'],
  [
    'many snapshots',
    put32(Field.nrSnapshots, MAX_SNAPSHOTS + 1),
    `LIMIT: a qcow2 image with ${MAX_SNAPSHOTS + 1} snapshots`,
  ],
  ['snapshots nowhere', put32(Field.nrSnapshots, 1), 'a misplaced table of snapshots'],
  ['a short header', put32(Field.headerBytes, 96), 'a header of 96 bytes'],
  ['a long header', put32(Field.headerBytes, 1 << 30), 'a header of 1073741824 bytes'],
  ['a backing name outside', put64(Field.backingOffset, 1n << 40n), 'opened'],
  [
    'a backing name outside, with a length',
    (bytes) => {
      put64(Field.backingOffset, 1n << 40n)(bytes);
      put32(Field.backingBytes, 10)(bytes);
    },
    'a misplaced name of a backing file',
  ],
  [
    'a long backing name',
    (bytes) => {
      put64(Field.backingOffset, 200n)(bytes);
      put32(Field.backingBytes, 1024)(bytes);
    },
    'a misplaced name of a backing file',
  ],
])('qcow2: %s', async (_name, change, expected) => {
  expect(await refusal({ path: await changed('qcow2', change), format: 'qcow2' })).toContain(expected);
});

test('a corrupt image is read, and not written', async () => {
  const path = await changed('qcow2', put64(Field.incompatible, Incompatible.corrupt));
  expect(await refusal({ path, format: 'qcow2' })).toBe('opened');
  expect(await refusal({ path, format: 'qcow2' }, false)).toContain('marked as corrupt');
});

test('data on top of the tables is not written', async () => {
  const path = file(`image${serial++}`);
  await createImage({ path, format: 'qcow2', sizeBytes: 1 << 20, clusterBytes: 4096 });
  const image = await openImage({ path, format: 'qcow2', readOnly: false });
  await image.write(0, Buffer.alloc(20_000, 'x'));
  await image.close();
  const whole = readFileSync(path);
  const l1 = parseHeader(whole).l1Offset;
  const l2 = Number(whole.readBigUInt64BE(l1) & 0xff_ffff_ffff_fe00n);
  const places = [parseHeader(whole).refcountOffset, l1, 2 ** 40];
  for (const [index, place] of places.entries()) whole.writeBigUInt64BE((1n << 63n) | BigInt(place), l2 + index * 8);
  whole.writeBigUInt64BE((1n << 63n) | 0x1200n, l2 + 3 * 8);
  writeFileSync(path, whole);
  const bad = await openImage({ path, format: 'qcow2', readOnly: false });
  for (let index = 0; index < 4; index += 1) {
    await expect(bad.write(index * 4096, Buffer.alloc(512))).rejects.toMatchObject({ code: 'CORRUPT' });
  }
  await bad.close();
  expect(readFileSync(path).equals(whole)).toBe(true);
});

test.each<[string, (bytes: Buffer) => void, string]>([
  ['no footer', (bytes) => bytes.fill(0), 'NOT_AN_IMAGE: no VHD image'],
  ['a damaged header', put32(512 + 28, 77), 'CORRUPT: a VHD image with a damaged header'],
])('vhd: %s', async (_name, change, expected) => {
  expect(await refusal({ path: await changed('vhd', change), format: 'vhd' })).toContain(expected);
});

test('vhd: a damaged footer is taken from the start, and a differencing image is refused', async () => {
  const path = await changed('vhd', (bytes) => bytes.fill(0, bytes.length - 512));
  expect(await refusal({ path, format: 'vhd' })).toBe('opened');
  const checksummed = await changed('vhd', (bytes) => {
    for (const at of [0, bytes.length - 512]) {
      const footer = bytes.subarray(at, at + 512);
      footer.writeUInt32BE(4, 60);
      footer.writeUInt32BE((footer.readUInt32BE(64) - 1) >>> 0, 64);
    }
  });
  expect(await refusal({ path: checksummed, format: 'vhd' })).toContain('UNSUPPORTED: a differencing VHD image');
});

test('vhd: a table that points outside', async () => {
  for (const sector of [0, 3, 0x7fff_ffff]) {
    const path = await changed('vhd', put32(1536, sector));
    expect(await refusal({ path, format: 'vhd' })).toContain('a misplaced block');
  }
});

describe('backing files', () => {
  const overlay = async (name: string, below: string, format: ImageFormat = 'qcow2'): Promise<string> => {
    await createImage({ path: file(name), format: 'qcow2', sizeBytes: 1 << 20, backing: { path: below, format } });
    return file(name);
  };

  test('a chain as long as it may be, and one longer', async () => {
    await createImage({ path: file('chain0'), format: 'qcow2', sizeBytes: 1 << 20 });
    for (let depth = 1; depth <= MAX_BACKING_DEPTH + 1; depth += 1) await overlay(`chain${depth}`, `chain${depth - 1}`);
    expect(await refusal({ path: file(`chain${MAX_BACKING_DEPTH}`), format: 'qcow2' })).toBe('opened');
    expect(await refusal({ path: file(`chain${MAX_BACKING_DEPTH + 1}`), format: 'qcow2' })).toContain('LIMIT');
  });

  test('loops, under whatever name', async () => {
    const path = await overlay('self', 'alias');
    symlinkSync('self', file('alias'));
    expect(await refusal({ path, format: 'qcow2' })).toContain('is its own backing file');
    await overlay('left', 'right');
    await overlay('right', './left');
    expect(await refusal({ path: file('left'), format: 'qcow2' })).toContain('is its own backing file');
  });

  test('may be forbidden', async () => {
    const path = await overlay('secret', '/etc/passwd', 'raw');
    expect(await refusal({ path, format: 'qcow2', allowBackingFiles: false })).toContain('not allowed here');
  });

  test.each([
    ['nbd:localhost:10809', 'no file'],
    ['json:{"driver":"null-co"}', 'no file'],
    ['missing', 'ENOENT'],
    ['/dev/null', 'neither a file nor a block device'],
    ['/tmp', 'neither a file nor a block device'],
  ])('%s', async (name, expected) => {
    const path = await overlay(`over${serial++}`, name, 'raw');
    expect(await refusal({ path, format: 'qcow2' })).toContain(expected);
  });
});

/** Whatever stands in an image: calls settle, with data or with an error that has a code. */
async function use(open: () => Promise<DiskImage>): Promise<void> {
  const settle = async (call: Promise<unknown>): Promise<void> => {
    try {
      await call;
    } catch (error) {
      expect(error).toMatchObject({ name: 'ImageError', code: expect.any(String) as string });
    }
  };
  let image: DiskImage | undefined;
  await settle(
    open().then((opened) => {
      image = opened;
    }),
  );
  if (!image) return;
  const bytes = Buffer.alloc(5000);
  const end = Math.max(0, image.sizeBytes - bytes.length);
  for (const offset of [0, 70_000, end]) {
    if (offset + bytes.length > image.sizeBytes) continue;
    await settle(image.read(offset, bytes));
    if (image.readOnly) continue;
    await settle(image.write(offset, bytes));
    await settle(image.discard(offset, bytes.length));
    await settle(image.flush());
  }
  await settle(image.close());
}

test.each(['qcow2', 'vhd'] as const)('%s: any bytes changed anywhere', async (format) => {
  const path = file(`image${serial++}`);
  await createImage({ path, format, sizeBytes: 200_704, clusterBytes: 4096 });
  const image = await openImage({ path, format, readOnly: false });
  await image.write(0, Buffer.alloc(9000, 'x'));
  await image.close();
  if (format === 'qcow2') {
    await createSnapshot(path, 'snapshot');
    await createSnapshot(path, 'another');
  } else truncateSync(path, 100_000);
  const start = readFileSync(path);
  const word = fc.oneof(
    fc.constantFrom(0n, 1n, 2n ** 63n, 2n ** 64n - 1n, 2n ** 62n + 5n, 2n ** 63n + 4096n, 2n ** 40n),
    fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  );
  // Mostly where the tables are.
  const at = fc.oneof(
    fc.nat(127),
    fc.nat(Math.min(start.length, 40_960) / 8 - 1).map((index) => index * 8),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(at, word), { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      async (changes, readOnly) => {
        const bytes = Buffer.from(start);
        for (const [offset, value] of changes) bytes.writeBigUInt64BE(value, offset);
        const openBacking = (): Promise<DiskImage> => openVhd(new ModelFile(Buffer.alloc(0), { readOnly: true }));
        const under = (): ModelFile => new ModelFile(bytes, { readOnly });
        await use(() =>
          format === 'vhd' ? openVhd(under()) : openQcow2(under(), { snapshot: undefined, openBacking }),
        );
        if (format === 'vhd') return;
        await use(() => openQcow2(new ModelFile(bytes, { readOnly: true }), { snapshot: '1', openBacking }));
        try {
          await checkQcow2(new ModelFile(bytes, { readOnly: true }));
        } catch (error) {
          expect(error).toMatchObject({ name: 'ImageError' });
        }
      },
    ),
    { numRuns: 300 },
  );
});

test('files that are too short for anything', async () => {
  for (const format of ['qcow2', 'vhd'] as const) {
    for (const length of [0, 1, 71, 511, 512]) {
      const path = file(`image${serial++}`);
      writeFileSync(path, Buffer.from('QFI\xfb\0\0\0\x03'.repeat(64), 'latin1').subarray(0, length));
      expect(await refusal({ path, format })).toMatch(/NOT_AN_IMAGE|CORRUPT|UNSUPPORTED/);
    }
  }
});
