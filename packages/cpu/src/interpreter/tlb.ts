/**
 * The software TLB in the private memory: filling and flushing. Generated code does the lookups. See memory-map.ts.
 *
 * Entries lie in views, and a view belongs to one address space of one vCPU as one kind of access sees it: its key is
 * (owner, root, kind). Going from one to another picks another view and flushes nothing, as with the PCIDs of a real
 * CPU (Intel SDM vol. 3, 4.10). A view that is wanted for another key is emptied first.
 */
import { OFFSET } from '../engine/state.ts';
import type { Translation } from '../mmu/walk.ts';
import { highHalf, lowHalf } from '../mmu/walk.ts';
import {
  CODE_TLB, CODE_TLB_ENTRIES, CODE_VIEW_BYTES, NR_CODE_VIEWS, NR_VICTIMS, NR_VIEWS, TLB_ENTRIES, TLB_PAGE, TLB_READ, TLB_VICTIMS, TLB_WRITE, VICTIM_BYTES,
  VIEW_BYTES,
} from './memory-map.ts'; // prettier-ignore

/** The view that is never filled. */
const CHECKED = 0;
const ENTRY_WORDS = 4;
/** Entries of an L1 table; a linear address's slot there is the low part of its index in the tables here. */
const PTES_PER_TABLE = 512;

/** Word of an entry that has `TLB_PAGE` bits. */
const PAGE_WORD = 3;

/** Word index of the victims of a table: twice the view, and 1 for writes. */
const victimsAt = (table: number): number => (TLB_VICTIMS + table * (VICTIM_BYTES / 2)) / 4;
const dataIndex = (low: number): number => (low >>> 8) & ((TLB_ENTRIES - 1) << 4);
const codeIndex = (low: number): number => (low >>> 8) & ((CODE_TLB_ENTRIES - 1) << 4);

/** Views of one sort and whose they are. */
class ViewPool {
  readonly owners: Int32Array;
  readonly roots: Int32Array;
  readonly kinds: Int32Array;
  /** Views that hold entries, and those that hold entries of large pages. */
  readonly filled: Uint8Array;
  readonly large: Uint8Array;
  private readonly lastUse: Float64Array;
  private readonly first: number;
  private uses = 0;

  /** `first`: number of the first view that may be given out. */
  constructor(size: number, first: number) {
    this.owners = new Int32Array(size).fill(-1);
    this.roots = new Int32Array(size).fill(-1);
    this.kinds = new Int32Array(size).fill(-1);
    this.filled = new Uint8Array(size);
    this.large = new Uint8Array(size);
    this.lastUse = new Float64Array(size);
    this.first = first;
  }

  get size(): number {
    return this.owners.length;
  }
  find(owner: number, root: number, kind: number): number {
    const { owners, roots, kinds } = this;
    for (let view = this.first; view < owners.length; view++)
      if (roots[view] === root && kinds[view] === kind && owners[view] === owner) {
        this.lastUse[view] = ++this.uses;
        return view;
      }
    return -1;
  }
  /** The view unused for longest, for a new key; the caller empties it when it is filled. */
  replace(owner: number, root: number, kind: number): number {
    const { lastUse } = this;
    let oldest = this.first;
    for (let view = oldest + 1; view < lastUse.length; view++)
      if ((lastUse[view] ?? 0) < (lastUse[oldest] ?? 0)) oldest = view;
    this.owners[oldest] = owner;
    this.roots[oldest] = root;
    this.kinds[oldest] = kind;
    lastUse[oldest] = ++this.uses;
    return oldest;
  }
  is(view: number, owner: number, kind: number): boolean {
    return this.owners[view] === owner && this.kinds[view] === kind;
  }
  copied(from: number, to: number): void {
    this.filled[to] = this.filled[from] ?? 0;
    this.large[to] = this.large[from] ?? 0;
  }
  emptied(view: number): void {
    this.filled[view] = 0;
    this.large[view] = 0;
  }
}

export class Tlb {
  /** Whose translations those in use are: the loaded vCPU. Set it before `select`. */
  owner = 0;
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly data = new ViewPool(NR_VIEWS, CHECKED + 1);
  private readonly code = new ViewPool(NR_CODE_VIEWS, 0);
  /** Whether two roots (as `select` knows them) translate the upper half of the address space alike. */
  private readonly sharesUpperHalf: (root: number, other: number) => boolean;
  /** Where the next victim of each table goes. */
  private readonly nextVictim = new Uint8Array(2 * NR_VIEWS);
  /** One bit for each machine frame that may be in a write table. */
  private readonly written: Uint32Array;

  constructor(privateMemory: ArrayBufferLike, nrFrames: number, sharesUpperHalf: Tlb['sharesUpperHalf']) {
    this.sharesUpperHalf = sharesUpperHalf;
    this.words = new Int32Array(privateMemory);
    this.bytes = new Uint8Array(privateMemory);
    this.written = new Uint32Array(Math.ceil(nrFrames / 32));
    this.bytes.fill(0xff, TLB_READ, TLB_READ + NR_VIEWS * VIEW_BYTES);
    this.bytes.fill(0xff, CODE_TLB, CODE_TLB + NR_CODE_VIEWS * CODE_VIEW_BYTES);
    this.bytes.fill(0xff, TLB_VICTIMS, TLB_VICTIMS + NR_VIEWS * VICTIM_BYTES);
  }

  // Choosing views ---------------------------------------------------------------------------------------------------
  /**
   * Makes the views of the owner's key the ones in use. `kind` is a number for all that decides which accesses the page tables
   * allow, `codeKind` the same for instruction fetches, the code size included. `isChecked`: no data view at all.
   */
  select(root: number, kind: number, codeKind: number, isChecked: boolean): void {
    const { words, data, code, owner } = this;
    let view = CHECKED;
    if (!isChecked) {
      view = data.find(owner, root, kind);
      if (view < 0) {
        const before = (words[OFFSET.tlbView / 4] ?? 0) / VIEW_BYTES;
        const alike = before !== CHECKED && data.is(before, owner, kind) && this.sharesUpperHalf(data.roots[before] ?? 0, root); // prettier-ignore
        view = data.replace(owner, root, kind);
        this.empty(view);
        if (alike && before !== view) {
          this.copyUpperHalf((TLB_READ + before * VIEW_BYTES) / 4, (TLB_READ + view * VIEW_BYTES) / 4, 2 * TLB_ENTRIES);
          data.copied(before, view);
        }
      }
    }
    words[OFFSET.tlbView / 4] = view * VIEW_BYTES;
    let codeView = code.find(owner, root, codeKind);
    if (codeView < 0) {
      const before = (words[OFFSET.codeView / 4] ?? 0) / CODE_VIEW_BYTES;
      const alike = code.is(before, owner, codeKind) && this.sharesUpperHalf(code.roots[before] ?? 0, root);
      codeView = code.replace(owner, root, codeKind);
      this.emptyCode(codeView);
      if (alike && before !== codeView) {
        const [from, to] = [CODE_TLB + before * CODE_VIEW_BYTES, CODE_TLB + codeView * CODE_VIEW_BYTES];
        this.copyUpperHalf(from / 4, to / 4, CODE_TLB_ENTRIES);
        code.copied(before, codeView);
      }
    }
    words[OFFSET.codeView / 4] = codeView * CODE_VIEW_BYTES;
  }
  /** A new root that has a kernel's half in common with the last one starts with what is known of it. */
  private copyUpperHalf(from: number, to: number, nrEntries: number): void {
    const { words } = this;
    for (let at = 0; at < nrEntries * ENTRY_WORDS; at += ENTRY_WORDS) {
      const high = words[from + at + 1] ?? 0;
      const low = words[from + at] ?? 0;
      if (high < 0 && low !== -1) this.put(to + at, low, high, words[from + at + 2] ?? 0, words[from + at + 3] ?? 0);
    }
  }
  /** The view in use is the one that is never filled. */
  get isChecked(): boolean {
    return this.words[OFFSET.tlbView / 4] === CHECKED * VIEW_BYTES;
  }

  // Entries ----------------------------------------------------------------------------------------------------------
  private put(at: number, page: number, high: number, value: number, bits: number): void {
    const { words } = this;
    words[at] = page;
    words[at + 1] = high;
    words[at + 2] = value;
    words[at + PAGE_WORD] = bits;
  }
  private drop(at: number): void {
    this.words[at] = -1;
    this.words[at + 1] = -1;
  }

  /** Machine address by the entry of the view in use, -1 where there is none. */
  lookup(low: number, high: number, isWrite: boolean): number {
    const { words } = this;
    const view = words[OFFSET.tlbView / 4] ?? 0;
    const entry = ((isWrite ? TLB_WRITE : TLB_READ) + view + dataIndex(low)) / 4;
    if (words[entry] !== (low & ~4095) || words[entry + 1] !== high) return -1;
    return (low + (words[entry + 2] ?? 0)) >>> 0;
  }
  /**
   * Enters a translation into the view in use. The table that was not asked for gets the page only where it has
   * nothing: a copy between pages that share an index must not thrash.
   */
  enter(low: number, high: number, translation: Translation, isWrite: boolean, mayWrite: boolean): void {
    const { words, data } = this;
    const offset = words[OFFSET.tlbView / 4] ?? 0;
    if (offset === CHECKED * VIEW_BYTES) return;
    const view = offset / VIEW_BYTES;
    const { frame, global, large } = translation;
    data.filled[view] = 1;
    if (large) data.large[view] = 1;
    const page = low & ~4095;
    const addend = (frame * 4096 - page) | 0;
    const bits = (global ? TLB_PAGE.global : 0) | (large ? TLB_PAGE.large : 0);
    const read = (TLB_READ + offset + dataIndex(low)) / 4;
    const write = (TLB_WRITE + offset + dataIndex(low)) / 4;
    if (!isWrite || words[read] === -1) {
      this.pushOut(2 * view, read, page, high);
      this.put(read, page, high, addend, bits);
    }
    if (mayWrite && (isWrite || words[write] === -1)) {
      this.pushOut(2 * view + 1, write, page, high);
      this.put(write, page, high, addend, bits);
      const word = frame >>> 5;
      this.written[word] = (this.written[word] ?? 0) | (1 << (frame & 31));
    }
  }
  /** What stands where another page comes becomes a victim, which `recall` finds. `table`: twice the view, and 1 for writes. */
  private pushOut(table: number, at: number, page: number, high: number): void {
    const { words, nextVictim } = this;
    const low = words[at] ?? -1;
    if (low === -1 || (low === page && words[at + 1] === high)) return;
    const n = nextVictim[table] ?? 0;
    nextVictim[table] = (n + 1) % NR_VICTIMS;
    const victim = victimsAt(table) + n * ENTRY_WORDS;
    this.put(victim, low, words[at + 1] ?? 0, words[at + 2] ?? 0, words[at + 3] ?? 0);
  }
  /** Enters a page of code: the address of its map. */
  enterCode(low: number, high: number, map: number, translation: Translation): void {
    const offset = this.words[OFFSET.codeView / 4] ?? 0;
    const view = offset / CODE_VIEW_BYTES;
    const { global, large } = translation;
    this.code.filled[view] = 1;
    if (large) this.code.large[view] = 1;
    const bits = (global ? TLB_PAGE.global : 0) | (large ? TLB_PAGE.large : 0);
    this.put((CODE_TLB + offset + codeIndex(low)) / 4, low & ~4095, high, map, bits);
  }

  // Flushing ---------------------------------------------------------------------------------------------------------
  private empty(view: number): void {
    if (!this.data.filled[view]) return;
    const start = TLB_READ + view * VIEW_BYTES;
    this.bytes.fill(0xff, start, start + VIEW_BYTES);
    const victims = TLB_VICTIMS + view * VICTIM_BYTES;
    this.bytes.fill(0xff, victims, victims + VICTIM_BYTES);
    this.data.emptied(view);
  }
  private emptyCode(view: number): void {
    if (!this.code.filled[view]) return;
    const start = CODE_TLB + view * CODE_VIEW_BYTES;
    this.bytes.fill(0xff, start, start + CODE_VIEW_BYTES);
    this.code.emptied(view);
  }
  /** Everything, whoever's it is. */
  flush(): void {
    for (let view = 0; view < NR_VIEWS; view++) this.empty(view);
    this.flushCode();
  }
  /** All address spaces of the owner, global pages too when `includeGlobal`. */
  flushOwner(includeGlobal: boolean): void {
    const { data, code, owner } = this;
    for (let view = 0; view < NR_VIEWS; view++) {
      if (data.owners[view] !== owner || !data.filled[view]) continue;
      if (includeGlobal) this.empty(view);
      else {
        this.dropWithout(TLB_PAGE.global, (TLB_READ + view * VIEW_BYTES) / 4, 2 * TLB_ENTRIES);
        this.dropWithout(TLB_PAGE.global, victimsAt(2 * view), 2 * NR_VICTIMS);
      }
    }
    for (let view = 0; view < NR_CODE_VIEWS; view++) {
      if (code.owners[view] !== owner || !code.filled[view]) continue;
      if (includeGlobal) this.emptyCode(view);
      else this.dropWithout(TLB_PAGE.global, (CODE_TLB + view * CODE_VIEW_BYTES) / 4, CODE_TLB_ENTRIES);
    }
  }
  /** All translations to maps of code: maps are about to be used for something else. */
  flushCode(): void {
    for (let view = 0; view < NR_CODE_VIEWS; view++) this.emptyCode(view);
  }
  /** Drops the entries that do not have all of `bits`. */
  private dropWithout(bits: number, start: number, nrEntries: number): void {
    const { words } = this;
    const end = start + nrEntries * ENTRY_WORDS;
    for (let at = start; at < end; at += ENTRY_WORDS) if (((words[at + PAGE_WORD] ?? 0) & bits) !== bits) this.drop(at);
  }
  /** Drops the entries of large pages: INVLPG of any address takes all of its page. */
  private dropLarge(start: number, nrEntries: number): void {
    const { words } = this;
    const end = start + nrEntries * ENTRY_WORDS;
    for (let at = start; at < end; at += ENTRY_WORDS) if ((words[at + PAGE_WORD] ?? 0) & TLB_PAGE.large) this.drop(at);
  }
  /** Drops a page from all address spaces of the owner, global or not. */
  invalidatePage(address: bigint): void {
    const { data, code, owner } = this;
    const low = lowHalf(address);
    for (let view = 0; view < NR_VIEWS; view++) {
      if (data.owners[view] !== owner || !data.filled[view]) continue;
      const start = TLB_READ + view * VIEW_BYTES;
      this.drop((start + dataIndex(low)) / 4);
      this.drop((start + TLB_WRITE - TLB_READ + dataIndex(low)) / 4);
      this.dropVictims(view, low & ~4095, highHalf(address));
      if (!data.large[view]) continue;
      this.dropLarge(start / 4, 2 * TLB_ENTRIES);
      this.dropLarge(victimsAt(2 * view), 2 * NR_VICTIMS);
      data.large[view] = 0;
    }
    for (let view = 0; view < NR_CODE_VIEWS; view++) {
      if (code.owners[view] !== owner || !code.filled[view]) continue;
      const start = CODE_TLB + view * CODE_VIEW_BYTES;
      this.drop((start + codeIndex(low)) / 4);
      if (!code.large[view]) continue;
      this.dropLarge(start / 4, CODE_TLB_ENTRIES);
      code.large[view] = 0;
    }
  }
  private dropVictims(view: number, page: number, high: number): void {
    const { words } = this;
    const first = victimsAt(2 * view);
    for (let at = first; at < first + 2 * NR_VICTIMS * ENTRY_WORDS; at += ENTRY_WORDS)
      if (words[at] === page && words[at + 1] === high) this.drop(at);
  }
  /** Drops what `slot` of an L1 table may have given to a frame, whatever its linear address: all views, the code's too. */
  dropMapping(slot: number, frame: number): void {
    const { words, data, code } = this;
    const page = (frame * 4096) | 0;
    const entries = TLB_ENTRIES / PTES_PER_TABLE;
    for (let view = 0; view < NR_VIEWS; view++) {
      if (!data.filled[view]) continue;
      for (let i = 0; i < 2 * entries; i++) {
        // Read and write tables lie one after the other.
        const at = (TLB_READ + view * VIEW_BYTES) / 4 + (i * PTES_PER_TABLE + slot) * ENTRY_WORDS;
        if ((((words[at] ?? 0) + (words[at + 2] ?? 0)) | 0) === page) this.drop(at);
      }
      this.dropFrame(victimsAt(2 * view), 2 * NR_VICTIMS, page);
    }
    for (let view = 0; view < NR_CODE_VIEWS; view++)
      if (code.filled[view])
        for (let at = slot; at < CODE_TLB_ENTRIES; at += PTES_PER_TABLE)
          this.drop((CODE_TLB + view * CODE_VIEW_BYTES) / 4 + at * ENTRY_WORDS);
  }
  /** Empties the views of a root, whoever's they are. */
  dropRoot(root: number): void {
    for (let view = 0; view < NR_VIEWS; view++) if (this.data.roots[view] === root) this.empty(view);
    for (let view = 0; view < NR_CODE_VIEWS; view++) if (this.code.roots[view] === root) this.emptyCode(view);
  }
  /** Forgets all write translations of a machine frame, whoever's they are. */
  dropWrites(frame: number): void {
    const word = frame >>> 5;
    const bit = 1 << (frame & 31);
    if (((this.written[word] ?? 0) & bit) === 0) return;
    this.written[word] = (this.written[word] ?? 0) & ~bit;
    const { data } = this;
    const page = (frame * 4096) | 0;
    for (let view = 0; view < NR_VIEWS; view++) {
      if (!data.filled[view]) continue;
      this.dropFrame((TLB_WRITE + view * VIEW_BYTES) / 4, TLB_ENTRIES, page);
      this.dropFrame(victimsAt(2 * view + 1), NR_VICTIMS, page);
    }
  }
  private dropFrame(start: number, nrEntries: number, page: number): void {
    const { words } = this;
    for (let at = start; at < start + nrEntries * ENTRY_WORDS; at += ENTRY_WORDS) {
      const tag = words[at] ?? -1;
      if (((tag + (words[at + 2] ?? 0)) | 0) === page && (tag & 4095) === 0) this.drop(at);
    }
  }
}
