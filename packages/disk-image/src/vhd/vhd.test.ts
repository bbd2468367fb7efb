/** VHD images that grow: blocks that lack sectors, and what a crash leaves. */
import { cutOff, ModelFile } from '../testing/model-file.ts';
import { SECTOR_BYTES, type DiskImage } from '../types.ts';
import { encodeFooter, encodeHeader, FOOTER_BYTES, geometryOf, HEADER_BYTES } from './format.ts';
import { openVhd } from './open.ts';

const BLOCK_BYTES = 8192;
const BLOCKS = 6;
const TABLE_AT = FOOTER_BYTES + HEADER_BYTES;
const FIRST_AT = TABLE_AT + SECTOR_BYTES;

/** An image of small blocks; `blocks` are those that are there, in the file's order. */
function image(blocks: readonly { readonly block: number; readonly bitmap: number; readonly fill: number }[]): Buffer {
  const footer = encodeFooter('dynamic', BLOCKS * BLOCK_BYTES, new Date(0));
  const table = Buffer.alloc(SECTOR_BYTES, 0xff);
  const body = blocks.map(({ block, bitmap, fill }, index) => {
    table.writeUInt32BE((FIRST_AT + index * (SECTOR_BYTES + BLOCK_BYTES)) / SECTOR_BYTES, block * 4);
    const bits = Buffer.alloc(SECTOR_BYTES);
    bits.writeUInt16BE(bitmap);
    return Buffer.concat([bits, Buffer.alloc(BLOCK_BYTES, fill)]);
  });
  const header = encodeHeader({ tableOffset: TABLE_AT, entries: BLOCKS, blockBytes: BLOCK_BYTES });
  return Buffer.concat([footer, header, table, ...body, footer]);
}

async function whole(disk: DiskImage): Promise<Buffer> {
  const bytes = Buffer.alloc(disk.sizeBytes, 0xee);
  await disk.read(0, bytes);
  return bytes;
}

test('sectors that a block lacks are zeros, and stay so when others are written', async () => {
  // Of block 2, sectors 0, 3 and 15; of block 0, all.
  const file = new ModelFile(
    image([
      { block: 2, bitmap: 0x9001, fill: 0x61 },
      { block: 0, bitmap: 0xffff, fill: 0x62 },
    ]),
  );
  const model = Buffer.alloc(BLOCKS * BLOCK_BYTES);
  model.fill('b', 0, BLOCK_BYTES);
  for (const sector of [0, 3, 15]) {
    model.fill('a', 2 * BLOCK_BYTES + sector * SECTOR_BYTES, 2 * BLOCK_BYTES + (sector + 1) * SECTOR_BYTES);
  }
  const disk = await openVhd(file);
  expect((await whole(disk)).equals(model)).toBe(true);
  const part = Buffer.alloc(700);
  await disk.read(2 * BLOCK_BYTES + 1400, part);
  expect(part.equals(model.subarray(2 * BLOCK_BYTES + 1400, 2 * BLOCK_BYTES + 2100))).toBe(true);
  await disk.write(2 * BLOCK_BYTES + 5000, Buffer.from('in the middle of nothing'));
  model.write('in the middle of nothing', 2 * BLOCK_BYTES + 5000);
  expect((await whole(disk)).equals(model)).toBe(true);
  await disk.close();
  expect((await whole(await openVhd(new ModelFile(file.bytes)))).equals(model)).toBe(true);
});

test('what a crash leaves has the old bytes or the new', async () => {
  const start = image([{ block: 3, bitmap: 0x00f0, fill: 0x61 }]);
  const file = new ModelFile(start);
  const disk = await openVhd(file);
  const before = await whole(disk);
  const ends: { readonly changes: number; readonly bytes: Buffer }[] = [{ changes: 0, bytes: before }];
  for (const [index, sector] of [17, 50, 49, 80, 1, 33, 60].entries()) {
    await disk.write(sector * SECTOR_BYTES, Buffer.alloc(3 * SECTOR_BYTES, index + 1));
    if (index % 3 === 2) await disk.flush();
    ends.push({ changes: file.changes.length, bytes: await whole(disk) });
  }
  await disk.close();
  let turn = 0;
  for (let count = 0; count <= file.changes.length; count += 1) {
    for (const lost of [() => false, () => (turn = (turn * 5 + 3) % 17) < 8]) {
      const left = await openVhd(new ModelFile(cutOff(start, file.changes, count, lost)));
      const bytes = await whole(left);
      for (let at = 0; at < bytes.length; at += SECTOR_BYTES) {
        const mine = bytes.subarray(at, at + SECTOR_BYTES);
        expect(ends.some((end) => end.bytes.subarray(at, at + SECTOR_BYTES).equals(mine))).toBe(true);
      }
      if (lost()) continue;
      // It is used further.
      await left.write(0, Buffer.alloc(BLOCKS * BLOCK_BYTES, 9));
      expect((await whole(left)).every((byte) => byte === 9)).toBe(true);
    }
    // A killed process loses nothing that was answered.
    const killed = await whole(await openVhd(new ModelFile(cutOff(start, file.changes, count, () => false))));
    const last = ends.findLast(({ changes }) => changes <= count);
    const next = ends.find(({ changes }) => changes > count);
    for (let at = 0; at < killed.length; at += SECTOR_BYTES) {
      const mine = killed.subarray(at, at + SECTOR_BYTES);
      const isOld = last?.bytes.subarray(at, at + SECTOR_BYTES).equals(mine);
      expect(isOld === true || next?.bytes.subarray(at, at + SECTOR_BYTES).equals(mine) === true).toBe(true);
    }
  }
});

test.each([2 ** 20, 2 ** 26, 2 ** 29, 2 ** 30, 2 ** 36, 2 ** 40])('the geometry of %d bytes', (sizeBytes) => {
  const { cylinders, heads, sectors } = geometryOf(sizeBytes / SECTOR_BYTES);
  const shown = cylinders * heads * sectors;
  expect(shown).toBeLessThanOrEqual(sizeBytes / SECTOR_BYTES);
  // All of it, but for a part of a cylinder, up to what three numbers can say.
  const most = Math.min(sizeBytes / SECTOR_BYTES, 65_535 * 16 * 255);
  expect(shown).toBeGreaterThan(most - heads * sectors);
  expect([cylinders < 2 ** 16, heads <= 16, sectors < 2 ** 8]).toEqual([true, true, true]);
});
