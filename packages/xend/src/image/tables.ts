/** Page tables in a file name the guest's own frames (pfns), those in memory the machine's (mfns). */
import { bytesOf } from '@xenhost/base';
import { Pfinfo } from '@xenhost/xen-abi';
import { INVALID_MFN } from '../domain/guest-memory.ts';

const PRESENT = 1n;
const FRAME_MASK = 0x000f_ffff_ffff_f000n;
/** Slots of an L4 that are the hypervisor's. */
const XEN_SLOTS = { first: 256, end: 272 } as const;
const ENTRIES = 512;

/** 1 to 4 for a page table, 0 for another page. */
export function tableLevel(type: number): number {
  const level = (type >>> 28) & 7;
  return (type & Pfinfo.LTAB_MASK) >>> 0 < Pfinfo.BROKEN && level <= 4 ? level : 0;
}

/** Whether there is a page behind a type. */
export const hasPage = (type: number): boolean => (type & Pfinfo.LTAB_MASK) >>> 0 < Pfinfo.BROKEN;

/** Replaces the frames of a table in place; entries whose frame is not the guest's become empty. */
export function translateTable(table: Uint8Array, level: number, frameOf: (frame: number) => number): void {
  const { dv } = bytesOf(table);
  for (let slot = 0; slot < ENTRIES; slot += 1) {
    if (level === 4 && slot >= XEN_SLOTS.first && slot < XEN_SLOTS.end) {
      dv.setBigUint64(slot * 8, 0n, true);
      continue;
    }
    const entry = dv.getBigUint64(slot * 8, true);
    if (!(entry & PRESENT)) continue;
    const frame = frameOf(Number((entry & FRAME_MASK) >> 12n));
    dv.setBigUint64(slot * 8, frame === INVALID_MFN ? 0n : (entry & ~FRAME_MASK) | (BigInt(frame) << 12n), true);
  }
}
