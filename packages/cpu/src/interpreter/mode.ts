/** What is derived from control registers, segments and privilege for the generated code, the TLB views included. */
import { ATTR, OFFSET, SEG } from '../engine/state.ts';
import type { CodeSize } from '../isa/instruction.ts';
import { is64Bit, isFlat, isVirtual8086, stackMaskOf } from '../semantics/helpers/addressing.ts';
import { EFLAGS, NO_FAULT, ROOT_SHIFT } from './core.ts';
import type { EngineCore } from './core.ts';

/** Bits of CR0 and CR4 in their low halves. */
const BIT = { em: 4, ts: 8, am: 1 << 18, osfxsr: 1 << 9, osxsave: 1 << 18, smap: 1 << 21 } as const;
/** Whose rights a data view's entries were checked with. */
const RIGHTS = { user: 0, supervisor: 1, supervisorAc: 2 } as const;
const RIGHTS_BITS = 2;
/** A root beyond machine memory: nothing translates there. */
const NO_ROOT = -2;

/** SSE and AVX state: both must be enabled for AVX instructions. */
const XCR0_AVX = 6;

/** Key of the views under the 4-level table in a frame. */
export const rootKey = (frame: number): number => frame << (12 - ROOT_SHIFT);

export class DerivedMode {
  private readonly core: EngineCore;
  private readonly monitor: boolean;
  /** CR3, CR0, CR4 and EFER as the walker was configured with; CR4 has no -1. */
  private readonly control = new Int32Array(5).fill(-1);
  /** Segmentation is derived for 64-bit mode, where it depends on nothing. */
  private isLong = false;
  // Keys of the views in use but for the root.
  private kind = 0;
  private codeKind = 0;
  private isChecked = false;

  constructor(core: EngineCore, options: { monitor: boolean }) {
    this.core = core;
    this.monitor = options.monitor;
  }

  /**
   * The state is another vCPU's: nothing derived of before counts. Its translations are those of `owner`, and still good
   * when `keep`.
   */
  loaded(owner: number, keep: boolean): void {
    const { tlb } = this.core;
    this.control.fill(-1);
    this.isLong = false;
    tlb.owner = owner;
    if (!keep) tlb.flushOwner(true);
    this.update();
  }

  update(): void {
    const { core } = this;
    const { state, words } = core;
    core.modeStale = false;
    state.faultVector = NO_FAULT;
    state.zero = 0n;
    const cr0 = words[OFFSET.cr0 / 4] ?? 0;
    const cr4 = words[OFFSET.cr4 / 4] ?? 0;
    this.configureWalker();
    const long = is64Bit(state);
    if (!long || !this.isLong || core.codeSize !== 64) this.deriveSegmentation(long);
    state.simdBlock = cr0 & BIT.em || !(cr4 & BIT.osfxsr) ? 1 : cr0 & BIT.ts ? 2 : 0;
    const hasAvx = cr4 & BIT.osxsave && ((words[OFFSET.xcr0 / 4] ?? 0) & XCR0_AVX) === XCR0_AVX;
    state.avxBlock = !hasAvx ? 1 : cr0 & BIT.ts ? 2 : 0;
    state.fpuBlock = cr0 & (BIT.em | BIT.ts) ? 2 : 0;
    const user = state.cpl === 3;
    const ac = (state.eflags & EFLAGS.ac) !== 0;
    this.isChecked = (user && ac && (cr0 & BIT.am) !== 0) || core.breakpointsOn();
    const smapOpen = ac && (cr4 & BIT.smap) !== 0;
    const paging = this.pagingKind();
    this.kind = (paging << RIGHTS_BITS) | (user ? RIGHTS.user : smapOpen ? RIGHTS.supervisorAc : RIGHTS.supervisor);
    this.codeKind = (((paging << 1) | (user ? 1 : 0)) << 7) | core.codeSize;
    this.selectViews();
    state.attention = 1;
  }

  /** Loads CR3 with the 4-level table in `frame`, all else that is derived being as it was. Flushes nothing. */
  switchRoot(frame: number): void {
    const { words, mmu } = this.core;
    const low = (frame << 12) | 0;
    const high = frame >>> 20;
    words[OFFSET.cr3 / 4] = this.control[0] = low;
    words[OFFSET.cr3 / 4 + 1] = this.control[1] = high;
    mmu.setRoot(frame);
    this.selectViews();
  }

  private selectViews(): void {
    const { tlb, words } = this.core;
    // Guests that load CR3 themselves have one address space: they expect what is global to stay.
    const root = !this.monitor
      ? 0
      : words[OFFSET.cr3 / 4 + 1] !== 0
        ? NO_ROOT
        : (words[OFFSET.cr3 / 4] ?? 0) >>> ROOT_SHIFT;
    tlb.select(root, this.kind, this.codeKind, this.isChecked);
  }

  /** All of CR0, CR4 and EFER that decides how tables are walked and what they allow. */
  private pagingKind(): number {
    const { words } = this.core;
    const cr0 = words[OFFSET.cr0 / 4] ?? 0;
    const cr4 = words[OFFSET.cr4 / 4] ?? 0;
    const efer = words[OFFSET.efer / 4] ?? 0;
    const control = (cr0 >>> 31) | ((cr0 >>> 15) & 2);
    // PSE and PAE, SMEP and SMAP; LMA and NXE.
    return control | ((cr4 >>> 2) & 0xc) | ((cr4 >>> 16) & 0x30) | ((efer >>> 4) & 0xc0);
  }

  private configureWalker(): void {
    const { control, core } = this;
    const { words } = core;
    const cr3Changed = control[0] !== words[OFFSET.cr3 / 4] || control[1] !== words[OFFSET.cr3 / 4 + 1];
    const isNew = control[2] === -1 && control[4] === -1;
    const same = !cr3Changed && control[2] === words[OFFSET.cr0 / 4] && control[3] === words[OFFSET.cr4 / 4] && control[4] === words[OFFSET.efer / 4]; // prettier-ignore
    if (same) {
      if (core.mmu.paging === 'pae') core.mmu.configure(core.state);
      return;
    }
    control[0] = words[OFFSET.cr3 / 4] ?? 0;
    control[1] = words[OFFSET.cr3 / 4 + 1] ?? 0;
    control[2] = words[OFFSET.cr0 / 4] ?? 0;
    control[3] = words[OFFSET.cr4 / 4] ?? 0;
    control[4] = words[OFFSET.efer / 4] ?? 0;
    core.mmu.configure(core.state);
    if (cr3Changed && !isNew && !this.monitor) core.tlb.flushOwner(false);
  }
  /** Code size, bases, masks and checks of the mode. */
  private deriveSegmentation(long: boolean): void {
    const { core } = this;
    const { state } = core;
    this.isLong = long;
    const codeSize: CodeSize = long ? 64 : state.csAttributes & ATTR.big && !isVirtual8086(state) ? 32 : 16;
    core.codeSize = codeSize;
    state.codeBase = long ? 0n : state.csBase;
    state.ripMask = long ? (1n << 64n) - 1n : codeSize === 32 ? 0xffff_ffffn : 0xffffn;
    state.stackMask = stackMaskOf(state);
    let check = 0;
    if (!long) for (const n of [SEG.es, SEG.cs, SEG.ss, SEG.ds, SEG.fs, SEG.gs]) if (!isFlat(state, n)) check |= 1 << n;
    state.segmentCheck = check;
  }
}
