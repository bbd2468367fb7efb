import {
  XENFB_IN_RING, XENFB_OUT_RING, XENKBD_IN_RING, XENKBD_OUT_RING, XenfbPage, XenfbPage32, XenfbResize, XenfbUpdate,
  XenkbdKey, XenkbdPosition, xenfbDirectories,
} from './io-fb.ts'; // prettier-ignore

test('xenfb_page has the offsets of the C compiler for both widths', () => {
  const head = {
    in_cons: 0, in_prod: 4, out_cons: 8, out_prod: 12, width: 16, height: 20, line_length: 24, mem_length: 28, depth: 32,
  }; // prettier-ignore
  expect(XenfbPage.offsets).toEqual({ ...head, pd: 40 });
  expect(XenfbPage.size).toBe(2088);
  expect(XenfbPage32.offsets).toEqual({ ...head, pd: 36 });
  expect(XenfbPage32.size).toBe(1060);
});

test('rings lie inside their page and hold the events that the headers compute', () => {
  expect([XENFB_IN_RING, XENFB_OUT_RING, XENKBD_IN_RING, XENKBD_OUT_RING].map(({ length }) => length)).toEqual([
    25, 51, 51, 25,
  ]);
  expect(XENKBD_OUT_RING.base + XENKBD_OUT_RING.length * 40).toBeLessThanOrEqual(4096);
});

test('directories stop where the in ring begins', () => {
  expect(xenfbDirectories(XenfbPage.offsets.pd, 8)).toBe(123);
  expect(xenfbDirectories(XenfbPage32.offsets.pd, 4)).toBe(247);
});

test('fields of events follow the type byte at a multiple of four', () => {
  expect(XenfbUpdate.offsets).toEqual({ type: 0, x: 4, y: 8, width: 12, height: 16 });
  expect(XenfbResize.offsets).toEqual({ type: 0, width: 4, height: 8, stride: 12, depth: 16, offset: 20 });
  expect(XenkbdKey.offsets).toEqual({ type: 0, pressed: 1, keycode: 4 });
  expect(XenkbdPosition.offsets).toEqual({ type: 0, abs_x: 4, abs_y: 8, rel_z: 12 });
});
