/** PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM. Intel SDM vol. 2, 4.1 (control byte). */

const CF = 0x001;
const ZF = 0x040;
const SF = 0x080;
const OF = 0x800;

/** Bits of the control word: the immediate, then the row's variant. */
const CONTROL_WORDS = 0x01;
const CONTROL_SIGNED = 0x02;
const CONTROL_TOP = 0x40;
const CONTROL_IMPLICIT = 0x200;

export interface StringOutcome {
  /** CF ZF SF OF at their places in RFLAGS. */
  flags: number;
  /** What xCX gets. */
  index: number;
  /** What XMM0 gets. */
  mask: bigint;
}

type Elements = Uint8Array | Int8Array | Uint16Array | Int16Array;
/** The two operands, as all kinds of elements: C libraries compare every string with these instructions. */
const operands = [new ArrayBuffer(16), new ArrayBuffer(16)].map((bytes) => ({
  quads: new BigUint64Array(bytes),
  kinds: [new Uint8Array(bytes), new Uint16Array(bytes), new Int8Array(bytes), new Int16Array(bytes)] as const,
}));

/** Low and high half of an operand as its elements; valid until the next call for the same operand. */
function elements(n: 0 | 1, low: bigint, high: bigint, control: number): Elements {
  const operand = operands[n];
  if (!operand) throw new RangeError('two operands');
  operand.quads[0] = low;
  operand.quads[1] = high;
  return operand.kinds[control & (CONTROL_WORDS | CONTROL_SIGNED)] ?? operand.kinds[0];
}

/** Number of valid elements. */
function lengthOf(list: Elements, control: number, explicit: number): number {
  if ((control & CONTROL_IMPLICIT) === 0) return Math.min(list.length, Math.abs(explicit));
  const end = list.indexOf(0);
  return end < 0 ? list.length : end;
}

/** Bit j of the intermediate result for element j of the second operand. */
function aggregate(a: Elements, b: Elements, lengthA: number, lengthB: number, mode: number): number {
  switch (mode) {
    case 0:
      return equalAny(a, b, lengthA, lengthB);
    case 1:
      return inRanges(a, b, lengthA, lengthB);
    case 2:
      return equalEach(a, b, lengthA, lengthB);
    default:
      return equalOrdered(a, b, lengthA, lengthB);
  }
}
function equalAny(a: Elements, b: Elements, lengthA: number, lengthB: number): number {
  let result = 0;
  for (let j = 0; j < lengthB; j++) {
    for (let i = 0; i < lengthA; i++) {
      if (a[i] !== b[j]) continue;
      result |= 1 << j;
      break;
    }
  }
  return result;
}
function inRanges(a: Elements, b: Elements, lengthA: number, lengthB: number): number {
  let result = 0;
  for (let j = 0; j < lengthB; j++) {
    const value = b[j] ?? 0;
    for (let i = 0; i + 1 < lengthA; i += 2) if (value >= (a[i] ?? 0) && value <= (a[i + 1] ?? 0)) result |= 1 << j;
  }
  return result;
}
function equalEach(a: Elements, b: Elements, lengthA: number, lengthB: number): number {
  let result = 0;
  for (let j = 0; j < a.length; j++) {
    const validA = j < lengthA;
    const validB = j < lengthB;
    if (validA && validB ? a[j] === b[j] : validA === validB) result |= 1 << j;
  }
  return result;
}
function equalOrdered(a: Elements, b: Elements, lengthA: number, lengthB: number): number {
  const count = a.length;
  let result = 0;
  for (let j = 0; j < count; j++) {
    const end = Math.min(lengthA, count - j);
    let i = 0;
    while (i < end && j + i < lengthB && a[i] === b[j + i]) i++;
    if (i === end) result |= 1 << j;
  }
  return result;
}

/**
 * The operands as low and high halves. `control`: immediate in bits 0 to 7, variant in 8 and 9; `lengthA`, `lengthB`: explicit
 * lengths, signed.
 */
export function compareStrings(
  first: readonly [bigint, bigint],
  second: readonly [bigint, bigint],
  control: number,
  lengths: readonly [number, number],
): StringOutcome {
  const a = elements(0, first[0], first[1], control);
  const b = elements(1, second[0], second[1], control);
  const count = a.length;
  const lengthA = lengthOf(a, control, lengths[0]);
  const lengthB = lengthOf(b, control, lengths[1]);
  let result = aggregate(a, b, lengthA, lengthB, (control >> 2) & 3);
  const all = (1 << count) - 1;
  const polarity = (control >> 4) & 3;
  if (polarity === 1) result ^= all;
  else if (polarity === 3) result ^= (1 << lengthB) - 1;
  result &= all;
  const isTop = (control & CONTROL_TOP) !== 0;
  const lowest = 31 - Math.clz32(result & -result);
  const highest = 31 - Math.clz32(result);
  return {
    flags:
      (result !== 0 ? CF : 0) | (lengthB < count ? ZF : 0) | (lengthA < count ? SF : 0) | ((result & 1) !== 0 ? OF : 0),
    index: result === 0 ? count : isTop ? highest : lowest,
    mask: isTop ? expand(result, count) : BigInt(result),
  };
}

/** Bits to elements of all ones. */
function expand(result: number, count: number): bigint {
  const bits = BigInt(128 / count);
  const ones = (1n << bits) - 1n;
  let mask = 0n;
  for (let n = 0; n < count; n++) if (((result >> n) & 1) !== 0) mask |= ones << (bits * BigInt(n));
  return mask;
}
