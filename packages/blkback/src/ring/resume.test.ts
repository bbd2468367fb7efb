/**
 * A process that is killed while it serves a ring, and the next: every request is answered exactly once, and the disk holds what
 * was written.
 */
import fc from 'fast-check';
import { BLKIF_OP, BLKIF_RSP } from '@xenhost/xen-abi';
import type { Response } from '../testing/fake-frontend.ts';
import { RingScene, quiet, until } from '../testing/ring-scene.ts';

const PAGE = 4096;
const whole = (gref: number) => ({ gref, first: 0, last: 7 });

test('what was taken and not answered is done by the next process, once', async () => {
  const scene = new RingScene({ position: 0xffff_fff8 });
  await scene.serve();
  const { front, disk } = scene;
  disk.hold();
  const pages = Array.from({ length: 32 }, (_, i) => front.page(new Uint8Array(PAGE).fill(i + 1)));
  front.send(...pages.map(({ gref }, i) => ({ operation: BLKIF_OP.WRITE, id: BigInt(i), sector: BigInt(i * 16), segments: [whole(gref)] }))); // prettier-ignore
  await until(() => disk.waiting === 32);
  disk.release(20);
  disk.release(0);
  const first = await scene.responses(1);
  await scene.kill();
  disk.release();
  await quiet();
  expect(front.responses()).toEqual([]);
  await scene.serve();
  const rest = await scene.responses(31);
  expect([...first, ...rest].map(({ id, status }) => [Number(id), status])).toEqual(pages.map((_, i) => [i, 0]));
  expect(pages.every((_, i) => disk.bytes[i * 16 * 512] === i + 1)).toBe(true);
  await scene.stop();
});

test('a ring that nobody serves for a while is served from where it stands', async () => {
  const scene = new RingScene();
  await scene.serve();
  await scene.kill();
  scene.front.notified();
  const { gref, bytes } = scene.front.page();
  scene.disk.bytes.fill(8);
  scene.front.send({ operation: BLKIF_OP.READ, id: 1n, segments: [whole(gref)] });
  expect(scene.front.notified()).toBe(false);
  await scene.serve();
  expect(await scene.responses(1)).toEqual([{ id: 1n, operation: BLKIF_OP.READ, status: BLKIF_RSP.OKAY }]);
  expect(bytes[0]).toBe(8);
  expect(scene.front.notified()).toBe(true);
  await scene.stop();
});

/** What the guest's driver believes of each page: it never has two requests for one under way. */
class Model {
  readonly known: number[];
  readonly busy = new Map<
    bigint,
    { readonly page: number; readonly write: boolean; readonly value: number; readonly bytes: Uint8Array }
  >();

  constructor(pages: number) {
    this.known = Array<number>(pages).fill(0);
  }

  answered({ id, status }: Response): void {
    const request = this.busy.get(id);
    expect(request).toBeDefined();
    expect(status).toBe(BLKIF_RSP.OKAY);
    this.busy.delete(id);
    if (!request) return;
    if (request.write) this.known[request.page] = request.value;
    else expect(request.bytes[17]).toBe(this.known[request.page]);
  }
}

test('random reads and writes through any number of kills: a model of the disk agrees', async () => {
  const PAGES = 24;
  const step = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({ do: fc.constant('send' as const), page: fc.nat(PAGES - 1), write: fc.boolean() }),
    },
    { weight: 3, arbitrary: fc.record({ do: fc.constant('run' as const), turns: fc.integer({ min: 1, max: 8 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('kill' as const) }) },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 20, maxLength: 120 }),
      fc.nat(0xffff_ffff),
      async (steps, position) => {
        const scene = new RingScene({ position, sizeBytes: PAGES * PAGE, deviceBytes: 10 * PAGE });
        const { front, disk } = scene;
        const model = new Model(PAGES);
        let next = 1;
        const collect = (): void => {
          for (const response of front.responses()) model.answered(response);
        };
        await scene.serve();
        for (const action of steps) {
          if (action.do === 'send') {
            const taken = [...model.busy.values()].some(({ page }) => page === action.page);
            if (taken || front.ring.free === 0) continue;
            const value = (next * 7) & 255;
            const { gref, bytes } = front.page(new Uint8Array(PAGE).fill(action.write ? value : 0xee));
            const id = BigInt(next++);
            model.busy.set(id, { page: action.page, write: action.write, value, bytes });
            const operation = action.write ? BLKIF_OP.WRITE : BLKIF_OP.READ;
            front.send({ operation, id, sector: BigInt(action.page * 8), segments: [whole(gref)] });
          } else if (action.do === 'run') {
            for (let turn = 0; turn < action.turns; turn++) await new Promise((resolve) => setImmediate(resolve));
            collect();
          } else {
            await scene.kill();
            await scene.serve();
          }
        }
        await until(() => {
          collect();
          return model.busy.size === 0;
        });
        await quiet();
        expect(front.responses()).toEqual([]);
        for (const [page, value] of model.known.entries()) expect(disk.bytes[page * PAGE + 17]).toBe(value);
        expect(scene.faults).toEqual([]);
        await scene.stop();
      },
    ),
    { numRuns: 40 },
  );
});
