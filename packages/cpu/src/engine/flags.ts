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

/** `ccKind` of flags given one by one. */
export const CC_EXPLICIT = CC.explicit | (3 << 4);

/** Result (in halves) and A of explicit lazy words that fold to `flags`, any combination of them. */
export function lazyHalvesFrom(flags: number): { low: number; high: number; kept: number } {
  const kept = flags & (FLAG.cf | FLAG.af | FLAG.of);
  const sign = flags & FLAG.sf;
  const parity = flags & FLAG.pf;
  // A zero result says SF = 0 and PF = 1: invert what differs. Any other combination has a result that says it.
  if (flags & FLAG.zf) return { low: 0, high: 0, kept: kept | sign | (parity ^ FLAG.pf) };
  return { low: parity ? 3 : 1, high: sign ? -0x8000_0000 : 0, kept };
}

/** Lazy words that fold to the arithmetic flags in `rflags`. */
export function lazyFrom(rflags: bigint): LazyFlags {
  const { low, high, kept } = lazyHalvesFrom(Number(rflags & 0x8d5n));
  return {
    ccResult: (BigInt(high >>> 0) << 32n) | BigInt(low),
    ccA: BigInt(kept),
    ccB: 0n,
    ccKind: CC_EXPLICIT,
  };
}

/** Halves of the lazy words, signed. */
export interface LazyHalves {
  kind: number;
  resultLow: number;
  resultHigh: number;
  aLow: number;
  aHigh: number;
  bLow: number;
  bHigh: number;
}

/** As `flagsOf`, without bigints; undefined for the shifts, which are rare where this is asked. */
export function flagsOfHalves(lazy: LazyHalves): number | undefined {
  const { kind, resultLow: rl, resultHigh: rh, aLow: al, aHigh: ah, bLow: bl, bHigh: bh } = lazy;
  const operation = kind & 15;
  let parity = rl & 0xff;
  parity ^= parity >> 4;
  const result =
    bit(((0x6996 >> (parity & 15)) & 1) === 0, FLAG.pf) | bit((rl | rh) === 0, FLAG.zf) | bit(rh < 0, FLAG.sf);
  if (operation === CC.sub || operation === CC.add) {
    const isSub = operation === CC.sub;
    const carry = isSub ? (~ah & bh) | ((~ah | bh) & rh) : (ah & bh) | ((ah | bh) & ~rh);
    const overflow = isSub ? (ah ^ bh) & (ah ^ rh) : (ah ^ rh) & (bh ^ rh);
    return result | bit(carry < 0, FLAG.cf) | ((al ^ bl ^ rl) & FLAG.af) | bit(overflow < 0, FLAG.of);
  }
  if (operation === CC.explicit) return (result ^ (al & (FLAG.sf | FLAG.pf))) | (al & (FLAG.cf | FLAG.af | FLAG.of));
  if (operation > CC.dec) return undefined;
  const isInc = operation === CC.inc;
  const bits = 8 << ((kind >> 4) & 3);
  // The result that an overflow leaves: the least value after INC, the greatest after DEC, sign-extended.
  const edgeLow = bits === 64 ? 0 : -1 << (bits - 1);
  const edgeHigh = bits === 64 ? -0x8000_0000 : -1;
  const overflow = isInc ? rl === edgeLow && rh === edgeHigh : rl === ~edgeLow && rh === ~edgeHigh;
  return result | (al & 1) | bit((rl & 15) === (isInc ? 0 : 15), FLAG.af) | bit(overflow, FLAG.of);
}
