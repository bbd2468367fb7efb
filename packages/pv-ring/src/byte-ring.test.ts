import fc from 'fast-check';
import { advance, appendToRing, copyFromRing, ringPieces, ringUsed } from './index.ts';

test.each([
  [0, 0, 1024, 0],
  [5, 3, 1024, 2],
  [1024, 0, 1024, 1024],
  [1025, 0, 1024, undefined],
  [0, 1, 1024, undefined],
  [3, 0xfffffffe, 1024, 5],
  [0xffffffff, 0, 2048, undefined],
])('ringUsed(%i, %i, %i)', (prod, cons, size, used) => {
  expect(ringUsed(prod, cons, size)).toBe(used);
});

test('pieces stay inside the ring and cover the length', () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), fc.nat(2048), (index, length) => {
      const pieces = ringPieces(index, length, 2048);
      expect(pieces.reduce((sum, p) => sum + p.length, 0)).toBe(length);
      for (const p of pieces) expect(p.offset + p.length).toBeLessThanOrEqual(2048);
      if (length > 0) expect(pieces[0]?.offset).toBe(index % 2048);
    }),
  );
});

test('what is appended is read back, at any index, around the end too', () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), fc.uint8Array({ maxLength: 1024 }), (prod, data) => {
      const page = new Uint8Array(4096);
      const writes = appendToRing({ base: 1024, size: 1024, prodOffset: 3000 }, prod, data);
      for (const write of writes) page.set(write.data, write.offset);
      expect(copyFromRing(page.subarray(1024, 2048), prod, data.length)).toEqual(data);
      const last = writes.at(-1);
      expect(last?.offset).toBe(3000);
      expect(new DataView(page.buffer).getUint32(3000, true)).toBe(advance(prod, data.length));
    }),
  );
});
