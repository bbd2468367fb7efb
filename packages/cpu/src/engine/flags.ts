/**
 * The lazily kept arithmetic flags: what the words in the state mean, and their folding into CF PF AF ZF SF OF.
 * `ccResult` is the sign-extended result (ZF, SF, PF come from it), `ccA` and `ccB` the sign-extended operands.
 * The generated code folds by the same kinds (`wasm/flags.ts` of the interpreter); a test compares the two.
 */

/** Low four bits of `ccKind`; log2 of the operand size in bytes stands in bits 4 and 5. */
export const CC = {
  /** result = A - B (- borrow). Logic operations are A = result, B = 0. */
  sub: 0,
  /** result = A + B (+ carry). */
  add: 1,
  /** INC and DEC: A holds the CF of before. */
  inc: 2,
  dec: 3,
  /** Shifts: A is the operand (zero-extended for SHR and SHL, sign-extended for SAR), B the count, not zero. */
  shl: 4,
  shr: 5,
  sar: 6,
  /** A holds CF, AF, OF at their places, and SF, PF at theirs to be inverted against what the result says. */
  explicit: 7,
} as const;

export const FLAG = { cf: 1, pf: 4, af: 0x10, zf: 0x40, sf: 0x80, of: 0x800 } as const;

export interface LazyFlags {
  ccResult: bigint;
  ccA: bigint;
  ccB: bigint;
  ccKind: number;
}

const bit = (condition: boolean, flag: number): number => (condition ? flag : 0);
const s64 = (value: bigint): bigint => BigInt.asIntN(64, value);

function evenParity(value: bigint): boolean {
  let byte = Number(value & 0xffn);
  byte ^= byte >> 4;
  return ((0x6996 >> (byte & 15)) & 1) === 0;
}

/** The six arithmetic flags at their places in RFLAGS. */
export function flagsOf(lazy: LazyFlags): bigint {
  const r = s64(lazy.ccResult);
  const a = s64(lazy.ccA);
  const b = s64(lazy.ccB);
  const bits = BigInt(8 << ((lazy.ccKind >> 4) & 3));
  const minimum = -(1n << (bits - 1n));
  const resultFlags = bit(evenParity(r), FLAG.pf) | bit(r === 0n, FLAG.zf) | bit(r < 0n, FLAG.sf);
  const auxiliary = bit(((a ^ b ^ r) & 16n) !== 0n, FLAG.af);
  let rest: number;
  switch (lazy.ccKind & 15) {
    case CC.sub:
      rest = bit(((~a & b) | ((~a | b) & r)) < 0n, FLAG.cf) | auxiliary | bit(((a ^ b) & (a ^ r)) < 0n, FLAG.of);
      break;
    case CC.add:
      rest = bit(((a & b) | ((a | b) & ~r)) < 0n, FLAG.cf) | auxiliary | bit(((a ^ r) & (b ^ r)) < 0n, FLAG.of);
      break;
    case CC.inc:
      rest = Number(a & 1n) | bit((r & 15n) === 0n, FLAG.af) | bit(r === minimum, FLAG.of);
      break;
    case CC.dec:
      rest = Number(a & 1n) | bit((r & 15n) === 15n, FLAG.af) | bit(r === -minimum - 1n, FLAG.of);
      break;
    case CC.shl: {
      const carry = b <= bits && ((BigInt.asUintN(64, a) >> (bits - b)) & 1n) === 1n;
      rest = bit(carry, FLAG.cf) | bit(carry !== r < 0n, FLAG.of);
      break;
    }
    case CC.shr: {
      const operand = BigInt.asUintN(64, a);
      rest = Number((operand >> (b - 1n)) & 1n) | bit(((operand >> (bits - 1n)) & 1n) === 1n, FLAG.of);
      break;
    }
    case CC.sar:
      rest = Number((a >> (b - 1n)) & 1n);
      break;
    default:
      return BigInt(resultFlags ^ Number(a & BigInt(FLAG.sf | FLAG.pf)) | Number(a & BigInt(FLAG.cf | FLAG.af | FLAG.of))); // prettier-ignore
  }
  return BigInt(resultFlags | rest);
}

/** Lazy words that fold to the arithmetic flags in `rflags`, any combination of them. */
export function lazyFrom(rflags: bigint): LazyFlags {
  const flags = Number(rflags & 0x8d5n);
  const zero = (flags & FLAG.zf) !== 0;
  const sign = (flags & FLAG.sf) !== 0;
  const parity = (flags & FLAG.pf) !== 0;
  const kept = BigInt(flags & (FLAG.cf | FLAG.af | FLAG.of));
  // A zero result says SF = 0 and PF = 1: invert what differs. Any other combination has a result that says it.
  const ccResult = zero ? 0n : (sign ? 1n << 63n : 0n) | (parity ? 3n : 1n);
  const inverted = zero ? BigInt(bit(sign, FLAG.sf) | bit(!parity, FLAG.pf)) : 0n;
  return { ccResult, ccA: kept | inverted, ccB: 0n, ccKind: CC.explicit | (3 << 4) };
}
