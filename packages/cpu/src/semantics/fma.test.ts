import fc from 'fast-check';
import { CODE, TestMachine } from '../interpreter/machine.fixture.ts';
import { FpContext } from '../softfloat/context.ts';
import { BINARY32, BINARY64 } from '../softfloat/format.ts';
import { sseFused } from '../softfloat/sse.ts';

/** All exceptions masked, precision already seen: what makes the host's operations usable. */
const MXCSR_USUAL = 0x1fa0;
const SIGNS = { negatesProduct: false, negatesAddend: false };
const NR_RUNS = 1500;

const m = new TestMachine('monitor', {}, 'off');
m.engine.state.cr4 |= 1n << 18n;
m.engine.state.xcr0 = 7n;
m.engine.stateChanged();

/** xmm0 = xmm1 * xmm2 + xmm0 of the low elements. */
function fused(instruction: string, bytes: 4 | 8, [a, b, c]: readonly [bigint, bigint, bigint]): bigint {
  const { state } = m.engine;
  m.code(`${instruction} xmm0, xmm1, xmm2\nsyscall`);
  state.mxcsr = MXCSR_USUAL;
  for (const [n, bits] of [c, a, b].entries())
    state.xmm(n).set(new Uint8Array(BigUint64Array.of(bytes === 8 ? bits : bits | (bits << 32n)).buffer));
  state.rip = BigInt(CODE);
  m.engine.run(100);
  const low = new DataView(Uint8Array.from(state.xmm(0)).buffer).getBigUint64(0, true);
  return bytes === 8 ? low : low & 0xffffffffn;
}

/** Numbers near one, their products and what nearly cancels them: where a second rounding would show. */
const near = (precision: number): fc.Arbitrary<bigint> => {
  const fraction = BigInt(precision - 1);
  const bias = precision === 53 ? 1023 : 127;
  const exponent = fc.integer({ min: bias - 30, max: bias + 30 });
  const field = fc.oneof(
    fc.bigInt({ min: 0n, max: (1n << fraction) - 1n }),
    fc.constantFrom(0n, 1n, (1n << fraction) - 1n, 1n << (fraction - 1n)),
  );
  return fc.tuple(fc.boolean(), exponent, field).map(([negative, e, f]) => {
    const magnitude = (BigInt(e) << fraction) | f;
    return negative ? magnitude | (1n << (fraction + (precision === 53 ? 11n : 8n))) : magnitude;
  });
};

test.each([
  ['vfmadd231sd', 8, BINARY64],
  ['vfmadd231pd', 8, BINARY64],
  ['vfmadd231ss', 4, BINARY32],
  ['vfmadd231ps', 4, BINARY32],
] as const)('%s rounds once', (instruction, bytes, format) => {
  const number = near(format.precision);
  fc.assert(
    fc.property(number, number, number, fc.boolean(), (a, b, other, cancels) => {
      const context = new FpContext().loadMxcsr(MXCSR_USUAL);
      // Minus the rounded product leaves what its rounding took.
      const product = sseFused(context, format, [a, b, 0n], { ...SIGNS, negatesProduct: true });
      const c = cancels ? product : other;
      expect(fused(instruction, bytes, [a, b, c])).toBe(sseFused(context, format, [a, b, c], SIGNS));
    }),
    { numRuns: NR_RUNS },
  );
});
