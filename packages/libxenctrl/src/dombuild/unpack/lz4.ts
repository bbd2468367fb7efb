/**
 * LZ4 legacy frames, as `lz4 -l` writes them and Linux packs kernels: magic, then blocks of {u32 compressed size, data},
 * each of at most 8 MiB unpacked. Checked for hostile input; not the modern frame format.
 */

const MAGIC = 0x184c2102;
const MIN_MATCH = 4;
/** A length nibble of this value goes on in further bytes. */
const MORE = 15;
/** Up to so many bytes a loop is faster than a call that copies. */
const SHORT = 48;

/** @throws RangeError for anything that is no such frame of exactly `size` bytes */
export function unlz4(frame: Uint8Array, size: number): Uint8Array {
  const dv = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  const out = new Uint8Array(size);
  let at = 4;
  let done = 0;
  if (frame.length < at || dv.getUint32(0, true) !== MAGIC) throw new RangeError('no LZ4 legacy frame');
  while (done < size) {
    if (at + 4 > frame.length) throw new RangeError('LZ4 frame cut off');
    const length = dv.getUint32(at, true);
    at += 4;
    if (length === MAGIC) continue; // a concatenated frame starts
    if (at + length > frame.length) throw new RangeError('LZ4 block cut off');
    done = block(frame.subarray(at, at + length), out, done);
    at += length;
  }
  return out;
}

/** Unpacks one block to `out` from `to` on; returns where it ended. Matches may reach into earlier blocks. */
function block(src: Uint8Array, out: Uint8Array, to: number): number {
  let at = 0;
  let end = to;
  const length = (nibble: number): number => {
    let n = nibble;
    if (nibble !== MORE) return n;
    for (;;) {
      const byte = src[at++];
      if (byte === undefined) throw new RangeError('LZ4 length cut off');
      n += byte;
      if (byte !== 255) return n;
    }
  };
  while (at < src.length) {
    const token = src[at++] ?? 0;
    const literals = length(token >> 4);
    if (at + literals > src.length || end + literals > out.length) throw new RangeError('LZ4 literals out of bounds');
    if (literals > SHORT) out.set(src.subarray(at, at + literals), end);
    else for (let i = 0; i < literals; i++) out[end + i] = src[at + i] ?? 0;
    at += literals;
    end += literals;
    if (at === src.length) break; // the last sequence has no match
    const offset = (src[at] ?? 0) | ((src[at + 1] ?? 0) << 8);
    at += 2;
    if (at > src.length || offset === 0 || offset > end) throw new RangeError('LZ4 match out of bounds');
    const match = length(token & 15) + MIN_MATCH;
    if (end + match > out.length) throw new RangeError('LZ4 match out of bounds');
    if (match > SHORT && offset >= match) out.copyWithin(end, end - offset, end - offset + match);
    else for (let i = 0; i < match; i++) out[end + i] = out[end + i - offset] ?? 0;
    end += match;
  }
  return end;
}
