/** Seeded random and boundary values. Not for anything but tests. */

/** A small fast generator (xorshift128+ on 32-bit halves would do as well); the sequence depends on the seed alone. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = (seed ^ 0x9e3779b9) | 0;
    this.#c = 0x243f6a88;
    this.#d = 0xb7e15162 | 0;
    for (let i = 0; i < 16; i++) this.u32();
  }

  /** Unsigned 32 bits. */
  u32(): number {
    let t = this.#d;
    const s = this.#a;
    this.#d = this.#c;
    this.#c = this.#b;
    this.#b = s;
    t ^= t << 11;
    t ^= t >>> 8;
    this.#a = t ^ s ^ (s >>> 19);
    return this.#a >>> 0;
  }

  below(limit: number): number {
    return this.u32() % limit;
  }

  chance(oneIn: number): boolean {
    return this.below(oneIn) === 0;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }

  /** A 64-bit integer, often one at some boundary. */
  integer(): bigint {
    switch (this.below(6)) {
      case 0:
        return this.pick(INTEGER_EDGES);
      case 1:
        return BigInt.asUintN(64, (1n << BigInt(this.below(64))) - BigInt(this.below(3)));
      case 2:
        return BigInt(this.u32());
      case 3:
        return BigInt.asUintN(64, BigInt(this.below(512) - 256));
      default:
        return this.u64();
    }
  }

  /** A binary floating-point pattern with the given field widths, often a special one. */
  float(exponentBits: number, fractionBits: number): bigint {
    const sign = BigInt(this.below(2));
    const maxExponent = (1 << exponentBits) - 1;
    const bias = maxExponent >> 1;
    let exponent: number;
    switch (this.below(8)) {
      case 0:
        exponent = 0;
        break;
      case 1:
        exponent = maxExponent;
        break;
      case 2:
        exponent = this.below(3);
        break;
      case 3:
        exponent = maxExponent - this.below(3);
        break;
      case 4:
        exponent = this.below(maxExponent + 1);
        break;
      default:
        exponent = bias - 40 + this.below(80);
    }
    return (
      (sign << BigInt(exponentBits + fractionBits)) |
      (BigInt(Math.max(0, exponent)) << BigInt(fractionBits)) |
      this.#fraction(fractionBits)
    );
  }

  #fraction(bits: number): bigint {
    const all = (1n << BigInt(bits)) - 1n;
    switch (this.below(8)) {
      case 0:
        return 0n;
      case 1:
        return all;
      case 2:
        return 1n << BigInt(this.below(bits));
      case 3:
        return (this.u64() << BigInt(this.below(bits))) & all;
      case 4:
        return BigInt(this.below(4));
      default:
        return this.u64() & all;
    }
  }

  /** An 80-bit extended pattern; one in sixteen breaks the rule of the integer bit. */
  extended(): bigint {
    const pattern = this.float(15, 63);
    const fraction = pattern & ((1n << 63n) - 1n);
    const top = pattern >> 63n;
    let integerBit = (top & 0x7fffn) === 0n ? 0n : 1n;
    if (this.chance(16)) integerBit ^= 1n;
    return (top << 64n) | (integerBit << 63n) | fraction;
  }
}

const INTEGER_EDGES = [
  0n,
  1n,
  2n,
  0x7fn,
  0x80n,
  0xffn,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  0x7fffffffffffffffn,
  0x8000000000000000n,
  0xffffffffffffffffn,
  0xffffffff80000000n,
];
