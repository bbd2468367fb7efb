/**
 * Page walks: 4-level, PAE and two-level, with accessed and dirty bits and exact #PF error codes. Linear addresses
 * come as low and high 32-bit halves and machine addresses are plain numbers (below 2^52): this is the one place where
 * bigints would cost what matters. Intel SDM vol. 3 chapter 4.
 */
import { CR0, CR4, EFER } from '../semantics/helpers/addressing.ts';
import type { CpuState } from '../engine/state.ts';

/** What an access is, as a bit set. The bits are those of a #PF error code. */
export const ACCESS_WRITE = 2;
export const ACCESS_USER = 4;
export const ACCESS_FETCH = 16;

export const PF = { present: 1, write: 2, user: 4, reserved: 8, fetch: 16 } as const;

const PTE = { present: 1, write: 2, user: 4, accessed: 0x20, dirty: 0x40, large: 0x80, global: 0x100 } as const;

type Paging = 'none' | 'two-level' | 'pae' | 'four-level';

/** Outcome of the last successful walk. */
export interface Translation {
  /** Machine frame. */
  frame: number;
  /** The page may be written by this kind of access and its D bit is set. */
  writable: boolean;
  /** User-accessible page. */
  user: boolean;
  global: boolean;
  /** Part of a page of more than 4 KiB. */
  large: boolean;
}

export class Mmu {
  readonly last: Translation = { frame: 0, writable: false, user: false, global: false, large: false };
  /** Error code of the last failed walk. */
  errorCode = 0;
  paging: Paging = 'none';
  private readonly words: Int32Array;
  private readonly nrBytes: number;
  private root = 0;
  private writeProtect = false;
  private noExecute = false;
  private smep = false;
  private smap = false;
  private pageSizeExtension = false;
  private pdptes: readonly number[] = [];
  private fetchBit = 0;

  constructor(buffer: ArrayBufferLike, nrFrames: number) {
    this.words = new Int32Array(buffer);
    this.nrBytes = Math.min(nrFrames * 4096, buffer.byteLength);
  }

  /** Another root of 4-level tables, everything else being as it was configured. */
  setRoot(frame: number): void {
    this.root = frame * 4096;
  }
  /** Whether two 4-level tables translate the upper half of the address space alike: the same tables, with the same rights. */
  sharesUpperHalf(frame: number, other: number): boolean {
    const { words } = this;
    const [a, b] = [frame * 1024, other * 1024];
    if ((Math.max(frame, other) + 1) * 4096 > this.nrBytes) return false;
    for (let i = 512; i < 1024; i += 2) {
      const difference = (words[a + i] ?? 0) ^ (words[b + i] ?? 0);
      if ((difference & ~(PTE.accessed | PTE.dirty)) !== 0 || words[a + i + 1] !== words[b + i + 1]) return false;
    }
    return true;
  }
  /** Takes over what the state's control registers say. */
  configure(state: CpuState): void {
    const { cr0, cr4, efer } = state;
    if (!(cr0 & CR0.pg)) this.paging = 'none';
    else if (efer & EFER.lma) this.paging = 'four-level';
    else this.paging = cr4 & CR4.pae ? 'pae' : 'two-level';
    this.root = Number(state.cr3 & (this.paging === 'two-level' ? 0xffff_f000n : 0xf_ffff_ffff_f000n));
    this.writeProtect = (cr0 & CR0.wp) !== 0n;
    this.noExecute = (efer & EFER.nxe) !== 0n;
    this.smep = (cr4 & CR4.smep) !== 0n;
    this.smap = (cr4 & CR4.smap) !== 0n;
    this.pageSizeExtension = (cr4 & CR4.pse) !== 0n;
    this.fetchBit = this.noExecute || this.smep ? PF.fetch : 0;
    if (this.paging === 'pae') this.pdptes = [0, 1, 2, 3].map((i) => Number(state.pdpte(i)));
  }

  /**
   * Translates; true and `last`, or false and `errorCode`. `access` is a set of ACCESS_ bits; `allowUserData` lets
   * supervisor data accesses reach user pages under SMAP (AC set).
   */
  walk(low: number, high: number, access: number, allowUserData: boolean): boolean {
    switch (this.paging) {
      case 'none':
        return this.found(low >>> 12, true, true, false, false);
      case 'four-level':
        return this.walkLong(low, high, access, allowUserData);
      case 'pae':
        return this.walkPae(low, access, allowUserData);
      case 'two-level':
        return this.walkTwoLevel(low, access, allowUserData);
    }
  }

  private found(frame: number, writable: boolean, user: boolean, global: boolean, large: boolean): true {
    const { last } = this;
    last.frame = frame;
    last.writable = writable;
    last.user = user;
    last.global = global;
    last.large = large;
    return true;
  }
  private fail(access: number, bits: number): false {
    this.errorCode = bits | (access & (PF.write | PF.user)) | (access & ACCESS_FETCH ? this.fetchBit : 0);
    return false;
  }

  private walkLong(low: number, high: number, access: number, allowUserData: boolean): boolean {
    const { words, nrBytes } = this;
    let table = this.root;
    let rights = PTE.write | PTE.user;
    let nx = 0;
    for (let level = 0; ; level++) {
      const index = level === 3 ? low >>> 12 : level === 2 ? low >>> 21 : level === 1 ? (high << 2) | (low >>> 30) : high >>> 7; // prettier-ignore
      const at = table + (index & 511) * 8;
      if (at + 8 > nrBytes) return this.fail(access, 0);
      const word = at >>> 2;
      const entry = words[word] ?? 0;
      const entryHigh = words[word + 1] ?? 0;
      if (!(entry & PTE.present)) return this.fail(access, 0);
      if (entryHigh < 0 && !this.noExecute) return this.fail(access, PF.present | PF.reserved);
      rights &= entry;
      nx |= entryHigh;
      const frame = (entry >>> 12) + (entryHigh & 0xf_ffff) * 0x10_0000;
      if (level === 3) {
        if (!this.permitted(rights, nx < 0, access, allowUserData)) return this.fail(access, PF.present);
        return this.finish(word, entry, access, frame, rights, false);
      }
      if (!(entry & PTE.large)) {
        if (!(entry & PTE.accessed)) this.mark(word, PTE.accessed);
        table = frame * 4096;
        continue;
      }
      // Bit 12 of a large page is its PAT bit; the ones above it up to the page's size are reserved.
      if (level === 0 || frame & (level === 1 ? 0x3_fffe : 0x1fe)) return this.fail(access, PF.present | PF.reserved);
      if (!this.permitted(rights, nx < 0, access, allowUserData)) return this.fail(access, PF.present);
      const inPage = (low >>> 12) & (level === 2 ? 0x1ff : 0x3_ffff);
      return this.finish(word, entry, access, frame - (frame & 1) + inPage, rights, true);
    }
  }

  private walkPae(low: number, access: number, allowUserData: boolean): boolean {
    const pointer = this.pdptes[low >>> 30] ?? 0;
    // Bit 0 of a number that may have more than 32 bits.
    if (pointer % 2 === 0) return this.fail(access, 0);
    let table = Math.floor(pointer / 4096) * 4096;
    let rights = PTE.write | PTE.user;
    let nx = 0;
    for (let level = 2; level < 4; level++) {
      const index = level === 2 ? (low >>> 21) & 511 : (low >>> 12) & 511;
      const at = table + index * 8;
      if (at + 8 > this.nrBytes) return this.fail(access, 0);
      const word = at / 4;
      const entry = this.words[word] ?? 0;
      const entryHigh = this.words[word + 1] ?? 0;
      if (!(entry & PTE.present)) return this.fail(access, 0);
      if (entryHigh < 0 && !this.noExecute) return this.fail(access, PF.present | PF.reserved);
      if (entryHigh & 0x7ff0_0000) return this.fail(access, PF.present | PF.reserved);
      rights &= entry;
      nx |= entryHigh;
      const frame = (entry >>> 12) + (entryHigh & 0xf_ffff) * 0x10_0000;
      const large = level === 2 && (entry & PTE.large) !== 0;
      if (large && frame & 0x1fe) return this.fail(access, PF.present | PF.reserved);
      if (level === 2 && !large) {
        if (!(entry & PTE.accessed)) this.mark(word, PTE.accessed);
        table = frame * 4096;
        continue;
      }
      if (!this.permitted(rights, nx < 0, access, allowUserData)) return this.fail(access, PF.present);
      const page = large ? frame - (frame & 1) + ((low >>> 12) & 0x1ff) : frame;
      return this.finish(word, entry, access, page, rights, large);
    }
    return this.fail(access, 0);
  }

  private walkTwoLevel(low: number, access: number, allowUserData: boolean): boolean {
    let table = this.root;
    let rights = PTE.write | PTE.user;
    for (let level = 0; level < 2; level++) {
      const at = table + (level === 0 ? low >>> 22 : (low >>> 12) & 1023) * 4;
      if (at + 4 > this.nrBytes) return this.fail(access, 0);
      const word = at / 4;
      const entry = this.words[word] ?? 0;
      if (!(entry & PTE.present)) return this.fail(access, 0);
      rights &= entry;
      const large = level === 0 && (entry & PTE.large) !== 0 && this.pageSizeExtension;
      if (large && entry & 0x20_0000) return this.fail(access, PF.present | PF.reserved);
      if (level === 0 && !large) {
        if (!(entry & PTE.accessed)) this.mark(word, PTE.accessed);
        table = (entry >>> 12) * 4096;
        continue;
      }
      if (!this.permitted(rights, false, access, allowUserData)) return this.fail(access, PF.present);
      // PSE-36: bits 13 to 20 are bits 32 to 39 of the address.
      const base = large ? (entry >>> 22) * 1024 + ((entry >>> 13) & 0xff) * 0x10_0000 + ((low >>> 12) & 1023) : entry >>> 12; // prettier-ignore
      return this.finish(word, entry, access, base, rights, large);
    }
    return this.fail(access, 0);
  }

  private permitted(rights: number, nx: boolean, access: number, allowUserData: boolean): boolean {
    const userPage = (rights & PTE.user) !== 0;
    if (access & ACCESS_USER) {
      if (!userPage) return false;
      if (access & ACCESS_WRITE && !(rights & PTE.write)) return false;
    } else {
      if (userPage && access & ACCESS_FETCH && this.smep) return false;
      if (userPage && !(access & ACCESS_FETCH) && this.smap && !allowUserData) return false;
      if (access & ACCESS_WRITE && this.writeProtect && !(rights & PTE.write)) return false;
    }
    return !(nx && access & ACCESS_FETCH);
  }

  /** Sets A and D, records the outcome. */
  private finish(word: number, entry: number, access: number, frame: number, rights: number, large: boolean): boolean {
    const want = PTE.accessed | (access & ACCESS_WRITE ? PTE.dirty : 0);
    if ((entry & want) !== want) this.mark(word, want);
    const mayWrite = (rights & PTE.write) !== 0 || (!(access & ACCESS_USER) && !this.writeProtect);
    const dirty = ((entry | want) & PTE.dirty) !== 0;
    return this.found(frame, mayWrite && dirty, (rights & PTE.user) !== 0, (entry & PTE.global) !== 0, large);
  }
  private mark(word: number, bits: number): void {
    Atomics.or(this.words, word, bits);
  }
}

/** Low and high halves of a linear address. */
export const lowHalf = (address: bigint): number => Number(address & 0xffff_ffffn) | 0;
export const highHalf = (address: bigint): number => Number((address >> 32n) & 0xffff_ffffn) | 0;
/** Machine address as a number from frame and offset. */
export const machineAddress = (frame: number, low: number): number => frame * 4096 + (low & 4095);
