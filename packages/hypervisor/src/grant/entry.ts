/** What a shared entry says of the page it grants, each field read once. */
import { GTF, PAGE_SIZE } from '@xenhost/xen-abi';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { GrantTable } from './table.ts';

export interface GrantedPage {
  readonly frame: number;
  readonly start: number;
  readonly length: number;
  readonly isSubPage: boolean;
}

export interface TransitiveGrant {
  readonly domid: number;
  readonly ref: number;
}

const V1_FRAME = 4;
const V2_OFFSET = 4;
const V2_LENGTH = 6;
const V2_FRAME = 8;
const NO_FRAME = 0xffff_ffff;

export function grantedPage(memory: MachineMemory, table: GrantTable, ref: number): GrantedPage {
  const at = table.entryAddress(ref);
  if (table.version === 1) {
    return { frame: memory.dv.getUint32(at + V1_FRAME, true), start: 0, length: PAGE_SIZE, isSubPage: false };
  }
  const frame64 = memory.dv.getBigUint64(at + V2_FRAME, true);
  const frame = frame64 < BigInt(NO_FRAME) ? Number(frame64) : NO_FRAME;
  if ((table.header(ref) & GTF.sub_page) === 0) return { frame, start: 0, length: PAGE_SIZE, isSubPage: false };
  const start = memory.dv.getUint16(at + V2_OFFSET, true);
  const length = memory.dv.getUint16(at + V2_LENGTH, true);
  return { frame, start, length, isSubPage: true };
}

export function transitiveGrant(memory: MachineMemory, table: GrantTable, ref: number): TransitiveGrant {
  const at = table.entryAddress(ref);
  return { domid: memory.dv.getUint16(at + V2_OFFSET, true), ref: memory.dv.getUint32(at + V2_FRAME, true) };
}
