/**
 * The list of requests that mmu_update and mmuext_op share: (requests, count, *done, …) with their way of continuing, the
 * count of what is left marked with MMU_UPDATE_PREEMPTED (`xen/include/public/xen.h`).
 */
import { Errno } from '@xenhost/base';
import { MMU_UPDATE_PREEMPTED } from '@xenhost/xen-abi';
import type { HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { DomainRef } from '../state/refs.ts';
import { readU32, u32, writeU32 } from './access.ts';
import { RESTART } from './types.ts';
import type { PageTypes } from './types.ts';

/** Requests read from the caller at once. */
const CHUNK = 64;

/** Requests read in chunks; a chunk that is not readable is read one by one. */
class RequestReader {
  readonly #call: HypercallCall;
  readonly #size: number;
  readonly #base: bigint;
  readonly #count: number;
  #chunk: Uint8Array | undefined;
  #first = 0;
  #nr = 0;

  constructor(call: HypercallCall, base: bigint, count: number, size: number) {
    this.#call = call;
    this.#base = base;
    this.#count = count;
    this.#size = size;
  }

  /** Bytes of request `i`, each read from the caller once; undefined for -EFAULT. */
  at(i: number): Uint8Array | undefined {
    if (!this.#chunk || i < this.#first || i >= this.#first + this.#nr) {
      this.#first = i;
      this.#nr = Math.min(CHUNK, this.#count - i);
      this.#chunk = this.#read(i, this.#nr);
      if (!this.#chunk && this.#nr > 1) {
        this.#nr = 1;
        this.#chunk = this.#read(i, 1);
      }
      if (!this.#chunk) return undefined;
    }
    const offset = (i - this.#first) * this.#size;
    return this.#chunk.subarray(offset, offset + this.#size);
  }

  #read(i: number, nr: number): Uint8Array | undefined {
    return this.#call.memory.read(BigInt.asUintN(64, this.#base + BigInt(i * this.#size)), nr * this.#size);
  }
}

export class RequestList {
  readonly #call: HypercallCall;
  readonly #size: number;
  readonly #base: bigint;
  readonly #done: bigint;
  readonly #count: number;
  /** Done before the call was continued. */
  readonly #before: number;
  #next = 0;

  /** `size`: bytes of a request. */
  constructor(call: HypercallCall, size: number) {
    const [base = 0n, , done = 0n] = call.args;
    const count = u32(call.args[1]);
    const isContinued = count >= MMU_UPDATE_PREEMPTED;
    this.#call = call;
    this.#size = size;
    this.#base = base;
    this.#done = done;
    this.#count = isContinued ? count - MMU_UPDATE_PREEMPTED : count;
    this.#before = isContinued && done !== 0n ? (readU32(call.memory, done) ?? 0) : 0;
  }

  /** Does the requests in order until one does not answer 0, or time is up; `owner` is whose released tables are worked off. */
  run(types: PageTypes, owner: DomainRef, request: (bytes: Uint8Array) => number): number {
    const reader = new RequestReader(this.#call, this.#base, this.#count, this.#size);
    for (; this.#next < this.#count; this.#next++) {
      if (this.#next > 0 && types.interrupted()) return RESTART;
      const bytes = reader.at(this.#next);
      if (!bytes) return -Errno.EFAULT;
      const result = request(bytes);
      if (result !== 0) return result;
      if (!types.drain(owner)) {
        this.#next++;
        return RESTART;
      }
    }
    return 0;
  }

  /** Tells the caller how many were done; readies the arguments when the call goes on later. */
  finish(result: number): HypercallResult {
    if (this.#done !== 0n) writeU32(this.#call.memory, this.#done, this.#before + this.#next);
    if (result !== RESTART) return result;
    this.#call.args[0] = BigInt.asUintN(64, this.#base + BigInt(this.#next * this.#size));
    this.#call.args[1] = BigInt(this.#count - this.#next + MMU_UPDATE_PREEMPTED);
    return 'continue';
  }
}
