/**
 * Requests of a blkif ring from the bytes of their slots (`xen/include/public/io/blkif.h`), checked as Linux's xen-blkback checks
 * them. Bytes in, values out; the slots are copies, so what was checked is what is used.
 */
import {
  BLKIF_ABI, BLKIF_DISCARD_SECURE, BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP, BLKIF_RSP, BLKIF_SECTOR_BYTES,
  BLKIF_SEGMENTS_PER_INDIRECT_PAGE, BlkifRequestSegment,
} from '@xenhost/xen-abi'; // prettier-ignore
import { MAX_INDIRECT_SEGMENTS } from '../limits.ts';

export type AbiWidth = 64 | 32;

/** A piece of a page of the guest's; offset and length in bytes. */
export interface Segment {
  readonly gref: number;
  readonly offset: number;
  readonly length: number;
}

/** What every request has: the id to be echoed (two words, opaque) and the operation to answer with. */
interface Echo {
  readonly idLow: number;
  readonly idHigh: number;
  readonly operation: number;
}

/** A request with data; `sector` counts 512 bytes and may be anything. */
export interface TransferRequest extends Echo {
  readonly kind: 'transfer';
  readonly does: 'read' | 'write' | 'barrier' | 'flush';
  readonly sector: number;
  readonly segments: readonly Segment[];
  /** Sum of the segments' lengths. */
  readonly bytes: number;
}

/** A transfer whose segments stand in pages of their own; `does` and `segments` follow when those were read. */
export interface IndirectRequest extends Echo {
  readonly kind: 'indirect';
  readonly does: 'read' | 'write';
  readonly sector: number;
  readonly count: number;
  readonly pages: readonly number[];
}

export interface DiscardRequest extends Echo {
  readonly kind: 'discard';
  readonly sector: number;
  readonly sectors: number;
  readonly secure: boolean;
}

/** One that is answered with its status and nothing else. */
export interface BadRequest extends Echo {
  readonly kind: 'bad';
  readonly status: number;
  readonly reason: string;
}

export type BlkRequest = TransferRequest | IndirectRequest | DiscardRequest | BadRequest;

const SEGMENT = BlkifRequestSegment;
const LAST_SECTOR_OF_PAGE = 4096 / BLKIF_SECTOR_BYTES - 1;
const TWO_32 = 2 ** 32;

const DOES = {
  [BLKIF_OP.READ]: 'read', [BLKIF_OP.WRITE]: 'write', [BLKIF_OP.WRITE_BARRIER]: 'barrier',
  [BLKIF_OP.FLUSH_DISKCACHE]: 'flush',
} as const; // prettier-ignore

const isTransfer = (operation: number): operation is keyof typeof DOES => Object.hasOwn(DOES, operation);

/** A request from its slot. Never throws: what is wrong with it is a `bad` request. */
export function parseRequest(width: AbiWidth, slot: Uint8Array): BlkRequest {
  const abi = BLKIF_ABI[width];
  const dv = new DataView(slot.buffer, slot.byteOffset, slot.byteLength);
  const at = abi.request.offsets;
  const operation = dv.getUint8(at.operation);
  const echo = { idLow: dv.getUint32(at.id, true), idHigh: dv.getUint32(at.id + 4, true) };
  const sector = u64(dv, at.sector_number);
  if (isTransfer(operation)) {
    const count = dv.getUint8(at.nr_segments);
    if (count > BLKIF_MAX_SEGMENTS_PER_REQUEST) return bad({ ...echo, operation }, `${count} segments`);
    return transfer({ ...echo, operation }, DOES[operation], sector, dv, at.seg, count);
  }
  if (operation === BLKIF_OP.INDIRECT) return indirect(width, dv, echo, sector);
  if (operation === BLKIF_OP.DISCARD) {
    const flag = dv.getUint8(abi.discard.offsets.flag);
    return {
      ...{ kind: 'discard', ...echo, operation, sector, sectors: u64(dv, abi.discard.offsets.nr_sectors) },
      secure: (flag & BLKIF_DISCARD_SECURE) !== 0,
    };
  }
  return {
    kind: 'bad',
    ...echo,
    operation,
    status: BLKIF_RSP.EOPNOTSUPP,
    reason: `operation ${operation}`,
  };
}

function indirect(
  width: AbiWidth,
  dv: DataView,
  id: Pick<Echo, 'idLow' | 'idHigh'>,
  sector: number,
): IndirectRequest | BadRequest {
  const at = BLKIF_ABI[width].indirect.offsets;
  // Answered as what it does: so Linux does, and its frontend expects.
  const operation = dv.getUint8(at.indirect_op);
  const count = dv.getUint16(at.nr_segments, true);
  const echo = { ...id, operation };
  if (operation !== BLKIF_OP.READ && operation !== BLKIF_OP.WRITE) return bad(echo, `indirect operation ${operation}`);
  if (count === 0 || count > MAX_INDIRECT_SEGMENTS) return bad(echo, `${count} indirect segments`);
  const pages: number[] = [];
  for (let page = 0; page * BLKIF_SEGMENTS_PER_INDIRECT_PAGE < count; page++) {
    pages.push(dv.getUint32(at.indirect_grefs + page * 4, true));
  }
  return { kind: 'indirect', ...echo, does: DOES[operation], sector, count, pages };
}

/** The transfer that an indirect request stands for; `pages` are copies of its pages, whole or as long as their segments. */
export function resolveIndirect(request: IndirectRequest, pages: readonly Uint8Array[]): TransferRequest | BadRequest {
  const { idLow, idHigh, operation, does, sector, count } = request;
  const echo = { idLow, idHigh, operation };
  const parts: TransferRequest[] = [];
  for (const [i, page] of pages.entries()) {
    const here = Math.min(count - i * BLKIF_SEGMENTS_PER_INDIRECT_PAGE, BLKIF_SEGMENTS_PER_INDIRECT_PAGE);
    const dv = new DataView(page.buffer, page.byteOffset, page.byteLength);
    const part = transfer(echo, does, sector, dv, 0, here);
    if (part.kind === 'bad') return part;
    parts.push(part);
  }
  const [only] = parts;
  if (only && parts.length === 1) return only;
  const segments = parts.flatMap((part) => part.segments);
  return { kind: 'transfer', ...echo, does, sector, segments, bytes: parts.reduce((sum, part) => sum + part.bytes, 0) };
}

/** Bytes of an indirect page that hold the segments of the request. */
export const indirectBytes = ({ count }: IndirectRequest, page: number): number =>
  Math.min(count - page * BLKIF_SEGMENTS_PER_INDIRECT_PAGE, BLKIF_SEGMENTS_PER_INDIRECT_PAGE) * SEGMENT.size;

function transfer(
  echo: Echo,
  does: TransferRequest['does'],
  sector: number,
  dv: DataView,
  base: number,
  count: number,
): TransferRequest | BadRequest {
  if (count === 0 && (does === 'read' || does === 'write')) return bad(echo, 'no segments');
  const segments: Segment[] = [];
  let bytes = 0;
  for (let i = 0; i < count; i++) {
    const at = base + i * SEGMENT.size;
    const first = dv.getUint8(at + SEGMENT.offsets.first_sect);
    const last = dv.getUint8(at + SEGMENT.offsets.last_sect);
    if (first > last || last > LAST_SECTOR_OF_PAGE) return bad(echo, `a segment of sectors ${first} to ${last}`);
    const length = (last - first + 1) * BLKIF_SECTOR_BYTES;
    segments.push({
      gref: dv.getUint32(at + SEGMENT.offsets.gref, true),
      offset: first * BLKIF_SECTOR_BYTES,
      length,
    });
    bytes += length;
  }
  return { kind: 'transfer', ...echo, does, sector, segments, bytes };
}

const bad = (echo: Echo, reason: string): BadRequest => ({ kind: 'bad', ...echo, status: BLKIF_RSP.ERROR, reason });

/** Sector numbers past 2^53 lose their last digits, and lie past the end of every disk all the same. */
const u64 = (dv: DataView, at: number): number => dv.getUint32(at, true) + dv.getUint32(at + 4, true) * TWO_32;

/** The bytes of a response. */
export function encodeResponse(width: AbiWidth, { idLow, idHigh, operation }: Echo, status: number): Uint8Array {
  const { response } = BLKIF_ABI[width];
  const bytes = new Uint8Array(response.size);
  const dv = new DataView(bytes.buffer);
  dv.setUint32(response.offsets.id, idLow, true);
  dv.setUint32(response.offsets.id + 4, idHigh, true);
  dv.setUint8(response.offsets.operation, operation);
  dv.setInt16(response.offsets.status, status, true);
  return bytes;
}
