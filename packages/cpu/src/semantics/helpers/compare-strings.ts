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

function elements(vector: bigint, control: number): number[] {
  const bits = (control & CONTROL_WORDS) !== 0 ? 16 : 8;
  const isSigned = (control & CONTROL_SIGNED) !== 0;
  return Array.from({ length: 128 / bits }, (_, n) => {
    const raw = vector >> BigInt(n * bits);
    return Number(isSigned ? BigInt.asIntN(bits, raw) : BigInt.asUintN(bits, raw));
  });
}

/** Number of valid elements. */
function lengthOf(list: readonly number[], control: number, explicit: number): number {
  if ((control & CONTROL_IMPLICIT) === 0) return Math.min(list.length, Math.abs(explicit));
  const end = list.indexOf(0);
  return end < 0 ? list.length : end;
}

/** Bit j of the intermediate result for element j of the second operand. */
function aggregate(a: number[], b: number[], lengthA: number, lengthB: number, mode: number): number {
  const count = a.length;
  let result = 0;
  for (let j = 0; j < count; j++) {
    const validB = j < lengthB;
    const valueB = b[j] ?? 0;
    let bit = false;
    switch (mode) {
      case 0: // equal any
        bit = validB && a.slice(0, lengthA).includes(valueB);
        break;
      case 1: // ranges
        for (let i = 0; i + 1 < lengthA && validB; i += 2)
          if (valueB >= (a[i] ?? 0) && valueB <= (a[i + 1] ?? 0)) bit = true;
        break;
      case 2: {
        // equal each
        const validA = j < lengthA;
        bit = validA && validB ? a[j] === valueB : validA === validB;
        break;
      }
      default: // equal ordered
        bit = true;
        for (let i = 0; i < count - j && bit; i++) {
          if (i >= lengthA) break;
          bit = j + i < lengthB && a[i] === b[j + i];
        }
    }
    if (bit) result |= 1 << j;
  }
  return result;
}

/** `control`: immediate in bits 0 to 7, variant in 8 and 9; `lengths`: two signed 32-bit explicit lengths. */
export function compareStrings(first: bigint, second: bigint, control: number, lengths: bigint): StringOutcome {
  const a = elements(first, control);
  const b = elements(second, control);
  const count = a.length;
  const lengthA = lengthOf(a, control, Number(BigInt.asIntN(32, lengths)));
  const lengthB = lengthOf(b, control, Number(BigInt.asIntN(32, lengths >> 32n)));
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
