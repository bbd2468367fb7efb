/**
 * Writes trace records (`xen/include/public/trace.h`, `xen/common/trace.c`): one per thread, into the buffer of its pCPU;
 * the control plane writes into that of pCPU 0. When nothing is traced a caller pays the load and the branch of `on`.
 * The consumer's index in a buffer is a tool's to write and is believed only as far as it makes sense.
 */
import {
  DOMID, hypercallArg32, Hypercall, PAGE_SIZE, TRACE_EXTRA_SHIFT, TraceBuf, TraceEvent, TRC_64_FLAG, TRC_CLS_SHIFT,
  TRC_HD_CYCLE_FLAG, TRC_SUBCLS_SHIFT,
} from '@xenhost/xen-abi'; // prettier-ignore
import type { MachineMemory } from '../state/machine-memory.ts';
import { PCPU_RECORD_SIZE } from '../state/memory-map.ts';
import type { MemoryMap } from '../state/memory-map.ts';
import { HeaderLayout, Observing, PcpuLayout } from '../state/records.ts';
import { COUNTER } from './counter-table.ts';
import type { Counters } from './counters.ts';

const CONS = TraceBuf.offsets.cons >>> 2;
const PROD = TraceBuf.offsets.prod >>> 2;
const HEAD_BYTES = TraceBuf.size;
const CYCLE_WORDS = 2;
/** Words of a LOST_RECORDS record: header, TSC, count, domain and vCPU, TSC of the first. */
const LOST_WORDS = 1 + CYCLE_WORDS + 4;
/** Where the parts of a record stand in `#scratch`: such that the TSC is aligned. */
const SCRATCH = { head: 1, tsc: 2, data: 4, words: 12 } as const;
const U32 = 0xffff_ffffn;
const HEADER = HeaderLayout.offsets;
const PCPU = PcpuLayout.offsets;

export interface TracerOptions {
  /** Undefined: the control plane. */
  readonly pcpu: number | undefined;
}

export interface TracerModules {
  readonly memory: MachineMemory;
  readonly map: MemoryMap;
  readonly counters: Counters;
  readTsc(): bigint;
}

/** The hypercalls that tell arguments in their record: which. As Xen's. */
const TOLD_ARGUMENTS: Readonly<Record<number, readonly number[]>> = {
  [Hypercall.mmu_update]: [1],
  [Hypercall.multicall]: [1],
  [Hypercall.grant_table_op]: [0, 2],
  [Hypercall.vcpu_op]: [0, 1],
  [Hypercall.mmuext_op]: [1],
  [Hypercall.sched_op]: [0],
};

export class Tracer {
  readonly #m: TracerModules;
  readonly #words: Int32Array;
  readonly #u32: Uint32Array;
  readonly #switch: number;
  readonly #pcpu: number;
  readonly #pcpuRecord: number;
  readonly #eventMask: number;
  readonly #cpuMask: number;
  readonly #scratch = new Uint32Array(SCRATCH.words);
  readonly #scratch64 = new BigUint64Array(this.#scratch.buffer);
  /** Frames of the buffer, as t_info tells them; fixed once there are any. */
  #frames: readonly number[] = [];
  #dataBytes = 0;
  #filling = false;
  /** This pCPU's last record of a run state said that it idles. */
  #idle = false;

  constructor(options: TracerOptions, modules: TracerModules) {
    const { memory, map } = modules;
    this.#m = modules;
    this.#words = memory.i32;
    this.#u32 = memory.u32;
    this.#switch = (map.header * PAGE_SIZE + HEADER.observing) >>> 2;
    this.#pcpu = options.pcpu ?? 0;
    this.#eventMask = (map.header * PAGE_SIZE + HEADER.traceEventMask) >>> 2;
    this.#cpuMask = ((map.header * PAGE_SIZE + HEADER.traceCpuMask) >>> 2) + (this.#pcpu >>> 5);
    this.#pcpuRecord = (map.pcpus * PAGE_SIZE + this.#pcpu * PCPU_RECORD_SIZE) >>> 2;
  }

  /** Whether records are wanted at all. */
  get on(): boolean {
    return (this.#words[this.#switch]! & Observing.trace) !== 0;
  }

  /** Whether samples are wanted too. */
  get profiling(): boolean {
    return this.#words[this.#switch] === (Observing.trace | Observing.profile);
  }

  /** True once after the buffer became half full: Domain-0 is to be told (VIRQ_TBUF). */
  takeFilling(): boolean {
    const filling = this.#filling;
    this.#filling = false;
    return filling;
  }

  /** A record with time and up to six words of data, when its event is wanted. */
  record(event: number, nrWords: number, a = 0, b = 0, c = 0, d = 0, e = 0, f = 0): void {
    if (!this.#wanted(event)) return;
    const scratch = this.#scratch;
    scratch[SCRATCH.data] = a;
    scratch[SCRATCH.data + 1] = b;
    scratch[SCRATCH.data + 2] = c;
    scratch[SCRATCH.data + 3] = d;
    scratch[SCRATCH.data + 4] = e;
    scratch[SCRATCH.data + 5] = f;
    this.#write(event, nrWords);
  }

  /** A vCPU's run state; a pCPU's idling is told as Xen's, by the vCPU of DOMID.IDLE that has the pCPU's number. */
  runstate(domid: number, vcpuId: number, from: number, to: number): void {
    if (this.#idle && to === RUNNING) {
      this.#idle = false;
      this.#runstate(DOMID.IDLE, this.#pcpu, RUNNING, RUNNABLE);
    }
    this.#runstate(domid, vcpuId, from, to);
  }

  /** This pCPU has nothing to run. */
  idle(): void {
    if (this.#idle) return;
    this.#idle = true;
    this.#runstate(DOMID.IDLE, this.#pcpu, RUNNABLE, RUNNING);
  }

  /** The scheduler chose again what runs. */
  continueRunning(domid: number, vcpuId: number): void {
    this.record(TraceEvent.SCHED_CONTINUE_RUNNING, 1, vcpuOf(domid, vcpuId));
  }

  /** An event whose data are domain and vCPU, a word each. */
  ofVcpu(event: number, domid: number, vcpuId: number): void {
    this.record(event, 2, domid, vcpuId);
  }

  #runstate(domid: number, vcpuId: number, from: number, to: number): void {
    this.record(TraceEvent.SCHED_RUNSTATE_CHANGE | (from << 8) | (to << 4), 1, vcpuOf(domid, vcpuId));
  }

  /** PV_HYPERCALL_V2 or, for one in a multicall, PV_HYPERCALL_SUBCALL. */
  hypercall(event: number, op: number, args: readonly bigint[]): void {
    const told = TOLD_ARGUMENTS[op] ?? NONE;
    let first = op;
    for (const i of told) first |= hypercallArg32(i);
    const [i = -1, j = -1] = told;
    const a = i < 0 ? 0 : Number((args[i] ?? 0n) & U32);
    const b = j < 0 ? 0 : Number((args[j] ?? 0n) & U32);
    this.record(event, 1 + told.length, first, a, b);
  }

  /** PV_TRAP: an exception given to a 64-bit guest. */
  trap(rip: bigint, vector: number, errorCode: number | undefined): void {
    const word = (vector | (errorCode === undefined ? 0 : 0x8000) | ((errorCode ?? 0) << 16)) >>> 0;
    this.record(TraceEvent.PV_TRAP | TRC_64_FLAG, 3, low(rip), high(rip), word);
  }

  /** PV_PAGE_FAULT: a page fault given to a 64-bit guest. */
  pageFault(rip: bigint, address: bigint, errorCode: number): void {
    this.record(
      TraceEvent.PV_PAGE_FAULT | TRC_64_FLAG, 5, low(rip), high(rip), low(address), high(address), errorCode,
    ); // prettier-ignore
  }

  /** PV_PTWR_EMULATION: a store to a page table. */
  ptwr(entry: bigint, address: bigint, rip: bigint): void {
    this.record(
      TraceEvent.PV_PTWR_EMULATION | TRC_64_FLAG, 6,
      low(entry), high(entry), low(address), high(address), low(rip), high(rip),
    ); // prettier-ignore
  }

  /** An event with one 64-bit address. */
  address(event: number, address: bigint): void {
    this.record(event | TRC_64_FLAG, 2, low(address), high(address));
  }

  #wanted(event: number): boolean {
    if (!this.on) return false;
    const mask = this.#words[this.#eventMask]!;
    if (((mask >>> TRC_CLS_SHIFT) & (event >>> TRC_CLS_SHIFT)) === 0) return false;
    if (((mask >>> TRC_SUBCLS_SHIFT) & (event >>> TRC_SUBCLS_SHIFT) & 0xf) === 0) return false;
    return ((this.#words[this.#cpuMask]! >>> (this.#pcpu & 31)) & 1) === 1;
  }

  #write(event: number, nrData: number): void {
    if (this.#frames.length === 0 && !this.#findBuffer()) return;
    const lock = this.#pcpuRecord + (PCPU.traceLock >>> 2);
    while (Atomics.compareExchange(this.#words, lock, 0, 1) !== 0);
    try {
      this.#append(event, nrData);
    } finally {
      Atomics.store(this.#words, lock, 0);
    }
  }

  /** The record, behind one of lost ones when there are any; or one more is lost. */
  #append(event: number, nrData: number): void {
    const { counters } = this.#m;
    const size = this.#dataBytes;
    const head = this.#frames[0]! * (PAGE_SIZE / 4);
    const cons = this.#u32[head + CONS]!;
    let prod = this.#u32[head + PROD]!;
    if (((cons | prod) & 3) !== 0 || cons >= 2 * size || prod >= 2 * size) {
      // A tool wrote nonsense: tracing ends.
      Atomics.and(this.#words, this.#switch, ~Observing.trace);
      return;
    }
    const used = prod >= cons ? prod - cons : prod + 2 * size - cons;
    const lostAt = this.#pcpuRecord + (PCPU.traceLost >>> 2);
    const lost = this.#u32[lostAt]!;
    const nrWords = 1 + CYCLE_WORDS + nrData;
    let toWrap = size - (prod >= size ? prod - size : prod);
    let total = 0;
    if (lost > 0) {
      if (LOST_WORDS * 4 > toWrap) {
        total += toWrap;
        toWrap = size;
      }
      total += LOST_WORDS * 4;
      toWrap = toWrap - LOST_WORDS * 4 || size;
    }
    if (nrWords * 4 > toWrap) total += toWrap;
    total += nrWords * 4;
    const tsc = this.#m.readTsc();
    if (total > size - used) {
      if (lost === 0) this.#m.memory.u64[(this.#pcpuRecord + (PCPU.traceLostTsc >>> 2)) >>> 1] = tsc;
      this.#u32[lostAt] = lost + 1;
      counters.count(COUNTER.traceLost);
      return;
    }
    if (lost > 0) {
      prod = this.#writeLost(prod, lost, tsc);
      this.#u32[lostAt] = 0;
    }
    const scratch = this.#scratch;
    scratch[SCRATCH.head] = event | TRC_HD_CYCLE_FLAG | (nrData << TRACE_EXTRA_SHIFT);
    this.#scratch64[SCRATCH.tsc / 2] = tsc;
    prod = this.#put(prod, scratch, SCRATCH.head, nrWords);
    // What a consumer sees of the index must come after what it tells of.
    Atomics.store(this.#words, head + PROD, prod);
    counters.count(COUNTER.traceRecords);
    const half = size >>> 1;
    if (used < half && used + total >= half) this.#filling = true;
  }

  #writeLost(prod: number, lost: number, tsc: bigint): number {
    const first = this.#m.memory.u64[(this.#pcpuRecord + (PCPU.traceLostTsc >>> 2)) >>> 1]!;
    const words = [
      (TraceEvent.LOST_RECORDS | TRC_HD_CYCLE_FLAG | (4 << TRACE_EXTRA_SHIFT)) >>> 0,
      Number(tsc & U32), Number(tsc >> 32n), lost, (this.#pcpu << 16) | DOMID.IDLE, Number(first & U32), Number(first >> 32n),
    ]; // prettier-ignore
    return this.#put(prod, words, 0, LOST_WORDS);
  }

  /** Lays words into the buffer, behind a filler to its end when they would not fit; the new producer index. */
  #put(prod: number, words: ArrayLike<number>, first: number, nrWords: number): number {
    const size = this.#dataBytes;
    let at = prod >= size ? prod - size : prod;
    let next = prod;
    if (size - at < nrWords * 4) {
      this.#fill(at, (size - at) >>> 2);
      next += size - at;
      at = 0;
    }
    for (let i = 0; i < nrWords; i++) this.#poke(at + i * 4, words[first + i]!);
    next += nrWords * 4;
    return next >= 2 * size ? next - 2 * size : next;
  }

  /** A WRAP_BUFFER record of so many words; their contents mean nothing. */
  #fill(at: number, nrWords: number): void {
    const cycles = nrWords - 1 > 7;
    const extra = nrWords - 1 - (cycles ? CYCLE_WORDS : 0);
    const head = TraceEvent.WRAP_BUFFER | (extra << TRACE_EXTRA_SHIFT) | (cycles ? TRC_HD_CYCLE_FLAG : 0);
    this.#poke(at, head >>> 0);
    for (let i = 1; i < nrWords; i++) this.#poke(at + i * 4, 0);
  }

  #poke(offset: number, word: number): void {
    const at = HEAD_BYTES + offset;
    this.#u32[this.#frames[at >>> 12]! * (PAGE_SIZE / 4) + ((at & (PAGE_SIZE - 1)) >>> 2)] = word;
  }

  #findBuffer(): boolean {
    const { memory, map } = this.#m;
    const header = HeaderLayout.view(memory, map.header * PAGE_SIZE);
    const info = header.traceInfoMfn * PAGE_SIZE;
    const nr = header.traceBufferFrames;
    if (info === 0 || nr === 0) return false;
    const list = memory.dv.getUint16(info + 2 + 2 * this.#pcpu, true);
    const frames = Array.from({ length: nr }, (_, i) => memory.dv.getUint32(info + (list + i) * 4, true));
    this.#dataBytes = nr * PAGE_SIZE - HEAD_BYTES;
    this.#frames = frames;
    return true;
  }
}

const NONE: readonly number[] = [];
/** RUNSTATE_*. */
const RUNNING = 0;
const RUNNABLE = 1;

/** How records name a vCPU. */
export const vcpuOf = (domid: number, vcpuId: number): number => ((domid << 16) | vcpuId) >>> 0;
const low = (value: bigint): number => Number(value & U32);
const high = (value: bigint): number => Number(BigInt.asUintN(64, value) >> 32n);
