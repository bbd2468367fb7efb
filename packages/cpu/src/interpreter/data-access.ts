/** Slow paths of data accesses: TLB misses, page crossings, writes to code, alignment checks and data breakpoints. */
import { ExitReason } from '../engine/exit-reason.ts';
import { OFFSET } from '../engine/state.ts';
import { ACCESS_USER, ACCESS_WRITE } from '../mmu/walk.ts';
import { VECTOR } from '../semantics/helper.ts';
import { CR0 } from '../semantics/helpers/addressing.ts';
import { EFLAGS, NO_FAULT } from './core.ts';
import type { EngineCore } from './core.ts';
import { handlerTable } from './generate.ts';
import { SPECIAL } from './handlers.ts';
import { RECORD, SIGNAL } from './memory-map.ts';
import { ACCESS, TRANSLATED } from './translated.ts';

/** Semantics whose memory accesses are stack accesses: #SS rather than #GP for non-canonical addresses. */
const STACK_SEMANTICS = new Set(['push', 'pop', 'call', 'callind', 'ret', 'leave', 'enter', 'pushf', 'popf', 'pushseg', 'popseg']); // prettier-ignore
/** Writes through the slow path to a frame without live code until it is taken for data again. */
const QUIET_WRITES = 4;

export class DataAccess {
  private readonly core: EngineCore;
  private readonly stackHandlers = stackHandlers();
  /** Slow writes since a frame of code holds no live code. */
  private readonly quietFrames = new Map<number, number>();

  constructor(core: EngineCore) {
    this.core = core;
  }

  /** Slow path of generated code: see `TRANSLATED`. */
  translate(info: number, record: number): number {
    const { words, tlb } = this.core;
    const size = info & ACCESS.sizeMask;
    const isWrite = (info & ACCESS.write) !== 0;
    const low = words[OFFSET.slowAddress / 4] ?? 0;
    const high = words[OFFSET.slowAddress / 4 + 1] ?? 0;
    if (tlb.isChecked && !this.checked(low, high, size, isWrite)) return this.failed();
    const offset = low & 4095;
    const first = this.hostFor(low, high, isWrite, false, record);
    if (first < 0) return this.failed();
    if (offset + size <= 4096) {
      if (!isWrite || !this.isCode(first)) {
        words[OFFSET.slowHost / 4] = first | 0;
        return TRANSLATED.direct;
      }
      if (info & ACCESS.update) this.copyToBounce(first, 0, size);
      else this.storeBounce(first, 0, size);
      return TRANSLATED.bounced;
    }
    const inFirst = 4096 - offset;
    const nextLow = (low + inFirst) | 0;
    const nextHigh = nextLow === 0 ? (high + 1) | 0 : high;
    const second = this.hostFor(nextLow, this.core.codeSize === 64 ? nextHigh : 0, isWrite, false, record);
    if (second < 0) return this.failed();
    if (!isWrite || info & ACCESS.update) {
      this.copyToBounce(first, 0, inFirst);
      this.copyToBounce(second, inFirst, size - inFirst);
    } else {
      this.storeBounce(first, 0, inFirst);
      this.storeBounce(second, inFirst, size - inFirst);
    }
    return TRANSLATED.bounced;
  }
  /**
   * Slow path of compiled code: `TRANSLATED.direct` with the machine address in `slowHost`, or anything else where the
   * interpreter must do the access (a fault, a page border, a write to code); nothing was changed then.
   */
  tryTranslate(info: number): number {
    const { core } = this;
    const { words, tlb } = core;
    const low = words[OFFSET.slowAddress / 4] ?? 0;
    const isWrite = (info & ACCESS.write) !== 0;
    if (tlb.isChecked || (low & 4095) + (info & ACCESS.sizeMask) > 4096) return TRANSLATED.fault;
    const host = this.hostFor(low, words[OFFSET.slowAddress / 4 + 1] ?? 0, isWrite, false, 0);
    if (host >= 0 && !(isWrite && this.isCode(host))) {
      words[OFFSET.slowHost / 4] = host | 0;
      return TRANSLATED.direct;
    }
    core.state.faultVector = NO_FAULT;
    core.exitPending = false;
    return TRANSLATED.fault;
  }
  private failed(): number {
    this.core.words[OFFSET.signal / 4] = SIGNAL.fault;
    return TRANSLATED.fault;
  }
  private copyToBounce(host: number, at: number, length: number): void {
    this.core.bytes.set(this.core.machine.subarray(host, host + length), OFFSET.bounce + at);
  }
  /** Stores from the bounce buffer, inside one page, minding code. */
  private storeBounce(host: number, at: number, length: number): void {
    const from = OFFSET.bounce + at;
    this.core.machine.set(this.core.bytes.subarray(from, from + length), host);
    this.wrote(host, length);
  }

  isCode(host: number): boolean {
    const frame = Math.floor(host / 4096);
    return this.core.cache.holds(frame) || this.core.host.isCodeFrame(frame);
  }
  /** After a write of this engine, inside one page, that did not go through a write translation. */
  wrote(host: number, length: number): void {
    const { cache, counters } = this.core;
    const frame = Math.floor(host / 4096);
    const mine = cache.holds(frame);
    const others = this.core.host.isCodeFrame(frame);
    if (!mine && !others) return;
    if (mine && cache.meetsCode(frame, host & 4095, length)) {
      counters.codeInvalidations++;
      cache.invalidate(frame);
      this.quietFrames.set(frame, 0);
    } else if (mine && cache.isQuiet(frame)) {
      const writes = (this.quietFrames.get(frame) ?? 0) + 1;
      this.quietFrames.set(frame, writes);
      if (writes > QUIET_WRITES) this.retire(frame);
    }
    if (others) this.core.host.codeFrameWritten(frame);
  }
  /** Something is decoded from the frame again. */
  decoded(frame: number): void {
    this.quietFrames.delete(frame);
  }
  /** The frame was written by another: forgets its code, or the frame when it had none since the last time. */
  writtenElsewhere(frame: number): void {
    const { cache, counters } = this.core;
    if (!cache.holds(frame)) return;
    if (cache.isQuiet(frame) && this.core.host.codeFrameRemoved) {
      this.retire(frame);
      return;
    }
    cache.invalidate(frame);
    counters.codeInvalidations++;
  }
  /** A frame that was code is data again. */
  private retire(frame: number): void {
    const { cache, tlb, host } = this.core;
    if (!host.codeFrameRemoved) return;
    this.quietFrames.delete(frame);
    cache.remove(frame);
    tlb.flushCode();
    host.codeFrameRemoved(frame);
  }

  private isStackAccess(record: number): boolean {
    const { view, state } = this.core;
    const base = view.getUint16(record + RECORD.base, true);
    if (this.stackHandlers[view.getUint16(record + RECORD.handler, true)]) {
      if (base === OFFSET.zero) return true;
      const distance = BigInt.asIntN(64, state.slowAddress - state.rsp);
      if (distance >= -16n && distance <= 16n) return true;
    }
    return base === OFFSET.rsp || base === OFFSET.rbp;
  }

  /** Machine address of an access inside one page, TLB filled; -1 with the fault (or an mmio exit) set. */
  hostFor(low: number, high: number, isWrite: boolean, system: boolean, record: number): number {
    const { core } = this;
    const { words, mmu, tlb, state } = core;
    // While a helper has changed the mode, the view is that of before: neither used nor filled.
    const direct = system || core.modeStale;
    if (!direct) {
      const known = tlb.lookup(low, high, isWrite);
      if (known >= 0) return known;
    }
    core.counters.tlbMisses++;
    const top = high >> 15;
    if (mmu.paging === 'four-level' && top !== 0 && top !== -1) {
      core.setFault(this.isStackAccess(record) ? VECTOR.stackFault : VECTOR.generalProtection, 0);
      return -1;
    }
    const user = words[OFFSET.cpl / 4] === 3 && !system;
    const access = (isWrite ? ACCESS_WRITE : 0) | (user ? ACCESS_USER : 0);
    if (!mmu.walk(low, high, access, !system && (state.eflags & EFLAGS.ac) !== 0)) {
      core.setFault(VECTOR.pageFault, mmu.errorCode, low, high);
      return -1;
    }
    const { last } = mmu;
    const { frame } = last;
    if (frame >= core.nrFrames) {
      core.leave(ExitReason.mmio, { isWrite }, 0);
      core.exit.address = BigInt(frame) * 4096n + BigInt(low & 4095);
      return -1;
    }
    const host = frame * 4096 + (low & 4095);
    if (!direct) {
      const mayWrite = (isWrite || last.writable) && !this.isCode(host);
      tlb.enter(low, high, last, isWrite, mayWrite);
    }
    return host;
  }

  /** As `hostFor` without faults and exits: -1 for what is not plain memory to the guest (see `Engine.hostAddress`). */
  reach(low: number, high: number, isWrite: boolean): number {
    const { words, mmu, tlb, state, nrFrames } = this.core;
    const known = tlb.lookup(low, high, isWrite);
    if (known >= 0) return known;
    const top = high >> 15;
    if (tlb.isChecked || (top !== 0 && top !== -1)) return -1;
    const access = (isWrite ? ACCESS_WRITE : 0) | (words[OFFSET.cpl / 4] === 3 ? ACCESS_USER : 0);
    if (!mmu.walk(low, high, access, (state.eflags & EFLAGS.ac) !== 0)) return -1;
    const { last } = mmu;
    if (last.frame >= nrFrames) return -1;
    const host = last.frame * 4096 + (low & 4095);
    const isCode = this.isCode(host);
    tlb.enter(low, high, last, isWrite, (isWrite || last.writable) && !isCode);
    return isWrite && isCode ? -1 : host;
  }

  /** Alignment checks and data breakpoints, for the view that is never filled. False with a fault set. */
  private checked(low: number, high: number, size: number, isWrite: boolean): boolean {
    const { core } = this;
    const { state } = core;
    const checksAlignment = state.cpl === 3 && (state.eflags & EFLAGS.ac) !== 0 && (state.cr0 & CR0.am) !== 0n;
    if (checksAlignment && low & (Math.min(size, 8) - 1)) {
      core.setFault(VECTOR.alignmentCheck, 0);
      return false;
    }
    if (!core.breakpointsOn()) return true;
    const address = BigInt.asUintN(64, (BigInt(high) << 32n) | BigInt(low >>> 0));
    for (let i = 0n; i < 4n; i++) {
      if (!((state.dr7 >> (2n * i)) & 3n)) continue;
      const condition = (state.dr7 >> (16n + 4n * i)) & 3n;
      if (!(condition === 3n || (condition === 1n && isWrite))) continue;
      const length = [1n, 2n, 8n, 4n][Number((state.dr7 >> (18n + 4n * i)) & 3n)] ?? 1n;
      const start = state[`dr${Number(i)}` as 'dr0'] & ~(length - 1n);
      if (address < start + length && address + BigInt(size) > start) core.pendingDebug |= 1n << i;
    }
    return true;
  }
}

function stackHandlers(): Uint8Array {
  const { numbers, inlineShapes, outlinedShapes } = handlerTable();
  const flags = new Uint8Array(SPECIAL.first + numbers.size);
  for (const shape of [...inlineShapes, ...outlinedShapes])
    if (STACK_SEMANTICS.has(shape.semantics)) flags[numbers.get(shape.key) ?? 0] = 1;
  return flags;
}
