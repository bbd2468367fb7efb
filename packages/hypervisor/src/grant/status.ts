/**
 * Marking a shared entry as in use, under a guest that may change it at any moment: flags are set by compare-and-exchange
 * (version 1) or looked at again after the status was written (version 2), a few times at most. Xen's `_set_status` and
 * `gnttab_prepare_for_transfer`.
 */
import { GNTST, GTF } from '@xenhost/xen-abi';
import type { ActiveEntry, GrantTable } from './table.ts';
import { WRITE_PINS } from './table.ts';

/** Attempts before the entry is called unstable. */
const ATTEMPTS = 5;

export interface Use {
  /** Domain that uses the grant. */
  readonly domid: number;
  readonly isReadonly: boolean;
  /** A mapping: whole pages only. */
  readonly isMapping: boolean;
}

const flagsIn = (header: number): number => header & 0xffff;
const domidIn = (header: number): number => header >>> 16;

/** GNTST_okay or GNTST_general_error. */
export function setStatus(table: GrantTable, ref: number, active: ActiveEntry, use: Use): number {
  return table.version === 1 ? setV1(table, ref, active, use) : setV2(table, ref, active, use);
}

function setV1(table: GrantTable, ref: number, active: ActiveEntry, use: Use): number {
  const mask = GTF.type_mask | (use.isMapping ? GTF.sub_page : 0);
  let header = table.header(ref);
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const flags = flagsIn(header);
    if (active.pin === 0 && ((flags & mask) !== GTF.permit_access || domidIn(header) !== use.domid))
      return GNTST.general_error;
    if (!use.isReadonly && (flags & GTF.readonly) !== 0) return GNTST.general_error;
    const wanted = (header | GTF.reading | (use.isReadonly ? 0 : GTF.writing)) >>> 0;
    const held = table.compareExchangeHeader(ref, header, wanted);
    if (held === header) return GNTST.okay;
    header = held;
  }
  return GNTST.general_error;
}

function setV2(table: GrantTable, ref: number, active: ActiveEntry, use: Use): number {
  const mask = GTF.type_mask | (use.isMapping ? GTF.sub_page : 0);
  const permits = (header: number): boolean => {
    const kind = flagsIn(header) & mask;
    const isPermitted = kind === GTF.permit_access || (!use.isMapping && kind === GTF.transitive);
    return isPermitted && domidIn(header) === use.domid;
  };
  const forbidsWrite = (header: number): boolean => !use.isReadonly && (flagsIn(header) & GTF.readonly) !== 0;
  const before = table.header(ref);
  if (active.pin === 0 && !permits(before)) return GNTST.general_error;
  if (forbidsWrite(before)) return GNTST.general_error;
  table.setStatusFlags(ref, GTF.reading | (use.isReadonly ? 0 : GTF.writing));
  const after = table.header(ref);
  if (active.pin === 0) {
    if (permits(after) && !forbidsWrite(after)) return GNTST.okay;
    table.clearStatusFlags(ref, GTF.reading | GTF.writing);
    return GNTST.general_error;
  }
  if ((flagsIn(after) & GTF.readonly) === 0 || use.isReadonly) return GNTST.okay;
  table.clearStatusFlags(ref, GTF.writing);
  return GNTST.general_error;
}

/**
 * Commits an entry that offers `domid` to take a frame; false when it does not. What an offer looks like leaves no bit
 * open, so that one exchange decides: an entry that changed before it is no offer.
 */
export function commitTransfer(table: GrantTable, ref: number, domid: number): boolean {
  const offer = ((domid << 16) | GTF.accept_transfer) >>> 0;
  return table.compareExchangeHeader(ref, offer, (offer | GTF.transfer_committed) >>> 0) === offer;
}

/** Takes back flags that no pin needs any more. */
export function reduceStatus(table: GrantTable, ref: number, active: ActiveEntry, isReadonly: boolean): void {
  let flags = active.pin === 0 ? GTF.reading : 0;
  if (!isReadonly && (active.pin & WRITE_PINS) === 0) flags |= GTF.writing;
  if (flags !== 0) table.clearStatusFlags(ref, flags);
}
