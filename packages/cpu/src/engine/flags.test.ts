import fc from 'fast-check';
import { CC, flagsOf, flagsOfHalves, lazyFrom } from './flags.ts';
import { CPU_STATE_SIZE, CpuState } from './state.ts';

const s64 = fc.bigInt({ min: -(1n << 63n), max: (1n << 63n) - 1n });
const edge = fc.constantFrom(0n, 1n, -1n, 0x7fn, -0x80n, 0x7fffn, -0x8000n, 0x7fff_ffffn, -0x8000_0000n, (1n << 63n) - 1n, -(1n << 63n)); // prettier-ignore
const word = fc.oneof(s64, edge);
const low = (v: bigint): number => Number(BigInt.asIntN(32, v));
const high = (v: bigint): number => Number(BigInt.asIntN(32, v >> 32n));

test('folding by halves says what folding by bigints says', () => {
  const kinds = fc.constantFrom(CC.sub, CC.add, CC.inc, CC.dec, CC.explicit);
  fc.assert(
    fc.property(kinds, fc.integer({ min: 0, max: 3 }), word, word, word, (kind, size, r, a, b) => {
      const ccKind = kind | (size << 4);
      const halves = flagsOfHalves({ kind: ccKind, resultLow: low(r), resultHigh: high(r), aLow: low(a), aHigh: high(a), bLow: low(b), bHigh: high(b) }); // prettier-ignore
      expect(BigInt(halves ?? -1)).toBe(flagsOf({ ccKind, ccResult: r, ccA: a, ccB: b }));
    }),
    { numRuns: 2000 },
  );
});

test('any combination of flags survives unfolding', () => {
  const state = new CpuState(new Uint8Array(CPU_STATE_SIZE));
  for (let flags = 0; flags < 0x1000; flags++) {
    const value = BigInt(flags & 0x8d5);
    expect(flagsOf(lazyFrom(value))).toBe(value);
    state.rflags = value | 0x200n;
    expect(state.rflags).toBe(value | 0x202n);
  }
});
