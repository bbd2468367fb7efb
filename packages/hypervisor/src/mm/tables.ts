/** Page tables in machine memory: reading and replacing entries so that a walk on another pCPU never sees half of one. */
import type { MachineMemory } from '../state/machine-memory.ts';
import { flagsOf, hiOf, joined, loOf, mfnOf, Pte } from './pte.ts';

const WORDS_PER_FRAME = 1024;

/** A 64-bit value as two unsigned numbers. */
export interface Halves {
  readonly lo: number;
  readonly hi: number;
}

export class Tables {
  readonly #u32: Uint32Array;
  readonly #u64: BigUint64Array;

  constructor(memory: MachineMemory) {
    this.#u32 = memory.u32;
    this.#u64 = memory.u64;
  }

  isPresent(table: number, slot: number): boolean {
    return ((this.#u32[table * WORDS_PER_FRAME + slot * 2] ?? 0) & Pte.present) !== 0;
  }
  flags(table: number, slot: number): number {
    const i = table * WORDS_PER_FRAME + slot * 2;
    return flagsOf(this.#u32[i] ?? 0, this.#u32[i + 1] ?? 0);
  }
  mfn(table: number, slot: number): number {
    const i = table * WORDS_PER_FRAME + slot * 2;
    return mfnOf(this.#u32[i] ?? 0, this.#u32[i + 1] ?? 0);
  }
  /** Halves of an entry as they are. */
  low(table: number, slot: number): number {
    return this.#u32[table * WORDS_PER_FRAME + slot * 2] ?? 0;
  }
  high(table: number, slot: number): number {
    return this.#u32[table * WORDS_PER_FRAME + slot * 2 + 1] ?? 0;
  }
  raw(table: number, slot: number): bigint {
    return this.#u64[table * (WORDS_PER_FRAME / 2) + slot] ?? 0n;
  }

  /** Adds bits to an entry in place. */
  addFlags(table: number, slot: number, flags: number): void {
    const i = table * WORDS_PER_FRAME + slot * 2;
    const lo = loOf(0, flags);
    const hi = hiOf(0, flags);
    if (hi !== 0 && ((this.#u32[i + 1] ?? 0) & hi) >>> 0 !== hi) Atomics.or(this.#u32, i + 1, hi);
    if (((this.#u32[i] ?? 0) & lo) !== lo) Atomics.or(this.#u32, i, lo);
  }

  write(table: number, slot: number, mfn: number, flags: number): void {
    const i = table * WORDS_PER_FRAME + slot * 2;
    const lo = loOf(mfn, flags);
    const hi = hiOf(mfn, flags);
    if (this.#u32[i + 1] === hi) {
      Atomics.store(this.#u32, i, lo);
    } else if (((this.#u32[i] ?? 0) & Pte.present) === 0) {
      Atomics.store(this.#u32, i + 1, hi);
      Atomics.store(this.#u32, i, lo);
    } else if ((lo & Pte.present) === 0) {
      Atomics.store(this.#u32, i, lo);
      Atomics.store(this.#u32, i + 1, hi);
    } else {
      Atomics.store(this.#u64, i / 2, (BigInt(hi) << 32n) | BigInt(lo));
    }
  }

  /** As `write`, and keeps accessed and dirty bits that are or become set meanwhile. */
  writePreserving(table: number, slot: number, mfn: number, flags: number): void {
    const i = table * (WORDS_PER_FRAME / 2) + slot;
    const wanted = (BigInt(hiOf(mfn, flags)) << 32n) | BigInt(loOf(mfn, flags));
    for (;;) {
      const old = Atomics.load(this.#u64, i);
      const value = wanted | (old & BigInt(Pte.accessed | Pte.dirty));
      if (Atomics.compareExchange(this.#u64, i, old, value) === old) return;
    }
  }

  /**
   * Replaces an entry of a table in use when it still holds `old`. Without the hypervisor lock only walks write to such a
   * table: A and D bits, in the low half of present entries. True when it was replaced.
   */
  compareExchange(table: number, slot: number, old: Halves, value: Halves): boolean {
    const i = table * WORDS_PER_FRAME + slot * 2;
    const u32 = this.#u32;
    if (u32[i + 1] !== old.hi) return false;
    if (value.hi === old.hi) return Atomics.compareExchange(u32, i, old.lo, value.lo) === old.lo;
    // The half that makes it present is the last that comes and the first that goes.
    if ((old.lo & Pte.present) === 0) {
      if (u32[i] !== old.lo) return false;
      Atomics.store(u32, i + 1, value.hi);
      Atomics.store(u32, i, value.lo);
      return true;
    }
    if ((value.lo & Pte.present) === 0) {
      if (Atomics.compareExchange(u32, i, old.lo, value.lo) !== old.lo) return false;
      Atomics.store(u32, i + 1, value.hi);
      return true;
    }
    const held = joined(old.lo, old.hi);
    return Atomics.compareExchange(this.#u64, i / 2, held, joined(value.lo, value.hi)) === held;
  }

  /** A plain aligned 64-bit store into a frame. */
  store64(address: number, value: bigint): void {
    Atomics.store(this.#u64, address / 8, value);
  }
}
