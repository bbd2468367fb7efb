/**
 * Software floating point against the host's own arithmetic (which is IEEE 754 to nearest) and against the tables of
 * the manuals. The processor itself is the judge in `npm run conformance -- cpu`.
 */
import fc from 'fast-check';
import { FpContext, FpFlag, Rounding } from './context.ts';
import { BINARY32, BINARY64, EXTENDED } from './format.ts';
import { sseBinary, sseComparePredicate, sseConvertFormat, sseRound, sseSqrt, sseToInteger } from './sse.ts';
import { x87Angles, x87Arctangent, x87TwoToXMinusOne, x87YLog2X } from './transcendental.ts';
import {
  x87Binary,
  x87Extract,
  x87FromBcd,
  x87FromFormat,
  x87FromInteger,
  x87Remainder,
  x87Scale,
  x87ToBcd,
  x87ToFormat,
  x87ToInteger,
} from './x87.ts';

const view = new DataView(new ArrayBuffer(8));
function bits64(value: number): bigint {
  view.setFloat64(0, value);
  return view.getBigUint64(0);
}
function bits32(value: number): bigint {
  view.setFloat32(0, value);
  return BigInt(view.getUint32(0));
}
const extended = (value: number): bigint => x87FromFormat(new FpContext(), BINARY64, bits64(value));
function toNumber(value: bigint): number {
  view.setBigUint64(0, x87ToFormat(new FpContext(), BINARY64, value));
  return view.getFloat64(0);
}

const OPERATIONS = {
  add: (a: number, b: number) => a + b,
  sub: (a: number, b: number) => a - b,
  mul: (a: number, b: number) => a * b,
  div: (a: number, b: number) => a / b,
} as const;

describe('like the host, to nearest', () => {
  for (const [name, host] of Object.entries(OPERATIONS) as [
    keyof typeof OPERATIONS,
    (a: number, b: number) => number,
  ][]) {
    test(`binary64 ${name}`, () => {
      fc.assert(
        fc.property(fc.double({ noNaN: true }), fc.double({ noNaN: true }), (a, b) => {
          const expected = host(a, b);
          const result = sseBinary(new FpContext(), BINARY64, name, bits64(a), bits64(b));
          expect(result).toBe(Number.isNaN(expected) ? BINARY64.defaultNan : bits64(expected));
        }),
      );
    });
    test(`binary32 ${name}`, () => {
      fc.assert(
        fc.property(fc.float({ noNaN: true }), fc.float({ noNaN: true }), (a, b) => {
          const expected = Math.fround(host(a, b));
          const result = sseBinary(new FpContext(), BINARY32, name, bits32(a), bits32(b));
          expect(result).toBe(Number.isNaN(expected) ? BINARY32.defaultNan : bits32(expected));
        }),
      );
    });
  }
  test('square root, conversion and rounding to an integer', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true, min: 0 }), (a) => {
        expect(sseSqrt(new FpContext(), BINARY64, bits64(a))).toBe(bits64(Math.sqrt(a)));
        expect(sseConvertFormat(new FpContext(), BINARY64, BINARY32, bits64(a))).toBe(bits32(a));
        expect(sseRound(new FpContext(), BINARY64, Rounding.down, bits64(a))).toBe(bits64(Math.floor(a)));
        expect(sseRound(new FpContext(), BINARY64, Rounding.zero, bits64(-a))).toBe(bits64(Math.trunc(-a)));
      }),
    );
  });
  test('a double survives the way through extended', () => {
    fc.assert(
      fc.property(fc.double({ noNaN: true }), (a) => {
        expect(x87ToFormat(new FpContext(), BINARY64, extended(a))).toBe(bits64(a));
      }),
    );
  });
});

const SNAN64 = 0x7ff0_0000_0000_0001n;
const QNAN64 = 0x7ff8_0000_0000_0002n;
const TINY64 = 1n;
const ONE64 = bits64(1);

describe('exceptions of SSE', () => {
  const cases: { title: string; run: (c: FpContext) => bigint; value: bigint; flags: number }[] = [
    { title: 'the first NaN operand wins', run: (c) => sseBinary(c, BINARY64, 'add', QNAN64, QNAN64 + 1n), value: QNAN64, flags: 0 },
    { title: 'a signalling NaN is made quiet', run: (c) => sseBinary(c, BINARY64, 'mul', SNAN64, QNAN64), value: 0x7ff8_0000_0000_0001n, flags: FpFlag.invalid },
    { title: '0 / 0', run: (c) => sseBinary(c, BINARY64, 'div', 0n, 0n), value: BINARY64.defaultNan, flags: FpFlag.invalid },
    { title: '1 / 0', run: (c) => sseBinary(c, BINARY64, 'div', ONE64, 0n), value: BINARY64.infinity, flags: FpFlag.zeroDivide },
    { title: 'NaN / 0 is no division by zero', run: (c) => sseBinary(c, BINARY64, 'div', QNAN64, 0n), value: QNAN64, flags: 0 },
    { title: 'a denormal operand', run: (c) => sseBinary(c, BINARY64, 'mul', TINY64, ONE64), value: TINY64, flags: FpFlag.denormal },
    { title: 'MIN gives the second of two zeros', run: (c) => sseBinary(c, BINARY64, 'min', 0n, 1n << 63n), value: 1n << 63n, flags: 0 },
    { title: 'MAX gives the second with a NaN, as it is', run: (c) => sseBinary(c, BINARY64, 'max', ONE64, SNAN64), value: SNAN64, flags: FpFlag.invalid },
    { title: 'overflow', run: (c) => sseBinary(c, BINARY64, 'mul', bits64(1e308), bits64(10)), value: BINARY64.infinity, flags: FpFlag.overflow | FpFlag.precision },
    { title: 'underflow', run: (c) => sseBinary(c, BINARY64, 'mul', bits64(1e-300), bits64(1e-300)), value: 0n, flags: FpFlag.underflow | FpFlag.precision },
    { title: 'integer indefinite', run: (c) => sseToInteger(c, BINARY64, bits64(2 ** 31), 32, true), value: 0x8000_0000n, flags: FpFlag.invalid },
    { title: 'the least integer fits', run: (c) => sseToInteger(c, BINARY64, bits64(-(2 ** 31)), 32, true), value: 0x8000_0000n, flags: 0 },
  ]; // prettier-ignore
  test.each(cases)('$title', ({ run, value, flags }) => {
    const context = new FpContext();
    expect(run(context)).toBe(value);
    expect(context.flags).toBe(flags);
  });

  test('DAZ makes a denormal zero, FTZ a tiny result', () => {
    const daz = new FpContext().loadMxcsr(0x1fc0);
    expect(sseBinary(daz, BINARY64, 'add', TINY64, 0n)).toBe(0n);
    expect(daz.flags).toBe(0);
    const ftz = new FpContext().loadMxcsr(0x9f80);
    expect(sseBinary(ftz, BINARY64, 'mul', bits64(1e-200), bits64(1e-120))).toBe(0n);
    expect(ftz.flags).toBe(FpFlag.underflow | FpFlag.precision);
  });
  test('an unmasked exception before the result leaves none after it', () => {
    const context = new FpContext().loadMxcsr(0x1e80);
    sseBinary(context, BINARY64, 'add', TINY64, bits64(1e10));
    expect([context.flags, context.hasNoResult]).toEqual([FpFlag.denormal, true]);
  });
  test('predicates of unordered operands', () => {
    const holds = [0, 1, 2, 3, 4, 5, 6, 7].map((p) => sseComparePredicate(new FpContext(), BINARY64, p, QNAN64, ONE64));
    expect(holds).toEqual([false, false, false, true, true, true, true, false]);
  });
});

describe('x87', () => {
  const one = x87FromInteger(1n);
  test('NaN operands: quiet over signalling, else the larger significand', () => {
    const quiet = 0x7fff_c000_0000_0000_0001n;
    const signalling = 0x7fff_8000_0000_0000_0005n;
    const context = new FpContext();
    expect(x87Binary(context, 'add', signalling, quiet)).toBe(quiet);
    expect(context.flags).toBe(FpFlag.invalid);
    expect(x87Binary(new FpContext(), 'add', quiet, quiet + 1n)).toBe(quiet + 1n);
  });
  test('an encoding that is none is invalid', () => {
    const context = new FpContext();
    expect(x87Binary(context, 'add', 0x3fff_0000_0000_0000_0001n, one)).toBe(EXTENDED.defaultNan);
    expect(context.flags).toBe(FpFlag.invalid);
  });
  test('precision control rounds the significand, C1 tells which way', () => {
    const third = (controlWord: number): [bigint, boolean] => {
      const context = new FpContext().loadControlWord(controlWord);
      return [x87Binary(context, 'div', one, x87FromInteger(3n)), context.roundedUp];
    };
    expect(third(0x37f)).toEqual([0x3ffd_aaaa_aaaa_aaaa_aaabn, true]);
    expect(third(0x27f)).toEqual([0x3ffd_aaaa_aaaa_aaaa_a800n, false]);
    expect(third(0x07f)).toEqual([0x3ffd_aaaa_ab00_0000_0000n, true]);
  });
  test('an unmasked overflow moves the exponent', () => {
    const context = new FpContext().loadControlWord(0x377);
    const huge = (0x7ffen << 64n) | (1n << 63n);
    expect(x87Binary(context, 'add', huge, huge)).toBe(((0x7fffn - 0x6000n) << 64n) | (1n << 63n));
    expect(context.flags).toBe(FpFlag.overflow);
  });
  test('remainder: exact, with the quotient, in steps when far', () => {
    expect(x87Remainder(new FpContext(), extended(7), extended(2), false)).toEqual({ value: one, quotient: 3, isComplete: true });
    expect(x87Remainder(new FpContext(), extended(7), extended(2), true)).toEqual({ value: extended(-1), quotient: 4, isComplete: true });
    let rest = extended(2 ** 200);
    let steps = 0;
    for (let done = false; !done; steps++) {
      const step = x87Remainder(new FpContext(), rest, extended(3), false);
      [rest, done] = [step.value, step.isComplete];
    }
    expect([toNumber(rest), steps > 1]).toEqual([1, true]);
  }); // prettier-ignore
  test('scale, extract, integers and packed decimals', () => {
    expect(x87Scale(new FpContext(), extended(1.5), extended(3.9))).toBe(extended(12));
    expect(x87Extract(new FpContext(), extended(-12))).toEqual({ exponent: extended(3), significand: extended(-1.5) });
    expect(x87ToInteger(new FpContext(), 16, extended(40000), false)).toBe(0x8000n);
    expect(x87ToBcd(new FpContext(), extended(-1234567))).toBe((1n << 79n) | 0x1234567n);
    expect(x87FromBcd((1n << 79n) | 0x99n)).toBe(extended(-99));
  });
});

describe('transcendentals, beside the host', () => {
  const close = (actual: bigint, expected: number): void => {
    const value = toNumber(actual);
    expect(Math.abs(value - expected)).toBeLessThanOrEqual(Math.abs(expected) * 2 ** -51);
  };
  test.each([1e-30, 0.1, 0.5, 1, 2, 3, 10, 40])('angles of %d', (x) => {
    close(x87Angles(new FpContext(), extended(x), 'sine').sine, Math.sin(x));
    close(x87Angles(new FpContext(), extended(x), 'cosine').cosine, Math.cos(x));
    close(x87Angles(new FpContext(), extended(-x), 'tangent').tangent, Math.tan(-x));
    close(x87Arctangent(new FpContext(), extended(-1), extended(x)), Math.atan2(x, -1));
    close(x87YLog2X(new FpContext(), extended(x), extended(3)), 3 * Math.log2(x));
  });
  test.each([-0.99, -0.25, 1e-20, 0.3, 0.999])('2^%d - 1', (x) => {
    close(x87TwoToXMinusOne(new FpContext(), extended(x)), Math.expm1(x * Math.LN2));
  });
  test('an angle from 2^63 on is refused', () => {
    expect(x87Angles(new FpContext(), extended(2 ** 63), 'sine').isOutOfRange).toBe(true);
  });
});
