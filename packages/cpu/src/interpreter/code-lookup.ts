/** Slow paths of instruction fetch: from RIP to a record, decoding what is not decoded, and single instructions. */
import { OFFSET } from '../engine/state.ts';
import { ACCESS_FETCH, ACCESS_USER, PF } from '../mmu/walk.ts';
import { VECTOR } from '../semantics/helper.ts';
import type { CodePage } from './code-cache.ts';
import { NO_FAULT } from './core.ts';
import type { EngineCore } from './core.ts';
import type { DataAccess } from './data-access.ts';
import { SPECIAL } from './handlers.ts';
import { RECORD } from './memory-map.ts';

const MAX_INSTRUCTION = 15;

export class CodeLookup {
  private readonly core: EngineCore;
  private readonly data: DataAccess;
  /** Linear address of RIP in halves. */
  private low = 0;
  private high = 0;

  constructor(core: EngineCore, data: DataAccess) {
    this.core = core;
    this.data = data;
  }

  /** Machine address of code at a linear address; -1 with the fault set. */
  private hostFor(low: number, high: number): number {
    const { core } = this;
    const { mmu, words } = core;
    const top = high >> 15;
    const beyond =
      core.codeSize === 64
        ? top !== 0 && top !== -1
        : (words[OFFSET.rip / 4] ?? 0) >>> 0 > (words[OFFSET.csLimit / 4] ?? 0) >>> 0;
    if (beyond) {
      core.setFault(VECTOR.generalProtection, 0);
      return -1;
    }
    const user = words[OFFSET.cpl / 4] === 3;
    if (!mmu.walk(low, high, ACCESS_FETCH | (user ? ACCESS_USER : 0), false)) {
      core.setFault(VECTOR.pageFault, mmu.errorCode, low, high);
      return -1;
    }
    const { frame } = mmu.last;
    if (frame >= core.nrFrames) {
      core.setFault(VECTOR.pageFault, PF.present | PF.reserved | (user ? PF.user : 0), low, high);
      return -1;
    }
    return frame * 4096 + (low & 4095);
  }

  private takeRip(): void {
    const { words, codeSize } = this.core;
    this.low = words[OFFSET.rip / 4] ?? 0;
    this.high = words[OFFSET.rip / 4 + 1] ?? 0;
    if (codeSize !== 64) {
      this.low = (this.low + (words[OFFSET.codeBase / 4] ?? 0)) | 0;
      this.high = 0;
    }
  }
  /** Machine address of the first byte of the page after RIP's, and that page's linear address. */
  private nextPage(): { host: number; low: number; high: number } {
    const low = ((this.low & ~4095) + 4096) | 0;
    const high = low === 0 && this.core.codeSize === 64 ? (this.high + 1) | 0 : this.high;
    return { host: this.hostFor(low, high), low, high };
  }

  /** Slow path of jumps: the record at the state's RIP, or 0 with a fault set. */
  resolve(): number {
    const { words, cache, tlb, mmu, codeSize } = this.core;
    this.takeRip();
    const { low, high } = this;
    const host = this.hostFor(low, high);
    const retry = words[OFFSET.nextRecord / 4] ?? 0;
    words[OFFSET.nextRecord / 4] = 0;
    if (host < 0) return 0;
    if (cache.isFull) {
      cache.clear();
      tlb.flushCode();
    }
    const offset = host & 4095;
    const frame = Math.floor(host / 4096);
    // To announce code may serve a flush that another CPU asked for: the translation must be from after it.
    if (this.announce(frame) && this.hostFor(low, high) !== host) return this.resolve();
    const page = cache.page(frame, codeSize);
    if (retry !== 0) {
      if (cache.recordAt(page, offset) === retry && this.stillCrosses(retry)) return retry;
      cache.forget(page, offset);
    }
    tlb.enterCode(low, high, page.map, mmu.last);
    const known = cache.recordAt(page, offset);
    if (known !== 0) return known;
    this.data.decoded(frame);
    return cache.decodeRun(page, offset) ?? this.resolveCrossing(page, offset);
  }
  /** Tells the host of the first code in a frame; true when it was the first. */
  private announce(frame: number): boolean {
    const { cache, host, tlb, codeSize } = this.core;
    if (cache.holds(frame)) return false;
    host.codeFrameAdded(frame);
    tlb.dropWrites(frame);
    cache.page(frame, codeSize);
    return true;
  }
  /** The instruction of a crossing record runs into the page that it was decoded with: only the code TLB had forgotten. */
  private stillCrosses(record: number): boolean {
    const { cache, view, tlb, mmu, state, codeSize } = this.core;
    const { host, low, high } = this.nextPage();
    if (host < 0) {
      state.faultVector = NO_FAULT;
      return false;
    }
    const next = cache.known(Math.floor(host / 4096), codeSize);
    if (next?.map !== view.getUint32(record + RECORD.link, true)) return false;
    tlb.enterCode(low, high, next.map, mmu.last);
    return true;
  }
  private resolveCrossing(page: CodePage, offset: number): number {
    const { cache, tlb, mmu, machine, codeSize } = this.core;
    const { host, low, high } = this.nextPage();
    if (host < 0) return 0;
    const frame = Math.floor(host / 4096);
    if (this.announce(frame)) return this.resolve();
    this.data.decoded(frame);
    const next = cache.page(frame, codeSize);
    tlb.enterCode(low, high, next.map, mmu.last);
    const inPage = 4096 - offset;
    const bytes = new Uint8Array(inPage + MAX_INSTRUCTION);
    const from = page.frame * 4096 + offset;
    bytes.set(machine.subarray(from, from + inPage));
    bytes.set(machine.subarray(host, host + MAX_INSTRUCTION), inPage);
    return cache.decodeCrossing(page, offset, bytes.subarray(0, MAX_INSTRUCTION + 1), next);
  }

  /** Fetches and decodes the instruction at RIP into the scratch records; 0 with a fault set. */
  fetchStep(): number {
    const { core } = this;
    const { state, machine, cache, codeSize, view } = core;
    const bytes = new Uint8Array(MAX_INSTRUCTION);
    this.takeRip();
    const first = this.hostFor(this.low, this.high);
    if (first < 0) return 0;
    const offset = this.low & 4095;
    const inPage = Math.min(MAX_INSTRUCTION, 4096 - offset);
    bytes.set(machine.subarray(first, first + inPage));
    state.ripBase = BigInt.asUintN(64, state.rip - BigInt(offset));
    const record = cache.decodeStep(bytes.subarray(0, inPage), offset, codeSize);
    // Only a truncated instruction needs the second page.
    if (inPage === MAX_INSTRUCTION || view.getUint16(record, true) !== SPECIAL.fault) return record;
    const { host } = this.nextPage();
    if (host < 0) return 0;
    bytes.set(machine.subarray(host, host + MAX_INSTRUCTION - inPage), inPage);
    return cache.decodeStep(bytes, offset, codeSize);
  }
}
