/**
 * The only place where 64-bit numbers cross between bigint and protobufjs, which would encode a bigint as 0 without a
 * word and may decode to a rounded number. Values on the wire are unsigned: a negative errno travels as its two's
 * complement.
 */

/** What protobufjs takes for a 64-bit field. */
export interface WireU64 {
  readonly low: number;
  readonly high: number;
  readonly unsigned: boolean;
}

export function toWireU64(value: bigint): WireU64 {
  const v = BigInt.asUintN(64, value);
  return { low: Number(v & 0xffff_ffffn) | 0, high: Number(v >> 32n) | 0, unsigned: true };
}

/** @throws TypeError when the decoder gave a plain number: bits may have been lost before we saw it */
export function fromWireU64(value: unknown): bigint {
  if (typeof value === 'object' && value !== null && 'low' in value && 'high' in value) {
    const { low, high } = value;
    if (typeof low === 'number' && typeof high === 'number') return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  }
  throw new TypeError(`privcmd: a 64-bit field was decoded to ${typeof value}`);
}

/** RAX as the caller reads it: signed. */
export const toSigned = (value: bigint): bigint => BigInt.asIntN(64, value);
