/**
 * Types of frames: exclusive, counted, validated on the first use and released on the last (Xen's `get_page_type`,
 * `put_page_type`, `promote_*_table`, `demote_*_table`).
 *
 * Long work is cut into steps. Validation that is interrupted leaves a table `partial`: the state itself holds one type
 * and one general reference, and whoever asks for the same type goes on from the cursor. Release is never recursive: a
 * table of level 2 to 4 whose last type reference goes is put on its domain's devalidation stack, and `drain` works
 * that off entry by entry; nobody gets another type of such a frame before it is done.
 */
import { Errno } from '@xenhost/base';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { DomainRef } from '../state/refs.ts';
import { FrameType } from './api.ts';
import type { MemoryModules } from './api.ts';
import { checkDescriptorPage } from './descriptor-rules.ts';
import { FrameFlag } from './frame.ts';
import type { FrameTable } from './frame.ts';
import type { Ownership } from './ownership.ts';
import { DomainWords } from './private.ts';
import {
  adjustL1, adjustUpper, ENTRIES_PER_TABLE, INVALID_MFN, isXenSlot, L1_DISALLOWED, M2P_SLOT, PERDOMAIN_SLOT, Pte,
  FIRST_XEN_SLOT, LAST_XEN_SLOT, UPPER_DISALLOWED,
} from './pte.ts'; // prettier-ignore
import type { Tables } from './tables.ts';

/** The operation stopped at a safe point and is to be called again. */
export const RESTART = -Errno.ERESTART;
/** Entries of upper tables dealt with before anybody is asked whether to stop. */
const MIN_WORK = 16;
const LINEAR_MAX = 0x7fff;

type Level = 1 | 2 | 3 | 4;
const isTable = (type: FrameType): boolean => type >= FrameType.l1 && type <= FrameType.l4;

export class PageTypes {
  readonly #memory: MachineMemory;
  readonly #frames: FrameTable;
  readonly #own: Ownership;
  readonly #tables: Tables;
  readonly #modules: MemoryModules;
  readonly #m2pL3: () => number;
  #shouldPreempt: (() => boolean) | undefined;
  #work = 0;

  constructor(
    memory: MachineMemory,
    frames: FrameTable,
    own: Ownership,
    tables: Tables,
    modules: MemoryModules,
    m2pL3: () => number,
  ) {
    // prettier-ignore
    this.#memory = memory;
    this.#frames = frames;
    this.#own = own;
    this.#tables = tables;
    this.#modules = modules;
    this.#m2pL3 = m2pL3;
  }

  /** Lets long work inside of `body` stop early (RESTART). Outside of it nothing stops. */
  preemptible<T>(shouldPreempt: () => boolean, body: () => T): T {
    this.#shouldPreempt = shouldPreempt;
    this.#work = 0;
    try {
      return body();
    } finally {
      this.#shouldPreempt = undefined;
    }
  }

  /** Counts a unit of work; true when it is time to stop. */
  interrupted(): boolean {
    return this.#shouldPreempt !== undefined && ++this.#work > MIN_WORK && this.#shouldPreempt();
  }

  /* ---- references with type ---- */

  /** Takes a type reference; the caller holds a general one. 0, -EINVAL or RESTART. */
  getType(mfn: number, type: FrameType): number {
    const f = this.#frames;
    if (f.has(mfn, FrameFlag.devalidating)) this.#finish(mfn);
    const count = f.typeCount(mfn);
    const old = f.type(mfn);
    let resumed = false;
    if (count === 0) {
      if (old !== type) {
        if (old !== FrameType.none) this.#own.flushIfStale(mfn);
        f.clear(mfn, FrameFlag.validated);
        f.setType(mfn, type);
      }
      f.setTypeCount(mfn, 1);
      if (f.has(mfn, FrameFlag.validated)) return 0;
    } else if (old !== type) {
      return -Errno.EINVAL;
    } else if (f.has(mfn, FrameFlag.validated)) {
      f.setTypeCount(mfn, count + 1);
      return 0;
    } else if (f.has(mfn, FrameFlag.partial)) {
      f.clear(mfn, FrameFlag.partial);
      resumed = true;
    } else {
      throw new Error(`mm: frame ${mfn} of type ${type} is being validated by itself`);
    }
    if (!resumed) {
      f.setCursor(mfn, 0);
      f.setLinearCount(mfn, 0);
    }
    return this.#validate(mfn, type, resumed);
  }

  #validate(mfn: number, type: FrameType, resumed: boolean): number {
    const f = this.#frames;
    const result = this.#promote(mfn, type);
    if (result === 0) {
      f.raise(mfn, FrameFlag.validated);
      f.setCursor(mfn, 0);
    } else if (result === RESTART) {
      f.raise(mfn, FrameFlag.partial);
      if (!resumed) this.#own.getAgain(mfn);
      return RESTART;
    } else if (type >= FrameType.l2 && type <= FrameType.l4) {
      this.#startRelease(mfn, f.cursor(mfn));
    } else {
      f.setType(mfn, FrameType.none);
      f.setTypeCount(mfn, 0);
    }
    if (resumed) this.#own.put(mfn);
    return result;
  }

  #promote(mfn: number, type: FrameType): number {
    switch (type) {
      case FrameType.l1:
        return this.#promoteL1(mfn);
      case FrameType.l2:
      case FrameType.l3:
      case FrameType.l4:
        return this.#promoteUpper(mfn, type);
      case FrameType.segDesc:
        return checkDescriptorPage(this.#memory, mfn) ? 0 : -Errno.EINVAL;
      default:
        return 0;
    }
  }

  putType(mfn: number): void {
    const f = this.#frames;
    const count = f.typeCount(mfn);
    if (count === 0) throw new Error(`mm: type count of frame ${mfn} below 0`);
    const type = f.type(mfn);
    if (count === 1 && isTable(type)) {
      if (!f.has(mfn, FrameFlag.validated)) throw new Error(`mm: last type reference of unvalidated frame ${mfn}`);
      f.clear(mfn, FrameFlag.validated);
      if (type !== FrameType.l1) {
        this.#startRelease(mfn, ENTRIES_PER_TABLE);
        return;
      }
      this.#releaseL1(mfn, ENTRIES_PER_TABLE);
    }
    f.setTypeCount(mfn, count - 1);
    if (count === 1) this.#own.stamp(mfn);
  }

  /** General and type reference together. 0, -EINVAL or RESTART. */
  getWithType(mfn: number, domid: number, type: FrameType): number {
    if (!this.#own.get(mfn, domid)) return -Errno.EINVAL;
    const result = this.getType(mfn, type);
    if (result !== 0) this.#own.put(mfn);
    return result;
  }

  putWithType(mfn: number): void {
    this.putType(mfn);
    this.#own.put(mfn);
  }

  /** True for a table of the level that is in use as such. */
  isTableInUse(mfn: number): boolean {
    return (
      this.#frames.typeCount(mfn) > 0 && this.#frames.has(mfn, FrameFlag.validated) && isTable(this.#frames.type(mfn))
    );
  }

  /* ---- entries ---- */

  /**
   * References for a present L1 entry to a frame that should be `frameOwner`'s. 0, -EINVAL (bits), -EPERM (no memory
   * there) or -EBUSY (owner or type).
   */
  getFromL1(flags: number, mfn: number, frameOwner: number): number {
    if ((flags & L1_DISALLOWED) !== 0) return -Errno.EINVAL;
    if (mfn >= this.#frames.nrFrames) return mfn === INVALID_MFN ? -Errno.EINVAL : -Errno.EPERM;
    if (this.#own.ownerOf(mfn) !== frameOwner) return -Errno.EBUSY;
    this.#own.getAgain(mfn);
    if ((flags & Pte.rw) !== 0 && this.getType(mfn, FrameType.writable) !== 0) {
      this.#own.put(mfn);
      return -Errno.EBUSY;
    }
    return 0;
  }

  putFromL1(flags: number, mfn: number): void {
    if ((flags & Pte.present) === 0 || mfn >= this.#frames.nrFrames) return;
    if ((flags & Pte.rw) !== 0) this.putType(mfn);
    this.#own.put(mfn);
  }

  /** References for a present entry of an upper table. 0, -EINVAL or RESTART. */
  getFromUpper(flags: number, mfn: number, table: number, level: Level, domid: number): number {
    if ((flags & UPPER_DISALLOWED) !== 0) return -Errno.EINVAL;
    const result = this.getWithType(mfn, domid, (level - 1) as FrameType);
    if (result !== -Errno.EINVAL) return result;
    return this.#getLinear(flags, mfn, table, domid) ? 0 : -Errno.EINVAL;
  }

  putFromUpper(flags: number, mfn: number, table: number): void {
    if ((flags & Pte.present) === 0 || mfn === table) return;
    const f = this.#frames;
    if (f.type(mfn) === f.type(table)) {
      f.setLinearCount(mfn, f.linearCount(mfn) + 1);
      f.setLinearCount(table, f.linearCount(table) - 1);
    }
    this.putWithType(mfn);
  }

  /**
   * A table of the same level as an entry: read-only, already validated, and only one level deep (a table that is so
   * used has no such entries itself, XSA-240). An entry that refers to its own table takes no references.
   */
  #getLinear(flags: number, mfn: number, table: number, domid: number): boolean {
    if ((flags & Pte.rw) !== 0) return false;
    if (mfn === table) return true;
    const f = this.#frames;
    if (f.owner(table) !== domid || !this.#own.get(mfn, domid)) return false;
    const entries = f.linearCount(table);
    const uses = f.linearCount(mfn);
    if (
      entries < 0 ||
      entries >= LINEAR_MAX ||
      uses > 0 ||
      uses <= -LINEAR_MAX ||
      f.typeCount(mfn) === 0 ||
      f.type(mfn) !== f.type(table) ||
      !f.has(mfn, FrameFlag.validated)
    ) {
      // prettier-ignore
      this.#own.put(mfn);
      return false;
    }
    f.setLinearCount(table, entries + 1);
    f.setLinearCount(mfn, uses - 1);
    f.setTypeCount(mfn, f.typeCount(mfn) + 1);
    return true;
  }

  /* ---- validation ---- */

  #promoteL1(table: number): number {
    const t = this.#tables;
    const domid = this.#frames.owner(table);
    for (let slot = 0; slot < ENTRIES_PER_TABLE; slot++) {
      if (!t.isPresent(table, slot)) continue;
      const flags = t.flags(table, slot);
      const result = this.getFromL1(flags, t.mfn(table, slot), domid);
      if (result !== 0) {
        this.#releaseL1(table, slot);
        return result;
      }
      t.addFlags(table, slot, adjustL1(flags) & ~flags);
    }
    return 0;
  }

  #promoteUpper(table: number, level: FrameType): number {
    const t = this.#tables;
    const f = this.#frames;
    const domid = f.owner(table);
    const start = f.cursor(table);
    for (let slot = start; slot < ENTRIES_PER_TABLE; slot++) {
      if (level === FrameType.l4 && isXenSlot(slot)) continue;
      if (!t.isPresent(table, slot)) continue;
      if (slot > start && this.interrupted()) {
        f.setCursor(table, slot);
        return RESTART;
      }
      const flags = t.flags(table, slot);
      const result = this.getFromUpper(flags, t.mfn(table, slot), table, level as Level, domid);
      if (result !== 0) {
        f.setCursor(table, slot);
        return result;
      }
      t.addFlags(table, slot, adjustUpper(flags, level) & ~flags);
    }
    if (level === FrameType.l4) this.#fillXenSlots(table, domid);
    return 0;
  }

  #fillXenSlots(table: number, domid: number): void {
    const domain = this.#modules.domain(domid);
    for (let slot = FIRST_XEN_SLOT; slot <= LAST_XEN_SLOT; slot++) this.#tables.write(table, slot, 0, 0);
    const common = Pte.present | Pte.accessed;
    this.#tables.write(table, M2P_SLOT, this.#m2pL3(), common | Pte.user | Pte.nx);
    if (domain) this.#tables.write(table, PERDOMAIN_SLOT, domain.v.perDomainL3, common | Pte.rw | Pte.nx);
  }

  /* ---- release ---- */

  /** Drops the references of the first `end` entries of an L1 table. */
  #releaseL1(table: number, end: number): void {
    const t = this.#tables;
    for (let slot = 0; slot < end; slot++) {
      if (t.isPresent(table, slot)) this.putFromL1(t.flags(table, slot), t.mfn(table, slot));
    }
  }

  #startRelease(table: number, end: number): void {
    const f = this.#frames;
    if (f.type(table) === FrameType.l4) this.#modules.tlb.rootReleased(f.owner(table), table);
    f.clear(table, FrameFlag.validated | FrameFlag.partial);
    f.raise(table, FrameFlag.devalidating);
    f.setCursor(table, end);
    if (f.has(table, FrameFlag.queued)) return;
    const domain = this.#modules.domain(f.owner(table));
    if (!domain) throw new Error(`mm: table ${table} of no domain`);
    this.#own.getAgain(table);
    f.raise(table, FrameFlag.queued);
    this.#push(domain, table);
  }

  #push(domain: DomainRef, table: number): void {
    const words = new DomainWords(this.#memory, domain);
    this.#frames.setLink(table, words.devalidationHead);
    words.devalidationHead = table;
  }

  /** Releases entries of one table until done (true) or interrupted. Children that become free of uses join the stack. */
  #release(table: number, stoppable: boolean): boolean {
    const f = this.#frames;
    const t = this.#tables;
    const isL4 = f.type(table) === FrameType.l4;
    let slot = f.cursor(table);
    while (slot > 0) {
      slot--;
      if (isL4 && isXenSlot(slot)) continue;
      if (!t.isPresent(table, slot)) continue;
      f.setCursor(table, slot);
      this.putFromUpper(t.flags(table, slot), t.mfn(table, slot), table);
      if (stoppable && this.interrupted()) return false;
    }
    f.setCursor(table, 0);
    f.clear(table, FrameFlag.devalidating);
    f.setTypeCount(table, 0);
    this.#own.stamp(table);
    return true;
  }

  /** Ends the release of a table that is wanted for something else. It stays queued, with nothing left to do. */
  #finish(table: number): void {
    this.#release(table, false);
  }

  /** Works off the domain's devalidation stack; false when interrupted before the end. */
  drain(domain: DomainRef): boolean {
    const words = new DomainWords(this.#memory, domain);
    const f = this.#frames;
    while (words.devalidationHead !== 0) {
      const table = words.devalidationHead;
      words.devalidationHead = f.link(table);
      f.setLink(table, 0);
      if (f.has(table, FrameFlag.devalidating) && !this.#release(table, true)) {
        this.#push(domain, table);
        return false;
      }
      f.clear(table, FrameFlag.queued);
      this.#own.put(table);
    }
    return true;
  }

  /** Turns an interrupted validation that nobody will resume into a release (destruction). */
  abandonPartial(table: number): void {
    if (!this.#frames.has(table, FrameFlag.partial)) return;
    this.#startRelease(table, this.#frames.cursor(table));
    this.#own.put(table);
  }
}
