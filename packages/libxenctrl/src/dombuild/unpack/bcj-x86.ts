/**
 * Inverse of the x86 branch filter of xz ("BCJ"): packers turn the relative targets of CALL and JMP into absolute ones,
 * this turns them back. In place, over one block from its start; the format is public domain (LZMA SDK, xz).
 */

const CALL = 0xe8;
/** By which of the last three bytes were opcodes too: may this one still be converted, and which byte decides. */
const ALLOWED = [true, true, true, false, true, false, false, false];
const DECIDING_BYTE = [0, 1, 2, 2, 3, 3, 3, 3];

const isSign = (byte: number): boolean => byte === 0 || byte === 0xff;

export function unfilterX86(block: Uint8Array): void {
  const dv = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const last = block.length - 5;
  let history = 0;
  let previous = -1;
  for (let i = 0; i <= last; i++) {
    if (((block[i] ?? 0) & 0xfe) !== CALL) continue;
    const distance = i - previous;
    previous = i;
    if (distance > 3) {
      history = 0;
    } else {
      history = (history << (distance - 1)) & 7;
      if (history !== 0) {
        const decides = block[i + 4 - (DECIDING_BYTE[history] ?? 0)] ?? 0;
        if (!ALLOWED[history] || isSign(decides)) {
          history = (history << 1) | 1;
          continue;
        }
      }
    }
    if (!isSign(block[i + 4] ?? 0)) {
      history = (history << 1) | 1;
      continue;
    }
    dv.setInt32(i + 1, relative(dv.getUint32(i + 1, true), i + 5, history), true);
    i += 4;
  }
}

/** The relative target for an absolute one, of an instruction that ends at `end`; 25 bits count, sign-extended. */
function relative(absolute: number, end: number, history: number): number {
  let target = absolute;
  for (;;) {
    const value = (target - end) >>> 0;
    const bits = (DECIDING_BYTE[history] ?? 0) * 8;
    if (history === 0 || !isSign((value >>> (24 - bits)) & 0xff)) return (value << 7) >> 7;
    target = (value ^ (2 ** (32 - bits) - 1)) >>> 0;
  }
}
