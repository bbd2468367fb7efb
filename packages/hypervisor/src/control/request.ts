/** One domctl or sysctl request while it is being answered: its structure, and what it points at. */
import { bytesOf } from '@xenhost/base';
import type { Bytes, Fields, Layout, View } from '@xenhost/base';
import type { CallerMemory } from '../hypercall/types.ts';

export class ControlRequest {
  /** The whole structure as read; written back when the handler asks for it. */
  readonly bytes: Bytes;
  readonly memory: CallerMemory;
  readonly #address: bigint;
  readonly #union: number;

  constructor(memory: CallerMemory, address: bigint, raw: Uint8Array, union: number) {
    this.memory = memory;
    this.bytes = bytesOf(raw);
    this.#address = address;
    this.#union = union;
  }

  /** The member of the union that this command uses. */
  u<F extends Fields>(layout: Layout<F>): View<F> {
    return layout.view(this.bytes, this.#union);
  }

  /** Byte offset of the union in `bytes`. */
  get unionOffset(): number {
    return this.#union;
  }

  /** Writes the structure back; false for -EFAULT. */
  copyBack(): boolean {
    return this.memory.write(this.#address, this.bytes.u8);
  }

  /** Writes a bitmap of `nrBits` to a xenctl_bitmap at `at` of `bytes`: as many bytes as its owner has room for. */
  writeBitmap(bitmap: { readonly bitmap: bigint; readonly nr_bits: number }, value: bigint, nrBits: number): boolean {
    const length = Math.min(Math.ceil(bitmap.nr_bits / 8), Math.ceil(nrBits / 8));
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    return length === 0 || this.memory.write(bitmap.bitmap, bytes);
  }

  /** Reads a xenctl_bitmap, up to 64 bits. */
  readBitmap(bitmap: { readonly bitmap: bigint; readonly nr_bits: number }): bigint | undefined {
    const length = Math.min(Math.ceil(bitmap.nr_bits / 8), 8);
    const bytes = this.memory.read(bitmap.bitmap, length);
    if (!bytes) return undefined;
    let value = 0n;
    bytes.forEach((byte, i) => (value |= BigInt(byte) << BigInt(8 * i)));
    return value & ((1n << BigInt(Math.min(bitmap.nr_bits, 64))) - 1n);
  }
}

/** The xenctl_bitmap at an offset of a request's union member. */
export function bitmapAt(
  request: ControlRequest,
  offset: number,
): { readonly bitmap: bigint; readonly nr_bits: number } {
  const at = request.unionOffset + offset;
  return { bitmap: request.bytes.dv.getBigUint64(at, true), nr_bits: request.bytes.dv.getUint32(at + 8, true) };
}
