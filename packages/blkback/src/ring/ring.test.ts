import { BLKIF_OP, BLKIF_RSP } from '@xenhost/xen-abi';
import { FakeFrontend } from '../testing/fake-frontend.ts';
import type { RequestSpec } from '../testing/fake-frontend.ts';
import { RingScene, quiet, until } from '../testing/ring-scene.ts';
import type { RingSceneOptions } from '../testing/ring-scene.ts';

const { OKAY, ERROR, EOPNOTSUPP } = BLKIF_RSP;
const PAGE = 4096;

let scene: RingScene;
async function begin(options: RingSceneOptions = {}): Promise<RingScene> {
  scene = new RingScene(options);
  await scene.serve();
  return scene;
}
afterEach(async () => {
  await scene.stop();
});

const whole = (gref: number) => ({ gref, first: 0, last: 7 });
const fill = (value: number): Buffer => Buffer.alloc(PAGE, value);
const io = (operation: number, id: number | bigint, page: number, ...grefs: number[]): RequestSpec => ({
  operation,
  id: BigInt(id),
  sector: BigInt(page * 8),
  segments: grefs.map(whole),
});
const read = (id: number, page: number, ...grefs: number[]) => io(BLKIF_OP.READ, id, page, ...grefs);
const write = (id: number, page: number, ...grefs: number[]) => io(BLKIF_OP.WRITE, id, page, ...grefs);
const flush = (id: number): RequestSpec => ({ operation: BLKIF_OP.FLUSH_DISKCACHE, id: BigInt(id) });

describe.each<RingSceneOptions>([
  { width: 64 },
  { width: 32 },
  { width: 64, pages: 2, position: 0xffff_fff0 },
  { width: 32, pages: 4 },
  { width: 64, pages: 16, position: 17 },
])('a ring like %j', (options) => {
  test('what is written is read back, more requests than the ring has slots', async () => {
    const { front, disk, statistics } = await begin({ ...options, sizeBytes: 4 << 20 });
    const count = Math.min(front.ring.shape.entries, 128);
    for (let round = 0; round < 3; round++) {
      const pages = Array.from({ length: count }, (_, i) => front.page(fill(round * 50 + i)));
      const answers = await scene.ask(...pages.map(({ gref }, i) => write(i, i * 2, gref)));
      expect(answers.map(({ id, status }) => [id, status])).toEqual(pages.map((_, i) => [BigInt(i), OKAY]));
      const targets = pages.map(() => front.page());
      expect(await scene.ask(...targets.map(({ gref }, i) => read(1000 + i, i * 2, gref)))).toHaveLength(count);
      expect(targets.findIndex(({ bytes }, i) => !fill(round * 50 + i).equals(bytes))).toBe(-1);
      expect(pages.findIndex((_, i) => disk.bytes[i * 2 * PAGE] !== ((round * 50 + i) & 255))).toBe(-1);
    }
    expect(statistics).toMatchObject({
      rd_req: count * 3,
      wr_req: count * 3,
      rd_sect: count * 24,
      wr_sect: count * 24,
    });
  });
});

test('parts of pages go to their places', async () => {
  const { front, disk } = await begin();
  const one = front.page(Uint8Array.from({ length: PAGE }, (_, i) => i >> 9));
  const parts = [{ gref: one.gref, first: 3, last: 4 }, { gref: one.gref, first: 7, last: 7 }]; // prettier-ignore
  const [answer] = await scene.ask({ operation: BLKIF_OP.WRITE, id: 1n, sector: 5n, segments: parts });
  expect(answer?.status).toBe(OKAY);
  expect([4, 5, 6, 7, 8].map((sector) => disk.bytes[sector * 512])).toEqual([0, 3, 4, 7, 0]);
  const target = front.page(fill(0xee));
  await scene.ask({
    operation: BLKIF_OP.READ,
    id: 2n,
    sector: 6n,
    segments: [{ gref: target.gref, first: 1, last: 2 }],
  });
  expect([0, 1, 2, 3].map((sector) => target.bytes[sector * 512])).toEqual([0xee, 4, 7, 0xee]);
});

test('requests next to each other are one access of the disk, and one that fails does not fail the others', async () => {
  const { front, disk } = await begin();
  const pages = Array.from({ length: 8 }, () => front.page());
  disk.bytes.fill(5);
  await scene.ask(...pages.map(({ gref }, i) => read(i, i, gref)));
  expect(disk.accesses).toEqual([{ what: 'read', offset: 0, length: 8 * PAGE }]);
  disk.badSectors.add(3 * 8);
  const answers = await scene.ask(...pages.map(({ gref }, i) => write(i, i, gref)));
  expect(disk.accesses[1]).toEqual({ what: 'write', offset: 0, length: 8 * PAGE });
  expect(answers.map(({ status }) => status)).toEqual([0, 0, 0, ERROR, 0, 0, 0, 0]);
});

test('an indirect request moves a megabyte', async () => {
  const { front, disk, statistics } = await begin({ sizeBytes: 2 << 20 });
  const pages = Array.from({ length: 256 }, (_, i) => front.page(fill(i)));
  const grefs = front.indirectPages(pages.map(({ gref }) => whole(gref)));
  const ask = (id: bigint, operation: number) =>
    scene.ask({ operation: BLKIF_OP.INDIRECT, id, sector: 8n, indirect: { operation, grefs, count: 256 } });
  expect(await ask(1n, BLKIF_OP.WRITE)).toEqual([{ id: 1n, operation: BLKIF_OP.WRITE, status: OKAY }]);
  expect(disk.accesses).toEqual([{ what: 'write', offset: PAGE, length: 1 << 20 }]);
  for (const { bytes } of pages) bytes.fill(0);
  expect(await ask(2n, BLKIF_OP.READ)).toEqual([{ id: 2n, operation: BLKIF_OP.READ, status: OKAY }]);
  expect(pages.every(({ bytes }, i) => bytes[0] === i && bytes[4095] === i)).toBe(true);
  expect(statistics).toMatchObject({ rd_req: 1, wr_req: 1, rd_sect: 2048, wr_sect: 2048 });
});

describe('requests that cannot be done are answered with an error, and the ring goes on', () => {
  const LAST = 255;
  const cases: [string, (front: FakeFrontend) => RequestSpec, number][] = [
    ['past the end', (front) => read(1, LAST + 1, front.page().gref), ERROR],
    ['across the end', (front) => read(1, LAST, front.page().gref, front.page().gref), ERROR],
    ['a sector of 64 bits', (front) => ({ ...write(1, 0, front.page().gref), sector: 2n ** 64n - 1n }), ERROR],
    ['a page that is not granted, to read into', () => read(1, 0, 77), ERROR],
    ['a page that is not granted, to write from', () => write(1, 0, 77), ERROR],
    ['a page granted for reading only, to read into', (front) => read(1, 0, front.page(fill(1), true).gref), ERROR],
    ['a page granted for reading only, to write from', (front) => write(1, 0, front.page(fill(1), true).gref), OKAY],
    ['too many segments', () => ({ operation: BLKIF_OP.WRITE, id: 1n, count: 12 }), ERROR],
    ['a discard past the end', () => ({ operation: BLKIF_OP.DISCARD, id: 1n, sector: 2047n, sectors: 2n }), ERROR],
    [
      'a discard that wraps',
      () => ({ operation: BLKIF_OP.DISCARD, id: 1n, sector: 8n, sectors: 2n ** 64n - 8n }),
      ERROR,
    ],
    ['an operation nobody knows', () => ({ operation: 99, id: 1n }), EOPNOTSUPP],
    [
      'indirect pages that are not granted',
      () => ({ operation: BLKIF_OP.INDIRECT, id: 1n, indirect: { operation: 0, grefs: [77], count: 5 } }),
      ERROR,
    ],
    [
      'an indirect segment past its page',
      (front) => {
        const grefs = front.indirectPages([{ gref: front.page().gref, first: 0, last: 8 }]);
        return { operation: BLKIF_OP.INDIRECT, id: 1n, indirect: { operation: 0, grefs, count: 1 } };
      },
      ERROR,
    ],
    [
      'an indirect transfer past the end',
      (front) => {
        const grefs = front.indirectPages([whole(front.page().gref), whole(front.page().gref)]);
        const indirect = { operation: 1, grefs, count: 2 };
        return { operation: BLKIF_OP.INDIRECT, id: 1n, sector: BigInt(LAST * 8), indirect };
      },
      ERROR,
    ],
  ];
  test.each(cases)('%s', async (_, make, status) => {
    const { front, disk } = await begin();
    const good = front.page(fill(9));
    const [first, second, third] = await scene.ask(
      write(10, 3, good.gref),
      make(front),
      read(11, 3, front.page().gref),
    );
    expect([first?.status, second?.status, third?.status]).toEqual([OKAY, status, OKAY]);
    expect(second?.id).toBe(1n);
    expect(disk.bytes[3 * PAGE]).toBe(9);
    expect(scene.faults).toEqual([]);
    expect(scene.refusals.length > 0).toBe(status !== OKAY);
  });
});

test('a revoked page fails its own request only, in the middle of a batch', async () => {
  const { front, disk } = await begin();
  disk.bytes.fill(7);
  disk.hold();
  const pages = Array.from({ length: 5 }, () => front.page());
  front.send(...pages.map(({ gref }, i) => read(i, i * 2, gref)));
  await until(() => disk.waiting === 5);
  front.revoke(pages[2]?.gref ?? 0);
  disk.release();
  expect((await scene.responses(5)).map(({ status }) => status)).toEqual([0, 0, ERROR, 0, 0]);
  expect(pages.map(({ bytes }) => bytes[0])).toEqual([7, 7, 0, 7, 7]);
});

test('nothing is written to a read-only disk, flushes included', async () => {
  const { front, disk } = await begin();
  disk.readOnly = true;
  const { gref } = front.page();
  const discard: RequestSpec = { operation: BLKIF_OP.DISCARD, id: 3n, sectors: 8n };
  const answers = await scene.ask(write(1, 0, gref), read(2, 0, gref), discard, flush(4));
  expect(answers.map(({ status }) => status)).toEqual([ERROR, OKAY, ERROR, OKAY]);
  expect(disk.accesses).toEqual([{ what: 'read', offset: 0, length: PAGE }]);
});

test('duplicate ids are answered one by one', async () => {
  const { front } = await begin();
  const { gref } = front.page();
  const answers = await scene.ask(read(5, 0, gref), read(5, 9, gref), write(5, 20, gref));
  expect(answers.map(({ id, status }) => [id, status])).toEqual([[5n, OKAY], [5n, OKAY], [5n, OKAY]]); // prettier-ignore
});

describe('order', () => {
  test('a flush waits for the writes before it; what is behind it does not wait', async () => {
    const { front, disk } = await begin();
    const { gref } = front.page();
    disk.hold();
    front.send(write(1, 0, gref), write(2, 9, gref), flush(3), read(4, 30, gref), write(5, 40, gref));
    await until(() => disk.waiting === 4);
    expect(disk.accesses.map(({ what }) => what)).not.toContain('flush');
    const index = disk.accesses.findIndex(({ what, offset }) => what === 'write' && offset === 0);
    disk.release(index);
    await quiet();
    expect(disk.accesses.map(({ what }) => what)).not.toContain('flush');
    disk.release();
    expect((await scene.responses(5)).map(({ id }) => id)).toEqual([1n, 2n, 3n, 4n, 5n]);
    expect(disk.accesses.at(-1)?.what).toBe('flush');
  });

  test('writes behind a barrier wait for it, and it for those before', async () => {
    const { front, disk, statistics } = await begin();
    const { gref } = front.page();
    disk.hold();
    front.send(write(1, 0, gref), io(BLKIF_OP.WRITE_BARRIER, 2, 9, gref), write(3, 20, gref), read(4, 30, gref));
    await until(() => disk.waiting === 2);
    expect(disk.accesses.map(({ what, offset }) => [what, offset / PAGE])).toEqual(
      expect.arrayContaining([['write', 0], ['read', 30]]), // prettier-ignore
    );
    disk.release();
    expect((await scene.responses(4)).map(({ status }) => status)).toEqual([0, 0, 0, 0]);
    const order = disk.accesses
      .filter(({ what }) => what !== 'read')
      .map(({ what, offset }) => `${what} ${offset / PAGE}`);
    expect(order).toEqual(['write 0', 'flush 0', 'write 9', 'flush 0', 'write 20']);
    expect(statistics).toMatchObject({ f_req: 1, wr_req: 2, wr_sect: 24 });
  });

  test('answers come in the order of the requests, whatever is done first', async () => {
    const { front, disk } = await begin();
    disk.hold();
    const pages = Array.from({ length: 4 }, () => front.page());
    front.send(...pages.map(({ gref }, i) => read(i, i * 2, gref)));
    await until(() => disk.waiting === 4);
    disk.release(2);
    await quiet();
    expect(front.responses()).toEqual([]);
    disk.release(0);
    expect((await scene.responses(1)).map(({ id }) => id)).toEqual([0n]);
    disk.release();
    expect((await scene.responses(3)).map(({ id }) => id)).toEqual([1n, 2n, 3n]);
  });

  test('requests are noticed while others take their time', async () => {
    const { front, disk } = await begin();
    disk.hold();
    const { gref } = front.page();
    front.send(read(1, 0, gref));
    await until(() => disk.waiting === 1);
    front.send(read(2, 9, gref));
    await until(() => disk.waiting === 2);
    disk.release();
    expect(await scene.responses(2)).toHaveLength(2);
  });
});

describe('frontends that break the protocol', () => {
  test.each([
    ['33 requests in 32 slots', 33],
    ['far ahead', 0x7000_0000],
    ['far behind', -1000],
    ['one back', -1],
  ])('%s: the ring is given up with a reason', async (_, ahead) => {
    const { front } = await begin({ position: 5 });
    front.ring.setIndex('req_prod', 5 + ahead);
    front.notify();
    await until(() => scene.faults.length > 0);
    expect(scene.faults[0]).toMatch(/^its producer index went from 5 to /);
    front.notify();
    await quiet();
    expect(scene.faults).toHaveLength(1);
    expect(front.responses()).toEqual([]);
  });

  test('a ring that is no longer granted is given up', async () => {
    const { front } = await begin();
    front.revoke(front.ringRefs[0] ?? 0);
    front.notify();
    await until(() => scene.faults.length > 0);
    expect(scene.faults).toEqual(['its ring is no longer granted']);
  });

  test('another ring goes on', async () => {
    await begin();
    const other = new FakeFrontend(scene.backend, 2);
    await scene.serve(other);
    scene.front.ring.setIndex('req_prod', 999);
    scene.front.notify();
    await until(() => scene.faults.length > 0);
    const { gref } = other.page(fill(3));
    other.send(write(1, 2, gref));
    await until(() => scene.disk.bytes[2 * PAGE] === 3);
  });

  test('a slot that changes after it was announced is read once', async () => {
    const { front, disk } = await begin();
    const { gref } = front.page(fill(4));
    disk.hold();
    const at = front.ring.reqProd;
    front.send(write(1, 2, gref));
    await until(() => disk.waiting === 1);
    const other = front.encode(write(2, 50, gref));
    front.ring.pages[0]?.set(other, 64 + (at & 31) * 112);
    disk.release();
    expect(await scene.responses(1)).toEqual([{ id: 1n, operation: BLKIF_OP.WRITE, status: OKAY }]);
    expect([disk.bytes[2 * PAGE], disk.bytes[50 * PAGE]]).toEqual([4, 0]);
  });

  test('events without requests, and more of them than requests, do nothing', async () => {
    const { front } = await begin();
    for (let i = 0; i < 20; i++) front.notify();
    await quiet();
    expect(await scene.ask(flush(1))).toHaveLength(1);
    expect(scene.faults).toEqual([]);
  });
});

test('more data than the device may hold at once is done bit by bit', async () => {
  const { front, disk } = await begin({ deviceBytes: 3 * PAGE });
  const pages = Array.from({ length: 30 }, (_, i) => front.page(fill(i + 1)));
  disk.hold();
  front.send(...pages.map(({ gref }, i) => write(i, i * 2, gref)));
  await until(() => disk.waiting === 3);
  await quiet();
  expect(disk.waiting).toBe(3);
  disk.release();
  expect(await scene.responses(30)).toHaveLength(30);
  expect(pages.every((_, i) => disk.bytes[i * 2 * PAGE] === i + 1)).toBe(true);
  expect(scene.statistics.oo_req).toBeGreaterThan(0);
  expect(scene.budget.usedBytes).toBe(0);
});

test('a paused ring answers what it took and takes no more until it resumes', async () => {
  const { front, disk, ring } = await begin();
  const { gref } = front.page();
  disk.hold();
  front.send(read(1, 0, gref));
  await until(() => disk.waiting === 1);
  const paused = ring.pause();
  front.send(read(2, 9, gref));
  disk.release();
  await paused;
  expect((await scene.responses(1)).map(({ id }) => id)).toEqual([1n]);
  await quiet();
  expect(front.responses()).toEqual([]);
  ring.resume();
  expect((await scene.responses(1)).map(({ id }) => id)).toEqual([2n]);
});

test('the frontend is notified when it asked to be, and not otherwise', async () => {
  const { front } = await begin();
  front.notified();
  await scene.ask(flush(1));
  expect(front.notified()).toBe(true);
  front.ring.setIndex('rsp_event', 100);
  front.send(flush(2));
  await until(() => front.ring.index('rsp_prod') === 2);
  await quiet();
  expect(front.notified()).toBe(false);
});
