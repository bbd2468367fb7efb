/**
 * What a crash leaves of an image: the sequence of changes to a model file is cut at every point, with (power failure) and without (kill -9)
 * a loss of what was not synced. The image opens, has no error (leaks at most), and each sector holds what it may hold.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cutOff, ModelFile } from '../testing/model-file.ts';
import { hasQemuImg, qemuCheck, withQemuImg } from '../testing/qemu.ts';
import { SECTOR_BYTES, type DiskImage } from '../types.ts';
import { writeEmptyQcow2, type NewQcow2 } from './create.ts';
import { applySnapshot, checkQcow2, createSnapshot, deleteSnapshot, openQcow2 } from './open.ts';

jest.setTimeout(120_000);

const SECTORS = 256;

/** A repeatable sequence (xorshift32). */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** What a test did to the disk, with the count of the file's changes at its start and at its end. */
interface Deed {
  readonly kind: 'write' | 'zero' | 'discard' | 'flush';
  readonly first: number;
  readonly sectors: number;
  readonly tag: number;
  readonly start: number;
  readonly end: number;
}

const sector = (tag: number): Buffer => Buffer.alloc(SECTOR_BYTES, tag);

/** The tag of each sector; -1 for one that is torn. */
async function tagsOf(image: DiskImage): Promise<number[]> {
  const bytes = Buffer.alloc(SECTORS * SECTOR_BYTES);
  await image.read(0, bytes);
  return Array.from({ length: SECTORS }, (_, index) => {
    const mine = bytes.subarray(index * SECTOR_BYTES, (index + 1) * SECTOR_BYTES);
    return mine.every((byte) => byte === mine[0]) ? (mine[0] ?? -1) : -1;
  });
}

const noBacking = (): Promise<DiskImage> => Promise.reject(new Error('no backing file'));
const openModel = (file: ModelFile, backing?: DiskImage): Promise<DiskImage> =>
  openQcow2(file, { snapshot: undefined, openBacking: backing ? () => Promise.resolve(backing) : noBacking });

/** A backing disk whose sectors all hold 7. */
const backingDisk = (): DiskImage => {
  const none = (): Promise<void> => Promise.resolve();
  const fill = (targets: readonly Uint8Array[]): Promise<void> => {
    for (const target of targets) target.fill(7);
    return Promise.resolve();
  };
  return {
    format: 'raw',
    sizeBytes: SECTORS * SECTOR_BYTES,
    sectorBytes: SECTOR_BYTES,
    readOnly: true,
    supportsDiscard: false,
    read: (_offset, target) => fill([target]),
    readv: (_offset, targets) => fill(targets),
    write: none,
    writev: none,
    flush: none,
    discard: none,
    writeZeroes: none,
    grow: none,
    refreshSize: () => Promise.resolve(SECTORS * SECTOR_BYTES),
    close: none,
  };
};

interface Scene {
  readonly start: Buffer;
  readonly file: ModelFile;
  readonly deeds: Deed[];
  readonly initial: number;
}

async function work(
  image: DiskImage,
  { file, deeds }: Scene,
  next: (below: number) => number,
  options: { readonly count: number; readonly together: number },
): Promise<void> {
  const one = async (): Promise<void> => {
    const first = next(SECTORS);
    const sectors = 1 + next(Math.min(24, SECTORS - first));
    const kind = (['write', 'write', 'write', 'write', 'discard', 'zero', 'flush'] as const)[next(7)] ?? 'write';
    const tag = 8 + next(248);
    const start = file.changes.length;
    const [offset, length] = [first * SECTOR_BYTES, sectors * SECTOR_BYTES];
    if (kind === 'write')
      await image.writev(
        offset,
        Array.from({ length: sectors }, () => sector(tag)),
      );
    else if (kind === 'zero') await image.writeZeroes(offset, length);
    else if (kind === 'discard') await image.discard(offset, length);
    else await image.flush();
    deeds.push({ kind, first, sectors, tag, start, end: file.changes.length });
  };
  for (let done = 0; done < options.count; done += options.together) {
    await Promise.all(Array.from({ length: options.together }, one));
  }
}

/**
 * The tags that each sector may have after the first `count` changes. With `lossy`, what was done after the last flush may or may not be
 * there; else only what was under way.
 */
function allowed({ deeds, initial }: Scene, count: number, lossy: boolean, overlap: boolean): Set<number>[] {
  const flushed = Math.max(
    0,
    ...deeds.filter(({ kind, end }) => kind === 'flush' && end <= count).map(({ start }) => start),
  );
  const may = Array.from({ length: SECTORS }, () => new Set([initial]));
  for (const deed of [...deeds].sort((a, b) => a.end - b.end)) {
    if (deed.kind === 'flush' || deed.start >= count) continue;
    const sure = !overlap && (lossy ? deed.end <= flushed : deed.end <= count) && deed.kind !== 'discard';
    for (let index = deed.first; index < deed.first + deed.sectors; index += 1) {
      if (sure) may[index]?.clear();
      may[index]?.add(deed.kind === 'write' ? deed.tag : 0);
    }
  }
  return may;
}

const KINDS = [
  ['clusters of 512 bytes', { clusterBytes: 512, version: 3, refcountBits: 16 }],
  ['clusters of 4 KiB, counts of 1 bit', { clusterBytes: 4096, version: 3, refcountBits: 1 }],
  ['version 2', { clusterBytes: 2048, version: 2, refcountBits: 16 }],
] as const;

async function scene(
  kind: Pick<NewQcow2, 'clusterBytes' | 'version' | 'refcountBits'>,
  backing: boolean,
): Promise<Scene> {
  const file = new ModelFile(Buffer.alloc(0));
  await writeEmptyQcow2(file, {
    ...kind,
    sizeBytes: SECTORS * SECTOR_BYTES,
    backing: backing ? { name: 'below', format: 'raw' } : undefined,
  });
  file.changes.length = 0;
  return { start: Buffer.from(file.bytes), file, deeds: [], initial: backing ? 7 : 0 };
}

/** Opens what a crash left, checks it, and uses it. */
async function inspect(left: Buffer, may: readonly ReadonlySet<number>[], backing: boolean): Promise<void> {
  const look = await checkQcow2(new ModelFile(left, { readOnly: true }));
  expect({ errors: look.errors, details: look.errors ? look.details : [] }).toEqual({ errors: 0, details: [] });
  const file = new ModelFile(left);
  const image = await openModel(file, backing ? backingDisk() : undefined);
  for (const [index, tag] of (await tagsOf(image)).entries()) {
    if (!may[index]?.has(tag))
      throw new Error(`sector ${index} has ${tag}, not one of ${[...(may[index] ?? [])].join(' ')}`);
  }
  await image.write(5 * SECTOR_BYTES, Buffer.alloc(9 * SECTOR_BYTES, 3));
  await image.close();
  expect((await checkQcow2(new ModelFile(file.bytes, { readOnly: true }))).errors).toBe(0);
}

describe.each(KINDS)('%s', (_name, kind) => {
  test.each([
    ['an image', false, 1],
    ['an overlay', true, 1],
    ['many calls at once', true, 6],
  ] as const)('%s', async (_what, backing, together) => {
    for (let seed = 1; seed <= 2; seed += 1) {
      const all = await scene(kind, backing);
      const image = await openModel(all.file, backing ? backingDisk() : undefined);
      const next = random(seed * 7919);
      await work(image, all, next, { count: 30, together });
      await image.close();
      const total = all.file.changes.length;
      for (let count = 0; count <= total; count += 1 + next(9)) {
        const killed = cutOff(all.start, all.file.changes, count, () => false);
        await inspect(killed, allowed(all, count, false, together > 1), backing);
        const failed = cutOff(all.start, all.file.changes, count, () => next(2) === 0);
        await inspect(failed, allowed(all, count, true, together > 1), backing);
      }
    }
  });
});

test('snapshots made, applied and removed', async () => {
  const all = await scene({ clusterBytes: 512, version: 3, refcountBits: 16 }, false);
  const next = random(4242);
  const states: { readonly at: number; readonly tags: number[] }[] = [
    { at: 0, tags: new Array<number>(SECTORS).fill(0) },
  ];
  const note = async (): Promise<void> => {
    const look = await openModel(new ModelFile(all.file.bytes, { readOnly: true }));
    states.push({ at: all.file.changes.length, tags: await tagsOf(look) });
  };
  const write = async (): Promise<void> => {
    const image = await openModel(all.file);
    await image.write(next(200) * SECTOR_BYTES, Buffer.alloc(20 * SECTOR_BYTES, 8 + next(200)));
    await image.close();
    await note();
  };
  await write();
  await createSnapshot(all.file, 'one');
  await note();
  await write();
  await createSnapshot(all.file, 'two');
  await write();
  await applySnapshot(all.file, 'one');
  await note();
  await write();
  await deleteSnapshot(all.file, 'one');
  await note();
  await deleteSnapshot(all.file, 'two');
  await note();
  expect(states[3]?.tags).not.toEqual(states[2]?.tags);
  expect(states[5]?.tags).toEqual(states[2]?.tags);
  for (let count = 0; count <= all.file.changes.length; count += 1) {
    for (const lost of [() => false, () => next(2) === 0]) {
      const file = new ModelFile(cutOff(all.start, all.file.changes, count, lost));
      const tags = await tagsOf(await openModel(file));
      expect(tags).not.toContain(-1);
      const after = await checkQcow2(new ModelFile(file.bytes, { readOnly: true }));
      expect(after.errors).toBe(0);
    }
  }
  const end = await checkQcow2(new ModelFile(all.file.bytes, { readOnly: true }));
  expect(end).toEqual({ errors: 0, leaks: 0, details: [] });
});

withQemuImg('qemu-img finds no error in what a killed process leaves', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'xh-'));
  try {
    const all = await scene({ clusterBytes: 4096, version: 3, refcountBits: 16 }, false);
    const image = await openModel(all.file);
    await work(image, all, random(99), { count: 60, together: 3 });
    await image.close();
    const total = all.file.changes.length;
    for (let step = 0; step <= 12; step += 1) {
      const path = join(directory, `cut${step}`);
      writeFileSync(
        path,
        cutOff(all.start, all.file.changes, Math.floor((total * step) / 12), () => false),
      );
      expect(hasQemuImg && qemuCheck(path).errors).toBe(0);
    }
    expect(qemuCheck(join(directory, 'cut12')).leaks).toBe(0);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
