import fc from 'fast-check';
import { DirtyTiles, Screen, TILE_HEIGHT, TILE_WIDTH, type Rect } from './screen.ts';

const covered = (rects: readonly Rect[]): Set<string> => {
  const pixels = new Set<string>();
  for (const { x, y, width, height } of rects) {
    for (let row = y; row < y + height; row++) {
      for (let column = x; column < x + width; column++) {
        const key = `${column},${row}`;
        if (pixels.has(key)) throw new Error(`twice: ${key}`);
        pixels.add(key);
      }
    }
  }
  return pixels;
};

test('rectangles cover the marked tiles, once each, and stay on the screen', () => {
  const size = { width: 150, height: 70 };
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(2), fc.nat(4)), { maxLength: 15 }), (marks) => {
      const tiles = new DirtyTiles(size);
      for (const [column, row] of marks) tiles.mark(column, row);
      const pixels = covered(tiles.take({ x: 0, y: 0, ...size }));
      for (let y = 0; y < size.height; y++) {
        for (let x = 0; x < size.width; x++) {
          const isMarked = marks.some(
            ([column, row]) => column === Math.floor(x / TILE_WIDTH) && row === Math.floor(y / TILE_HEIGHT),
          );
          if (pixels.has(`${x},${y}`) !== isMarked) return false;
        }
      }
      return !tiles.any && tiles.take({ x: 0, y: 0, ...size }).length === 0;
    }),
  );
});

test('only what was asked for is taken', () => {
  const tiles = new DirtyTiles({ width: 640, height: 480 });
  tiles.markAll();
  expect(tiles.take({ x: 0, y: 0, width: 10, height: 10 })).toEqual([{ x: 0, y: 0, width: 64, height: 16 }]);
  expect(tiles.take({ x: 0, y: 0, width: 10, height: 10 })).toEqual([]);
  expect(tiles.any).toBe(true);
  expect(tiles.take({ x: 0, y: 0, width: 0, height: 10 })).toEqual([]);
});

test('watchers are told of tiles whose pixels change, and of nothing else', () => {
  const screen = new Screen({ width: 130, height: 20 });
  const told: Rect[][] = [];
  screen.addWatcher({
    waiting: false,
    damaged: (tiles) => {
      const mine = new DirtyTiles(screen);
      mine.add(tiles);
      told.push(mine.take({ x: 0, y: 0, width: 130, height: 20 }));
    },
    resized: () => undefined,
    ready: () => undefined,
  });
  screen.storeRow(3, new Uint32Array(130));
  expect(screen.publish()).toBe(false);
  const row = new Uint32Array(130);
  row[129] = 5;
  screen.storeRow(18, row);
  expect(screen.publish()).toBe(true);
  expect(told).toEqual([[{ x: 128, y: 16, width: 2, height: 4 }]]);
  expect([...screen.region({ x: 128, y: 18, width: 3, height: 3 })]).toEqual([0, 5, 0, 0, 0, 0, 0, 0, 0]);
});
