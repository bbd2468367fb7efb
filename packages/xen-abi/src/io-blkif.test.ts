import { BLKIF_ABI, BLKIF_SEGMENTS_PER_INDIRECT_PAGE, BlkifRequestSegment } from './io-blkif.ts';

test.each([
  [64, { request: 112, discard: 32, indirect: 64, response: 16 }],
  [32, { request: 108, discard: 28, indirect: 64, response: 12 }],
] as const)('sizes of the %i-bit ABI are those of the C compiler', (width, sizes) => {
  const { request, discard, indirect, response } = BLKIF_ABI[width];
  const found = { request: request.size, discard: discard.size, indirect: indirect.size, response: response.size };
  expect(found).toEqual(sizes);
});

test.each([
  [64, 8, 16, 24, 28],
  [32, 4, 12, 20, 24],
] as const)('offsets of the %i-bit ABI are those of the C compiler', (width, id, sector, after, indirect) => {
  const abi = BLKIF_ABI[width];
  expect(abi.request.offsets).toEqual({
    operation: 0,
    nr_segments: 1,
    handle: 2,
    id,
    sector_number: sector,
    seg: after,
  });
  expect(abi.discard.offsets).toEqual({
    operation: 0,
    flag: 1,
    handle: 2,
    id,
    sector_number: sector,
    nr_sectors: after,
  });
  expect(abi.indirect.offsets).toMatchObject({
    operation: 0,
    indirect_op: 1,
    nr_segments: 2,
    id,
    sector_number: sector,
    handle: after,
    indirect_grefs: indirect,
  });
  expect(abi.response.offsets).toEqual({ id: 0, operation: 8, status: 10 });
});

test('a segment', () => {
  expect(BlkifRequestSegment.size).toBe(8);
  expect(BlkifRequestSegment.offsets).toEqual({ gref: 0, first_sect: 4, last_sect: 5 });
  expect(BLKIF_SEGMENTS_PER_INDIRECT_PAGE).toBe(512);
});
