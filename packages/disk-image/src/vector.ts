/** Rows of buffers that stand for one run of bytes. */

export const bytesOf = (pieces: readonly Uint8Array[]): number => {
  let sum = 0;
  for (const piece of pieces) sum += piece.length;
  return sum;
};

/** The views that stand for `length` bytes from byte `from` on. */
export function slicePieces(pieces: readonly Uint8Array[], from: number, length: number): Uint8Array[] {
  const slice: Uint8Array[] = [];
  let at = 0;
  for (const piece of pieces) {
    const start = Math.max(0, from - at);
    const end = Math.min(piece.length, from + length - at);
    if (start < end) slice.push(start === 0 && end === piece.length ? piece : piece.subarray(start, end));
    at += piece.length;
    if (at >= from + length) break;
  }
  return slice;
}

export function fillZero(pieces: readonly Uint8Array[]): void {
  for (const piece of pieces) piece.fill(0);
}

/** Waits for all, even where one fails: afterwards nothing of them is under way. Throws what the first of them in the row threw. */
export async function allDone(calls: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(calls)) if (result.status === 'rejected') throw result.reason;
}
