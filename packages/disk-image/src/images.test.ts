/** Every format against a model: a buffer that gets the same calls. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { checkImage, createImage, resizeImage } from './create.ts';
import { openImage } from './open.ts';
import { hasQemuImg, qemuCheck, qemuFormat, qemuImg } from './testing/qemu.ts';
import type { CreateImageSpec, DiskImage, ImageFormat } from './types.ts';

jest.setTimeout(120_000);

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

type Kind = Omit<CreateImageSpec, 'path' | 'sizeBytes' | 'backing'>;

const KINDS: readonly (readonly [string, Kind, number])[] = [
  ['raw', { format: 'raw' }, 300_032],
  ['qcow2', { format: 'qcow2' }, 1_000_448],
  ['qcow2 of small clusters', { format: 'qcow2', clusterBytes: 512 }, 300_032],
  ['qcow2 of large clusters', { format: 'qcow2', clusterBytes: 2 ** 21 }, 6_000_128],
  ['qcow2 version 2', { format: 'qcow2', version: 2, clusterBytes: 4096 }, 300_032],
  ['qcow2 with counts of 1 bit', { format: 'qcow2', refcountBits: 1, clusterBytes: 1024 }, 300_032],
  ['qcow2 with counts of 64 bits', { format: 'qcow2', refcountBits: 64, clusterBytes: 1024 }, 300_032],
  ['vhd', { format: 'vhd' }, 6_000_128],
  ['vhd of fixed size', { format: 'vhd', vhdType: 'fixed' }, 300_032],
];

/** The disk and what it has to hold. */
class Pair {
  image: DiskImage;
  model: Buffer;
  constructor(image: DiskImage, model: Buffer) {
    this.image = image;
    this.model = model;
  }
}

interface Io {
  readonly kind: 'write' | 'zero' | 'discard' | 'read';
  readonly at: number;
  readonly length: number;
  readonly fill: number;
}
type Step = Io | { readonly kind: 'flush' } | { readonly kind: 'reopen' };

const place = { at: fc.double({ min: 0, max: 1, noNaN: true }), fill: fc.integer({ min: 1, max: 255 }) };
const lengths = fc.oneof(fc.integer({ min: 1, max: 600 }), fc.integer({ min: 1, max: 70_000 }), fc.constant(4096));
const io = (kind: Io['kind']) => fc.record({ kind: fc.constant(kind), length: lengths, ...place });
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: io('write') },
    { weight: 2, arbitrary: io('zero') },
    { weight: 2, arbitrary: io('discard') },
    { weight: 2, arbitrary: io('read') },
    { weight: 1, arbitrary: fc.constantFrom<Step>({ kind: 'flush' }, { kind: 'reopen' }) },
  ),
  { minLength: 1, maxLength: 40 },
);

async function run(pair: Pair, step: Step, reopen: () => Promise<DiskImage>): Promise<void> {
  if (step.kind === 'flush') return pair.image.flush();
  if (step.kind === 'reopen') {
    await pair.image.close();
    pair.image = await reopen();
    return;
  }
  const offset = Math.floor(step.at * (pair.model.length - 1));
  const length = Math.min(step.length, pair.model.length - offset);
  const range = pair.model.subarray(offset, offset + length);
  switch (step.kind) {
    case 'write': {
      range.fill(step.fill);
      // In two pieces, as the segments of a request.
      const cut = Math.floor(length / 3);
      return pair.image.writev(offset, [range.subarray(0, cut), range.subarray(cut)]);
    }
    case 'zero':
      range.fill(0);
      return pair.image.writeZeroes(offset, length);
    case 'discard': {
      await pair.image.discard(offset, length);
      // Each byte may be zero or as before.
      const now = Buffer.alloc(length);
      await pair.image.read(offset, now);
      expect(now.every((byte, index) => byte === 0 || byte === range[index])).toBe(true);
      now.copy(range);
      return;
    }
    case 'read': {
      const now = Buffer.alloc(length, 0xee);
      await pair.image.readv(offset, [now.subarray(0, length >> 1), now.subarray(length >> 1)]);
      expect(now.equals(range)).toBe(true);
    }
  }
}

async function whole(image: DiskImage): Promise<Buffer> {
  const bytes = Buffer.alloc(image.sizeBytes, 0xee);
  await image.read(0, bytes);
  return bytes;
}

async function checked(path: string, format: ImageFormat, model: Buffer): Promise<void> {
  const image = await openImage({ path, format, readOnly: true });
  expect((await whole(image)).equals(model)).toBe(true);
  await image.close();
  if (format === 'qcow2') expect(await checkImage(path)).toEqual({ leaks: 0, errors: 0, details: [] });
}

let serial = 0;

describe.each(KINDS)('%s', (_name, kind, sizeBytes) => {
  test('any calls, one after another', async () => {
    let last: { path: string; model: Buffer } | undefined;
    await fc.assert(
      fc.asyncProperty(steps, async (all) => {
        const path = join(directory, `image${serial++}`);
        await createImage({ ...kind, path, sizeBytes });
        const reopen = () => openImage({ path, format: kind.format, readOnly: false });
        const pair = new Pair(await reopen(), Buffer.alloc(sizeBytes));
        expect(pair.image.sizeBytes).toBe(sizeBytes);
        for (const step of all) await run(pair, step, reopen);
        await pair.image.close();
        await checked(path, kind.format, pair.model);
        last = { path, model: pair.model };
      }),
      { numRuns: sizeBytes > 2_000_000 ? 3 : 10 },
    );
    if (!hasQemuImg || !last) return;
    writeFileSync(join(directory, 'model'), last.model);
    qemuImg('compare', '-f', qemuFormat(kind.format), '-F', 'raw', last.path, join(directory, 'model'));
    if (kind.format === 'qcow2') expect(qemuCheck(last.path)).toEqual({ errors: 0, leaks: 0 });
  });

  test('many at once, close together', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(fc.tuple(fc.nat(7), fc.boolean()), { maxLength: 24 }), { maxLength: 6 }),
        async (rounds) => {
          const path = join(directory, `image${serial++}`);
          await createImage({ ...kind, path, sizeBytes });
          const image = await openImage({ path, format: kind.format, readOnly: false });
          const model = Buffer.alloc(sizeBytes);
          for (const [round, requests] of rounds.entries()) {
            // Slots of 1.5 KiB do not overlap, clusters and blocks of theirs do.
            await Promise.all(
              requests.map(async ([stretch, flush], slot) => {
                const offset = stretch * 36_000 + slot * 1500;
                const data = Buffer.alloc(1500, 1 + round * 24 + slot);
                data.copy(model, offset);
                await image.write(offset, data);
                if (flush) await image.flush();
                const back = Buffer.alloc(1500);
                await image.read(offset, back);
                expect(back.equals(data)).toBe(true);
              }),
            );
          }
          await image.close();
          await checked(path, kind.format, model);
        },
      ),
      { numRuns: sizeBytes > 2_000_000 ? 3 : 10 },
    );
  });

  test('calls beyond the disk, on a read-only disk and after close are refused', async () => {
    const path = join(directory, `image${serial++}`);
    await createImage({ ...kind, path, sizeBytes });
    const image = await openImage({ path, format: kind.format, readOnly: true });
    const byte = Buffer.alloc(1);
    for (const offset of [sizeBytes, -1, 0.5, NaN, 2 ** 60]) {
      await expect(image.read(offset, byte)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' });
    }
    await image.read(sizeBytes - 1, byte);
    await expect(image.write(0, byte)).rejects.toMatchObject({ code: 'READ_ONLY' });
    await expect(image.discard(0, 512)).rejects.toMatchObject({ code: 'READ_ONLY' });
    await expect(image.writeZeroes(0, 512)).rejects.toMatchObject({ code: 'READ_ONLY' });
    await image.flush();
    await image.close();
    await image.close();
    await expect(image.read(0, byte)).rejects.toMatchObject({ code: 'CLOSED' });
  });
});

test.each(KINDS.filter(([, { format }]) => format !== 'vhd'))(
  '%s grows with what it holds',
  async (_name, kind, sizeBytes) => {
    const path = join(directory, `image${serial++}`);
    await createImage({ ...kind, path, sizeBytes });
    const image = await openImage({ path, format: kind.format, readOnly: false });
    await image.write(sizeBytes - 5, Buffer.from('tail!'));
    const grown = sizeBytes * 5;
    await image.grow(grown);
    expect(image.sizeBytes).toBe(grown);
    await image.write(grown - 4, Buffer.from('end!'));
    await expect(image.grow(sizeBytes)).rejects.toThrow('cannot shrink');
    await image.close();
    await resizeImage(path, kind.format, grown + 1024);
    const model = Buffer.alloc(grown + 1024);
    model.write('tail!', sizeBytes - 5);
    model.write('end!', grown - 4);
    await checked(path, kind.format, model);
  },
);
