/** The software TLB in the private memory: filling and flushing. Generated code does the lookups. See memory-map.ts. */
import { OFFSET } from '../engine/state.ts';
import { lowHalf } from '../mmu/walk.ts';
import {
  CODE_TLB, CODE_TLB_ENTRIES, CODE_VIEW_BYTES, NR_VIEWS, TLB_ENTRIES, TLB_READ, TLB_WRITE, VIEW, VIEW_BYTES,
} from './memory-map.ts'; // prettier-ignore

const dataIndex = (low: number): number => (low >>> 8) & ((TLB_ENTRIES - 1) << 4);
const codeIndex = (low: number): number => (low >>> 8) & ((CODE_TLB_ENTRIES - 1) << 4);

export class Tlb {
  private readonly words: Int32Array;
  private readonly bytes: Uint8Array;
  /** Views that hold entries. */
  private readonly used = new Uint8Array(NR_VIEWS);

  constructor(privateMemory: ArrayBufferLike) {
    this.words = new Int32Array(privateMemory);
    this.bytes = new Uint8Array(privateMemory);
    this.bytes.fill(0xff, TLB_READ, TLB_READ + NR_VIEWS * VIEW_BYTES);
    this.flushCode();
  }

  private put(at: number, page: number, high: number, value: number): void {
    const { words } = this;
    words[at] = page;
    words[at + 1] = high;
    words[at + 2] = value;
  }

  /** The view in use is the one that is never filled. */
  get isChecked(): boolean {
    return this.words[OFFSET.tlbView / 4] === VIEW.checked * VIEW_BYTES;
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
  enter(low: number, high: number, host: number, table: { asked: 'read' | 'write'; mayWrite: boolean }): void {
    if (this.isChecked) return;
    const { words } = this;
    const view = words[OFFSET.tlbView / 4] ?? 0;
    this.used[view / VIEW_BYTES] = 1;
    const page = low & ~4095;
    const addend = (host - low) | 0;
    const read = (TLB_READ + view + dataIndex(low)) / 4;
    const write = (TLB_WRITE + view + dataIndex(low)) / 4;
    if (table.asked === 'read' || words[read] === -1) this.put(read, page, high, addend);
    if (table.mayWrite && (table.asked === 'write' || words[write] === -1)) this.put(write, page, high, addend);
  }
  /** Enters a page of code: the address of its map. */
  enterCode(low: number, high: number, map: number): void {
    const view = this.words[OFFSET.codeView / 4] ?? 0;
    this.put((CODE_TLB + view + codeIndex(low)) / 4, low & ~4095, high, map);
  }

  flush(): void {
    for (let view = 0; view < NR_VIEWS; view++) {
      if (!this.used[view]) continue;
      this.bytes.fill(0xff, TLB_READ + view * VIEW_BYTES, TLB_READ + (view + 1) * VIEW_BYTES);
      this.used[view] = 0;
    }
    this.flushCode();
  }
  flushCode(): void {
    this.bytes.fill(0xff, CODE_TLB, CODE_TLB + 2 * CODE_VIEW_BYTES);
  }
  invalidatePage(address: bigint): void {
    const low = lowHalf(address);
    for (let view = 0; view < NR_VIEWS; view++)
      for (const table of [TLB_READ, TLB_WRITE]) this.put((table + view * VIEW_BYTES + dataIndex(low)) / 4, -1, -1, 0);
    for (const view of [0, CODE_VIEW_BYTES]) this.put((CODE_TLB + view + codeIndex(low)) / 4, -1, -1, 0);
  }
  /** Forgets all write translations of a machine frame. */
  dropWrites(frame: number): void {
    const { words } = this;
    const page = (frame * 4096) | 0;
    for (let view = 0; view < NR_VIEWS; view++) {
      if (!this.used[view]) continue;
      const table = (TLB_WRITE + view * VIEW_BYTES) / 4;
      for (let i = 0; i < TLB_ENTRIES; i++) {
        const at = table + i * 4;
        const tag = words[at] ?? -1;
        if (((tag + (words[at + 2] ?? 0)) | 0) === page && (tag & 4095) === 0) this.put(at, -1, -1, 0);
      }
    }
  }
}
