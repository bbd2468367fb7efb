/**
 * The list of requests that mmu_update and mmuext_op share: (requests, count, *done, …) with their way of continuing, the
 * count of what is left marked with MMU_UPDATE_PREEMPTED (`xen/include/public/xen.h`).
 */
import { Errno } from '@xenhost/base';
import { MMU_UPDATE_PREEMPTED } from '@xenhost/xen-abi';
import type { CallerMemory, HypercallCall, HypercallResult } from '../hypercall/types.ts';
import type { DomainRef } from '../state/refs.ts';
import { readU32, u32, writeU32 } from './access.ts';
import { RESTART } from './types.ts';
import type { PageTypes } from './types.ts';

/** Requests read from the caller at once. */
const CHUNK = 64;
const PAGE_MASK = 4095;

/** Where requests of one size are read into. One list at a time uses it. */
export class RequestBuffer {
  /** Bytes of a request, a multiple of 4. */
  readonly size: number;
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;

  constructor(size: number) {
    this.size = size;
    this.words = new Uint32Array((CHUNK * size) / 4);
    this.bytes = new Uint8Array(this.words.buffer);
  }
}

/** Requests read in chunks; a chunk that is not readable is read one by one. */
class RequestReader {
  readonly #memory: CallerMemory;
  readonly #buffer: RequestBuffer;
  readonly #base: bigint;
  readonly #count: number;
  #first = 0;
  #nr = 0;

  constructor(memory: CallerMemory, base: bigint, count: number, buffer: RequestBuffer) {
    this.#memory = memory;
    this.#base = base;
    this.#count = count;
    this.#buffer = buffer;
  }

  /** Index in the buffer's words of request `i`, which is read from the caller once; -1 for -EFAULT. */
  at(i: number): number {
    if (i < this.#first || i >= this.#first + this.#nr) {
      this.#first = i;
      this.#nr = this.#fill(i);
      if (this.#nr === 0) return -1;
    }
    return ((i - this.#first) * this.#buffer.size) / 4;
  }

  /** Reads as many as can be at once; how many that was. */
  #fill(i: number): number {
    const { size, words, bytes } = this.#buffer;
    const nr = Math.min(CHUNK, this.#count - i);
    const address = BigInt.asUintN(64, this.#base + BigInt(i * size));
    const inPage = Math.min(nr, Math.floor((PAGE_MASK + 1 - Number(address & BigInt(PAGE_MASK))) / size));
    if (inPage > 0 && this.#memory.readWords?.(address, (inPage * size) / 4, words)) return inPage;
    for (const wanted of nr > 1 ? [nr, 1] : [1]) {
      const read = this.#memory.read(address, wanted * size);
      if (!read) continue;
      bytes.set(read);
      return wanted;
    }
    return 0;
  }
}

export class RequestList {
  readonly #call: HypercallCall;
  readonly #buffer: RequestBuffer;
  readonly #base: bigint;
  readonly #done: bigint;
  readonly #count: number;
  /** Done before the call was continued. */
  readonly #before: number;
  #next = 0;

  constructor(call: HypercallCall, buffer: RequestBuffer) {
    const [base = 0n, , done = 0n] = call.args;
    const count = u32(call.args[1]);
    const isContinued = count >= MMU_UPDATE_PREEMPTED;
    this.#call = call;
    this.#buffer = buffer;
    this.#base = base;
    this.#done = done;
    this.#count = isContinued ? count - MMU_UPDATE_PREEMPTED : count;
    this.#before = isContinued && done !== 0n ? (readU32(call.memory, done) ?? 0) : 0;
  }

  /**
   * Does the requests in order until one does not answer 0, or time is up; `owner` is whose released tables are worked off.
   * `request` is given the buffer's words and where in them its own begin.
   */
  run(types: PageTypes, owner: DomainRef, request: (words: Uint32Array, at: number) => number): number {
    const { words } = this.#buffer;
    const reader = new RequestReader(this.#call.memory, this.#base, this.#count, this.#buffer);
    for (; this.#next < this.#count; this.#next++) {
      if (this.#next > 0 && types.interrupted()) return RESTART;
      const at = reader.at(this.#next);
      if (at < 0) return -Errno.EFAULT;
      const result = request(words, at);
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
    this.#call.args[0] = BigInt.asUintN(64, this.#base + BigInt(this.#next * this.#buffer.size));
    this.#call.args[1] = BigInt(this.#count - this.#next + MMU_UPDATE_PREEMPTED);
    return 'continue';
  }
}
