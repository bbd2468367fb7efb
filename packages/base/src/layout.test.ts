import { array, bytesOf, layout } from './layout.ts';

const inner = layout('inner', { a: 'u8', b: 'u64' });
const fields = { tag: 'u8', count: 'u32', list: array('u16', 3), value: 'u64', signed: 'i32', inner } as const;

test('natural alignment gives the offsets of a C compiler for 64 bits', () => {
  const l = layout('sample', fields);
  expect(l.offsets).toEqual({ tag: 0, count: 4, list: 8, value: 16, signed: 24, inner: 32 });
  expect(l.size).toBe(48);
});

test('the i386 layout aligns 64-bit fields to 4', () => {
  const l = layout('sample', { tag: 'u8', value: 'u64' }, 32);
  expect(l.offsets).toEqual({ tag: 0, value: 4 });
  expect(l.size).toBe(12);
});

test('a view reads and writes little-endian at its base', () => {
  const l = layout('sample', fields);
  const u8 = new Uint8Array(64);
  const view = l.view(bytesOf(u8), 8);
  view.value = 0xffff_ffff_ffff_ffffn;
  view.signed = -2;
  view.count = 0x01020304;
  expect([...u8.subarray(12, 16)]).toEqual([4, 3, 2, 1]);
  expect(view.value).toBe(2n ** 64n - 1n);
  expect(view.signed).toBe(-2);
  expect(view.tag).toBe(0);
});

test('create gives bytes of its own with the fields set', () => {
  const { bytes, view } = inner.create({ a: 7, b: 9n });
  expect(bytes.length).toBe(16);
  expect([view.a, view.b]).toEqual([7, 9n]);
});
