/** XENMEM_exchange: gives frames back for as many others of another order (Xen's `memory_exchange`). */
import { bytesOf, Errno } from '@xenhost/base';
import { MemoryExchange, MemoryReservation } from '@xenhost/xen-abi';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { DomainRef } from '../state/refs.ts';
import { anyDomain, frameNumber, isPrivileged, mayTarget, readU64, writeU64 } from './access.ts';
import type { MemoryModules } from './api.ts';
import { maxOrder } from './memory-op.ts';
import type { Ownership } from './ownership.ts';
import type { PageTypes } from './types.ts';

export interface ExchangeResult {
  readonly outcome: HypercallResult;
  /** Input extents dealt with, to be written back. */
  readonly exchanged: bigint;
}

interface Side {
  readonly list: bigint;
  readonly count: bigint;
  readonly order: number;
  readonly domid: number;
  readonly flags: number;
}

const side = (bytes: Uint8Array, base: number): Side => {
  const r = MemoryReservation.view(bytesOf(bytes), base);
  return { list: r.extent_start, count: r.nr_extents, order: r.extent_order, domid: r.domid, flags: r.mem_flags };
};
/** Extent counts are limited, so that no product leaves 64 bits and no list wraps around. */
const MAX_EXTENTS = 1n << 32n;
const EXACT_NODE = 0x20000;

export class Exchange {
  readonly #own: Ownership;
  readonly #types: PageTypes;
  readonly #modules: MemoryModules;

  constructor(own: Ownership, types: PageTypes, modules: MemoryModules) {
    this.#own = own;
    this.#types = types;
    this.#modules = modules;
  }

  run(call: HypercallCall, bytes: Uint8Array): ExchangeResult {
    const input = side(bytes, MemoryExchange.offsets.in);
    const output = side(bytes, MemoryExchange.offsets.out);
    const before = MemoryExchange.view(bytesOf(bytes), 0).nr_exchanged;
    const fail = (errno: number): ExchangeResult => ({ outcome: -errno, exchanged: before });
    if (Math.max(input.order, output.order) > maxOrder(call.domain)) return fail(Errno.EPERM);
    if (before > input.count || input.domid !== output.domid) return fail(Errno.EINVAL);
    if (input.count >= MAX_EXTENTS || output.count >= MAX_EXTENTS) return fail(Errno.EINVAL);
    if (input.count << BigInt(input.order) !== output.count << BigInt(output.order)) return fail(Errno.EINVAL);
    if (before === input.count) return { outcome: 0, exchanged: before };
    if ((output.flags & EXACT_NODE) !== 0 && !isPrivileged(call.domain)) return fail(Errno.EINVAL);
    const domain = anyDomain(this.#modules, call, input.domid);
    if (!domain) return fail(Errno.ESRCH);
    if (!mayTarget(call.domain, domain)) return fail(Errno.EPERM);
    return this.#chunks(call, domain, input, output, Number(before));
  }

  /** A chunk is one extent of the larger order. */
  #chunks(call: HypercallCall, domain: DomainRef, input: Side, output: Side, before: number): ExchangeResult {
    const inPerChunk = 2 ** Math.max(0, output.order - input.order);
    const outPerChunk = 2 ** Math.max(0, input.order - output.order);
    const end = Math.floor(Number(input.count) / inPerChunk);
    const start = Math.floor(before / inPerChunk);
    for (let chunk = start; chunk < end; chunk++) {
      const exchanged = BigInt(chunk * inPerChunk);
      if (chunk !== start && this.#types.interrupted()) return { outcome: 'continue', exchanged };
      const errno = this.#chunk(call, domain, input, output, chunk, inPerChunk, outPerChunk);
      if (errno !== 0) return { outcome: -errno, exchanged };
    }
    return { outcome: 0, exchanged: input.count };
  }

  #chunk(
    call: HypercallCall,
    domain: DomainRef,
    input: Side,
    output: Side,
    chunk: number,
    nrIn: number,
    nrOut: number,
  ): number {
    // prettier-ignore
    const stolen: number[] = [];
    const giveBack = (errno: number): number => {
      for (const mfn of stolen) this.#own.give(domain, mfn);
      return errno;
    };
    for (let j = 0; j < nrIn; j++) {
      const first = readU64(call.memory, BigInt.asUintN(64, input.list + BigInt((chunk * nrIn + j) * 8)));
      if (first === undefined) return giveBack(Errno.EFAULT);
      for (let k = 0; k < 2 ** input.order; k++) {
        const mfn = frameNumber(first + BigInt(k));
        if (!this.#own.steal(domain, mfn)) return giveBack(Errno.EINVAL);
        stolen.push(mfn);
      }
    }
    // All that can fail comes before anything is given up: where the new frames will be told.
    const slots: { at: bigint; gpfn: bigint }[] = [];
    for (let j = 0; j < nrOut; j++) {
      const at = BigInt.asUintN(64, output.list + BigInt((chunk * nrOut + j) * 8));
      const gpfn = readU64(call.memory, at);
      if (gpfn === undefined) return giveBack(Errno.EFAULT);
      slots.push({ at, gpfn });
    }
    const fresh: number[] = [];
    for (let j = 0; j < nrOut; j++) {
      const mfn = this.#own.allocate(domain, output.order);
      if (mfn === undefined) {
        for (const got of fresh) this.#drop(got, output.order);
        return giveBack(Errno.ENOMEM);
      }
      fresh.push(mfn);
    }
    for (const mfn of stolen) this.#own.discard(mfn);
    let errno = 0;
    for (const [j, { at, gpfn }] of slots.entries()) {
      const mfn = fresh[j] ?? 0;
      for (let k = 0; k < 2 ** output.order; k++) this.#own.setM2p(mfn + k, BigInt.asUintN(64, gpfn + BigInt(k)));
      if (!writeU64(call.memory, at, BigInt(mfn))) errno = Errno.EFAULT;
    }
    return errno;
  }

  #drop(first: number, order: number): void {
    for (let i = first; i < first + 2 ** order; i++) this.#own.put(i);
  }
}
