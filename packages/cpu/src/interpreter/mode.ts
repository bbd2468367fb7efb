/** What is derived from control registers, segments and privilege for the generated code, and when to flush for it. */
import { ATTR, OFFSET, SEG } from '../engine/state.ts';
import type { CodeSize } from '../isa/instruction.ts';
import { is64Bit, isFlat, isVirtual8086, stackMaskOf } from '../semantics/helpers/addressing.ts';
import { EFLAGS, NO_FAULT } from './core.ts';
import type { EngineCore } from './core.ts';
import { CODE_VIEW_BYTES, VIEW, VIEW_BYTES } from './memory-map.ts';

/** Bits of CR0 and CR4 in their low halves. */
const BIT = { em: 4, ts: 8, am: 1 << 18, paging: (1 << 31) | (1 << 16), osfxsr: 1 << 9, smap: 1 << 21 } as const;

export class DerivedMode {
  private readonly core: EngineCore;
  /** CR3, CR0's paging bits, CR4 and EFER as the TLB was filled under; CR4 has no -1. */
  private readonly control = new Int32Array(5).fill(-1);
  /** Segmentation is derived for 64-bit mode, where it depends on nothing. */
  private isLong = false;

  constructor(core: EngineCore) {
    this.core = core;
  }

  /** The state is another vCPU's: nothing of before counts. */
  forget(): void {
    this.control.fill(-1);
    this.isLong = false;
  }

  update(): void {
    const { core } = this;
    const { state, words } = core;
    core.modeStale = false;
    state.faultVector = NO_FAULT;
    state.zero = 0n;
    const cr0 = words[OFFSET.cr0 / 4] ?? 0;
    const cr4 = words[OFFSET.cr4 / 4] ?? 0;
    if (this.translationChanged()) {
      core.mmu.configure(state);
      core.tlb.flush();
    } else if (core.mmu.paging === 'pae') core.mmu.configure(state);
    const long = is64Bit(state);
    if (!long || !this.isLong || core.codeSize !== 64) this.deriveSegmentation(long);
    state.simdBlock = cr0 & BIT.em || !(cr4 & BIT.osfxsr) ? 1 : cr0 & BIT.ts ? 2 : 0;
    state.fpuBlock = cr0 & (BIT.em | BIT.ts) ? 2 : 0;
    const user = state.cpl === 3;
    const ac = (state.eflags & EFLAGS.ac) !== 0;
    const checked = (user && ac && (cr0 & BIT.am) !== 0) || core.breakpointsOn();
    const smapOpen = ac && (cr4 & BIT.smap) !== 0;
    const view = checked ? VIEW.checked : user ? VIEW.user : smapOpen ? VIEW.supervisorAc : VIEW.supervisor;
    state.tlbView = view * VIEW_BYTES;
    state.codeView = user ? 0 : CODE_VIEW_BYTES;
    state.attention = 1;
  }

  /** What the TLB depends on is not as it was; remembers it. */
  private translationChanged(): boolean {
    const { control } = this;
    const { words } = this.core;
    const now = [words[OFFSET.cr3 / 4], words[OFFSET.cr3 / 4 + 1], (words[OFFSET.cr0 / 4] ?? 0) & BIT.paging, words[OFFSET.cr4 / 4], words[OFFSET.efer / 4]]; // prettier-ignore
    let changed = false;
    for (let n = 0; n < now.length; n++) {
      changed ||= control[n] !== now[n];
      control[n] = now[n] ?? 0;
    }
    return changed;
  }
  /** Code size, bases, masks and checks of the mode. */
  private deriveSegmentation(long: boolean): void {
    const { core } = this;
    const { state } = core;
    this.isLong = long;
    const codeSize: CodeSize = long ? 64 : state.csAttributes & ATTR.big && !isVirtual8086(state) ? 32 : 16;
    if (codeSize !== core.codeSize) {
      core.codeSize = codeSize;
      core.tlb.flushCode();
    }
    state.codeBase = long ? 0n : state.csBase;
    state.ripMask = long ? (1n << 64n) - 1n : codeSize === 32 ? 0xffff_ffffn : 0xffffn;
    state.stackMask = stackMaskOf(state);
    let check = 0;
    if (!long) for (const n of [SEG.es, SEG.cs, SEG.ss, SEG.ds, SEG.fs, SEG.gs]) if (!isFlat(state, n)) check |= 1 << n;
    state.segmentCheck = check;
  }
}
