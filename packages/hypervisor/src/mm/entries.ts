/**
 * Replacing one entry of a guest's page table in use, of any level (Xen's `mod_l1_entry` to `mod_l4_entry`). Values come in
 * halves, unsigned: these are the most frequent requests of all.
 */
import { Errno } from '@xenhost/base';
import type { FrameTable } from './frame.ts';
import {
  adjustL1, adjustUpper, entryOf, FAST_PATH_FLAGS, hiOf, isXenSlot, L1_DISALLOWED, loOf, Pte, UPPER_DISALLOWED,
} from './pte.ts'; // prettier-ignore
import type { Entry } from './pte.ts';
import type { TlbPort } from '../sched/api.ts';
import type { Ownership } from './ownership.ts';
import type { Halves, Tables } from './tables.ts';
import type { PageTypes } from './types.ts';

/** Bits without which an entry allows less, or must be walked again to be set. */
const GRANTING_FLAGS = Pte.present | Pte.rw | Pte.user | Pte.accessed | Pte.dirty;

/** `exchangeL1`: the entry held something else. */
export const MISMATCH = 1;

export class Entries {
  readonly #frames: FrameTable;
  readonly #own: Ownership;
  readonly #tables: Tables;
  readonly #types: PageTypes;
  readonly #tlb: TlbPort;

  constructor(frames: FrameTable, own: Ownership, tables: Tables, types: PageTypes, tlb: TlbPort) {
    this.#tlb = tlb;
    this.#frames = frames;
    this.#own = own;
    this.#tables = tables;
    this.#types = types;
  }

  /**
   * L1: `frameOwner` is whose frames may be mapped. 0, -EINVAL, -EPERM or -EBUSY. Translations of the old entry stay
   * cached until the guest flushes them.
   */
  modifyL1(table: number, slot: number, value: Halves, frameOwner: number, preserveAd: boolean): number {
    const wanted = entryOf(value.lo, value.hi);
    if ((wanted.flags & Pte.present) === 0) {
      const old = this.#entry(table, slot);
      this.#write(table, slot, wanted.mfn, wanted.flags, preserveAd);
      this.leafChanged(table, slot, old, wanted);
      this.#types.putFromL1(old.flags, old.mfn);
      return 0;
    }
    if ((wanted.flags & L1_DISALLOWED) !== 0) return -Errno.EINVAL;
    const flags = adjustL1(wanted.flags);
    if (!this.#changed(table, slot, wanted.mfn, flags)) {
      const old = this.#entry(table, slot);
      this.#write(table, slot, wanted.mfn, flags, preserveAd);
      this.leafChanged(table, slot, old, { flags, mfn: wanted.mfn });
      return 0;
    }
    const result = this.#types.getFromL1(flags, wanted.mfn, frameOwner);
    if (result !== 0) return result;
    // Read after the references were taken: taking them may have released tables, never this one.
    const old = this.#entry(table, slot);
    this.#write(table, slot, wanted.mfn, flags, preserveAd);
    this.leafChanged(table, slot, old, { flags, mfn: wanted.mfn });
    this.#types.putFromL1(old.flags, old.mfn);
    return 0;
  }

  /**
   * The same for a compare-and-exchange of the guest's: 0, a negative errno when refused, or `MISMATCH` when the entry held
   * something else than `expected`.
   */
  exchangeL1(table: number, slot: number, value: Halves, expected: Halves, frameOwner: number): number {
    const wanted = entryOf(value.lo, value.hi);
    const flags = adjustL1(wanted.flags);
    if ((wanted.flags & Pte.present) !== 0) {
      const result = this.#types.getFromL1(flags, wanted.mfn, frameOwner);
      if (result !== 0) return result;
    }
    const adjusted = { lo: loOf(wanted.mfn, flags), hi: hiOf(wanted.mfn, flags) };
    if (!this.#tables.compareExchange(table, slot, expected, adjusted)) {
      this.#types.putFromL1(flags, wanted.mfn);
      return MISMATCH;
    }
    this.#own.changed(table);
    const old = entryOf(expected.lo, expected.hi);
    this.leafChanged(table, slot, old, { flags, mfn: wanted.mfn });
    this.#types.putFromL1(old.flags, old.mfn);
    return 0;
  }

  /**
   * L2 to L4. 0, -EINVAL, -EPERM or RESTART. `replaced` is told when a present entry went away: translations through it
   * must be flushed by the caller. What the old entry held is released by draining the owner's stack.
   */
  modifyUpper(table: number, slot: number, value: Halves, preserveAd: boolean, replaced: () => void): number {
    const level = this.#frames.type(table) as 2 | 3 | 4;
    if (level === 4 && isXenSlot(slot)) return -Errno.EINVAL;
    const wanted = entryOf(value.lo, value.hi);
    if ((wanted.flags & Pte.present) !== 0) {
      if ((wanted.flags & UPPER_DISALLOWED) !== 0) return -Errno.EINVAL;
      const flags = adjustUpper(wanted.flags, level);
      if (!this.#changed(table, slot, wanted.mfn, flags)) {
        this.#write(table, slot, wanted.mfn, flags, preserveAd);
        replaced();
        return 0;
      }
      const result = this.#types.getFromUpper(flags, wanted.mfn, table, level, this.#frames.owner(table));
      if (result !== 0) return result;
    }
    const old = this.#entry(table, slot);
    this.#write(table, slot, wanted.mfn, adjustUpper(wanted.flags, level), preserveAd);
    if ((old.flags & Pte.present) !== 0) {
      replaced();
      this.#types.putFromUpper(old.flags, old.mfn, table);
    }
    return 0;
  }

  /** An L1 entry was replaced: tells of it unless translations of the old one are still right. */
  leafChanged(table: number, slot: number, old: Entry, now: Entry): void {
    if ((old.flags & Pte.present) === 0) return;
    const kept = now.mfn === old.mfn && (old.flags & ~now.flags & GRANTING_FLAGS) === 0 && (now.flags & ~old.flags & Pte.nx) === 0; // prettier-ignore
    if (!kept) this.#tlb.leafChanged(this.#frames.owner(table), slot, old.mfn);
  }

  #entry(table: number, slot: number): Entry {
    return { flags: this.#tables.flags(table, slot), mfn: this.#tables.mfn(table, slot) };
  }

  #changed(table: number, slot: number, mfn: number, flags: number): boolean {
    const old = this.#tables.flags(table, slot);
    return this.#tables.mfn(table, slot) !== mfn || ((old ^ flags) & ~FAST_PATH_FLAGS) !== 0;
  }

  #write(table: number, slot: number, mfn: number, flags: number, preserveAd: boolean): void {
    if (preserveAd) this.#tables.writePreserving(table, slot, mfn, flags);
    else this.#tables.write(table, slot, mfn, flags);
    this.#own.changed(table);
  }
}
