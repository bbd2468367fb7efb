/** A ring page of a guest behind privcmd: reads and writes as steps of one batch. */
import { u32Bytes, ringPieces } from './byte-ring.ts';

/** A write of bytes at an offset of the page. */
export interface PageWrite {
  readonly offset: number;
  readonly data: Uint8Array;
}

/** The writes that append `data` at `prod` of the ring at `base`, then raise the producer index at `prodOffset`: in this order. */
export function appendToRing(
  ring: { readonly base: number; readonly size: number; readonly prodOffset: number },
  prod: number,
  data: Uint8Array,
): PageWrite[] {
  const writes: PageWrite[] = ringPieces(prod, data.length, ring.size).map((piece) => ({
    offset: ring.base + piece.offset,
    data: data.subarray(piece.start, piece.start + piece.length),
  }));
  writes.push({ offset: ring.prodOffset, data: u32Bytes((prod + data.length) >>> 0) });
  return writes;
}
