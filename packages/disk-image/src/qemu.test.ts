/** What QEMU's tools make is read, and what we make of it they read. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  applySnapshot,
  checkImage,
  createImage,
  createSnapshot,
  deleteSnapshot,
  listSnapshots,
  resizeImage,
} from './create.ts';
import { openImage } from './open.ts';
import { qemuCheck, qemuFormat, qemuImg, qemuIo, withQemuImg } from './testing/qemu.ts';
import type { ImageFormat, OpenImageSpec } from './types.ts';

jest.setTimeout(120_000);

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});
const file = (name: string): string => join(directory, name);

const MIB = 2 ** 20;

/** Pieces that pack well and pieces that do not, with gaps. */
function content(sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let state = 1;
  for (let at = 0; at + 40_000 < sizeBytes; at += 100_000) {
    for (let index = 0; index < 40_000; index += 1) {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      bytes[at + index] = at % 200_000 === 0 ? state >>> 24 : at % 251;
    }
  }
  return bytes;
}

async function read(spec: Omit<OpenImageSpec, 'readOnly'>): Promise<Buffer> {
  const image = await openImage({ ...spec, readOnly: true });
  const bytes = Buffer.alloc(image.sizeBytes, 0xee);
  for (let at = 0; at < bytes.length; at += 333_333) await image.read(at, bytes.subarray(at, at + 333_333));
  await image.close();
  return bytes;
}

async function write(
  path: string,
  format: ImageFormat,
  ...pieces: readonly (readonly [number, string])[]
): Promise<void> {
  const image = await openImage({ path, format, readOnly: false });
  for (const [offset, text] of pieces) await image.write(offset, Buffer.from(text));
  await image.close();
}

function asRaw(path: string, format: ImageFormat, ...options: string[]): Buffer {
  qemuImg('convert', '-f', qemuFormat(format), ...options, '-O', 'raw', path, file('as-raw'));
  return readFileSync(file('as-raw'));
}

const clean = { errors: 0, leaks: 0 };

describe('images that QEMU made', () => {
  withQemuImg.each([
    ['qcow2', []],
    ['qcow2', ['-o', 'cluster_size=512']],
    ['qcow2', ['-o', 'cluster_size=2M']],
    ['qcow2', ['-o', 'compat=0.10']],
    ['qcow2', ['-o', 'refcount_bits=1']],
    ['qcow2', ['-o', 'refcount_bits=2,cluster_size=1k']],
    ['qcow2', ['-o', 'refcount_bits=8,cluster_size=512']],
    ['qcow2', ['-o', 'refcount_bits=32']],
    ['qcow2', ['-o', 'refcount_bits=64,cluster_size=512']],
    ['qcow2', ['-o', 'preallocation=metadata']],
    ['qcow2', ['-o', 'preallocation=full,lazy_refcounts=on']],
    ['qcow2', ['-c']],
    ['qcow2', ['-c', '-o', 'cluster_size=4k']],
    ['qcow2', ['-c', '-o', 'compression_type=zstd']],
    ['vhd', []],
    ['vhd', ['-o', 'subformat=fixed']],
    ['vhd', ['-o', 'force_size=on']],
  ] as const)('%s %j', async (format, options) => {
    const bytes = content(3 * MIB);
    writeFileSync(file('raw'), bytes);
    qemuImg('convert', '-f', 'raw', '-O', qemuFormat(format), ...options, file('raw'), file('image'));
    const found = await read({ path: file('image'), format });
    // Without force_size, QEMU rounds a VHD up to whole cylinders.
    const model = Buffer.concat([bytes], found.length);
    expect(found.equals(model)).toBe(true);
    expect(await read({ path: file('image'), format: 'auto' })).toHaveLength(found.length);

    const pieces = [
      [0, 'start'],
      [65_530, 'over an edge'],
      [199_000, 'in a hole'],
      [2 * MIB - 3, 'middle'],
    ] as const;
    await write(file('image'), format, ...pieces);
    for (const [offset, text] of pieces) model.write(text, offset);
    expect(asRaw(file('image'), format).equals(model)).toBe(true);
    if (format === 'qcow2') expect(qemuCheck(file('image'))).toEqual(clean);
  });

  withQemuImg('a file that outgrows its table of counts', async () => {
    qemuImg('create', '-f', 'qcow2', '-o', 'cluster_size=512', file('image'), '24M');
    const before = readFileSync(file('image')).readUInt32BE(56);
    const image = await openImage({ path: file('image'), format: 'qcow2', readOnly: false });
    const bytes = Buffer.alloc(MIB, 'x');
    for (let at = 0; at < 24 * MIB; at += MIB) await image.write(at, bytes);
    await image.close();
    expect(readFileSync(file('image')).readUInt32BE(56)).toBeGreaterThan(before);
    expect(qemuCheck(file('image'))).toEqual(clean);
    expect(asRaw(file('image'), 'qcow2').every((byte) => byte === 0x78)).toBe(true);
  });

  withQemuImg('counts that were left to be made anew', async () => {
    qemuImg('create', '-f', 'qcow2', '-o', 'lazy_refcounts=on', file('image'), '4M');
    // The process is gone before it writes its counts.
    expect(() => {
      qemuIo('qcow2', file('image'), 'write -P 65 0 1M', 'flush', 'sigraise 9');
    }).toThrow();
    expect(qemuCheck(file('image')).errors).toBeGreaterThan(0);
    const model = Buffer.alloc(4 * MIB).fill('A', 0, MIB);
    expect((await read({ path: file('image'), format: 'qcow2' })).equals(model)).toBe(true);
    await write(file('image'), 'qcow2', [3 * MIB, 'more']);
    model.write('more', 3 * MIB);
    expect(qemuCheck(file('image'))).toEqual(clean);
    expect(asRaw(file('image'), 'qcow2').equals(model)).toBe(true);
  });

  withQemuImg('bitmaps are not trusted once we have written', async () => {
    qemuImg('create', '-f', 'qcow2', file('image'), '1M');
    qemuImg('bitmap', '--add', file('image'), 'dirty');
    await write(file('image'), 'qcow2', [0, 'new']);
    expect(readFileSync(file('image')).readBigUInt64BE(88)).toBe(0n);
    expect(qemuCheck(file('image')).errors).toBe(0);
  });
});

describe('backing files', () => {
  withQemuImg.each([
    ['raw', 'qcow2', 3],
    ['qcow2', 'qcow2', 3],
    ['qcow2', 'qcow2', 2],
    ['vhd', 'qcow2', 3],
  ] as const)('an overlay of ours over %s', async (below, format, version) => {
    const bytes = content(2 * MIB + 1024);
    writeFileSync(file('raw'), bytes);
    const size = below === 'vhd' ? ['-o', 'force_size=on'] : [];
    qemuImg('convert', '-f', 'raw', '-O', qemuFormat(below), ...size, file('raw'), file('below'));
    await createImage({ path: file('top'), format, version, backing: { path: 'below', format: below } });
    expect((await read({ path: file('top'), format })).equals(bytes)).toBe(true);
    await write(file('top'), format, [100, 'changed'], [MIB - 3, 'changed']);
    bytes.write('changed', 100);
    bytes.write('changed', MIB - 3);
    const top = await openImage({ path: file('top'), format, readOnly: false });
    await top.writeZeroes(300_000, 500_000);
    bytes.fill(0, 300_000, 800_000);
    await top.discard(MIB, 65_536);
    const rest = Buffer.alloc(65_536);
    await top.read(MIB, rest);
    rest.copy(bytes, MIB);
    await top.close();
    expect(asRaw(file('top'), format).equals(bytes)).toBe(true);
    expect(qemuCheck(file('top'))).toEqual(clean);
    expect(qemuImg('info', file('top'))).toContain(`backing file format: ${qemuFormat(below)}`);
    // The disk below is as it was.
    expect(asRaw(file('below'), below).equals(content(2 * MIB + 1024))).toBe(true);
  });

  withQemuImg('a shorter disk below, and what growing must not show of a longer one', async () => {
    writeFileSync(file('short'), Buffer.alloc(MIB, 's'));
    qemuImg('create', '-f', 'qcow2', '-b', 'short', '-F', 'raw', file('top'), '2M');
    const model = Buffer.concat([Buffer.alloc(MIB, 's'), Buffer.alloc(MIB)]);
    expect((await read({ path: file('top'), format: 'qcow2' })).equals(model)).toBe(true);
    await write(file('top'), 'qcow2', [MIB - 5, '0123456789']);
    model.write('0123456789', MIB - 5);
    expect(asRaw(file('top'), 'qcow2').equals(model)).toBe(true);

    qemuImg('create', '-f', 'qcow2', '-b', 'short', '-F', 'raw', file('less'), '100000');
    await resizeImage(file('less'), 'qcow2', 2 * MIB);
    const end = Math.ceil(100_000 / 512) * 512;
    const grown = Buffer.concat([Buffer.alloc(end, 's')], 2 * MIB);
    expect((await read({ path: file('less'), format: 'qcow2' })).equals(grown)).toBe(true);
    expect(asRaw(file('less'), 'qcow2').equals(grown)).toBe(true);
    expect(qemuCheck(file('less'))).toEqual(clean);
  });
});

describe('internal snapshots', () => {
  withQemuImg.each([
    ['QEMU', (path: string, name: string) => Promise.resolve(qemuImg('snapshot', '-c', name, path))],
    ['us', createSnapshot],
  ])('made by %s', async (_who, make) => {
    const path = file('image');
    await createImage({ path, format: 'qcow2', sizeBytes: 2 * MIB, clusterBytes: 4096 });
    await write(path, 'qcow2', [0, 'one'], [MIB, 'one']);
    await make(path, 'first');
    await write(path, 'qcow2', [0, 'two'], [5000, 'two']);
    await make(path, 'second');
    await write(path, 'qcow2', [MIB, 'three']);
    expect(qemuCheck(path)).toEqual(clean);
    expect((await listSnapshots(path)).map(({ id, name, sizeBytes }) => [id, name, sizeBytes])).toEqual([
      ['1', 'first', 2 * MIB],
      ['2', 'second', 2 * MIB],
    ]);
    expect(qemuImg('snapshot', '-l', path)).toMatch(/1 +first[^]*2 +second/);

    const first = Buffer.alloc(2 * MIB);
    first.write('one', 0);
    first.write('one', MIB);
    const second = Buffer.from(first);
    second.write('two', 0);
    second.write('two', 5000);
    for (const [name, model] of [
      ['first', first],
      ['2', second],
    ] as const) {
      expect((await read({ path, format: 'qcow2', snapshot: name })).equals(model)).toBe(true);
    }
    expect(asRaw(path, 'qcow2', '-l', 'first').equals(first)).toBe(true);
    await applySnapshot(path, 'first');
    expect(qemuCheck(path)).toEqual(clean);
    expect((await read({ path, format: 'qcow2' })).equals(first)).toBe(true);
    await write(path, 'qcow2', [9000, 'four']);
    await deleteSnapshot(path, 'first');
    expect(qemuCheck(path)).toEqual(clean);
    qemuImg('snapshot', '-d', 'second', path);
    expect(qemuCheck(path)).toEqual(clean);
    await write(path, 'qcow2', [9000, 'five']);
    first.write('five', 9000);
    expect(asRaw(path, 'qcow2').equals(first)).toBe(true);
    expect(await checkImage(path)).toMatchObject(clean);
  });

  withQemuImg('of an image with packed clusters, and one that grew since', async () => {
    const bytes = content(MIB);
    writeFileSync(file('raw'), bytes);
    qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', file('raw'), file('image'));
    const path = file('image');
    await createSnapshot(path, 'packed');
    await write(path, 'qcow2', [0, 'changed']);
    await resizeImage(path, 'qcow2', 700 * MIB);
    await write(path, 'qcow2', [600 * MIB, 'far']);
    expect(qemuCheck(path)).toEqual(clean);
    expect((await read({ path, format: 'qcow2', snapshot: 'packed' })).equals(bytes)).toBe(true);
    await applySnapshot(path, 'packed');
    expect((await read({ path, format: 'qcow2' })).equals(bytes)).toBe(true);
    await deleteSnapshot(path, 'packed');
    expect(qemuCheck(path)).toEqual(clean);
    expect(asRaw(path, 'qcow2').equals(bytes)).toBe(true);
  });

  withQemuImg('counts of one bit have no room for one', async () => {
    const path = file('image');
    await createImage({ path, format: 'qcow2', sizeBytes: MIB, refcountBits: 1, clusterBytes: 4096 });
    await write(path, 'qcow2', [0, 'data']);
    await expect(createSnapshot(path, 'no')).rejects.toMatchObject({ code: 'LIMIT' });
    expect(await listSnapshots(path)).toEqual([]);
    expect(qemuCheck(path)).toEqual(clean);
    await expect(deleteSnapshot(path, 'no')).rejects.toThrow("no snapshot 'no'");
  });
});

withQemuImg('a whole disk of ours, and back', async () => {
  const bytes = content(3 * MIB);
  for (const [format, options] of [
    ['raw', {}],
    ['qcow2', {}],
    ['qcow2', { version: 2, clusterBytes: 512 }],
    ['vhd', {}],
    ['vhd', { vhdType: 'fixed' }],
  ] as const) {
    const path = file('image');
    await createImage({ path, format, sizeBytes: bytes.length, ...options });
    const image = await openImage({ path, format, readOnly: false });
    for (let at = 0; at < bytes.length; at += 77_777) await image.write(at, bytes.subarray(at, at + 77_777));
    await image.close();
    expect(asRaw(path, format).equals(bytes)).toBe(true);
    if (format === 'qcow2') expect(qemuCheck(path)).toEqual(clean);
    rmSync(path);
  }
});

withQemuImg('discarded clusters are used again', async () => {
  const path = file('image');
  await createImage({ path, format: 'qcow2', sizeBytes: 64 * MIB });
  for (let round = 0; round < 4; round += 1) {
    const image = await openImage({ path, format: 'qcow2', readOnly: false });
    await image.write(0, Buffer.alloc(16 * MIB, 'x'));
    await image.discard(0, 16 * MIB);
    await image.close();
    expect(qemuCheck(path)).toEqual(clean);
  }
  expect(statSync(path).size).toBeLessThan(40 * MIB);
  copyFileSync(path, file('copy'));
  expect(asRaw(file('copy'), 'qcow2').every((byte) => byte === 0)).toBe(true);
});
