/**
 * Byte rings with free-running 32-bit indices, as consoles and xenstore have them, over copies of their pages. Sans-I/O:
 * indices come from a guest and are checked here, once; results are pieces to copy.
 */

/** Bytes between consumer and producer; undefined when the guest's index is wild (more than the ring holds). */
export function ringUsed(prod: number, cons: number, size: number): number | undefined {
  const used = (prod - cons) >>> 0;
  return used <= size ? used : undefined;
}

/** Where `length` bytes from index `index` lie in a ring of `size` bytes (a power of two): one piece, or two around its end. */
export function ringPieces(
  index: number,
  length: number,
  size: number,
): readonly { readonly offset: number; readonly start: number; readonly length: number }[] {
  if (length === 0) return [];
  const offset = (index & (size - 1)) >>> 0;
  const first = Math.min(length, size - offset);
  const pieces = [{ offset, start: 0, length: first }];
  if (first < length) pieces.push({ offset: 0, start: first, length: length - first });
  return pieces;
}

/** A copy of `length` bytes from index `index` of the ring whose bytes are `ring`. */
export function copyFromRing(ring: Uint8Array, index: number, length: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(length);
  for (const piece of ringPieces(index, length, ring.length)) {
    out.set(ring.subarray(piece.offset, piece.offset + piece.length), piece.start);
  }
  return out;
}

/** An index `by` bytes further, wrapped to 32 bits. */
export const advance = (index: number, by: number): number => (index + by) >>> 0;

/** A u32 as the guest's memory holds it. */
export function u32Bytes(value: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
