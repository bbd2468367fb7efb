/**
 * Block devices of split drivers (`xen/include/public/io/blkif.h`). A frontend's ring has the layout of its own ABI, which it names in its `protocol`
 * node: the widths differ in where 64-bit fields lie.
 */
import { array, layout } from '@xenhost/base';

export const BLKIF_OP = {
  READ: 0, WRITE: 1, WRITE_BARRIER: 2, FLUSH_DISKCACHE: 3, RESERVED_1: 4, DISCARD: 5, INDIRECT: 6,
} as const; // prettier-ignore
export const BLKIF_DISCARD_SECURE = 1;
export const BLKIF_RSP = { OKAY: 0, ERROR: -1, EOPNOTSUPP: -2 } as const;
export const BLKIF_MAX_SEGMENTS_PER_REQUEST = 11;
export const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8;
/** Unit of sector numbers and of first_sect and last_sect, whatever the device's own sectors are. */
export const BLKIF_SECTOR_BYTES = 512;
/** Values of a frontend's `protocol` node (`io/protocols.h`); absent: the backend's own, x86_64. */
export const BLKIF_PROTOCOL = { x86_64: 'x86_64-abi', x86_32: 'x86_32-abi' } as const;
/** Bits of a backend's `info` node. */
export const VDISK = { CDROM: 1, REMOVABLE: 2, READONLY: 4 } as const;

export const BlkifRequestSegment = layout('blkif_request_segment', { gref: 'u32', first_sect: 'u8', last_sect: 'u8' });
/** Segments in one page of an indirect request. */
export const BLKIF_SEGMENTS_PER_INDIRECT_PAGE = 4096 / BlkifRequestSegment.size;

const SEGMENT_WORDS = BlkifRequestSegment.size / 4;

function structures(width: 64 | 32) {
  return {
    /** `seg`: segments one behind the other, `BlkifRequestSegment` each. */
    request: layout(
      'blkif_request',
      {
        operation: 'u8', nr_segments: 'u8', handle: 'u16', id: 'u64', sector_number: 'u64',
        seg: array('u32', BLKIF_MAX_SEGMENTS_PER_REQUEST * SEGMENT_WORDS),
      },
      width,
    ),
    discard: layout(
      'blkif_request_discard',
      { operation: 'u8', flag: 'u8', handle: 'u16', id: 'u64', sector_number: 'u64', nr_sectors: 'u64' },
      width,
    ),
    indirect: layout(
      'blkif_request_indirect',
      {
        operation: 'u8', indirect_op: 'u8', nr_segments: 'u16', id: 'u64', sector_number: 'u64', handle: 'u16',
        indirect_grefs: array('u32', BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST),
        // Makes it as long as the 64-bit one.
        ...(width === 32 ? { pad: 'u64' } : {}),
      },
      width,
    ),
    response: layout('blkif_response', { id: 'u64', operation: 'u8', status: 'u16' }, width),
  } as const; // prettier-ignore
}

/** The structures of one ABI; `request` is the ring's entry. Statuses are i16 in two's complement. */
export type BlkifAbi = ReturnType<typeof structures>;
export const BLKIF_ABI: { readonly 64: BlkifAbi; readonly 32: BlkifAbi } = { 64: structures(64), 32: structures(32) };
