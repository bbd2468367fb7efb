/** `mmu_update`, `mmuext_op`, `update_va_mapping` (`xen/include/public/xen.h`). */
import { layout } from '@xenhost/base';

/** Low two bits of `mmu_update.ptr`. */
export const MmuCommand = { normal: 0, machphys: 1, preserveAd: 2, noTranslate: 3 } as const;
export const MmuUpdate = layout('mmu_update', { ptr: 'u64', val: 'u64' });

export const MmuExt = {
  PIN_L1_TABLE: 0, PIN_L2_TABLE: 1, PIN_L3_TABLE: 2, PIN_L4_TABLE: 3, UNPIN_TABLE: 4, NEW_BASEPTR: 5,
  TLB_FLUSH_LOCAL: 6, INVLPG_LOCAL: 7, TLB_FLUSH_MULTI: 8, INVLPG_MULTI: 9, TLB_FLUSH_ALL: 10, INVLPG_ALL: 11,
  FLUSH_CACHE: 12, SET_LDT: 13, NEW_USER_BASEPTR: 15, CLEAR_PAGE: 16, COPY_PAGE: 17, FLUSH_CACHE_GLOBAL: 18,
  MARK_SUPER: 19, UNMARK_SUPER: 20,
} as const; // prettier-ignore
/** `arg1`: mfn or linear address. `arg2`: nr_ents (low 32 bits), vCPU bitmap pointer or source mfn. */
export const MmuExtOp = layout('mmuext_op', { cmd: 'u32', arg1: 'u64', arg2: 'u64' });

/** Set in `count` of a continued mmu_update or mmuext_op. */
export const MMU_UPDATE_PREEMPTED = 0x8000_0000;

/** Flags of update_va_mapping. */
export const UVMF = { NONE: 0, TLB_FLUSH: 1, INVLPG: 2, FLUSHTYPE_MASK: 3, LOCAL: 0, ALL: 4 } as const;
