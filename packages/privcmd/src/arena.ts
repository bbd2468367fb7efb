/**
 * The caller's memory during one hypercall: segments at addresses of the caller's choosing. Adjoining segments read as
 * one. A segment that is no output is writable too, as C memory is; what is written there does not travel back.
 */
import type { Arena } from './server.ts';

export interface ArenaPart {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

const END = 1n << 64n;

/** Why a set of segments is no arena; undefined when it is one. */
export function arenaProblem(parts: readonly ArenaPart[]): string | undefined {
  const sorted = [...parts].sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
  let end = 0n;
  for (const part of sorted) {
    if (part.address <= 0n) return 'an arena segment at address 0';
    if (part.address < end) return 'overlapping arena segments';
    end = part.address + BigInt(part.bytes.length);
    if (end > END) return 'an arena segment beyond the address space';
  }
  return undefined;
}

export class ArenaMemory implements Arena {
  readonly #parts: readonly ArenaPart[];
  readonly #size: number;
  /** The segment met last: arrays are read element by element. */
  #last: ArenaPart | undefined;

  /** `parts` must have no problem (`arenaProblem`). */
  constructor(parts: readonly ArenaPart[]) {
    this.#parts = parts;
    this.#size = parts.reduce((sum, part) => sum + part.bytes.length, 0);
  }

  read(address: bigint, length: number): Uint8Array | undefined {
    if (length > this.#size) return undefined;
    const whole = this.#within(address, length);
    if (whole) return whole.slice();
    const out = new Uint8Array(length);
    const ok = this.#walk(address, length, (bytes, at) => {
      out.set(bytes, at);
    });
    return ok ? out : undefined;
  }

  write(address: bigint, data: Uint8Array): boolean {
    const whole = this.#within(address, data.length);
    if (whole) {
      whole.set(data);
      return true;
    }
    const inside = this.#walk(address, data.length, () => undefined);
    if (!inside) return false;
    return this.#walk(address, data.length, (bytes, at) => {
      bytes.set(data.subarray(at, at + bytes.length));
    });
  }

  /** The bytes themselves when all lie in one segment. */
  #within(address: bigint, length: number): Uint8Array | undefined {
    let part = this.#last;
    if (!part || address < part.address || address >= part.address + BigInt(part.bytes.length)) {
      part = this.#parts.find((p) => address >= p.address && address < p.address + BigInt(p.bytes.length));
      if (!part) return undefined;
      this.#last = part;
    }
    const from = Number(address - part.address);
    return from + length <= part.bytes.length ? part.bytes.subarray(from, from + length) : undefined;
  }

  #walk(address: bigint, length: number, visit: (bytes: Uint8Array, at: number) => void): boolean {
    let at = 0;
    while (at < length) {
      const here = address + BigInt(at);
      const part = this.#parts.find((p) => here >= p.address && here < p.address + BigInt(p.bytes.length));
      if (!part) return false;
      const from = Number(here - part.address);
      const n = Math.min(length - at, part.bytes.length - from);
      visit(part.bytes.subarray(from, from + n), at);
      at += n;
    }
    return true;
  }
}
