/** Counts in a block: 2^order bits each, big-endian from a byte on, from the lowest bit of a byte below that. */

export function readCount(view: DataView, order: number, index: number): number {
  switch (order) {
    case 6:
      return Number(view.getBigUint64(index * 8));
    case 5:
      return view.getUint32(index * 4);
    case 4:
      return view.getUint16(index * 2);
    case 3:
      return view.getUint8(index);
    default: {
      const bit = index << order;
      return (view.getUint8(bit >> 3) >> (bit & 7)) & ((1 << (1 << order)) - 1);
    }
  }
}

export function writeCount(view: DataView, order: number, index: number, count: number): void {
  switch (order) {
    case 6:
      view.setBigUint64(index * 8, BigInt(count));
      return;
    case 5:
      view.setUint32(index * 4, count);
      return;
    case 4:
      view.setUint16(index * 2, count);
      return;
    case 3:
      view.setUint8(index, count);
      return;
    default: {
      const bit = index << order;
      const mask = ((1 << (1 << order)) - 1) << (bit & 7);
      view.setUint8(bit >> 3, (view.getUint8(bit >> 3) & ~mask) | (count << (bit & 7)));
    }
  }
}

/** The largest count that fits. */
export const maxCount = (order: number): number => (order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (2 ** order) - 1);

/** The bytes of a block that hold the counts of [first, last]. */
export function countBytes(
  order: number,
  first: number,
  last: number,
): { readonly start: number; readonly end: number } {
  const bits = 2 ** order;
  return { start: Math.floor((first * bits) / 8), end: Math.ceil(((last + 1) * bits) / 8) };
}
