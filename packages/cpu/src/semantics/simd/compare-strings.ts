/**
 * PCMPxSTRx whose immediate is known when the code is made, without a helper: C libraries search strings with these.
 * Answers to `helpers/compare-strings.ts`. Intel SDM vol. 2, 4.1.
 */
import type { Algebra } from '../algebra.ts';
import { widened, zero128 } from './common.ts';

const CONTROL = { words: 1, signed: 2, aggregation: 2, polarity: 4, top: 0x40 } as const;
const AGGREGATION = { equalAny: 0, ranges: 1, equalEach: 2, equalOrdered: 3 } as const;
const POLARITY = { negative: 1, maskedNegative: 3 } as const;
const FLAG = { cf: 0, zf: 6, sf: 7, of: 11 } as const;

export interface StringOperands<V> {
  readonly a: V;
  readonly b: V;
  /** The immediate. */
  readonly control: number;
  /** Explicit lengths as signed i64; else strings end with a zero element. */
  readonly lengths: readonly [V, V] | undefined;
}
export interface ComparedStrings<V> {
  /** The six arithmetic flags at their places, i32. */
  readonly flags: V;
  /** For PCMPxSTRI, i32. */
  index(): V;
  /** For PCMPxSTRM, v128. */
  mask(): V;
}

/** What a comparison of the elements of two vectors has in common. */
class Comparison<V> {
  readonly e: Algebra<V>;
  readonly count: number;
  private readonly shape: 'i8x16' | 'i16x8';
  private readonly sign: '_s' | '_u';
  private readonly a: V;
  private readonly b: V;
  readonly lengthA: V;
  readonly lengthB: V;

  constructor(e: Algebra<V>, { a, b, control, lengths }: StringOperands<V>) {
    this.e = e;
    this.shape = (control & CONTROL.words) !== 0 ? 'i16x8' : 'i8x16';
    this.count = this.shape === 'i16x8' ? 8 : 16;
    this.sign = (control & CONTROL.signed) !== 0 ? '_s' : '_u';
    this.a = a;
    this.b = b;
    this.lengthA = lengths ? this.explicit(lengths[0]) : this.implicit(a);
    this.lengthB = lengths ? this.explicit(lengths[1]) : this.implicit(b);
  }
  get all(): number {
    return (1 << this.count) - 1;
  }
  private implicit(vector: V): V {
    const { e } = this;
    return e.ctz(e.or(this.bits('eq', vector, zero128(e)), e.i32(1 << this.count)));
  }
  private explicit(length: V): V {
    const { e } = this;
    const magnitude = e.select(e.ltS(length, e.i64(0)), e.sub(e.i64(0), length), length);
    return e.wrap(e.select(e.ltU(magnitude, e.i64(this.count)), magnitude, e.i64(this.count)));
  }
  /** One bit for each pair of elements. */
  private bits(relation: string, left: V, right: V): V {
    const { e, shape } = this;
    return e.op(`${shape}.bitmask`, e.op(`${shape}.${relation}`, left, right));
  }
  private everywhere(n: number): V {
    const { e, shape } = this;
    return e.op(`${shape}.splat`, e.lane(`${shape}.extract_lane_u`, n, this.a));
  }
  /** Bits below a length. */
  below(length: V): V {
    const { e } = this;
    return e.sub(e.shl(e.i32(1), length), e.i32(1));
  }
  /** All bits when element `n` of the first operand is valid, else none. */
  private ifValid(n: number): V {
    const { e } = this;
    return e.sub(e.i32(0), e.ltU(e.i32(n), this.lengthA));
  }

  aggregate(mode: number): V {
    const { e, count } = this;
    const validB = this.below(this.lengthB);
    let result = e.i32(0);
    switch (mode) {
      case AGGREGATION.equalAny:
        for (let i = 0; i < count; i++)
          result = e.or(result, e.and(this.bits('eq', this.everywhere(i), this.b), this.ifValid(i)));
        return e.and(result, validB);
      case AGGREGATION.ranges:
        for (let i = 0; i < count; i += 2) {
          const from = this.bits(`ge${this.sign}`, this.b, this.everywhere(i));
          const to = this.bits(`le${this.sign}`, this.b, this.everywhere(i + 1));
          result = e.or(result, e.and(e.and(from, to), this.ifValid(i + 1)));
        }
        return e.and(result, validB);
      case AGGREGATION.equalEach: {
        const validA = this.below(this.lengthA);
        const both = e.and(e.and(this.bits('eq', this.a, this.b), validA), validB);
        return e.or(both, e.and(e.not(e.or(validA, validB)), e.i32(this.all)));
      }
      default:
        result = e.i32(this.all);
        for (let i = 0; i < count; i++) {
          const equal = e.and(this.bits('eq', this.everywhere(i), this.b), validB);
          const beyond = e.i32(this.all & ~((1 << (count - i)) - 1));
          const passes = e.or(e.or(e.shrU(equal, e.i32(i)), beyond), e.not(this.ifValid(i)));
          result = e.and(result, passes);
        }
        return result;
    }
  }
  /** Bits to elements of all ones. */
  expand(result: V): V {
    const { e } = this;
    const isBytes = this.count === 16;
    const own = new Uint8Array(16);
    const from = new Uint8Array(16);
    for (let n = 0; n < 16; n++) {
      own[n] = isBytes ? 1 << (n & 7) : (n & 1) === 0 ? 1 << (n >> 1) : 0;
      from[n] = isBytes ? n >> 3 : n & 1;
    }
    const bits = e.v128(own);
    const spread = e.op('i8x16.swizzle', e.op('i16x8.splat', result), e.v128(from));
    return e.op(`${this.shape}.eq`, e.op('v128.and', spread, bits), bits);
  }
}

export function comparedStrings<V>(e: Algebra<V>, operands: StringOperands<V>): ComparedStrings<V> {
  const { control } = operands;
  const comparison = new Comparison(e, operands);
  const { count, lengthA, lengthB } = comparison;
  let result = comparison.aggregate((control >> CONTROL.aggregation) & 3);
  const polarity = (control >> CONTROL.polarity) & 3;
  if (polarity === POLARITY.negative) result = e.xor(result, e.i32(comparison.all));
  else if (polarity === POLARITY.maskedNegative) result = e.xor(result, comparison.below(lengthB));
  const isTop = (control & CONTROL.top) !== 0;
  const flag = (condition: V, place: number): V => e.shl(condition, e.i32(place));
  const isCut = (length: V): V => e.ltU(length, e.i32(count));
  const lower = e.or(flag(e.ne(result, e.i32(0)), FLAG.cf), flag(isCut(lengthB), FLAG.zf));
  const upper = e.or(flag(isCut(lengthA), FLAG.sf), flag(e.and(result, e.i32(1)), FLAG.of));
  return {
    flags: e.or(lower, upper),
    index: () => {
      if (!isTop) return e.ctz(e.or(result, e.i32(1 << count)));
      return e.select(result, e.sub(e.i32(31), e.clz(result)), e.i32(count));
    },
    mask: () => (isTop ? comparison.expand(result) : widened(e, e.extendU(result))),
  };
}
