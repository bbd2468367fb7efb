import fc from 'fast-check';
import { BLKIF_OP, BLKIF_RSP } from '@xenhost/xen-abi';
import { FakeBackend } from '@xenhost/privcmd/testing';
import { FakeFrontend } from '../testing/fake-frontend.ts';
import type { RequestSpec } from '../testing/fake-frontend.ts';
import { bytesOfRequest, newWork } from './work.ts';
import { encodeResponse, parseRequest, resolveIndirect } from './requests.ts';
import type { AbiWidth } from './requests.ts';

const WIDTHS: readonly AbiWidth[] = [64, 32];
const whole = (gref: number) => ({ gref, first: 0, last: 7 });
const segments = (n: number) => Array.from({ length: n }, (_, i) => whole(i + 1));

const slot = (width: AbiWidth, spec: RequestSpec): Uint8Array =>
  new FakeFrontend(new FakeBackend(), 1, { width }).encode(spec);

describe.each(WIDTHS)('%i-bit requests', (width) => {
  const parse = (spec: RequestSpec) => parseRequest(width, slot(width, spec));

  test('a write of part of two pages', () => {
    const parsed = parse({
      ...{ operation: BLKIF_OP.WRITE, id: 0x1122_3344_5566_7788n, sector: 0x1_0000_0001n },
      segments: [{ gref: 9, first: 2, last: 7 }, { gref: 0xffff_ffff, first: 0, last: 0 }], // prettier-ignore
    });
    expect(parsed).toEqual({
      ...{ kind: 'transfer', does: 'write', operation: BLKIF_OP.WRITE, sector: 2 ** 32 + 1, bytes: 7 * 512 },
      ...{ idLow: 0x5566_7788, idHigh: 0x1122_3344 },
      segments: [
        { gref: 9, offset: 1024, length: 6 * 512 },
        { gref: 0xffff_ffff, offset: 0, length: 512 },
      ],
    });
  });

  test.each<[string, RequestSpec, string]>([
    ['a read', { operation: BLKIF_OP.READ, id: 1n, segments: segments(11) }, 'transfer'],
    ['twelve segments', { operation: BLKIF_OP.READ, id: 1n, count: 12 }, 'bad'],
    ['255 segments', { operation: BLKIF_OP.WRITE, id: 1n, count: 255 }, 'bad'],
    ['a read of nothing', { operation: BLKIF_OP.READ, id: 1n }, 'bad'],
    ['a flush', { operation: BLKIF_OP.FLUSH_DISKCACHE, id: 1n }, 'transfer'],
    ['a barrier without data', { operation: BLKIF_OP.WRITE_BARRIER, id: 1n }, 'transfer'],
    ['first behind last', { operation: BLKIF_OP.READ, id: 1n, segments: [{ gref: 1, first: 3, last: 2 }] }, 'bad'],
    ['past the page', { operation: BLKIF_OP.READ, id: 1n, segments: [{ gref: 1, first: 0, last: 8 }] }, 'bad'],
    ['a discard', { operation: BLKIF_OP.DISCARD, id: 1n, sectors: 8n, flag: 1 }, 'discard'],
    ['a reserved operation', { operation: BLKIF_OP.RESERVED_1, id: 1n }, 'bad'],
    ['an unknown one', { operation: 200, id: 1n }, 'bad'],
    [
      ...['indirect', { operation: BLKIF_OP.INDIRECT, id: 1n, indirect: { operation: 0, grefs: [1], count: 256 } }],
      'indirect',
    ],
    [
      ...['257 indirect', { operation: BLKIF_OP.INDIRECT, id: 1n, indirect: { operation: 0, grefs: [1], count: 257 } }],
      'bad',
    ],
    ['no indirect', { operation: BLKIF_OP.INDIRECT, id: 1n, indirect: { operation: 0, grefs: [1], count: 0 } }, 'bad'],
    [
      'indirect flush',
      { operation: BLKIF_OP.INDIRECT, id: 1n, indirect: { operation: 3, grefs: [], count: 1 } },
      'bad',
    ],
  ] as [string, RequestSpec, string][])('%s', (_, spec, kind) => {
    expect(parse(spec).kind).toBe(kind);
  });

  test('what is not known is not supported, what is wrong is an error', () => {
    expect(parse({ operation: 77, id: 5n })).toMatchObject({ status: BLKIF_RSP.EOPNOTSUPP, operation: 77, idLow: 5 });
    expect(parse({ operation: 1, id: 5n, count: 12 })).toMatchObject({ status: BLKIF_RSP.ERROR, operation: 1 });
  });

  test('an indirect request becomes the transfer it stands for, answered as what it does', () => {
    const request = parse({
      ...{ operation: BLKIF_OP.INDIRECT, id: 7n, sector: 16n },
      indirect: { operation: BLKIF_OP.WRITE, grefs: [40], count: 3 },
    });
    expect(request).toMatchObject({ kind: 'indirect', does: 'write', operation: BLKIF_OP.WRITE, pages: [40] });
    if (request.kind !== 'indirect') throw new Error('not indirect');
    expect(bytesOfRequest(request)).toBe(3 * 4096);
    const page = new Uint8Array(24);
    for (const [i, last] of [7, 3, 7].entries()) page.set([i + 1, 0, 0, 0, 0, last], i * 8);
    expect(resolveIndirect(request, [page])).toMatchObject({
      ...{ kind: 'transfer', does: 'write', sector: 16, bytes: 20 * 512, idLow: 7 },
      segments: [{ gref: 1, length: 4096 }, { gref: 2, length: 2048 }, { gref: 3, length: 4096 }], // prettier-ignore
    });
    page[13] = 8;
    expect(resolveIndirect(request, [page])).toMatchObject({ kind: 'bad', status: BLKIF_RSP.ERROR });
  });

  test('a response echoes the id and has a signed status', () => {
    const bytes = encodeResponse(width, { idLow: 1, idHigh: 2, operation: 6 }, BLKIF_RSP.EOPNOTSUPP);
    expect([...bytes.subarray(0, 12)]).toEqual([1, 0, 0, 0, 2, 0, 0, 0, 6, 0, 0xfe, 0xff]);
    expect(bytes).toHaveLength(width === 64 ? 16 : 12);
  });

  test('any bytes are some request, within bounds', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 112, maxLength: 112 }), (bytes) => {
        const request = parseRequest(width, bytes.subarray(0, width === 64 ? 112 : 108));
        expect(bytesOfRequest(request)).toBeLessThanOrEqual(1 << 20);
        expect(newWork(request, 0).stage).toBe('held');
        if (request.kind !== 'transfer') return;
        for (const { offset, length } of request.segments) {
          expect(length).toBeGreaterThan(0);
          expect(offset + length).toBeLessThanOrEqual(4096);
        }
      }),
    );
  });
});
