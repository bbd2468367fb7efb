/**
 * The frame table: one 32-byte record for each frame of machine memory (Xen's `struct page_info`). Raw fields only; what
 * they mean for ownership is in ownership.ts, for types in types.ts. Records of memory never touched are zero: free.
 */
import type { MemoryMap } from '../state/memory-map.ts';
import { FRAME_RECORD_SIZE } from '../state/memory-map.ts';
import type { MachineMemory } from '../state/machine-memory.ts';
import type { FrameType } from './api.ts';

const WORDS = FRAME_RECORD_SIZE / 4;
/** Words of a record. Frame numbers have 20 bits: machine memory ends at 4 GiB. */
const COUNT = 0;
const TYPE_COUNT = 1;
/** Bits 0-15 owner, 16-19 type, 20-31 flags. */
const INFO = 2;
const NEXT = 3;
const PREV = 4;
/** Atomic: which engines have decoded code from the frame (pcpu/ owns it). */
const CODE = 5;
/** Bits 0-15 linear page table count (signed), 16-31 cursor of a partial operation. */
const PROGRESS = 6;
/** Bits 0-19 link of the devalidation stack, 20-31 flush stamp. */
const LINK = 7;

const TYPE_SHIFT = 16;
const FLAG_SHIFT = 20;
const STAMP_SHIFT = 20;
const FRAME_MASK = 0xfffff;
export const STAMP_MASK = 0xfff;

export const FrameFlag = {
  /** Holds the reference of its owner's allocation (PGC_allocated). */
  allocated: 1 << 20,
  /** Xen's own, shared with the owner (PGC_xen_heap). */
  xenHeap: 1 << 21,
  validated: 1 << 22,
  pinned: 1 << 23,
  /** Validation was interrupted at the cursor; holds one type and one general reference. */
  partial: 1 << 24,
  /** Its last type reference is gone; entries below the cursor still hold theirs. Type count stays 1. */
  devalidating: 1 << 25,
  /** In the devalidation stack, which holds one general reference. */
  queued: 1 << 26,
  /** First frame of a block in the heap's free lists; COUNT is its order. */
  freeBlock: 1 << 27,
  /** Free, and holds bytes of a former owner. */
  dirty: 1 << 28,
} as const;

export class FrameTable {
  readonly nrFrames: number;
  readonly #u32: Uint32Array;
  readonly #base: number;

  constructor(memory: MachineMemory, map: MemoryMap) {
    this.nrFrames = map.nrFrames;
    this.#u32 = memory.u32;
    this.#base = map.frameTable * (4096 / 4);
  }

  /** Index in `MachineMemory.u32` of the word in which the engines' side notes who has decoded code of the frame. */
  codeWord(mfn: number): number {
    return this.#base + mfn * WORDS + CODE;
  }

  #get(mfn: number, word: number): number {
    return this.#u32[this.#base + mfn * WORDS + word] ?? 0;
  }
  #set(mfn: number, word: number, value: number): void {
    this.#u32[this.#base + mfn * WORDS + word] = value;
  }

  count(mfn: number): number {
    return this.#get(mfn, COUNT);
  }
  setCount(mfn: number, value: number): void {
    this.#set(mfn, COUNT, value);
  }
  typeCount(mfn: number): number {
    return this.#get(mfn, TYPE_COUNT);
  }
  setTypeCount(mfn: number, value: number): void {
    this.#set(mfn, TYPE_COUNT, value);
  }

  owner(mfn: number): number {
    return this.#get(mfn, INFO) & 0xffff;
  }
  type(mfn: number): FrameType {
    return ((this.#get(mfn, INFO) >>> TYPE_SHIFT) & 0xf) as FrameType;
  }
  setType(mfn: number, type: FrameType): void {
    this.#set(mfn, INFO, (this.#get(mfn, INFO) & ~(0xf << TYPE_SHIFT)) | (type << TYPE_SHIFT));
  }
  has(mfn: number, flag: number): boolean {
    return (this.#get(mfn, INFO) & flag) !== 0;
  }
  raise(mfn: number, flag: number): void {
    this.#set(mfn, INFO, this.#get(mfn, INFO) | flag);
  }
  clear(mfn: number, flag: number): void {
    this.#set(mfn, INFO, this.#get(mfn, INFO) & ~flag);
  }
  /** Owner, flags and no type. */
  setOwner(mfn: number, owner: number, flags: number): void {
    this.#set(mfn, INFO, owner | flags);
  }
  flags(mfn: number): number {
    return (this.#get(mfn, INFO) >>> FLAG_SHIFT) << FLAG_SHIFT;
  }

  next(mfn: number): number {
    return this.#get(mfn, NEXT);
  }
  setNext(mfn: number, value: number): void {
    this.#set(mfn, NEXT, value);
  }
  prev(mfn: number): number {
    return this.#get(mfn, PREV);
  }
  setPrev(mfn: number, value: number): void {
    this.#set(mfn, PREV, value);
  }

  /** Positive: entries of this table that refer to tables of its own level; negative: such uses of this table. */
  linearCount(mfn: number): number {
    return (this.#get(mfn, PROGRESS) << 16) >> 16;
  }
  setLinearCount(mfn: number, value: number): void {
    this.#set(mfn, PROGRESS, (this.#get(mfn, PROGRESS) & 0xffff0000) | (value & 0xffff));
  }
  cursor(mfn: number): number {
    return this.#get(mfn, PROGRESS) >>> 16;
  }
  setCursor(mfn: number, value: number): void {
    this.#set(mfn, PROGRESS, (this.#get(mfn, PROGRESS) & 0xffff) | (value << 16));
  }

  link(mfn: number): number {
    return this.#get(mfn, LINK) & FRAME_MASK;
  }
  setLink(mfn: number, value: number): void {
    this.#set(mfn, LINK, (this.#get(mfn, LINK) & ~FRAME_MASK) | value);
  }
  stamp(mfn: number): number {
    return this.#get(mfn, LINK) >>> STAMP_SHIFT;
  }
  setStamp(mfn: number, generation: number): void {
    this.#set(mfn, LINK, (this.#get(mfn, LINK) & FRAME_MASK) | (generation << STAMP_SHIFT));
  }

  /** Forgets everything but the stamp and the code word. */
  reset(mfn: number): void {
    for (let word = 0; word < CODE; word++) this.#set(mfn, word, 0);
    this.#set(mfn, PROGRESS, 0);
    this.setLink(mfn, 0);
  }
}
