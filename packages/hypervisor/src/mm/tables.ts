/** Page tables in machine memory: reading and replacing entries so that a walk on another pCPU never sees half of one. */
import type { MachineMemory } from '../state/machine-memory.ts';
import { flagsOf, hiOf, loOf, mfnOf, Pte } from './pte.ts';

const WORDS_PER_FRAME = 1024;

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

  /** Replaces an entry when it still holds `old`; returns what it held. */
  compareExchange(table: number, slot: number, old: bigint, value: bigint): bigint {
    return Atomics.compareExchange(this.#u64, table * (WORDS_PER_FRAME / 2) + slot, old, value);
  }

  /** A plain aligned 64-bit store into a frame. */
  store64(address: number, value: bigint): void {
    Atomics.store(this.#u64, address / 8, value);
  }
}
