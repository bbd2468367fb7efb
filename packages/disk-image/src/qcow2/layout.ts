/** Sizes that follow from an image's header, and what an entry of its tables says. Answers to QEMU's docs/interop/qcow2.txt. */
import { ImageError } from '../errors.ts';
import type { Qcow2Header } from './header.ts';

/** Set in an entry of a table whose cluster has a count of exactly one: it may be written in place. */
export const COPIED = 1n << 63n;
export const COMPRESSED = 1n << 62n;
/** Reads as zero, whatever the offset. */
export const ZERO = 1n;
const OFFSET_MASK = 0x00ff_ffff_ffff_fe00n;
const SECTOR_BYTES = 512;

export interface Layout {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  readonly clusterBytes: number;
  /** Entries of one L2 table. */
  readonly l2Entries: number;
  /** A count has 2^refcountOrder bits. */
  readonly refcountOrder: number;
  /** Counts of one block. */
  readonly blockCounts: number;
}

export function layoutOf(header: Pick<Qcow2Header, 'version' | 'clusterBits' | 'refcountOrder'>): Layout {
  const clusterBytes = 2 ** header.clusterBits;
  return {
    version: header.version,
    clusterBits: header.clusterBits,
    clusterBytes,
    l2Entries: clusterBytes / 8,
    refcountOrder: header.refcountOrder,
    blockCounts: (clusterBytes * 8) / 2 ** header.refcountOrder,
  };
}

/** Where the cluster of a table's entry is; 0 = nowhere. Throws ImageError CORRUPT. */
export function hostOffset(entry: bigint, layout: Layout): number {
  const offset = Number(entry & OFFSET_MASK);
  if (offset % layout.clusterBytes !== 0 || offset > Number.MAX_SAFE_INTEGER) {
    throw new ImageError('CORRUPT', `a qcow2 image with a cluster at ${offset}`);
  }
  return offset;
}

export type Mapping =
  | { readonly kind: 'none' }
  | { readonly kind: 'zero'; readonly host: number }
  | { readonly kind: 'data'; readonly host: number; readonly writable: boolean }
  | { readonly kind: 'compressed'; readonly host: number; readonly bytes: number };

export const NONE: Mapping = { kind: 'none' };

/** What an entry of an L2 table says. Throws ImageError CORRUPT. */
export function mappingOf(entry: bigint, layout: Layout): Mapping {
  if (entry === 0n) return NONE;
  if (entry & COMPRESSED) return compressedOf(entry, layout);
  const host = hostOffset(entry, layout);
  if (entry & ZERO) {
    if (layout.version < 3) throw new ImageError('CORRUPT', 'a qcow2 image of version 2 with a zero cluster');
    return { kind: 'zero', host };
  }
  return host === 0 ? NONE : { kind: 'data', host, writable: (entry & COPIED) !== 0n };
}

function compressedOf(entry: bigint, layout: Layout): Mapping {
  const sectorBits = layout.clusterBits - 8;
  const offsetBits = BigInt(62 - sectorBits);
  const offset = entry & ((1n << offsetBits) - 1n);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER))
    throw new ImageError('CORRUPT', 'a qcow2 image with a cluster too far off');
  const host = Number(offset);
  const sectors = Number((entry >> offsetBits) & ((1n << BigInt(sectorBits)) - 1n)) + 1;
  return { kind: 'compressed', host, bytes: sectors * SECTOR_BYTES - (host % SECTOR_BYTES) };
}

/** The clusters of the file that a mapping uses. */
export function clustersOf(mapping: Mapping, layout: Layout): number[] {
  if (mapping.kind === 'none' || mapping.host === 0) return [];
  const first = Math.floor(mapping.host / layout.clusterBytes);
  if (mapping.kind !== 'compressed') return [first];
  const last = Math.floor((mapping.host + mapping.bytes - 1) / layout.clusterBytes);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
