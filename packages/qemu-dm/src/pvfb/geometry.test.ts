import fc from 'fast-check';
import { bytesPerPixel, fitGeometry } from './geometry.ts';

const whole = { width: 800, height: 600, stride: 3200, depth: 32, offset: 0 };

test.each([
  [{}, 1_920_000, whole],
  [{ height: 700 }, 1_920_000, whole],
  [{ width: 900 }, 1_920_000, whole],
  [{ offset: 3200 }, 1_920_000, { ...whole, offset: 3200, height: 599 }],
  [{ depth: 7 }, 1_920_000, 'a depth of 7 bits'],
  [{ stride: 0 }, 1_920_000, 'rows of 0 bytes in a framebuffer of 1920000'],
  [{ stride: -3200 }, 1_920_000, 'rows of -3200 bytes in a framebuffer of 1920000'],
  [{ offset: 1_920_000 }, 1_920_000, 'an offset of 1920000 in a framebuffer of 1920000 bytes'],
  [{ width: -5 }, 1_920_000, '-5 by 600 pixels in 1920000 bytes'],
  [{ width: 8192, height: 8192, stride: 8192, depth: 8 }, 2 ** 26, '8192 by 8192 pixels, more than 16777216'],
])('%j in %i bytes', (change, length, expected) => {
  expect(fitGeometry({ ...whole, ...change }, length)).toEqual(expected);
});

test('whatever a guest says, the picture lies inside its bytes', () => {
  const int = fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 });
  fc.assert(
    fc.property(
      fc.record({ width: int, height: int, stride: int, depth: fc.constantFrom(8, 16, 24, 32), offset: int }),
      fc.nat(2 ** 26),
      (wanted, length) => {
        const fitted = fitGeometry(wanted, length);
        if (typeof fitted === 'string') return;
        const { width, height, stride, depth, offset } = fitted;
        expect(width * (bytesPerPixel(depth) ?? 0)).toBeLessThanOrEqual(stride);
        expect(offset + height * stride).toBeLessThanOrEqual(length);
      },
    ),
  );
});
