import fc from 'fast-check';
import { decodePixelFormat, encodePixelFormat, PixelWriter, serverFormat, type PixelFormat } from './pixel-format.ts';

const rgb565: PixelFormat = {
  bitsPerPixel: 16, depth: 16, bigEndian: false, trueColour: true, max: [31, 63, 31], shift: [11, 5, 0],
}; // prettier-ignore
const bgr233: PixelFormat = {
  bitsPerPixel: 8, depth: 8, bigEndian: false, trueColour: true, max: [7, 7, 3], shift: [0, 3, 6],
}; // prettier-ignore
const high: PixelFormat = { ...serverFormat, shift: [24, 16, 8] };

const bytes = (format: PixelFormat, pixel: number, isCompressed = false): string => {
  const writer = new PixelWriter(format);
  const into = Buffer.alloc(4);
  const values = writer.values(Uint32Array.of(pixel));
  const end = isCompressed ? writer.writeCompressed(values, into, 0) : writer.write(values, into, 0);
  return into.subarray(0, end).toString('hex');
};

test.each<[string, PixelFormat, string, string]>([
  ['the server’s own', serverFormat, '33221100', '332211'],
  ['big-endian', { ...serverFormat, bigEndian: true }, '00112233', '112233'],
  ['in the upper bytes', high, '00332211', '332211'],
  ['in the upper bytes, big-endian', { ...high, bigEndian: true }, '11223300', '112233'],
  ['red last', { ...serverFormat, shift: [0, 8, 16] }, '11223300', '112233'],
  ['depth 32', { ...serverFormat, depth: 32 }, '33221100', '33221100'],
])('pixels %s', (_, format, plain, compressed) => {
  expect(bytes(format, 0x112233)).toBe(plain);
  expect(bytes(format, 0x112233, true)).toBe(compressed);
});

test.each<[PixelFormat, number, string]>([
  [rgb565, 0xff0000, '00f8'],
  [{ ...rgb565, bigEndian: true }, 0x00ff00, '07e0'],
  [bgr233, 0xff0000, '07'],
  [bgr233, 0x0000ff, 'c0'],
  [bgr233, 0x808080, 'a4'],
])('%j: %i', (format, pixel, expected) => {
  expect(bytes(format, pixel)).toBe(expected);
  expect(bytes(format, pixel, true)).toBe(expected);
});

test('formats that are taken come back as they were', () => {
  for (const format of [serverFormat, rgb565, bgr233, high]) {
    expect(decodePixelFormat(encodePixelFormat(format))).toEqual(format);
  }
});

test.each([
  ['18180001 00ff00ff00ff 100800 000000', '24 bits a pixel'],
  ['20180000 00ff00ff00ff 100800 000000', 'a colour map for 32 bits a pixel'],
  ['08080001 00ff00ff00ff 000000 000000', undefined],
  ['08080001 00ff00ff00ff 080000 000000', 'colours of 255 << 8 in 8 bits'],
  ['20180001 ffffffffffff ff0000 000000', 'colours of 65535 << 255 in 32 bits'],
  ['08080000 000000000000 000000 000000', undefined],
])('%s', (text, reason) => {
  const decoded = decodePixelFormat(Buffer.from(text.replaceAll(' ', ''), 'hex'));
  expect(typeof decoded === 'string' ? decoded : undefined).toBe(reason);
});

test('no format that is taken makes the writer fail', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.constantFrom(8, 16, 32), (raw, bits) => {
      raw[0] = bits;
      const format = decodePixelFormat(raw);
      if (typeof format === 'string') return;
      expect(bytes(format, 0xabcdef)).toHaveLength(bits / 4);
    }),
  );
});
